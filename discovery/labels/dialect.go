package labels

import (
	"fmt"
	"slices"
	"strings"
)

// dialect is one way of writing labels.
type dialect struct {
	name string
	// read says what a label asks for: most ask for one thing, some for several. mine is false for a label of others. A flaw makes
	// the label count for nothing, but for claims that are stray. The value is clean, and stands in each claim as the row or the reader of the claim is to read it.
	read func(name, value string) (claims []claim, bad *flaw, mine bool)
}

var dialects = []dialect{native, marathonLB, fabio}

// Dialects returns the names of all dialects, the strongest first.
func Dialects() []string {
	names := make([]string, len(dialects))
	for i, d := range dialects {
		names[i] = d.name
	}
	return names
}

// CheckDialects returns an error that names the first of names that is no dialect.
func CheckDialects(names []string) error {
	for _, n := range names {
		if !slices.Contains(Dialects(), n) {
			return fmt.Errorf("reading the list of label dialects: %q is none of %s", n, strings.Join(Dialects(), ", "))
		}
	}
	return nil
}

// claim is what the name of one label asks for.
type claim struct {
	rank    rank
	port    string // index or name; "" for the app
	key     string // of the table; "" asks for nothing
	foreign bool   // one of marathon-lb's
	twin    string // X of marathon-lb's HAPROXY_N_X, which native claims take the place of
	secret  bool   // the value is never shown
	reader  reader // of the value, in the words of the dialect; nil: the row's own
	// stray says that the label restricts access, and not what to: its name is wrong, or that of the port. It is read as one that
	// cannot be carried out, at every port that it may be meant for.
	stray bool

	label, value string
	odd          bool // name or value held characters that nobody sees
}

// hidden reports whether the value of a label must not be shown: passwords are known to stand under misspelled names too.
func (c *claim) hidden() bool {
	if l := row(c.key); c.secret || l != nil && l.Secret {
		return true
	}
	name := strings.ToLower(c.label)
	return strings.Contains(name, "auth") || strings.Contains(name, "userlist") || strings.Contains(name, "passw") ||
		row(c.key) == nil && c.twin == "" && (strings.Contains(c.value, "$") || distance(name[strings.LastIndexAny(name, "._")+1:], "auth", 1) <= 1)
}

// rank orders claims to the same key of the same port. The lowest holds.
type rank int

const (
	rankOwn  rank = iota // a label of the port itself
	rankPort             // signalbox.N.key, signalbox.name.key
	rankApp              // signalbox.key
	rankForeign
	rankForeignApp
)

// nearest returns the candidate within two edits of s, the nearest one, of several the first; "" if there is none.
func nearest(s string, candidates []string) string {
	best, least := "", 3
	for _, c := range candidates {
		if d := distance(s, c, least-1); d < least && d < len(c)-1 {
			best, least = c, d
		}
	}
	return best
}

// distance counts the edits between a and b: insertions, deletions, changes, and swaps of neighbours. Beyond limit it returns
// any number above limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
