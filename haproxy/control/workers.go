package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox/haproxy"
)

// WorkerStats are the counters of one live worker.
type WorkerStats struct {
	PID       int
	Old       bool      // of an earlier configuration
	Started   time.Time // zero if this version does not say
	Frontends []Stat
	// InFlight is a bound of the connections that backends have now: their number once the frontends' totals stand still, until
	// then the largest number there is.
	InFlight uint64
}

// InFlightUnknown is the InFlight of a worker whose backends were not asked.
const InFlightUnknown = math.MaxUint64

// countShare bounds the time for counting connections: after a count that took t the next one is due after countShare × t.
const countShare = 300

// look is what the last questions to a worker led to.
type look struct {
	started  time.Time
	asked    bool   // totals is known
	totals   uint64 // sum of the frontends' counters, which only grow
	counts   int    // how often in a row inFlight was the answer while totals stood still
	inFlight uint64
	next     time.Time // when the backends may be asked again
}

// WorkerStats returns the frontends' counters of every live worker, the current ones first. A worker that ends meanwhile is left
// out. The backends, which are many, are asked for their connections only while the frontends' totals stand still: what is in
// flight can't grow then, and before that its number says nothing.
func (m *Master) WorkerStats(ctx context.Context) ([]WorkerStats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.Proc(ctx)
	if err != nil {
		return nil, err
	}
	looks := make(map[int]*look, len(p.Workers)+len(p.Old))
	defer func() { m.looks = looks }()
	var out []WorkerStats
	ask := func(pid int, old bool) error {
		l := m.looks[pid]
		if l == nil {
			l = &look{}
		}
		w, alive, err := m.workerStats(ctx, pid, l)
		if err != nil || !alive {
			return err
		}
		looks[pid] = l
		w.Old = old
		out = append(out, w)
		return nil
	}
	for _, w := range p.Workers {
		if err := ask(w.PID, false); err != nil {
			return out, err
		}
	}
	for _, w := range p.Old {
		if err := ask(w.PID, true); err != nil {
			return out, err
		}
	}
	return out, nil
}

// workerStats asks one worker; alive says that it has not ended.
func (m *Master) workerStats(ctx context.Context, pid int, l *look) (w WorkerStats, alive bool, err error) {
	if !l.asked {
		text, alive, err := m.question(ctx, pid, "show info")
		if err != nil || !alive {
			return w, alive, err
		}
		info, err := ParseInfo(text)
		if err != nil {
			return w, true, fmt.Errorf("reading what worker %d is: %w", pid, err)
		}
		if info.StartTimeSec > 0 {
			l.started = time.Unix(info.StartTimeSec, 0)
		}
	}
	w = WorkerStats{PID: pid, Started: l.started}
	if w.Frontends, alive, err = m.stats(ctx, pid, "show stat -1 1 -1"); err != nil || !alive {
		return w, alive, err
	}
	hops, alive, err := m.handedOver(ctx, pid, w.Frontends)
	if err != nil || !alive {
		return w, alive, err
	}
	var totals uint64
	for _, f := range w.Frontends {
		totals += f.Requests + f.Sessions
	}
	if !l.asked || totals != l.totals {
		l.asked, l.totals, l.counts = true, totals, 0
		w.InFlight = InFlightUnknown
		return w, true, nil
	}
	began := time.Now()
	switch confirmed := l.counts > 1; {
	case confirmed && (l.inFlight == 0 || began.Before(l.next)):
		w.InFlight = l.inFlight
		return w, true, nil
	case began.Before(l.next):
		w.InFlight = InFlightUnknown
		return w, true, nil
	}
	text, alive, err := m.question(ctx, pid, "show stat -1 2 -1")
	if err != nil || !alive {
		return w, alive, err
	}
	if w.InFlight, err = sumCurrent(text); err != nil {
		return w, true, fmt.Errorf("reading the connections of worker %d: %w", pid, err)
	}
	w.InFlight -= min(hops, w.InFlight)
	if w.InFlight != l.inFlight {
		l.counts = 0
	}
	l.inFlight, l.counts = w.InFlight, l.counts+1
	l.next = began.Add(countShare * time.Since(began))
	return w, true, nil
}

// handedOver takes those connections out of the frontends' counters that were handed over to another frontend, which counts and logs
// them. It returns how many there are now.
func (m *Master) handedOver(ctx context.Context, pid int, frontends []Stat) (current uint64, alive bool, err error) {
	for i := range frontends {
		f := &frontends[i]
		backend, ok := haproxy.HandsOver(f.Proxy)
		if !ok {
			continue
		}
		stats, alive, err := m.stats(ctx, pid, "show stat "+backend+" 2 -1")
		if err != nil || !alive {
			return 0, alive, err
		}
		for _, b := range stats {
			f.Sessions -= min(b.Sessions, f.Sessions)
			f.Current -= min(b.Current, f.Current)
			current += b.Current
		}
	}
	return current, true, nil
}

func (m *Master) stats(ctx context.Context, pid int, command string) ([]Stat, bool, error) {
	text, alive, err := m.question(ctx, pid, command)
	if err != nil || !alive {
		return nil, alive, err
	}
	stats, err := ParseStat(text)
	if err != nil {
		return nil, true, fmt.Errorf("reading the counters of worker %d: %w", pid, err)
	}
	return stats, true, nil
}

// sumCurrent sums up scur in the answer to "show stat" about backends. It stands before every field that HAProxy may quote.
func sumCurrent(s string) (sum uint64, err error) {
	head, rest, _ := strings.Cut(s, "\n")
	head, ok := strings.CutPrefix(head, "# ")
	column := slices.Index(strings.Split(head, ","), "scur")
	if !ok || column < 0 {
		return 0, fmt.Errorf("no field scur in %q", cut(s, 80))
	}
	for line := range strings.Lines(rest) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		field, after := "", line
		for range column + 1 {
			field, after, ok = strings.Cut(after, ",")
		}
		n, err := strconv.ParseUint(field, 10, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("scur in %q", cut(line, 80))
		}
		sum += n
	}
	return sum, nil
}

// question asks one worker; alive is false if it has ended between two questions.
func (m *Master) question(ctx context.Context, pid int, command string) (answer string, alive bool, err error) {
	a, err := m.do(ctx, fmt.Sprintf("@!%d %s", pid, command))
	if err == nil && a != "" && !strings.HasPrefix(a, "Can't find the target PID") {
		return a, true, nil
	}
	if ctx.Err() != nil {
		return "", false, ctx.Err()
	}
	if now, perr := m.Proc(ctx); perr != nil || now.lists(pid) {
		return "", false, fmt.Errorf("asking worker %d: %w", pid, errors.Join(err, perr))
	}
	return "", false, nil
}
