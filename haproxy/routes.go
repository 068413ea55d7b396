package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// everyHost is the name that stands for every host in the maps. No request can have it as its host.
const everyHost = "*"

// claim is one service's wish for one name.
type claim struct {
	name     string // the name in the maps: a host, "*.x", everyHost, or the token of a regular expression
	route    signalbox.Route
	backend  string
	service  signalbox.ServiceID
	app      string
	priority int
	since    time.Time
	key      string // what its map knows it by
	weight   int    // -1: it does not share
	usable   bool   // a task takes traffic; only of one that shares
	open     bool   // nobody is asked for a password
	wide     bool   // its password was asked for below its route, whoever answers there
}

// claimKey returns what the map of a route knows it by: name + path, with one slash at the end of a prefix; a pattern for a regular
// expression.
func claimKey(name string, r signalbox.Route) string {
	switch {
	case r.Match == signalbox.Regex:
		return pathPattern(name, r.Path)
	case r.Match == signalbox.Exact || r.Path == "/":
		return name + r.Path
	}
	return name + r.Path + "/"
}

// compare orders claims by name, then by what they match; of those to the same the one with the better right comes first.
func (c *claim) compare(o *claim) int {
	if n := cmp.Compare(c.name, o.name); n != 0 { // as nearly all are, at every change of one
		return n
	}
	return cmp.Or(cmp.Compare(c.route.Match, o.route.Match), cmp.Compare(c.route.Path, o.route.Path), c.right(o))
}

// right orders claims by what decides between them: the priority, then the age, then the id.
func (c *claim) right(o *claim) int {
	return cmp.Or(cmp.Compare(o.priority, c.priority), c.since.Compare(o.since), cmp.Compare(c.service, o.service))
}

// why says by what a claim that comes first does so.
func (c *claim) why(o *claim) string {
	switch {
	case c.priority > o.priority:
		return fmt.Sprintf("has the higher priority, %d over %d", c.priority, o.priority)
	case c.since.Before(o.since):
		return "is older"
	}
	return "is as old and comes first by its id"
}

// claim makes the claims of a part's service, and notes the routes that no map can carry.
func (p *part) claim() {
	if p.backend.Mode == signalbox.TCP {
		return
	}
	s := p.service
	for _, r := range s.Routes {
		if err := validRoute(r); err != nil {
			p.problems = append(p.problems, signalbox.Problem{
				Code: "SB206", Severity: signalbox.SeverityError, App: s.App, Value: cut(r.String()),
				Message: fmt.Sprintf("this host and path can't be given to HAProxy: %v", err), Action: "this route is left out",
			})
			continue
		}
		c := &claim{
			name: cmp.Or(r.Host, everyHost), route: r, backend: p.backend.Name, service: s.ID, app: s.App,
			priority: s.Policy.Priority, since: s.Since, weight: -1,
			open: s.Policy.Auth == nil && s.Policy.Refused == "", wide: s.Policy.Auth != nil && s.Policy.Auth.Wide,
		}
		if isRegexHost(r.Host) {
			c.name = hostToken(r.Host)
		}
		c.key = claimKey(c.name, r)
		if w := s.Policy.Weight; w != nil {
			c.weight, c.usable = max(0, min(*w, 256)), slices.ContainsFunc(p.backend.Slots, Server.usable)
		}
		p.claims = append(p.claims, c)
	}
	slices.SortFunc(p.claims, (*claim).compare)
	p.claims = slices.CompactFunc(p.claims, func(a, b *claim) bool { return a.route == b.route })
}

// resolveRoutes decides who has which host and path.
func (b *builder) resolveRoutes() {
	c := b.next
	if b.claimsStand() {
		c.made.claims, c.Routes = b.prev.made.claims, b.prev.Routes
		b.takeProblems("SB203", "SB207", "SB208", "SB209")
		return
	}
	claims := b.mergeClaims()
	c.made.claims = claims
	c.Hosts = make([]MapEntry, 0, len(claims)+16)
	var regexes regexes
	for i := 0; i < len(claims); {
		j := i + 1
		for j < len(claims) && claims[j].name == claims[i].name {
			j++
		}
		b.resolveName(claims[i:j], &regexes)
		i = j
	}
	for _, r := range regexes.bound() {
		c.Problems = append(c.Problems, signalbox.Problem{
			Code: "SB208", Severity: signalbox.SeverityError, App: r.best.app, Value: cut(r.best.route.String()),
			Message: fmt.Sprintf("there are more than %d regular expressions, of older apps", maxExpressions), Action: "this one is not tried",
		})
	}
	c.HostRegexes, c.PathRegexes = regexes.entries()
	for _, m := range []*[]MapEntry{&c.Hosts, &c.Exact, &c.Splits, &c.Paths} {
		slices.SortFunc(*m, func(x, y MapEntry) int { return cmp.Compare(x.Key, y.Key) })
	}
	was := b.prev.Routes.all()
	for i, m := range c.Routes.all() {
		if slices.Equal(*m, *was[i]) {
			*m = *was[i]
		}
	}
	b.reload = b.reload || !sameSlice(c.HostRegexes, b.prev.HostRegexes) || !sameSlice(c.PathRegexes, b.prev.PathRegexes)
}

// claimsStand reports whether the changed services claim what they claimed before.
func (b *builder) claimsStand() bool {
	if len(b.prev.made.services) == 0 {
		return false
	}
	before := make(map[signalbox.ServiceID][]*claim, len(b.gone))
	for _, p := range b.gone {
		if len(p.claims) > 0 {
			before[p.service.ID] = p.claims
		}
	}
	for _, p := range b.changed {
		was := before[p.service.ID]
		if !slices.EqualFunc(was, p.claims, func(a, b *claim) bool { return *a == *b }) {
			return false
		}
		p.claims = was // claims are told apart by pointer
		delete(before, p.service.ID)
	}
	return len(before) == 0
}

// mergeClaims returns the previous claims less those of parts that went, with those of parts that came.
func (b *builder) mergeClaims() []*claim {
	gone := make(map[*claim]bool, len(b.gone))
	for _, p := range b.gone {
		for _, cl := range p.claims {
			gone[cl] = true
		}
	}
	var fresh []*claim
	for _, p := range b.changed {
		fresh = append(fresh, p.claims...)
	}
	slices.SortFunc(fresh, (*claim).compare)
	old := b.prev.made.claims
	out := make([]*claim, 0, len(old)+len(fresh))
	for _, cl := range old {
		if gone[cl] {
			continue
		}
		for len(fresh) > 0 && fresh[0].compare(cl) < 0 {
			out = append(out, fresh[0])
			fresh = fresh[1:]
		}
		out = append(out, cl)
	}
	return append(out, fresh...)
}

// resolveName enters the claims on one name, which are sorted. A name that has no backend for "/" gets an entry that answers 404 for
// the paths that nobody claimed, so that they do not fall through to the next kind of name.
func (b *builder) resolveName(claims []*claim, regexes *regexes) {
	c, name := b.next, claims[0].name
	regexes.name(claims)
	if name != everyHost && (claims[0].route.Match != signalbox.Prefix || claims[0].route.Path != "/") {
		c.Hosts = append(c.Hosts, MapEntry{name + "/", noPath})
	}
	var kinds [3]bool // paths below "/", exact ones, regular expressions: each tells services apart
	for i := 0; i < len(claims); {
		j := i + 1
		for j < len(claims) && claims[j].route == claims[i].route {
			j++
		}
		entry := MapEntry{claims[i].key, b.resolve(claims[i:j])}
		switch r := claims[i].route; r.Match {
		case signalbox.Exact:
			kinds[1] = true
			c.Exact = append(c.Exact, entry)
		case signalbox.Regex:
			kinds[2] = true
			regexes.path(claims[i], entry)
		default:
			kinds[0] = kinds[0] || r.Path != "/"
			c.Hosts = append(c.Hosts, entry)
		}
		i = j
	}
	b.opened(claims)
	var words []string
	for i, word := range []string{"prefix", "exact", "regex"} {
		if kinds[i] {
			words = append(words, word)
		}
	}
	if len(words) > 0 {
		c.Paths = append(c.Paths, MapEntry{name, strings.Join(words, ",")})
	}
}

// resolve decides between the claims to one route, the one with the best right first, and returns the value for its map.
func (b *builder) resolve(claims []*claim) string {
	if len(claims) > 1 && shared(claims) {
		split := splitOf(claims[0])
		b.next.Splits = append(b.next.Splits, splitEntries(split, claims)...)
		return split
	}
	owner := claims[0]
	for _, cl := range claims[1:] {
		b.conflict(owner, cl)
	}
	return owner.backend
}

// conflict tells both apps of a name that only one of them gets.
func (b *builder) conflict(owner, loser *claim) {
	route := owner.route.String()
	b.next.Problems = append(b.next.Problems, signalbox.Problem{
		Code: "SB203", Severity: signalbox.SeverityError, App: loser.app, Value: cut(route),
		Message: fmt.Sprintf("%s belongs to %s, which %s", route, owner.service, owner.why(loser)),
		Action:  fmt.Sprintf("%s is not reached under this name", loser.service),
	}, signalbox.Problem{
		Code: "SB207", Severity: signalbox.SeverityWarning, App: owner.app, Value: cut(route),
		Message: fmt.Sprintf("%s asks for %s too", loser.service, route),
		Action:  fmt.Sprintf("%s keeps it, because it %s", owner.service, owner.why(loser)),
	})
}

// opened tells the apps that answer without a password under a name where marathon-lb asked for that of another app.
func (b *builder) opened(claims []*claim) {
	for _, wide := range claims {
		if !wide.wide || wide.route.Match != signalbox.Prefix {
			continue
		}
		for _, cl := range claims {
			if !cl.open || !strings.HasPrefix(cl.route.Path, wide.route.Path) { // as path_beg compares
				continue
			}
			route := cl.route.String()
			b.next.Problems = append(b.next.Problems, signalbox.Problem{
				Code: "SB209", Severity: signalbox.SeverityWarning, App: cl.app, Value: cut(route),
				Message: fmt.Sprintf("marathon-lb asks for the password of %s under %s too", wide.service, route),
				Action:  fmt.Sprintf("%s lets everybody in", cl.service),
			})
		}
	}
}

// takeProblems takes over the previous problems with some codes.
func (b *builder) takeProblems(codes ...string) {
	for _, p := range b.prev.Problems {
		if slices.Contains(codes, p.Code) {
			b.next.Problems = append(b.next.Problems, p)
		}
	}
}
