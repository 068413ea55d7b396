package metrics

import (
	"bytes"
	"time"
)

// lateGrace is how long a worker that nothing is known of has been stopping when its connection counts as ended.
const lateGrace = time.Second

// late is what is known of the lines that a stopping worker did not send.
type late struct {
	since time.Time // when its ring was first read; zero: it was not
	tail  []byte    // the last line that was counted, or that its connection brought
	text  []byte    // what its ring held, until it is certain that the connection brings no more
	all   bool      // text, or what was counted, ends with the last line that it wrote
}

// ConsumeRing counts what a stopping worker's ring holds beyond what the worker sent: HAProxy 2.6 ends the connection of a ring
// at the moment when its process is told to stop, and goes on writing into it. The text is all of the ring, one line per
// message, the oldest first, as "show events" prints it; it belongs to the Aggregator from now on. It may be read again and again:
// what was counted is not counted twice. The last reading says so with all, which closes the account of this worker exactly.
func (a *Aggregator) ConsumeRing(pid int, text []byte, all bool) {
	now := time.Now()
	generation := uint64(0)
	if a.cfg.Directory != nil {
		generation = a.cfg.Directory.Generation()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation = generation
	w := a.ledger.workers[pid]
	if w == nil {
		w = &worker{pid: pid}
		a.ledger.workers[pid] = w
	}
	if w.late.since.IsZero() {
		w.late.since = now
	}
	w.late.text, w.late.all = text, w.late.all || all
	if !w.hungUp.IsZero() || w.source == 0 && now.Sub(w.late.since) >= lateGrace {
		a.late(w, now)
	}
}

// hungUp notes the end of a connection, and counts what was only waiting for it.
func (a *Aggregator) hungUp(conn uint64, last []byte, at time.Time) {
	for _, w := range a.ledger.hangUp(conn, at) {
		w.late.tail = bytes.Clone(last)
		if w.late.text != nil {
			a.late(w, at)
		}
	}
}

// late counts the lines of w.late.text that follow the last one that came over the connection. A ring keeps its order and
// forgets from its beginning, so where that line is missing all are newer.
func (a *Aggregator) late(w *worker, now time.Time) {
	text := bytes.TrimRight(w.late.text, "\n")
	w.late.text = nil
	fresh := text
	if at := lastLine(text, w.late.tail); at >= 0 {
		fresh = text[at+len(w.late.tail):]
	}
	batch := Batch{Records: make([]Record, 1), At: now, late: w}
	for line := range bytes.SplitSeq(fresh, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		r := &batch.Records[0]
		_ = Parse(line, r)
		if w.old && len(w.late.tail) == 0 && r.Accounted && r.ended().Before(a.ledger.started) {
			continue // this program did not run yet
		}
		if next, ok := a.ledger.ended[string(r.Source)]; ok && r.Accounted && r.Seq < next {
			continue // its account was closed with this line in it
		}
		a.record(r, &batch)
	}
	if len(text) > 0 {
		w.late.tail = bytes.Clone(text[bytes.LastIndexByte(text, '\n')+1:])
	}
}

// lastLine returns where line stands in text for the last time as a whole line, -1 if it does not.
func lastLine(text, line []byte) int {
	if len(line) == 0 {
		return -1
	}
	for end := len(text); ; {
		at := bytes.LastIndex(text[:end], line)
		if at < 0 {
			return -1
		}
		after := at + len(line)
		if (at == 0 || text[at-1] == '\n') && (after == len(text) || text[after] == '\n') {
			return at
		}
		end = after - 1
	}
}
