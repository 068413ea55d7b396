package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// Bounds of what a register keeps.
const (
	keptChanges = 50     // the last ones, and as many of those that changed definitions
	keptUndone  = 20_000 // definitions of before, in all changes together
	keptLines   = 200    // of one change
	keptLine    = 300    // bytes of one line
	keptApps    = 2_000  // names of one change
)

// register writes down every change of what HAProxy does, with its cause, and what it takes to go back: the definitions of before. It
// survives a restart. It works beside the apply path: what it is told waits, and Run writes it. Its methods may be called at the same time.
type register struct {
	file   registerFile
	log    logrus.FieldLogger
	errors prometheus.Counter

	inbox *mailbox

	mu      sync.Mutex
	entries []*entry         // oldest first
	defs    *signalbox.Table // the definitions of the newest entry
	seen    *signalbox.Table // the table that they were taken from, nil before the first of this run
	floor   uint64           // the generation below which definitions are not known any more
	key     uint64           // of the newest entry
	running uint64           // generation
	holds   []signalbox.Hold // as they are to be found after a restart

	submissions []submission // not in force yet; Run's alone
}

// entry is one change in the register.
type entry struct {
	admin.Change
	key    uint64
	undo   []undo
	want   *haproxy.Config // for which it was done, while it is not done yet
	asked  time.Time
	logged bool
	made   bool // it made a generation
}

// undo is one service as it was defined before a change: nil for one that there was not.
type undo struct {
	ID     signalbox.ServiceID `json:"id"`
	App    string              `json:"app"`
	Before *signalbox.Service  `json:"before"`
}

// submission is one wanted configuration, and why it is wanted.
type submission struct {
	want     *haproxy.Config
	cause    string
	by       string
	event    time.Time // zero: no source said when
	at       time.Time
	from, to *signalbox.Table
}

// newRegister returns the register of a file, with what an earlier run has written. What of it can't be read is left out, and told.
func newRegister(path string, log logrus.FieldLogger) *register {
	r := &register{log: log, file: registerFile{path: path}, inbox: newMailbox(), errors: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "signalbox_register_errors_total", Help: "Writes of the register of changes that failed: after a restart history, rollback and hold lack what was not written.",
	})}
	if err := r.load(); err != nil {
		log.WithError(err).Error("the register of changes is not whole; what was read of it is used")
	}
	return r
}

// submitted notes that a configuration is wanted.
func (r *register) submitted(s submission) { r.inbox.put(s) }

// told notes what was done.
func (r *register) told(s control.Step) { r.inbox.put(s) }

// hold makes holds, and the definitions of what is held, survive a restart: it returns once they are on disk.
func (r *register) hold(ctx context.Context, holds []signalbox.Hold, frozen *signalbox.Table) error {
	done := make(chan error, 1)
	r.inbox.put(holdRecord{holds: holds, frozen: frozen, done: done})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the register: %w", ctx.Err())
	}
}

// holdRecord is what hold hands over.
type holdRecord struct {
	holds  []signalbox.Hold
	frozen *signalbox.Table
	done   chan error // capacity 1
}

// flush waits until all that was told before stands in the register.
func (r *register) flush(ctx context.Context) {
	done := make(chan struct{})
	r.inbox.put(done)
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// writePause is the shortest time between two writes of the register, but for orders.
const writePause = 200 * time.Millisecond

// Run writes what it is told until ctx ends, and then what is left.
func (r *register) Run(ctx context.Context) error {
	for {
		ended := false
		select {
		case <-ctx.Done():
			ended = true
		case <-r.inbox.wake:
		}
		var waiting []chan error
		var flushed []chan struct{}
		for _, m := range r.inbox.take() {
			switch m := m.(type) {
			case submission:
				r.submissions = append(r.submissions, m)
			case control.Step:
				r.step(m)
			case holdRecord:
				r.held(m)
				waiting = append(waiting, m.done)
			case chan struct{}:
				flushed = append(flushed, m)
			}
		}
		err := r.write()
		for _, done := range waiting {
			done <- err
		}
		for _, done := range flushed {
			close(done)
		}
		if ended {
			return nil
		}
		pause := time.NewTimer(writePause)
		select {
		case <-ctx.Done():
		case <-r.inbox.urgent:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// write appends what is new to the file.
func (r *register) write() error {
	r.mu.Lock()
	err := r.file.write(r.records)
	r.mu.Unlock()
	if err != nil {
		r.errors.Inc()
		r.log.WithError(err).Error("the register of changes could not be written")
	}
	return err
}

// step takes in what was done.
func (r *register) step(s control.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := s.Commands > 0 || s.Reloaded || len(s.Certificates) > 0
	e := r.entryOf(s)
	if e == nil {
		return
	}
	if made {
		r.running, e.Generation, e.made = s.Generation, s.Generation, true
	} else if !e.made {
		e.Generation = s.Generation
	}
	e.At = s.At
	e.TookSeconds = max(0, s.At.Sub(e.asked).Seconds())
	e.Commands += s.Commands
	e.Reloaded = e.Reloaded || s.Reloaded
	for _, reason := range s.Reasons {
		if !slices.Contains(e.Reasons, string(reason)) {
			e.Reasons = append(e.Reasons, string(reason))
		}
	}
	e.Certificates = append(e.Certificates, s.Certificates...)
	e.Withheld = nil
	for _, p := range s.Withheld {
		e.Withheld = append(e.Withheld, bounded(p.String()))
	}
	e.Withheld = e.Withheld[:min(len(e.Withheld), namedTasks)]
	e.Error = ""
	if s.Err != nil {
		e.Error = bounded(s.Err.Error())
	}
	if s.Done || s.Want == nil {
		e.want = nil
		if s.Done && s.Want != nil {
			r.close(e) // what was wanted before is in it
		}
	}
	r.audit(e, s.Done || s.Err != nil || s.Want == nil)
	r.file.change(e, nil)
	r.bound()
}

// entryOf returns the entry that a step belongs to, nil for none: a new one if something was submitted since, or if nobody asked for it.
func (r *register) entryOf(s control.Step) *entry {
	n := 0
	if s.Want != nil {
		for i, sub := range r.submissions { // of several with one configuration the last
			if sub.want == s.Want {
				n = i + 1
			}
		}
	}
	if n > 0 {
		e, after := r.open(r.submissions[:n], s)
		r.submissions = slices.Delete(r.submissions, 0, n)
		if e != nil {
			e.want = s.Want
			r.file.change(e, after)
		}
		return e
	}
	if s.Want != nil && s.Cause == "" {
		for _, e := range slices.Backward(r.entries) {
			if e.want == s.Want {
				return e
			}
		}
	}
	if s.Commands == 0 && !s.Reloaded && s.Err == nil && len(s.Certificates) == 0 && s.Cause == "" {
		return nil
	}
	e := &entry{Change: admin.Change{Cause: cmp.Or(s.Cause, "HAProxy: what it runs differed")}, asked: s.At}
	r.add(e)
	return e
}

// open makes an entry of what was submitted, and returns the definitions that came with it. Nil: nothing differs.
func (r *register) open(subs []submission, s control.Step) (e *entry, after []*signalbox.Service) {
	first, last := subs[0], subs[len(subs)-1]
	e = &entry{asked: first.at}
	for _, sub := range subs {
		e.Cause = discovery.Causes(e.Cause, sub.cause)
		e.By = cmp.Or(sub.by, e.By)
		if !sub.event.IsZero() && (e.Event.IsZero() || sub.event.Before(e.Event)) {
			e.Event = sub.event
		}
	}
	e.Cause = bounded(e.Cause)
	if !e.Event.IsZero() {
		e.asked = e.Event
	}
	from := first.from
	if from == nil && r.defs != nil { // the first of this run: tasks of before are not known
		from = r.defs
	}
	apps := map[string]bool{}
	signalbox.Walk(services(from), services(last.to), func(old, now *signalbox.Service) {
		if old == nil || now == nil || first.from != nil && !old.Equal(now) || first.from == nil && !old.SameDefinition(now) {
			apps[cmp.Or(now, old).App] = true
		}
	})
	to := last.to
	if first.from == nil && r.defs != nil {
		to = definitions(to)
	}
	e.lines(signalbox.DiffText(from, to))
	after = r.redefine(e, last.to)
	if e.LineCount == 0 && !e.Definitions && s.Commands == 0 && !s.Reloaded && s.Err == nil && e.By == "" {
		return nil, nil
	}
	e.apps(apps)
	r.add(e)
	return e, after
}

// redefine takes the definitions of a table over, notes in the entry what they were, and returns those that are new.
func (r *register) redefine(e *entry, to *signalbox.Table) (after []*signalbox.Service) {
	note := func(id signalbox.ServiceID, now *signalbox.Service) {
		was := r.defs.Service(id)
		switch {
		case was == nil && now == nil, was != nil && now != nil && was.SameDefinition(now):
			return
		case now == nil:
			after = append(after, gone(id))
		default:
			after = append(after, now.Definition())
		}
		e.undo = append(e.undo, undo{id, cmp.Or(now, was).App, was})
	}
	from := r.seen // what has the same pointer as there has the same definition
	if from == nil {
		from = r.defs
	}
	signalbox.Walk(services(from), services(to), func(old, now *signalbox.Service) {
		switch {
		case old == now:
		case now != nil:
			note(now.ID, now)
		default:
			note(old.ID, nil)
		}
	})
	r.seen = to
	if len(e.undo) > 0 {
		r.defs, e.Definitions = defined(r.defs, after), true
	}
	return after
}

// defined returns definitions with those of after in their place; both are sorted.
func defined(t *signalbox.Table, after []*signalbox.Service) *signalbox.Table {
	out := &signalbox.Table{Services: make([]*signalbox.Service, 0, len(services(t))+len(after))}
	signalbox.Walk(services(t), after, func(old, now *signalbox.Service) {
		switch {
		case now == nil:
			out.Services = append(out.Services, old)
		case !isGone(now):
			out.Services = append(out.Services, now)
		}
	})
	return out
}

// held takes in what is held.
func (r *register) held(h holdRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds = h.holds
	var after []*signalbox.Service
	signalbox.Redefined(r.defs, h.frozen, func(old, now *signalbox.Service) {
		if now == nil {
			after = append(after, gone(old.ID))
		} else {
			after = append(after, now.Definition())
		}
	})
	r.file.hold(h.holds, after)
}

func (r *register) add(e *entry) {
	r.key++
	e.key = r.key
	r.entries = append(r.entries, e)
}

// close ends the entries before e that wait for something: e was done for all that they wanted.
func (r *register) close(e *entry) {
	for _, old := range r.entries {
		if old.want != nil && old.key < e.key {
			old.want = nil
			r.audit(old, old.Error == "")
		}
	}
}

// bound forgets the oldest entries: those that are neither among the last ones nor among the last ones that changed definitions.
func (r *register) bound() {
	defining, undone := 0, 0
	for _, e := range r.entries {
		if e.Definitions {
			defining++
			undone += len(e.undo)
		}
	}
	kept := r.entries[:0]
	for i, e := range r.entries {
		recent := len(r.entries)-i <= keptChanges
		if e.Definitions && (defining > keptChanges || undone > keptUndone) {
			defining--
			undone -= len(e.undo)
			r.floor = max(r.floor, e.Generation)
			e.undo = nil
			if !recent {
				continue
			}
		} else if !recent && !e.Definitions {
			continue
		}
		kept = append(kept, e)
	}
	clear(r.entries[len(kept):])
	r.entries = kept
}

func services(t *signalbox.Table) []*signalbox.Service {
	if t == nil {
		return nil
	}
	return t.Services
}

// definitions returns a table without what runs.
func definitions(t *signalbox.Table) *signalbox.Table {
	out := &signalbox.Table{}
	for _, s := range services(t) {
		out.Services = append(out.Services, s.Definition())
	}
	return out
}

// gone stands for a service that there is no more.
func gone(id signalbox.ServiceID) *signalbox.Service { return &signalbox.Service{ID: id} }

func isGone(s *signalbox.Service) bool { return s.App == "" }

// Describe implements prometheus.Collector.
func (r *register) Describe(ch chan<- *prometheus.Desc) { r.errors.Describe(ch) }

// Collect implements prometheus.Collector.
func (r *register) Collect(ch chan<- prometheus.Metric) { r.errors.Collect(ch) }
