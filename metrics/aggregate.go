package metrics

import (
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Names under which requests count that belong to no service of their own.
const (
	// NoService is for requests that no route led to a service, bad ones included.
	NoService = "none"
	// Other is for what exceeds a limit of series.
	Other = "other"
)

// AggregatorConfig holds an Aggregator's limits. The zero value takes the defaults.
type AggregatorConfig struct {
	Node        string        // names this machine in snapshots
	Directory   Directory     // nil: tasks are known by their addresses only, and no series ends before its Grace
	MaxServices int           // 0: 4096
	MaxTasks    int           // per service; 0: 512
	MaxRoutes   int           // per service; 0: 32
	MaxCallers  int           // per service; 0: 64
	Derived     []Derived     // at most MaxDerived
	Grace       time.Duration // for which the series of a service or task that is gone stay; 0: 5 min
	// Idle is for how long a service, task or objective stays that Add brings no more, where there is no Directory; 0: for ever.
	Idle time.Duration
	// Started is when counting began: workers that started before are counted from their first line on. Zero: now.
	Started time.Time
}

// dimensions are those of which too many values count under Other; worker is of the account of losses.
var dimensions = [...]string{"service", "address", "task", "route", "caller", "worker"}

// Aggregator counts records per service and task, and keeps the account of lost ones. It is safe for concurrent use.
type Aggregator struct {
	cfg AggregatorConfig

	mu         sync.Mutex
	services   map[string]*service
	ledger     *ledger
	notices    [8]uint64
	overflow   map[string]uint64 // by dimension
	generation uint64
	lastRecord time.Time
	scratch    []byte    // of a route
	rolled     time.Time // when the last cell of the past ended
	rolls      uint64
	// shown are the highest account values that a counter has shown: counters never fall.
	shown  Loss
	recent [lossLooks]Loss
	looks  int

	watches []*Watch
	added   Loss // the account of what Add brought

	foreigners foreigners
}

// lossLooks is over how many looks a loss must last until the metrics show it: lines from several threads arrive out of order.
const lossLooks = 3

// service is the account of one service.
type service struct {
	name  string
	codes [len(methods)]*[codeCount]uint64
	ends  [terminationCount]uint64

	requests, errors        uint64
	judged, good            uint64 // by the objective
	bytesIn, bytesOut       uint64
	retries, redispatches   uint64
	local, remote           uint64 // requests by where the task is that answered, as far as anybody asks
	duration, response      Histogram
	connect, queue, reading Histogram

	exemplars exemplars

	failures map[failed]uint64
	tls      map[overTLS]uint64

	about         About
	aboutAt       uint64    // the generation of about
	objectiveSeen time.Time // when Add brought one last
	templates     []template
	routes        map[string]*part

	tasks   map[string]*part // by task id
	callers map[string]*part // by caller's name
	saidBy  map[string]*part // by caller's name as the log has it
	addrs   map[string]*addr // by server address
	last    *addr
	seen    time.Time

	quick *quickTotals // of a Replay

	derivedOf []int             // of AggregatorConfig.Derived, those that its requests can meet
	derived   []uint64          // their counts
	elsewhere map[string]uint64 // counts of derived metrics that Add brought, by name

	ring [rateSeconds]tick
	past past
}

// codeCount is how many status codes are told apart: 100 to 599, none (0) and other (1).
const codeCount = 502

// code500 is the index of the first status that is the server's error.
const code500 = 500 - 98

// addr is what is known about a server address: whose it is, and until when that answer holds.
type addr struct {
	name       string
	task       *part
	locality   Locality
	state      string
	generation uint64
	from       int64 // µs; the answer holds for records from then on
	until      int64
}

var classNames = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx", "other", "tcp"}

// NewAggregator returns an empty one.
func NewAggregator(cfg AggregatorConfig) *Aggregator {
	if cfg.MaxServices <= 0 {
		cfg.MaxServices = 4096
	}
	if cfg.MaxTasks <= 0 {
		cfg.MaxTasks = 512
	}
	if cfg.MaxRoutes <= 0 {
		cfg.MaxRoutes = 32
	}
	if cfg.MaxCallers <= 0 {
		cfg.MaxCallers = 64
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 5 * time.Minute
	}
	if cfg.Started.IsZero() {
		cfg.Started = time.Now()
	}
	a := &Aggregator{
		cfg: cfg, services: map[string]*service{}, ledger: newLedger(cfg.Started), overflow: map[string]uint64{},
	}
	a.ledger.flush = func(w *worker) { a.late(w, time.Now()) }
	return a
}

// Consume implements Consumer: it counts every record of the batch.
func (a *Aggregator) Consume(b *Batch) {
	generation := uint64(0)
	if a.cfg.Directory != nil {
		generation = a.cfg.Directory.Generation()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation = generation
	for i := range b.Records {
		a.record(&b.Records[i], b)
	}
	a.foreigners.kernel += b.Dropped
	if b.Closed {
		a.hungUp(b.Source, b.Last, b.At)
	}
}

func (a *Aggregator) record(r *Record, b *Batch) {
	switch {
	case b.Foreign:
		a.foreigners.count(r, b)
	case r.Accounted && !a.account(r, b):
		a.overflow["worker"]++
	}
	if r.Reason != ReasonNone {
		return
	}
	switch r.Kind {
	case KindDropped:
		switch {
		case b.Foreign: // it is in the account already
		case b.late != nil:
			b.late.dropped += r.Dropped
		default:
			a.ledger.dropped(r.Dropped, b.Source)
		}
		return
	case KindNotice:
		a.notices[r.Severity&7]++
		return
	}
	a.lastRecord = b.At
	s, ok := a.services[string(r.Service)]
	if !ok {
		s = a.service(serviceName(r))
	}
	s.seen = b.At
	if a.cfg.Directory != nil && s.aboutAt != a.generation {
		s.about, s.aboutAt = a.cfg.Directory.About(s.name), a.generation
		s.templates = compileTemplates(s.about.Routes)
	}
	m := measure(r)
	f := m.failure
	s.count(r, &m)
	if at := a.route(s, r); at != nil {
		at.count(r, &m, b.At)
	}
	if len(r.Caller) > 0 {
		a.caller(s, r).count(r, &m, b.At)
	}
	a.derive(s, r)
	state := ""
	if len(r.ServerAddr) > 0 {
		a.task(s, r, b.At).count(r, &m, b.At)
		if s.last != nil {
			state = s.last.state
		}
	}
	if f != Fine {
		s.fail(f, state, s.about.during(r.ended()))
	}
	s.judge(r, f)
	for _, w := range a.watches {
		w.see(s, r, f)
	}
}

func (a *Aggregator) account(r *Record, b *Batch) bool {
	if b.late != nil {
		return a.ledger.observeLate(r)
	}
	return a.ledger.observe(r, b.Source, b.At)
}

// service returns the account of a service that has none yet under this name.
func (a *Aggregator) service(name string) *service {
	if name == "" || name == NoService {
		name = NoService
	} else if s := a.services[name]; s == nil && (len(a.services) >= a.cfg.MaxServices || !isName(name)) {
		a.overflow["service"]++
		name = Other
	}
	s := a.services[name]
	if s == nil {
		s = &service{
			name: name, addrs: map[string]*addr{}, failures: map[failed]uint64{}, tls: map[overTLS]uint64{}, aboutAt: 1<<64 - 1,
			tasks: map[string]*part{}, routes: map[string]*part{}, callers: map[string]*part{}, saidBy: map[string]*part{},
		}
		for i := range a.cfg.Derived {
			if a.cfg.Derived[i].ofApp(name) {
				s.derivedOf = append(s.derivedOf, i)
			}
		}
		s.derived = make([]uint64, len(s.derivedOf))
		a.services[name] = s
	}
	return s
}

func (s *service) count(r *Record, m *measured) {
	s.requests++
	s.code(m.method, m.code, 1)
	s.ends[m.end]++
	s.bytesIn += r.BytesIn
	s.bytesOut += r.BytesOut
	s.retries += r.Retries
	if r.Redispatched {
		s.redispatches++
	}
	if m.tls >= 0 {
		s.countTLS(m.tls, r.TLSCipher, 1)
	}
	if m.micros >= 0 {
		us := uint64(m.micros)
		s.duration.Observe(us)
		if len(r.Trace) > 0 {
			s.exemplars.keep(us, r)
		}
	}
	if m.first >= 0 {
		s.response.Observe(uint64(m.first))
	}
	if r.Connect >= 0 {
		s.connect.Observe(uint64(r.Connect) * 1000)
	}
	if r.Queue >= 0 {
		s.queue.Observe(uint64(r.Queue) * 1000)
	}
	if r.Read >= 0 {
		s.reading.Observe(uint64(r.Read) * 1000)
	}
}

// failed is a kind of failure, in which state the orchestrator had the task, "" where none was chosen or nobody knows, and what was going on.
type failed struct {
	failure       Failure
	state, during string
}

// fail counts a failure, unless there is none.
func (s *service) fail(f Failure, state, during string) {
	if f != Fine {
		s.failures[failed{f, state, during}]++
	}
}

// tlsNames are the versions of TLS that series tell apart; "TLS" is one that the log does not say.
var tlsNames = [...]string{Other, "TLS", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}

// overTLS is a way of encryption: its version by tlsIndex, and its cipher.
type overTLS struct {
	version int
	cipher  string
}

// maxCiphers is how many ways of encryption a service's series tell apart; OpenSSL has some 60 ciphers.
const maxCiphers = 128

// countTLS counts n requests over a version, by tlsIndex, with a cipher.
func (s *service) countTLS(version int, cipher []byte, n uint64) {
	if _, known := s.tls[overTLS{version, string(cipher)}]; !known && (len(s.tls) >= maxCiphers || !isName(string(cipher))) {
		cipher = []byte(Other)
	}
	s.tls[overTLS{version, string(cipher)}] += n
}

func tlsIndex(version []byte) int {
	for i, name := range tlsNames {
		if string(version) == name {
			return i
		}
	}
	return 0
}

// code counts n requests of a method and a code.
func (s *service) code(method, code int, n uint64) {
	codes := s.codes[method]
	if codes == nil {
		if n == 0 {
			return
		}
		codes = new([codeCount]uint64)
		s.codes[method] = codes
	}
	codes[code] += n
	if code >= code500 {
		s.errors += n
	}
}

func codeIndex(status int16) int {
	switch {
	case status >= 100 && status <= 599:
		return int(status) - 98
	case status < 0:
		return 0
	}
	return 1
}

func codeName(m, i int) string {
	switch {
	case m == methodTCP:
		return "tcp"
	case i == 0:
		return "none"
	case i == 1:
		return Other
	}
	return strconv.Itoa(i + 98)
}

// Reconcile compares the account of lines with what HAProxy's workers count themselves. It is called about once a second, with
// the statistics of every worker that lives; the old ones' come through the master socket. An empty list says that none
// lives; one that could not be read whole must not be passed. Two calls with a moment between them, after the last request, close the account.
func (a *Aggregator) Reconcile(workers []WorkerStat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger.reconcile(workers, time.Now())
	a.look()
}

// look moves the counters that metrics show up to the smallest of the last accounts.
func (a *Aggregator) look() {
	a.recent[a.looks%lossLooks] = a.loss()
	if a.looks++; a.looks < lossLooks {
		return
	}
	low := a.recent[0]
	for _, l := range a.recent[1:] {
		low.Lost, low.Ring, low.Tail, low.Kernel = min(low.Lost, l.Lost), min(low.Ring, l.Ring), min(low.Tail, l.Tail), min(low.Kernel, l.Kernel)
	}
	a.shown.Lost, a.shown.Ring, a.shown.Tail = max(a.shown.Lost, low.Lost), max(a.shown.Ring, low.Ring), max(a.shown.Tail, low.Tail)
	a.shown.Kernel = max(a.shown.Kernel, low.Kernel)
}

// Tick moves the rates on and ends the series of what is gone. It is called once a second.
func (a *Aggregator) Tick(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roll(now)
	a.foreigners.sweep(now)
	for name, s := range a.services {
		s.tick(now)
		s.sweepCallers(now)
		if now.Sub(s.seen) > a.cfg.Grace && name != NoService && name != Other && a.cfg.Directory != nil && !a.cfg.Directory.Known(name) {
			delete(a.services, name)
			continue
		}
		if a.cfg.Directory == nil && a.cfg.Idle > 0 {
			if now.Sub(s.seen) > a.cfg.Idle {
				delete(a.services, name)
				continue
			}
			maps.DeleteFunc(s.tasks, func(_ string, t *part) bool { return now.Sub(t.seen) > a.cfg.Idle })
			if now.Sub(s.objectiveSeen) > a.cfg.Idle {
				s.about.SLO = Objective{}
			}
		}
		a.sweep(s, now)
	}
}

func (a *Aggregator) sweep(s *service, now time.Time) {
	if a.cfg.Directory == nil {
		return
	}
	for name, at := range s.addrs {
		if at.task == nil || now.Sub(at.task.seen) <= a.cfg.Grace {
			continue
		}
		if t, ok := a.cfg.Directory.Task(s.name, name, now); ok && t.Until.IsZero() && t.ID == at.task.totals.Name {
			continue
		}
		delete(s.tasks, at.task.totals.Name)
		delete(s.addrs, name)
		if s.last == at {
			s.last = nil
		}
	}
}

// Loss returns the account of log lines at this moment.
func (a *Aggregator) Loss() Loss {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loss()
}

func (a *Aggregator) loss() Loss {
	l := a.ledger.loss()
	l.add(a.added)
	l.add(a.foreigners.loss())
	return l
}

// LastRecord returns when the last request or connection was counted, zero if none was.
func (a *Aggregator) LastRecord() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastRecord
}

// LastHits returns when the last request or connection of each service was counted.
func (a *Aggregator) LastHits() map[string]time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]time.Time, len(a.services))
	for name, s := range a.services {
		out[name] = s.seen
	}
	return out
}

var _ prometheus.Collector = (*Aggregator)(nil)

func itoa(n int) string { return strconv.Itoa(n) }
