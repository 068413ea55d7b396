package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"signalbox/haproxy"
)

// drained is one task in one server.
type drained struct {
	backend, server, task string
	addr                  netip.AddrPort
}

// drain is how far the drain of a task has come.
type drain struct {
	since time.Time
	over  bool     // its time is up: nobody comes any more, a cookie or not
	cut   bool     // what it had still begun was ended
	left  *leaving // nil: its server is the task's still
}

// drains are the tasks that drain, and those whose drain is over and that are still there. When HAProxy was told to drain, it remembers
// itself: a controller that starts anew reads it back.
type drains map[drained]*drain

// follow takes in the state that runs, in which the servers of read drain for some time already. It returns how many drains ended
// before their time was up.
func (d drains) follow(c *haproxy.Config, read []ServerState, now time.Time) (ended int) {
	seen := make(map[drained]bool, len(d))
	for _, b := range c.Backends {
		for _, s := range b.Slots {
			if s.Task == "" || s.Admin == haproxy.Ready {
				continue
			}
			k := drained{b.Name, s.Name, s.Task, s.Addr}
			known := d[k]
			switch {
			case known != nil && (s.Admin == haproxy.Drain || known.over):
				seen[k], known.left = true, nil
			case s.Admin == haproxy.Drain:
				d[k], seen[k] = &drain{since: d.since(k, now)}, true
			}
		}
	}
	for _, st := range read {
		if st.Admin != haproxy.Drain {
			continue
		}
		for k, known := range d {
			if k.backend == st.Backend && k.server == st.Name && k.addr == st.Addr && now.Add(-st.Since).Before(known.since) {
				known.since = now.Add(-st.Since)
			}
		}
	}
	for k, known := range d {
		if !seen[k] && known.left == nil {
			delete(d, k)
			if !known.over && !d.has(k) {
				ended++
			}
		}
	}
	d.followLeft(c, now)
	return ended
}

// since returns when the task of k began to drain in another server, which it has moved from; now if it did not.
func (d drains) since(k drained, now time.Time) time.Time {
	for o, known := range d {
		if o.task == k.task && o.addr == k.addr && !known.serves() && known.since.Before(now) {
			now = known.since
		}
	}
	return now
}

// has reports whether the task of k drains in a server.
func (d drains) has(k drained) bool {
	for o, known := range d {
		if o.task == k.task && o.addr == k.addr && known.left == nil {
			return true
		}
	}
	return false
}

// expire ends the drains that last longer than they may, and reports whether there are any.
func (d drains) expire(now time.Time, most time.Duration) bool {
	found := false
	for _, known := range d {
		if !known.over && !known.serves() && now.Sub(known.since) >= most {
			known.over, found = true, true
		}
	}
	return found
}

// apply returns c with the servers in maintenance whose drain is over; c itself if there are none.
func (d drains) apply(c *haproxy.Config) *haproxy.Config {
	if c == nil {
		return nil
	}
	out := c
	for k, known := range d {
		if !known.over {
			continue
		}
		was := out.Backend(k.backend)
		if was == nil {
			continue
		}
		at := slices.IndexFunc(was.Slots, func(s haproxy.Server) bool {
			return s.Name == k.server && s.Task == k.task && s.Addr == k.addr && s.Admin == haproxy.Drain
		})
		if at < 0 {
			continue
		}
		if out == c {
			copied := *c
			copied.Backends = slices.Clone(c.Backends)
			out = &copied
		}
		b := *was
		b.Slots = slices.Clone(b.Slots)
		b.Slots[at].Admin = haproxy.Maint
		out.Backends[slices.Index(out.Backends, was)] = &b
	}
	return out
}

// uncut returns those whose drain is over in what runs, and whose sessions were not ended yet.
func (d drains) uncut(running *haproxy.Config) []cutting {
	var out []cutting
	for k, known := range d {
		if !known.over || known.cut {
			continue
		}
		if known.left != nil {
			out = append(out, cutting{drained: k, taken: known.left.taken})
			continue
		}
		b := backend(running, k.backend)
		if b != nil && slices.ContainsFunc(b.Slots, func(s haproxy.Server) bool {
			return s.Name == k.server && s.Task == k.task && s.Admin == haproxy.Maint
		}) {
			c := cutting{drained: k}
			for _, o := range running.Backends {
				if o.Service == b.Service && o != b {
					c.earlier = append(c.earlier, o.Name)
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// effect returns what is to run of what is wanted: less what is withheld, and with the drains ended whose time is up.
// The last good configuration of an app is the one that it ran with last, though nobody may know what a HAProxy runs that was just
// restarted.
func (a *Applier) effect() *haproxy.Config {
	return a.drains.apply(a.withheld.apply(a.want, a.ran()))
}

// cutting is what became of the sessions of drains that are over.
type cutting struct {
	drained
	earlier  []string // backends that its service has left
	taken    bool     // another service has the backend in the present worker
	sessions int
	err      error
}

// cutSessions ends what the workers still have with tasks whose drain is over, the old workers too, and where they were before a move.
func (a *Applier) cutSessions(ctx context.Context, tasks []cutting) jobResult {
	rt := NewRuntime(a.cfg.StatsSocket)
	defer rt.Close()
	current := func(ctx context.Context, command string) (string, error) {
		answers, err := rt.Do(ctx, command)
		if err != nil {
			return "", err
		}
		return answers[0], nil
	}
	p, err := a.master.Proc(ctx)
	for i := range tasks {
		t := &tasks[i]
		t.err = err
		if !t.taken {
			t.cut(ctx, current)
		}
		for _, w := range p.Old {
			t.cut(ctx, func(ctx context.Context, command string) (string, error) {
				answer, err := a.master.do(ctx, fmt.Sprintf("@!%d %s", w.PID, command))
				if strings.HasPrefix(answer, "Can't find the target PID") {
					err = errEnded
				}
				return answer, err
			})
		}
	}
	return jobResult{cut: tasks}
}

// errEnded says that an old worker has ended meanwhile.
var errEnded = errors.New("it has ended")

// sessionLine is a line of "show sess": its id, backend and server.
var sessionLine = regexp.MustCompile(`(?m)^(0x[0-9a-f]+): .* be=(\S+) srv=(\S+) `)

// cut ends the sessions that one worker has with the task, in each backend that its service has there, and counts them.
func (c *cutting) cut(ctx context.Context, ask func(context.Context, string) (string, error)) {
	for _, backend := range append([]string{c.backend}, c.earlier...) {
		n, err := c.cutIn(ctx, backend, ask)
		c.sessions += n
		if errors.Is(err, errEnded) {
			return
		}
		c.err = errors.Join(c.err, err)
	}
}

// cutIn ends the sessions with the task that one worker has in one backend, and returns how many. A worker in which somebody else has a
// server keeps them. A stopping worker takes no command for a server, and is told of each session.
func (c *cutting) cutIn(ctx context.Context, backend string, ask func(context.Context, string) (string, error)) (int, error) {
	answer, err := ask(ctx, "show servers state "+backend)
	if err != nil {
		return 0, err
	}
	if strings.HasPrefix(answer, "Can't find backend") {
		return 0, nil
	}
	states, err := ParseServersState(answer)
	if err != nil {
		return 0, fmt.Errorf("reading the servers of %s: %w", backend, err)
	}
	theirs := make(map[string]bool) // servers that the task has, or had until it moved to another one
	for _, s := range states {
		if s.Addr == c.addr && (backend != c.backend || s.Name == c.server || s.Admin != haproxy.Ready) {
			theirs[s.Name] = true
		}
	}
	if len(theirs) == 0 {
		return 0, nil
	}
	if answer, err = ask(ctx, "show stat "+backend+" 4 -1"); err != nil {
		return 0, err
	}
	stats, err := ParseStat(answer)
	if err != nil {
		return 0, fmt.Errorf("reading the sessions of %s: %w", backend, err)
	}
	if !slices.ContainsFunc(stats, func(s Stat) bool { return theirs[s.Server] && s.Current > 0 }) {
		return 0, nil // all sessions of a large machine are a long list
	}
	if answer, err = ask(ctx, "show sess"); err != nil {
		return 0, err
	}
	n := 0
	for _, m := range sessionLine.FindAllStringSubmatch(answer, -1) {
		if m[2] != backend || !theirs[m[3]] {
			continue
		}
		said, err := ask(ctx, "shutdown session "+m[1])
		if err != nil {
			return n, err
		}
		if strings.TrimSpace(said) == "" { // another answer: it has just ended by itself
			n++
		}
	}
	return n, nil
}

// wasCut takes in what became of the sessions of drains that are over.
func (a *Applier) wasCut(r jobResult) {
	for _, c := range r.cut {
		log := a.log.WithFields(map[string]any{"backend": c.backend, "server": c.server, "task": c.task, "sessions": c.sessions})
		if c.err != nil {
			log.WithError(c.err).Warn("not all sessions of a task whose drain is over could be ended")
		}
		known := a.drains[c.drained]
		moved := false
		if known != nil && known.over {
			known.cut = true
			if known.left != nil {
				moved = known.left.moved
				delete(a.drains, c.drained)
			}
		}
		a.met.cutSessions.Add(float64(c.sessions))
		if c.sessions == 0 && moved {
			continue // its drain was counted where it was last
		}
		if c.sessions == 0 {
			a.met.drains.WithLabelValues("finished").Inc()
			continue
		}
		a.met.drains.WithLabelValues("cut").Inc()
		log.Warnf("a drain is over after %s; what still ran is cut", a.cfg.Drain)
	}
}
