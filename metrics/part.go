package metrics

import (
	"cmp"
	"slices"
	"time"
)

// Part are the totals of a part of a service's requests since counting began: of one task, one route or one caller.
type Part struct {
	Name         string             `json:"name"`                   // a task's id; a template, or a path whose ids are {id}; who calls
	Classes      []ClassCount       `json:"classes"`                // sorted by method, then class
	Terminations []TerminationCount `json:"terminations,omitempty"` // but the normal ones
	Failures     []ReasonCount      `json:"failures,omitempty"`     // sorted by reason
	TLS          []TLSCount         `json:"tls,omitempty"`          // sorted by version; the ciphers are not told apart
	BytesIn      uint64             `json:"bytes_in"`
	BytesOut     uint64             `json:"bytes_out"`
	Retries      uint64             `json:"retries"`
	Redispatches uint64             `json:"redispatches"`
	Queue        Times              `json:"queue"`
	Connect      Times              `json:"connect"`
	Response     Times              `json:"response"` // see Record.FirstByte
	Duration     Histogram          `json:"duration"`
}

// Times are how many requests reached a phase, and how long that took them all together.
type Times struct {
	Count  uint64 `json:"count"`
	Micros uint64 `json:"micros"`
}

// ClassCount counts the requests of one method and class of status codes: "2xx", "none", "tcp".
type ClassCount struct {
	Method string `json:"method"`
	Class  string `json:"class"`
	Count  uint64 `json:"count"`
}

// ReasonCount counts the requests that failed in one way.
type ReasonCount struct {
	Reason string `json:"reason"` // a Failure's word
	Count  uint64 `json:"count"`
}

// Requests returns how many requests there were.
func (p *Part) Requests() (n uint64) {
	for _, c := range p.Classes {
		n += c.Count
	}
	return n
}

func (c ClassCount) key() string       { return c.Method + " " + c.Class }
func (c CodeCount) key() string        { return c.Method + " " + c.Code }
func (c TerminationCount) key() string { return c.Cause + " " + c.Phase }
func (c ReasonCount) key() string      { return c.Reason }
func (c TLSCount) key() string         { return c.Version + " " + c.Cipher }
func (c DerivedCount) key() string     { return c.Metric }

func partName(p Part) string { return p.Name }

func (c *ClassCount) count() *uint64       { return &c.Count }
func (c *CodeCount) count() *uint64        { return &c.Count }
func (c *TerminationCount) count() *uint64 { return &c.Count }
func (c *FailureCount) count() *uint64     { return &c.Count }
func (c *ReasonCount) count() *uint64      { return &c.Count }
func (c *TLSCount) count() *uint64         { return &c.Count }
func (c *DerivedCount) count() *uint64     { return &c.Count }

// countOf is an element of a list of counts, which is sorted by key.
type countOf[T any] interface {
	*T
	count() *uint64
}

// mergeCounts adds two lists of counts.
func mergeCounts[T interface{ key() string }, P countOf[T]](a, b []T) []T {
	return mergeSorted(a, b, T.key, func(x, y T) T { *P(&x).count() += *P(&y).count(); return x })
}

// sinceCounts returns how much the counts of a list have grown.
func sinceCounts[T interface{ key() string }, P countOf[T]](now, before []T) []T {
	return sinceSorted(now, before, T.key, func(x, y T) (T, bool) {
		n := P(&x).count()
		*n = less(*n, *P(&y).count())
		return x, *n > 0
	})
}

// addAll adds numbers to others, each to its own; lessAll takes what was counted before from what has been counted now.
func addAll(to, more []*uint64) {
	for i, n := range to {
		*n += *more[i]
	}
}

func lessAll(now, before []*uint64) {
	for i, n := range now {
		*n = less(*n, *before[i])
	}
}

func (p *Part) numbers() []*uint64 {
	return []*uint64{
		&p.BytesIn, &p.BytesOut, &p.Retries, &p.Redispatches,
		&p.Queue.Count, &p.Queue.Micros, &p.Connect.Count, &p.Connect.Micros, &p.Response.Count, &p.Response.Micros,
	}
}

func mergePart(a, b Part) Part {
	sum := a
	addAll(sum.numbers(), b.numbers())
	sum.Classes = mergeCounts(a.Classes, b.Classes)
	sum.Terminations = mergeCounts(a.Terminations, b.Terminations)
	sum.Failures = mergeCounts(a.Failures, b.Failures)
	sum.TLS = mergeCounts(a.TLS, b.TLS)
	sum.Duration = mergeHistograms(a.Duration, b.Duration)
	return sum
}

// partSince returns what a part has counted since it was prev, and whether that is anything.
func partSince(p, prev Part) (Part, bool) {
	d := p
	lessAll(d.numbers(), prev.numbers())
	d.Classes = sinceCounts(p.Classes, prev.Classes)
	d.Terminations = sinceCounts(p.Terminations, prev.Terminations)
	d.Failures = sinceCounts(p.Failures, prev.Failures)
	d.TLS = sinceCounts(p.TLS, prev.TLS)
	d.Duration = p.Duration.Since(&prev.Duration)
	return d, len(d.Classes) > 0
}

// sorted reports whether the lists are in order.
func (p *Part) sorted() bool {
	return increasing(p.Classes, ClassCount.key) && increasing(p.Terminations, TerminationCount.key) &&
		increasing(p.Failures, ReasonCount.key) && increasing(p.TLS, TLSCount.key)
}

// part is the account of a Part.
type part struct {
	totals  Part    // its name, numbers and times; the lists are in
	classes tallies // by classKey
	ends    tallies // by terminationIndex, but normal ones
	fails   tallies // by Failure
	tls     tallies // by tlsIndex
	seen    time.Time
}

// tallies are the counts of a few things out of some hundred.
type tallies []tallied

type tallied struct {
	key uint16
	n   uint64
}

func (t *tallies) add(key int, n uint64) {
	for i := range *t {
		if one := &(*t)[i]; one.key == uint16(key) {
			one.n += n
			return
		}
	}
	*t = append(*t, tallied{uint16(key), n})
}

func classKey(method, class int) int { return method*len(classNames) + class }

// measured is what is read off a record once, for the accounts of its service, route, caller and task.
type measured struct {
	method, code, class int // indices of methods, of codes and of classNames
	end                 int // by terminationIndex
	tls                 int // by tlsIndex, -1 without
	failure             Failure
	micros, first       int64 // Duration, and FirstByte of a request; -1: there is none
}

func measure(r *Record) measured {
	m := measured{
		method: methodTCP, class: classIndex(r), end: terminationIndex(r.Termination), tls: -1, failure: r.Failure(), micros: -1, first: -1,
	}
	if r.Kind == KindHTTP {
		m.method, m.code, m.first = methodIndex(r.Method), codeIndex(r.Status), r.FirstByte()
	}
	if len(r.TLSVersion) > 0 {
		m.tls = tlsIndex(r.TLSVersion)
	}
	if r.Total >= 0 {
		m.micros = r.Duration()
	}
	return m
}

// count counts a request.
func (p *part) count(r *Record, m *measured, now time.Time) {
	p.seen = now
	p.classes.add(classKey(m.method, m.class), 1)
	if r.Termination != endedNormally {
		p.ends.add(m.end, 1)
	}
	if m.failure != Fine {
		p.fails.add(int(m.failure), 1)
	}
	if m.tls >= 0 {
		p.tls.add(m.tls, 1)
	}
	t := &p.totals
	t.BytesIn += r.BytesIn
	t.BytesOut += r.BytesOut
	t.Retries += r.Retries
	if r.Redispatched {
		t.Redispatches++
	}
	t.Queue.add(r.Queue * 1000)
	t.Connect.add(r.Connect * 1000)
	t.Response.add(m.first)
	if m.micros >= 0 {
		t.Duration.Observe(uint64(m.micros))
	}
}

// add counts a time, unless it is negative: the phase was not reached.
func (t *Times) add(us int64) {
	if us >= 0 {
		t.Count++
		t.Micros += uint64(us)
	}
}

func classIndex(r *Record) int {
	switch {
	case r.Kind == KindTCP:
		return 7
	case r.Status < 0:
		return 0
	case r.Status >= 100 && r.Status <= 599:
		return int(r.Status) / 100
	}
	return 6
}

// snapshot returns the totals. The caller shares nothing with the account.
func (p *part) snapshot() Part {
	t := p.totals
	t.Duration = p.totals.Duration.Clone()
	for _, c := range p.classes {
		t.Classes = append(t.Classes, ClassCount{methods[int(c.key)/len(classNames)], classNames[int(c.key)%len(classNames)], c.n})
	}
	for _, c := range p.ends {
		end := terminationAt(int(c.key))
		t.Terminations = append(t.Terminations, TerminationCount{end.Cause, end.Phase, c.n})
	}
	for _, c := range p.fails {
		t.Failures = append(t.Failures, ReasonCount{Failure(c.key).String(), c.n})
	}
	for _, c := range p.tls {
		t.TLS = append(t.TLS, TLSCount{Version: tlsNames[c.key], Count: c.n})
	}
	sortByKey(t.Classes)
	sortByKey(t.Terminations)
	sortByKey(t.Failures)
	sortByKey(t.TLS)
	return t
}

func sortByKey[T interface{ key() string }](list []T) {
	slices.SortFunc(list, func(x, y T) int { return cmp.Compare(x.key(), y.key()) })
}

// snapshots returns the totals of parts, sorted by name.
func snapshots(parts map[string]*part) (out []Part) {
	for _, p := range parts {
		out = append(out, p.snapshot())
	}
	slices.SortFunc(out, func(x, y Part) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// merge counts what others have counted.
func (p *part) merge(t *Part, now time.Time) {
	p.seen = now
	addAll(p.totals.numbers(), t.numbers())
	for _, c := range t.Classes {
		class := slices.Index(classNames[:], c.Class)
		if class < 0 {
			class = slices.Index(classNames[:], Other)
		}
		p.classes.add(classKey(methodNamed(c.Method), class), c.Count)
	}
	for _, c := range t.Terminations {
		p.ends.add(terminationNamed(c.Cause, c.Phase), c.Count)
	}
	for _, c := range t.Failures {
		p.fails.add(int(failureNamed(c.Reason)), c.Count)
	}
	for _, c := range t.TLS {
		p.tls.add(tlsIndex([]byte(c.Version)), c.Count)
	}
	p.totals.Duration.Merge(&t.Duration)
}

// partNamed returns the account of a part that has none yet under this name: its own, or that of all the others. The dimension says of what it is.
func (a *Aggregator) partNamed(parts map[string]*part, name, dimension string, limit int) *part {
	p := parts[name]
	if p == nil && (len(parts) >= limit && name != Other || !isName(name)) {
		a.overflow[dimension]++
		return a.partNamed(parts, Other, dimension, limit)
	}
	if p == nil {
		p = &part{totals: Part{Name: name}}
		parts[name] = p
	}
	return p
}
