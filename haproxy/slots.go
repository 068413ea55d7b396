package haproxy

import (
	"fmt"
	"slices"

	"signalbox"
)

// assign places endpoints into slots: each task where was has it, new ones into free slots. checked says whether HAProxy
// checks them, so that a task of unknown health can wait for a verdict; weigh says how much one is preferred that is not suspect.
func assign(endpoints []signalbox.Endpoint, was *Backend, checked bool, floor int, weigh func(*signalbox.Endpoint) int) []Server {
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
		if !checked { // HAProxy refuses the port of a check that is off
			slots[i].CheckPort = 0
		}
	}
	var fresh []signalbox.Endpoint
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
			slots[at].take(e, &before[at], checked, weigh(&e))
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
		slots = grow(slots, roomy(floor, need))
	case need > len(slots):
		slots = grow(slots, roomy(len(slots), need))
	}
	// A slot that was just left comes last, so that a task which replaces another takes traffic before that one stops.
	free := make([]int, 0, len(slots)-used)
	for rank := range 3 {
		for i, s := range slots {
			if s.Task == "" && (i >= len(before) && rank == 0 || i < len(before) && before[i].leaving() == rank) {
				free = append(free, i)
			}
		}
	}
	for i, e := range fresh {
		slots[free[i]].take(e, nil, checked, weigh(&e))
	}
	keepLast(slots)
	return slots
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
	r.Retired = true
	r.Slots = slices.Clone(b.Slots)
	for i := range r.Slots {
		r.Slots[i].free()
	}
	return &r
}
