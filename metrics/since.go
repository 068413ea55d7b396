package metrics

import "maps"

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
	for _, one := range []struct{ now, before *uint64 }{
		{&d.Requests, &prev.Requests},
		{&d.BytesIn, &prev.BytesIn},
		{&d.BytesOut, &prev.BytesOut},
		{&d.Retries, &prev.Retries},
		{&d.Redispatches, &prev.Redispatches},
		{&d.Local, &prev.Local},
		{&d.Remote, &prev.Remote},
	} {
		*one.now = less(*one.now, *one.before)
	}
	for _, one := range []struct{ now, before *Histogram }{
		{&d.Duration, &prev.Duration}, {&d.Response, &prev.Response}, {&d.Connect, &prev.Connect}, {&d.Queue, &prev.Queue}, {&d.Read, &prev.Read},
	} {
		*one.now = one.now.Since(one.before)
	}
	d.Codes = sinceSorted(s.Codes, prev.Codes, func(c CodeCount) string { return c.Method + " " + c.Code },
		func(x, y CodeCount) (CodeCount, bool) { x.Count = less(x.Count, y.Count); return x, x.Count > 0 })
	d.Terminations = sinceSorted(s.Terminations, prev.Terminations, func(c TerminationCount) string { return c.Cause + " " + c.Phase },
		func(x, y TerminationCount) (TerminationCount, bool) {
			x.Count = less(x.Count, y.Count)
			return x, x.Count > 0
		})
	d.Failures = sinceSorted(s.Failures, prev.Failures, FailureCount.key,
		func(x, y FailureCount) (FailureCount, bool) { x.Count = less(x.Count, y.Count); return x, x.Count > 0 })
	d.TLS = sinceSorted(s.TLS, prev.TLS, func(c TLSCount) string { return c.Version },
		func(x, y TLSCount) (TLSCount, bool) { x.Count = less(x.Count, y.Count); return x, x.Count > 0 })
	d.Derived = sinceSorted(s.Derived, prev.Derived, func(c DerivedCount) string { return c.Metric },
		func(x, y DerivedCount) (DerivedCount, bool) { x.Count = less(x.Count, y.Count); return x, x.Count > 0 })
	d.Routes = sinceSorted(s.Routes, prev.Routes, func(t RouteTotals) string { return t.Route }, func(x, y RouteTotals) (RouteTotals, bool) {
		x.Classes, x.Duration = sinceClasses(x.Classes, y.Classes), x.Duration.Since(&y.Duration)
		return x, len(x.Classes) > 0
	})
	d.Tasks = sinceSorted(s.Tasks, prev.Tasks, func(t TaskTotals) string { return t.Task }, func(x, y TaskTotals) (TaskTotals, bool) {
		x.Classes, x.Duration = sinceClasses(x.Classes, y.Classes), x.Duration.Since(&y.Duration)
		return x, len(x.Classes) > 0
	})
	if s.SLO != nil && prev.SLO != nil {
		slo := *s.SLO
		slo.Judged, slo.Good = less(slo.Judged, prev.SLO.Judged), less(slo.Good, prev.SLO.Good)
		d.SLO = &slo
	}
	return d
}

func sinceClasses(now, before []ClassCount) []ClassCount {
	return sinceSorted(now, before, func(c ClassCount) string { return c.Class },
		func(x, y ClassCount) (ClassCount, bool) { x.Count = less(x.Count, y.Count); return x, x.Count > 0 })
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
