package haproxy

import (
	"slices"
	"strings"
	"sync"
)

// Map is one of a Config's maps.
type Map struct {
	Name    string // of its file
	Entries *[]MapEntry
	Ordered bool // the order of its entries counts: it can't be changed while HAProxy runs
}

// Maps returns every map of a Config, those that others refer to first.
func (c *Config) Maps() []Map {
	return slices.Concat(c.Settings.maps(), []Map{
		{Name: PathsMap, Entries: &c.Paths},
		{Name: SplitsMap, Entries: &c.Splits},
		{Name: ExactMap, Entries: &c.Exact},
		{Name: HostsMap, Entries: &c.Hosts},
		{Name: PathRegexesMap, Entries: &c.PathRegexes, Ordered: true},
		{Name: HostRegexesMap, Entries: &c.HostRegexes, Ordered: true},
	}, c.waysMaps())
}

// followed returns want's maps as far as HAProxy can follow them before it is reloaded: an entry that leads to a backend which does
// not serve yet stays as it is in running, or away where it is new. It returns want's own lists where nothing stands in the way.
func followed(running, want *Config) *Config {
	c := &Config{Options: running.Options, Routes: followedRoutes(running, want), Ways: followedWays(running, want)}
	same := func(e MapEntry) bool {
		r, w := running.Backend(e.Key), want.Backend(e.Key)
		return r != nil && (w == nil || w.succeeds(r) && w.Fits(r))
	}
	referred := sync.OnceValue(c.referred)
	// What another section says itself is said by the map until that one is loaded, and so is what a backend asks for that serves on.
	stays := func(e MapEntry) bool {
		r, w := running.Backend(e.Key), want.Backend(e.Key)
		if r != nil && w != nil && w.Service == r.Service && !w.Retired {
			return !w.Fits(r)
		}
		return r != nil && referred()[e.Key]
	}
	c.Checks = follow(running.Checks, want.Checks, same, stays)
	c.Timeouts = follow(running.Timeouts, want.Timeouts, same, stays)
	c.HTTPS = follow(running.HTTPS, want.HTTPS, same, stays)
	c.Names = follow(running.Names, want.Names, func(e MapEntry) bool { return serves(running, want, e.Key) },
		func(e MapEntry) bool { return running.Backend(e.Key) != nil && referred()[e.Key] })
	return c
}

// serves reports whether a backend runs that want's one of this name can follow without a reload, its shape aside.
func serves(running, want *Config, name string) bool {
	r := running.Backend(name)
	if r == nil {
		return false
	}
	w := want.Backend(name)
	return w == nil || w.succeeds(r)
}

// succeeds reports whether a backend can take the place of a running one of its name: it is the same service's, or nobody's.
func (b *Backend) succeeds(r *Backend) bool {
	return b == r || b.Service == r.Service || b.Retired || r.Retired && b.Fits(r)
}

// referred returns the names of the backends that routes and ways lead to.
func (c *Config) referred() map[string]bool {
	out := make(map[string]bool)
	for _, list := range [][]MapEntry{c.Hosts, c.Exact, c.PathRegexes, c.Splits, c.Apps, c.SNI} {
		for _, e := range list {
			out[e.Value] = true
		}
	}
	for _, e := range c.Ports {
		_, name, _ := strings.Cut(e.Value, "/")
		out[name] = true
	}
	return out
}

func followedRoutes(running, want *Config) Routes {
	routes := Routes{Paths: want.Paths, HostRegexes: running.HostRegexes, PathRegexes: running.PathRegexes}
	if equalEntries(running.HostRegexes, want.HostRegexes) && equalEntries(running.PathRegexes, want.PathRegexes) {
		routes.HostRegexes, routes.PathRegexes = want.HostRegexes, want.PathRegexes
	}
	// A split stands as a whole.
	held := make(map[string]bool)
	if !sameSlice(running.Splits, want.Splits) {
		for _, e := range want.Splits {
			if !serves(running, want, e.Value) {
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
		return e.Value == noPath || serves(running, want, e.Value)
	}
	routes.Exact = follow(running.Exact, want.Exact, leads, nil)
	routes.Hosts = follow(running.Hosts, want.Hosts, leads, nil)
	// What stays may refer to what would leave.
	if !sameSlice(routes.Exact, want.Exact) || !sameSlice(routes.Hosts, want.Hosts) || !sameSlice(routes.PathRegexes, want.PathRegexes) {
		routes.Splits = keepReferred(running.Splits, routes.Splits, routes.Exact, routes.Hosts, routes.PathRegexes)
	}
	return routes
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
