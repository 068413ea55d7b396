package haproxy

import (
	"math"
	"slices"
	"time"

	"signalbox"
)

// Pace says how often HAProxy checks whoever is in a slot. It stands in the file: no command changes the interval of a check.
type Pace string

// The paces.
const (
	// Active is that of tasks on this machine: every 2 s, or at the app's own interval.
	Active Pace = ""
	// Quick is that of newcomers whose health nobody knows: their first check comes soon, whatever the app's own interval is.
	Quick Pace = "quick"
	// Far is that of tasks on other machines, whose nearest machine checks them: so seldom that all machines together ask a task a
	// bounded number of times a second. An error of a request brings the next check forward.
	Far Pace = "far"
)

const (
	farLeast = 30 * time.Second
	// What all machines together may ask a task in a second: one that is up and elsewhere, and one that is down or new.
	farRate, soonRate = 10, 100
)

// spread returns how often each machine of a fleet may ask so that all of them ask rate times a second, within bounds.
func (o *Options) spread(rate int, least, most time.Duration) time.Duration {
	fleet := time.Duration(max(o.FleetSize, 1))
	return min(max(fleet*time.Second/time.Duration(rate), least), most)
}

// FarInterval returns how often a task on another machine is checked, at the least every own if the app asks for that interval.
func (o *Options) FarInterval(own time.Duration) time.Duration {
	return max(o.spread(farRate, farLeast, 10*time.Minute), own)
}

// soonInterval returns how often a task is checked that is down, and one whose health nobody knows. A check that is in maintenance wakes
// up once an interval: a newcomer waits for so long at most.
func (o *Options) soonInterval() time.Duration {
	return o.spread(soonRate, 2*time.Second, 10*time.Second)
}

// slotting is how the endpoints of one backend take their slots.
type slotting struct {
	checked bool // HAProxy checks them, so that a task of unknown health can wait for a verdict
	floor   int  // least number of slots of a new backend
	fleet   int  // machines
	weigh   func(*signalbox.Endpoint) int
	near    func(*signalbox.Endpoint) bool // nil: this machine is not known, and every task counts as near
}

// pace returns the pace that fits an endpoint.
func (g *slotting) pace(e *signalbox.Endpoint, gated bool) Pace {
	switch {
	case !g.checked:
		return Active
	case gated:
		return Quick
	case g.near == nil || g.near(e):
		return Active
	}
	return Far
}

// otherwise are the paces in the order in which a task takes them, its own first.
func (p Pace) otherwise() []Pace {
	switch p {
	case Quick:
		return []Pace{Quick, Active, Far}
	case Far:
		return []Pace{Far, Active, Quick}
	}
	return []Pace{Active, Quick, Far}
}

// quickAt reports whether a new slot is a quick one: the fourth of each eight, so that one that grew is like one that was made so.
func quickAt(i int) bool { return i%8 == 3 }

// shares returns how many of size slots have each pace where near and far tasks are known.
func (g *slotting) shares(size, near, far int) map[Pace]int {
	quick := (size + 4) / 8
	rest := size - quick
	if g.near == nil {
		return map[Pace]int{Quick: quick, Active: rest}
	}
	// A task that nobody knows yet is on this machine as likely as on any other; of a single machine nobody knows what it is.
	chance := 1 / float64(g.fleet+1)
	least := min(1, size/8)
	if near+far == 0 { // a spare one, whoever takes it
		least = min(1, size/4)
	}
	active := int(math.Round(float64(rest) * (float64(near) + chance) / float64(near+far+1)))
	active = max(min(active, rest-least), least)
	return map[Pace]int{Quick: quick, Active: active, Far: rest - active}
}

// count returns how many of the endpoints are near, and how many far.
func (g *slotting) count(endpoints []signalbox.Endpoint) (near, far int) {
	for i := range endpoints {
		if g.pace(&endpoints[i], false) == Far {
			far++
		}
	}
	return len(endpoints) - far, far
}

// grow appends free slots up to a size, of the paces that are missing for the endpoints.
func (g *slotting) grow(slots []Server, size int, endpoints []signalbox.Endpoint) []Server {
	near, far := g.count(endpoints)
	missing := g.shares(size, near, far)
	for _, s := range slots {
		missing[s.Pace]--
	}
	next := len(slots)
	slots = grow(slots, size)
	for ; next < size; next++ {
		p := Active
		switch {
		case quickAt(next):
			p = Quick
		case missing[Active] <= 0:
			p = Far
		}
		missing[p]--
		slots[next].Pace = p
	}
	return slots
}

// repace gives each task's slot the pace that fits it, and free slots what is missing then. It is for a reload that happens anyway,
// and returns slots itself while every task has the pace that fits it and each pace that is in use a free slot.
func (g *slotting) repace(slots []Server, endpoints []signalbox.Endpoint) []Server {
	fit := make(map[string]Pace, len(slots))
	free, used := map[Pace]int{}, map[Pace]int{}
	wrong := false
	for _, s := range slots {
		i := slices.IndexFunc(endpoints, func(e signalbox.Endpoint) bool { return e.Task == s.Task && e.Addr == s.Addr })
		if s.Task == "" || i < 0 {
			free[s.Pace]++
			continue
		}
		p := g.pace(&endpoints[i], s.Gated)
		fit[s.Name] = p
		used[p]++
		wrong = wrong || p != s.Pace
	}
	near, far := g.count(endpoints)
	missing := g.shares(len(slots), near, far)
	for p, n := range used {
		missing[p] -= n
		wrong = wrong || free[p] == 0 && missing[p] > 0
	}
	if !wrong && (free[Quick] > 0 || missing[Quick] <= 0) {
		return slots
	}
	slots = slices.Clone(slots)
	// Free slots keep their pace while that is missing; the rest take what is left.
	var rest []int
	for i := range slots {
		s := &slots[i]
		if p, ok := fit[s.Name]; ok {
			s.Pace = p
		} else if missing[s.Pace] > 0 {
			missing[s.Pace]--
		} else {
			rest = append(rest, i)
		}
	}
	for _, p := range []Pace{Quick, Active, Far} {
		for ; missing[p] > 0 && len(rest) > 0; missing[p]-- {
			slots[rest[0]].Pace = p
			rest = rest[1:]
		}
	}
	return slots
}
