package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

// Directory is the aggregator's contract for what runs where. Its methods may be called from any goroutine, and do not wait.
type Directory interface {
	// Generation changes whenever an answer of the others may.
	Generation() uint64
	// Task returns the task that a service had at an address ("10.0.0.1:31000") at a moment: the one nearest in time, as
	// the clocks of a log line and of a table differ a little. False: the service never had one there.
	Task(service, addr string, at time.Time) (Task, bool)
	// Known reports whether a service exists now.
	Known(service string) bool
}

// Task is what a Directory knows about one task at one address.
type Task struct {
	ID    string
	State string // as the orchestrator has it
	// From and Until bound the time in which this answer holds. A zero Until: it still does.
	From, Until time.Time
}

// Placement says that a service's task is at an address.
type Placement struct {
	Service, Addr, Task, State string
}

// History is a Directory that remembers who was where before, because ports are used again while the log of the last user is
// still on its way. It is safe for concurrent use.
type History struct {
	keep       time.Duration
	generation atomic.Uint64

	mu       sync.RWMutex
	spans    map[place][]Task // oldest first; only the last may be open
	services map[string]bool
}

type place struct{ service, addr string }

// NewHistory returns an empty History that remembers what has ended for keep.
func NewHistory(keep time.Duration) *History {
	return &History{keep: keep, spans: map[place][]Task{}, services: map[string]bool{}}
}

// Update tells what exists from now on: all services, those without tasks too, and all placements.
func (h *History) Update(now time.Time, services []string, placements []Placement) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(map[place]bool, len(placements))
	changed := len(services) != len(h.services)
	for _, p := range placements {
		at := place{p.Service, p.Addr}
		seen[at] = true
		spans := h.spans[at]
		if n := len(spans); n > 0 && spans[n-1].Until.IsZero() {
			last := &spans[n-1]
			if last.ID == p.Task && last.State == p.State {
				continue
			}
			last.Until = now
		}
		h.spans[at] = append(spans, Task{ID: p.Task, State: p.State, From: now})
		changed = true
	}
	for at, spans := range h.spans {
		last := &spans[len(spans)-1]
		if last.Until.IsZero() && !seen[at] {
			last.Until = now
			changed = true
		}
		old := 0
		for old < len(spans) && !spans[old].Until.IsZero() && now.Sub(spans[old].Until) > h.keep {
			old++
		}
		switch {
		case old == len(spans):
			delete(h.spans, at)
			changed = true
		case old > 0:
			h.spans[at] = append([]Task(nil), spans[old:]...)
			changed = true
		}
	}
	known := make(map[string]bool, len(services))
	for _, s := range services {
		known[s] = true
		changed = changed || !h.services[s]
	}
	h.services = known
	if changed {
		h.generation.Add(1)
	}
}

// Generation implements Directory.
func (h *History) Generation() uint64 { return h.generation.Load() }

// Task implements Directory.
func (h *History) Task(service, addr string, at time.Time) (Task, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	spans := h.spans[place{service, addr}]
	if len(spans) == 0 {
		return Task{}, false
	}
	for i := len(spans) - 1; i > 0; i-- {
		if !at.Before(spans[i].From) {
			return spans[i], true
		}
	}
	return spans[0], true
}

// Known implements Directory.
func (h *History) Known(service string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.services[service]
}
