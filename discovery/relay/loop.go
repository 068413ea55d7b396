package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// staleBeats is after how many beats without one a relay is stale.
const staleBeats = 3

// loop is one run of a source. All but the channels is of one goroutine.
type loop struct {
	*Source
	ctx     context.Context
	wg      sync.WaitGroup
	began   time.Time
	seen    chan watched
	loads   chan loadResult
	claims  chan claimResult
	told    chan telling
	direct  chan discovery.Update
	ended   chan error // the direct source has ended
	pending *discovery.Update

	// The relay.
	last     Seen      // what the store showed last
	head     *head     // of it, nil: none that can be used
	moved    time.Time // when a head last came that is newer than the one before
	trouble  string    // why there is no using what is published
	place    position  // the state that was taken over last
	loading  bool
	loadFrom time.Time // when the first load that failed began; zero: the last one did not fail
	retryAt  time.Time

	// Reading for itself.
	stopDirect context.CancelFunc // nil: the direct source does not run
	stopping   bool
	again      chan struct{}
	aloneAt    time.Time            // when it is to run without leading; zero: not at all
	current    []*signalbox.Service // what was given out last
	problems   []signalbox.Problem
	health     discovery.Health // of the direct source
	filtered   map[*signalbox.Service]*signalbox.Service

	// Leading.
	claimAt    time.Time // when to try; zero: there is no reason
	notBefore  time.Time
	claiming   bool
	pub        *publisher // nil: somebody else leads, or nobody
	telling    bool
	toTell     *news // nil: only that it leads still
	inTelling  *news
	tellAt     time.Time // not before
	toldAt     time.Time
	tellErr    string
	rebase     bool // what is published is damaged
	auditAt    time.Time
	readBy     time.Time // until when the source must have been read, or another shall lead
	logged     string
	loggedRole Role
}

type watched struct {
	seen Seen
	err  error
}

type loadResult struct {
	got *loaded
	h   *head
	err error
}

type claimResult struct {
	term Term
	head *head
	err  error
}

// Run implements discovery.Source.
func (s *Source) Run(ctx context.Context, out chan<- discovery.Update, again <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{
		Source: s, ctx: ctx, began: time.Now(), seen: make(chan watched), loads: make(chan loadResult), claims: make(chan claimResult), told: make(chan telling),
		direct: make(chan discovery.Update), ended: make(chan error), again: make(chan struct{}, 1),
		current: s.seeded, place: position{image: &image{}}, filtered: map[*signalbox.Service]*signalbox.Service{},
	}
	defer s.cfg.Store.Close()
	defer l.wg.Wait()
	defer cancel()
	defer l.resign()
	l.wg.Go(l.watch)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		l.act(now)
		l.note(now)
		timer.Reset(l.sleep(now))
		var send chan<- discovery.Update
		var update discovery.Update
		if l.pending != nil {
			send, update = out, *l.pending
			update.Health = l.healthNow(now)
		}
		select {
		case <-ctx.Done():
			return nil
		case send <- update:
			l.pending = nil
		case w := <-l.seen:
			l.watched(w, time.Now())
		case r := <-l.loads:
			l.loaded(r, time.Now())
		case r := <-l.claims:
			l.claimed(r, time.Now())
		case r := <-l.told:
			l.toldNews(r, time.Now())
		case <-l.lost():
			l.depose("its term has ended")
		case u := <-l.direct:
			l.read(u, time.Now())
		case err := <-l.ended:
			l.stopDirect, l.stopping = nil, false
			if err != nil {
				return err // its configuration can never work
			}
		case <-again:
			select {
			case l.again <- struct{}{}: // where the direct source runs; else the leader's own doubts make it read again
			default:
			}
		case <-timer.C:
			l.report()
		}
	}
}

func (l *loop) lost() <-chan struct{} {
	if l.pub == nil {
		return nil
	}
	return l.pub.term.Lost()
}

// deliver hands a value to the loop while that runs.
func deliver[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// spread is over which time the fleet does what each of it takes per for.
func (l *loop) spread(per, most time.Duration) time.Duration {
	return rand.N(min(time.Duration(l.cfg.FleetSize)*per, most) + time.Millisecond)
}

// watch follows the head.
func (l *loop) watch() {
	var seen Seen
	wait := 250 * time.Millisecond
	for l.ctx.Err() == nil {
		next, err := l.cfg.Store.Watch(l.ctx, seen)
		if err != nil && l.ctx.Err() != nil {
			return
		}
		deliver(l.ctx, l.seen, watched{next, err})
		pause := rand.N(l.cfg.Pace/2 + 1) // several heads in a row are one answer
		if err != nil {
			pause, seen.Anew = wait+rand.N(wait), true
			wait = min(2*wait, max(l.cfg.Beat/2, time.Second))
		} else {
			seen, wait = next, 250*time.Millisecond
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// watched takes what the store shows.
func (l *loop) watched(w watched, now time.Time) {
	if w.err != nil {
		l.metrics.errors.WithLabelValues(errorStore).Inc()
		l.complain(errorStore, w.err)
		l.trouble = w.err.Error()
		return
	}
	same := l.last.Version == w.seen.Version && string(l.last.Value) == string(w.seen.Value)
	l.last = w.seen
	if !w.seen.Held && l.claimAt.IsZero() {
		l.claimAt = now.Add(l.spread(2*time.Millisecond, 2*time.Second))
	} else if w.seen.Held {
		l.claimAt = time.Time{}
	}
	if same && l.head != nil {
		return
	}
	if w.seen.Value == nil {
		l.head, l.trouble, l.rebase = nil, "nothing is published", true
		return
	}
	h, err := decodeHead(w.seen.Value, l.key)
	if err != nil {
		l.metrics.errors.WithLabelValues(errorHead).Inc()
		l.complain(errorHead, err)
		l.head, l.trouble = nil, err.Error()
		return
	}
	if l.head == nil || h.Epoch != l.head.Epoch || h.Beat != l.head.Beat {
		l.moved = now
	}
	before := l.head
	l.head, l.trouble = h, ""
	if l.pub != nil {
		return
	}
	l.retryAt = time.Time{}
	l.load(now)
	if l.place.at(h) && l.stopDirect == nil && before != nil && h.Whole.After(before.Whole) {
		l.publish("relay: a whole read of "+h.Leader, time.Time{}, h.Now.Sub(h.Whole), true) // it may confirm what is held back
	}
}

// load takes the state of the head over: at once where it brings along what has changed.
func (l *loop) load(now time.Time) {
	if l.head == nil || l.head.Generation == 0 || l.loading || l.place.at(l.head) || now.Before(l.retryAt) || l.pub != nil {
		return
	}
	h, from := l.head, l.place
	got, err := load(l.ctx, h, from, nil)
	if err == nil {
		l.loaded(loadResult{got, h, nil}, now)
		return
	}
	l.loading = true
	pause := time.Duration(0)
	if h.Base.Packed > 64<<10 && from.generation > 0 {
		pause = l.spread(2*time.Millisecond, time.Second)
	}
	l.wg.Go(func() {
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
		}
		ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
		defer cancel()
		got, err := load(ctx, h, from, l.cfg.Store.Read)
		deliver(l.ctx, l.loads, loadResult{got, h, err})
	})
}

// loaded takes the outcome of a load.
func (l *loop) loaded(r loadResult, now time.Time) {
	l.loading = false
	if r.err == nil {
		r.err = l.checked(r.got.image)
	}
	if r.err != nil {
		if l.head != nil && l.head.Beat == r.h.Beat { // else what it led to may have been replaced, and the next head is tried at once
			l.metrics.errors.WithLabelValues(errorState).Inc()
			l.complain(errorState, r.err)
			if l.loadFrom.IsZero() {
				l.loadFrom = now
			}
			l.trouble = r.err.Error()
			l.retryAt = now.Add(l.cfg.Beat/10 + rand.N(l.cfg.Beat/5))
		}
		l.load(now)
		return
	}
	l.metrics.loads.WithLabelValues(r.got.how).Inc()
	l.loadFrom, l.trouble = time.Time{}, ""
	l.place = position{r.h.Generation, r.h.Sum, r.got.image}
	if l.pub == nil && l.stopDirect == nil {
		l.take(r)
	}
	l.load(now) // a newer one may have come meanwhile
}

// take gives out what was loaded.
func (l *loop) take(r loadResult) {
	l.current, l.problems = r.got.image.state, r.got.image.problems
	if l.pending == nil {
		l.pending = &discovery.Update{}
	}
	l.pending.Explained = l.pending.Explained.And(r.got.explain)
	event := r.got.event
	if now := time.Now(); event.After(now) {
		event = now
	}
	l.publish(fmt.Sprintf("relay generation %d of %s: %s", r.h.Generation, r.h.Leader, r.got.cause), event, r.h.Now.Sub(r.h.Whole), r.got.how == "base")
}

func (l *loop) checked(img *image) error {
	if l.cfg.Check == nil {
		return nil
	}
	for _, s := range img.state {
		if err := l.cfg.Check(s); err != nil {
			return err
		}
	}
	return nil
}

// publish makes what is current the next update. One that has not been taken yet is replaced; what it explained stays.
func (l *loop) publish(cause string, event time.Time, age time.Duration, whole bool) {
	l.forward(discovery.Update{
		State: l.seenFromHere(l.current), Problems: l.problems, Cause: cause, At: time.Now().Add(-max(age, 0)), Event: event, Whole: whole,
	})
}

// seenFromHere leaves out what is at this machine's own entries: the leader does not know them.
func (l *loop) seenFromHere(state []*signalbox.Service) []*signalbox.Service {
	out := make([]*signalbox.Service, len(state))
	kept := map[*signalbox.Service]*signalbox.Service{}
	for i, s := range state {
		out[i] = s
		if l.cfg.Forbidden == nil {
			continue
		}
		at := func(e signalbox.Endpoint) bool { return l.cfg.Forbidden(e.Addr) }
		if !slices.ContainsFunc(s.Endpoints, at) {
			continue
		}
		if kept[s] = l.filtered[s]; kept[s] == nil {
			c := *s
			c.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), at)
			kept[s] = &c
		}
		out[i] = kept[s]
	}
	l.filtered = kept
	return out
}

// report makes the health the next update, unless one waits anyway.
func (l *loop) report() {
	if l.pending == nil {
		l.pending = &discovery.Update{Cause: "health", At: time.Now()}
	}
}

// complain logs a failure, unless the same was the last to be logged.
func (l *loop) complain(kind string, err error) {
	if text := kind + err.Error(); text != l.logged && !errors.Is(err, context.Canceled) {
		l.logged = text
		l.log.WithError(err).Warn("the relay can't be used now")
	}
}
