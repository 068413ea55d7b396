package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"

	"signalbox/metrics"
)

// paper is a sink that notes what it gets; while broken is not nil it fails.
type paper struct {
	mu     sync.Mutex
	start  time.Time
	notes  []string
	broken error
	reject bool
	bytes  int // of a frame
}

func (p *paper) encode(iv *Interval) ([]frame, int) {
	text := fmt.Sprintf("%s-%s", iv.From.Sub(p.start), iv.To.Sub(p.start))
	for _, s := range iv.Delta.Services {
		text += fmt.Sprintf(" %s=%d", s.Service, s.Requests)
	}
	return []frame{{data: []byte(text + strings.Repeat(" ", p.bytes)), points: 1}}, 0
}

func (p *paper) send(_ context.Context, frames []frame, settled func(string)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return failed("write", p.broken)
	}
	for _, f := range frames {
		if p.reject {
			settled("rejected")
			continue
		}
		p.notes = append(p.notes, fmt.Sprintf("%s: %s", time.Since(p.start), strings.TrimSpace(string(f.data))))
		settled("")
	}
	return nil
}

func (p *paper) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *paper) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.notes
}

// counter is a source of snapshots of one service.
type counter struct {
	mu sync.Mutex
	n  uint64
}

func (c *counter) add(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

func (c *counter) snapshot(now time.Time) *metrics.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &metrics.Snapshot{At: now, Services: []metrics.ServiceTotals{{Service: "/a:0", Requests: c.n}}}
}

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// pushing runs a pusher to a paper in a bubble with a clock of its own, from 3 s after a boundary.
func pushing(t *testing.T, story func(p *Pusher, c *counter, note *paper, end func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(3 * time.Second)
		note, c := &paper{start: start}, &counter{}
		p := New(Config{
			Targets: []*Target{{Name: "paper", protocol: note, limit: 1000, phase: time.Second, backoff: 30 * time.Second}},
			Context: here, Snapshot: c.snapshot, Started: time.Now(), Log: quiet(),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		story(p, c, note, func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		})
		cancel()
	})
}

func TestIntervalsFollowEachOther(t *testing.T) {
	pushing(t, func(_ *Pusher, c *counter, note *paper, end func()) {
		c.add(5)
		time.Sleep(20 * time.Second) // 23 s
		c.add(7)
		time.Sleep(10 * time.Second) // 33 s
		c.add(1)
		end()
		want := []string{"21s: 3s-20s /a:0=5", "31s: 20s-30s /a:0=7", "33s: 30s-40s /a:0=1"}
		if diff := cmp.Diff(want, note.got()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// What waits while a sink is down arrives when it is up again, in order, at times that lie further and further apart.
func TestNothingIsLostWhileThereIsRoom(t *testing.T) {
	pushing(t, func(p *Pusher, c *counter, note *paper, end func()) {
		note.set(func() { note.broken = errors.New("down") })
		c.add(5)
		time.Sleep(60 * time.Second)
		s := p.Status()[0]
		if s.Waiting != 5 || s.Failing.Sub(note.start) != 21*time.Second || s.Detail != "write: down" || s.Errors["write"] < 4 || s.Errors["write"] > 9 {
			t.Errorf("while it is down: %+v", s)
		}
		note.set(func() { note.broken = nil })
		time.Sleep(31 * time.Second)
		if s := p.Status()[0]; s.Waiting != 0 || !s.Failing.IsZero() || s.Detail != "" || s.Lost() != 0 || s.Sent != 8 {
			t.Errorf("after: %+v", s)
		}
		end()
	})
}

func TestTheOldestAreDroppedAndCounted(t *testing.T) {
	pushing(t, func(p *Pusher, c *counter, note *paper, end func()) {
		note.set(func() { note.broken, note.bytes = errors.New("down"), 280 })
		for range 100 {
			c.add(1)
			time.Sleep(10 * time.Second)
		}
		s := p.Status()[0]
		if s.Waiting != 3 || s.Dropped["queue_full"] != 96 || s.QueueBytes > 1000 {
			t.Errorf("%+v", s)
		}
		note.set(func() { note.broken = nil })
		end()
		if s := p.Status()[0]; s.Sent != 3 || s.Lost() != 97 {
			t.Errorf("at the end: %+v", s)
		}
		if got := note.got(); len(got) != 3 || !strings.Contains(got[0], "16m20s-16m30s") {
			t.Errorf("what arrived is not the newest: %q", got)
		}
	})
}

func TestAnEndDoesNotWaitForASink(t *testing.T) {
	pushing(t, func(p *Pusher, _ *counter, note *paper, end func()) {
		note.set(func() { note.broken = errors.New("down") })
		time.Sleep(25 * time.Second)
		before := time.Now()
		end()
		if took := time.Since(before); took > lastWords+leastBackoff {
			t.Errorf("it took %s", took)
		}
		if s := p.Status()[0]; s.Dropped["shutdown"] != 2 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatASinkRejectsIsCounted(t *testing.T) {
	pushing(t, func(p *Pusher, _ *counter, note *paper, end func()) {
		note.set(func() { note.reject = true })
		time.Sleep(25 * time.Second)
		if s := p.Status()[0]; s.Dropped["rejected"] != 1 || s.Sent != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
		end()
	})
}

// Counters of what a sink lost stand at 0 before anything is lost.
func TestMetricsOfSinks(t *testing.T) {
	target := parse(t, "statsd://127.0.0.1:8125")
	p := New(Config{Targets: []*Target{target}, Context: here, Snapshot: new(counter).snapshot, Log: quiet()})
	want := `
# HELP signalbox_sink_dropped_total Points that no sink got: queue_full (the oldest, while it took none), rejected (by the server), too_long (for a datagram), shutdown.
# TYPE signalbox_sink_dropped_total counter
signalbox_sink_dropped_total{reason="queue_full",sink="statsd://127.0.0.1:8125"} 0
signalbox_sink_dropped_total{reason="rejected",sink="statsd://127.0.0.1:8125"} 0
signalbox_sink_dropped_total{reason="shutdown",sink="statsd://127.0.0.1:8125"} 0
signalbox_sink_dropped_total{reason="too_long",sink="statsd://127.0.0.1:8125"} 0
`
	if err := testutil.CollectAndCompare(p, strings.NewReader(want), "signalbox_sink_dropped_total"); err != nil {
		t.Error(err)
	}
}
