package metrics

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Snapshot is what had been counted at one moment. It is immutable. Snapshots of different nodes, or of different shards of one,
// merge exactly: every figure is a whole number, and any split of the records gives the same sum.
type Snapshot struct {
	Nodes    []string        `json:"nodes"` // sorted
	At       time.Time       `json:"at"`    // of the latest part
	Services []ServiceTotals `json:"services"`
	Loss     Loss            `json:"loss"`
	// Overflow counts the records that a limit of series moved to Other, by dimension.
	Overflow map[string]uint64 `json:"overflow,omitempty"`
}

// ServiceTotals are the totals of one service since counting began.
type ServiceTotals struct {
	Service      string             `json:"service"`
	Requests     uint64             `json:"requests"` // of TCP services: connections that have ended
	Codes        []CodeCount        `json:"codes"`    // sorted by method, then code
	Terminations []TerminationCount `json:"terminations,omitempty"`
	BytesIn      uint64             `json:"bytes_in"`
	BytesOut     uint64             `json:"bytes_out"`
	Retries      uint64             `json:"retries"`
	Redispatches uint64             `json:"redispatches"`
	Local        uint64             `json:"local,omitempty"` // requests to tasks on the same machine, where tasks nearby are preferred
	Remote       uint64             `json:"remote,omitempty"`
	Duration     Histogram          `json:"duration"` // see Record.Duration
	Response     Histogram          `json:"response"` // see Record.FirstByte
	Connect      Histogram          `json:"connect"`  // whole milliseconds, as the two below
	Queue        Histogram          `json:"queue"`
	Read         Histogram          `json:"read"`
	Failures     []FailureCount     `json:"failures,omitempty"` // sorted by reason, then state
	TLS          []TLSCount         `json:"tls,omitempty"`      // sorted by version, then cipher
	Routes       []Part             `json:"routes,omitempty"`   // sorted by name
	SLO          *SLOTotals         `json:"slo,omitempty"`      // nil: it has no objective
	Derived      []DerivedCount     `json:"derived,omitempty"`  // sorted by metric
	Tasks        []Part             `json:"tasks,omitempty"`
	Callers      []Part             `json:"callers,omitempty"`
	Recent       [3]Recent          `json:"recent"`              // about the last 1, 10 and 60 seconds
	Exemplars    []Exemplar         `json:"exemplars,omitempty"` // sorted by Bucket; of Duration
}

// CodeCount counts the requests of one method and status code. Code is "none" where no response was sent, and "tcp" with
// method "tcp" for connections.
type CodeCount struct {
	Method string `json:"method"`
	Code   string `json:"code"`
	Count  uint64 `json:"count"`
}

// TerminationCount counts the requests that ended in one way.
type TerminationCount struct {
	Cause string `json:"cause"`
	Phase string `json:"phase"`
	Count uint64 `json:"count"`
}

// FailureCount counts the requests that failed in one way, while the orchestrator had the task in one state ("" without a task), and
// something was going on or nothing.
type FailureCount struct {
	Reason string `json:"reason"` // a Failure's word
	State  string `json:"state,omitempty"`
	During string `json:"during,omitempty"` // "change", "deployment" or "reload"
	Count  uint64 `json:"count"`
}

// TLSCount counts the requests over one version of TLS with one cipher, "" where the log does not say which.
type TLSCount struct {
	Version string `json:"version"`
	Cipher  string `json:"cipher,omitempty"`
	Count   uint64 `json:"count"`
}

// Recent is what was counted in a span of time that has just ended.
type Recent struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`  // responses of 500 to 599
	Span     uint64 `json:"span_ms"` // of the longest part, 0 before anything is known
}

// Rate returns requests per second.
func (r Recent) Rate() float64 {
	if r.Span == 0 {
		return 0
	}
	return float64(r.Requests) / float64(r.Span) * 1000
}

// Errors returns how many responses were 500 to 599.
func (s *ServiceTotals) Errors() uint64 {
	n := uint64(0)
	for _, c := range s.Codes {
		if len(c.Code) == 3 && c.Code[0] == '5' {
			n += c.Count
		}
	}
	return n
}

// Code returns how many responses had a status code, of any method.
func (s *ServiceTotals) Code(code string) uint64 {
	n := uint64(0)
	for _, c := range s.Codes {
		if c.Code == code {
			n += c.Count
		}
	}
	return n
}

// Service returns the totals of a service, or nil.
func (s *Snapshot) Service(name string) *ServiceTotals {
	i, ok := slices.BinarySearchFunc(s.Services, name, func(t ServiceTotals, n string) int { return cmp.Compare(t.Service, n) })
	if !ok {
		return nil
	}
	return &s.Services[i]
}

// Total returns the sum over all services, under the name "".
func (s *Snapshot) Total() ServiceTotals {
	var sum ServiceTotals
	for i := range s.Services {
		one := s.Services[i]
		one.Service, one.Tasks, one.Callers = "", nil, nil
		sum = mergeService(sum, one)
	}
	return sum
}

// Merge returns the sum of two snapshots. It is commutative and associative.
func (s *Snapshot) Merge(o *Snapshot) *Snapshot {
	sum := &Snapshot{At: s.At, Loss: s.Loss}
	if o.At.After(sum.At) {
		sum.At = o.At
	}
	sum.Loss.add(o.Loss)
	sum.Nodes = slices.Concat(s.Nodes, o.Nodes)
	slices.Sort(sum.Nodes)
	sum.Nodes = slices.Compact(sum.Nodes)
	sum.Services = mergeSorted(s.Services, o.Services,
		func(t ServiceTotals) string { return t.Service }, mergeService)
	if len(s.Overflow)+len(o.Overflow) > 0 {
		sum.Overflow = maps.Clone(s.Overflow)
		if sum.Overflow == nil {
			sum.Overflow = map[string]uint64{}
		}
		for k, n := range o.Overflow {
			sum.Overflow[k] += n
		}
	}
	return sum
}

func mergeService(a, b ServiceTotals) ServiceTotals {
	sum := a
	addAll(sum.numbers(), b.numbers())
	sum.Codes = mergeCounts(a.Codes, b.Codes)
	sum.Terminations = mergeCounts(a.Terminations, b.Terminations)
	more := b.histograms()
	for i, h := range sum.histograms() {
		*h = mergeHistograms(*h, *more[i])
	}
	sum.Tasks = mergeSorted(a.Tasks, b.Tasks, partName, mergePart)
	sum.Routes = mergeSorted(a.Routes, b.Routes, partName, mergePart)
	sum.Callers = mergeSorted(a.Callers, b.Callers, partName, mergePart)
	sum.Failures = mergeCounts(a.Failures, b.Failures)
	sum.TLS = mergeCounts(a.TLS, b.TLS)
	sum.Derived = mergeCounts(a.Derived, b.Derived)
	sum.SLO = mergeSLO(a.SLO, b.SLO)
	sum.Exemplars = mergeExemplars(a.Exemplars, b.Exemplars)
	for i := range sum.Recent {
		sum.Recent[i].Requests += b.Recent[i].Requests
		sum.Recent[i].Errors += b.Recent[i].Errors
		sum.Recent[i].Span = max(sum.Recent[i].Span, b.Recent[i].Span)
	}
	return sum
}

func (c FailureCount) key() string { return c.Reason + " " + c.State + " " + c.During }

// mergeSLO adds counts. Of two objectives, which differ for the moment in which a label changes, the stricter one is shown.
func mergeSLO(a, b *SLOTotals) *SLOTotals {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	sum := *a
	if b.Share > a.Share || b.Share == a.Share && b.Latency < a.Latency {
		sum = *b
	}
	sum.Judged, sum.Good = a.Judged+b.Judged, a.Good+b.Good
	return &sum
}

func mergeHistograms(a, b Histogram) Histogram {
	sum := a.Clone()
	sum.Merge(&b)
	return sum
}

// mergeSorted merges two lists that are sorted by key and have each key once.
func mergeSorted[T any](a, b []T, key func(T) string, add func(T, T) T) []T {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]T, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(key(a[0]), key(b[0])); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, add(a[0], b[0])), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// ReadSnapshot reads a snapshot's JSON form, and refuses one whose parts are out of order.
func ReadSnapshot(b []byte) (*Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("reading snapshot: %w", err)
	}
	if err := s.ordered(); err != nil {
		return nil, fmt.Errorf("reading snapshot: %w", err)
	}
	return &s, nil
}

// ordered reports which list is out of order; merging relies on it.
func (s *Snapshot) ordered() error {
	if !increasing(s.Services, func(t ServiceTotals) string { return t.Service }) {
		return errors.New("services are not sorted")
	}
	for i := range s.Services {
		t := &s.Services[i]
		parts := slices.Concat(t.Routes, t.Tasks, t.Callers)
		if !increasing(t.Codes, CodeCount.key) || !increasing(t.Terminations, TerminationCount.key) ||
			!increasing(t.Failures, FailureCount.key) || !increasing(t.TLS, TLSCount.key) || !increasing(t.Derived, DerivedCount.key) ||
			!increasing(t.Exemplars, func(x Exemplar) int { return x.Bucket }) ||
			!increasing(t.Routes, partName) || !increasing(t.Tasks, partName) || !increasing(t.Callers, partName) ||
			slices.ContainsFunc(parts, func(p Part) bool { return !p.sorted() }) {
			return fmt.Errorf("the parts of service %q are not sorted", t.Service)
		}
	}
	return nil
}

func increasing[T any, K cmp.Ordered](list []T, key func(T) K) bool {
	for i := 1; i < len(list); i++ {
		if key(list[i-1]) >= key(list[i]) {
			return false
		}
	}
	return true
}

// Snapshot returns what has been counted up to now. The caller shares nothing with the aggregator.
func (a *Aggregator) Snapshot(now time.Time) *Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &Snapshot{At: now, Loss: a.loss(), Nodes: []string{}, Services: make([]ServiceTotals, 0, len(a.services))}
	if a.cfg.Node != "" {
		s.Nodes = []string{a.cfg.Node}
	}
	for _, one := range a.services {
		t := one.totals(now)
		for i, of := range one.derivedOf {
			t.Derived = append(t.Derived, DerivedCount{Metric: a.cfg.Derived[of].Name, Count: one.derived[i]})
		}
		for name, n := range one.elsewhere {
			t.Derived = append(t.Derived, DerivedCount{Metric: name, Count: n})
		}
		sortByKey(t.Derived)
		s.Services = append(s.Services, t)
	}
	slices.SortFunc(s.Services, func(x, y ServiceTotals) int { return cmp.Compare(x.Service, y.Service) })
	if len(a.overflow) > 0 {
		s.Overflow = maps.Clone(a.overflow)
	}
	return s
}

// Settled is Snapshot with the account of lost lines as the metrics show it. What is only on its way counts as nothing there, so that its figures
// never fall, and increments between two of them add up to what was lost in the end. It has what Reconcile has found.
func (a *Aggregator) Settled(now time.Time) *Snapshot {
	s := a.Snapshot(now)
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Loss.Lost, s.Loss.Ring, s.Loss.Tail, s.Loss.Kernel = a.shown.Lost, a.shown.Ring, a.shown.Tail, a.shown.Kernel
	s.Loss.Sent = s.Loss.Counted + s.Loss.Bad + s.Loss.Lost
	return s
}

func (s *service) totals(now time.Time) ServiceTotals {
	t := ServiceTotals{
		Service: s.name, Requests: s.requests, BytesIn: s.bytesIn, BytesOut: s.bytesOut,
		Retries: s.retries, Redispatches: s.redispatches, Local: s.local, Remote: s.remote,
		Duration: s.duration.Clone(), Response: s.response.Clone(), Connect: s.connect.Clone(),
		Queue: s.queue.Clone(), Read: s.reading.Clone(), Exemplars: s.exemplars.list(),
	}
	for m, codes := range s.codes {
		if codes == nil {
			continue
		}
		for i, n := range codes {
			if n > 0 {
				t.Codes = append(t.Codes, CodeCount{Method: methods[m], Code: codeName(m, i), Count: n})
			}
		}
	}
	sortByKey(t.Codes)
	for i, n := range s.ends {
		if n > 0 {
			end := terminationAt(i)
			t.Terminations = append(t.Terminations, TerminationCount{Cause: end.Cause, Phase: end.Phase, Count: n})
		}
	}
	sortByKey(t.Terminations)
	if o := s.about.SLO; o.Share > 0 {
		t.SLO = &SLOTotals{Share: o.Share, Latency: o.Latency.Microseconds(), Judged: s.judged, Good: s.good}
	}
	for f, n := range s.failures {
		t.Failures = append(t.Failures, FailureCount{Reason: f.failure.String(), State: f.state, During: f.during, Count: n})
	}
	sortByKey(t.Failures)
	for k, n := range s.tls {
		t.TLS = append(t.TLS, TLSCount{Version: tlsNames[k.version], Cipher: k.cipher, Count: n})
	}
	sortByKey(t.TLS)
	t.Routes, t.Tasks, t.Callers = snapshots(s.routes), snapshots(s.tasks), snapshots(s.callers)
	for i, span := range recentSpans {
		t.Recent[i] = s.recent(now, span)
	}
	return t
}

// recentSpans are the spans of ServiceTotals.Recent.
var recentSpans = [3]time.Duration{time.Second, 10 * time.Second, time.Minute}

// rateSeconds is for how many ticks the totals are remembered.
const rateSeconds = 64

// tick is a service's totals at a moment.
type tick struct {
	at               int64 // ms since the epoch, 0: never
	requests, errors uint64
}

func (s *service) tick(now time.Time) {
	copy(s.ring[1:], s.ring[:rateSeconds-1])
	s.ring[0] = tick{at: now.UnixMilli(), requests: s.requests, errors: s.errors}
}

// recent returns what was counted since the tick that lies nearest to a span ago, up to the last tick.
func (s *service) recent(now time.Time, span time.Duration) Recent {
	last := s.ring[0]
	if last.at == 0 || now.UnixMilli()-last.at > 5*span.Milliseconds()+5000 {
		return Recent{}
	}
	from := last
	for _, t := range s.ring[1:] {
		if t.at == 0 || last.at-t.at > span.Milliseconds()+500 {
			break
		}
		from = t
	}
	return Recent{
		Requests: last.requests - from.requests, Errors: last.errors - from.errors, Span: uint64(max(last.at-from.at, 0)),
	}
}
