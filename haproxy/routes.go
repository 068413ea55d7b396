package haproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// claim is one service's wish for one name.
type claim struct {
	key     string // host + path + "/", with one slash for the path "/": the key of the map
	host    string
	backend string
	service *signalbox.Service
}

// compare orders claims by key; of those with one key the oldest comes first.
func (c claim) compare(o claim) int {
	if n := cmp.Compare(c.key, o.key); n != 0 {
		return n
	}
	return cmp.Or(c.service.Since.Compare(o.service.Since), cmp.Compare(c.service.ID, o.service.ID))
}

func (c claim) route() string {
	path := strings.TrimSuffix(c.key[len(c.host):], "/")
	return signalbox.Route{Host: c.host, Path: cmp.Or(path, "/")}.String()
}

// claim returns the claims of a part's service, sorted, and notes the routes that no map can carry.
func (p *part) claim() []claim {
	if p.service.Mode == signalbox.TCP {
		return nil
	}
	var claims []claim
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
		claims = append(claims, claim{key: key, host: r.Host, backend: p.backend.Name, service: p.service})
	}
	slices.SortFunc(claims, claim.compare)
	return slices.CompactFunc(claims, func(a, b claim) bool { return a.key == b.key })
}

// resolveRoutes decides who has which host and path.
func (b *builder) resolveRoutes() {
	c := b.next
	if b.same {
		c.claims, c.Hosts, c.Paths = b.prev.claims, b.prev.Hosts, b.prev.Paths
		b.takeProblems("SB203")
		return
	}
	c.claims = b.mergeClaims()
	for i := 0; i < len(c.claims); {
		j := i + 1
		for j < len(c.claims) && c.claims[j].host == c.claims[i].host {
			j++
		}
		b.resolveHost(c.claims[i:j])
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

// mergeClaims returns the previous claims less those of parts that went, with those of parts that came.
func (b *builder) mergeClaims() []claim {
	gone := make(map[*signalbox.Service]bool, len(b.gone))
	for _, p := range b.gone {
		gone[p.service] = true
	}
	var fresh []claim
	for _, p := range b.changed {
		fresh = append(fresh, p.claims...)
	}
	slices.SortFunc(fresh, claim.compare)
	out := make([]claim, 0, len(b.prev.claims)+len(fresh))
	for _, old := range b.prev.claims {
		if gone[old.service] {
			continue
		}
		for len(fresh) > 0 && fresh[0].compare(old) < 0 {
			out = append(out, fresh[0])
			fresh = fresh[1:]
		}
		out = append(out, old)
	}
	return append(out, fresh...)
}

// resolveHost enters the claims on one host, which are sorted. A host that has no backend for "/" gets an entry that answers 404
// for the paths that nobody claimed, so that they do not fall through to a wildcard.
func (b *builder) resolveHost(claims []claim) {
	c, host := b.next, claims[0].host
	if host != "" && claims[0].key != host+"/" {
		c.Hosts = append(c.Hosts, MapEntry{claims[0].key[:len(host)+1], noPath})
	}
	var owner claim
	paths := false
	for i, cl := range claims {
		if i > 0 && cl.key == owner.key {
			c.Problems = append(c.Problems, signalbox.Problem{
				Code: "SB203", Severity: signalbox.SeverityError, App: cl.service.App, Value: cut(cl.route()),
				Message: fmt.Sprintf("%s belongs to %s, which is older", cl.route(), owner.service.ID),
				Action:  fmt.Sprintf("%s is not reached under this name", cl.service.ID),
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

// takeProblems takes over the previous problems with a code.
func (b *builder) takeProblems(code string) {
	for _, p := range b.prev.Problems {
		if p.Code == code {
			b.next.Problems = append(b.next.Problems, p)
		}
	}
}

// bindListeners decides who has which service port.
func (b *builder) bindListeners() {
	c := b.next
	taken := entryPorts(c.Options)
	var asking []*part
	for _, p := range c.parts {
		if p.service.Listen != 0 && p.backend != nil {
			asking = append(asking, p)
		}
	}
	slices.SortFunc(asking, func(x, y *part) int {
		return cmp.Or(cmp.Compare(x.service.Listen, y.service.Listen), x.service.Since.Compare(y.service.Since),
			cmp.Compare(x.service.ID, y.service.ID))
	})
	owner := make(map[int]*part, len(asking))
	for _, p := range asking {
		s, refusal := p.service, signalbox.Problem{Code: "SB202"}
		switch port := s.Listen; {
		case port < 1 || port > 65535:
			refusal.Code, refusal.Message = "SB204", "this service port is not one of 1 to 65535"
		case taken[port]:
			refusal.Code, refusal.Message = "SB204", "this service port is the HTTP entry's"
		case owner[port] != nil:
			refusal.Message = fmt.Sprintf("this service port belongs to %s, which is older", owner[port].service.ID)
		default:
			owner[port] = p
			c.Listeners = append(c.Listeners, &Listener{
				Name: "port_" + strconv.Itoa(port), Port: port, Mode: p.backend.Mode, Backend: p.backend.Name, Service: s.ID,
			})
			continue
		}
		refusal.Severity, refusal.App, refusal.Value = signalbox.SeverityError, s.App, strconv.Itoa(s.Listen)
		refusal.Action = fmt.Sprintf("%s is not reached by this port", s.ID)
		c.Problems = append(c.Problems, refusal)
	}
	same := len(c.Listeners) == len(b.prev.Listeners)
	for i, l := range c.Listeners {
		if i < len(b.prev.Listeners) && *l == *b.prev.Listeners[i] {
			c.Listeners[i] = b.prev.Listeners[i]
		} else {
			same = false
		}
	}
	if same {
		c.Listeners = b.prev.Listeners
	}
	b.reload = b.reload || !same
}

// entryPorts returns the ports of our own entries.
func entryPorts(o *Options) map[int]bool {
	ports := make(map[int]bool)
	if o == nil {
		return ports
	}
	for _, bind := range o.HTTPBind {
		port := bind[strings.LastIndexByte(bind, ':')+1:]
		if n, err := strconv.Atoi(port); err == nil {
			ports[n] = true
		}
	}
	return ports
}

// serviceBind returns the address on which a service port listens.
func serviceBind(o *Options, port int) (string, error) {
	switch o.ServiceBind {
	case "", "*":
		return ":" + strconv.Itoa(port), nil
	}
	a, err := netip.ParseAddr(o.ServiceBind)
	if err != nil {
		return "", fmt.Errorf("reading the address of the service ports: %w", err)
	}
	return netip.AddrPortFrom(a, uint16(port)).String(), nil
}
