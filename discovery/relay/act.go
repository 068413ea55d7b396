package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"signalbox/discovery"
)

// auditEvery is the time between two looks of a leader at what it has published.
const auditEvery = time.Minute

type telling struct {
	pub *publisher
	err error
}

// stale says since when the relay has been of no use, and whether that is too long.
func (l *loop) stale(now time.Time) (since time.Time, is bool) {
	since, limit := l.moved, staleBeats*l.cfg.Beat
	if since.IsZero() || l.place.generation == 0 {
		since = l.began
		switch {
		case l.head != nil && now.Sub(l.moved) < limit:
			limit = l.cfg.Patience // somebody leads, and has not read yet, or what it has read is on its way
		case len(l.current) == 0:
			limit = l.cfg.Beat // nothing is served yet
		}
	}
	if !l.loadFrom.IsZero() && l.loadFrom.Before(since) {
		since = l.loadFrom
	}
	return since, now.Sub(since) > limit
}

// act begins and ends what is due.
func (l *loop) act(now time.Time) {
	l.load(now)
	if l.pub == nil && !l.claiming && !l.loading && !l.claimAt.IsZero() && !now.Before(l.claimAt) && !now.Before(l.notBefore) {
		l.claim(now)
	}
	if l.pub != nil {
		l.aloneAt = time.Time{}
		if !now.Before(l.readBy) {
			l.log.Warn("this controller leads, but can't read: it leaves that to another one")
			l.notBefore = now.Add(l.cfg.Patience + rand.N(l.cfg.Patience))
			l.depose("it can't read")
		} else if !l.telling && !now.Before(l.tellAt) && (l.toTell != nil && l.toTell.state != nil || l.rebase || now.Sub(l.toldAt) >= l.cfg.Beat) {
			l.tell(now)
		}
	} else if _, is := l.stale(now); !is {
		// A head of a leader that has not read yet may be older than what this controller has read itself.
		if l.aloneAt.IsZero() || l.stopDirect == nil || l.head != nil && l.head.Err == "" && l.place.at(l.head) {
			l.aloneAt = time.Time{}
		}
	} else if l.aloneAt.IsZero() {
		l.aloneAt = now.Add(l.spread(20*time.Millisecond, time.Minute))
	}
	if sharing, ok := l.cfg.Direct.(Sharing); ok {
		readers := l.cfg.FleetSize
		if l.pub != nil {
			readers = 1
		}
		sharing.Share(readers)
	}
	want := l.pub != nil || !l.aloneAt.IsZero() && !now.Before(l.aloneAt)
	switch {
	case want && l.stopDirect == nil:
		if l.pub == nil {
			l.metrics.fallbacks.Inc()
		}
		l.startDirect()
	case !want && l.stopDirect != nil && !l.stopping:
		l.stopping = true
		l.stopDirect()
		l.back()
	}
}

// back gives out the relay's state after that of the direct source.
func (l *loop) back() {
	l.health = discovery.Health{}
	if l.head == nil || !l.place.at(l.head) {
		return
	}
	img := l.place.image
	l.current, l.problems = img.state, img.problems
	l.publish("relay: back to what "+l.head.Leader+" reads", time.Time{}, l.head.Now.Sub(l.head.Whole), true)
}

func (l *loop) startDirect() {
	ctx, cancel := context.WithCancel(l.ctx)
	l.stopDirect = cancel
	if seeder, ok := l.cfg.Direct.(discovery.Seeder); ok {
		seeder.Seed(l.current)
	}
	l.wg.Go(func() {
		err := l.cfg.Direct.Run(ctx, l.direct, l.again)
		cancel()
		deliver(l.ctx, l.ended, err)
	})
}

// read takes what the direct source says.
func (l *loop) read(u discovery.Update, now time.Time) {
	if l.stopping {
		return
	}
	l.health = u.Health
	if u.State != nil {
		l.current, l.problems = u.State, u.Problems
	}
	l.forward(u)
	if u.Health.Err == "" || now.Sub(u.Health.LastRead) < l.cfg.Patience {
		if !u.Health.LastRead.IsZero() {
			l.readBy = now.Add(l.cfg.Patience)
		}
	}
	if l.pub == nil {
		return
	}
	n := &news{
		state: u.State, problems: u.Problems, explain: u.Explained, cause: u.Cause, at: u.At, event: u.Event, whole: u.Whole && u.State != nil,
		read: u.Health.LastRead,
	}
	if u.Health.Err != "" && now.Sub(u.Health.LastRead) > 2*l.cfg.Beat {
		n.err = u.Health.Err
	}
	l.toTell = l.toTell.and(n)
}

// and returns what both tell, n after before, which may be nil.
func (before *news) and(n *news) *news {
	if before == nil {
		return n
	}
	out := *n
	out.explain = before.explain.And(n.explain)
	if before.state == nil {
		return &out
	}
	if out.state == nil {
		out.state, out.problems, out.at, out.event, out.whole, out.cause = before.state, before.problems, before.at, before.event, before.whole, before.cause
		return &out
	}
	out.cause = discovery.Causes(before.cause, n.cause)
	if !before.event.IsZero() && (n.event.IsZero() || before.event.Before(n.event)) {
		out.event = before.event
	}
	if before.whole && !n.whole {
		out.whole, out.at = true, before.at
	}
	return &out
}

// forward makes an update the next one, with what one that has not been taken yet still has to say.
func (l *loop) forward(u discovery.Update) {
	if p := l.pending; p != nil {
		u.Explained = p.Explained.And(u.Explained)
		switch {
		case u.State == nil:
			u.State, u.Problems, u.Whole, u.Cause, u.At, u.Event = p.State, p.Problems, p.Whole, p.Cause, p.At, p.Event
		case p.State != nil:
			u.Whole = u.Whole || p.Whole
			u.Cause = discovery.Causes(p.Cause, u.Cause)
			if !p.Event.IsZero() && (u.Event.IsZero() || p.Event.Before(u.Event)) {
				u.Event = p.Event
			}
		}
	}
	l.pending = &u
}

// claim tries to become the leader.
func (l *loop) claim(now time.Time) {
	l.claiming = true
	old, seen := l.head, l.last
	if old != nil && !l.place.at(old) && old.Generation > 0 {
		generation := old.Generation
		old = nil
		l.place.generation = max(l.place.generation, generation)
	}
	h := take(old, l.cfg.Node, l.epoch, now)
	l.wg.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
		defer cancel()
		text, err := h.encode(l.key)
		var term Term
		if err == nil {
			term, err = l.cfg.Store.Claim(ctx, seen, text)
		}
		r := claimResult{term, h, err}
		select {
		case l.claims <- r:
		case <-l.ctx.Done():
			if term != nil {
				leave(term)
			}
		}
	})
}

// leave ends a term within bounds, for another to begin.
func leave(t Term) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	t.Resign(ctx)
}

func (l *loop) claimed(r claimResult, now time.Time) {
	l.claiming, l.claimAt = false, time.Time{}
	if r.err != nil {
		if !errors.Is(r.err, errTaken) {
			l.metrics.errors.WithLabelValues(errorStore).Inc()
			l.complain(errorStore, r.err)
		}
		l.claimAt = now.Add(l.cfg.Beat/4 + l.spread(2*time.Millisecond, l.cfg.Beat)) // what the store shows meanwhile may say otherwise
		return
	}
	l.metrics.terms.Inc()
	l.pub = &publisher{
		term: r.term, key: l.key, most: l.cfg.Store.Most(), head: r.head, image: &image{}, floor: l.place.generation, metrics: l.metrics, read: l.cfg.Store.Read,
	}
	if r.head.Generation > 0 {
		l.pub.image = l.place.image
	}
	l.telling, l.toTell, l.tellAt, l.toldAt, l.tellErr, l.rebase = false, nil, now, now, "", false
	l.readBy, l.auditAt = now.Add(l.cfg.Patience), now
	if l.stopDirect != nil && !l.stopping && !l.health.LastRead.IsZero() {
		l.toTell = &news{state: l.current, problems: l.problems, cause: "read before the election", at: now, read: l.health.LastRead}
	}
}

// tell publishes what there is to tell.
func (l *loop) tell(now time.Time) {
	n, pub := l.toTell, l.pub
	if n == nil {
		n = &news{}
	}
	if n.read.IsZero() {
		n.read = l.health.LastRead
	}
	if l.health.LastRead.IsZero() {
		n.err = "it has not read yet"
	}
	n.rebase = n.rebase || l.rebase
	audit := !now.Before(l.auditAt)
	if audit {
		l.auditAt = now.Add(auditEvery/2 + rand.N(auditEvery))
	}
	l.toTell, l.inTelling, l.telling, l.rebase = nil, n, true, false
	l.wg.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, max(2*l.cfg.Beat, 5*time.Second))
		defer cancel()
		if audit {
			n.rebase = pub.audit(ctx) || n.rebase
		}
		deliver(l.ctx, l.told, telling{pub, pub.publish(ctx, *n, time.Now())})
	})
}

func (l *loop) toldNews(r telling, now time.Time) {
	if r.pub != l.pub {
		return // of an earlier term
	}
	l.telling = false
	switch {
	case r.err == nil:
		l.toldAt, l.tellAt, l.tellErr = now, now.Add(l.cfg.Pace), ""
		l.moved = now
		l.place = position{l.pub.head.Generation, l.pub.head.Sum, l.pub.image}
	case errors.Is(r.err, errDeposed):
		l.depose(r.err.Error())
	default:
		l.metrics.errors.WithLabelValues(errorPublish).Inc()
		l.complain(errorPublish, r.err)
		l.tellErr, l.tellAt = r.err.Error(), now.Add(l.cfg.Beat/10+rand.N(l.cfg.Beat/5))
		if l.toTell == nil {
			l.toTell = l.inTelling
		} else {
			l.toTell = l.inTelling.and(l.toTell)
		}
		l.rebase = l.rebase || l.inTelling.rebase
	}
}

// depose ends this controller's term. What it has read stays until the relay shows something newer.
func (l *loop) depose(why string) {
	l.log.WithField("why", why).Warn("this controller does not lead any more")
	term := l.pub.term
	l.pub, l.telling, l.toTell = nil, false, nil
	if l.moved.IsZero() {
		l.moved = time.Now()
	}
	l.wg.Go(func() { leave(term) })
}

// resign leaves the lead at the end of the run.
func (l *loop) resign() {
	if l.pub != nil {
		leave(l.pub.term)
		l.pub = nil
	}
}

// sleep returns how long nothing is due.
func (l *loop) sleep(now time.Time) time.Duration {
	wait := min(l.cfg.Beat, 5*time.Second)
	at := func(times ...time.Time) {
		if t := slices.MaxFunc(times, time.Time.Compare); t.After(now) {
			wait = min(wait, t.Sub(now))
		}
	}
	if l.pub == nil && !l.claiming && !l.claimAt.IsZero() {
		at(l.claimAt, l.notBefore)
	}
	if l.pub != nil && !l.telling {
		at(l.toldAt.Add(l.cfg.Beat), l.tellAt)
		if l.toTell != nil && l.toTell.state != nil || l.rebase {
			at(l.tellAt)
		}
	}
	at(l.aloneAt)
	at(l.retryAt)
	return max(wait, time.Millisecond)
}
