package control

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/haproxy"
)

// The reasons for a reload that this package adds to those of haproxy.Diff.
const (
	ReasonStart      haproxy.Reason = "HAProxy did not run"
	ReasonUnknown    haproxy.Reason = "running configuration unknown"
	ReasonUnexpected haproxy.Reason = "unexpected answer"
	ReasonShape      haproxy.Reason = "running shape differs"
)

// Settings are what an Applier needs. Dir, the two sockets, and Template or Render are required.
type Settings struct {
	Dir          string // absolute; holds what HAProxy loads and the persisted state
	StatsSocket  string
	MasterSocket string

	// Template renders the files. Another one than the persisted state was made with leads to a reload.
	Template *haproxy.Template

	// Certificates are what HAProxy shows its clients; nil: it has none.
	Certificates *Certificates

	// What haproxy decides; nil takes haproxy's own functions. Render is called by one goroutine at a time.
	Render func(*haproxy.Config) ([]File, error)
	Diff   func(running, want *haproxy.Config) haproxy.Plan
	AppAt  func(cfg []byte, line int) string

	Publisher  *Publisher  // nil: one for Dir, with the writer's own group
	Checker    *Checker    // nil: one with its defaults
	Supervisor *Supervisor // nil: somebody else starts HAProxy

	ReloadInterval time.Duration // least time between two reloads; 1 s if zero
	ReloadBurst    int           // reloads at that interval before ReloadRefill counts; 5 if zero
	ReloadRefill   time.Duration // time for one more of them; 10 s if zero
	ReloadTimeout  time.Duration // for the proof; 30 s if zero
	FileInterval   time.Duration // least time between two writes of the file; 1 s if zero
	CheckInterval  time.Duration // least time between a check and a background one of a changed file; 60 s if zero
	AuditInterval  time.Duration // 60 s if zero
	Drain          time.Duration // most time that sessions with a task go on that drains; 30 s if zero
	StateInterval  time.Duration // least time between two writes of the persisted state, unless the shape changes; 60 s if zero

	// Generation is that of the last change of an earlier run: numbers go on from it.
	Generation uint64
	// Told is told of each Step, by the goroutine of Run, which waits for it; nil: nobody is.
	Told func(Step)
	// Loads is called when HAProxy is about to be told to load another configuration, by the same goroutine; nil: nobody is told.
	Loads func(now time.Time)

	Log logrus.FieldLogger
}

// Outcome is what one change led to.
type Outcome struct {
	Generation uint64           // counts the changes of the running state
	Commands   int              // accepted
	Reloaded   bool             //
	Reasons    []haproxy.Reason // of the reload
	Took       time.Duration    // from the request on
	Problems   []signalbox.Problem
	// Told is when HAProxy had accepted the commands, before a reload if there is one; zero: there were none.
	Told time.Time
}

// Applier makes HAProxy run what it is told to: over the runtime socket at once, by a reload only with a reason. It compares with what
// runs, never with the file. All its work is done by Run; the other methods may be called by anyone.
type Applier struct {
	cfg      Settings
	rt       *Runtime
	master   *Master
	pub      *Publisher
	check    *Checker
	log      logrus.FieldLogger
	met      *counters
	template string // its Identity, "" without one

	mail chan struct{}     // something is in box
	ask  chan chan<- order // a reload asks what is wanted by now
	mu   sync.Mutex
	box  struct {
		want    *haproxy.Config
		waiters []*waiter
		seq     uint64
	}
	status   signalbox.HAProxyStatus
	problems []signalbox.Problem
	public   *haproxy.Config                // running, for Running
	rested   map[string]signalbox.ServiceID // rest.at, for Rested

	state // owned by Run, or by Recover before it
}

type waiter struct {
	seq   uint64
	since time.Time
	done  chan applied
	out   Outcome
}

type applied struct {
	out Outcome
	err error
}

// New returns an Applier. It touches nothing before Recover or Run.
func New(s Settings) *Applier {
	if s.Render == nil {
		s.Render = func(c *haproxy.Config) ([]File, error) { return render(s.Template, c) }
	}
	if c := s.Certificates; c != nil {
		plain := s.Render
		s.Render = func(config *haproxy.Config) ([]File, error) {
			files, err := plain(config)
			if err != nil {
				return nil, err
			}
			return append(c.files(config.Options), files...), nil
		}
	}
	if s.Diff == nil {
		s.Diff = haproxy.Diff
	}
	if s.AppAt == nil {
		s.AppAt = haproxy.AppAt
	}
	s.ReloadInterval = cmp.Or(s.ReloadInterval, time.Second)
	s.ReloadBurst = cmp.Or(s.ReloadBurst, 5)
	s.ReloadRefill = cmp.Or(s.ReloadRefill, 10*time.Second)
	s.ReloadTimeout = cmp.Or(s.ReloadTimeout, 30*time.Second)
	s.FileInterval = cmp.Or(s.FileInterval, time.Second)
	s.CheckInterval = cmp.Or(s.CheckInterval, time.Minute)
	s.AuditInterval = cmp.Or(s.AuditInterval, time.Minute)
	s.Drain = cmp.Or(s.Drain, 30*time.Second)
	s.StateInterval = cmp.Or(s.StateInterval, time.Minute)
	a := &Applier{
		cfg: s, rt: NewRuntime(s.StatsSocket), master: NewMaster(s.MasterSocket),
		pub: s.Publisher, check: s.Checker, log: loggerOr(s.Log), met: newCounters(),
		mail: make(chan struct{}, 1), ask: make(chan chan<- order),
	}
	if a.pub == nil {
		a.pub = NewPublisher(s.Dir, -1)
	}
	if a.check == nil {
		a.check = &Checker{}
	}
	if a.check.Dir == "" {
		a.check.Dir = s.Dir
	}
	a.state = newState(s)
	if s.Template != nil {
		a.template = s.Template.Identity()
	}
	a.status.Level, a.status.Detail = signalbox.Degraded, "not connected yet"
	return a
}

// ErrSuperseded is what Apply returns when a newer configuration took the place of its own before that was in force.
var ErrSuperseded = errors.New("a newer configuration took its place")

// Update hands over the wanted configuration and returns at once. Of several only the newest counts.
func (a *Applier) Update(want *haproxy.Config) { a.put(want, nil) }

// Apply hands over the wanted configuration and waits until it, or a newer one, is in force, until it turns out that it can't
// be (the Applier keeps trying), or until ctx ends. Run must be running.
func (a *Applier) Apply(ctx context.Context, want *haproxy.Config) (Outcome, error) {
	return a.Submit(want)(ctx)
}

// Submit hands over the wanted configuration, as Update does, and returns a function that waits as Apply does.
func (a *Applier) Submit(want *haproxy.Config) func(ctx context.Context) (Outcome, error) {
	w := &waiter{since: time.Now(), done: make(chan applied, 1)}
	a.put(want, w)
	return func(ctx context.Context) (Outcome, error) {
		select {
		case r := <-w.done:
			return r.out, r.err
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		}
	}
}

func (a *Applier) put(want *haproxy.Config, w *waiter) {
	a.mu.Lock()
	a.box.seq++
	a.box.want = want
	if w != nil {
		w.seq = a.box.seq
		a.box.waiters = append(a.box.waiters, w)
	}
	a.mu.Unlock()
	select {
	case a.mail <- struct{}{}:
	default:
	}
}

// Status returns the state of HAProxy as of now.
func (a *Applier) Status() signalbox.HAProxyStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Problems returns what HAProxy's check rejected and what was done instead, sorted.
func (a *Applier) Problems() []signalbox.Problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.problems
}

// Running returns the acknowledged running configuration, or nil while it is unknown.
func (a *Applier) Running() *haproxy.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.public
}

// WorkerStats returns the counters of every live worker, old ones included.
func (a *Applier) WorkerStats(ctx context.Context) ([]WorkerStats, error) {
	return a.master.WorkerStats(ctx)
}

// render returns what haproxy.Render makes, the maps first.
func render(t *haproxy.Template, c *haproxy.Config) ([]File, error) {
	made, err := haproxy.Render(t, c)
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(made.Maps)+1)
	for _, m := range made.Maps {
		files = append(files, File(m))
	}
	return append(files, File{configName, made.Config}), nil
}
