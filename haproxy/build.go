package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"signalbox"
)

// slotBudget is how many slots all backends may have before the floor of new ones falls.
const slotBudget = 16384

// part is what one service contributes to a Config. Parts are in the order of the table's services.
type part struct {
	service  *signalbox.Service
	backend  *Backend // nil: the service is refused
	claims   []claim
	problems []signalbox.Problem
}

// Build returns the state that HAProxy should have for a table, near to prev: tasks keep their slots, backends keep theirs, and
// whatever did not change keeps its pointer. A prev of nil means that nothing runs yet.
//
// A reload that has to happen anyway is used: nearly full backends grow, and those of services that have left go.
func Build(t *signalbox.Table, o *Options, prev *Config) *Config {
	if t == nil {
		t = &signalbox.Table{}
	}
	if prev == nil {
		prev = &Config{}
	}
	c := &Config{Options: o}
	b := builder{prev: prev, next: c, floor: floor(o, len(t.Services)), reload: prev.Options == nil || !prev.Options.equal(o)}
	b.readParts(t)
	b.placeBackends()
	b.resolveRoutes()
	b.bindListeners()
	b.settle()
	return c
}

// floor returns how many slots a new backend has at least.
func floor(o *Options, services int) int {
	if o != nil && o.MinSlots > 0 {
		return o.MinSlots
	}
	n := 16
	for n > 4 && n*services > slotBudget {
		n /= 2
	}
	return n
}

type builder struct {
	prev, next *Config
	floor      int
	reload     bool    // a reload has to happen
	changed    []*part // parts that prev does not have
	gone       []*part // parts that only prev has
	same       bool    // next.parts holds what prev.parts holds
}

// readParts takes over the parts of services that did not change, and makes those of the others.
func (b *builder) readParts(t *signalbox.Table) {
	var byID map[signalbox.ServiceID]*Backend
	if len(b.prev.parts) == 0 {
		byID = make(map[signalbox.ServiceID]*Backend, len(b.prev.Backends))
		for _, be := range b.prev.Backends {
			byID[be.Service] = be
		}
	}
	old := b.prev.parts
	parts := make([]*part, 0, len(t.Services))
	for _, s := range t.Services {
		for len(old) > 0 && old[0].service.ID < s.ID {
			b.gone = append(b.gone, old[0])
			old = old[1:]
		}
		var was *part
		if len(old) > 0 && old[0].service.ID == s.ID {
			was = old[0]
			old = old[1:]
		}
		if was != nil && was.service == s {
			parts = append(parts, was)
			continue
		}
		p := b.newPart(s, was, byID[s.ID])
		parts = append(parts, p)
		b.changed = append(b.changed, p)
		if was != nil {
			b.gone = append(b.gone, was)
		}
	}
	b.gone = append(b.gone, old...)
	b.next.parts = parts
	b.same = len(b.changed) == 0 && len(b.gone) == 0
}

// newPart makes the part of a service whose backend was be, or that of the part was.
func (b *builder) newPart(s *signalbox.Service, was *part, be *Backend) *part {
	p := &part{service: s}
	if !validID(s.ID) {
		p.problems = append(p.problems, signalbox.Problem{
			Code: "SB205", Severity: signalbox.SeverityError, App: s.App, Value: cut(string(s.ID)),
			Message: "the id has characters that no map of HAProxy can carry", Action: "the service is not routed",
		})
		return p
	}
	name := backendName(s)
	if was != nil && was.backend != nil {
		be = was.backend
	} else if be == nil {
		be = b.prev.Backend(name) // a retired one
	}
	if be != nil && be.Service != s.ID {
		be = nil
	}
	p.backend, p.problems = newBackend(name, s, be, b.floor)
	p.claims = p.claim()
	return p
}

// newBackend returns the backend of a service, with tasks in the slots that they have in was, or was itself if nothing changed.
func newBackend(name string, s *signalbox.Service, was *Backend, floor int) (*Backend, []signalbox.Problem) {
	be := &Backend{Name: name, Service: s.ID, App: s.App, Mode: s.Mode, Check: s.Check}
	if be.Mode != signalbox.TCP {
		be.Mode = signalbox.HTTP
	}
	var problems []signalbox.Problem
	be.Check, problems = soundCheck(s)
	be.Slots = assign(s.Endpoints, was, be.Check.Kind != signalbox.CheckOff, floor)
	if was != nil && be.equal(was) {
		return was, problems
	}
	return be, problems
}

// soundCheck returns the check with every value in its bounds.
func soundCheck(s *signalbox.Service) (signalbox.Check, []signalbox.Problem) {
	c := s.Check
	c.Interval = bound(c.Interval, time.Second, 10*time.Minute)
	c.Timeout = bound(c.Timeout, 100*time.Millisecond, 10*time.Minute)
	c.Fall = max(min(c.Fall, 1000), 0)
	switch c.Kind {
	case signalbox.CheckHTTP:
		if c.Path == "" {
			c.Path = "/"
		}
		if !validCheckPath(c.Path) {
			p := signalbox.Problem{
				Code: "SB206", Severity: signalbox.SeverityWarning, App: s.App, Value: cut(c.Path),
				Message: "the path of the health check can't be asked for", Action: "the check only connects",
			}
			c.Kind, c.Path = signalbox.CheckTCP, ""
			return c, []signalbox.Problem{p}
		}
	case signalbox.CheckOff:
		c = signalbox.Check{Kind: signalbox.CheckOff}
	default:
		c.Kind, c.Path = signalbox.CheckTCP, ""
	}
	return c, nil
}

func bound(d, low, high time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return max(min(d, high), low)
}

// placeBackends merges the backends of changed services into the previous order, and retires those of services that left.
func (b *builder) placeBackends() {
	if b.same {
		b.next.Backends, b.next.Names = b.prev.Backends, b.prev.Names
		return
	}
	change := make(map[string]*Backend, len(b.changed)+len(b.gone))
	for _, p := range b.gone {
		if p.backend != nil {
			change[p.backend.Name] = p.backend.retire()
		}
	}
	if len(b.prev.parts) == 0 {
		for _, be := range b.prev.Backends {
			change[be.Name] = be.retire()
		}
	}
	for _, p := range b.changed {
		if p.backend == nil {
			continue
		}
		be, taken := change[p.backend.Name]
		if !taken {
			be = b.prev.Backend(p.backend.Name)
		}
		if be != nil && !be.Retired && be.Service != p.service.ID {
			p.refuse(be)
			continue
		}
		change[p.backend.Name] = p.backend
	}
	b.next.Backends = make([]*Backend, 0, len(b.prev.Backends)+len(b.changed))
	for _, was := range b.prev.Backends {
		be, ok := change[was.Name]
		if !ok {
			be = was
		}
		delete(change, was.Name)
		b.next.Backends = append(b.next.Backends, be)
		b.reload = b.reload || len(be.Slots) != len(was.Slots) || be.Mode != was.Mode || be.Check != was.Check
	}
	if len(change) > 0 {
		b.reload = true
		for _, be := range change {
			if !be.Retired {
				b.next.Backends = append(b.next.Backends, be)
			}
		}
		slices.SortFunc(b.next.Backends, func(x, y *Backend) int { return cmp.Compare(x.Name, y.Name) })
	}
}

// refuse gives the backend up: another service's has its name.
func (p *part) refuse(be *Backend) {
	p.problems = append(p.problems, signalbox.Problem{
		Code: "SB205", Severity: signalbox.SeverityError, App: p.service.App, Value: cut(string(p.service.ID)),
		Message: fmt.Sprintf("the name of the backend is that of %s", be.Service), Action: "the service is not routed",
	})
	p.backend, p.claims = nil, nil
}

// settle uses a reload that has to happen anyway, and collects names and problems.
func (b *builder) settle() {
	c := b.next
	retired := 0
	for _, be := range c.Backends {
		if be.Retired {
			retired++
		}
	}
	if retired > max(16, len(c.Backends)/8) {
		b.reload = true
	}
	if b.reload {
		b.tidy(retired)
	}
	if !b.same || b.reload {
		c.Names = names(c.Backends, b.prev.Names)
	}
	for _, p := range c.parts {
		c.Problems = append(c.Problems, p.problems...)
	}
	slices.SortFunc(c.Problems, signalbox.Problem.Compare)
}

// tidy drops retired backends and lets nearly full ones grow.
func (b *builder) tidy(retired int) {
	c := b.next
	kept := make([]*Backend, 0, len(c.Backends)-retired)
	grown := make(map[*Backend]*Backend)
	for _, be := range c.Backends {
		if be.Retired {
			continue
		}
		if size := roomy(len(be.Slots), be.used()); size > len(be.Slots) {
			g := *be
			g.Slots = grow(slices.Clone(be.Slots), size)
			grown[be] = &g
			be = &g
		}
		kept = append(kept, be)
	}
	c.Backends = kept
	if len(grown) == 0 {
		return
	}
	c.parts = slices.Clone(c.parts)
	for i, p := range c.parts {
		if g := grown[p.backend]; g != nil {
			q := *p
			q.backend = g
			c.parts[i] = &q
		}
	}
}

// names returns the map of names, which is prev if it says the same.
func names(backends []*Backend, prev []MapEntry) []MapEntry {
	same := len(backends) == len(prev)
	for i := 0; same && i < len(prev); i++ {
		same = prev[i] == MapEntry{backends[i].Name, string(backends[i].Service)}
	}
	if same {
		return prev
	}
	out := make([]MapEntry, len(backends))
	for i, be := range backends {
		out[i] = MapEntry{be.Name, string(be.Service)}
	}
	return out
}

// Backend returns the backend with a name, or nil.
func (c *Config) Backend(name string) *Backend {
	i, ok := slices.BinarySearchFunc(c.Backends, name, func(b *Backend, name string) int { return cmp.Compare(b.Name, name) })
	if !ok {
		return nil
	}
	return c.Backends[i]
}

func (b *Backend) equal(o *Backend) bool {
	return b == o || b.Name == o.Name && b.Service == o.Service && b.App == o.App && b.Mode == o.Mode && b.Check == o.Check &&
		b.Retired == o.Retired && slices.Equal(b.Slots, o.Slots)
}

// cut shortens a value for a problem.
func cut(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}
