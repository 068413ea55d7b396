package haproxy

import (
	"fmt"
	"math"
	"slices"

	"signalbox"
)

// assign places endpoints into slots: each task where was has it, new ones into free slots, of the pace that fits them if there are any.
func (g *slotting) assign(endpoints []signalbox.Endpoint, was *Backend) []Server {
	if !slices.IsSortedFunc(endpoints, signalbox.Endpoint.Compare) {
		endpoints = slices.Clone(endpoints)
		slices.SortFunc(endpoints, signalbox.Endpoint.Compare)
	}
	var before []Server
	if was != nil {
		before = was.Slots
	}
	slots := slices.Clone(before)
	for i := range slots {
		slots[i].free()
		if !g.checked { // HAProxy refuses the port of a check that is off
			slots[i].CheckPort = 0
		}
	}
	var fresh []signalbox.Endpoint
	var strays []stray
	for i, e := range endpoints {
		if i > 0 && e.Task == endpoints[i-1].Task && e.Addr == endpoints[i-1].Addr || !e.Addr.IsValid() || e.Addr.Port() == 0 || e.Task == "" {
			continue
		}
		at := slices.IndexFunc(before, func(s Server) bool { return s.Task == e.Task && s.Addr == e.Addr })
		if at < 0 {
			at = slices.IndexFunc(before, func(s Server) bool { return s.anonymous() && s.Addr == e.Addr })
		}
		if at >= 0 && slots[at].Task != "" {
			at = -1
		}
		switch {
		case at >= 0:
			s := &slots[at]
			s.take(e, &before[at], g.checked, g.weigh(&e))
			if s.usable() && s.Pace != g.pace(&e, false) {
				strays = append(strays, stray{e, at})
			}
		case e.State != signalbox.Draining: // one that never took traffic needs no slot to end it
			fresh = append(fresh, e)
		}
	}
	used := 0
	for _, s := range slots {
		if s.Task != "" {
			used++
		}
	}
	need := used + len(fresh)
	switch {
	case len(slots) == 0:
		slots = g.grow(slots, roomy(g.floor, need), endpoints)
	case need > len(slots):
		slots = g.grow(slots, roomy(len(slots), need), endpoints)
	}
	for _, e := range fresh {
		var taken Server
		taken.take(e, nil, g.checked, NormalWeight)
		at := freeSlot(slots, before, g.pace(&e, taken.Gated).otherwise())
		slots[at].take(e, nil, g.checked, g.weigh(&e))
	}
	// A task in a slot of another pace, a newcomer above all that has its verdict, goes to one of its own. It takes traffic there before
	// it stops here, and what it has begun here ends here. One that goes may make room for another. Where nothing else happens nobody
	// moves, so that the same table leads to the same slots.
	for moved := !slices.Equal(slots, before); moved; {
		moved = false
		strays = slices.DeleteFunc(strays, func(m stray) bool {
			to := freeSlot(slots, before, []Pace{g.pace(&m.endpoint, false)})
			if to < 0 {
				return false
			}
			from := slots[m.at]
			slots[m.at].free()
			slots[to].take(m.endpoint, &from, g.checked, g.weigh(&m.endpoint))
			moved = true
			return true
		})
	}
	keepLast(slots)
	return slots
}

// stray is a task in a slot of another pace than its own.
type stray struct {
	endpoint signalbox.Endpoint
	at       int
}

// freeSlot returns a free slot of one of the paces, the first of them if there is one, or -1. A slot that was usable and just left comes
// last whatever its pace, so that a task which replaces another takes traffic before that one stops.
func freeSlot(slots, before []Server, paces []Pace) int {
	best, at := math.MaxInt, -1
	for i, s := range slots {
		pace := slices.Index(paces, s.Pace)
		if s.Task != "" || pace < 0 {
			continue
		}
		value := 10 * pace
		if i < len(before) {
			rank := before[i].leaving()
			value += rank
			if rank == 2 {
				value += 100
			}
		}
		if value < best {
			best, at = value, i
		}
	}
	return at
}

// keepLast sees to it that no backend loses its last server by our own hand: where none would be usable, those that should drain
// serve on, least preferred, until another one is. An orchestrator that replaces tasks tells of the deaths before it tells of the
// new ones' health.
func keepLast(slots []Server) {
	if slices.ContainsFunc(slots, Server.usable) {
		return
	}
	for i := range slots {
		if s := &slots[i]; s.Admin == Drain && !s.Gated {
			s.Admin, s.Weight = Ready, SuspectWeight
		}
	}
}

// usable reports whether requests reach the server as far as it is ours to say.
func (s Server) usable() bool { return s.Admin == Ready && !s.Gated }

// anonymous reports whether a slot serves a task that nobody wrote down, as after the death of a controller.
func (s Server) anonymous() bool { return s.Task == "" && s.Admin != Maint }

// leaving ranks a slot that was left: 0 if nothing was in it, 1 if no requests reached it, 2 if it was usable.
func (s Server) leaving() int {
	switch {
	case s.usable():
		return 2
	case s.Task != "" || s.Admin != Maint:
		return 1
	}
	return 0
}

// roomy doubles size until a quarter is free.
func roomy(size, need int) int {
	size = max(size, 1)
	for need*4 > size*3 {
		size *= 2
	}
	return size
}

// grow appends free slots up to a size.
func grow(slots []Server, size int) []Server {
	for i := len(slots); i < size; i++ {
		slots = append(slots, Server{Name: fmt.Sprintf("s%d", i+1), Admin: Maint, Weight: NormalWeight})
	}
	return slots
}

// free empties a slot. Its address and weight stay, as they do in HAProxy.
func (s *Server) free() { s.Task, s.Admin, s.Gated = "", Maint, false }

// take fills a slot with an endpoint; was is the slot as it was if the task had it already.
func (s *Server) take(e signalbox.Endpoint, was *Server, checked bool, weight int) {
	s.Task, s.Addr, s.CheckPort = e.Task, e.Addr, e.CheckPort
	if s.CheckPort == e.Addr.Port() || !checked {
		s.CheckPort = 0
	}
	served := was != nil && was.Admin == Ready
	gated := served && was.Gated
	switch e.State {
	case signalbox.Draining:
		if was != nil && was.Task != "" && was.Admin == Maint { // nothing is left to end, or its drain is over
			return
		}
		// A preference would lead requests to it all the same.
		s.Admin, s.Weight, s.Gated = Drain, min(s.Weight, NormalWeight), was != nil && was.Gated
	case signalbox.Down:
		s.Admin, s.Gated = Maint, false
	case signalbox.Suspect:
		s.Admin, s.Weight, s.Gated = Ready, SuspectWeight, gated && checked
	case signalbox.Unknown:
		// Whoever served already goes on: not knowing is no verdict.
		s.Admin, s.Weight, s.Gated = Ready, weight, checked && (!served || gated)
	default:
		s.Admin, s.Weight, s.Gated = Ready, weight, false
	}
}

func (b *Backend) used() int {
	n := 0
	for _, s := range b.Slots {
		if s.Task != "" {
			n++
		}
	}
	return n
}

// retire returns the backend without tasks.
func (b *Backend) retire() *Backend {
	if b.Retired {
		return b
	}
	r := *b
	r.Retired, r.Resting = true, isSpare(b.Name)
	r.Slots = slices.Clone(b.Slots)
	for i := range r.Slots {
		r.Slots[i].free()
	}
	return &r
}

// emptied returns a retired backend without what nobody wrote down, as after the death of a controller.
func (b *Backend) emptied() *Backend {
	if !slices.ContainsFunc(b.Slots, func(s Server) bool { return s.Admin != Maint }) {
		return b
	}
	e := *b
	e.Resting, e.Slots = isSpare(b.Name), slices.Clone(b.Slots)
	for i := range e.Slots {
		e.Slots[i].free()
	}
	return &e
}

// vacant leaves the slots that no task is in as they are in the backend that was taken.
func (b *Backend) vacant(spare *Backend) {
	for i := range spare.Slots {
		if b.Slots[i].Task == "" {
			b.Slots[i] = spare.Slots[i]
		}
	}
}
