package signalbox

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Hold is an operator's order that definitions stand still.
type Hold struct {
	App        string    `json:"app,omitempty"` // "" for every app
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until,omitzero"` // zero: until it is released
	Reason     string    `json:"reason,omitempty"`
	By         string    `json:"by"`
	Generation uint64    `json:"generation"`           // whose definitions hold
	RolledBack bool      `json:"rolledBack,omitempty"` // Generation is an earlier one than that which ran
}

// String names what is held: "everything", "/shop".
func (h Hold) String() string { return cmp.Or(h.App, "everything") }

// Definition returns what a service asks for: its names, port, mode, policy and check, without its tasks and without problems.
func (s *Service) Definition() *Service {
	d := *s
	d.Endpoints, d.Problems, d.Deployment = nil, nil, nil
	return &d
}

// SameDefinition reports whether two services ask for the same, whatever their tasks, versions and ages.
func (s *Service) SameDefinition(o *Service) bool {
	if s == o {
		return true
	}
	return s.ID == o.ID && s.PortName == o.PortName && s.Mode == o.Mode && s.Listen == o.Listen && s.Announced == o.Announced &&
		s.Check == o.Check && slices.Equal(s.Routes, o.Routes) && slices.Equal(s.Groups, o.Groups) &&
		s.ProbedAt == o.ProbedAt && s.Policy.Equal(&o.Policy)
}

// Redefined calls f for each service whose definition differs between two tables, in the order of ids, with nil for the side that
// lacks it. Services with equal pointers are passed over unread.
func Redefined(from, to *Table, f func(old, now *Service)) {
	Walk(from.list(), to.list(), func(old, now *Service) {
		if old == now || old != nil && now != nil && old.SameDefinition(now) {
			return
		}
		f(old, now)
	})
}

func (t *Table) list() []*Service {
	if t == nil {
		return nil
	}
	return t.Services
}

// The ways in which a hold keeps something back.
const (
	KeptNew     = "new"     // the app came during the hold: it is not routed
	KeptChanged = "changed" // its definition of before holds
	KeptRemoved = "removed" // its names stay, and answer 503
)

// Held is a table whose definitions stand still for some apps, while the tasks of all follow. It is immutable.
type Held struct {
	// Table is what is routed.
	Table *Table
	// Kept says of each app of which something is kept back how that is.
	Kept map[string]string

	definitions *Table
	holds       func(app string) bool
	rows        []heldRow // sorted by id
}

// heldRow is one service: its definition at the hold, what is asked for now, and what is routed. Each may be nil.
type heldRow struct {
	id                ServiceID
	frozen, live, out *Service
	kept              string // KeptNew and so on, or ""
}

// NewHeld begins to hold the apps for which holds says so, at the definitions of a table, whose tasks do not count. Nothing is routed
// before Follow.
func NewHeld(definitions *Table, holds func(app string) bool) *Held {
	return &Held{definitions: definitions, holds: holds}
}

// Follow returns what is routed when live is what is asked for. A service that did not change keeps its pointer.
func (h *Held) Follow(live *Table) *Held {
	most := max(len(h.definitions.list()), len(live.list()))
	out := &Held{
		definitions: h.definitions, holds: h.holds, Kept: map[string]string{}, rows: make([]heldRow, 0, most),
		Table: &Table{Services: make([]*Service, 0, most)},
	}
	last := 0
	Walk(h.definitions.list(), live.list(), func(frozen, now *Service) {
		row := heldRow{frozen: frozen, live: now}
		if now != nil {
			row.id = now.ID
		} else {
			row.id = frozen.ID
		}
		for last < len(h.rows) && h.rows[last].id < row.id {
			last++
		}
		if last < len(h.rows) && h.rows[last].id == row.id && h.rows[last].frozen == frozen && h.rows[last].live == now {
			row = h.rows[last]
		} else {
			row.settle(h.holds)
		}
		out.rows = append(out.rows, row)
		if row.out != nil {
			out.Table.Services = append(out.Table.Services, row.out)
		}
	})
	if live != nil {
		out.Table.Problems = slices.Clone(live.Problems)
	}
	for _, row := range out.rows {
		switch row.kept {
		case "":
			continue
		case KeptNew:
			out.Table.Problems = append(out.Table.Problems, row.problem())
		}
		out.keep(row)
	}
	slices.SortFunc(out.Table.Problems, Problem.Compare)
	out.Table.Problems = slices.Compact(out.Table.Problems)
	return out
}

// keep notes what is kept back of an app: several ports of one app may differ in how.
func (h *Held) keep(row heldRow) {
	app := row.app()
	if how, known := h.Kept[app]; known && how != row.kept {
		h.Kept[app] = KeptChanged
		return
	}
	h.Kept[app] = row.kept
}

func (r *heldRow) app() string {
	if r.live != nil {
		return r.live.App
	}
	return r.frozen.App
}

// settle decides what is routed.
func (r *heldRow) settle(holds func(string) bool) {
	r.out, r.kept = r.live, ""
	switch {
	case !holds(r.app()):
	case r.frozen == nil:
		r.out, r.kept = nil, KeptNew
	case r.live == nil:
		s := r.frozen.Definition()
		r.kept = KeptRemoved
		s.Problems = []Problem{r.problem()}
		r.out = s
	case !r.live.SameDefinition(r.frozen):
		s := r.frozen.Definition()
		r.kept = KeptChanged
		s.Deployment, s.Endpoints = r.live.Deployment, r.endpoints()
		s.Problems = append(slices.Clone(r.live.Problems), r.problem())
		slices.SortFunc(s.Problems, Problem.Compare)
		r.out = s
	}
}

// endpoints returns the tasks of now. The port that is probed belongs to the definition: where that names none, none is taken from the
// definition that is kept back.
func (r *heldRow) endpoints() []Endpoint {
	if r.frozen.ProbedAt != "" || r.live.ProbedAt == "" {
		return r.live.Endpoints
	}
	out := slices.Clone(r.live.Endpoints)
	for i := range out {
		out[i].CheckPort = 0
	}
	return out
}

// problem says what is kept back.
func (r *heldRow) problem() Problem {
	p := Problem{Severity: SeverityWarning, App: r.app()}
	switch r.kept {
	case KeptNew:
		p.Code, p.Severity = "SB501", SeverityError
		p.Message, p.Action = fmt.Sprintf("port %d became a service during a hold", r.live.Port), "it is not routed until the hold is released"
	case KeptChanged:
		p.Code = "SB502"
		p.Message, p.Action = fmt.Sprintf("the definition of port %d has changed, and is held", r.live.Port), "the one of before holds until the release"
	case KeptRemoved:
		p.Code = "SB503"
		p.Message, p.Action = fmt.Sprintf("port %d is no service any more, and is held", r.frozen.Port), "its names stay until the release, and answer 503"
	}
	return p
}
