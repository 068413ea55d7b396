package discovery

import (
	"slices"

	"signalbox"
)

// origin is the state of one source as it is merged.
type origin struct {
	name     string
	state    []*signalbox.Service // sorted by ID
	problems []signalbox.Problem  // sorted
}

// merge returns the table of several origins. Of two services with one id that of the earlier origin stays; the other becomes
// a problem (SB201). The state of a single origin is shared, not copied.
func merge(origins []origin) *signalbox.Table {
	switch len(origins) {
	case 0:
		return &signalbox.Table{}
	case 1:
		return &signalbox.Table{Services: origins[0].state, Problems: origins[0].problems}
	}
	var problems []signalbox.Problem
	merged := origins[0]
	problems = append(problems, merged.problems...)
	for _, o := range origins[1:] {
		problems = append(problems, o.problems...)
		out := make([]*signalbox.Service, 0, len(merged.state)+len(o.state))
		signalbox.Walk(merged.state, o.state, func(a, b *signalbox.Service) {
			if a == nil {
				out = append(out, b)
				return
			}
			out = append(out, a)
			if b != nil {
				problems = append(problems, a.Duplicate(b))
			}
		})
		merged.state = out
	}
	slices.SortFunc(problems, signalbox.Problem.Compare)
	return &signalbox.Table{Services: merged.state, Problems: slices.Compact(problems)}
}

// samePointers reports whether two states are made of the same services.
func samePointers(a, b []*signalbox.Service) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// share returns next with the services of good in the place of those that say the same, so that their pointers stay. It copies next
// only if it must.
func share(good, next []*signalbox.Service) []*signalbox.Service {
	out, i := next, 0
	signalbox.Walk(good, next, func(a, b *signalbox.Service) {
		if b == nil {
			return
		}
		if a != nil && a != b && a.Equal(b) {
			if &out[0] == &next[0] {
				out = slices.Clone(next)
			}
			out[i] = a
		}
		i++
	})
	return out
}
