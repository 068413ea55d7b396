package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
)

// Config configures a Watcher.
type Config struct {
	// Sources, in order of precedence: of two services with one id that of the earlier source stays.
	Sources []Source
	// StateDir is where the last good state of each source is kept; "" keeps none.
	StateDir string
	Guard    Guard
	// Settle is the shortest time between two tables: the first change passes at once, what follows within Settle passes together.
	Settle time.Duration
	// FirstWait bounds how long the first table waits for the sources without any state, stored or read.
	FirstWait time.Duration
	// StaleAfter is the age of the last successful read from which a source counts as degraded.
	StaleAfter time.Duration
	// SaveEvery is the shortest time between two writes of the state.
	SaveEvery time.Duration
	// DiffLines bounds how many lines of a change are logged.
	DiffLines int
	Log       logrus.FieldLogger // nil discards
}

// DefaultConfig returns the defaults, without sources.
func DefaultConfig() Config {
	return Config{
		Guard:      DefaultGuard(),
		Settle:     2 * time.Millisecond,
		FirstWait:  10 * time.Second,
		StaleAfter: 5 * time.Minute,
		SaveEvery:  500 * time.Millisecond,
		DiffLines:  20,
	}
}

// Change is a new table and what led to it.
type Change struct {
	Table *signalbox.Table
	// Cause says in a few words what led to it, source by source, as Causes joins several.
	Cause string
	// Event is when a source said that something changed, the earliest of the changes that Table brings; zero if no event did.
	Event time.Time
	// At is when Table was made.
	At time.Time
	// Stored says that no source has been read since the start: Table is what an earlier run has kept.
	Stored bool
	// Superseded is how many earlier tables were never taken because this one came first.
	Superseded int
}

// Seeder is implemented by a source that wants its last good state before it runs, to know the verdicts about tasks that the
// origin has forgotten and to keep the pointers of unchanged services.
type Seeder interface {
	Seed(state []*signalbox.Service)
}

// Watcher runs sources, keeps the last good state of each, holds suspicious ones back and merges them.
type Watcher struct {
	cfg     Config
	metrics *watcherMetrics
	keeper  *keeper
	accept  chan acceptance

	deployments deployments // used by the loop alone

	mu    sync.Mutex // guards slots' fields that Status reads
	slots []*slot
	table *signalbox.Table // the newest, nil before the first
}

// slot is one source and what is known of it. The watcher's loop writes it.
type slot struct {
	source    Source
	again     chan struct{}
	good      []*signalbox.Service // what is served
	problems  []signalbox.Problem
	known     bool                 // good holds something stored or read
	latest    []*signalbox.Service // the newest state read, held back or not
	goodAt    time.Time
	gen       uint64 // of good
	held      *suspicion
	why       string // of held
	askAt     time.Time
	explained explanations
	health    Health
	unstored  error // why good is not stored
	ended     error // why Run returned early
}

// storedState is the cause of a table that is made of stored states alone.
const storedState = "stored state"

type tagged struct {
	slot   *slot
	update Update
}

// NewWatcher returns a watcher. Zero values of cfg other than StateDir and Sources take their defaults.
func NewWatcher(cfg Config) *Watcher {
	def := DefaultConfig()
	if cfg.Guard == (Guard{}) {
		cfg.Guard = def.Guard
	}
	orDefault(&cfg.Settle, def.Settle)
	orDefault(&cfg.FirstWait, def.FirstWait)
	orDefault(&cfg.StaleAfter, def.StaleAfter)
	orDefault(&cfg.SaveEvery, def.SaveEvery)
	orDefault(&cfg.DiffLines, def.DiffLines)
	cfg.Log = LoggerOr(cfg.Log)
	w := &Watcher{cfg: cfg, metrics: newWatcherMetrics(), accept: make(chan acceptance)}
	w.keeper = newKeeper(store{dir: cfg.StateDir}, cfg.SaveEvery, w.saved)
	for _, s := range cfg.Sources {
		w.slots = append(w.slots, &slot{source: s, again: make(chan struct{}, 1)})
		w.metrics.from0(s.Name())
	}
	return w
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Run runs the sources until ctx ends, and sends each new table on out: the newest only, a slow receiver misses those between.
// Stored states are served before any source answers. Run never closes out; it returns once every source has.
func (w *Watcher) Run(ctx context.Context, out chan<- *Change) error {
	w.restore()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.keeper.run(ctx) })
	updates := make(chan tagged)
	ended := make(chan tagged)
	for _, s := range w.slots {
		in := make(chan Update)
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			if err := s.source.Run(ctx, in, s.again); err != nil && ctx.Err() == nil {
				w.cfg.Log.WithError(err).WithField("source", s.source.Name()).Error("the source gave up")
				select {
				case ended <- tagged{slot: s, update: Update{Health: Health{Err: err.Error()}}}:
				case <-ctx.Done():
				}
			}
		})
		wg.Go(func() {
			for {
				select {
				case u := <-in:
					select {
					case updates <- tagged{s, u}:
					case <-ctx.Done():
					}
				case <-done:
					return
				}
			}
		})
	}
	return w.loop(ctx, out, updates, ended)
}

func (w *Watcher) loop(ctx context.Context, out chan<- *Change, updates, ended <-chan tagged) error {
	var (
		pending  *Change   // made, not taken yet
		dirty    bool      // a table is due
		cause    string    // of the changes
		event    time.Time // of the earliest change
		lastMade time.Time // when the last table was made
		first    = time.Now().Add(w.cfg.FirstWait)
		timer    = time.NewTimer(0)
	)
	defer timer.Stop()
	if w.anyKnown() {
		dirty, cause = true, storedState
	}
	note := func(changed bool, c string, ev time.Time) {
		if !changed {
			return
		}
		dirty, cause = true, Causes(cause, c)
		if !ev.IsZero() && (event.IsZero() || ev.Before(event)) {
			event = ev
		}
	}
	for {
		now := time.Now()
		if dirty && w.ready(now, first) && now.Sub(lastMade) >= w.cfg.Settle {
			if c := w.make(cause, event, now); c != nil {
				c.Stored = cause == storedState
				if pending != nil {
					c.Superseded = pending.Superseded + 1
					w.metrics.superseded.Inc()
					if !pending.Event.IsZero() && (c.Event.IsZero() || pending.Event.Before(c.Event)) {
						c.Event = pending.Event
					}
					c.Cause = Causes(pending.Cause, c.Cause)
				}
				pending, lastMade = c, now
			}
			dirty, event, cause = false, time.Time{}, ""
		}
		timer.Reset(w.next(now, dirty, lastMade, first))
		var send chan<- *Change
		if pending != nil {
			send = out
		}
		select {
		case <-ctx.Done():
			return nil
		case send <- pending:
			pending = nil
		case t := <-updates:
			note(w.absorb(t.slot, t.update, time.Now()), t.slot.source.Name()+": "+t.update.Cause, t.update.Event)
		case t := <-ended:
			w.mu.Lock()
			t.slot.ended = errors.New(t.update.Health.Err)
			w.mu.Unlock()
		case a := <-w.accept:
			changed, err := w.acceptSlot(a)
			note(changed, a.slot.source.Name()+": accepted by "+a.by, time.Time{})
			a.done <- err
		case <-timer.C:
			w.ask(time.Now())
		}
	}
}

// ready reports whether a table may be made: a table that lacks a whole source would shrink the routes of a running HAProxy.
func (w *Watcher) ready(now, first time.Time) bool {
	return !now.Before(first) || w.table != nil || !slices.ContainsFunc(w.slots, func(s *slot) bool { return !s.known && s.ended == nil })
}

func (w *Watcher) anyKnown() bool {
	return slices.ContainsFunc(w.slots, func(s *slot) bool { return s.known })
}

// next returns how long the loop may sleep.
func (w *Watcher) next(now time.Time, dirty bool, lastMade, first time.Time) time.Duration {
	wait := time.Hour
	if dirty {
		if w.ready(now, first) {
			wait = w.cfg.Settle - now.Sub(lastMade)
		} else {
			wait = first.Sub(now)
		}
	}
	for _, s := range w.slots {
		if s.held != nil {
			wait = min(wait, s.askAt.Sub(now))
		}
	}
	return max(wait, 0)
}

// ask asks the sources whose state is held back for another read.
func (w *Watcher) ask(now time.Time) {
	for _, s := range w.slots {
		if s.held != nil && !now.Before(s.askAt) {
			select {
			case s.again <- struct{}{}:
			default:
			}
			s.askAt = now.Add(w.askEvery())
		}
	}
}

// askEvery spaces the reads that confirm a shrink evenly over the guard's span.
func (w *Watcher) askEvery() time.Duration {
	return max(w.cfg.Guard.Span/time.Duration(max(w.cfg.Guard.Reads, 1)), 10*time.Millisecond)
}

// absorb takes an update in, and reports whether what is served changed.
func (w *Watcher) absorb(s *slot, u Update, now time.Time) bool {
	name := s.source.Name()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.health = u.Health
	s.explained.add(u.Explained, now)
	if u.State == nil {
		return false
	}
	if s.known && samePointers(s.latest, u.State) && s.held == nil && slices.Equal(s.problems, u.Problems) {
		s.goodAt = u.At
		w.metrics.updates.WithLabelValues(name, "unchanged").Inc()
		return false
	}
	before := s.held
	r := ruling{serve: u.State}
	if s.known {
		r = w.cfg.Guard.judge(s.good, u.State, s.explained.of(u.State), s.held, u.Whole, u.At, false)
	}
	s.latest = u.State
	s.held = r.held
	r.serve = share(s.good, r.serve)
	s.explained.spend(s.good, r.serve)
	log := w.cfg.Log.WithField("source", name)
	switch {
	case r.held != nil:
		if before == nil || r.confirmed || r.held.since != before.since {
			s.why = fmt.Sprintf("%s; held back until %d reads over %s confirm it", r.held.missing, w.cfg.Guard.Reads, w.cfg.Guard.Span)
			s.askAt = now.Add(w.askEvery())
			w.metrics.quarantines.WithLabelValues(name).Inc()
			log.WithField("cause", u.Cause).Warn("a suspicious state is held back: " + s.why)
		}
		w.metrics.updates.WithLabelValues(name, "held").Inc()
	case before != nil:
		s.why = ""
		if r.confirmed {
			log.Warn("the shrink that was held back is confirmed: " + before.missing.String())
		} else {
			log.Info("what was missing is back or explained; nothing is held back any more")
		}
	}
	if r.held == nil {
		w.metrics.updates.WithLabelValues(name, "applied").Inc()
	}
	return w.serve(s, r.serve, u.Problems, u.At)
}

// serve replaces what a source serves, and reports whether it differs. The caller holds the lock.
func (w *Watcher) serve(s *slot, state []*signalbox.Service, problems []signalbox.Problem, at time.Time) bool {
	same := s.known && samePointers(s.good, state) && slices.Equal(s.problems, problems)
	if s.held == nil {
		s.goodAt = at
	}
	first := !s.known
	s.good, s.problems, s.known = state, problems, true
	if !same {
		s.gen++
		w.keeper.put(&stored{Source: s.source.Name(), Generation: s.gen, At: s.goodAt, Services: state, Problems: problems})
	}
	return first || !same
}

// make merges the sources, and returns nil if the table says the same as the last one.
func (w *Watcher) make(cause string, event, now time.Time) *Change {
	origins := make([]origin, 0, len(w.slots))
	for _, s := range w.slots {
		if s.known {
			origins = append(origins, origin{s.source.Name(), s.good, s.problems})
		}
	}
	table := w.deployments.of(merge(origins))
	old := w.table
	if old != nil && samePointers(old.Services, table.Services) && slices.Equal(old.Problems, table.Problems) {
		return nil
	}
	w.mu.Lock()
	w.table = table
	w.mu.Unlock()
	w.metrics.changes.Inc()
	if !event.IsZero() {
		w.metrics.delay.Observe(now.Sub(event).Seconds())
	}
	w.logDiff(old, table, cause)
	return &Change{Table: table, Cause: cause, Event: event, At: now}
}

func (w *Watcher) logDiff(old, table *signalbox.Table, cause string) {
	diff := signalbox.DiffText(old, table)
	if len(diff) == 0 {
		return
	}
	log := w.cfg.Log.WithFields(logrus.Fields{"cause": cause, "lines": len(diff)})
	shown := diff[:min(len(diff), w.cfg.DiffLines)]
	for _, line := range shown {
		log.Info("routes: " + line)
	}
	if n := len(diff) - len(shown); n > 0 {
		log.Infof("routes: … and %d more lines", n)
	}
}

// restore loads the stored states and hands them to the sources.
func (w *Watcher) restore() {
	for _, s := range w.slots {
		name := s.source.Name()
		st, err := w.keeper.store.load(name)
		if err != nil && !errors.Is(err, errNoState) {
			w.metrics.loads.WithLabelValues(name, "failed").Inc()
			w.cfg.Log.WithError(err).WithField("source", name).Error("a stored state is unusable and ignored")
		}
		if st == nil {
			continue
		}
		w.metrics.loads.WithLabelValues(name, "ok").Inc()
		w.mu.Lock()
		s.good, s.latest, s.problems, s.known, s.goodAt = st.Services, st.Services, st.Problems, true, st.At
		s.gen = signalbox.ResumeGeneration(st.Generation)
		w.mu.Unlock()
		if seeder, ok := s.source.(Seeder); ok {
			seeder.Seed(st.Services)
		}
	}
}

func (w *Watcher) saved(source string, n int, err error) {
	w.mu.Lock()
	for _, s := range w.slots {
		if s.source.Name() == source {
			s.unstored = err
		}
	}
	w.mu.Unlock()
	if err != nil {
		w.metrics.saves.WithLabelValues(source, "failed").Inc()
		w.cfg.Log.WithError(err).WithField("source", source).Error("the state could not be stored")
		return
	}
	w.metrics.saves.WithLabelValues(source, "ok").Inc()
	w.metrics.saved.WithLabelValues(source).Add(float64(n))
}

// Table returns the newest table, nil before the first.
func (w *Watcher) Table() *signalbox.Table {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.table
}
