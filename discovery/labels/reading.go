package labels

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Reading is what became of one label at one port.
type Reading struct {
	Port  int    // index within the app
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
	Enforced   ReadingState = "closed" // it restricts access in a way that is not known here: nobody enters
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
	for i := range result.Ports {
		out = append(out, result.Ports[i].Readings()...)
	}
	return out
}

// Readings returns what became of each label that is about the port, by key, the one in force first.
func (p *PortResult) Readings() []Reading {
	holds := map[string]string{} // the label in force, by key
	var out []Reading
	for _, c := range p.claims {
		if c.key == "" && !c.withhold {
			continue
		}
		r := Reading{Port: p.Index, Label: shown(c.label), Value: c.shown(), Key: c.key, Form: c.rank.String(), State: InForce}
		by, taken := holds[c.key]
		switch {
		case c.withhold:
			r.State = Enforced
		case taken:
			r.State, r.By = Overridden, by
		default:
			holds[c.key] = r.Label
			for _, refused := range p.refused {
				switch {
				case refused.row.Key != c.key || !refused.loses():
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

// secretHeader are names of header fields whose values are nobody's business.
var secretHeader = regexp.MustCompile(`(?i)auth|cookie|token|key|secret|passw`)

// shown returns the value of a label for people: passwords, their hashes, and header fields that carry such are left out.
func (c *claim) shown() string {
	value := c.value
	name, _, header := strings.Cut(value, ":")
	switch {
	case c.withhold, c.key == "auth" || strings.HasSuffix(c.label, "_AUTH"):
		// "realm:user:hash", or the name of an operator's list of users.
		parts := strings.SplitN(value, ":", 3)
		if last := len(parts) - 1; last > 0 || c.withhold {
			parts[last] = "…"
		}
		value = strings.Join(parts, ":")
	case strings.HasSuffix(c.key, "-header") && header && secretHeader.MatchString(name):
		value = name + ": …"
	}
	return shown(value)
}

func shown(s string) string { return printable(cut(s, maxShown)) }
