package marathon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
)

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
	again              bool                 // it began too early for what asks for another
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

// result is the outcome of one read.
type result struct {
	app     string // "" for a read of everything
	job     job
	start   time.Time
	took    time.Duration
	read    reading
	all     []reading
	deleted bool
	again   []string // apps of which earlier versions have been read; nothing else is set
	podErr  error    // all is without the pods
	err     error
}

// maxReads bounds the reads of single apps at one time.
const maxReads = 4

// Run implements discovery.Source.
func (s *Source) Run(ctx context.Context, out chan<- discovery.Update, again <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer s.client.http.CloseIdleConnections()
	defer wg.Wait()
	defer cancel()
	l := &loop{
		Source: s, ctx: ctx, wg: &wg, sched: newSchedule(int(s.readers.Load())), results: make(chan result, maxReads+1),
		stream: &stream{
			client: s.client, http: s.client.http, idle: s.cfg.StreamIdle, maxEvent: s.cfg.MaxEvent,
			notices: make(chan notice, 4096), states: make(chan streamState), metrics: s.metrics,
		},
		groupAt: map[string]time.Time{}, posted: map[string]time.Time{}, keys: map[string]keyed{},
		resyncAt: time.Now().Add(300 * time.Millisecond), // the stream comes first if it can, so that one read suffices
	}
	wg.Go(func() { l.stream.run(ctx) })
	known := make(chan struct{}, 1)
	if s.cfg.Directory != nil {
		wg.Go(func() { s.cfg.Directory.Run(ctx, func(urls []string) { l.named(urls, known) }) })
	}
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
		case <-known:
			l.resyncSoon()
			l.report()
		case <-timer.C:
			l.report() // heart-beats and ages are news for the health
		}
	}
}

// named takes over the members that the directory knows. It runs on the directory's goroutine.
func (l *loop) named(urls []string, known chan<- struct{}) {
	moved, err := l.client.members.replace(urls)
	if err != nil {
		l.log.WithError(err).Warn("a list of Marathon's members can't be used")
		return
	}
	if !moved {
		return
	}
	l.stream.moved()
	select {
	case known <- struct{}{}:
	default:
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
	l.sched.space(int(l.readers.Load()))
	if l.stream.lost.Swap(false) {
		l.resyncSoon()
	}
	n := l.sched.waiting()
	l.flooded = n > 20 && n > len(l.model.apps)/4
	if l.flooded && !l.whole {
		l.resyncSoon()
	}
	if !l.whole && !now.Before(l.resyncAt) {
		l.whole, l.again = true, false
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
// storm of reasons is one read; a fleet spreads them. A read under way may have missed the reason: another follows it.
func (l *loop) resyncSoon() {
	l.again = l.again || l.whole
	at := time.Now()
	if next := l.endedAll.Add(max(500*time.Millisecond, 4*l.tookAll)); at.Before(next) {
		at = next
	}
	if f := time.Duration(l.readers.Load()) * perSlave; f > minSpacing {
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

// finish takes the outcome of a read in.
func (l *loop) finish(r result, now time.Time) {
	if r.again != nil {
		for _, app := range r.again {
			l.want(app, time.Time{}, "earlier version of "+app, now)
		}
		return
	}
	l.askVersions(append(r.all, r.read))
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
		if l.again && r.err == nil { // a failed one is repeated anyway
			l.resyncSoon()
		}
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
		l.shapes.keep(func(app string) bool { return l.model.apps[app] != nil })
		l.publish("resync", time.Time{}, r.start, true)
		return
	}
	l.running--
	l.sched.done(r.app, r.err != nil && !r.deleted, isRefused(r.err), r.took, now)
	changed := false
	switch {
	case r.deleted:
		changed = l.model.deleted(r.app, r.start)
		l.wordings.forget(r.app)
		l.deploying.set(r.app, "")
	case r.err == nil:
		changed = l.model.one(r.read, r.start)
	}
	if changed {
		cause := r.job.cause
		if r.read.deployment != "" && !strings.Contains(cause, inDeployment) {
			cause += inDeployment + r.read.deployment
		}
		l.publish(cause, r.job.event, r.start, false)
	} else {
		l.report()
	}
}

// askVersions reads what is still unknown of earlier versions, and then the apps once more.
func (l *loop) askVersions(all []reading) {
	var versions []version
	var apps []string
	for _, r := range all {
		if len(r.unknown) > 0 {
			versions, apps = append(versions, r.unknown...), append(apps, r.app)
		}
	}
	if versions == nil {
		return
	}
	l.wg.Go(func() {
		if l.readVersions(l.ctx, versions) {
			l.deliver(result{again: apps})
		}
	})
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
		changed = l.model.move(c, func(at netip.AddrPort) bool {
			return checked(at.Addr(), int(at.Port()), &l.cfg.Convert).trouble == ""
		}) || changed
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
		u.Cause = discovery.Causes(p.Cause, cause)
	}
	if p := l.pending; p != nil {
		u.Explained = p.Explained.And(u.Explained)
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
	if d := l.cfg.Directory; d != nil {
		if trouble := d.Trouble(); trouble != "" && h.Err != "" {
			h.Err += " (" + trouble + ")"
		} else if trouble != "" {
			h.Detail = "following " + h.Endpoint + " (" + trouble + ")"
		}
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
