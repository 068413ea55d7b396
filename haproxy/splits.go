package haproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// buckets is into how many equal parts shared traffic is divided: a share is a whole percentage.
const buckets = 100

// splitPrefix begins what a map of routes has instead of a backend where services share: the key, less the bucket, of the map of
// splits. A backend's name has no slash.
const splitPrefix = "split/"

func isSplit(value string) bool { return strings.HasPrefix(value, splitPrefix) }

// shared reports whether services share a route: each of them has a weight.
func shared(claims []*claim) bool {
	return !slices.ContainsFunc(claims, func(c *claim) bool { return c.weight < 0 })
}

// splitOf returns the name of the split of a route.
func splitOf(c *claim) string {
	sum := sha256.Sum256([]byte(c.name + " " + string(c.route.Match) + " " + c.route.Path))
	return splitPrefix + hex.EncodeToString(sum[:8]) + "/"
}

// shares returns how many of the buckets each of several claims gets. Those without a weight above zero get none, nor do those
// without a usable task as long as another one has any. Where nobody has a weight, the first one gets all.
func shares(claims []*claim) []int {
	takes := func(c *claim) bool { return c.weight > 0 && c.usable }
	if !slices.ContainsFunc(claims, takes) {
		takes = func(c *claim) bool { return c.weight > 0 }
	}
	out := make([]int, len(claims))
	sum := 0
	for _, c := range claims {
		if takes(c) {
			sum += c.weight
		}
	}
	if sum == 0 {
		out[0] = buckets
		return out
	}
	// The largest remainder gets what rounding leaves; of equal ones the first.
	left := buckets
	rest := make([]int, len(claims))
	for i, c := range claims {
		rest[i] = -1
		if takes(c) {
			out[i], rest[i] = c.weight*buckets/sum, c.weight*buckets%sum
			left -= out[i]
		}
	}
	for ; left > 0; left-- {
		i := 0
		for j := range rest {
			if rest[j] > rest[i] {
				i = j
			}
		}
		out[i]++
		rest[i] = -1
	}
	return out
}

// splitEntries returns the buckets of a split. Each service has a range, in the order of ids: a change of weights moves few buckets.
func splitEntries(split string, claims []*claim) []MapEntry {
	type part struct {
		of *claim
		n  int
	}
	var parts []part
	for i, n := range shares(claims) {
		parts = append(parts, part{claims[i], n})
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(string(a.of.service), string(b.of.service)) })
	out := make([]MapEntry, 0, buckets)
	for _, p := range parts {
		for range p.n {
			out = append(out, MapEntry{bucketKey(split, len(out)), p.of.backend})
		}
	}
	return out
}

func bucketKey(split string, bucket int) string { return fmt.Sprintf("%s%d", split, bucket) }

// splitIn returns the split that an entry of the map of splits belongs to.
func splitIn(e MapEntry) string { return e.Key[:strings.LastIndexByte(e.Key, '/')+1] }

// Without returns the routes less those to some backends, by name. What they had of shared traffic goes to the others.
func (r Routes) Without(gone map[string]bool) Routes {
	stay := make(map[string][]string)
	for _, e := range r.Splits {
		if !gone[e.Value] && !slices.Contains(stay[splitIn(e)], e.Value) {
			stay[splitIn(e)] = append(stay[splitIn(e)], e.Value)
		}
	}
	leads := func(e MapEntry) bool { return isSplit(e.Value) && len(stay[e.Value]) == 0 || gone[e.Value] }
	for _, m := range []*[]MapEntry{&r.Hosts, &r.Exact, &r.PathRegexes} {
		*m = slices.DeleteFunc(slices.Clone(*m), leads)
	}
	var splits []MapEntry
	for i, e := range r.Splits {
		if heirs := stay[splitIn(e)]; len(heirs) > 0 {
			if gone[e.Value] {
				e.Value = heirs[i%len(heirs)]
			}
			splits = append(splits, e)
		}
	}
	r.Splits = splits
	return r
}
