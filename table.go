package signalbox

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Table is what runs where, and under which names, at one moment. It is immutable; a nil Table is an empty one.
type Table struct {
	Services []*Service // sorted by ID, each ID once
	Problems []Problem  // of apps as a whole, sorted; a service's own are in Service.Problems
}

// NewTable returns a table of services and problems in any order, which it takes over.
// Of two services with one ID the first in the order of Source stays; the other becomes a problem (SB201).
func NewTable(services []*Service, problems []Problem) *Table {
	slices.SortFunc(services, func(a, b *Service) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Source, b.Source))
	})
	kept := services[:0]
	for _, s := range services {
		if len(kept) > 0 && kept[len(kept)-1].ID == s.ID {
			problems = append(problems, kept[len(kept)-1].Duplicate(s))
			continue
		}
		kept = append(kept, s)
	}
	slices.SortFunc(problems, Problem.Compare)
	return &Table{Services: kept, Problems: slices.Compact(problems)}
}

// Duplicate is what is wrong with another service of the same id, which s stands before (SB201).
func (s *Service) Duplicate(other *Service) Problem {
	return Problem{
		Code: "SB201", Severity: SeverityError, App: other.App,
		Message: fmt.Sprintf("the source %s announces %s too", other.Source, other.ID),
		Action:  "the one from " + s.Source + " is used",
	}
}

// Service returns the service with an id, or nil.
func (t *Table) Service(id ServiceID) *Service {
	if t == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(t.Services, id, func(s *Service, id ServiceID) int { return cmp.Compare(s.ID, id) })
	if !ok {
		return nil
	}
	return t.Services[i]
}

// ServicesOf returns the services of an app, sorted by ID, those that it is merged into among them.
func (t *Table) ServicesOf(app string) []*Service {
	if t == nil {
		return nil
	}
	var out []*Service
	for _, s := range t.Services {
		if s.App == app || s.Deployment != nil && slices.Contains(s.Deployment.Members, app) {
			out = append(out, s)
		}
	}
	return out
}

// AllProblems returns the problems of the table and of its services, sorted.
func (t *Table) AllProblems() []Problem {
	if t == nil {
		return nil
	}
	all := slices.Clone(t.Problems)
	for _, s := range t.Services {
		if len(s.Problems) > 0 { // few have one, and this is asked at every change
			all = append(all, s.Problems...)
		}
	}
	slices.SortFunc(all, Problem.Compare)
	return slices.Compact(all)
}

// Counts returns how many distinct apps and endpoints the table has.
func (t *Table) Counts() (apps, endpoints int) {
	if t == nil {
		return 0, 0
	}
	last := ""
	for _, s := range t.Services {
		if s.App != last {
			apps++
			last = s.App
		}
		endpoints += len(s.Endpoints)
	}
	return apps, endpoints
}

// Equal reports whether two tables say the same.
func (t *Table) Equal(o *Table) bool {
	if t == nil {
		t = &Table{}
	}
	if o == nil {
		o = &Table{}
	}
	return slices.EqualFunc(t.Services, o.Services, (*Service).Equal) && slices.Equal(t.Problems, o.Problems)
}

// WriteTo writes the text form: for each service a line of its own, one for each route and one for each endpoint.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	if t != nil {
		for _, s := range t.Services {
			s.appendText(&b)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (s *Service) lines() []string {
	var b strings.Builder
	s.appendText(&b)
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func (s *Service) appendText(b *strings.Builder) {
	fmt.Fprintf(b, "service %s %s", s.ID, s.Mode)
	if s.Listen != 0 {
		fmt.Fprintf(b, " listen %d", s.Listen)
	}
	fmt.Fprintf(b, " from %s\n", s.Source)
	for _, r := range s.Routes {
		fmt.Fprintf(b, "route %s %s\n", s.ID, r)
	}
	if policy := s.Policy.String(); policy != "" {
		fmt.Fprintf(b, "policy %s %s\n", s.ID, policy)
	}
	for _, e := range s.Endpoints {
		fmt.Fprintf(b, "endpoint %s %s %s %s\n", s.ID, e.Addr, e.State, e.Task)
	}
}

// DiffText returns the lines that differ between two tables' text forms, the old ones after "- ", the new ones after "+ ".
// Services with equal pointers are passed over unread.
func DiffText(from, to *Table) []string {
	var out []string
	var a, b []*Service
	if from != nil {
		a = from.Services
	}
	if to != nil {
		b = to.Services
	}
	Walk(a, b, func(old, now *Service) {
		switch {
		case old == now:
		case now == nil:
			out = appendPrefixed(out, "- ", old.lines())
		case old == nil:
			out = appendPrefixed(out, "+ ", now.lines())
		default:
			out = appendChanged(out, old.lines(), now.lines())
		}
	})
	return out
}

// Walk calls f for each service id of two states that are sorted by id, in their order, with nil for the side that lacks it.
func Walk(from, to []*Service, f func(old, now *Service)) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(from) > 0 && len(to) > 0 && (from[0] == to[0] || from[0].ID == to[0].ID):
			f(from[0], to[0])
			from, to = from[1:], to[1:]
		case len(to) == 0 || len(from) > 0 && from[0].ID < to[0].ID:
			f(from[0], nil)
			from = from[1:]
		default:
			f(nil, to[0])
			to = to[1:]
		}
	}
}

func appendPrefixed(out []string, prefix string, lines []string) []string {
	for _, l := range lines {
		out = append(out, prefix+l)
	}
	return out
}

// appendChanged appends the lines that only one side has. The lines of a service are distinct, so sets suffice.
func appendChanged(out, from, to []string) []string {
	missing := func(prefix string, lines, others []string) {
		has := make(map[string]bool, len(others))
		for _, l := range others {
			has[l] = true
		}
		for _, l := range lines {
			if !has[l] {
				out = append(out, prefix+l)
			}
		}
	}
	missing("- ", from, to)
	missing("+ ", to, from)
	return out
}
