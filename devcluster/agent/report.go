package agent

import (
	"sync"
	"time"
)

// reporter hands statuses to a report function from one goroutine, in order. Its queue is bounded by what is put in: at most
// three statuses for each task that was launched.
type reporter struct {
	report func(Status)
	done   chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	more   sync.Cond
	queue  []Status
	closed bool
}

func newReporter(report func(Status)) *reporter {
	r := &reporter{report: report, done: make(chan struct{})}
	r.more.L = &r.mu
	go r.run()
	return r
}

// put queues a status and never waits. After close it does nothing.
func (r *reporter) put(id string, state State, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.queue = append(r.queue, Status{TaskID: id, State: state, Message: message, At: time.Now()})
	r.more.Signal()
}

// mute drops what is queued and takes no more.
func (r *reporter) mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.queue = nil
	r.more.Signal()
}

// close mutes the reporter and waits until the report function is not being called any more.
func (r *reporter) close() {
	r.mute()
	<-r.done
}

func (r *reporter) run() {
	defer close(r.done)
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.more.Wait()
		}
		batch := r.queue
		r.queue = nil
		closed := r.closed
		r.mu.Unlock()
		if closed {
			return
		}
		for _, s := range batch {
			if r.muted() {
				return
			}
			r.report(s)
		}
	}
}

func (r *reporter) muted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}
