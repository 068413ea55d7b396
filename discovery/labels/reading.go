package labels

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"signalbox"
)

// Reading is what became of one label at one port.
type Reading struct {
	Port  int    // index within the app; -1: it is about no port that the app has
	Label string // as the app has it
	Value string // cut to 200 bytes, without secrets
	Key   string // of the table, or "" for a label of marathon-lb that the table has no row for
	Form  string // how it names what it is about: "signalbox.N.key"; of two labels with one key the stronger form holds
	State ReadingState
	// By is the label that holds in its place, where State is Overridden.
	By string
}

// ReadingState says what a label has brought about.
type ReadingState string

// The states of a reading.
const (
	InForce    ReadingState = "in force"
	InPart     ReadingState = "in part" // some of its items are wrong
	Refused    ReadingState = "refused" // its value is wrong; a last good one may stand in for it
	Overridden ReadingState = "overridden"
	Ignored    ReadingState = "ignored"
	Closed     ReadingState = "closed" // it restricts access in a way that cannot be carried out: nobody enters
)

// String returns the form of a label's name.
func (r rank) String() string {
	switch r {
	case rankOwn:
		return "a label of the port"
	case rankPort:
		return "signalbox.N.key"
	case rankApp:
		return "signalbox.key"
	case rankForeign:
		return "HAPROXY_N_X"
	}
	return "HAPROXY_X"
}

// Read reads the labels of one app as Parse does, and returns what became of each, by port.
func Read(app string, meta map[string]string, ports []Port, o Options) []Reading {
	var out []Reading
	result := Parse(app, meta, ports, o)
	read := map[string]bool{}
	for i := range result.Ports {
		for _, r := range result.Ports[i].Readings() {
			out, read[r.Label] = append(out, r), true
		}
	}
	// What is about no port that there is stands in a problem alone.
	for _, p := range result.Problems {
		if p.Label != "" && !read[p.Label] {
			out, read[p.Label] = append(out, Reading{Port: -1, Label: p.Label, Value: shown(p.Value), State: Ignored}), true
		}
	}
	return out
}

// Readings returns what became of each label that is about the port, by key, the one in force first.
func (p *PortResult) Readings() []Reading {
	holds := map[string]string{} // the label in force, by key
	var out []Reading
	for _, c := range p.claims {
		_, taken := holds[c.key]
		if c.key == "" || c.stray && taken {
			continue
		}
		r := Reading{Port: p.Index, Label: shown(c.label), Value: c.shown(), Key: c.key, Form: c.rank.String(), State: InForce}
		switch {
		case taken:
			r.State, r.By = Overridden, holds[c.key]
		default:
			holds[c.key] = r.Label
			for _, refused := range p.refused {
				switch {
				case refused.row.Key != c.key || !refused.loses():
				case refused.whole && refused.kept == "" && refused.row.guards:
					r.State = Closed
				case refused.whole:
					r.State = Refused
				default:
					r.State = InPart
				}
			}
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Reading) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// shown returns the value of a label for people, without secrets.
func (c *claim) shown() string {
	value := c.value
	switch {
	case c.key == "auth":
		// "realm:user:hash", or the name of an operator's list of users.
		if name, bad := parsePlain(value); bad == nil {
			return name
		}
		parts := strings.SplitN(value, ":", 3)
		parts[len(parts)-1] = "…"
		value = strings.Join(parts, ":")
	case c.hidden():
		value = "…"
	case c.headers():
		lines := strings.Split(value, "\n")
		for i, line := range lines {
			name, rest, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			lines[i] = signalbox.Header{Name: name, Value: strings.TrimSpace(rest)}.String()
		}
		value = strings.Join(lines, "; ")
	}
	return shown(userInfo.ReplaceAllString(value, "//…@"))
}

// userInfo is the part of a URL that may hold a password.
var userInfo = regexp.MustCompile(`//[^/@]*@`)

// headers reports whether the value is one of header fields.
func (c *claim) headers() bool { return strings.HasSuffix(c.key, "-header") }

func shown(s string) string { return printable(cut(s, maxShown)) }
