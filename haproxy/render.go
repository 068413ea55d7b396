package haproxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"signalbox"
	"signalbox/templates"
)

// maxOutput bounds what a template can write, in bytes.
const maxOutput = 64 << 20

const (
	trailer      = "# sha256 "
	appPrefix    = "# app "
	spareComment = "# for a service to come"
)

// Files are what Render makes of a Config. The configuration names the maps, so they must be there first. The bytes are shared
// with later calls, and must not be changed.
type Files struct {
	Maps   []File
	Config []byte // haproxy.cfg
}

// File is one file in Options.Dir.
type File struct {
	Name string // without a directory
	Data []byte
}

// Word is one word of HAProxy's configuration. It prints itself bare where every character is safe, and in single quotes
// otherwise, within which HAProxy reads everything literally but the next quote: that stands outside, behind a backslash.
type Word string

// String returns the word as it stands in the configuration. A line break, which has no form there and which no valid Config
// holds, becomes an underscore.
func (w Word) String() string {
	if all(string(w), "/._:@*[]-") {
		return string(w)
	}
	return "'" + strings.ReplaceAll(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return '_'
		}
		return r
	}, string(w)), "'", `'\''`) + "'"
}

// millis prints a duration in HAProxy's words; zero is false in a template.
type millis time.Duration

func (m millis) String() string { return strconv.FormatInt(time.Duration(m).Milliseconds(), 10) + "ms" }

// head is what the template's own text is filled with.
type head struct {
	StatsSocket, User, Group     Word
	StatsGID                     int // 0: the socket is its owner's alone
	DefaultServer                []Word
	MaxConn, Threads, MaxReloads int
	NoStrictLimits               bool
	HardStopAfter                millis
	LogServer, LogAlso           Word
	RingFormat                   Word
	LogPulled                    bool
	LogFormat, LogFormatTCP      Word
	CallerHeader                 Word // "": no header says who calls
	LogLine, RingBytes           int
	HostsMap, NamesMap, PathsMap Word
	ChecksMap, TimeoutsMap       Word
	HTTPSMap                     Word
	HTTPSPort                    string // with its colon, "" for the usual one
	TrustedList, ProxyList       Word   // "" without such proxies
	Hops                         []hop
	ExactMap, SplitsMap          Word
	HostRegexesMap               Word
	PathRegexesMap               Word
	MaxRegexPath                 int
	CertList                     Word // "" without TLS
	HTTPBind, HTTPSBind          []Word
	UserLists                    []*usersView
	AppIDBind, HealthBind        []Word
	PortBinds                    []Word // empty: there is no range
	PortsMap, AppsMap, SNIMap    Word
	Passthrough                  bool
	PortsSocket, HTTPSSocket     Word // by which connections are handed over
	Listeners                    []listenerView
}

type listenerView struct {
	Name, Bind, Backend Word
	HTTP, AcceptProxy   bool
	Cert, CertList      Word // "" without TLS, of which one holds
	App                 comment
}

// backendView is what the definition "backend" is filled with.
type backendView struct {
	Name                  Word
	HTTP                  bool
	HTTPCheck             bool
	ChecksMap             Word // by which the path is found that a check asks for
	CheckTimeout          millis
	HasPolicy             bool // lines about requests and answers that the defaults of a service do not hold
	Policy                *policyView
	ServerOptions         []Word // of every server, beside those of head
	Near                  []Word // servers that come first where their weight says so
	NearUntil, NearWeight int
	Servers               []serverView
}

type serverView struct {
	Name, Addr Word
	CheckPort  uint16
	Weight     int
	Pace       []Word // of its checks
	Cookie     Word   // "" for that of its address
	Disabled   bool
}

// comment is text within a comment: it can't end its line.
type comment string

func (c comment) String() string {
	if all(string(c), "/._-") {
		return string(c)
	}
	return strconv.QuoteToASCII(string(c))
}

// Template is a parsed template. It remembers what it rendered last, so that backends which did not change cost a copy. It is
// safe for concurrent use.
type Template struct {
	text *template.Template

	mu   sync.Mutex
	last rendered
}

// rendered is the last output. text[at[i]:at[i+1]] is the block of backends[i]; maps are the files of maps.
type rendered struct {
	options  *Options
	backends []*Backend
	at       []int
	text     []byte
	sums     prefixSums             // of text
	maps     map[string]renderedMap // by name
}

// renderedMap is the text of a map's entries.
type renderedMap struct {
	entries []MapEntry
	text    []byte
}

// DefaultTemplate returns the embedded template.
func DefaultTemplate() *Template {
	t, err := ParseTemplate("haproxy.cfg.tmpl", templates.HAProxy)
	if err != nil {
		panic(err) // the tests execute it
	}
	return t
}

// LoadTemplate reads a template from a file.
func LoadTemplate(path string) (*Template, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	return ParseTemplate(path, string(text))
}

// ParseTemplate parses a template, on top of the built-in parts, and tries it on a small configuration. Its errors name the file,
// the line and the reason.
func ParseTemplate(name, text string) (*Template, error) {
	parsed := template.New(name).Option("missingkey=error")
	for _, part := range templates.HAProxyParts {
		template.Must(parsed.New(part.Name).Parse(part.Text))
	}
	if _, err := parsed.Parse(text); err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	t := &Template{text: parsed}
	tried, err := t.render(sample())
	if err != nil {
		return nil, fmt.Errorf("trying the template: %w%s", err, insteadOf(err))
	}
	if !bytes.Contains(tried, []byte("\nfrontend ")) {
		return nil, fmt.Errorf("trying the template: %s:1: it writes no frontend, so that no request would come in", name)
	}
	return &Template{text: parsed}, nil
}

// goneFields are fields of a backend that earlier templates were filled with, and what is written instead: these things change while
// HAProxy runs, or differ from server to server.
var goneFields = map[string]string{
	"CheckPath":     "where .HTTPCheck holds write {{template \"probe\" .}}, which finds the path in the map .ChecksMap",
	"NoCheck":       "write default-server with .ServerOptions, which have no-check where it belongs",
	"CheckTLS":      "write default-server with .ServerOptions, which say so where it belongs",
	"CheckInterval": "write .Pace at the end of each server's line",
	"CheckFall":     "write .Pace at the end of each server's line",
}

// insteadOf says what to write in the place of a field that there was once; "" if an error is about none.
func insteadOf(err error) string {
	_, after, _ := strings.Cut(err.Error(), "can't evaluate field ")
	field, _, _ := strings.Cut(after, " ")
	if instead, gone := goneFields[field]; gone {
		return fmt.Sprintf("; there is no .%s any more: %s", field, instead)
	}
	return ""
}

// Render returns the files of a Config. The same Config gives the same bytes.
func Render(t *Template, c *Config) (*Files, error) {
	if c.Options == nil {
		return nil, errors.New("rendering: the configuration has no options")
	}
	if err := c.Options.Validate(); err != nil {
		return nil, fmt.Errorf("rendering: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	config, err := t.render(c)
	if err != nil {
		return nil, fmt.Errorf("rendering: %w", err)
	}
	return &Files{Maps: t.maps(c), Config: config}, nil
}

// maps returns the files of the maps, the last ones where nothing changed. The caller holds the lock.
func (t *Template) maps(c *Config) []File {
	was := t.last.maps
	t.last.maps = make(map[string]renderedMap)
	var files []File
	for _, m := range c.Maps() {
		r, ok := was[m.Name]
		if !ok || !sameSlice(r.entries, *m.Entries) {
			r = renderedMap{*m.Entries, mapText(*m.Entries)}
		}
		t.last.maps[m.Name] = r
		files = append(files, File{m.Name, r.text})
	}
	files = append(files, c.Options.pageFiles()...)
	if c.Options.tls() {
		files = append(files, File{certList, certListText(c)})
	}
	if networks := c.Options.TrustedProxies; len(networks) > 0 {
		files = append(files, File{trustedList, listText(networks)})
	}
	if networks := c.Options.ProxyProtocolFrom; len(networks) > 0 {
		files = append(files, File{proxyList, listText(networks)})
	}
	return files
}

// render returns the configuration. The caller holds the lock.
func (t *Template) render(c *Config) ([]byte, error) {
	out := &limited{}
	out.Grow(len(t.last.text) + len(t.last.text)/16)
	view, err := c.headView()
	if err != nil {
		return nil, err
	}
	if err := t.text.Execute(out, view); err != nil {
		return nil, err
	}
	at := make([]int, 0, len(c.Backends)+1)
	last := &t.last
	if !last.options.equal(c.Options) { // blocks say what options do
		last.backends, last.options = nil, c.Options
	}
	j := 0
	from, to := 0, 0 // what is taken over of the last text and not written yet
	for _, b := range c.Backends {
		for j < len(last.backends) && last.backends[j] != b && last.backends[j].Name < b.Name {
			j++
		}
		at = append(at, out.Len()+to-from)
		if j < len(last.backends) && last.backends[j] == b {
			if last.at[j] != to {
				out.Buffer.Write(last.text[from:to])
				from = last.at[j]
			}
			to = last.at[j+1]
			j++
			continue
		}
		out.Buffer.Write(last.text[from:to])
		from, to = 0, 0
		if err := t.block(out, b, c.Options); err != nil {
			return nil, err
		}
	}
	out.Buffer.Write(last.text[from:to])
	at = append(at, out.Len())
	sum := last.sums.of(out.Bytes(), last.text)
	out.WriteString(trailer + hex.EncodeToString(sum[:]) + "\n")
	last.backends, last.at, last.text = c.Backends, at, out.Bytes()
	return out.Bytes(), nil
}

// prefixSums sums up texts that mostly begin alike. marks[i] is the state of sha256 after (i+1)*sumChunk bytes of the last text.
type prefixSums struct{ marks []hash.Cloner }

const sumChunk = 16 << 10

// of returns the sha256 of text. last begins with the text of the call before.
func (p *prefixSums) of(text, last []byte) [sha256.Size]byte {
	same := 0
	for same < len(p.marks) && (same+1)*sumChunk <= len(text) && bytes.Equal(text[same*sumChunk:(same+1)*sumChunk], last[same*sumChunk:(same+1)*sumChunk]) {
		same++
	}
	p.marks = p.marks[:same]
	state, ok := sha256.New().(hash.Cloner)
	if !ok { // a module of FIPS 140 that can't
		return sha256.Sum256(text)
	}
	if same > 0 {
		state = cloned(p.marks[same-1])
	}
	rest := text[same*sumChunk:]
	for len(rest) >= sumChunk {
		state.Write(rest[:sumChunk])
		rest = rest[sumChunk:]
		p.marks = append(p.marks, cloned(state))
	}
	state.Write(rest)
	return [sha256.Size]byte(state.Sum(nil))
}

func cloned(h hash.Cloner) hash.Cloner {
	c, err := h.Clone()
	if err != nil {
		panic(err) // of the standard library all can that have the method
	}
	return c
}

// block writes one backend, under the comment that leads from a line back to its app.
func (t *Template) block(out *limited, b *Backend, o *Options) error {
	head := appPrefix + comment(b.App).String()
	if b.Retired && isSpare(b.Name) {
		head = spareComment
	}
	out.WriteString("\n" + head + "\n")
	return t.text.ExecuteTemplate(out, "backend", b.view(o))
}

func (c *Config) headView() (*head, error) {
	h := c.Options.head()
	h.Passthrough = c.Passthrough
	for _, bind := range c.PortBinds {
		h.PortBinds = append(h.PortBinds, Word(bind))
	}
	for _, l := range c.Listeners {
		bind, err := serviceBind(c.Options, l.Address, strconv.Itoa(l.Port))
		if err != nil {
			return nil, err
		}
		app := ""
		if b := c.Backend(l.Backend); b != nil {
			app = b.App
		}
		v := listenerView{
			Name: Word(l.Name), Bind: Word(bind), Backend: Word(l.Backend), HTTP: l.Mode != signalbox.TCP, AcceptProxy: l.AcceptProxy,
			App: comment(app),
		}
		switch {
		case l.TLS && l.Certificate != "":
			v.Cert = Word(c.Options.MapPath(CertificateFile(l.Certificate)))
		case l.TLS:
			v.CertList = Word(c.Options.MapPath(certList))
		}
		h.Listeners = append(h.Listeners, v)
	}
	return h, nil
}

func (b *Backend) view(o *Options) *backendView {
	v := &backendView{
		Name: Word(b.Name), HTTP: b.Mode != signalbox.TCP, CheckTimeout: millis(b.Check.Timeout),
		HasPolicy: b.special(), ChecksMap: Word(o.MapPath(ChecksMap)), HTTPCheck: b.Check.Kind == signalbox.CheckHTTP, Policy: b.policyView(o),
		ServerOptions: b.serverOptions(), NearWeight: NormalWeight,
		Servers: make([]serverView, len(b.Slots)),
	}
	if !b.checked() {
		v.ServerOptions = append(v.ServerOptions, "no-check")
	}
	v.Near, v.NearUntil = b.nearRules(o)
	for i, s := range b.Slots {
		addr := freeAddress
		if s.Addr.IsValid() {
			addr = s.Addr.String()
		}
		v.Servers[i] = serverView{Name: Word(s.Name), Addr: Word(addr), CheckPort: s.CheckPort, Weight: s.Weight, Pace: b.paceOptions(s.Pace, o), Disabled: s.Admin != Ready}
		if b.sticky() && b.twin(i) {
			v.Servers[i].Cookie = Word(s.Name)
		}
	}
	return v
}

// twin reports whether an earlier server that takes traffic has the address of this one, by which they would have one cookie.
func (b *Backend) twin(i int) bool {
	s := b.Slots[i]
	return s.Admin == Ready && slices.ContainsFunc(b.Slots[:i], func(o Server) bool { return o.Admin == Ready && o.Addr == s.Addr })
}

func mapText(entries []MapEntry) []byte {
	n := 0
	for _, e := range entries {
		n += len(e.Key) + len(e.Value) + 2
	}
	out := make([]byte, 0, n)
	for _, e := range entries {
		out = append(append(append(append(out, e.Key...), ' '), e.Value...), '\n')
	}
	return out
}

// limited is a buffer that refuses what no configuration needs.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("the template writes more than %d bytes", maxOutput)
	}
	return l.Buffer.Write(p)
}

// Verify reports whether a configuration is whole: its last line is the sha256 of all that precedes it.
func Verify(cfg []byte) error {
	body := bytes.TrimSuffix(cfg, []byte("\n"))
	i := bytes.LastIndexByte(body, '\n') + 1
	sum, ok := bytes.CutPrefix(body[i:], []byte(trailer))
	if !ok || len(body) == len(cfg) {
		return errors.New("verifying the configuration: it does not end with its sha256")
	}
	if want := sha256.Sum256(cfg[:i]); string(sum) != hex.EncodeToString(want[:]) {
		return errors.New("verifying the configuration: its sha256 is another one")
	}
	return nil
}

// AppAt returns the app whose block has a line of a configuration, counted from 1, or "" for a line that belongs to none.
func AppAt(cfg []byte, line int) string {
	app := ""
	for n := 1; n <= line && len(cfg) > 0; n++ {
		text, rest, _ := bytes.Cut(cfg, []byte("\n"))
		cfg = rest
		app = appFrom(app, string(text))
	}
	return app
}
