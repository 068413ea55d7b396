package metrics

import "time"

// WorkerStat is what HAProxy's "show stat" and "show info" say about one worker. The account of losses compares it with the
// log lines that arrived. On 2.6 a frontend without "option dontlognull" logs exactly one line for each request that it
// counts in req_tot, bad and aborted ones included, and a TCP frontend one for each of its connections.
type WorkerStat struct {
	PID      int
	Started  time.Time // from Start_time_sec; zero: after this program
	Stopping bool      // an old worker, which takes no new connections
	// InFlight is the sum of scur over the backends: requests and connections whose line is still to come.
	InFlight  uint64
	Frontends []FrontendStat
}

// FrontendStat is the row of one frontend that logs to us.
type FrontendStat struct {
	Name    string
	TCP     bool
	Total   uint64 // req_tot of an HTTP frontend, stot of a TCP one
	Current uint64 // scur: its connections now
}

// Loss is the account of log lines. Sent = Counted + Bad + Lost holds exactly while the workers live and nothing is on its way;
// a worker that ended may have lost up to Unsure lines more.
type Loss struct {
	Sent    uint64 `json:"sent"`    // lines that HAProxy wrote, as far as is known
	Counted uint64 `json:"counted"` // lines that are in the totals
	Bad     uint64 `json:"bad"`     // lines that arrived and could not be read
	Lost    uint64 `json:"lost"`    // lines that did not arrive
	Unsure  uint64 `json:"unsure"`  // upper bound of further ones, of workers that have ended
	// Ring is how many of the lost lines HAProxy itself said its ring had no room for; Tail how many were found by comparing
	// with its counters. The rest was lost on the way.
	Ring uint64 `json:"ring"`
	Tail uint64 `json:"tail"`
	// Kernel is how many of them the kernel dropped, of logs that come in datagrams.
	Kernel uint64 `json:"kernel,omitempty"`
}

func (l *Loss) add(o Loss) {
	l.Sent += o.Sent
	l.Counted += o.Counted
	l.Bad += o.Bad
	l.Lost += o.Lost
	l.Unsure += o.Unsure
	l.Ring += o.Ring
	l.Tail += o.Tail
	l.Kernel += o.Kernel
}

// ledger keeps the account, per worker and frontend. HAProxy numbers the lines of each frontend from 0, and reads the number
// before it writes the line: with several threads numbers repeat and skip by a few, so what counts is the highest number and
// how many lines came, not which.
type ledger struct {
	started time.Time // workers that started before it are counted from their first line on
	ring    uint64    // lines that a ring can hold at most
	limit   int       // trackers

	trackers map[string]*tracker // by Record.Source
	workers  map[int]*worker
	closed   Loss // of workers that have ended
	last     *tracker
	ended    map[string]uint64    // tracker.next of closed ones, should they go on after all
	flush    func(*worker)        // counts what waits in a worker's late.text; its account is closed next
	mixed    map[string]time.Time // by Record.Source: until when its numbers are not followed, as several foreign workers write under it
	pending  map[uint64]uint64    // dropped lines that a connection announced before it named its worker
}

type tracker struct {
	key      string
	worker   *worker
	frontend string
	counted  uint64
	bad      uint64
	base     uint64 // the lowest number seen
	resumed  uint64 // the numbers below it belong to a closed account of the same worker
	next     uint64 // the highest number seen, plus one
	floor    uint64 // what HAProxy's own counter proves to have been written
	stat     FrontendStat
	leapt    time.Time // of a foreign worker: when its numbers began again, or left more than restartGap out
	before   quiet     // at the last Reconcile
}

// quiet is what must stay the same between two looks for a difference to be a loss, not a line on its way.
type quiet struct {
	total, arrived, inflight uint64
	set                      bool
}

type worker struct {
	pid      int
	old      bool // started before the ledger
	stat     *WorkerStat
	dropped  uint64 // lines that its ring announced as dropped
	lines    uint64
	looked   uint64 // lines at the last Reconcile
	missing  int
	source   uint64    // its connection
	hungUp   time.Time // when that connection ended, zero while it stands
	trackers []*tracker
	late     late

	lookedAt time.Time     // the last Reconcile that found it alive
	lastAt   time.Time     // when its last line arrived
	lag      time.Duration // how old that line was then
	window   time.Time     // since when inWindow counts
	inWindow uint64
	peak     uint64 // the most lines that arrived within one rateWindow
}

// rateWindow is the time over which a worker's highest rate is taken.
const rateWindow = 10 * time.Millisecond

// arrived notes that a line came, which says when it was written.
func (w *worker) arrived(r *Record, at time.Time) {
	w.lines++
	w.lastAt, w.lag = at, max(at.Sub(r.ended()), 0)
	if at.Sub(w.window) >= rateWindow {
		w.window, w.inWindow = at, 0
	}
	w.inWindow++
	w.peak = max(w.peak, w.inWindow)
}

// unseen bounds the lines that a worker wrote and that did not come, if nobody saw it go: what it can have written, at its
// highest rate, between its last sign of life and the end of its connection, and never more than its ring holds. If the
// connection did not end, or the lines came late, only the ring is a bound.
func (w *worker) unseen(ring uint64) uint64 {
	if w.hungUp.IsZero() || w.lag > time.Second {
		return ring
	}
	sign := w.lastAt
	if w.lookedAt.After(sign) {
		sign = w.lookedAt
	}
	windows := uint64(max(w.hungUp.Sub(sign), 0)+w.lag)/uint64(rateWindow) + 2
	return min(w.peak*windows, ring)
}

func newLedger(started time.Time) *ledger {
	return &ledger{
		started: started, ring: RingBytes / minLine, limit: 1 << 16,
		trackers: map[string]*tracker{}, workers: map[int]*worker{},
		ended: map[string]uint64{}, pending: map[uint64]uint64{},
	}
}

// minLine is the length of the shortest line that LogFormat or LogFormatTCP writes, or less.
const minLine = 100

// observe accounts for one line. It reports false if the line is of a worker or frontend beyond the limit.
func (l *ledger) observe(r *Record, conn uint64, at time.Time) bool {
	t := l.trackerOf(r)
	if t == nil {
		return false
	}
	if t.worker.source != conn || !t.worker.hungUp.IsZero() {
		t.worker.source, t.worker.hungUp = conn, time.Time{}
		t.worker.dropped += l.pending[conn]
		delete(l.pending, conn)
	}
	t.worker.arrived(r, at)
	t.count(r)
	return true
}

// observeLate accounts for one line that was read from a stopping worker's ring.
func (l *ledger) observeLate(r *Record) bool {
	t := l.trackerOf(r)
	if t == nil {
		return false
	}
	t.worker.lines++
	t.count(r)
	return true
}

// trackerOf returns the account that a line belongs to, or nil if that would be one too many.
func (l *ledger) trackerOf(r *Record) *tracker {
	t := l.known(r)
	if t == nil {
		if len(l.trackers) >= l.limit {
			return nil
		}
		t = l.track(r.PID, string(r.Source), string(r.Frontend))
		t.base = r.Seq
		if next, ok := l.ended[t.key]; ok && r.Seq >= next {
			t.resumed = next
		}
		delete(l.ended, t.key)
	}
	l.last = t
	return t
}

// known returns the account that a line belongs to, or nil if it has none yet.
func (l *ledger) known(r *Record) *tracker {
	if t := l.last; t != nil && t.key == string(r.Source) {
		return t
	}
	return l.trackers[string(r.Source)]
}

func (t *tracker) count(r *Record) {
	if r.Reason == ReasonNone {
		t.counted++
	} else {
		t.bad++
	}
	t.base = min(t.base, r.Seq)
	t.next = max(t.next, r.Seq+1)
}

func (l *ledger) track(pid int, key, frontend string) *tracker {
	w := l.workers[pid]
	if w == nil {
		w = &worker{pid: pid}
		l.workers[pid] = w
	}
	t := &tracker{key: key, worker: w, frontend: frontend}
	w.trackers = append(w.trackers, t)
	l.trackers[key] = t
	return t
}

// dropped notes that a ring announced lost lines. The connection tells whose ring it is.
func (l *ledger) dropped(n, conn uint64) {
	if w := l.connected(conn); w != nil {
		w.dropped += n
		return
	}
	l.pending[conn] += n
}

// connected returns the worker whose connection stands, nil if it has not named itself yet.
func (l *ledger) connected(conn uint64) *worker {
	for _, w := range l.workers {
		if w.source == conn && w.hungUp.IsZero() {
			return w
		}
	}
	return nil
}

// hangUp notes that a connection ended, and returns whose it was.
func (l *ledger) hangUp(conn uint64, at time.Time) (whose []*worker) {
	delete(l.pending, conn)
	for _, w := range l.workers {
		if w.source == conn && w.hungUp.IsZero() {
			w.hungUp = at
			whose = append(whose, w)
		}
	}
	return whose
}

// sent returns how many lines of this frontend should have arrived.
func (t *tracker) sent() uint64 {
	sent, from := max(t.next, t.floor), t.resumed
	if t.worker.old {
		from = max(from, t.base)
	}
	return sent - min(from, sent)
}

func (w *worker) loss() Loss {
	var sum Loss
	for _, t := range w.trackers {
		sent, came := t.sent(), t.counted+t.bad
		one := Loss{Sent: max(sent, came), Counted: t.counted, Bad: t.bad}
		one.Lost = one.Sent - came
		if t.floor > t.next {
			one.Tail = min(t.floor-t.next, one.Lost)
		}
		sum.add(one)
	}
	sum.Ring = min(w.dropped, sum.Lost)
	sum.Tail = min(sum.Tail, sum.Lost-sum.Ring)
	return sum
}

// loss returns the account at this moment; lines that are on their way can make it differ by a few.
func (l *ledger) loss() Loss {
	sum := l.closed
	for _, w := range l.workers {
		sum.add(w.loss())
	}
	return sum
}

// reconcile compares with HAProxy's own counters. A worker that the list leaves out counts as ended once nothing comes from it
// any more; should something come after all, its account goes on where it was closed. The list must name every worker that lives, old ones too.
func (l *ledger) reconcile(live []WorkerStat, now time.Time) {
	alive := make(map[int]bool, len(live))
	for i := range live {
		s := &live[i]
		alive[s.PID] = true
		w := l.workers[s.PID]
		if w == nil {
			w = &worker{pid: s.PID}
			l.workers[s.PID] = w
		}
		w.stat, w.missing, w.looked, w.lookedAt = s, 0, w.lines, now
		// HAProxy says its start in whole seconds, cut.
		w.old = !s.Started.IsZero() && s.Started.Add(time.Second).Before(l.started)
		w.reconcile(l, s)
	}
	for pid, w := range l.workers {
		if alive[pid] {
			continue
		}
		// A dead worker's last lines may still be on the way: it is closed when nothing more came since the last look.
		w.missing++
		if still := w.lines == w.looked; still && (w.missing >= 2 || !w.hungUp.IsZero()) {
			l.close(w)
			continue
		}
		w.looked = w.lines
	}
}

func (w *worker) reconcile(l *ledger, s *WorkerStat) {
	for _, f := range s.Frontends {
		var t *tracker
		for _, known := range w.trackers {
			if known.frontend == f.Name {
				t = known
			}
		}
		if t == nil {
			if f.Total == 0 || w.old || len(l.trackers) >= l.limit {
				continue
			}
			// Not one line of it arrived so far.
			t = l.track(s.PID, sourceKey(s.PID, f.Name), f.Name)
		}
		t.stat = f
		now := quiet{total: f.Total, arrived: t.counted + t.bad, inflight: s.InFlight, set: true}
		if f.TCP {
			now.inflight = f.Current
		}
		if now == t.before && w.late.since.IsZero() { // else its ring may hold what did not come
			t.floor = max(t.floor, f.Total-min(now.inflight, f.Total))
		}
		t.before = now
	}
}

// close moves a dead worker's account to the sum of the closed ones, with a bound for what can't be known.
func (l *ledger) close(w *worker) {
	if w.late.text != nil {
		l.flush(w)
	}
	sum := w.loss()
	unread := uint64(0) // lines that HAProxy's counters announced and that never came
	conns := uint64(0)
	for _, t := range w.trackers {
		if total := max(t.next, t.floor); t.stat.Total > total {
			unread += t.stat.Total - total
		}
		conns += t.stat.Current
		delete(l.trackers, t.key)
		for key := range l.ended {
			if len(l.ended) < l.limit {
				break
			}
			delete(l.ended, key)
		}
		l.ended[t.key] = max(t.next, t.floor)
	}
	switch {
	case w.late.all:
		sum.Unsure = unread
	case w.stat != nil && w.stat.Stopping:
		// It took no new connections: each one that it had then may have logged once more.
		sum.Unsure = unread + conns
	case len(w.trackers) > 0:
		sum.Unsure = unread + w.unseen(l.ring)
	}
	l.closed.add(sum)
	delete(l.workers, w.pid)
	l.last = nil
}

func sourceKey(pid int, frontend string) string { return itoa(pid) + " " + frontend }
