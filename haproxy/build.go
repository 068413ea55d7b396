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

// made is what a Config was made from.
type made struct {
	services []*signalbox.Service // the table's
	parts    []*part              // parts[i] is services[i]'s
	troubled []*part              // the parts with problems
	claims   []*claim             // sorted
	passed   []signalbox.Standing // of the claims to server names whose TLS is passed through, sorted
}

// part is what one service contributes to a Config.
type part struct {
	service  *signalbox.Service
	backend  *Backend // nil: the service is refused
	claims   []*claim // sorted
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
	b := builder{prev: prev, next: &Config{Options: o}, floor: floor(o, len(t.Services))}
	b.reload = prev.Options == nil || !prev.Options.loadsAs(o)
	b.rejudge = prev.Options != nil && !prev.Options.judgesAs(o)
	b.near = o.neighbourhood()
	b.readParts(t)
	b.placeBackends()
	b.bindListeners()
	b.resolveRoutes()
	b.chooseCertificates()
	b.openWays()
	if b.reload {
		b.tidy()
		b.refill()
	}
	b.collectSettings()
	b.collectProblems()
	return b.next
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
	reload     bool // a reload has to happen
	rejudge    bool // the options change what becomes of the same service
	near       *neighbourhood
	spares     spares
	retired    map[signalbox.ServiceID]*Backend // by the service that left; nil until it is asked for
	changed    []*part                          // parts that prev does not have
	gone       []*part                          // parts that only prev has
}

// readParts takes over the parts of services that did not change, and makes those of the others.
func (b *builder) readParts(t *signalbox.Table) {
	was, next := &b.prev.made, &b.next.made
	var byID map[signalbox.ServiceID]*Backend
	if len(was.services) == 0 {
		byID = make(map[signalbox.ServiceID]*Backend, len(b.prev.Backends))
		for _, be := range b.prev.Backends {
			if was := byID[be.Service]; was == nil || was.Retired {
				byID[be.Service] = be
			}
		}
	}
	next.services = t.Services
	next.parts = make([]*part, 0, len(t.Services))
	i := 0
	for _, s := range t.Services {
		if !b.rejudge && i < len(was.services) && was.services[i] == s {
			next.parts = append(next.parts, was.parts[i])
			i++
			continue
		}
		for i < len(was.services) && was.services[i].ID < s.ID {
			b.gone = append(b.gone, was.parts[i])
			i++
		}
		if !b.rejudge && i < len(was.services) && was.services[i] == s {
			next.parts = append(next.parts, was.parts[i])
			i++
			continue
		}
		be := byID[s.ID]
		if i < len(was.services) && was.services[i].ID == s.ID {
			b.gone = append(b.gone, was.parts[i])
			be = was.parts[i].backend
			i++
		}
		p := b.newPart(s, be)
		next.parts = append(next.parts, p)
		b.changed = append(b.changed, p)
	}
	b.gone = append(b.gone, was.parts[i:]...)
}

// newPart makes the part of a service whose backend was be, if it had one.
func (b *builder) newPart(s *signalbox.Service, be *Backend) *part {
	p := &part{service: s}
	if !validID(s.ID) {
		p.problems = append(p.problems, signalbox.Problem{
			Code: "SB205", Severity: signalbox.SeverityError, App: s.App, Value: cut(string(s.ID)),
			Message: "the id has characters that no map of HAProxy can carry", Action: "the service is not routed",
		})
		return p
	}
	name := backendName(s)
	if be == nil {
		be = b.left(s.ID)
	}
	switch {
	case be == nil || be.Service != s.ID || be.Name != name && !isSpare(be.Name):
		be = nil
	default:
		name = be.Name
	}
	p.backend, p.problems = b.newBackend(name, s, be)
	if be == nil || !p.backend.Fits(be) || len(p.backend.Slots) != len(be.Slots) && !be.canAdd(p.backend, b.next.Options) {
		if spare := b.spareFor(p.backend, s); spare != nil {
			p.backend, p.problems = b.newBackend(spare.Name, s, spare.taken(be))
			p.backend.vacant(spare)
		}
	}
	p.claim()
	return p
}

// left returns the backend that a service has left, or nil.
func (b *builder) left(id signalbox.ServiceID) *Backend {
	if b.retired == nil {
		b.retired = make(map[signalbox.ServiceID]*Backend)
		for _, be := range b.prev.Backends {
			if be.Retired && be.Service != "" {
				b.retired[be.Service] = be
			}
		}
	}
	return b.retired[id]
}

// newBackend returns the backend of a service, with tasks in the slots that they have in was, or was itself if nothing changed.
func (b *builder) newBackend(name string, s *signalbox.Service, was *Backend) (*Backend, []signalbox.Problem) {
	be := &Backend{Name: name, Service: s.ID, App: s.App, Mode: s.Mode, Check: s.Check}
	if be.Mode != signalbox.TCP {
		be.Mode = signalbox.HTTP
	}
	var problems []signalbox.Problem
	be.Check, problems = soundCheck(s)
	policy, more := soundPolicy(s, b.next.Options)
	problems = append(problems, more...)
	if was != nil && policy.Equal(was.Policy) {
		policy = was.Policy
	}
	be.Policy = policy
	be.Slots = b.slotting(be).assign(s.Endpoints, was)
	if was != nil && be.equal(was) {
		return was, problems
	}
	return be, problems
}

// slotting returns how the tasks of a backend take their slots.
func (b *builder) slotting(be *Backend) *slotting {
	g := &slotting{checked: be.checked(), floor: b.floor, weigh: weighAlike, fleet: 1}
	if o := b.next.Options; o != nil {
		g.fleet, g.weigh = max(o.FleetSize, 1), b.near.weigher(be, o.Prefer)
	}
	if b.near != nil {
		g.near = b.near.has
	}
	return g
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
	change := make(map[string]*Backend, len(b.changed)+len(b.gone))
	for _, p := range b.gone {
		if p.backend != nil {
			change[p.backend.Name] = p.backend.retire()
		}
	}
	if len(b.prev.made.services) == 0 {
		for _, be := range b.prev.Backends {
			change[be.Name] = be.retire().emptied()
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
	if len(change) == 0 {
		b.next.Backends = b.prev.Backends
		return
	}
	b.next.Backends = slices.Clone(b.prev.Backends)
	added := false
	for name, be := range change {
		i, ok := slices.BinarySearchFunc(b.prev.Backends, name, func(b *Backend, name string) int { return cmp.Compare(b.Name, name) })
		if !ok {
			b.next.Backends = append(b.next.Backends, be)
			added = true
			continue
		}
		was := b.prev.Backends[i]
		b.next.Backends[i] = be
		b.reload = b.reload || !be.Fits(was) || len(be.Slots) != len(was.Slots) && !was.canAdd(be, b.next.Options)
	}
	if added {
		b.reload = true
		sortBackends(b.next.Backends)
	}
}

func sortBackends(all []*Backend) {
	slices.SortFunc(all, func(x, y *Backend) int { return cmp.Compare(x.Name, y.Name) })
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// refuse gives the backend up: another service's has its name.
func (p *part) refuse(be *Backend) {
	p.problems = append(p.problems, signalbox.Problem{
		Code: "SB205", Severity: signalbox.SeverityError, App: p.service.App, Value: cut(string(p.service.ID)),
		Message: fmt.Sprintf("the name of the backend is that of %s", be.Service), Action: "the service is not routed",
	})
	p.backend, p.claims = nil, nil
}

// tidy uses a reload that has to happen anyway: retired backends go, but for spare ones, nearly full ones grow, and slots take the
// paces that fit them.
func (b *builder) tidy() {
	c := b.next
	endpoints := make(map[*Backend][]signalbox.Endpoint, len(c.Backends))
	for _, p := range c.made.parts {
		if p.backend != nil {
			endpoints[p.backend] = p.service.Endpoints
		}
	}
	kept := make([]*Backend, 0, len(c.Backends))
	grown := make(map[*Backend]*Backend)
	for _, be := range c.Backends {
		if be.Retired {
			if isSpare(be.Name) {
				kept = append(kept, be)
			}
			continue
		}
		g, slots := b.slotting(be), be.Slots
		if size := roomy(len(slots), be.used()); size > len(slots) {
			slots = g.grow(slices.Clone(slots), size, endpoints[be])
		}
		if slots = g.repace(slots, endpoints[be]); !sameSlice(slots, be.Slots) {
			bigger := *be
			bigger.Slots = slots
			grown[be] = &bigger
			be = &bigger
		}
		kept = append(kept, be)
	}
	c.Backends = kept
	if len(grown) == 0 {
		return
	}
	// A part belongs to an earlier Config too: it is replaced, not changed.
	for i, p := range c.made.parts {
		if g := grown[p.backend]; g != nil {
			q := *p
			q.backend = g
			c.made.parts[i] = &q
		}
	}
}

// collectProblems adds the problems of parts to those of conflicts between them.
func (b *builder) collectProblems() {
	c := b.next
	gone := make(map[signalbox.ServiceID]bool, len(b.gone))
	for _, p := range b.gone {
		gone[p.service.ID] = true
	}
	for _, p := range b.prev.made.troubled {
		if !gone[p.service.ID] {
			c.made.troubled = append(c.made.troubled, p)
		}
	}
	for _, p := range b.changed {
		if len(p.problems) > 0 {
			c.made.troubled = append(c.made.troubled, p)
		}
	}
	for _, p := range c.made.troubled {
		c.Problems = append(c.Problems, p.problems...)
	}
	slices.SortFunc(c.Problems, signalbox.Problem.Compare)
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
		b.Policy.Equal(o.Policy) && b.Retired == o.Retired && b.Resting == o.Resting && slices.Equal(b.Slots, o.Slots)
}

// cut shortens a value for a problem.
func cut(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}
