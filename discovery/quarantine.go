package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"signalbox"
)

// Guard says which shrinks of a source's state are suspicious and what confirms one. A shrink is what is missing without an
// explanation, from one state to the next.
type Guard struct {
	// Apps and Tasks are the shares, 0 to 1, of the apps and tasks whose unexplained absence is suspicious when exceeded.
	Apps, Tasks float64
	// AtLeast is how many apps or tasks must be missing for a share to count. A state without any task after one with tasks is
	// suspicious whatever their number.
	AtLeast int
	// Reads is how many whole reads must miss the same, over at least Span, to confirm a shrink.
	Reads int
	Span  time.Duration
}

// DefaultGuard returns the guard that holds unless an operator says otherwise.
func DefaultGuard() Guard {
	return Guard{Apps: 0.2, Tasks: 0.5, AtLeast: 10, Reads: 3, Span: 15 * time.Second}
}

// losses are the apps and tasks that a state lacks without explanation.
type losses struct {
	apps  map[string]bool
	tasks map[string]bool
}

func (l losses) empty() bool { return len(l.apps) == 0 && len(l.tasks) == 0 }

func (l losses) within(o losses) bool {
	for a := range l.apps {
		if !o.apps[a] {
			return false
		}
	}
	for t := range l.tasks {
		if !o.tasks[t] {
			return false
		}
	}
	return true
}

func (l losses) without(o losses) losses {
	rest := losses{apps: map[string]bool{}, tasks: map[string]bool{}}
	for a := range l.apps {
		if !o.apps[a] {
			rest.apps[a] = true
		}
	}
	for t := range l.tasks {
		if !o.tasks[t] {
			rest.tasks[t] = true
		}
	}
	return rest
}

func (l losses) String() string {
	return fmt.Sprintf("%d apps and %d tasks are missing without explanation", len(l.apps), len(l.tasks))
}

// suspicion is a shrink under observation: what was missing when it began, and how often it has been so since.
type suspicion struct {
	missing losses
	reads   int
	since   time.Time // start of the first read that missed it
}

// ruling is what follows from one state that a source has read.
type ruling struct {
	serve     []*signalbox.Service // what to serve
	held      *suspicion           // nil: nothing is held back
	confirmed bool                 // a held shrink was confirmed by this read
}

// judge decides what to serve after good, given next. While a shrink is under suspicion everything else of next is served, and
// what is missing stays. at is when the read of next began; only whole reads confirm. accept lets every shrink pass.
func (g Guard) judge(good, next []*signalbox.Service, explained func(app, task string) bool, held *suspicion,
	whole bool, at time.Time, accept bool,
) ruling {
	lost := missing(good, next, explained)
	if accept || !g.suspicious(good, next, lost) {
		return ruling{serve: next, confirmed: held != nil && accept}
	}
	if held == nil || !held.missing.within(lost) {
		h := &suspicion{missing: lost, since: at}
		if whole {
			h.reads = 1
		}
		return ruling{serve: overlay(good, next, lost), held: h}
	}
	h := *held
	if whole {
		if h.reads == 0 {
			h.since = at
		}
		h.reads++
	}
	if h.reads < g.Reads || at.Sub(h.since) < g.Span {
		return ruling{serve: overlay(good, next, lost), held: &h}
	}
	rest := lost.without(h.missing)
	if !g.suspicious(good, next, rest) {
		return ruling{serve: next, confirmed: true}
	}
	return ruling{
		serve: overlay(good, next, rest), confirmed: true,
		held: &suspicion{missing: rest, reads: 1, since: at},
	}
}

func (g Guard) suspicious(good, next []*signalbox.Service, lost losses) bool {
	if lost.empty() {
		return false
	}
	if len(lost.tasks) > 0 && !anyTask(next) || len(lost.apps) > 0 && len(next) == 0 {
		return true
	}
	if len(lost.apps) < g.AtLeast && len(lost.tasks) < g.AtLeast {
		return false
	}
	apps, tasks := map[string]bool{}, map[string]bool{}
	for _, s := range good {
		apps[s.App] = true
		for _, e := range s.Endpoints {
			tasks[e.Task] = true
		}
	}
	return len(lost.apps) >= g.AtLeast && float64(len(lost.apps)) > g.Apps*float64(len(apps)) ||
		len(lost.tasks) >= g.AtLeast && float64(len(lost.tasks)) > g.Tasks*float64(len(tasks))
}

func anyTask(state []*signalbox.Service) bool {
	return slices.ContainsFunc(state, func(s *signalbox.Service) bool { return len(s.Endpoints) > 0 })
}

// missing returns what good has and next lacks. A task that drains was on its way out and is not missed; services with equal
// pointers are passed over unread.
func missing(good, next []*signalbox.Service, explained func(app, task string) bool) losses {
	var lost losses
	seen := map[string]bool{} // the apps to look at again
	signalbox.Walk(good, next, func(a, b *signalbox.Service) {
		if a == nil || a == b {
			return
		}
		if b == nil && !explained(a.App, "") {
			if lost.apps == nil {
				lost.apps = map[string]bool{}
			}
			lost.apps[a.App], seen[a.App] = true, true
		}
		for _, e := range a.Endpoints {
			if e.State == signalbox.Draining || b != nil && hasTask(b, e.Task) || explained(a.App, e.Task) {
				continue
			}
			if lost.tasks == nil {
				lost.tasks = map[string]bool{}
			}
			lost.tasks[e.Task], seen[a.App] = true, true
		}
	})
	if len(seen) == 0 {
		return lost
	}
	for _, s := range next {
		if !seen[s.App] {
			continue
		}
		delete(lost.apps, s.App)
		for _, e := range s.Endpoints {
			delete(lost.tasks, e.Task)
		}
	}
	return lost
}

// hasTask reports whether an endpoint of s belongs to a task; endpoints are sorted by task.
func hasTask(s *signalbox.Service, task string) bool {
	_, ok := slices.BinarySearchFunc(s.Endpoints, task, func(e signalbox.Endpoint, t string) int { return cmp.Compare(e.Task, t) })
	return ok
}

// overlay returns next with what of good is lost.
func overlay(good, next []*signalbox.Service, lost losses) []*signalbox.Service {
	out := make([]*signalbox.Service, 0, max(len(good), len(next)))
	signalbox.Walk(good, next, func(a, b *signalbox.Service) {
		switch {
		case b == nil:
			if lost.apps[a.App] {
				out = append(out, a)
			}
		case a == nil || a == b:
			out = append(out, b)
		default:
			var kept []signalbox.Endpoint
			for _, e := range a.Endpoints {
				if lost.tasks[e.Task] && !hasTask(b, e.Task) {
					kept = append(kept, e)
				}
			}
			if kept != nil {
				s := *b
				s.Endpoints = slices.Concat(b.Endpoints, kept)
				slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
				b = &s
			}
			if a.Equal(b) {
				b = a
			}
			out = append(out, b)
		}
	})
	return out
}
