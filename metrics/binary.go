package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"
)

// binaryMark begins the binary form of a snapshot, and names its version.
const binaryMark = "SBS2"

// MaxBinary is how many bytes the binary form of a snapshot may have: 500 services of 20 tasks and as many routes, all of which have
// changed, take some 3 MB.
const MaxBinary = 16 << 20

// maxCells bounds the buckets of all histograms of one: a few bytes may ask for a wide one.
const maxCells = 64 << 20

// ErrBinary is wrapped by every error of DecodeSnapshot.
var ErrBinary = errors.New("no snapshot")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBinary appends the form in which a snapshot travels from a machine to the hub: about two bytes for each bucket that was hit, and
// a checksum. What is of the moment, Recent, does not travel. Equal snapshots have equal bytes.
func (s *Snapshot) AppendBinary(b []byte) []byte {
	start := len(b)
	e := encoder{append(b, binaryMark...)}
	e.number(uint64(s.At.UnixMilli()))
	e.number(uint64(len(s.Nodes)))
	for _, node := range s.Nodes {
		e.text(node)
	}
	for _, n := range s.Loss.fields() {
		e.number(*n)
	}
	e.number(uint64(len(s.Overflow)))
	for _, k := range slices.Sorted(maps.Keys(s.Overflow)) {
		e.text(k)
		e.number(s.Overflow[k])
	}
	e.number(uint64(len(s.Services)))
	for i := range s.Services {
		e.service(&s.Services[i])
	}
	return binary.BigEndian.AppendUint32(e.b, crc32.Checksum(e.b[start:], castagnoli))
}

func (l *Loss) fields() [8]*uint64 {
	return [...]*uint64{&l.Sent, &l.Counted, &l.Bad, &l.Lost, &l.Unsure, &l.Ring, &l.Tail, &l.Kernel}
}

func (s *ServiceTotals) numbers() []*uint64 {
	return []*uint64{&s.Requests, &s.BytesIn, &s.BytesOut, &s.Retries, &s.Redispatches, &s.Local, &s.Remote}
}

func (s *ServiceTotals) histograms() [5]*Histogram {
	return [...]*Histogram{&s.Duration, &s.Response, &s.Connect, &s.Queue, &s.Read}
}

type encoder struct{ b []byte }

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) service(s *ServiceTotals) {
	e.text(s.Service)
	for _, n := range s.numbers() {
		e.number(*n)
	}
	for _, h := range s.histograms() {
		e.histogram(h)
	}
	writeCounts(e, s.Codes, func(c *CodeCount) { e.text(c.Method); e.text(c.Code) })
	writeCounts(e, s.Terminations, func(c *TerminationCount) { e.text(c.Cause); e.text(c.Phase) })
	writeCounts(e, s.Failures, func(c *FailureCount) { e.text(c.Reason); e.text(c.State); e.text(c.During) })
	writeCounts(e, s.TLS, func(c *TLSCount) { e.text(c.Version); e.text(c.Cipher) })
	writeCounts(e, s.Derived, func(c *DerivedCount) { e.text(c.Metric) })
	if s.SLO == nil {
		e.number(0)
	} else {
		e.number(uint64(s.SLO.Share * sharePrecision))
		e.number(uint64(s.SLO.Latency))
		e.number(s.SLO.Judged)
		e.number(s.SLO.Good)
	}
	e.parts(s.Routes)
	e.parts(s.Tasks)
	e.parts(s.Callers)
	e.number(uint64(len(s.Exemplars)))
	for _, x := range s.Exemplars {
		e.number(uint64(x.Bucket - classicLow))
		e.text(x.Trace)
		e.number(x.Micros)
		e.number(uint64(x.At.UnixMicro()))
	}
}

// sharePrecision is in how many parts the share of an objective travels.
const sharePrecision = 1e9

// writeCounts writes a list of counts, each behind its words.
func writeCounts[T any, P countOf[T]](e *encoder, list []T, words func(P)) {
	e.number(uint64(len(list)))
	for i := range list {
		words(&list[i])
		e.number(*P(&list[i]).count())
	}
}

func (e *encoder) parts(parts []Part) {
	e.number(uint64(len(parts)))
	for i := range parts {
		e.part(&parts[i])
	}
}

func (e *encoder) part(p *Part) {
	e.text(p.Name)
	for _, n := range p.numbers() {
		e.number(*n)
	}
	writeCounts(e, p.Classes, func(c *ClassCount) { e.text(c.Method); e.text(c.Class) })
	writeCounts(e, p.Terminations, func(c *TerminationCount) { e.text(c.Cause); e.text(c.Phase) })
	writeCounts(e, p.Failures, func(c *ReasonCount) { e.text(c.Reason) })
	writeCounts(e, p.TLS, func(c *TLSCount) { e.text(c.Version) })
	e.histogram(&p.Duration)
}

// histogram writes the buckets that were hit, each as its distance from the one before and its count.
func (e *encoder) histogram(h *Histogram) {
	e.number(h.count)
	if h.count == 0 {
		return
	}
	e.number(h.sum)
	e.number(h.zero)
	n := 0
	for range h.Buckets() {
		n++
	}
	e.number(uint64(n))
	last := minIndex
	for i, count := range h.Buckets() {
		e.number(uint64(i - last))
		e.number(count)
		last = i
	}
}

// DecodeSnapshot reads what AppendBinary wrote. It takes any bytes: what is cut, changed, out of order or does not add up is refused, and what
// would take more than half a gigabyte too.
func DecodeSnapshot(b []byte) (*Snapshot, error) {
	if len(b) < len(binaryMark)+4 || len(b) > MaxBinary {
		return nil, fmt.Errorf("%w: %d bytes", ErrBinary, len(b))
	}
	if string(b[:len(binaryMark)]) != binaryMark {
		return nil, fmt.Errorf("%w: it begins with %q, not with %q: another version", ErrBinary, b[:len(binaryMark)], binaryMark)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: its checksum is wrong", ErrBinary)
	}
	d := decoder{b: body[len(binaryMark):]}
	s := &Snapshot{At: time.UnixMilli(int64(d.number())).UTC()}
	s.Nodes = make([]string, 0, 1)
	for range d.length(1) {
		s.Nodes = append(s.Nodes, d.text())
	}
	for _, n := range s.Loss.fields() {
		*n = d.number()
	}
	if n := d.length(2); n > 0 {
		s.Overflow = make(map[string]uint64, n)
		for range n {
			k := d.text()
			s.Overflow[k] = d.number()
		}
	}
	s.Services = list(&d, 20, func(t *ServiceTotals) { d.service(t) })
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: it is not whole", ErrBinary)
	}
	if err := s.ordered(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBinary, err)
	}
	return s, nil
}

// decoder reads; once something was wrong it reads nothing more.
type decoder struct {
	b     []byte
	bad   bool
	cells int
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || d.bad {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[size:]
	return n
}

// length reads how many parts follow, each of which takes at least so many bytes.
func (d *decoder) length(least int) int {
	n := d.number()
	if n > uint64(len(d.b)/least) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.length(1)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func list[T any](d *decoder, least int, read func(*T)) []T {
	n := d.length(least)
	if n == 0 {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		if d.bad {
			return nil
		}
		read(&out[i])
	}
	return out
}

func (d *decoder) service(s *ServiceTotals) {
	s.Service = d.text()
	for _, n := range s.numbers() {
		*n = d.number()
	}
	for _, h := range s.histograms() {
		d.histogram(h)
	}
	s.Codes = list(d, 3, func(c *CodeCount) { c.Method, c.Code, c.Count = d.text(), d.text(), d.number() })
	s.Terminations = list(d, 3, func(c *TerminationCount) { c.Cause, c.Phase, c.Count = d.text(), d.text(), d.number() })
	s.Failures = list(d, 4, func(c *FailureCount) { c.Reason, c.State, c.During, c.Count = d.text(), d.text(), d.text(), d.number() })
	s.TLS = list(d, 3, func(c *TLSCount) { c.Version, c.Cipher, c.Count = d.text(), d.text(), d.number() })
	s.Derived = list(d, 2, func(c *DerivedCount) { c.Metric, c.Count = d.text(), d.number() })
	if share := d.number(); share > 0 {
		s.SLO = &SLOTotals{Share: float64(share) / sharePrecision, Latency: int64(d.number()), Judged: d.number(), Good: d.number()}
		if s.SLO.Share > 1 || s.SLO.Latency < 0 || s.SLO.Good > s.SLO.Judged {
			d.bad = true
		}
	}
	s.Routes, s.Tasks, s.Callers = list(d, leastPart, d.part), list(d, leastPart, d.part), list(d, leastPart, d.part)
	s.Exemplars = list(d, 4, func(x *Exemplar) {
		x.Bucket, x.Trace, x.Micros, x.At = classicLow+int(d.number()), d.text(), d.number(), time.UnixMicro(int64(d.number())).UTC()
		if x.Bucket < classicLow || x.Bucket > classicHigh || !isTrace(x.Trace) {
			d.bad = true
		}
	})
}

// leastPart is how many bytes a part takes at least.
const leastPart = 16

func (d *decoder) part(p *Part) {
	p.Name = d.text()
	for _, n := range p.numbers() {
		*n = d.number()
	}
	p.Classes = list(d, 3, func(c *ClassCount) { c.Method, c.Class, c.Count = d.text(), d.text(), d.number() })
	p.Terminations = list(d, 3, func(c *TerminationCount) { c.Cause, c.Phase, c.Count = d.text(), d.text(), d.number() })
	p.Failures = list(d, 2, func(c *ReasonCount) { c.Reason, c.Count = d.text(), d.number() })
	p.TLS = list(d, 2, func(c *TLSCount) { c.Version, c.Count = d.text(), d.number() })
	d.histogram(&p.Duration)
}

func (d *decoder) histogram(h *Histogram) {
	if h.count = d.number(); h.count == 0 {
		return
	}
	h.sum, h.zero = d.number(), d.number()
	total, last := h.zero, uint64(0)
	for n := d.length(2); n > 0; n-- {
		gap, count := d.number(), d.number()
		if last += gap; d.bad || gap >= indexCount || last >= indexCount || count == 0 || total+count < total {
			d.bad, d.b = true, nil
			return
		}
		h.addBucket(int(last)+minIndex, count)
		total += count
	}
	d.cells += len(h.counts)
	if total != h.count || d.cells > maxCells {
		d.bad, d.b = true, nil
	}
}
