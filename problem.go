package signalbox

import (
	"cmp"
	"fmt"
)

// Severity says how much a problem matters.
type Severity string

// The severities of a problem.
const (
	SeverityError   Severity = "error"   // something asked for is not done
	SeverityWarning Severity = "warning" // done, but odd
	SeverityInfo    Severity = "info"
)

// Code is a kind of problem. Its number never changes its meaning.
type Code struct {
	Code    string // SBnnn
	Meaning string
	Fix     string // what to do about it
}

// Problem is what is wrong with a label, a name, a task or a rejected configuration. It costs what it names and no more.
type Problem struct {
	// Code is stable: SB1xx labels, SB2xx conflicts between apps, SB3xx tasks and addresses, SB4xx rejected by HAProxy, SB5xx held.
	Code     string
	Severity Severity
	App      string // the app it belongs to
	Label    string // the label or field, or ""
	Value    string // its value, cut to 200 bytes, or ""
	Message  string // what is wrong
	Action   string // what was done instead
}

// String returns the problem on one line, with its value quoted: nothing in it can forge another line.
func (p Problem) String() string {
	s := p.Code + " " + p.App
	if p.Label != "" {
		s += " " + p.Label
		if p.Value != "" { // one that is never shown is left out too
			s += fmt.Sprintf("=%q", p.Value)
		}
	}
	s += ": " + p.Message
	if p.Action != "" {
		s += " (" + p.Action + ")"
	}
	return s
}

// Compare orders problems by app, code, label, value and message.
func (p Problem) Compare(o Problem) int {
	return cmp.Or(cmp.Compare(p.App, o.App), cmp.Compare(p.Code, o.Code), cmp.Compare(p.Label, o.Label),
		cmp.Compare(p.Value, o.Value), cmp.Compare(p.Message, o.Message))
}
