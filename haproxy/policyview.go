package haproxy

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox"
)

// Format is one word that HAProxy reads as a log-format string: it prints itself such that nothing in it is one.
type Format string

// String returns the word as it stands in the configuration.
func (f Format) String() string { return Word(strings.ReplaceAll(string(f), "%", "%%")).String() }

// line is a line of the operator's, as it stands. It can't end itself.
type line string

func (l line) String() string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, string(l))
}

// maxWords is how many values stand on one line: HAProxy takes 64 words.
const maxWords = 50

// policyView is what the template's definitions for a policy are filled with. Its zero value asks for nothing.
type policyView struct {
	Refused                 bool
	Allow                   [][]Word
	Users                   *usersView // in a section of their own
	AuthList, Realm         Word       // "" asks nobody
	HideAuth                bool       // the tasks do not see the password
	HTTPSRedirect           bool
	HTTPSPort               string // with its colon, "" for the usual one
	RateRequests, RateRetry int
	RatePer, RateKept       millis
	CORS                    bool
	AnyOrigin               bool
	Origins                 [][]Word
	RedirectRoot            Format
	PathMatch               Word // a regular expression of the paths of the routes, whose last group is the rest; "" to leave paths alone
	PathBecomes             Format
	RewriteHost             Format
	RequestHeaders          []headerView
	ResponseHeaders         []headerView
	LogHeaders              Word // a log-format string of name=value, joined by &
	LocationPrefix          Format
	HSTS                    bool
	Pages                   []pageView
	Sticky, StickyKey       Word
	Balance                 Word
	Hashes                  bool // Balance goes by a hash
	Timeout, ConnectTimeout millis
	Retries                 string
	Raw                     []line
	pages                   map[int]bool
}

// stickyKey is what cookies are made with, of the address of the task.
const stickyKey Word = "signalbox"

// usersView is one list of users.
type usersView struct {
	Name  Word
	Users []struct{ Name, Hash Word }
}

type headerView struct {
	Name  Word
	Value Format
}

type pageView struct {
	Status int
	Path   Word
	Type   Word // "" for a whole answer
}

// HasPage reports whether the operator's page answers a status.
func (v *policyView) HasPage(status int) bool { return v.pages[status] }

func newUsersView(name string, users []User) *usersView {
	v := &usersView{Name: Word(name)}
	for _, u := range users {
		v.Users = append(v.Users, struct{ Name, Hash Word }{Word(u.Name), Word(u.Hash)})
	}
	return v
}

// userLists returns the operator's lists, by name.
func (o *Options) userLists() []*usersView {
	var out []*usersView
	for _, name := range slices.Sorted(maps.Keys(o.UserLists)) {
		out = append(out, newUsersView(name, o.UserLists[name]))
	}
	return out
}

func (b *Backend) policyView(o *Options) *policyView {
	v := &policyView{}
	if b.Policy == nil {
		v.prefer(b, o)
		return v
	}
	p := b.Policy
	v.Refused = p.Refused != ""
	v.Allow = chunks(p.Allow, netip.Prefix.String)
	v.HTTPSRedirect = p.HTTPSRedirect
	v.HTTPSPort = o.otherHTTPSPort()
	v.entry(b, p)
	v.requests(p)
	for _, e := range p.ErrorPages {
		v.page(e, o)
	}
	v.tasks(b, p)
	v.prefer(b, o)
	for _, l := range p.Raw {
		v.Raw = append(v.Raw, line(l))
	}
	return v
}

func (v *policyView) entry(b *Backend, p *Policy) {
	if a := p.Auth; a != nil {
		v.AuthList, v.Realm, v.HideAuth = Word(a.List), Word(a.Realm), true
		if a.List == "" {
			// No list of the operator's has such a name: it has a colon.
			v.Users, v.HideAuth = newUsersView(b.Name, []User{{a.User, a.Hash}}), false
			v.AuthList = v.Users.Name
		}
	}
	if r := p.RateLimit; r.Requests > 0 {
		v.RateRequests, v.RatePer, v.RateKept = r.Requests, millis(r.Per), millis(2*r.Per)
		v.RateRetry = int(max((r.Per+time.Second-1)/time.Second, 1))
	}
	v.CORS = len(p.CORS) > 0
	v.AnyOrigin = slices.Contains(p.CORS, "*")
	if !v.AnyOrigin {
		v.Origins = chunks(p.CORS, func(s string) string { return s })
	}
}

func (v *policyView) requests(p *Policy) {
	v.RedirectRoot, v.RewriteHost, v.HSTS = Format(p.RedirectRoot), Format(p.RewriteHost), p.HSTS
	v.LocationPrefix = Format(p.RewriteLocation)
	if len(p.Prefixes)+len(p.Paths) > 0 {
		v.PathMatch, v.PathBecomes = pathRule(p)
	}
	v.LogHeaders = loggedHeaders(p.LogHeaders)
	v.RequestHeaders, v.ResponseHeaders = headerViews(p.RequestHeaders), headerViews(p.ResponseHeaders)
}

// loggedHeaders returns the log-format string of header fields, of which HAProxy logs the first bytes.
func loggedHeaders(names []string) Word {
	parts := make([]string, 0, len(names))
	for _, name := range names[:min(len(names), signalbox.MaxLogHeaders)] {
		parts = append(parts, name+"=%[req.fhdr("+name+"),bytes(0,128),url_enc]")
	}
	return Word(strings.Join(parts, "&"))
}

// pathRule returns the regular expression of the paths that the routes have, and what replaces one. The longest alternative comes
// first, and a prefix ends where a segment does.
func pathRule(p *Policy) (Word, Format) {
	var alternatives []string
	for _, path := range p.Paths {
		alternatives = append(alternatives, regexp.QuoteMeta(path))
	}
	if len(p.Prefixes) > 0 {
		quoted := make([]string, len(p.Prefixes))
		for i, prefix := range p.Prefixes {
			quoted[i] = regexp.QuoteMeta(prefix)
		}
		alternatives = append(alternatives, "("+strings.Join(quoted, "|")+")(/(.*))?")
	}
	base, rest := strings.TrimSuffix(p.RewritePath, "/"), `\3`
	if base == "" {
		base, rest = "/", `\4` // never an empty path
	}
	return Word("^(" + strings.Join(alternatives, "|") + ")$"), Format(base + rest)
}

func headerViews(fields []signalbox.Header) []headerView {
	var out []headerView
	for _, h := range fields {
		out = append(out, headerView{Word(h.Name), Format(h.Value)})
	}
	return out
}

func (v *policyView) page(e signalbox.ErrorPage, o *Options) {
	page := pageView{Status: e.Status, Path: Word(o.MapPath(pageFile(e.Name)))}
	data, ok := o.ErrorPages[e.Name]
	if !ok { // of a Config that other options built
		return
	}
	if !wholeAnswer(data) {
		page.Type = pageType(e.Name)
	}
	if v.pages == nil {
		v.pages = make(map[int]bool)
	}
	v.Pages, v.pages[e.Status] = append(v.Pages, page), true
}

func (v *policyView) tasks(b *Backend, p *Policy) {
	v.Balance, v.Hashes = Word(p.Balance), p.Balance == "source" || p.Balance == "uri"
	v.ConnectTimeout = millis(p.ConnectTimeout)
	if b.Mode == signalbox.TCP || b.special() { // otherwise its map has it
		v.Timeout = millis(p.Timeout)
	}
	if p.Sticky != "" {
		// The same on every machine and in every backend, so that a client keeps its task whichever it comes by.
		v.Sticky, v.StickyKey = Word(p.Sticky), stickyKey
	}
	if p.Retries != nil {
		v.Retries = strconv.Itoa(*p.Retries)
	}
}

// prefer says how tasks nearby come first.
func (v *policyView) prefer(b *Backend, o *Options) {
	switch {
	case o.Prefer != PreferLocal || !b.prefers() || v.Balance != "":
	case b.Policy != nil && b.Policy.MaxConn > 0:
		v.Balance = localBalanceFull
	default:
		v.Balance = localBalance
	}
}

// nearRules returns the servers that are asked whether they are nearby, and until how many requests they come first.
func (b *Backend) nearRules(o *Options) (servers []Word, until int) {
	if o.Prefer != PreferLocal || !b.prefers() || b.sticky() {
		return nil, 0
	}
	until = localInFlight
	if b.Policy != nil && b.Policy.MaxConn > 0 {
		until = min(until, b.Policy.MaxConn)
	}
	for _, s := range b.Slots[:min(len(b.Slots), maxLocalRules)] {
		servers = append(servers, Word(s.Name))
	}
	return servers, until
}

// chunks returns the words of values, as many to a line as it takes.
func chunks[T any](values []T, word func(T) string) [][]Word {
	var out [][]Word
	for part := range slices.Chunk(values, maxWords) {
		words := make([]Word, len(part))
		for i, v := range part {
			words[i] = Word(word(v))
		}
		out = append(out, words)
	}
	return out
}

// pageFiles returns the operator's error pages as files.
func (o *Options) pageFiles() []File {
	var out []File
	for _, name := range slices.Sorted(maps.Keys(o.ErrorPages)) {
		out = append(out, File{pageFile(name), o.ErrorPages[name]})
	}
	return out
}

// validate reports the first of the operator's files that can't be used.
func (o *Options) validateFiles() error {
	for name, users := range o.UserLists {
		if !validName(name) {
			return fmt.Errorf("the list of users %q can't be named in the configuration", name)
		}
		for _, u := range users {
			if !validUser(u) {
				return fmt.Errorf("the list of users %q has a user that HAProxy can't compare with", name)
			}
		}
	}
	for name, data := range o.ErrorPages {
		if !validName(name) {
			return fmt.Errorf("the error page %q can't be named in the configuration", name)
		}
		if err := validPage(data); err != nil {
			return fmt.Errorf("the error page %q: %w", name, err)
		}
	}
	if o.Prefer != PreferNone && o.Prefer != PreferLocal {
		return fmt.Errorf("the preference %q is not known", o.Prefer)
	}
	return nil
}
