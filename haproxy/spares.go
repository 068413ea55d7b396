package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"signalbox"
)

// Spare backends are there before anybody needs them: free ones of the shapes that services have, which a new service takes, or one
// whose wanted state its own backend can't reach, by maps and addresses alone. A spare keeps its name for as long as it has a service,
// reloads included; whoever has left it stays noted until nothing of theirs is on its way any more.

const (
	sparePrefix = "spare-" // no service's backend begins so without a colon
	// DefaultSpareSlots is the default of Options.SpareSlots: about 60 MB of HAProxy's memory where they are used up, which takes some
	// 500 services.
	DefaultSpareSlots = 8192
	// At the least so many are free of the shapes that any cluster has, and of another one that is in use.
	commonSpares, rareSpares, portSpares = 32, 4, 8
)

func isSpare(name string) bool {
	return strings.HasPrefix(name, sparePrefix) && !strings.Contains(name, ":")
}

// Spare reports whether the backend was made for whoever needs it.
func (b *Backend) Spare() bool { return isSpare(b.Name) }

// free reports whether a backend can be taken: it runs, and has nothing of anybody's.
func (b *Backend) free() bool {
	return b.Retired && !b.Resting && isSpare(b.Name) && !slices.ContainsFunc(b.Slots, func(s Server) bool { return s.Admin != Maint })
}

// Rested returns the configuration with those spare backends free that have come to rest: nothing of the service that left them is on
// its way, or they have been loaded. at is what control.Applier found at rest, by name, with the service that left it.
func (c *Config) Rested(at map[string]signalbox.ServiceID) *Config {
	if c == nil || len(at) == 0 {
		return c
	}
	out := c
	for i, b := range c.Backends {
		if !b.Retired || !b.Resting || !isSpare(b.Name) {
			continue
		}
		if id, ok := at[b.Name]; !ok || id != b.Service {
			continue
		}
		if out == c {
			copied := *c
			copied.Backends = slices.Clone(c.Backends)
			out = &copied
		}
		f := *b
		f.Service, f.App, f.Resting, f.Policy, f.Check.Path = "", "", false, b.fixed(), ""
		out.Backends[i] = &f
	}
	return out
}

// spares are those that can be taken while a Config is built.
type spares struct {
	known bool
	free  map[shape][]*Backend
}

// spareFor returns the smallest free spare backend in which a service's has room, and a quarter of it to spare where that is to be had;
// nil if there is none, or if the service needs a reload anyway.
func (b *builder) spareFor(be *Backend, s *signalbox.Service) *Backend {
	if b.next.Options == nil || b.next.Options.SpareSlots == 0 || b.next.Options.ownListener(s) {
		return nil
	}
	kind, ok := be.shape()
	if !ok {
		return nil
	}
	if !b.spares.known {
		b.spares = spares{true, make(map[shape][]*Backend)}
		for _, f := range b.prev.Backends {
			if k, ok := f.shape(); ok && f.free() {
				b.spares.free[k] = append(b.spares.free[k], f)
			}
		}
	}
	free, need := b.spares.free[kind], be.used()
	best := -1
	better := func(i int) bool {
		x, y := free[i], free[best]
		roomyX, roomyY := need*4 <= len(x.Slots)*3, need*4 <= len(y.Slots)*3
		if roomyX != roomyY {
			return roomyX
		}
		if n := cmp.Compare(len(x.Slots), len(y.Slots)); n != 0 {
			return n < 0 == roomyX
		}
		return sameTimes(x.Check, be.Check) && !sameTimes(y.Check, be.Check)
	}
	for i, f := range free {
		if (need <= len(f.Slots) || f.canAdd(be.Sized(need), b.next.Options)) && (best < 0 || better(i)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	spare := free[best]
	b.spares.free[kind] = slices.Delete(slices.Clone(free), best, best+1)
	return spare
}

// sameTimes reports whether two checks are made as often.
func sameTimes(a, b signalbox.Check) bool {
	return a.Interval == b.Interval && a.Timeout == b.Timeout && a.Fall == b.Fall
}

// ownListener reports whether a service has a port of its own, which takes a reload.
func (o *Options) ownListener(s *signalbox.Service) bool {
	return s.Listen != 0 && (!o.ServicePorts.Has(s.Listen) || listeningOf(s) != listening{})
}

// taken returns slots of a spare backend with the tasks that was, which may be nil, has, each in the slot of the same number if there is
// one: what is known of them stays known.
func (b *Backend) taken(was *Backend) *Backend {
	out := &Backend{Name: b.Name, Slots: slices.Clone(b.Slots)}
	if was == nil || was.Retired {
		return out
	}
	inPlace := len(was.Slots) <= len(out.Slots)
	waits := !slices.ContainsFunc(was.Slots, Server.usable) // all of them do: nobody may have to wait for the first check again
	at := 0
	for i, s := range was.Slots {
		if s.Task == "" {
			continue
		}
		if inPlace {
			at = i
		}
		if at < len(out.Slots) {
			s.Name, s.Pace, s.Gated = out.Slots[at].Name, out.Slots[at].Pace, s.Gated && !waits
			out.Slots[at] = s
		}
		at++
	}
	return out
}

// spareSizes returns how many slots a spare backend has, small ones first.
func (b *builder) spareSizes() [3]int {
	small := min(b.floor, 8)
	if b.next.Options.MinSlots > 0 {
		small = b.floor
	}
	return [3]int{small, min(4*small, 1024), min(16*small, 1024)}
}

// use is what is known of the services of one shape.
type use struct {
	services [3]int // by the size that a spare backend for them has
	least    int
	times    map[signalbox.Check]int // how often each timing is asked for
}

// spares returns how many of each size should be free: half as many again as there are services of it, and some for services that are
// larger than any yet. A backend of a service's own serves no other one once that has left: where all services are replaced by others,
// each takes a spare.
func (u *use) spares() [3]int {
	n := u.services[0]*3/2 + u.least
	return [3]int{n, u.services[1] + max(2, n/16), u.services[2] + max(1, n/128)}
}

// refill sees to it that as many spare backends are free as services have their shape, which doubles them where they were used up, and
// takes away what is far too many. Others are held to the budget.
func (b *builder) refill() {
	c := b.next
	if c.Options == nil || c.Options.SpareSlots == 0 {
		return
	}
	sizes := b.spareSizes()
	uses := b.shapesInUse(sizes)
	total := 0
	for _, u := range uses {
		for i, n := range u.spares() {
			total += n * sizes[i]
		}
	}
	within := func(n int) int {
		if total <= c.Options.SpareSlots {
			return n
		}
		return n * c.Options.SpareSlots / total
	}
	numbers := make(map[string]bool) // a name that was given away means another shape
	for _, be := range b.prev.Backends {
		numbers[be.Name] = isSpare(be.Name)
	}
	have := make(map[shape]*[3]int)
	kept := make([]*Backend, 0, len(c.Backends))
	for _, be := range c.Backends {
		if kind, ok := be.shape(); be.Retired && isSpare(be.Name) && (!be.Resting || be.Service == "") {
			size := sizeOf(len(be.Slots), sizes)
			u := uses[kind]
			if !ok || size < 0 || u == nil {
				continue
			}
			if have[kind] == nil {
				have[kind] = &[3]int{}
			}
			if have[kind][size] >= 2*within(u.spares()[size]) {
				continue
			}
			have[kind][size]++
		}
		numbers[be.Name] = true
		kept = append(kept, be)
	}
	number := 0
	for _, kind := range sortedShapes(uses) {
		u := uses[kind]
		for i, n := range u.spares() {
			n = within(n)
			if have[kind] != nil {
				n -= have[kind][i]
			}
			for range n {
				name := ""
				for name == "" || numbers[name] {
					number++
					name = fmt.Sprintf("%s%04d", sparePrefix, number)
				}
				be := kind.spare(name, u.usual())
				be.Slots = b.slotting(be).grow(nil, sizes[i], nil)
				kept = append(kept, be)
			}
		}
	}
	sortBackends(kept)
	c.Backends = kept
}

// sizeOf returns which of the sizes a number of slots is nearest to from above, -1 for less than the smallest.
func sizeOf(slots int, sizes [3]int) int {
	for i := len(sizes) - 1; i >= 0; i-- {
		if slots >= sizes[i] {
			return i
		}
	}
	return -1
}

// sizeFor returns which of the sizes is the first with room for a number of tasks and a quarter to spare; the last one if none is.
func sizeFor(tasks int, sizes [3]int) int {
	for i, slots := range sizes {
		if tasks*4 <= slots*3 {
			return i
		}
	}
	return len(sizes) - 1
}

// shapesInUse returns the shapes that services have, and those that any cluster has.
func (b *builder) shapesInUse(sizes [3]int) map[shape]*use {
	uses := map[shape]*use{
		{mode: signalbox.HTTP, check: signalbox.CheckHTTP, retries: -1}: {least: commonSpares},
		{mode: signalbox.HTTP, check: signalbox.CheckTCP, retries: -1}:  {least: commonSpares},
	}
	if b.next.Options.ServicePorts != (PortRange{}) {
		uses[shape{mode: signalbox.TCP, check: signalbox.CheckTCP, retries: -1}] = &use{least: portSpares}
	}
	for _, p := range b.next.made.parts {
		if p.backend == nil || b.next.Options.ownListener(p.service) {
			continue
		}
		kind, ok := p.backend.shape()
		if !ok {
			continue
		}
		u := uses[kind]
		if u == nil {
			u = &use{least: rareSpares}
			uses[kind] = u
		}
		u.services[sizeFor(p.backend.used(), sizes)]++
		if u.times == nil {
			u.times = make(map[signalbox.Check]int)
		}
		c := p.backend.Check
		u.times[signalbox.Check{Interval: c.Interval, Timeout: c.Timeout, Fall: c.Fall}]++
	}
	return uses
}

// usual returns the timing of checks that most ask for.
func (u *use) usual() (best signalbox.Check) {
	for c, n := range u.times {
		if m := u.times[best]; n > m || n == m && cmp.Or(cmp.Compare(c.Interval, best.Interval), cmp.Compare(c.Timeout, best.Timeout), c.Fall-best.Fall) < 0 {
			best = c
		}
	}
	return best
}
