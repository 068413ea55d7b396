package metrics

import (
	"slices"
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
	// About returns what is known about a service, zero if there is nothing.
	About(service string) About
	// Known reports whether a service exists now.
	Known(service string) bool
}

// About is what the owner of a service says about it.
type About struct {
	Routes []string // templates of paths: "/users/{id}"
	SLO    Objective
	Shown  Shown
	// Changed is when tasks of the service came or went last, Reloaded when HAProxy was told to load another configuration; zero: never.
	Changed, Reloaded time.Time
	// App is what the service's deployments are known by. Deployed is the last one's time; its end is zero while it is in progress, both are
	// before there was one.
	App      string
	Deployed [2]time.Time
}

// A failure belongs to a change for as long as new tasks may still be cold and old ones drain, to a reload while workers change over.
const (
	changeLasts = 30 * time.Second
	reloadLasts = 10 * time.Second
)

// What can have been going on.
const (
	duringChange     = "change"
	duringDeployment = "deployment"
	duringReload     = "reload"
)

// during says what was going on when something ended: duringReload, duringDeployment, duringChange or "".
func (a *About) during(at time.Time) string {
	within := func(begin time.Time, lasts time.Duration) bool {
		return !begin.IsZero() && !at.Before(begin) && at.Sub(begin) <= lasts
	}
	switch {
	case within(a.Reloaded, reloadLasts):
		return duringReload
	case !a.Deployed[0].IsZero() && !at.Before(a.Deployed[0]) && (a.Deployed[1].IsZero() || !at.After(a.Deployed[1])):
		return duringDeployment
	case within(a.Changed, changeLasts):
		return duringChange
	}
	return ""
}

// Task is what a Directory knows about one task at one address.
type Task struct {
	ID    string
	State string // as the orchestrator has it
	Locality
	// From and Until bound the time in which this answer holds. A zero Until: it still does.
	From, Until time.Time
}

// Placement says that a task is at an address.
type Placement struct {
	Addr, Task, State string
	Locality
}

// Locality says how near a task is.
type Locality string

// The localities.
const (
	Anywhere Locality = ""       // nobody asks
	Local    Locality = "local"  // on this machine
	Remote   Locality = "remote" // on another one
)

// History is a Directory that remembers who was where before, because ports are used again while the log of the last user is
// still on its way. It is safe for concurrent use.
type History struct {
	keep       time.Duration
	generation atomic.Uint64

	mu       sync.RWMutex
	addrs    map[string]map[string][]Task // by service and address; oldest first, only the last may be open
	services map[string]bool
	about    map[string]About
	gone     map[string]time.Time // services that were removed, until what they had is forgotten
	changed  map[string]time.Time // when tasks of a service came or went last
	reloaded time.Time
	deployed map[string][2]time.Time // by app; see About.Deployed
}

// NewHistory returns an empty History that remembers what has ended for keep.
func NewHistory(keep time.Duration) *History {
	return &History{keep: keep, addrs: map[string]map[string][]Task{}, services: map[string]bool{}, about: map[string]About{}, gone: map[string]time.Time{}, changed: map[string]time.Time{}, deployed: map[string][2]time.Time{}}
}

// Set tells that a service exists from now on, with these placements and no others.
func (h *History) Set(now time.Time, service string, placements []Placement) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed, first := !h.services[service], h.addrs[service] == nil
	h.services[service] = true
	addrs := h.addrs[service]
	if addrs == nil {
		addrs = map[string][]Task{}
		h.addrs[service] = addrs
	}
	moved := false
	for _, p := range placements {
		spans := addrs[p.Addr]
		if n := len(spans); n > 0 && spans[n-1].Until.IsZero() {
			last := &spans[n-1]
			if last.ID == p.Task && last.State == p.State && last.Locality == p.Locality {
				continue
			}
			last.Until = now
		}
		moved = moved || len(spans) == 0 || spans[len(spans)-1].ID != p.Task
		addrs[p.Addr] = append(spans, Task{ID: p.Task, State: p.State, Locality: p.Locality, From: now})
		changed = true
	}
	ended := h.end(now, addrs, placements)
	if (moved || ended) && !first { // what is seen for the first time has not changed
		h.changed[service] = now
	}
	if ended || changed {
		h.generation.Add(1)
	}
}

// Reload tells that HAProxy is about to load another configuration.
func (h *History) Reload(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reloaded = now
	h.generation.Add(1)
}

// Deploy tells that a deployment of an app begins, or that none is in progress any more.
func (h *History) Deploy(now time.Time, app string, running bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if running {
		h.deployed[app] = [2]time.Time{now}
	} else if d, ok := h.deployed[app]; ok {
		h.deployed[app] = [2]time.Time{d[0], now}
	}
	for app, d := range h.deployed {
		if !d[1].IsZero() && now.Sub(d[1]) > h.keep {
			delete(h.deployed, app)
		}
	}
	h.generation.Add(1)
}

// Describe tells what is said about a service that exists.
func (h *History) Describe(service string, about About) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was := h.about[service]; was.App != about.App || was.SLO != about.SLO || was.Shown != about.Shown || !slices.Equal(was.Routes, about.Routes) {
		h.about[service] = about
		h.generation.Add(1)
	}
}

// About implements Directory.
func (h *History) About(service string) About {
	h.mu.RLock()
	defer h.mu.RUnlock()
	about := h.about[service]
	about.Changed, about.Reloaded, about.Deployed = h.changed[service], h.reloaded, h.deployed[about.App]
	return about
}

// Remove tells that a service is gone.
func (h *History) Remove(now time.Time, service string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.services[service] {
		return
	}
	delete(h.services, service)
	delete(h.about, service)
	h.gone[service] = now
	h.end(now, h.addrs[service], nil)
	h.generation.Add(1)
	for s, at := range h.gone {
		if now.Sub(at) > h.keep {
			delete(h.gone, s)
			if !h.services[s] {
				delete(h.addrs, s)
				delete(h.changed, s)
			}
		}
	}
}

// end closes the spans of addresses that no placement has, and forgets what ended long ago. It reports whether anything changed.
func (h *History) end(now time.Time, addrs map[string][]Task, placements []Placement) (changed bool) {
	for addr, spans := range addrs {
		last := &spans[len(spans)-1]
		if last.Until.IsZero() && !slices.ContainsFunc(placements, func(p Placement) bool { return p.Addr == addr }) {
			last.Until = now
			changed = true
		}
		old := 0
		for old < len(spans) && !spans[old].Until.IsZero() && now.Sub(spans[old].Until) > h.keep {
			old++
		}
		switch {
		case old == len(spans):
			delete(addrs, addr)
			changed = true
		case old > 0:
			addrs[addr] = append([]Task(nil), spans[old:]...)
			changed = true
		}
	}
	return changed
}

// Generation implements Directory.
func (h *History) Generation() uint64 { return h.generation.Load() }

// Task implements Directory.
func (h *History) Task(service, addr string, at time.Time) (Task, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	spans := h.addrs[service][addr]
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
