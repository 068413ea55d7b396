package haproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// Policy is what a backend's section says of its service's policy. Every value can be written to the file, and what other sections
// or other rooms read is left out, so that two equal ones never need a reload.
type Policy struct {
	signalbox.Policy
	// Prefixes and Paths are taken off the requests' paths, the longest first: those of the routes, or StripPath.
	Prefixes, Paths []string
	// ServerName is the name that the tasks' certificate has to bear where requests have no Host; "" if nothing is known.
	ServerName string
}

// Equal reports whether two policies, either of which may be nil, say the same.
func (p *Policy) Equal(o *Policy) bool {
	return p == o || p != nil && o != nil && reflect.DeepEqual(p, o)
}

// The bounds of a policy's values.
const (
	maxHeader   = 4096 // bytes of a header's value
	maxHeaders  = 64
	maxRawLines = 64
	maxPeriod   = time.Hour // of a rate
	longest     = 24 * time.Hour
)

// soundPolicy returns what the backend of a service says of its policy, nil where that is nothing. A value that cannot be written is
// left out, with a problem; where it would have kept somebody out, nobody enters.
func soundPolicy(s *signalbox.Service, o *Options) (*Policy, []signalbox.Problem) {
	p := sounder{service: s, options: o, out: Policy{Policy: s.Policy}}
	p.forget()
	if reflect.ValueOf(&p.out.Policy).Elem().IsZero() {
		return nil, nil
	}
	p.entry()
	p.choice()
	p.times()
	if s.Mode == signalbox.TCP {
		p.forgetRequests()
	} else {
		p.paths()
		p.headers()
		p.pages()
	}
	p.raw()
	p.tasks()
	if p.out.Refused != "" { // nothing else matters to whom nobody reaches
		p.out.Policy = signalbox.Policy{Refused: p.out.Refused, ErrorPages: p.out.ErrorPages, LogHeaders: p.out.LogHeaders}
		p.out.Prefixes, p.out.Paths, p.out.ServerName = nil, nil, ""
	}
	if reflect.ValueOf(&p.out).Elem().IsZero() {
		return nil, p.problems
	}
	return &p.out, p.problems
}

// sounder makes one sound policy.
type sounder struct {
	service  *signalbox.Service
	options  *Options
	out      Policy
	problems []signalbox.Problem
}

// forget drops what the backend's section does not hold, and tells empty lists from missing ones no more.
func (p *sounder) forget() {
	out := &p.out.Policy
	out.Priority, out.Weight, out.TaskPort = 0, nil, 0
	out.TLS, out.Passthrough, out.PortTLS, out.BindAddress, out.AcceptProxy = "", false, false, netip.Addr{}, false
	out.RoutePatterns, out.SLO, out.Log, out.Trace, out.Owner, out.Docs = nil, signalbox.SLO{}, "", "", "", ""
	out.Allow, out.CORS, out.Raw, out.LogHeaders = some(out.Allow), some(out.CORS), some(out.Raw), some(out.LogHeaders)
	out.RequestHeaders, out.ResponseHeaders, out.ErrorPages = some(out.RequestHeaders), some(out.ResponseHeaders), some(out.ErrorPages)
}

// forgetRequests drops what only holds for requests.
func (p *sounder) forgetRequests() {
	o := &p.out.Policy
	p.out.Policy = signalbox.Policy{
		Balance: o.Balance, SlowStart: o.SlowStart, MaxConn: o.MaxConn, Timeout: o.Timeout, ConnectTimeout: o.ConnectTimeout, Retries: o.Retries,
		Allow: o.Allow, Refused: o.Refused, RewriteHost: o.RewriteHost, BackendTLS: o.BackendTLS, SendProxy: o.SendProxy, Raw: o.Raw,
	}
}

func some[E any](list []E) []E {
	if len(list) == 0 {
		return nil
	}
	return list
}

// leave notes that a value is left out.
func (p *sounder) leave(code, key, value, message, action string) {
	p.problems = append(p.problems, signalbox.Problem{
		Code: code, Severity: signalbox.SeverityError, App: p.service.App, Label: key, Value: cut(value), Message: message, Action: action,
	})
}

// unwritable notes that a value cannot stand in the configuration.
func (p *sounder) unwritable(key, value string) {
	p.leave("SB223", key, value, "this value can't be written to HAProxy's configuration", "it is left out")
}

// refuse keeps everybody out. The first reason stands.
func (p *sounder) refuse(why string) { p.out.Refused = cmp.Or(p.out.Refused, why) }

// entry judges who may enter.
func (p *sounder) entry() {
	out := &p.out.Policy
	for _, net := range out.Allow {
		if !net.IsValid() || net.Addr().Zone() != "" {
			p.leave("SB223", "allow", net.String(), "this network can't be written to HAProxy's configuration", "nobody may enter")
			p.refuse("a network that may enter cannot be written")
		}
	}
	if a := out.Auth; a != nil {
		p.auth(a)
	}
	if r := out.RateLimit; r != (signalbox.RateLimit{}) && (r.Requests < 1 || r.Requests > 1<<30 || r.Per < time.Millisecond || r.Per > maxPeriod) {
		out.RateLimit = signalbox.RateLimit{}
		p.unwritable("rate-limit", r.String())
	}
}

func (p *sounder) auth(a *signalbox.Auth) {
	keepOut := func(code, message string) {
		p.leave(code, "auth", a.Realm+":"+a.List+a.User, message, "nobody may enter")
		p.refuse(message)
	}
	switch {
	case p.service.Mode == signalbox.TCP:
		keepOut("SB226", "connections without HTTP can't be asked for a name and a password")
	case a.List != "":
		if p.options == nil || p.options.UserLists[a.List] == nil {
			keepOut("SB220", "there is no list of users of this name")
		}
	case !validUser(User{a.User, a.Hash}):
		keepOut("SB221", "the user or the password's hash has a form that HAProxy can't compare with")
	}
	if clean := realm(a.Realm); clean != a.Realm || a.Wide {
		c := *a
		c.Realm, c.Wide = clean, false
		p.out.Auth = &c
	}
}

// realm returns a realm as it can stand between the quotes of a header.
func realm(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, s)
	return cmp.Or(s[:min(len(s), 200)], "restricted")
}

// choice judges how a task is chosen.
func (p *sounder) choice() {
	out := &p.out.Policy
	switch {
	case out.Balance == "":
	case !slices.Contains(signalbox.Balances, out.Balance), out.Balance == "uri" && p.service.Mode == signalbox.TCP:
		p.unwritable("balance", out.Balance)
		out.Balance = ""
	case out.Balance == "static-rr":
		// Its shares are as those of roundrobin, but can't be changed while HAProxy runs.
		out.Balance = "roundrobin"
	}
	if out.Sticky != "" && (len(out.Sticky) > 64 || !all(out.Sticky, "_-.")) {
		p.unwritable("sticky", out.Sticky)
		out.Sticky = ""
	}
	out.MaxConn = max(min(out.MaxConn, 1_000_000), 0)
	if out.Retries != nil {
		n := max(min(*out.Retries, 10), 0)
		out.Retries = &n
	}
}

func (p *sounder) times() {
	out := &p.out.Policy
	out.SlowStart = bound(out.SlowStart, time.Second, time.Hour)
	out.Timeout = bound(out.Timeout, time.Millisecond, longest)
	out.ConnectTimeout = bound(out.ConnectTimeout, time.Millisecond, time.Minute)
}

// paths judges what is done with paths and hosts.
func (p *sounder) paths() {
	out := &p.out.Policy
	if out.RewritePath != "" && !validPath(out.RewritePath) {
		p.unwritable("rewrite-path", out.RewritePath)
		out.RewritePath = ""
	}
	if out.StripPath != "" && (out.StripPath == "/" || !validPath(out.StripPath)) {
		p.unwritable("strip-prefix", out.StripPath)
		out.StripPath = ""
	}
	if out.StripPrefix || out.RewritePath != "" {
		p.routePaths()
	} else if out.StripPath != "" {
		p.out.Prefixes = []string{strings.TrimSuffix(out.StripPath, "/")}
	}
	if h := out.RewriteHost; h != "" && (len(h) > 255 || !all(h, ".-_:[]")) {
		p.unwritable("rewrite-host", h)
		out.RewriteHost = ""
	}
	if l := out.RewriteLocation; l != "" && !validPath(l) {
		p.unwritable("rewrite-location", l)
		out.RewriteLocation = ""
	}
	out.RewriteLocation = strings.TrimSuffix(out.RewriteLocation, "/")
	if r := out.RedirectRoot; r != "" && (!validCheckPath(r) || r == "/" || strings.HasPrefix(r, "//") || strings.HasPrefix(r, "/?")) {
		p.unwritable("redirect-root", r)
		out.RedirectRoot = ""
	}
}

// routePaths collects the paths of the routes, the longest first. They are those of the service, whichever host is asked for: every
// source gives each host of a service each of its paths, so that the longest one that a path has is that of the route that holds.
func (p *sounder) routePaths() {
	for _, r := range p.service.Routes {
		switch {
		case !validPath(r.Path):
		case r.Match == signalbox.Exact:
			p.out.Paths = append(p.out.Paths, r.Path)
		case r.Match == signalbox.Prefix && (r.Path != "/" || p.out.RewritePath != ""):
			p.out.Prefixes = append(p.out.Prefixes, strings.TrimSuffix(r.Path, "/"))
		}
	}
	for _, list := range []*[]string{&p.out.Prefixes, &p.out.Paths} {
		slices.SortFunc(*list, func(x, y string) int { return cmp.Or(cmp.Compare(len(y), len(x)), cmp.Compare(x, y)) })
		*list = slices.Compact(*list)
	}
}

// headers judges what is added to requests and answers.
func (p *sounder) headers() {
	out := &p.out.Policy
	out.RequestHeaders = p.fields("request-header", out.RequestHeaders)
	out.ResponseHeaders = p.fields("response-header", out.ResponseHeaders)
	out.LogHeaders = kept(p, "log-headers", out.LogHeaders, validHeaderName, strings.Clone)
	out.CORS = kept(p, "cors", out.CORS, validOrigin, strings.Clone)
}

// validOrigin reports whether a browser may say that it comes from there, or o is "*".
func validOrigin(o string) bool {
	scheme, host, ok := strings.Cut(o, "://")
	return o == "*" || o == "null" || ok && len(o) <= 300 && all(scheme, "+.-") && all(host, ":.-[]_")
}

func (p *sounder) fields(key string, fields []signalbox.Header) []signalbox.Header {
	if len(fields) > maxHeaders {
		p.leave("SB223", key, fmt.Sprint(len(fields)), fmt.Sprintf("there are more than %d headers", maxHeaders), "the rest is left out")
		fields = fields[:maxHeaders]
	}
	return kept(p, key, fields, validHeader, signalbox.Header.String)
}

// framing are the headers by which both sides find where a message ends and whom it is for: they are HAProxy's own.
var framing = []string{"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func validHeaderName(name string) bool { return name != "" && len(name) <= 128 && all(name, "-_.") }

func validHeader(h signalbox.Header) bool {
	if !validHeaderName(h.Name) || slices.Contains(framing, strings.ToLower(h.Name)) {
		return false
	}
	return h.Value != "" && len(h.Value) <= maxHeader && !strings.ContainsFunc(h.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// kept returns the values that are sound; the others are unwritable.
func kept[T any](p *sounder, key string, values []T, sound func(T) bool, text func(T) string) []T {
	if !slices.ContainsFunc(values, func(v T) bool { return !sound(v) }) {
		return values
	}
	var good []T
	for _, v := range values {
		if sound(v) {
			good = append(good, v)
			continue
		}
		p.unwritable(key, text(v))
	}
	return good
}

// pageStatuses are those whose answers HAProxy lets be replaced.
var pageStatuses = []int{400, 401, 403, 404, 405, 407, 408, 410, 413, 425, 429, 500, 501, 502, 503, 504}

// pages keeps the error pages that the operator has given, one for each status.
func (p *sounder) pages() {
	var good []signalbox.ErrorPage
	for _, e := range p.out.ErrorPages {
		switch {
		case !slices.Contains(pageStatuses, e.Status):
			p.leave("SB222", "error-page", fmt.Sprintf("%d=%s", e.Status, e.Name), "HAProxy has no page of its own for this status", "it is left out")
		case p.options == nil || p.options.ErrorPages[e.Name] == nil:
			p.leave("SB222", "error-page", fmt.Sprintf("%d=%s", e.Status, e.Name), "there is no page of this name", "it is left out")
		case slices.ContainsFunc(good, func(g signalbox.ErrorPage) bool { return g.Status == e.Status }):
		default:
			good = append(good, e)
		}
	}
	p.out.ErrorPages = good
}

// sections are the words that end a section of HAProxy's configuration, and what would change a backend's shape under our hands.
var sections = []string{
	"global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "mailers", "resolvers", "cache", "program", "ring", "http-errors",
	"fcgi-app", "log-forward", "log-profile", "crt-store", "traces", "acme", "healthcheck", "namespace_list", "dynamic-update",
	"server", "server-template", "dispatch", "mode", "disabled", "enabled", "use-fcgi-app", "id",
}

// raw keeps the operator's lines that stay within their section.
func (p *sounder) raw() {
	lines := p.out.Raw
	if len(lines) > maxRawLines {
		p.leave("SB225", "", fmt.Sprint(len(lines)), fmt.Sprintf("there are more than %d lines", maxRawLines), "the rest is left out")
		lines = lines[:maxRawLines]
	}
	var good []string
	for _, l := range lines {
		if validRaw(l) {
			good = append(good, strings.TrimSpace(l))
			continue
		}
		p.leave("SB225", "", l, "this line would not stay within the section of its backend, or changes its servers", "it is left out")
	}
	p.out.Raw = good
}

// validRaw reports whether a line begins with a plain keyword, which no quote can hide, and goes on to its end.
func validRaw(l string) bool {
	l = strings.TrimSpace(l)
	word, _, _ := strings.Cut(l, " ")
	return len(l) <= maxHeader && all(word, "-") && !strings.HasSuffix(l, `\`) && !strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) &&
		!slices.Contains(sections, strings.ToLower(word))
}

// tasks judges how the tasks are spoken to.
func (p *sounder) tasks() {
	out := &p.out.Policy
	switch out.BackendTLS {
	case signalbox.BackendPlain, signalbox.BackendUnverified:
	case signalbox.BackendVerified:
		p.out.ServerName = p.serverName()
		if p.out.ServerName == "" && p.service.Mode == signalbox.TCP {
			p.leave("SB224", "backend-tls", string(out.BackendTLS), "nothing says which name the tasks' certificate has to bear", "a certificate of any name is taken")
		}
	default:
		// Whoever asks for a way that is unknown does not ask for less than TLS.
		p.leave("SB223", "backend-tls", string(out.BackendTLS), "this value can't be written to HAProxy's configuration", "tasks are spoken to by TLS, verified")
		out.BackendTLS, p.out.ServerName = signalbox.BackendVerified, p.serverName()
	}
	if p.service.Mode == signalbox.TCP {
		out.RewriteHost = ""
	}
}

// serverName returns a name of the service for those connections that no request leads to.
func (p *sounder) serverName() string {
	if h := p.out.RewriteHost; h != "" && all(h, ".-") {
		return h
	}
	first := ""
	for _, r := range p.service.Routes {
		if validHost(r.Host) && all(r.Host, ".-") && (first == "" || r.Host < first) {
			first = r.Host
		}
	}
	return first
}
