package metrics

import "time"

const (
	// maxSenders is of how many machines the numbers of lines are followed.
	maxSenders = 1024
	// foreignIdle is after how long without a line a foreign worker counts as ended.
	foreignIdle = 10 * time.Minute
	// restartGap is by how much a number must be lower than one before for the worker to be another one of the same id. A thread that has
	// taken a number and is put aside writes its line later than thousands of others.
	restartGap = 1 << 16
	// mixedWithin is the time between two such steps, or a leap forward and one back, that no worker takes: several have this id, and come by
	// one sender, as a relay of logs.
	mixedWithin = 10 * time.Second
)

// foreigners keep the account of HAProxies that are not ours. What is lost is seen where they write LogFormat, whose lines are numbered, and else
// only where a ring or our kernel says so.
type foreigners struct {
	senders map[string]*ledger
	kernel  uint64 // datagrams that it dropped, of whichever sender
	plain   Loss   // lines without numbers
	silent  Loss   // of senders from which nothing comes any more
}

// count accounts for a line.
func (f *foreigners) count(r *Record, b *Batch) {
	l := f.senders[b.Sender]
	switch {
	case r.Accounted && (l != nil || len(f.senders) < maxSenders):
		if l == nil {
			if f.senders == nil {
				f.senders = map[string]*ledger{}
			}
			l = newLedger(b.At)
			f.senders[b.Sender] = l
		}
		if l.foreign(r, b) {
			return
		}
	case r.Kind == KindDropped && l != nil && l.connected(b.Source) != nil:
		l.dropped(r.Dropped, b.Source) // the gap in the numbers has these lines
		return
	}
	f.plain.add(foreign(r))
}

// foreign is observe for a worker of which nothing but its lines is known: its count begins with the first one that came.
func (l *ledger) foreign(r *Record, b *Batch) bool {
	if until, ok := l.mixed[string(r.Source)]; ok && b.At.Before(until) {
		return false
	}
	t := l.known(r)
	again := t != nil && r.Seq+restartGap < t.next
	if again && b.At.Sub(t.leapt) < mixedWithin {
		l.mix(t, b.At)
		return false
	}
	leaps := again || t != nil && r.Seq > t.next+restartGap
	if again {
		l.forget(t.worker)
	}
	if !l.observe(r, b.Source, b.At) {
		return false
	}
	l.last.worker.old = true
	if leaps {
		l.last.leapt = b.At
	}
	return true
}

// mix gives the numbers of a source up for a while: they say nothing of what is lost.
func (l *ledger) mix(t *tracker, now time.Time) {
	if l.mixed == nil {
		l.mixed = map[string]time.Time{}
	}
	l.mixed[t.key] = now.Add(foreignIdle)
	for _, one := range t.worker.trackers {
		one.base = one.next - min(one.next, one.counted+one.bad)
	}
	l.forget(t.worker)
}

// forget closes the account of a worker, should another one have its id.
func (l *ledger) forget(w *worker) {
	l.closed.add(w.loss())
	for _, t := range w.trackers {
		delete(l.trackers, t.key)
	}
	delete(l.workers, w.pid)
	l.last = nil
}

// sweep closes the accounts of workers that are silent, and forgets senders that have no other.
func (f *foreigners) sweep(now time.Time) {
	for sender, l := range f.senders {
		for _, w := range l.workers {
			if now.Sub(w.lastAt) > foreignIdle {
				l.forget(w)
			}
		}
		if len(l.workers) == 0 && now.Sub(l.started) > foreignIdle {
			f.silent.add(l.closed)
			delete(f.senders, sender)
		}
	}
}

// loss is the account at this moment. What the kernel dropped is a gap in the numbers too, where lines have such.
func (f *foreigners) loss() Loss {
	sum, gaps := f.plain, f.silent.Lost-f.silent.Ring
	sum.add(f.silent)
	for _, l := range f.senders {
		one := l.loss()
		gaps += one.Lost - one.Ring
		sum.add(one)
	}
	more := f.kernel - min(f.kernel, gaps)
	sum.add(Loss{Sent: more, Lost: more, Kernel: f.kernel})
	return sum
}

// foreign is what a line of a HAProxy that is not ours, and has no number, adds to the account.
func foreign(r *Record) Loss {
	switch {
	case r.Reason != ReasonNone:
		return Loss{Sent: 1, Bad: 1}
	case r.Kind == KindDropped:
		return Loss{Sent: r.Dropped, Lost: r.Dropped, Ring: r.Dropped}
	case r.Kind == KindNotice:
		return Loss{}
	}
	return Loss{Sent: 1, Counted: 1}
}
