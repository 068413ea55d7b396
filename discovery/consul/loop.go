package consul

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// loop is one run of a source.
type loop struct {
	*Source
	news    chan news
	reads   chan struct{} // a seat for each question that is answered at once
	watches chan struct{} // a seat for each blocking query
	crowded atomic.Bool   // there are more services to follow than seats
	calm    atomic.Pointer[context.Context]
	unCalm  context.CancelFunc
	wg      sync.WaitGroup

	// Of the goroutine that runs.
	session  context.Context // nil: none stands
	began    time.Time
	known    map[string]*service
	waiting  int  // services of which the session has read nothing yet
	whole    bool // the session has read everything once
	ready    bool // a session has: there is a whole to speak of
	sweeping bool
	grace    *time.Timer // runs while Consul's history is a new one
	inGrace  bool
	health   discovery.Health
	explain  discovery.Explained
	pending  *discovery.Update
	logged   string
	loggedAt time.Time
}

// service is what is known of one of Consul's services.
type service struct {
	tags     []string
	session  context.Context    // in which it was asked for
	cancel   context.CancelFunc // of the goroutine that reads it
	waiting  bool               // nothing has been read in the session yet
	read     bool               // all is of some read
	all      []instance
	labelled bool
	err      string // why the last read failed
	services []*signalbox.Service
	problems []signalbox.Problem
}

// Run implements discovery.Source.
func (s *Source) Run(ctx context.Context, out chan<- discovery.Update, again <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{
		Source: s, news: make(chan news), reads: make(chan struct{}, maxReads), watches: make(chan struct{}, s.cfg.Watches),
		known: map[string]*service{}, grace: time.NewTimer(0),
	}
	<-l.grace.C
	defer l.grace.Stop()
	l.calmDown(ctx)
	defer s.client.http.CloseIdleConnections()
	defer l.wg.Wait()
	defer cancel()
	defer func() { l.unCalm() }()
	moves := make(chan []discovery.HostChange)
	l.wg.Go(func() {
		s.resolver.Run(ctx, func(c []discovery.HostChange) {
			select {
			case moves <- c:
			case <-ctx.Done():
			}
		})
	})
	l.wg.Go(func() { l.follow(ctx) })
	for {
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
		case n := <-l.news:
			l.take(ctx, n)
		case c := <-moves:
			l.moved(c)
		case <-again:
			l.confirm()
		case <-l.grace.C:
			l.inGrace = false
			l.confirm()
		}
	}
}

// take takes news in.
func (l *loop) take(ctx context.Context, n news) {
	switch {
	case n.down != nil:
		l.down(n.down)
	case n.ctx.Err() != nil: // of a session that has ended meanwhile
	case n.sweep != nil:
		l.swept(n)
	case n.list != nil:
		l.listed(ctx, n)
	default:
		l.readOne(n)
	}
	l.metrics.watched.Set(float64(l.following()))
}

// down notes that Consul does not answer.
func (l *loop) down(err error) {
	l.session, l.sweeping = nil, false
	l.health.Connected, l.health.Err = false, err.Error()
	l.complain("Consul cannot be read; the state before stands", err.Error())
	l.report()
}

// complain logs a failure, unless the same was logged within a minute.
func (l *loop) complain(what, err string) {
	now := time.Now()
	if err == l.logged && now.Sub(l.loggedAt) < time.Minute {
		return
	}
	l.logged, l.loggedAt = err, now
	l.log.WithField("error", err).Warn(what)
}

// listed takes the list of services in: those that have come are read, those that are gone are forgotten.
func (l *loop) listed(ctx context.Context, n news) {
	if l.session != n.ctx {
		l.session, l.began, l.whole, l.waiting = n.ctx, n.at, false, 0
		l.metrics.sessions.Inc()
		l.log.WithField("endpoint", l.client.endpoint()).Info("Consul answers")
	}
	l.health.Connected, l.health.LastEvent, l.health.LastRead, l.health.Err = true, n.came, n.came, ""
	if n.anew {
		l.log.Warn("Consul's history has begun anew; what it had and lacks now stays for ", l.cfg.grace)
		l.inGrace = true
		l.grace.Reset(l.cfg.grace)
	}
	gone := l.forget(n.list)
	delay := l.spread()
	for _, name := range slices.Sorted(maps.Keys(n.list)) {
		tags := slices.Sorted(slices.Values(n.list[name]))
		k := l.known[name]
		if k == nil {
			k = &service{services: l.stored(name)}
			l.known[name] = k
		}
		if k.session == n.ctx && (slices.Equal(k.tags, tags) || l.followed(k) && l.hinted(tags) == l.hinted(k.tags)) {
			k.tags = tags
			continue
		}
		l.begin(n.ctx, name, k, tags, delay)
	}
	l.crowd(ctx)
	if !l.done(n.at) && gone {
		l.publish("services that are gone", n.came, n.at, false)
	}
	l.report()
}

// begin has a service read, and followed if there is reason to.
func (l *loop) begin(session context.Context, name string, k *service, tags []string, delay time.Duration) {
	if k.cancel != nil {
		k.cancel()
	}
	if k.session != session || !k.waiting {
		l.waiting++
	}
	hinted := l.hinted(tags)
	k.tags, k.session, k.waiting = tags, session, true
	var ctx context.Context
	ctx, k.cancel = context.WithCancel(session)
	l.wg.Go(func() {
		sleep(ctx, delay)
		l.watch(ctx, name, hinted)
	})
}

// spread returns a delay by which the slaves of a fleet begin to read one after the other.
func (l *loop) spread() time.Duration {
	if l.whole || l.cfg.FleetSize <= 1 {
		return 0
	}
	return rand.N(min(time.Duration(l.cfg.FleetSize)*2*time.Millisecond, 2*time.Second))
}

// forget drops the services that a list is without, and reports whether anything of them was served. A history that has begun anew lacks
// what its agents have yet to register again.
func (l *loop) forget(list map[string][]string) bool {
	served := false
	for name, k := range l.known {
		if _, there := list[name]; there {
			continue
		}
		if l.inGrace && len(k.services) > 0 {
			k.err = "" // nobody asks for it
			continue
		}
		if k.cancel != nil {
			k.cancel()
		}
		if k.waiting && k.session == l.session {
			l.waiting--
		}
		served = served || len(k.services)+len(k.problems) > 0
		delete(l.known, name)
		l.define(name, nil)
	}
	return served
}

// stored returns the services of the last state that one of Consul's was.
func (l *loop) stored(name string) []*signalbox.Service {
	var out []*signalbox.Service
	for _, s := range l.state {
		if s.App == appOf(name) {
			out = append(out, s)
		}
	}
	return out
}

// readOne takes what there is of one service in.
func (l *loop) readOne(n news) {
	k := l.known[n.name]
	if k == nil || k.session != l.session {
		return
	}
	if k.waiting {
		k.waiting = false
		l.waiting--
	}
	if n.err != nil {
		k.err = "reading the service " + word(n.name) + ": " + n.err.Error()
		l.complain("a service of Consul cannot be read; its state before stands", k.err)
		l.done(n.at)
		l.report()
		return
	}
	l.health.LastEvent = n.came
	served := len(k.services)+len(k.problems) > 0
	if l.inGrace {
		n.all = withMissing(n.all, k.all)
	}
	l.set(n.name, k, n.all)
	if l.done(n.at) || !served && len(k.services)+len(k.problems) == 0 {
		return
	}
	event := time.Time{}
	if n.changed {
		event = n.came
	}
	l.publish("service "+word(n.name), event, n.at, false)
}

// withMissing adds the instances that are not among all of a service any more, sorted by task.
func withMissing(all, before []instance) []instance {
	for _, i := range before {
		if !slices.ContainsFunc(all, func(o instance) bool { return o.task == i.task }) {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b instance) int { return cmp.Compare(a.task, b.task) })
	return all
}

// done publishes a whole state once the session has read everything, and reports whether it did.
func (l *loop) done(at time.Time) bool {
	if l.whole || l.waiting > 0 || l.session == nil {
		return false
	}
	l.whole, l.ready = true, true
	complete := !slices.ContainsFunc(slices.Collect(maps.Values(l.known)), func(k *service) bool { return k.err != "" })
	l.publish("everything read", time.Time{}, cmp.Or(l.began, at), complete)
	return true
}

// set makes services of the instances of one of Consul's.
func (l *loop) set(name string, k *service, all []instance) {
	k.all, k.read, k.err = all, true, ""
	k.labelled = slices.ContainsFunc(all, func(i instance) bool { return i.labelled() })
	before := k.services
	k.services, k.problems = convert(name, all, l.surroundings(&signalbox.Table{Services: before}))
	for i, s := range k.services {
		if j, ok := slices.BinarySearchFunc(before, s.ID, func(o *signalbox.Service, id signalbox.ServiceID) int { return cmp.Compare(o.ID, id) }); ok && before[j].Equal(s) {
			k.services[i] = before[j] // an unchanged service keeps its pointer
		}
	}
	l.explainLoss(name, before, k)
	l.define(name, all)
}

// explainLoss explains what is not served any more, though it is still registered: its labels say so.
func (l *loop) explainLoss(name string, before []*signalbox.Service, k *service) {
	if len(before) == 0 || len(k.all) == 0 {
		return
	}
	x := discovery.Explained{Apps: map[string]bool{}, Tasks: map[string]bool{}, Proven: map[string]bool{}}
	if len(k.services) == 0 {
		x.Apps[appOf(name)], x.Proven[appOf(name)] = true, true
	}
	for i := range k.all {
		if !k.all[i].labelled() || len(k.services) == 0 {
			x.Tasks[k.all[i].task] = true
		}
	}
	l.explain = l.explain.And(x)
}

// confirm has everything read once more.
func (l *loop) confirm() {
	if l.session == nil || l.sweeping || !l.whole {
		return // a session that begins reads everything anyway
	}
	l.sweeping = true
	var names []string
	for name, k := range l.known {
		if l.followed(k) || k.err != "" {
			names = append(names, name)
		}
	}
	session := l.session
	l.wg.Go(func() { l.sweep(session, names) })
}

// swept takes a read of everything in.
func (l *loop) swept(n news) {
	l.sweeping = false
	if n.err != nil {
		l.complain("Consul could not be read once more", n.err.Error())
		return
	}
	l.forget(n.list)
	for name, all := range n.sweep {
		if k := l.known[name]; k != nil {
			l.set(name, k, all)
		}
	}
	l.health.LastRead = n.came
	l.publish("everything read once more", time.Time{}, n.at, true)
}

// moved takes other addresses of hosts in.
func (l *loop) moved(changes []discovery.HostChange) {
	l.log.WithField("host", changes[0].Host).Info("a host has another address")
	for name, k := range l.known {
		if k.read {
			l.set(name, k, k.all)
		}
	}
	l.publish("address of "+changes[0].Host, time.Time{}, time.Now(), false)
}

// publish makes what is known the next update, once there is a whole to speak of. One that has not been taken yet is replaced; what it
// explained stays.
func (l *loop) publish(cause string, event, at time.Time, whole bool) {
	if !l.ready {
		return
	}
	u := &discovery.Update{State: []*signalbox.Service{}, Cause: cause, At: at, Event: event, Whole: whole, Explained: l.explain}
	for _, k := range l.known {
		u.State = append(u.State, k.services...)
		u.Problems = append(u.Problems, k.problems...)
	}
	slices.SortFunc(u.State, func(a, b *signalbox.Service) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(u.Problems, signalbox.Problem.Compare)
	u.Problems = slices.Compact(u.Problems)
	if p := l.pending; p != nil {
		if p.State != nil {
			u.Cause = discovery.Causes(p.Cause, cause)
			u.Whole = u.Whole || p.Whole
			if !p.Event.IsZero() && (u.Event.IsZero() || p.Event.Before(u.Event)) {
				u.Event = p.Event
			}
		}
		u.Explained = p.Explained.And(u.Explained)
	}
	l.explain = discovery.Explained{}
	l.state, l.pending = u.State, u
}

// report makes the health the next update, unless one waits anyway.
func (l *loop) report() {
	if l.pending == nil {
		l.pending = &discovery.Update{Cause: "health", At: time.Now()}
	}
}

func (l *loop) healthNow() discovery.Health {
	h := l.health
	h.Endpoint = l.client.endpoint()
	for _, name := range slices.Sorted(maps.Keys(l.known)) {
		h.Err = cmp.Or(h.Err, l.known[name].err)
	}
	return h
}

// hinted reports whether the tags of a service are reason to follow it.
func (l *loop) hinted(tags []string) bool { return hints(tags, l.cfg.Convert.Labels) }

// followed reports whether a service is followed.
func (l *loop) followed(k *service) bool { return k.labelled || l.hinted(k.tags) }

// following counts the services that are followed.
func (l *loop) following() int {
	n := 0
	for _, k := range l.known {
		if l.session != nil && k.session == l.session && l.followed(k) {
			n++
		}
	}
	return n
}

// crowd has services take turns from when there are more of them than seats.
func (l *loop) crowd(ctx context.Context) {
	crowded := l.following() > l.cfg.Watches
	if crowded == l.crowded.Load() {
		return
	}
	if crowded {
		l.log.Warnf("more services of Consul are to be followed than there may be blocking queries (%d): they take turns", l.cfg.Watches)
		l.crowded.Store(true)
		l.unCalm()
		return
	}
	l.calmDown(ctx)
	l.crowded.Store(false)
}

// calmDown lets blocking queries wait for long.
func (l *loop) calmDown(ctx context.Context) {
	calm, cancel := context.WithCancel(ctx)
	l.calm.Store(&calm)
	l.unCalm = cancel
}
