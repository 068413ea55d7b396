package statsd

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits bound what services can make the program keep. A zero value stands for the default.
type Limits struct {
	Series    int           // of all names, a histogram for two and a summary for five; 5,000
	PerName   int           // series of one name; 1,000
	SetValues int           // distinct values of all sets in a minute; 200,000
	TTL       time.Duration // of a series whose mapping has none; 1 h
}

func (l Limits) orDefaults() Limits {
	if l.Series == 0 {
		l.Series = 5000
	}
	if l.PerName == 0 {
		l.PerName = 1000
	}
	if l.SetValues == 0 {
		l.SetValues = 200_000
	}
	if l.TTL == 0 {
		l.TTL = time.Hour
	}
	return l
}

// kind is what a name is: what Prometheus calls its type, and sets.
type kind uint8

const (
	kindCounter kind = iota
	kindGauge
	kindHistogram
	kindSummary
	kindSet
)

// maxIdentity is how long the name and labels of a series may be together, in bytes.
const maxIdentity = 2048

// update is one value for one series.
type update struct {
	kind     kind
	name     string
	help     string
	labels   prometheus.Labels
	value    float64
	relative bool   // of a gauge
	member   string // of a set
	ttl      time.Duration
	how      observing
}

// family is all series of a name. Its kind and help hold for as long as it has one.
type family struct {
	kind   kind
	help   string
	series int
}

// series is one name with one set of labels.
type series struct {
	family    string
	metric    prometheus.Metric
	ttl       time.Duration
	last      atomic.Int64 // when it was updated, in Unix nanoseconds
	set       func(update)
	setMember *distinct // of a set
}

// store holds every series. Updates of different series do not wait for each other.
type store struct {
	limits Limits

	mu       sync.RWMutex
	families map[string]*family
	claims   map[string]string // names of samples → the family that exposes them
	series   map[string]*series
	used     int // of limits.Series
	swept    time.Time

	values atomic.Int64 // of all sets
}

func newStore(limits Limits) *store {
	return &store{limits: limits.orDefaults(), families: map[string]*family{}, claims: map[string]string{}, series: map[string]*series{}}
}

// put applies an update, and returns "" or why it could not.
func (s *store) put(u update, now time.Time) (refused string) {
	if reason := check(u); reason != "" {
		return reason
	}
	key := identity(u)
	if len(key) > maxIdentity {
		return reasonTooLong
	}
	if known, refused := s.putKnown(key, u, now); known {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.series[key]
	if one == nil {
		if one, refused = s.add(key, u, now); one == nil {
			return refused
		}
	}
	return s.touch(one, u, now)
}

// putKnown is put for a series that exists. No series ends meanwhile.
func (s *store) putKnown(key string, u update, now time.Time) (known bool, refused string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	one := s.series[key]
	if one == nil {
		return false, ""
	}
	return true, s.touch(one, u, now)
}

func (s *store) touch(one *series, u update, now time.Time) string {
	if s.families[u.name].kind != u.kind {
		return reasonType
	}
	one.last.Store(now.UnixNano())
	if one.setMember != nil {
		return one.setMember.add(u.member, now, s)
	}
	one.set(u)
	return ""
}

func (s *store) add(key string, u update, now time.Time) (one *series, refused string) {
	f := s.families[u.name]
	if f != nil && f.kind != u.kind {
		return nil, reasonType
	}
	if f == nil {
		for _, name := range exposed(u.kind, u.name) {
			if _, taken := s.claims[name]; taken {
				return nil, reasonType
			}
		}
	}
	if s.full(f, u.kind) {
		if now.Sub(s.swept) < time.Second {
			return nil, overflowSeries
		}
		s.sweep(now)
		f = s.families[u.name] // which may have ended
		if s.full(f, u.kind) {
			return nil, overflowSeries
		}
	}
	if f == nil {
		f = &family{kind: u.kind, help: u.help}
		s.families[u.name] = f
		for _, name := range exposed(u.kind, u.name) {
			s.claims[name] = u.name
		}
	}
	one = newSeries(u.kind, u.name, f.help, u.labels, u.how)
	one.ttl = u.ttl
	if one.ttl == 0 {
		one.ttl = s.limits.TTL
	}
	f.series++
	s.used += weight(u.kind)
	s.series[key] = one
	return one, ""
}

// full reports whether one more series of a family, nil for a new one, would exceed a limit.
func (s *store) full(f *family, k kind) bool {
	return s.used+weight(k) > s.limits.Series || f != nil && f.series >= s.limits.PerName
}

// weight is how many series one of this kind counts for: it follows what they take in memory.
func weight(k kind) int {
	switch k {
	case kindHistogram:
		return 2
	case kindSummary:
		return 5
	}
	return 1
}

// newSeries makes a series without a value yet.
func newSeries(k kind, name, help string, labels prometheus.Labels, how observing) *series {
	one := &series{family: name}
	switch k {
	case kindCounter:
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
		one.metric, one.set = c, func(u update) { c.Add(u.value) }
	case kindGauge, kindSet:
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
		one.metric, one.set = g, func(u update) {
			if u.relative {
				g.Add(u.value)
			} else {
				g.Set(u.value)
			}
		}
		if k == kindSet {
			one.setMember = &distinct{gauge: g, now: map[uint64]struct{}{}}
		}
	case kindHistogram:
		h := how.histogram(name, help, labels)
		one.metric, one.set = h, func(u update) { h.Observe(u.value) }
	case kindSummary:
		h := how.summary(name, help, labels)
		one.metric, one.set = h, func(u update) { h.Observe(u.value) }
	}
	return one
}

// sweep ends the series whose time is over. The caller holds the lock.
func (s *store) sweep(now time.Time) {
	s.swept = now
	for key, one := range s.series {
		if now.Sub(time.Unix(0, one.last.Load())) <= one.ttl {
			continue
		}
		if one.setMember != nil {
			s.values.Add(-int64(len(one.setMember.now)))
		}
		delete(s.series, key)
		f := s.families[one.family]
		s.used -= weight(f.kind)
		if f.series--; f.series == 0 {
			delete(s.families, one.family)
			for _, name := range exposed(f.kind, one.family) {
				delete(s.claims, name)
			}
		}
	}
}

// collect hands out every series that has not ended.
func (s *store) collect(ch chan<- prometheus.Metric, now time.Time) {
	s.mu.Lock()
	s.sweep(now)
	out := make([]prometheus.Metric, 0, len(s.series))
	for _, one := range s.series {
		if one.setMember != nil {
			one.setMember.show(now, s)
		}
		out = append(out, one.metric)
	}
	s.mu.Unlock()
	for _, m := range out {
		ch <- m
	}
}

func (s *store) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.series)
}

// seed makes hashes that no sender can foresee.
var seed = maphash.MakeSeed()

// distinct counts the different values of a set by whole minutes of the clock.
type distinct struct {
	gauge prometheus.Gauge

	mu     sync.Mutex
	minute int64
	now    map[uint64]struct{} // hashes of the minute's values
	last   int                 // of the minute before
}

func (d *distinct) add(member string, now time.Time, s *store) (refused string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now, s)
	value := maphash.String(seed, member)
	if _, known := d.now[value]; known {
		return ""
	}
	if s.values.Add(1) > int64(s.limits.SetValues) {
		s.values.Add(-1)
		return overflowSet
	}
	d.now[value] = struct{}{}
	return ""
}

// show puts the last whole minute into the gauge.
func (d *distinct) show(now time.Time, s *store) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now, s)
	d.gauge.Set(float64(d.last))
}

func (d *distinct) turn(now time.Time, s *store) {
	minute := now.Unix() / 60
	if minute == d.minute {
		return
	}
	d.last = 0
	if minute == d.minute+1 {
		d.last = len(d.now)
	}
	s.values.Add(-int64(len(d.now)))
	d.minute, d.now = minute, map[uint64]struct{}{}
}

// exposed returns the names that a family's samples have in the text formats.
func exposed(k kind, name string) []string {
	switch k {
	case kindCounter: // OpenMetrics adds _total where it is missing
		base := strings.TrimSuffix(name, "_total")
		return []string{base, base + "_total"}
	case kindHistogram:
		return []string{name, name + "_bucket", name + "_sum", name + "_count"}
	case kindSummary:
		return []string{name, name + "_sum", name + "_count"}
	}
	return []string{name}
}

// identity is a key that no two series share: no label holds the byte 0xff.
func identity(u update) string {
	var b strings.Builder
	b.WriteString(u.name)
	names := make([]string, 0, 8)
	for name := range u.labels {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteByte(0xff)
		b.WriteString(name)
		b.WriteByte(0xff)
		b.WriteString(u.labels[name])
	}
	return b.String()
}
