package metrics

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func stat(pid int, total, inflight uint64) WorkerStat {
	return WorkerStat{PID: pid, InFlight: inflight, Frontends: []FrontendStat{{Name: "web", Total: total, Current: inflight}}}
}

func TestLedger(t *testing.T) {
	type step func(*ledger)
	rec := func(pid int, seqs ...int) step {
		return func(l *ledger) {
			for _, seq := range seqs {
				var r Record
				_ = Parse([]byte(line(pid, "web", seq, "/a:0", "-:-", 200, 1)), &r)
				l.observe(&r, uint64(pid), epoch)
			}
		}
	}
	look := func(ws ...WorkerStat) step { return func(l *ledger) { l.reconcile(ws, epoch) } }
	started := time.Unix(1000, 0)
	before := func(w WorkerStat) WorkerStat { w.Started = started.Add(-time.Hour); return w }
	stopping := func(w WorkerStat) WorkerStat { w.Stopping = true; return w }
	ring := uint64(RingBytes / minLine)

	for name, c := range map[string]struct {
		steps []step
		want  Loss
	}{
		"all arrived":            {[]step{rec(1, 0, 1, 2)}, Loss{Sent: 3, Counted: 3}},
		"out of order and twice": {[]step{rec(1, 1, 0, 1, 3)}, Loss{Sent: 4, Counted: 4}},
		"a gap":                  {[]step{rec(1, 0, 1, 5)}, Loss{Sent: 6, Counted: 3, Lost: 3}},
		"a gap at the beginning": {[]step{rec(1, 5)}, Loss{Sent: 6, Counted: 1, Lost: 5}},
		"requests in flight are not lost": {
			[]step{rec(1, 0, 1), look(stat(1, 5, 3)), look(stat(1, 5, 3))}, Loss{Sent: 2, Counted: 2},
		},
		"lines on their way are not lost": {
			[]step{rec(1, 0, 1), look(stat(1, 5, 0)), rec(1, 2, 3, 4), look(stat(1, 5, 0)), look(stat(1, 5, 0))},
			Loss{Sent: 5, Counted: 5},
		},
		"the last lines are missing": {
			[]step{rec(1, 0, 1), look(stat(1, 5, 0)), look(stat(1, 5, 0))}, Loss{Sent: 5, Counted: 2, Lost: 3, Tail: 3},
		},
		"not one line arrived": {
			[]step{look(stat(1, 5, 0)), look(stat(1, 5, 0)), look(stat(1, 5, 0))}, Loss{Sent: 5, Lost: 5, Tail: 5},
		},
		"a late line corrects the account": {
			[]step{rec(1, 0), look(stat(1, 2, 0)), look(stat(1, 2, 0)), rec(1, 1)}, Loss{Sent: 2, Counted: 2},
		},
		"an older worker is counted from its first line on": {
			[]step{rec(1, 100, 101, 103), look(before(stat(1, 104, 0))), look(before(stat(1, 104, 0)))},
			Loss{Sent: 4, Counted: 3, Lost: 1},
		},
		"an older worker that says nothing owes nothing": {
			[]step{look(before(stat(1, 104, 0))), look(before(stat(1, 104, 0)))}, Loss{},
		},
		"the ring's word names the cause": {
			[]step{rec(1, 0, 5), func(l *ledger) { l.dropped(3, 1) }}, Loss{Sent: 6, Counted: 2, Lost: 4, Ring: 3},
		},
		"an old worker ends": {
			[]step{rec(1, 0, 1), look(stopping(stat(1, 4, 2))), rec(1, 2), look(), look(), look()},
			Loss{Sent: 3, Counted: 3, Unsure: 1 + 2},
		},
		"a worker dies unseen": {
			[]step{rec(1, 0, 1), look(stat(1, 4, 2)), look(), look(), look()}, Loss{Sent: 2, Counted: 2, Unsure: 2 + ring},
		},
		"a worker hangs up unseen": {
			[]step{rec(1, 0, 1), look(stat(1, 2, 0)), func(l *ledger) { l.hangUp(1, epoch.Add(25*time.Millisecond)) }, look()},
			Loss{Sent: 2, Counted: 2, Unsure: 2 * (2 + 2)},
		},
		"a worker that was missing goes on": {
			[]step{rec(1, 0, 1), look(stopping(stat(1, 2, 0))), look(), look(), look(), rec(1, 2, 4)},
			Loss{Sent: 5, Counted: 4, Lost: 1},
		},
		"the ring speaks first on a new connection": {
			[]step{func(l *ledger) { l.dropped(3, 1) }, rec(1, 3)}, Loss{Sent: 4, Counted: 1, Lost: 3, Ring: 3},
		},
		"a process id comes again": {
			[]step{rec(1, 0, 1, 2), look(stopping(stat(1, 3, 0))), look(), look(), look(), rec(1, 0, 1)},
			Loss{Sent: 5, Counted: 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(started)
			for _, s := range c.steps {
				s(l)
			}
			if diff := cmp.Diff(c.want, l.loss()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Whatever is lost between workers and receiver, and however lines overtake each other, the account closes once HAProxy's
// counters stand still.
func TestLedgerCloses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(time.Unix(0, 0))
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		share := rapid.Float64Range(0, 1).Draw(t, "share lost")
		var want Loss
		var stats []WorkerStat
		for pid := 1; pid <= rapid.IntRange(1, 3).Draw(t, "workers"); pid++ {
			n := rapid.IntRange(0, 300).Draw(t, "lines")
			order := make([]int, n)
			for i := range order {
				order[i] = max(i-r.IntN(2), 0) // two threads read the same number
			}
			for i := 0; i+3 < n; i += 3 {
				r.Shuffle(3, func(a, b int) { order[i+a], order[i+b] = order[i+b], order[i+a] })
			}
			for _, seq := range order {
				want.Sent++
				if r.Float64() < share {
					want.Lost++
					continue
				}
				want.Counted++
				var rec Record
				_ = Parse([]byte(line(pid, "web", seq, "/a:0", "-:-", 200, 1)), &rec)
				l.observe(&rec, uint64(pid), epoch)
			}
			stats = append(stats, stat(pid, uint64(n), 0))
		}
		l.reconcile(stats, epoch)
		l.reconcile(stats, epoch)
		got := l.loss()
		got.Tail = 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}
