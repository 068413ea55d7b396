package metrics

import "time"

// The past is kept in cells of four lengths, each of which covers a span. Only the two shorter ones have times, so a service costs some
// 20 KB and, while it is busy, up to 90 lists of the buckets that were hit.
var levels = [...]struct {
	every time.Duration
	cells int
	times bool
}{
	{10 * time.Second, 30, true}, // 5 min
	{time.Minute, 60, true},      // 1 h
	{5 * time.Minute, 72, false}, // 6 h
	{time.Hour, 72, false},       // 3 days
}

// Window is what was counted of a service in a span of time up to now.
type Window struct {
	Service          string
	Span             time.Duration // that the figures are of: that asked for to a tenth, or less if less is known
	Requests, Errors uint64        // Errors: answers of 500 to 599
	Judged, Good     uint64        // requests by which its objective is judged, and those that were as it asks
	Duration         Histogram     // of spans up to an hour
}

// Rate returns requests per second.
func (w *Window) Rate() float64 {
	if w.Span <= 0 {
		return 0
	}
	return float64(w.Requests) / w.Span.Seconds()
}

// cell is what was counted between two moments, in ms since the epoch.
type cell struct {
	from, to                       int64
	requests, errors, judged, good uint64
	sum, zero                      uint64 // of the times, in µs, and how many were 0
	buckets                        []bucketCount
}

type bucketCount struct {
	index int32
	n     uint32
}

// past is what a service has kept of it, and the totals at its last cell's end.
type past struct {
	cells                          [len(levels)][]cell // oldest first
	requests, errors, judged, good uint64
	duration                       Histogram
}

// since returns what was counted since the last cell.
func (s *service) since(from, to int64) cell {
	p := &s.past
	c := cell{
		from: from, to: to, requests: s.requests - p.requests, errors: s.errors - p.errors, judged: s.judged - p.judged, good: s.good - p.good,
		sum: s.duration.sum - p.duration.sum, zero: s.duration.zero - p.duration.zero,
	}
	if c.requests == 0 {
		return c
	}
	for i, n := range s.duration.Buckets() {
		if at := i - p.duration.first; uint(at) < uint(len(p.duration.counts)) {
			n -= p.duration.counts[at]
		}
		if n > 0 {
			c.buckets = append(c.buckets, bucketCount{int32(i), uint32(n)})
		}
	}
	return c
}

// roll ends a cell. n is how many there have been, of every service.
func (s *service) roll(from, to int64, n uint64) {
	p, c := &s.past, s.since(from, to)
	if c.requests > 0 {
		p.requests, p.errors, p.judged, p.good = s.requests, s.errors, s.judged, s.good
		mark := &p.duration
		mark.counts = append(mark.counts[:0], s.duration.counts...)
		mark.count, mark.sum, mark.zero, mark.first = s.duration.count, s.duration.sum, s.duration.zero, s.duration.first
	}
	p.push(0, c)
	for l := 1; l < len(levels); l++ {
		if n%uint64(levels[l].every/levels[0].every) != 0 {
			break
		}
		below := p.cells[l-1]
		var w Window
		sum := cell{from: below[max(0, len(below)-int(levels[l].every/levels[l-1].every))].from, to: to}
		for _, c := range below[max(0, len(below)-int(levels[l].every/levels[l-1].every)):] {
			w.add(&c)
		}
		sum.requests, sum.errors, sum.judged, sum.good = w.Requests, w.Errors, w.Judged, w.Good
		if levels[l].times {
			sum.sum, sum.zero = w.Duration.sum, w.Duration.zero
			for i, n := range w.Duration.Buckets() {
				sum.buckets = append(sum.buckets, bucketCount{int32(i), uint32(n)})
			}
		}
		p.push(l, sum)
	}
}

func (p *past) push(level int, c cell) {
	if cells := p.cells[level]; len(cells) == levels[level].cells {
		copy(cells, cells[1:])
		cells[len(cells)-1] = c
		return
	}
	p.cells[level] = append(p.cells[level], c)
}

func (w *Window) add(c *cell) {
	w.Requests += c.requests
	w.Errors += c.errors
	w.Judged += c.judged
	w.Good += c.good
	n := c.zero
	for _, b := range c.buckets {
		w.Duration.addBucket(int(b.index), uint64(b.n))
		n += uint64(b.n)
	}
	w.Duration.count += n
	w.Duration.sum += c.sum
	w.Duration.zero += c.zero
}

// window sums what was counted within a span up to now, of the coarsest cells that it needs.
func (s *service) window(from, now int64, span time.Duration) Window {
	w := Window{Service: s.name}
	open := s.since(from, now)
	w.add(&open)
	begin := from
	limit := now - span.Milliseconds()
	for l := range levels {
		last := l == len(levels)-1 || span <= levels[l].every*time.Duration(levels[l].cells)
		cells := s.past.cells[l]
		until := limit + levels[l].every.Milliseconds()/2
		if !last {
			if coarse := s.past.cells[l+1]; len(coarse) > 0 {
				until = max(until, coarse[len(coarse)-1].to)
			}
		}
		for i := len(cells) - 1; i >= 0 && (last && cells[i].to > until || !last && cells[i].from >= until); i-- {
			if cells[i].to > begin {
				continue // a finer cell has it
			}
			w.add(&cells[i])
			begin = cells[i].from
		}
		if last {
			break
		}
	}
	w.Span = time.Duration(now-begin) * time.Millisecond
	return w
}

// roll ends the cells of all services once the shortest one's time is over.
func (a *Aggregator) roll(now time.Time) {
	if a.rolled.IsZero() {
		a.rolled = now
		return
	}
	if now.Sub(a.rolled) < levels[0].every-500*time.Millisecond {
		return
	}
	a.rolls++
	for _, s := range a.services {
		s.roll(a.rolled.UnixMilli(), now.UnixMilli(), a.rolls)
	}
	a.rolled = now
}

// Windows returns what was counted of each service in a span of up to three days before now, sorted by service. Times are there for
// spans up to an hour.
func (a *Aggregator) Windows(now time.Time, span time.Duration) []Window {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.rolled
	if from.IsZero() {
		from = a.cfg.Started
	}
	out := make([]Window, 0, len(a.services))
	for _, name := range sortedNames(a.services) {
		out = append(out, a.services[name].window(from.UnixMilli(), now.UnixMilli(), span))
	}
	return out
}
