package haproxy

import "slices"

// Map is one of a Config's maps.
type Map struct {
	Name    string // of its file
	Entries *[]MapEntry
	Ordered bool // the order of its entries counts: it can't be changed while HAProxy runs
}

// Maps returns every map of a Config, those that others refer to first.
func (c *Config) Maps() []Map {
	return append([]Map{
		{Name: NamesMap, Entries: &c.Names},
		{Name: PathsMap, Entries: &c.Paths},
		{Name: SplitsMap, Entries: &c.Splits},
		{Name: ExactMap, Entries: &c.Exact},
		{Name: HostsMap, Entries: &c.Hosts},
		{Name: PathRegexesMap, Entries: &c.PathRegexes, Ordered: true},
		{Name: HostRegexesMap, Entries: &c.HostRegexes, Ordered: true},
	}, c.waysMaps()...)
}

// followed returns want's maps as far as HAProxy can follow them before it is reloaded: an entry that leads to a backend which does
// not run yet stays as it is in running, or away where it is new. It returns want's own lists where nothing stands in the way.
func followed(running, want *Config) (names []MapEntry, routes Routes) {
	runs := func(e MapEntry) bool { return running.Backend(e.Key) != nil }
	names = follow(running.Names, want.Names, runs, runs)
	routes = Routes{Paths: want.Paths, HostRegexes: running.HostRegexes, PathRegexes: running.PathRegexes}
	if equalEntries(running.HostRegexes, want.HostRegexes) && equalEntries(running.PathRegexes, want.PathRegexes) {
		routes.HostRegexes, routes.PathRegexes = want.HostRegexes, want.PathRegexes
	}
	// A split stands as a whole.
	held := make(map[string]bool)
	if !sameSlice(running.Splits, want.Splits) {
		for _, e := range want.Splits {
			if running.Backend(e.Value) == nil {
				held[splitIn(e)] = true
			}
		}
	}
	inPart := make(map[string]bool) // the held ones that run in an earlier form
	if len(held) > 0 {
		for _, e := range running.Splits {
			inPart[splitIn(e)] = true
		}
	}
	routes.Splits = follow(running.Splits, want.Splits, func(e MapEntry) bool { return !held[splitIn(e)] }, nil)
	leads := func(e MapEntry) bool {
		if isSplit(e.Value) {
			return !held[e.Value] || inPart[e.Value]
		}
		return e.Value == noPath || running.Backend(e.Value) != nil
	}
	routes.Exact = follow(running.Exact, want.Exact, leads, nil)
	routes.Hosts = follow(running.Hosts, want.Hosts, leads, nil)
	// What stays may refer to what would leave.
	if !sameSlice(routes.Exact, want.Exact) || !sameSlice(routes.Hosts, want.Hosts) || !sameSlice(routes.PathRegexes, want.PathRegexes) {
		routes.Splits = keepReferred(running.Splits, routes.Splits, routes.Exact, routes.Hosts, routes.PathRegexes)
	}
	return names, routes
}

// follow returns the entries of to that can be, and of from those that stand in for one that can't. Of the entries that only from has,
// those stay of which stays, unless it is nil, says so.
func follow(from, to []MapEntry, can, stays func(MapEntry) bool) []MapEntry {
	if sameSlice(from, to) {
		return to
	}
	choose := func(old, now *MapEntry) *MapEntry {
		switch {
		case now == nil && (stays == nil || !stays(*old)):
			return nil
		case now != nil && (old != nil && *old == *now || can(*now)):
			return now
		}
		return old
	}
	whole := true
	walkEntries(from, to, func(old, now *MapEntry) { whole = whole && choose(old, now) == now })
	if whole {
		return to
	}
	out := make([]MapEntry, 0, len(to))
	walkEntries(from, to, func(old, now *MapEntry) {
		if e := choose(old, now); e != nil {
			out = append(out, *e)
		}
	})
	return out
}

// keepReferred returns the splits of now with those of running that the lists refer to and that now lacks.
func keepReferred(running, now []MapEntry, lists ...[]MapEntry) []MapEntry {
	has, lacks := make(map[string]bool), make(map[string]bool)
	for _, e := range now {
		has[splitIn(e)] = true
	}
	for _, list := range lists {
		for _, e := range list {
			if isSplit(e.Value) && !has[e.Value] {
				lacks[e.Value] = true
			}
		}
	}
	if len(lacks) == 0 {
		return now
	}
	return follow(running, now, func(MapEntry) bool { return true }, func(e MapEntry) bool { return lacks[splitIn(e)] })
}

func equalEntries(a, b []MapEntry) bool { return sameSlice(a, b) || slices.Equal(a, b) }

// walkEntries calls f for each key of two lists that are sorted by it, with nil for the side that lacks it.
func walkEntries(from, to []MapEntry, f func(old, now *MapEntry)) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].Key < to[0].Key:
			f(&from[0], nil)
			from = from[1:]
		case len(from) == 0 || to[0].Key < from[0].Key:
			f(nil, &to[0])
			to = to[1:]
		default:
			f(&from[0], &to[0])
			from, to = from[1:], to[1:]
		}
	}
}
