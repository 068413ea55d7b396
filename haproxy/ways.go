package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// Ways are the ways in beside names and service ports of their own.
type Ways struct {
	Ports []MapEntry // sorted by Key; a port of the range to "http/" or "tcp/" and the name of a backend
	Apps  []MapEntry // sorted by Key; an app's id to the backend of its first port that speaks HTTP
	SNI   []MapEntry // sorted by Key; a server name to the backend whose tasks terminate TLS themselves, or to toHTTPS
	// PortBinds are the addresses on which the range listens: whole, less the ports that listen for themselves.
	PortBinds []string
	// Passthrough says that the HTTPS entry tells connections apart by the server name before it terminates TLS.
	Passthrough bool
}

// The maps of further ways in.
const (
	PortsMap = "ports.map"
	AppsMap  = "apps.map"
	SNIMap   = "sni.map"
)

// The proxies that hand connections over to another frontend of the same HAProxy, and what they hand them over by.
const (
	portsFrontend = "ports"
	toPorts       = "to_ports_http"
	sniFrontend   = "sni"
	toHTTPS       = "to_https"
	healthEntry   = "health"
)

// HandsOver returns the backend by which a frontend hands connections over to another one of the same HAProxy, which logs them in
// its stead.
func HandsOver(frontend string) (backend string, ok bool) {
	switch frontend {
	case portsFrontend:
		return toPorts, true
	case sniFrontend:
		return toHTTPS, true
	}
	return "", false
}

// Logs reports whether a frontend writes into the access log, and whether it is one of connections, not requests.
func (c *Config) Logs(frontend string) (logs, tcp bool) {
	if _, ok := HandsOver(frontend); ok {
		return true, true
	}
	for _, l := range c.Listeners {
		if l.Name == frontend {
			return true, l.Mode == signalbox.TCP
		}
	}
	return frontend != healthEntry, false
}

// PortRange is a range of service ports that are bound at once. The zero value is none.
type PortRange struct{ First, Last int }

// Len returns how many ports there are.
func (r PortRange) Len() int {
	if r == (PortRange{}) {
		return 0
	}
	return r.Last - r.First + 1
}

// Has reports whether a port is one of the range.
func (r PortRange) Has(port int) bool { return r != PortRange{} && r.First <= port && port <= r.Last }

// String returns the range as people write it, "" for none.
func (r PortRange) String() string {
	if r == (PortRange{}) {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ParsePortRange reads a range: "10000-10099". An empty text is none.
func ParsePortRange(text string) (PortRange, error) {
	if text == "" {
		return PortRange{}, nil
	}
	first, last, _ := strings.Cut(text, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || a == 0 || a > b {
		return PortRange{}, fmt.Errorf("%q is no range of ports like 10000-10099", text)
	}
	return PortRange{int(a), int(b)}, nil
}

// waysMaps returns the maps of the further ways in that there are.
func (c *Config) waysMaps() []Map {
	var out []Map
	if c.Options == nil {
		return nil
	}
	if c.Options.ServicePorts != (PortRange{}) {
		out = append(out, Map{Name: PortsMap, Entries: &c.Ports})
	}
	if len(c.Options.AppIDBind) > 0 {
		out = append(out, Map{Name: AppsMap, Entries: &c.Apps})
	}
	if c.Passthrough {
		out = append(out, Map{Name: SNIMap, Entries: &c.SNI})
	}
	return out
}

// followedWays returns want's further ways in as far as HAProxy can follow them before it is reloaded.
func followedWays(running, want *Config) Ways {
	w := Ways{PortBinds: running.PortBinds, Passthrough: running.Passthrough}
	leads := func(e MapEntry) bool {
		_, name, _ := strings.Cut(e.Value, "/")
		return serves(running, want, name)
	}
	runs := func(e MapEntry) bool { return e.Value == toHTTPS || serves(running, want, e.Value) }
	w.Ports = follow(running.Ports, want.Ports, leads, nil)
	w.Apps = follow(running.Apps, want.Apps, runs, nil)
	w.SNI = follow(running.SNI, want.SNI, runs, nil)
	return w
}

// Without returns the ways less those to some backends, by name.
func (w Ways) Without(gone map[string]bool) Ways {
	leads := func(e MapEntry) bool {
		_, name, ok := strings.Cut(e.Value, "/")
		return gone[e.Value] || ok && gone[name]
	}
	for _, m := range []*[]MapEntry{&w.Ports, &w.Apps, &w.SNI} {
		*m = slices.DeleteFunc(slices.Clone(*m), leads)
	}
	return w
}

// openWays decides about the further ways in.
func (b *builder) openWays() {
	b.nameApps()
	b.passThrough()
}

// sameServices reports whether no service came or went, speaks otherwise or has another backend.
func (b *builder) sameServices() bool {
	if len(b.prev.made.services) == 0 || len(b.gone) != len(b.changed) {
		return false
	}
	was := make(map[signalbox.ServiceID]*Backend, len(b.gone))
	for _, p := range b.gone {
		was[p.service.ID] = p.backend
	}
	for _, p := range b.changed {
		if w := was[p.service.ID]; w == nil || p.backend == nil || w.Mode != p.backend.Mode || w.Name != p.backend.Name {
			return false
		}
	}
	return true
}

// nameApps leads the id of each app to its first port that speaks HTTP.
func (b *builder) nameApps() {
	c := b.next
	if c.Options == nil || len(c.Options.AppIDBind) == 0 {
		return
	}
	if b.sameServices() && len(b.prev.Apps) > 0 {
		c.Apps = b.prev.Apps
		return
	}
	first := map[string]*part{}
	for _, p := range c.made.parts {
		if p.backend == nil || p.backend.Mode == signalbox.TCP || !validID(signalbox.ServiceID(p.service.App)) {
			continue
		}
		id := strings.ToLower(p.service.App)
		if was := first[id]; was == nil || cmp.Or(cmp.Compare(p.service.Port, was.service.Port), cmp.Compare(p.service.ID, was.service.ID)) < 0 {
			first[id] = p
		}
	}
	for id, p := range first {
		c.Apps = append(c.Apps, MapEntry{id, p.backend.Name})
	}
	c.Apps = sortedLike(b.prev.Apps, c.Apps)
}

// sortedLike sorts entries by their keys, and returns was if it says the same.
func sortedLike(was, entries []MapEntry) []MapEntry {
	slices.SortFunc(entries, func(x, y MapEntry) int { return cmp.Compare(x.Key, y.Key) })
	if slices.Equal(was, entries) {
		return was
	}
	return entries
}

// passThrough leads server names to the services whose tasks terminate TLS themselves. Whose a name is that several ask for, be it by
// HTTP or by TLS, is decided as for a route: nobody gets another app's clients by asking for their TLS. Where one of the services has a
// wildcard, the exact hosts of other services below it are named too: they are nearer.
func (b *builder) passThrough() {
	c := b.next
	if c.Options == nil {
		return
	}
	asking := map[string][]*part{}
	for _, p := range c.made.parts {
		if !p.service.Policy.Passthrough || p.backend == nil {
			continue
		}
		if len(c.Options.HTTPSBind) == 0 || p.backend.Mode != signalbox.TCP {
			c.Problems = append(c.Problems, noPassthrough(p.service, "passthrough", "there is no HTTPS entry, or the service does not speak TCP"))
			continue
		}
		for _, r := range p.service.Routes {
			switch {
			case !sniHost(r.Host):
				c.Problems = append(c.Problems, noPassthrough(p.service, r.Host, "a client can't ask for this host in the handshake"))
			case r.Path != "/" || r.Match != signalbox.Prefix:
				c.Problems = append(c.Problems, noPassthrough(p.service, r.String(), "no path is seen before TLS is terminated"))
			case !slices.Contains(asking[r.Host], p):
				asking[r.Host] = append(asking[r.Host], p)
			}
		}
	}
	owner := b.ownNames(asking)
	wild := false
	for host, p := range owner {
		c.SNI = append(c.SNI, MapEntry{host, p.backend.Name})
		wild = wild || strings.HasPrefix(host, "*.")
	}
	if wild {
		c.SNI = append(c.SNI, b.nearer(owner)...)
	}
	c.SNI = sortedLike(b.prev.SNI, c.SNI)
	c.Passthrough = len(c.SNI) > 0 || b.prev.Passthrough && !b.reload && len(c.Options.HTTPSBind) > 0
	b.reload = b.reload || c.Passthrough != b.prev.Passthrough
}

// ownNames decides whose the TLS of each name is that services ask to be passed through, and returns those that get it.
func (b *builder) ownNames(asking map[string][]*part) map[string]*part {
	owner := make(map[string]*part, len(asking))
	if len(asking) == 0 {
		return owner
	}
	for _, p := range b.next.made.parts {
		if p.backend == nil || p.backend.Mode == signalbox.TCP {
			continue
		}
		for _, r := range p.service.Routes {
			if rivals := asking[r.Host]; len(rivals) > 0 && !slices.Contains(rivals, p) {
				asking[r.Host] = append(rivals, p)
			}
		}
	}
	for host, parts := range asking {
		// An app that speaks HTTP beside TLS of its own sends its clients from the one to the other.
		rivals := slices.DeleteFunc(slices.Clone(parts), func(p *part) bool {
			return !p.service.Policy.Passthrough && slices.ContainsFunc(parts, func(o *part) bool {
				return o.service.Policy.Passthrough && o.service.App == p.service.App
			})
		})
		first := slices.MinFunc(rivals, func(x, y *part) int { return rightOf(x.service).right(rightOf(y.service)) })
		if first.service.Policy.Passthrough {
			owner[host] = first
		}
		b.enterNames(host, first, rivals)
	}
	slices.SortFunc(b.next.made.passed, func(x, y signalbox.Standing) int {
		return cmp.Or(x.Route.Compare(y.Route), cmp.Compare(x.Service, y.Service))
	})
	return owner
}

// enterNames notes how those fare that ask for the TLS of one host; of the rivals, first has the best right.
func (b *builder) enterNames(host string, first *part, rivals []*part) {
	for _, p := range rivals {
		if p != first && (p.service.Policy.Passthrough || first.service.Policy.Passthrough) {
			b.next.Problems = append(b.next.Problems, contestedName(p.service, first.service, host)...)
		}
		if !p.service.Policy.Passthrough {
			continue
		}
		s := signalbox.Standing{Service: p.service.ID, Route: signalbox.Route{Host: host, Path: "/", Match: signalbox.Prefix}, Owner: first.service.ID}
		if p == first {
			s.Share = 100
		} else {
			s.Why = rightOf(first.service).why(rightOf(p.service))
		}
		for _, o := range rivals {
			if o != p {
				s.Rivals = append(s.Rivals, o.service.ID)
			}
		}
		slices.Sort(s.Rivals)
		b.next.made.passed = append(b.next.made.passed, s)
	}
}

// rightOf is what decides between a service and another one.
func rightOf(s *signalbox.Service) *claim {
	return &claim{service: s.ID, priority: s.Policy.Priority, since: s.Since}
}

// nearer returns the exact hosts of services that speak HTTP under the wildcards among owner's.
func (b *builder) nearer(owner map[string]*part) []MapEntry {
	seen := map[string]bool{}
	var out []MapEntry
	for _, p := range b.next.made.parts {
		if p.backend == nil || p.backend.Mode == signalbox.TCP {
			continue
		}
		for _, r := range p.service.Routes {
			if owner[r.Host] == nil && owner[wildcardOf(r.Host)] != nil && !seen[r.Host] && sniHost(r.Host) {
				seen[r.Host] = true
				out = append(out, MapEntry{r.Host, toHTTPS})
			}
		}
	}
	return out
}

func noPassthrough(s *signalbox.Service, value, why string) signalbox.Problem {
	return signalbox.Problem{
		Code: "SB233", Severity: signalbox.SeverityError, App: s.App, Label: "tls", Value: cut(value),
		Message: "TLS can't be passed through: " + why, Action: fmt.Sprintf("%s is not reached under this name", s.ID),
	}
}

// contestedName returns the problems of the service that loses a server name, and of the one that keeps it.
func contestedName(loser, winner *signalbox.Service, host string) []signalbox.Problem {
	why := rightOf(winner).why(rightOf(loser))
	by := "under this name"
	if !loser.Policy.Passthrough {
		by += " by HTTPS"
	}
	return []signalbox.Problem{
		{
			Code: "SB234", Severity: signalbox.SeverityError, App: loser.App, Value: cut(host),
			Message: fmt.Sprintf("the TLS of %s belongs to %s, which %s", host, winner.ID, why),
			Action:  fmt.Sprintf("%s is not reached %s", loser.ID, by),
		},
		{
			Code: "SB234", Severity: signalbox.SeverityWarning, App: winner.App, Value: cut(host),
			Message: fmt.Sprintf("%s asks for the TLS of %s too", loser.ID, host),
			Action:  fmt.Sprintf("%s keeps it, because it %s", winner.ID, why),
		},
	}
}
