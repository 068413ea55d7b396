package loadgen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Generator sends requests to targets. Its methods may be called at the same time, Run once.
type Generator struct {
	cfg    Config
	run    string // the first part of every request's id
	dialer func(ctx context.Context, network, address string) (net.Conn, error)
	coarse bool // time is not the kernel's: a test's bubble
	links  links
	mix    atomic.Pointer[mix]

	mu      sync.Mutex
	tallies map[string]*tally
	begun   time.Time
	ended   time.Time
	failed  failures
}

// mix is the targets in force.
type mix struct {
	requests []*request
	upTo     []int // sums of the weights
}

func (m *mix) pick(rng *rand.Rand) *request {
	if len(m.requests) == 0 {
		return nil
	}
	if len(m.requests) == 1 {
		return m.requests[0]
	}
	n := rng.IntN(m.upTo[len(m.upTo)-1])
	i, found := slices.BinarySearch(m.upTo, n)
	if found {
		i++
	}
	return m.requests[i]
}

// New returns a generator that has not begun.
func New(cfg Config) (*Generator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Generator{
		cfg: cfg, run: strconv.FormatUint(rand.Uint64(), 36), dialer: new(net.Dialer).DialContext,
		failed: failures{room: cfg.KeepFailures},
		links:  links{timeout: cfg.IdleTimeout, idle: make(map[string][]*link)}, tallies: make(map[string]*tally),
	}
	return g, g.SetTargets(cfg.Targets)
}

// SetTargets replaces the targets for every request that is scheduled from now on. What was counted under names that are gone
// stays in the report. Without any target nothing is scheduled until there is one. On an error all stays as it was.
func (g *Generator) SetTargets(targets []Target) error {
	m := &mix{}
	sum := 0
	for _, t := range targets {
		r, err := prepare(g.cfg, t)
		if err != nil {
			return fmt.Errorf("setting targets: %w", err)
		}
		sum += r.weight
		m.requests, m.upTo = append(m.requests, r), append(m.upTo, sum)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range m.requests {
		if g.tallies[r.name] == nil {
			g.tallies[r.name] = newTally()
		}
		r.tally = g.tallies[r.name]
	}
	g.mix.Store(m)
	return nil
}

// job is one request that is due.
type job struct {
	request *request
	due     time.Time
	number  uint64
}

// Run sends requests until ctx is done or a bound of the Config is reached, then waits for the answers that are outstanding,
// each bounded by Config.Timeout: after Run the report is final. That ctx is done is no error.
func (g *Generator) Run(ctx context.Context) error {
	alarm, err := newAlarm(!g.coarse)
	if err != nil {
		return fmt.Errorf("running the load: %w", err)
	}
	defer alarm.close()
	g.mu.Lock()
	if !g.begun.IsZero() {
		g.mu.Unlock()
		return errors.New("running the load: it ran before")
	}
	begun := time.Now()
	g.begun = begun
	g.mu.Unlock()

	var workers sync.WaitGroup
	jobs := make(chan job)
	// Requests on their way end by themselves: cut off, they would count as errors of the server.
	outlive := context.WithoutCancel(ctx)
	number, room := 0, g.cfg.MaxInFlight
	g.schedule(ctx, alarm, begun, func(j job) {
		j.request.tally.due()
		select {
		case jobs <- j: // somebody is idle
			return
		default:
		}
		if number == room {
			j.request.tally.spill()
			return
		}
		number++
		workers.Go(func() { g.work(outlive, j, jobs) })
	})
	close(jobs)
	workers.Wait()
	g.links.close()
	g.mu.Lock()
	g.ended = time.Now()
	g.mu.Unlock()
	return nil
}

// schedule calls send for each request when it is due, or at once when that is past: lateness of this loop is part of the
// latency that is counted, and never slows the schedule.
func (g *Generator) schedule(ctx context.Context, alarm *alarm, begun time.Time, send func(job)) {
	rng := rand.New(rand.NewPCG(g.cfg.Seed, 0x5eed))
	offset := 0.0 // seconds since begun
	for slot, number := uint64(0), uint64(0); g.cfg.Requests == 0 || number < g.cfg.Requests; slot++ {
		if g.cfg.Poisson {
			offset += rng.ExpFloat64() / g.cfg.Rate
		} else {
			offset = float64(slot) / g.cfg.Rate
		}
		after := time.Duration(offset * float64(time.Second))
		if g.cfg.Duration > 0 && after >= g.cfg.Duration {
			return
		}
		due := begun.Add(after)
		if !alarm.wait(ctx, due) {
			return
		}
		if r := g.mix.Load().pick(rng); r != nil {
			number++
			send(job{request: r, due: due, number: number})
		}
	}
}

// work sends one request after the other, as they come.
func (g *Generator) work(ctx context.Context, j job, jobs <-chan job) {
	for ok := true; ok; j, ok = <-jobs {
		id := g.run + "-" + strconv.FormatUint(j.number, 10)
		o := g.exchange(ctx, j.request, id)
		took := time.Since(j.due)
		j.request.tally.count(o, took)
		if o.failure() != "" {
			g.failed.add(j.request, id, o, took)
		}
	}
}

// Report returns what has happened so far.
func (g *Generator) Report() Report {
	g.mu.Lock()
	now := time.Now()
	r := Report{At: now, Failures: g.failed.list()}
	switch {
	case !g.ended.IsZero():
		r.Elapsed = g.ended.Sub(g.begun)
	case !g.begun.IsZero():
		r.Elapsed = now.Sub(g.begun)
	}
	tallies := make(map[string]*tally, len(g.tallies))
	for name, t := range g.tallies {
		tallies[name] = t
	}
	g.mu.Unlock()
	for name, t := range tallies {
		r.Targets = append(r.Targets, t.report(name))
	}
	slices.SortFunc(r.Targets, func(a, b TargetReport) int { return cmp.Compare(a.Name, b.Name) })
	return r
}
