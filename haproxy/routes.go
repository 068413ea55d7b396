package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// claim is one service's wish for one name.
type claim struct {
	key     string // host + path + "/", with one slash for the path "/": the key of the map
	host    string
	backend string
	service signalbox.ServiceID
	app     string
	since   time.Time
}

// compare orders claims by key; of those with one key the oldest comes first.
func (c *claim) compare(o *claim) int {
	if n := cmp.Compare(c.key, o.key); n != 0 {
		return n
	}
	return cmp.Or(c.since.Compare(o.since), cmp.Compare(c.service, o.service))
}

func (c *claim) route() string {
	path := strings.TrimSuffix(c.key[len(c.host):], "/")
	return signalbox.Route{Host: c.host, Path: cmp.Or(path, "/")}.String()
}

// claim makes the claims of a part's service, and notes the routes that no map can carry.
func (p *part) claim() {
	if p.backend.Mode == signalbox.TCP {
		return
	}
	for _, r := range p.service.Routes {
		if !validHost(r.Host) || !validPath(r.Path) {
			p.problems = append(p.problems, signalbox.Problem{
				Code: "SB206", Severity: signalbox.SeverityError, App: p.service.App, Value: cut(r.String()),
				Message: "this host and path can't be a key of HAProxy's maps", Action: "this route is left out",
			})
			continue
		}
		key := r.Host + r.Path
		if r.Path != "/" {
			key += "/"
		}
		p.claims = append(p.claims, &claim{
			key: key, host: r.Host, backend: p.backend.Name, service: p.service.ID, app: p.service.App, since: p.service.Since,
		})
	}
	slices.SortFunc(p.claims, (*claim).compare)
	p.claims = slices.CompactFunc(p.claims, func(a, b *claim) bool { return a.key == b.key })
}

// resolveRoutes decides who has which host and path.
func (b *builder) resolveRoutes() {
	c := b.next
	if b.claimsStand() {
		c.made.claims, c.Hosts, c.Paths = b.prev.made.claims, b.prev.Hosts, b.prev.Paths
		b.takeProblems("SB203")
		return
	}
	claims := b.mergeClaims()
	c.made.claims = claims
	c.Hosts = make([]MapEntry, 0, len(claims)+16)
	for i := 0; i < len(claims); {
		j := i + 1
		for j < len(claims) && claims[j].host == claims[i].host {
			j++
		}
		b.resolveHost(claims[i:j])
		i = j
	}
	slices.SortFunc(c.Paths, func(x, y MapEntry) int { return cmp.Compare(x.Key, y.Key) })
	if slices.Equal(c.Hosts, b.prev.Hosts) {
		c.Hosts = b.prev.Hosts
	}
	if slices.Equal(c.Paths, b.prev.Paths) {
		c.Paths = b.prev.Paths
	}
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

// resolveHost enters the claims on one host, which are sorted. A host that has no backend for "/" gets an entry that answers 404
// for the paths that nobody claimed, so that they do not fall through to a wildcard.
func (b *builder) resolveHost(claims []*claim) {
	c, host := b.next, claims[0].host
	if host != "" && len(claims[0].key) > len(host)+1 {
		c.Hosts = append(c.Hosts, MapEntry{claims[0].key[:len(host)+1], noPath})
	}
	var owner *claim
	paths := false
	for i, cl := range claims {
		if i > 0 && cl.key == owner.key {
			c.Problems = append(c.Problems, signalbox.Problem{
				Code: "SB203", Severity: signalbox.SeverityError, App: cl.app, Value: cut(cl.route()),
				Message: fmt.Sprintf("%s belongs to %s, which is older", cl.route(), owner.service),
				Action:  fmt.Sprintf("%s is not reached under this name", cl.service),
			})
			continue
		}
		owner = cl
		c.Hosts = append(c.Hosts, MapEntry{cl.key, cl.backend})
		paths = paths || len(cl.key) > len(host)+1
	}
	if paths {
		c.Paths = append(c.Paths, MapEntry{cmp.Or(host, "*"), "1"})
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
