package labels

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox"
)

// Label is one row of the vocabulary.
type Label struct {
	Key     string // as in signalbox.KEY and signalbox.N.KEY
	Type    string // what its value is, for people
	Default string
	Doc     string // one sentence
	Example string // a value
	Twin    string // the marathon-lb label that means the same, X of HAPROXY_N_X, or ""
	Invalid string // what happens to a value that is not of the type, when the app had no good one before
	// EveryPort says that the form without a port, signalbox.KEY, holds for every port of the app, not for its first one.
	EveryPort bool
	// HTTP says that the label means nothing to a service of mode tcp.
	HTTP bool
	// Secret says that the value is never shown.
	Secret bool

	// set reads a value into v. It returns what is wrong with the value or with single items of it; whole says that nothing of
	// it could be used, so that the label counts as not set.
	set reader
	// keep puts the value that prev shows in force into v, and returns it as text; "" if prev shows none.
	keep func(v *values, prev *signalbox.Service) string
	// clear takes the value out of a policy; nil for what a policy does not hold.
	clear func(*signalbox.Policy)
	lost  string // what is done when nothing of the value could be used; "" is as Invalid says
	// guards says that the label restricts access: where it cannot be read, and no last good value stays, nobody may enter.
	guards bool
}

// reader reads a value into v, as Label.set does.
type reader func(v *values, raw string, o *Options) (flaws []flaw, whole bool)

// values are the labels of one port, typed.
type values struct {
	enable      *bool
	hosts       []string // "" is every host
	match       signalbox.Match
	pathText    string       // what paths were read from
	paths       []pathOfName // what of them could be read
	mode        signalbox.Mode
	port        int  // 0 if not asked for
	servicePort bool // signalbox.port=on
	noPort      bool // signalbox.port=off
	groups      []string
	check       *signalbox.Check // nil: the source's
	interval    time.Duration    // of the check; 0: the source's
	healthPort  string           // index or name of the port that is probed, as the label has it
	policy      signalbox.Policy
}

// pathOfName is one path under a name, and how it is compared.
type pathOfName struct {
	path  string
	match signalbox.Match
}

// Table holds every label, in the order in which they are documented.
func Table() []Label { return slices.Clone(table) }

// table is also the order in which the labels of a port are read: path-match stands before path.
var table = slices.Concat(entryLabels, taskLabels, accessLabels, rewriteLabels, shownLabels)

var rows = func() map[string]*Label {
	byKey := make(map[string]*Label, len(table))
	for i := range table {
		byKey[table[i].Key] = &table[i]
	}
	return byKey
}()

// row returns the row of a key, or nil.
func row(key string) *Label { return rows[key] }

// scalar completes the row of a label that sets one field of the policy. The zero value of the field asks for nothing.
func scalar[T comparable](l Label, field func(*signalbox.Policy) *T, parse func(string) (T, *flaw)) Label {
	l.set = func(v *values, raw string, _ *Options) ([]flaw, bool) {
		value, bad := parse(raw)
		if bad == nil {
			*field(&v.policy) = value
			return nil, false
		}
		if bad.used {
			*field(&v.policy) = value
		}
		return []flaw{*bad}, !bad.used
	}
	l.keep = func(v *values, prev *signalbox.Service) string {
		var none T
		old := *field(&prev.Policy)
		if old == none {
			return ""
		}
		*field(&v.policy) = old
		return keptText(old)
	}
	l.clear = func(y *signalbox.Policy) {
		var none T
		*field(y) = none
	}
	return l
}

// sorted completes the row of a label that sets a list of the policy in which order means nothing. Bad items are left out.
func sorted(l Label, field func(*signalbox.Policy) *[]string, item func(string) (string, *flaw)) Label {
	l.set = func(v *values, raw string, _ *Options) ([]flaw, bool) {
		items, flaws := parseList(raw, item)
		*field(&v.policy) = items
		return flaws, len(items) == 0
	}
	l.keep = func(v *values, prev *signalbox.Service) string {
		old := *field(&prev.Policy)
		if len(old) > 0 {
			*field(&v.policy) = merged(*field(&v.policy), old)
		}
		return strings.Join(old, ", ")
	}
	l.clear = func(y *signalbox.Policy) { *field(y) = nil }
	return l
}

// keptText is how a kept value stands in a message.
func keptText(value any) string {
	switch x := value.(type) {
	case *int:
		return strconv.Itoa(*x)
	case bool:
		return strconv.FormatBool(x)
	}
	return fmt.Sprint(value)
}

// merged returns the items of both lists, sorted, each once.
func merged(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
