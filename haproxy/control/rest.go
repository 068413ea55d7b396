package control

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

const (
	// leaveAfter is for how long a backend that nothing leads to any more keeps its servers: a request that has just been led to it finds
	// them.
	leaveAfter = time.Second
	// restEvery is how often backends that were left are asked whether anything is on its way to them, so many at a time.
	restEvery, restAtOnce = 250 * time.Millisecond, 64
)

// rest is what is known of the backends that services have left.
type rest struct {
	since map[string]time.Time           // since when nothing leads to a backend that has servers still, by name
	at    map[string]signalbox.ServiceID // those at rest, with the service that left them; replaced, not changed
	asked time.Time                      // when the last ones were asked
	of    *haproxy.Config                // what queue was made from
	queue []*haproxy.Backend             // those that were left and may not be at rest
}

// Rested returns the backends that nothing of the service which left them is on its way to, for Config.Rested. It must not be changed.
func (a *Applier) Rested() map[string]signalbox.ServiceID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rested
}

// empty takes the servers out of backends that were left a moment ago, and reports whether that is another running state.
func (a *Applier) empty(ctx context.Context, left []string) bool {
	now := time.Now()
	since := make(map[string]time.Time, len(left))
	var due []string
	for _, name := range left {
		began, ok := a.rest.since[name]
		if !ok {
			began = now
		}
		since[name] = began
		if now.Sub(began) >= leaveAfter {
			due = append(due, name)
		}
	}
	a.rest.since = since
	if len(due) == 0 {
		return false
	}
	next, commands := haproxy.Emptied(a.running, due)
	if len(commands) > 0 && !a.send(ctx, haproxy.Plan{Commands: commands}, now) {
		a.reasons = merge(a.reasons, a.forced)
		return false
	}
	a.setRunning(next)
	return true
}

// resting reports whether a backend was left, and is not known to be at rest.
func (a *Applier) resting(b *haproxy.Backend) bool {
	if !b.Retired || !b.Resting {
		return false
	}
	id, ok := a.rest.at[b.Name]
	return !ok || id != b.Service
}

// forgetRest forgets that backends are at rest which are not left any more, or by somebody else.
func (a *Applier) forgetRest() {
	stay := make(map[string]signalbox.ServiceID, len(a.rest.at))
	for name, id := range a.rest.at {
		if b := backend(a.running, name); b != nil && b.Retired && b.Resting && b.Service == id {
			stay[name] = id
		}
	}
	if len(stay) < len(a.rest.at) {
		a.atRest(stay)
	}
}

func (a *Applier) atRest(at map[string]signalbox.ServiceID) {
	a.rest.at = at
	a.mu.Lock()
	a.rested = at
	a.mu.Unlock()
}

// loadedAtRest notes that nothing can be on its way to what a worker has that has just been loaded.
func (a *Applier) loadedAtRest() {
	at := make(map[string]signalbox.ServiceID)
	for _, b := range a.running.Backends {
		if b.Retired && b.Resting {
			at[b.Name] = b.Service
		}
	}
	a.atRest(at)
}

// askAllRest asks at once about each spare backend that nobody has: who has had it since the state was persisted, nobody knows.
func (a *Applier) askAllRest(ctx context.Context) {
	c := *a.running
	c.Backends = slices.Clone(c.Backends)
	for i, b := range c.Backends {
		if b.Retired && b.Spare() && !b.Resting {
			doubted := *b
			doubted.Resting = true
			c.Backends[i] = &doubted
		}
	}
	a.setRunning(&c)
	for more := true; more; {
		more = a.askNextRest(ctx) && len(a.rest.queue) > 0
	}
}

// askRest asks HAProxy, from time to time, whether anything is on its way to the backends that were left.
func (a *Applier) askRest(ctx context.Context) {
	if a.running == nil || a.busy == reloading || time.Since(a.rest.asked) < restEvery {
		return
	}
	if len(a.rest.queue) == 0 && a.rest.of == a.running {
		return
	}
	a.rest.asked = time.Now()
	a.askNextRest(ctx)
}

// askNextRest asks about some of them, and reports whether HAProxy answered.
func (a *Applier) askNextRest(ctx context.Context) bool {
	if len(a.rest.queue) == 0 {
		a.rest.of = a.running
		for _, b := range a.running.Backends {
			if a.resting(b) {
				a.rest.queue = append(a.rest.queue, b)
			}
		}
	}
	n := min(len(a.rest.queue), restAtOnce)
	asked := a.rest.queue[:n]
	a.rest.queue = a.rest.queue[n:]
	if len(a.rest.queue) == 0 {
		a.rest.queue = nil
	}
	var commands []string
	for _, b := range asked {
		commands = append(commands, "show stat "+b.Name+" 2 -1")
	}
	if len(commands) == 0 {
		return true
	}
	answers, err := a.rt.exchange(ctx, a.worker, commands, nil)
	if err != nil {
		return false // whoever asks next finds out what that means
	}
	at := maps.Clone(a.rest.at)
	if at == nil {
		at = make(map[string]signalbox.ServiceID)
	}
	for i, b := range asked {
		now := backend(a.running, b.Name)
		if now == nil || now.Service != b.Service || !a.resting(now) {
			continue
		}
		stats, err := ParseStat(strings.TrimSpace(answers[i]) + "\n")
		if err != nil || len(stats) != 1 || stats[0].Proxy != b.Name || stats[0].Current > 0 {
			a.rest.of = nil // again
			continue
		}
		at[b.Name] = b.Service
		a.drains.rested(b.Name)
	}
	if len(at) > len(a.rest.at) {
		a.atRest(at)
	}
	return true
}
