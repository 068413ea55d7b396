package metrics

import (
	"maps"
	"slices"
)

// Since returns what was counted between an earlier snapshot of the same counts and this one: prev.Merge(s.Since(prev)) has the
// counts of s. What has fewer than before began anew meanwhile, and counts in full. What did not change is left out, except the services.
// Loss that turned out to be smaller than it had seemed is 0, not less.
func (s *Snapshot) Since(prev *Snapshot) *Snapshot {
	d := &Snapshot{Nodes: s.Nodes, At: s.At, Loss: s.Loss.since(prev.Loss), Services: make([]ServiceTotals, 0, len(s.Services))}
	for i := range s.Services {
		t := &s.Services[i]
		was := prev.Service(t.Service)
		if was == nil || was.Requests > t.Requests {
			d.Services = append(d.Services, *t)
			continue
		}
		d.Services = append(d.Services, t.since(was))
	}
	if len(s.Overflow) > 0 {
		d.Overflow = maps.Clone(s.Overflow)
		for k := range d.Overflow {
			d.Overflow[k] = less(d.Overflow[k], prev.Overflow[k])
		}
		maps.DeleteFunc(d.Overflow, func(_ string, n uint64) bool { return n == 0 })
	}
	return d
}

// less returns how much a count has grown; one that is smaller than before began anew.
func less(now, before uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

func (l Loss) since(prev Loss) Loss {
	grown := func(now, before uint64) uint64 { return now - min(now, before) }
	return Loss{
		Sent: grown(l.Sent, prev.Sent), Counted: grown(l.Counted, prev.Counted), Bad: grown(l.Bad, prev.Bad), Lost: grown(l.Lost, prev.Lost),
		Unsure: grown(l.Unsure, prev.Unsure), Ring: grown(l.Ring, prev.Ring), Tail: grown(l.Tail, prev.Tail),
		Kernel: grown(l.Kernel, prev.Kernel),
	}
}

func (s *ServiceTotals) since(prev *ServiceTotals) ServiceTotals {
	d := *s
	lessAll(d.numbers(), prev.numbers())
	earlier := prev.histograms()
	for i, h := range d.histograms() {
		*h = h.Since(earlier[i])
	}
	d.Codes = sinceCounts(s.Codes, prev.Codes)
	d.Terminations = sinceCounts(s.Terminations, prev.Terminations)
	d.Failures = sinceCounts(s.Failures, prev.Failures)
	d.TLS = sinceCounts(s.TLS, prev.TLS)
	d.Derived = sinceCounts(s.Derived, prev.Derived)
	d.Routes = sinceSorted(s.Routes, prev.Routes, partName, partSince)
	d.Tasks = sinceSorted(s.Tasks, prev.Tasks, partName, partSince)
	d.Callers = sinceSorted(s.Callers, prev.Callers, partName, partSince)
	d.Exemplars = nil
	for _, x := range s.Exemplars {
		if !slices.Contains(prev.Exemplars, x) {
			d.Exemplars = append(d.Exemplars, x)
		}
	}
	if s.SLO != nil && prev.SLO != nil {
		slo := *s.SLO
		slo.Judged, slo.Good = less(slo.Judged, prev.SLO.Judged), less(slo.Good, prev.SLO.Good)
		d.SLO = &slo
	}
	return d
}

// sinceSorted subtracts lists that are sorted by key and have each key once. sub says whether anything is left.
func sinceSorted[T any](now, before []T, key func(T) string, sub func(T, T) (T, bool)) []T {
	var out []T
	for _, one := range now {
		k := key(one)
		for len(before) > 0 && key(before[0]) < k {
			before = before[1:]
		}
		if len(before) > 0 && key(before[0]) == k {
			rest, some := sub(one, before[0])
			if !some {
				continue
			}
			one = rest
		}
		out = append(out, one)
	}
	return out
}

// Since returns what h has counted since it was prev; if it began anew meanwhile, all of it.
func (h *Histogram) Since(prev *Histogram) Histogram {
	if h.count == prev.count && h.sum == prev.sum && h.zero == prev.zero {
		return Histogram{}
	}
	d := h.Clone()
	if h.count < prev.count || h.sum < prev.sum || h.zero < prev.zero {
		return d
	}
	d.count, d.sum, d.zero = h.count-prev.count, h.sum-prev.sum, h.zero-prev.zero
	for i, n := range prev.Buckets() {
		at := i - d.first
		if uint(at) >= uint(len(d.counts)) || d.counts[at] < n {
			return h.Clone()
		}
		d.counts[at] -= n
	}
	return d
}
