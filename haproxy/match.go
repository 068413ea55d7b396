package haproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"signalbox"
)

// Request is a request as far as routing looks at it.
type Request struct {
	Method string // "": GET
	Host   string // as a client sends it: in any case, with a port, with a dot at its end
	Path   string // as a client sends it, without the query
	Query  string // without "?"
	TLS    bool
	Source netip.Addr // the client's address; invalid: not known, and what depends on it is said but not decided
	AppID  string     // X-Marathon-App-Id
	// Origin is that of a page whose browser asks whether the page may make a request (CORS); "": nobody asks that.
	Origin string
}

// Answer says where a request goes, and why. It is a value of its own.
type Answer struct {
	Host, Path string // as routing reads them
	// Status is that of signalbox's own answer, and Reason says why it answers; 0: a task is asked, or, with a Reason, nobody is
	// answered.
	Status int
	Reason string

	Names        []NameTried       // in the order in which they were tried; the last one holds, if any does
	Claims       []Claim           // everything that asks for the host, the best right first
	Route        *signalbox.Route  // that the request takes; nil: none
	Destinations []Destination     // where it can go: more than one where services share the route; sorted by service
	Effects      []Effect          // what labels do with it on its way, in order; of the first destination with a share
	Policy       *signalbox.Policy // of that destination; nil: there is none
	Sent         string            // the path that its task is asked for; "" where none is
}

// NameTried is one name that a host was compared with.
type NameTried struct {
	Kind  NameKind
	Name  string // as a label words it: "shop.local", "*.local", "~[a-z]+\.local", "*"
	Holds bool
}

// NameKind is a kind of name.
type NameKind string

// The kinds of names, in the order in which they are tried.
const (
	HostName     NameKind = "host"
	WildcardName NameKind = "wildcard"
	RegexName    NameKind = "regex"
	EveryName    NameKind = "every host"
	// These are none: the request comes by a service port, by the id of an app, or as a connection whose TLS is passed through.
	PortName   NameKind = "service port"
	AppName    NameKind = "app id"
	ServerName NameKind = "server name"
)

// Claim is a route that a service asks for, and what becomes of it for one request.
type Claim struct {
	Route   signalbox.Route
	Service signalbox.ServiceID
	App     string
	Wins    bool // it gets the request, or a share of such
	Why     string
}

// Destination is a service that a request can go to.
type Destination struct {
	Service signalbox.ServiceID
	App     string
	Backend string
	Percent int // of the requests
	Balance string
	Servers []Standing // in the order of tasks
}

// Usable returns how many servers take requests.
func (d *Destination) Usable() int {
	n := 0
	for _, s := range d.Servers {
		n += count(s.Takes)
	}
	return n
}

// Standing is how a task stands in its backend.
type Standing struct {
	Task   string
	Server string // "s1"; "" for a task that has no slot
	Addr   netip.AddrPort
	Weight int
	Takes  bool   // requests
	Why    string // it does not, or less or more than others; or ""
}

// Effect is what a label does with a request.
type Effect struct {
	Label  string // "strip-prefix"
	Text   string // for people
	Status int    // of the answer where it ends the request's way; 0: it goes on
}

var (
	hostForm  = regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?$`)
	climbs    = regexp.MustCompile(`(?i)(%00|(/|%2f|\\|%5c)(\.|%2e)(\.|%2e)(/|%2f|\\|%5c|;|%3b|$))`)
	ambiguous = regexp.MustCompile(`(?i)(%2f|\\|%5c|//|/(\.|%2e)(/|;|%3b|$))`)
)

// Match says where a request goes by what HAProxy is given in its maps. The Config must be one that Build made. What clients or
// tasks do meanwhile it can't know: which checks fail, whose rate is exceeded.
func (c *Config) Match(r Request) *Answer {
	a := &Answer{Host: hostOf(r.Host), Path: cmp.Or(r.Path, "/")}
	if !hostForm.MatchString(r.Host) || len(a.Host) > 255 {
		a.Status, a.Reason = 400, "the Host is none"
		return a
	}
	name := c.tryNames(a)
	value, key := c.lookUp(name, a.Path)
	a.Claims = append(c.weigh(a, name, value, key), c.hidden(a, name)...)
	if a.Status, a.Reason = c.refuse(name, a.Path); a.Status != 0 {
		a.Route = nil
		return a
	}
	switch value {
	case "":
		a.Status, a.Reason = 404, "no route for this host"
		if a.Names[len(a.Names)-1].Holds {
			a.Reason += ", and that of every host is for other paths"
		}
		return a
	case noPath:
		a.Status, a.Reason = 404, "no route for this path"
		return a
	}
	c.reach(a, value)
	c.effects(r, a)
	return a
}

// hostOf returns the host as routing reads it: in lower case, without port and dots at its end.
func hostOf(header string) string {
	host := header
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.TrimRight(strings.ToLower(host), ".")
}

// refuse returns the answer to a path that is not routed, and why; 0 to one that is.
func (c *Config) refuse(name, path string) (status int, why string) {
	how := lookup(c.Paths, name)
	switch {
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }):
		return 400, "the path has a character that is sent as %XX only"
	case strings.Contains(path, "#"):
		return 400, "the path has a fragment"
	case climbs.MatchString(path):
		return 400, "the path climbs, or has a NUL in it"
	case how != "" && ambiguous.MatchString(path):
		return 400, "paths tell services apart here, and two programs may read this one differently"
	case strings.Contains(how, "regex") && len(path) > maxRegexPath:
		return 414, fmt.Sprintf("the path is longer than the %d bytes that regular expressions are tried on", maxRegexPath)
	}
	return 0, ""
}

// tryNames finds the name that holds, and notes those that were tried. It returns what the maps call it.
func (c *Config) tryNames(a *Answer) string {
	try := func(kind NameKind, label string, holds bool) bool {
		a.Names = append(a.Names, NameTried{kind, label, holds})
		return holds
	}
	host := a.Host
	if try(HostName, host, c.hasName(host)) {
		return host
	}
	_, rest, _ := strings.Cut(host, ".")
	wildcard := "*." + rest
	if rest != "" && try(WildcardName, wildcard, c.hasName(wildcard)) {
		return wildcard
	}
	for _, e := range c.HostRegexes {
		label := strings.TrimSuffix(strings.TrimPrefix(e.Key, "^(?:"), ")$")
		if try(RegexName, "~"+label, regexMatches(e.Key, host)) {
			return e.Value
		}
	}
	try(EveryName, everyHost, len(c.claimsOn(everyHost)) > 0)
	return everyHost
}

// hasName reports whether a host or a wildcard has routes: it has an entry for "/" then.
func (c *Config) hasName(name string) bool { return lookup(c.Hosts, name+"/") != "" }

// lookUp returns the value that a path has under a name, and the key by which.
func (c *Config) lookUp(name, path string) (value, key string) {
	how := lookup(c.Paths, name)
	if v := lookup(c.Exact, name+path); v != "" && strings.Contains(how, "exact") {
		return v, name + path
	}
	if strings.Contains(how, "regex") && len(path) <= maxRegexPath {
		for _, e := range c.PathRegexes {
			if regexMatches(e.Key, name+beforePath+path) {
				return e.Value, e.Key
			}
		}
	}
	whole := name + path + "/"
	for end := len(whole); end > len(name); end = strings.LastIndexByte(whole[:end-1], '/') + 1 {
		if v := lookup(c.Hosts, whole[:end]); v != "" {
			return v, whole[:end]
		}
	}
	return "", ""
}

func lookup(entries []MapEntry, key string) string {
	i, ok := slices.BinarySearchFunc(entries, key, func(e MapEntry, key string) int { return cmp.Compare(e.Key, key) })
	if !ok {
		return ""
	}
	return entries[i].Value
}

func (c *Config) claimsOn(name string) []*claim {
	claims := c.made.claims
	from, _ := slices.BinarySearchFunc(claims, name, func(cl *claim, name string) int { return cmp.Compare(cl.name, name) })
	to := from
	for to < len(claims) && claims[to].name == name {
		to++
	}
	return claims[from:to]
}

// weigh says of each claim on the name that holds what becomes of it, and notes the route that wins.
func (c *Config) weigh(a *Answer, name, value, key string) []Claim {
	claims := slices.Clone(c.claimsOn(name))
	slices.SortStableFunc(claims, precedence)
	var winner *claim
	if i := slices.IndexFunc(claims, func(cl *claim) bool { return cl.key == key }); i >= 0 && value != noPath {
		winner = claims[i]
		route := winner.route
		a.Route = &route
	}
	var out []Claim
	for _, cl := range claims {
		wins, why := c.outcome(cl, winner, value, a.Path)
		out = append(out, Claim{Route: cl.route, Service: cl.service, App: cl.app, Wins: wins, Why: why})
	}
	slices.SortStableFunc(out, func(x, y Claim) int { return count(y.Wins) - count(x.Wins) })
	return out
}

// precedence orders the claims on one name as they are tried: exact paths, regular expressions, prefixes from the longest on.
func precedence(x, y *claim) int {
	order := map[signalbox.Match]int{signalbox.Regex: 1, signalbox.Prefix: 2}
	n := cmp.Compare(order[x.route.Match], order[y.route.Match])
	if n == 0 && x.route.Match == signalbox.Prefix {
		n = cmp.Compare(len(y.route.Path), len(x.route.Path))
	}
	return cmp.Or(n, x.right(y))
}

// outcome says what becomes of a claim on the name that holds.
func (c *Config) outcome(cl, winner *claim, value, path string) (wins bool, why string) {
	switch {
	case !matches(cl.route, path):
		return false, "the path is another one"
	case winner == nil:
		return false, "it is withheld"
	case cl.route == winner.route && isSplit(value):
		percent := 0
		for _, e := range c.Splits {
			percent += count(splitIn(e) == value && e.Value == cl.backend)
		}
		return percent > 0, fmt.Sprintf("shares the route by weight: %d has %d %% of the requests", cl.weight, percent)
	case cl.route == winner.route && cl.backend == value:
		return true, map[signalbox.Match]string{
			signalbox.Exact: "an exact path wins", signalbox.Regex: "no exact path matches, and this regular expression comes first",
			signalbox.Prefix: "the longest prefix wins",
		}[cl.route.Match]
	case cl.route == winner.route:
		return false, fmt.Sprintf("%s has the same route and %s", winner.service, winner.why(cl))
	case winner.route.Match == signalbox.Exact:
		return false, "an exact path wins over it"
	case winner.route.Match == signalbox.Regex && cl.route.Match == signalbox.Regex:
		return false, fmt.Sprintf("the regular expression of %s %s", winner.service, winner.why(cl))
	case winner.route.Match == signalbox.Regex:
		return false, "a regular expression wins over a prefix"
	}
	return false, "a longer prefix wins over it"
}

// hidden returns the claims on the further names of the host, which are not tried once one holds.
func (c *Config) hidden(a *Answer, holds string) (out []Claim) {
	last := a.Names[len(a.Names)-1]
	if !last.Holds {
		return nil
	}
	_, rest, _ := strings.Cut(a.Host, ".")
	names := []string{a.Host, "*." + rest}
	for _, e := range c.HostRegexes {
		if regexMatches(e.Key, a.Host) {
			names = append(names, e.Value)
		}
	}
	names = append(names, everyHost)
	for _, name := range names[slices.Index(names, holds)+1:] {
		for _, cl := range c.claimsOn(name) {
			out = append(out, Claim{
				Route: cl.route, Service: cl.service, App: cl.app, Why: fmt.Sprintf("%s (%s) hides it", last.Name, last.Kind),
			})
		}
	}
	return out
}

func regexMatches(pattern, s string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(s)
}

// matches reports whether a route is one for a path.
func matches(r signalbox.Route, path string) bool {
	switch r.Match {
	case signalbox.Exact:
		return r.Path == path
	case signalbox.Regex:
		return len(path) <= maxRegexPath && regexMatches(whole(r.Path), path)
	}
	return strings.HasPrefix(path+"/", strings.TrimSuffix(r.Path, "/")+"/")
}

// reach notes the services that a value of the maps leads to.
func (c *Config) reach(a *Answer, value string) {
	percent := map[string]int{value: buckets}
	if isSplit(value) {
		percent = make(map[string]int)
		for _, cl := range a.Claims {
			if cl.Route == *a.Route {
				if p := c.partOf(cl.Service); p != nil && p.backend != nil {
					percent[p.backend.Name] = 0
				}
			}
		}
		for _, e := range c.Splits {
			if splitIn(e) == value {
				percent[e.Value]++
			}
		}
	}
	for name, n := range percent {
		if b := c.Backend(name); b != nil {
			a.Destinations = append(a.Destinations, c.destination(b, n))
		}
	}
	slices.SortFunc(a.Destinations, func(x, y Destination) int { return cmp.Compare(x.Service, y.Service) })
}

// partOf returns the part of a service, or nil.
func (c *Config) partOf(id signalbox.ServiceID) *part {
	i, ok := slices.BinarySearchFunc(c.made.services, id, func(s *signalbox.Service, id signalbox.ServiceID) int { return cmp.Compare(s.ID, id) })
	if !ok {
		return nil
	}
	return c.made.parts[i]
}

// destination says how the tasks of a backend stand.
func (c *Config) destination(b *Backend, percent int) Destination {
	d := Destination{Service: b.Service, App: b.App, Backend: b.Name, Percent: percent, Balance: "roundrobin"}
	p := c.partOf(b.Service)
	if p == nil {
		return d
	}
	d.Balance = cmp.Or(p.service.Policy.Balance, d.Balance)
	nearby := c.Options.Nearby()
	if nearby == nil || !b.prefers() {
		nearby = func(*signalbox.Endpoint) bool { return false }
	}
	for _, e := range p.service.Endpoints {
		st := Standing{Task: e.Task, Addr: e.Addr, Why: cmp.Or(e.Why, string(e.State))}
		i := slices.IndexFunc(b.Slots, func(s Server) bool { return s.Task == e.Task && s.Addr == e.Addr })
		if i >= 0 {
			s := b.Slots[i]
			st.Server, st.Weight, st.Takes = s.Name, s.Weight, s.usable()
			switch {
			case s.Gated && s.Admin == Ready:
				// HAProxy alone knows whether that has happened.
				st.Takes, st.Why = true, "takes requests once HAProxy's first check has passed"
			case s.usable() && e.State == signalbox.Up && nearby(&e):
				st.Why = "nearby: it comes first"
			case s.usable() && e.State == signalbox.Up:
				st.Why = ""
			}
		}
		d.Servers = append(d.Servers, st)
	}
	return d
}
