package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Status is how one sink fares.
type Status struct {
	Name       string
	Sent       uint64            // points
	Dropped    map[string]uint64 // points, by reason: queue_full, too_long, rejected, shutdown
	Errors     map[string]uint64 // attempts that failed, by reason
	Waiting    int               // points
	QueueBytes int
	LastSent   time.Time // when something arrived last
	Failing    time.Time // since when every attempt fails; zero: it does not
	Detail     string    // why the last attempt failed; "" if it did not
}

// outlet is one target, its queue, and its account.
type outlet struct {
	target *Target
	queue  *queue
	log    logrus.FieldLogger

	mu     sync.Mutex
	status Status
}

func newOutlet(t *Target, log logrus.FieldLogger) *outlet {
	o := &outlet{target: t, queue: newQueue(t.limit), log: log.WithField("sink", t.Name)}
	o.status = Status{Name: t.Name, Dropped: map[string]uint64{}, Errors: map[string]uint64{}}
	for _, reason := range drops {
		o.status.Dropped[reason] = 0
	}
	for _, reason := range reasons {
		o.status.Errors[reason] = 0
	}
	return o
}

// drops are the ways in which points are lost that are known to be.
var drops = []string{"queue_full", "rejected", "shutdown", "too_long"}

// push queues an interval. It never waits for the server.
func (o *outlet) push(iv *Interval) {
	frames, tooLong := o.target.protocol.encode(iv)
	dropped := o.queue.push(frames)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status.Dropped["too_long"] += uint64(tooLong)
	o.status.Dropped["queue_full"] += uint64(dropped)
}

// The times between two attempts while a server fails, each twice the one before, less up to a half.
const (
	leastBackoff = 250 * time.Millisecond
	mostBackoff  = 30 * time.Second
)

// oneSend is about how many bytes are sent over one connection.
const oneSend = 1 << 20

// run sends what is queued until ctx ends, or until closing is closed and nothing waits. What is left counts as dropped.
func (o *outlet) run(ctx context.Context, closing <-chan struct{}) {
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.status.Dropped["shutdown"] += uint64(o.queue.empty())
	}()
	backoff := leastBackoff
	closed := false
	// pause waits, and not for long once closing is closed.
	pause := func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		if closed {
			_ = wait(ctx, min(d, leastBackoff))
			return
		}
		select {
		case <-ctx.Done():
		case <-closing:
			closed = true
		case <-t.C:
		}
	}
	for ctx.Err() == nil {
		if waiting, _ := o.queue.length(); waiting == 0 {
			if closed {
				return
			}
			select {
			case <-ctx.Done():
			case <-closing:
				closed = true
			case <-o.queue.ready:
				pause(o.target.phase)
			}
			continue
		}
		if err := o.send(ctx); err != nil {
			pause(backoff - rand.N(backoff/2))
			backoff = min(2*backoff, o.target.backoff)
			continue
		}
		backoff = leastBackoff
	}
}

// send makes one attempt to send what is queued.
func (o *outlet) send(ctx context.Context) error {
	err := o.target.protocol.send(ctx, o.queue.take(oneSend), o.settled)
	o.queue.giveBack()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		if !o.status.Failing.IsZero() {
			o.log.Infof("the sink takes figures again, after %s", time.Since(o.status.Failing).Round(time.Second))
		}
		o.status.Failing, o.status.Detail = time.Time{}, ""
		return nil
	}
	reason := "write"
	if f := new(failure); errors.As(err, &f) {
		reason = f.reason
	}
	o.status.Errors[reason]++
	o.status.Detail = err.Error()
	if o.status.Failing.IsZero() {
		o.status.Failing = time.Now()
		o.log.WithError(err).Warn("the sink takes no figures; they wait, and the oldest are dropped when there are too many")
	}
	return err
}

// settled takes the oldest frame out of the queue, which arrived or was dropped.
func (o *outlet) settled(dropped string) {
	n := uint64(o.queue.settle())
	o.mu.Lock()
	defer o.mu.Unlock()
	if dropped != "" {
		o.status.Dropped[dropped] += n
		return
	}
	o.status.Sent += n
	o.status.LastSent = time.Now()
}

// current returns a copy of the account as it is now.
func (o *outlet) current() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.status
	s.Dropped, s.Errors = map[string]uint64{}, map[string]uint64{}
	for reason, n := range o.status.Dropped {
		s.Dropped[reason] = n
	}
	for reason, n := range o.status.Errors {
		s.Errors[reason] = n
	}
	s.Waiting, s.QueueBytes = o.queue.length()
	return s
}

// Lost returns how many points were dropped, for whatever reason.
func (s *Status) Lost() uint64 {
	n := uint64(0)
	for _, one := range s.Dropped {
		n += one
	}
	return n
}
