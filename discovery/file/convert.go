package file

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/labels"
)

// surroundings are what entries are converted in.
type surroundings struct {
	source    string
	labels    labels.Options
	addresses discovery.Addresses
	resolve   func(host string) (netip.Addr, bool) // from memory
	before    []*signalbox.Service                 // the services as they were, sorted by id
}

// convert returns the services of a file's entries, sorted by id, and the problems that belong to none of them, sorted. An entry that
// is wrong leaves its last good service in force; one whose name cannot be read may be any that is missing, so these stay too.
func convert(entries []entry, in surroundings) ([]*signalbox.Service, []signalbox.Problem) {
	var services []*signalbox.Service
	var problems []signalbox.Problem
	lines := map[string]int{}
	nameless := false
	before := &signalbox.Table{Services: in.before}
	for i := range entries {
		e := &entries[i]
		if first, twice := lines[e.name]; twice && e.name != "" {
			twin := flaw{e.line, fmt.Sprintf("a service of this name stands in line %d", first)}
			problems = append(problems, e.problem(twin, signalbox.SeverityError, "it is ignored"))
			continue
		}
		lines[e.name] = e.line
		nameless = nameless || !nameForm.MatchString(e.name)
		old := before.Service(signalbox.NewServiceID(e.name, 0))
		s, others := e.service(old, &in)
		problems = append(problems, others...)
		if s != nil {
			services = append(services, s)
		}
	}
	for _, s := range in.before {
		if _, there := lines[s.App]; nameless && !there {
			services = append(services, s)
		}
	}
	slices.SortFunc(services, func(a, b *signalbox.Service) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(problems, signalbox.Problem.Compare)
	return services, slices.Compact(problems)
}

// ports returns the one port of the service.
func (e *entry) ports() []labels.Port {
	return []labels.Port{{Service: e.port, Check: e.protocol(), NoService: e.port == 0}}
}

// service returns the service of an entry, nil for none, and the problems that it cannot carry.
func (e *entry) service(old *signalbox.Service, in *surroundings) (*signalbox.Service, []signalbox.Problem) {
	var problems []signalbox.Problem
	severity, action := signalbox.SeverityWarning, "the rest is used"
	if e.bad {
		severity, action = signalbox.SeverityError, "it is left out"
		if old != nil {
			action = "its last good service stays"
		}
	}
	for _, f := range e.flaws {
		problems = append(problems, e.problem(f, severity, action))
	}
	if e.bad {
		if old == nil {
			return nil, problems
		}
		kept := *old
		kept.Problems = problems
		slices.SortFunc(kept.Problems, signalbox.Problem.Compare)
		return &kept, nil
	}
	read := labels.Parse(e.name, e.labels, e.ports(), in.labels)
	p := labels.Keep(old, read.Ports[0])
	problems = append(problems, read.Problems...)
	problems = append(problems, p.Problems...)
	if !p.Enabled {
		return nil, problems
	}
	s := &signalbox.Service{
		ID: signalbox.NewServiceID(e.name, 0), Source: in.source, App: e.name, Mode: p.Mode, Routes: p.Routes, Listen: p.Listen,
		Announced: e.port, Groups: p.Groups, Check: p.Check(e.check), Policy: p.Policy,
	}
	if e.checkPort != 0 {
		s.ProbedAt = fmt.Sprintf("port %d", e.checkPort)
	}
	for _, a := range e.addresses {
		at, trouble := e.endpoint(a, old, in)
		if trouble != "" {
			kept := "it is not routed to"
			if at.Addr.IsValid() {
				kept = "its last known address " + at.Addr.String() + " stays"
			}
			problems = append(problems, signalbox.Problem{
				Code: "SB312", Severity: signalbox.SeverityWarning, App: e.name, Label: "line", Value: fmt.Sprint(a.line),
				Message: trouble, Action: kept,
			})
		}
		if at.Addr.IsValid() {
			s.Endpoints = append(s.Endpoints, at)
		}
	}
	slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
	s.Endpoints = slices.Compact(s.Endpoints)
	slices.SortFunc(problems, signalbox.Problem.Compare)
	s.Problems = slices.Compact(problems)
	return s, nil
}

// endpoint returns one address as an endpoint. Nobody checks it but HAProxy: it takes requests from the start.
func (e *entry) endpoint(a address, old *signalbox.Service, in *surroundings) (at signalbox.Endpoint, trouble string) {
	at = signalbox.Endpoint{
		Task: fmt.Sprintf("%s.%s-%d", strings.ReplaceAll(e.name[1:], "/", "_"), a.host, a.port), Host: a.host, State: signalbox.Up,
	}
	if a.draining {
		at.State, at.Why = signalbox.Draining, "the file says so"
	}
	if e.checkPort != a.port {
		at.CheckPort = uint16(e.checkPort)
	}
	addr, known := in.resolve(a.host)
	if known {
		at.Addr, trouble = in.addresses.Check(addr, a.port)
		if trouble == "" && at.CheckPort != 0 {
			if _, refused := in.addresses.Check(addr, e.checkPort); refused != "" {
				at.CheckPort, trouble = 0, "the port that is probed is refused: "+refused
			}
		}
	} else {
		trouble = fmt.Sprintf("the address of %.253q is not known", a.host)
	}
	if !at.Addr.IsValid() && old != nil {
		for _, o := range old.Endpoints {
			if o.Task == at.Task {
				if _, refused := in.addresses.Check(o.Addr.Addr(), int(o.Addr.Port())); refused == "" {
					at.Addr = o.Addr
				}
			}
		}
	}
	return at, trouble
}

// protocol names what the check speaks in Marathon's words, as the labels have it.
func (e *entry) protocol() string {
	switch {
	case e.check.Kind == signalbox.CheckHTTP && e.check.TLS:
		return "HTTPS"
	case e.check.Kind == signalbox.CheckHTTP:
		return "HTTP"
	}
	return ""
}

func (e *entry) problem(f flaw, severity signalbox.Severity, action string) signalbox.Problem {
	name := e.name
	if !nameForm.MatchString(name) {
		name = ""
	}
	return signalbox.Problem{
		Code: "SB311", Severity: severity, App: name, Label: "line", Value: fmt.Sprint(f.line), Message: f.text, Action: action,
	}
}
