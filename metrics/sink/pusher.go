package sink

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox/metrics"
)

// Config is what a Pusher works with.
type Config struct {
	Targets []*Target
	Context Context
	// Snapshot returns what has been counted, by the same counters each time; the caller may change its own fields. Whoever merges several
	// counters adds up what each has counted since it was last asked: of a sum nobody sees which part began anew.
	Snapshot func(now time.Time) *metrics.Snapshot
	Started  time.Time // when counting began
	Log      logrus.FieldLogger
}

// Pusher takes a snapshot at each end of an interval, and sends what was counted since the last one to every target.
type Pusher struct {
	cfg  Config
	outs []*outlet

	last *metrics.Snapshot // the one that the next interval begins with
}

// New returns a pusher, which sends nothing before Run.
func New(cfg Config) *Pusher {
	p := &Pusher{cfg: cfg, last: &metrics.Snapshot{At: cfg.Started}}
	for _, t := range cfg.Targets {
		p.outs = append(p.outs, newOutlet(t, cfg.Log))
	}
	return p
}

// lastWords is how long sending may take once Run is to end.
const lastWords = 2 * time.Second

// Run sends until ctx ends, then what was counted up to that moment, and returns soon after. What could not be sent by then is counted
// as dropped. The first interval ends at the second of its boundaries: what ran here before may have sent one that ends at the first.
func (p *Pusher) Run(ctx context.Context) error {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	closing := make(chan struct{})
	var running sync.WaitGroup
	for _, o := range p.outs {
		running.Go(func() { o.run(sending, closing) })
	}
	every := p.cfg.Context.Interval
	end := time.Now().Truncate(every).Add(2 * every)
	for wait(ctx, time.Until(end)) == nil {
		now := time.Now()
		if off := now.Sub(end); off > every || off < -every { // the machine slept, or its clock was set
			end = now.Truncate(every)
		}
		p.push(end)
		end = end.Add(every)
	}
	p.push(end)
	close(closing)
	defer time.AfterFunc(lastWords, stop).Stop()
	running.Wait()
	return ctx.Err()
}

// push hands what was counted since the last push to every outlet, as an interval that ends at a boundary.
func (p *Pusher) push(end time.Time) {
	now := p.cfg.Snapshot(time.Now())
	iv := &Interval{From: p.last.At, To: end, Delta: now.Since(p.last)}
	for _, o := range p.outs {
		o.push(iv)
	}
	now.At = end
	now.Loss.Lost = max(now.Loss.Lost, p.last.Loss.Lost) // a loss may turn out to be smaller; it is not sent twice when it grows again
	p.last = now
}
