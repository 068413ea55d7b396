package marathon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
)

// Config configures a Source.
type Config struct {
	// Name names the source; default "marathon".
	Name string
	// URLs are the members' addresses: http://host:port, with DC/OS' path prefix where there is one. At least one.
	URLs []string
	// User and PasswordFile ask for basic authentication, TokenFile for DC/OS' token. Secrets come from files only, are read anew
	// for each request, and are sent to no host other than those of URLs.
	User, PasswordFile, TokenFile string
	// CAFile holds the certificates that may sign the members'; "" takes the system's. Certificates are always verified.
	CAFile string
	// Convert is how apps become services. Verdict and Resolve are set by the Source.
	Convert Options
	// Resync is the mean time between whole reads while the event stream stands, 60 s by default; each is jittered by half.
	// ResyncDown is the same while it does not, 10 s by default.
	Resync, ResyncDown time.Duration
	// StreamIdle is how long the event stream may be silent; default 30 s, three of Marathon's heart-beats.
	StreamIdle time.Duration
	// Timeout bounds one request, its body included, 60 s by default; BodyIdle a silence within it, 15 s by default.
	Timeout, BodyIdle time.Duration
	// MaxBody bounds an answer after decompression, in bytes; default 256 MiB. MaxEvent bounds one event; default 8 MiB.
	MaxBody  int64
	MaxEvent int
	// FleetSize is how many slaves read the same Marathon; reads are spaced accordingly. Default 1.
	FleetSize int
	// Resolver resolves host names; default: one of its own.
	Resolver *discovery.Resolver
	// UserAgent is sent with each request; default "signalbox".
	UserAgent string
	Log       logrus.FieldLogger // nil discards

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // for tests
}

// Source reads one Marathon: its event stream says where to look, reads of single apps and of everything say what is there.
type Source struct {
	cfg      Config
	client   *client
	resolver *discovery.Resolver
	metrics  *sourceMetrics
	verdicts verdicts
	model    *model
	current  atomic.Pointer[[]*signalbox.Service] // the model's state, for the goroutines that read
	hasPods  atomic.Bool                          // Marathon answers questions about pods
	log      logrus.FieldLogger
}

var (
	_ discovery.Source = (*Source)(nil)
	_ discovery.Seeder = (*Source)(nil)
)

// New returns a source, or says what is wrong with cfg. It sends nothing.
func New(cfg Config) (*Source, error) {
	orDefault(&cfg.Name, "marathon")
	orDefault(&cfg.Resync, time.Minute)
	orDefault(&cfg.ResyncDown, 10*time.Second)
	orDefault(&cfg.StreamIdle, 30*time.Second)
	orDefault(&cfg.Timeout, time.Minute)
	orDefault(&cfg.BodyIdle, 15*time.Second)
	orDefault(&cfg.MaxBody, 256<<20)
	orDefault(&cfg.MaxEvent, 8<<20)
	orDefault(&cfg.FleetSize, 1)
	orDefault(&cfg.UserAgent, "signalbox")
	if cfg.Resolver == nil {
		cfg.Resolver = discovery.NewResolver(discovery.ResolverConfig{})
	}
	if cfg.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		cfg.Log = l
	}
	ms, err := newMembers(cfg.URLs)
	if err != nil {
		return nil, err
	}
	auth, err := newAuthorizer(cfg)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	metrics := newSourceMetrics()
	return &Source{
		cfg: cfg,
		client: &client{
			members: ms,
			http: &http.Client{
				Transport:     transport,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
			auth: auth, total: cfg.Timeout, idle: cfg.BodyIdle, limit: cfg.MaxBody, agent: cfg.UserAgent, metrics: metrics,
		},
		resolver: cfg.Resolver, metrics: metrics, model: newModel(), log: cfg.Log.WithField("source", cfg.Name),
	}, nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Name implements discovery.Source.
func (s *Source) Name() string { return s.cfg.Name }

// Seed implements discovery.Seeder: the verdicts of a stored state stand until Marathon says more.
func (s *Source) Seed(state []*signalbox.Service) {
	s.model.seed(state)
	s.verdicts.seed(state)
	s.current.Store(&state)
}

// loop is one run of a source.
type loop struct {
	*Source
	ctx                context.Context
	sched              *schedule
	stream             *stream
	results            chan result
	wg                 *sync.WaitGroup
	resyncAt           time.Time            // when the next whole read is due
	whole              bool                 // one is under way
	flooded            bool                 // so many apps are due that one read of everything asks for less
	running            int                  // reads of single apps under way
	tookAll            time.Duration        // by the last whole read
	failed             int                  // whole reads that failed in a row, at most 4
	endedAll           time.Time            // when it ended
	groupAt            map[string]time.Time // versions of group changes whose apps are not known yet
	posted             map[string]time.Time // apps that an api_post_event named
	keys               map[string]keyed     // by app
	health             discovery.Health
	pending            *discovery.Update
	readErr, streamErr string // why the last one failed, "" if it did not
	logged             string
	loggedAt           time.Time
}

// keyed is the last event of an app that may come in two forms.
type keyed struct {
	key string
	at  time.Time
}

// result is the outcome of one read.
type result struct {
	app     string // "" for a read of everything
	job     job
	start   time.Time
	took    time.Duration
	read    reading
	all     []reading
	deleted bool
	podErr  error // all is without the pods
	err     error
}

// maxReads bounds the reads of single apps at one time.
const maxReads = 4

// sameEventWithin is how long after one form of an event the other form says nothing new.
const sameEventWithin = 2 * time.Second

// Run implements discovery.Source.
func (s *Source) Run(ctx context.Context, out chan<- discovery.Update, again <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer s.client.http.CloseIdleConnections()
	defer wg.Wait()
	defer cancel()
	l := &loop{
		Source: s, ctx: ctx, wg: &wg, sched: newSchedule(s.cfg.FleetSize), results: make(chan result, maxReads+1),
		stream: &stream{
			client: s.client, http: s.client.http, idle: s.cfg.StreamIdle, maxEvent: s.cfg.MaxEvent,
			notices: make(chan notice, 4096), states: make(chan streamState), metrics: s.metrics,
		},
		groupAt: map[string]time.Time{}, posted: map[string]time.Time{}, keys: map[string]keyed{},
		resyncAt: time.Now().Add(300 * time.Millisecond), // the stream comes first if it can, so that one read suffices
	}
	wg.Go(func() { l.stream.run(ctx) })
	moves := make(chan []discovery.HostChange)
	wg.Go(func() {
		s.resolver.Run(ctx, func(c []discovery.HostChange) {
			select {
			case moves <- c:
			case <-ctx.Done():
			}
		})
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.start(time.Now())
		timer.Reset(l.sleep(time.Now()))
		var send chan<- discovery.Update
		var update discovery.Update
		if l.pending != nil {
			send, update = out, *l.pending
			update.Health = l.healthNow()
		}
		select {
		case <-ctx.Done():
			return nil
		case send <- update:
			l.pending = nil
		case n := <-l.stream.notices:
			l.notice(n, time.Now())
		case st := <-l.stream.states:
			l.streamChanged(st, time.Now())
		case r := <-l.results:
			l.finish(r, time.Now())
		case c := <-moves:
			l.moved(c, time.Now())
		case <-again:
			l.resyncSoon()
		case <-timer.C:
			l.report() // heart-beats and ages are news for the health
		}
	}
}

// sleep returns how long nothing is due.
func (l *loop) sleep(now time.Time) time.Duration {
	wait := 5 * time.Second
	if at, ok := l.sched.next(now); ok && l.running < maxReads && !l.flooded {
		wait = min(wait, at.Sub(now))
	}
	if !l.whole {
		wait = min(wait, l.resyncAt.Sub(now))
	}
	return max(wait, time.Millisecond)
}

// start begins what is due: one read of everything, or reads of single apps, whichever asks Marathon for less.
func (l *loop) start(now time.Time) {
	if l.stream.lost.Swap(false) {
		l.resyncSoon()
	}
	n := l.sched.waiting()
	l.flooded = n > 20 && n > len(l.model.apps)/4
	if l.flooded {
		l.resyncSoon()
	}
	if !l.whole && !now.Before(l.resyncAt) {
		l.whole = true
		l.metrics.resyncs.Inc()
		l.wg.Go(func() { l.readAll(now) })
	}
	if l.flooded || l.running >= maxReads {
		return
	}
	for app, j := range l.sched.take(now, maxReads-l.running) {
		l.running++
		l.wg.Go(func() { l.readOne(app, j, now) })
	}
}

// resyncSoon brings the next whole read forward. Whole reads keep a distance of four times what one takes, and at least 0.5 s, so that a
// storm of reasons is one read; a fleet spreads them.
func (l *loop) resyncSoon() {
	at := time.Now()
	if next := l.endedAll.Add(max(500*time.Millisecond, 4*l.tookAll)); at.Before(next) {
		at = next
	}
	if f := time.Duration(l.cfg.FleetSize) * perSlave; f > minSpacing {
		at = at.Add(rand.N(min(f, maxSpacing)))
	}
	if at.Before(l.resyncAt) {
		l.resyncAt = at
	}
}

// planResync sets the next whole read after one that ended at now.
func (l *loop) planResync(now time.Time, failed bool) {
	mean := l.cfg.Resync
	if !l.health.Connected {
		mean = min(mean, l.cfg.ResyncDown)
	}
	if !failed {
		l.failed = 0
	} else {
		l.failed = min(l.failed+1, 4)
		mean = min(mean, max(l.sched.spacing(), min(500*time.Millisecond<<l.failed, 5*time.Second)))
	}
	l.resyncAt = now.Add(mean/2 + rand.N(mean))
}

func (l *loop) streamChanged(st streamState, now time.Time) {
	l.health.Connected = st.connected
	if st.connected {
		l.log.WithField("endpoint", st.endpoint).Info("the event stream stands")
		l.health.Endpoint, l.streamErr = st.endpoint, ""
		l.resyncSoon() // events are not repeated: what happened meanwhile is read
	} else {
		l.streamErr = st.err.Error()
		l.complain("the event stream is down", st.err, now)
		if next := now.Add(l.cfg.ResyncDown/2 + rand.N(l.cfg.ResyncDown)); next.Before(l.resyncAt) {
			l.resyncAt = next
		}
	}
	l.report()
}

// complain logs a failure, unless the same was logged within a minute.
func (l *loop) complain(what string, err error, now time.Time) {
	if err.Error() == l.logged && now.Sub(l.loggedAt) < time.Minute {
		return
	}
	l.logged, l.loggedAt = err.Error(), now
	l.log.WithError(err).Warn(what)
}

// notice acts on one event.
func (l *loop) notice(n notice, now time.Time) {
	cause := "event " + n.Type
	if n.App != "" {
		cause += " " + n.App
	}
	switch n.Action {
	case actResync:
		l.resyncSoon()
		return
	case actGroup:
		l.groupAt[n.Version] = now
		return
	case actDeployment:
		_, named := l.groupAt[n.Version]
		delete(l.groupAt, n.Version)
		l.expire(now)
		for _, app := range n.Apps {
			l.model.explainApp(app)
			if named && now.Sub(l.posted[app]) > sameEventWithin {
				l.want(app, n.At, cause, now)
			}
		}
		return
	case actDeployed:
		for _, app := range n.Apps {
			l.model.explainApp(app)
			l.want(app, n.At, cause, now)
		}
		return
	case actDrain, actSuspect:
		if l.model.mark(n) {
			state := signalbox.Draining
			if n.Action == actSuspect {
				state = signalbox.Suspect
			}
			l.metrics.drains.WithLabelValues(string(state)).Inc()
			l.publish(cause+" "+n.Why, n.At, now, false)
		}
	case actPod:
		l.model.explainApp(n.App)
		l.sched.want(n.App, true, n.At, cause, now)
		return
	}
	if l.repeated(n, now) {
		return
	}
	switch n.Type {
	case "api_post_event":
		l.posted[n.App] = now
		l.model.explainApp(n.App)
	case "app_terminated_event":
		l.model.explainApp(n.App)
	}
	l.want(n.App, n.At, cause, now)
}

// repeated reports whether an event says what another form of it has just said: a health change comes as two events, and a change of
// an instance follows that of its task.
func (l *loop) repeated(n notice, now time.Time) bool {
	last := l.keys[n.App]
	switch {
	case n.Type == "status_update_event":
		l.keys[n.App] = keyed{"condition", now}
	case n.Key == "":
	case n.Key == last.key && now.Sub(last.at) < sameEventWithin:
		return true
	default:
		l.keys[n.App] = keyed{n.Key, now}
	}
	return false
}

// expire drops what was remembered only to tell repeated events apart.
func (l *loop) expire(now time.Time) {
	for _, m := range []map[string]time.Time{l.groupAt, l.posted} {
		for k, at := range m {
			if now.Sub(at) > time.Minute {
				delete(m, k)
			}
		}
	}
	for k, v := range l.keys {
		if now.Sub(v.at) > time.Minute {
			delete(l.keys, k)
		}
	}
}

func (l *loop) want(app string, event time.Time, cause string, now time.Time) {
	known := l.model.apps[app]
	l.sched.want(app, known != nil && known.pod, event, cause, now)
}

// finish takes the outcome of a read in.
func (l *loop) finish(r result, now time.Time) {
	if r.err == nil || r.deleted {
		l.health.LastRead, l.readErr = now, ""
	} else if l.ctx.Err() == nil {
		l.readErr = r.err.Error()
		l.complain("Marathon could not be read; the state before stands", r.err, now)
	}
	if r.app == "" {
		l.whole = false
		l.tookAll, l.endedAll = r.took, now
		l.planResync(now, r.err != nil)
		if r.err != nil {
			l.sched.refusedWhole(isRefused(r.err))
			l.report()
			return
		}
		if r.podErr != nil {
			l.log.WithError(r.podErr).Warn("the pods could not be read; their state before stands")
		}
		l.model.whole(r.all, r.start, r.podErr == nil)
		l.sched.covered(r.start)
		l.expire(now)
		l.verdicts.keep(l.model.state)
		l.publish("resync", time.Time{}, r.start, true)
		return
	}
	l.running--
	l.sched.done(r.app, r.err != nil && !r.deleted, isRefused(r.err), r.took, now)
	changed := false
	switch {
	case r.deleted:
		changed = l.model.deleted(r.app, r.start)
	case r.err == nil:
		changed = l.model.one(r.read, r.start)
	}
	if changed {
		l.publish(r.job.cause, r.job.event, r.start, false)
	} else {
		l.report()
	}
}

// moved takes other addresses of hosts in.
func (l *loop) moved(changes []discovery.HostChange, now time.Time) {
	changed := false
	for _, c := range changes {
		l.log.WithFields(logrus.Fields{"host": c.Host, "from": c.From, "to": c.To}).Info("a host has another address")
		if !c.From.IsValid() {
			l.resyncSoon() // its tasks were left out until now
			continue
		}
		changed = l.model.move(c) || changed
	}
	if changed {
		l.publish("address of "+changes[0].Host, time.Time{}, now, false)
	}
}

// publish makes the model's state the next update. One that has not been taken yet is replaced; what it explained stays.
func (l *loop) publish(cause string, event, start time.Time, whole bool) {
	state := l.model.state
	l.current.Store(&state)
	u := &discovery.Update{
		State: state, Problems: l.model.problems, Explained: l.model.explain, Cause: cause, At: start, Event: event, Whole: whole,
	}
	if u.State == nil {
		u.State = []*signalbox.Service{}
	}
	if p := l.pending; p != nil && p.State != nil {
		u.Whole = u.Whole || p.Whole
		if !p.Event.IsZero() && (u.Event.IsZero() || p.Event.Before(u.Event)) {
			u.Event = p.Event
		}
	}
	if p := l.pending; p != nil {
		u.Explained = union(p.Explained, u.Explained)
	}
	l.model.explain = discovery.Explained{}
	l.pending = u
}

// report makes the health the next update, unless one waits anyway.
func (l *loop) report() {
	if l.pending == nil {
		l.pending = &discovery.Update{Cause: "health", At: time.Now(), Explained: l.model.explain}
		l.model.explain = discovery.Explained{}
	}
}

func union(a, b discovery.Explained) discovery.Explained {
	return discovery.Explained{Apps: either(a.Apps, b.Apps), Tasks: either(a.Tasks, b.Tasks)}
}

func either(a, b map[string]bool) map[string]bool {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make(map[string]bool, len(a)+len(b))
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

func (l *loop) healthNow() discovery.Health {
	h := l.health
	if last := l.stream.last.Load(); last != 0 {
		h.LastEvent = time.Unix(0, last)
	}
	if e := l.client.members.answering(); e != "" {
		h.Endpoint = e
	}
	h.Err = cmp.Or(l.readErr, l.streamErr)
	if lead := l.client.members.unconfiguredLeader(); lead != "" && h.Err != "" {
		h.Err += fmt.Sprintf(" (the leader %s is not among the configured URLs)", lead)
	}
	return h
}

// readAll reads everything, and hands the result to the loop.
func (l *loop) readAll(start time.Time) {
	all, podErr, err := l.everything(l.ctx)
	l.deliver(result{start: start, took: time.Since(start), all: all, podErr: podErr, err: err})
}

// readOne reads one app, and hands the result to the loop.
func (l *loop) readOne(app string, j job, start time.Time) {
	r, err := l.single(l.ctx, app, j.pod)
	l.deliver(result{app: app, job: j, start: start, took: time.Since(start), read: r, err: err, deleted: errors.Is(err, errNotFound)})
}

func (l *loop) deliver(r result) {
	select {
	case l.results <- r:
	case <-l.ctx.Done():
	}
}
