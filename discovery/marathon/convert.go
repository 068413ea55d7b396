package marathon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/labels"
)

// Options say how apps and pods become services.
type Options struct {
	Source         string // name of the source; "" is "marathon"
	Labels         labels.Options
	Health         Health    // "" is HealthAll
	AllowLoopback  bool      // tasks may answer on this machine's loopback addresses
	PreferHostPort bool      // for a task with an address of its own, the agent's port where it has one
	Now            time.Time // for readiness

	// Verdict returns whether a task was alive when that was last known. Nil: nothing is known.
	Verdict func(task string) (alive, known bool)
	// Resolve returns the address of an agent that is named, without waiting for it. Nil: names are not resolved.
	Resolve func(host string) (netip.Addr, bool)
	// Previous returns the service as it was before, or nil. Its last good label values and addresses stand in for those that
	// cannot be read now. Nil: there is none.
	Previous func(id signalbox.ServiceID) *signalbox.Service
	// Forbidden reports whether an address is one of this program's own entries. Nil: none is.
	Forbidden func(netip.AddrPort) bool
	// ControlPorts are ports of agents on which the cluster itself listens, and no task.
	ControlPorts []uint16

	// shapeOf returns the shape of an earlier version of an app, nil if nobody knows it any more. It does not wait: known is false
	// until it is read. Nil: today's shape is that of every version.
	shapeOf func(app, version string) (s *shape, known bool)
}

// maxTaskProblems bounds the problems with tasks that one service carries.
const maxTaskProblems = 20

// Convert returns the services of an app, sorted by id, one for each port that its labels do not switch off, and the problems
// that belong to none of them, sorted. It reads nothing but its arguments. Services without tasks keep their routes.
func Convert(app *App, o Options) ([]*signalbox.Service, []signalbox.Problem) {
	today := app.shape()
	b := newBuilder(app.ID, app.Version, app.Since(), today.ports, app.Labels.byName, &o)
	b.describe(app)
	for i := range app.Tasks {
		t := &app.Tasks[i]
		if !isWord(t.ID) {
			b.refuse(t.ID)
			continue
		}
		state, why, ok := app.state(t, &o)
		if !ok {
			continue
		}
		e := signalbox.Endpoint{Task: t.ID, Host: wordOrNone(t.Host), Version: t.Version, State: state, Why: why}
		places := app.places(t, today, &o)
		for port := range today.ports {
			b.add(port, e, places)
		}
	}
	return b.done()
}

// places returns where a task answers for each of the ports of today's shape. A task of an earlier version has the ports of its own.
func (a *App) places(t *Task, today *shape, o *Options) []place {
	if o.shapeOf == nil || !a.precedes(t.Version) {
		return today.places(t, o)
	}
	own, known := o.shapeOf(a.ID, t.Version)
	switch {
	case !known:
		return slices.Repeat([]place{{trouble: "the ports of its own version of the app are not known yet", quiet: true}}, len(today.ports))
	case own == nil:
		return today.places(t, o)
	}
	theirs := own.places(t, o)
	out := make([]place, len(today.ports))
	for i, at := range today.match(own) {
		out[i] = place{none: true}
		if at >= 0 {
			out[i] = theirs[at]
		}
	}
	return out
}

// builder gathers the services of one app or pod.
type builder struct {
	app      string
	options  *Options
	services []*signalbox.Service
	byPort   []*signalbox.Service // by index of the port; nil where there is no service
	before   []*signalbox.Service // the same, as they were
	probes   []probe              // by index of the port
	problems []signalbox.Problem
	troubles map[int][]signalbox.Problem // with tasks, by index of the port
}

func newBuilder(app, version string, since time.Time, ports []portSpec, meta map[string]string, o *Options) *builder {
	b := &builder{
		app: app, options: o, byPort: make([]*signalbox.Service, len(ports)), before: make([]*signalbox.Service, len(ports)),
		probes: make([]probe, len(ports)), troubles: map[int][]signalbox.Problem{},
	}
	source := o.Source
	if source == "" {
		source = "marathon"
	}
	described := make([]labels.Port, len(ports))
	for i := range ports {
		described[i] = ports[i].labelPort()
	}
	result := labels.Parse(app, meta, described, o.Labels)
	b.problems = result.Problems
	for _, p := range ports {
		if !p.routable() {
			b.problems = append(b.problems, signalbox.Problem{
				Code: "SB305", Severity: signalbox.SeverityInfo, App: app, Label: "port", Value: fmt.Sprint(p.index),
				Message: "the port speaks no TCP", Action: "it is not routed",
			})
		}
	}
	for _, p := range result.Ports {
		id := signalbox.NewServiceID(app, p.Index)
		if o.Previous != nil {
			b.before[p.Index] = o.Previous(id)
		}
		p = labels.Keep(b.before[p.Index], p)
		if !p.Enabled {
			b.problems = append(b.problems, p.Problems...)
			continue
		}
		spec := &ports[p.Index]
		s := &signalbox.Service{
			ID: id, Source: source, App: app, Port: p.Index, PortName: p.Name, Version: version, Since: since,
			Mode: p.Mode, Routes: p.Routes, Listen: p.Listen, Groups: p.Groups, Policy: p.Policy, Problems: p.Problems, Deployment: p.Deployment,
		}
		s.Since = discovery.ClaimedSince(b.before[p.Index], s)
		b.probes[p.Index] = b.chooseProbe(s, ports, &p)
		s.Check, s.ProbedAt = p.Check(b.probes[p.Index].check), b.probes[p.Index].elsewhere(p.Index)
		if 1 <= spec.service && spec.service <= 65535 {
			s.Announced = spec.service
		}
		b.byPort[p.Index] = s
		b.services = append(b.services, s)
	}
	return b
}

// describe adds what only Marathon knows of an app's part in a deployment. What the labels gave is shared and stays as it is.
func (b *builder) describe(app *App) {
	for _, s := range b.services {
		if s.Deployment != nil {
			d := *s.Deployment
			d.Instances, d.ScaledAt = int(app.Instances), app.VersionInfo.scaledAt()
			s.Deployment = &d
		}
	}
}

// chooseProbe returns what is asked of the tasks of a service, which labels may ask at another port of the app.
func (b *builder) chooseProbe(s *signalbox.Service, ports []portSpec, said *labels.PortResult) probe {
	own := ports[s.Port].probe
	if said.Check(signalbox.Check{}).Kind == signalbox.CheckHTTP {
		own.port, own.of = 0, s.Port // a label gives a path of this port, wherever Marathon asks
	}
	of := said.CheckPortOf
	switch {
	case of == nil:
		return own
	case *of < 0 || *of >= len(ports) || !ports[*of].routable():
		s.Problems = append(s.Problems, signalbox.Problem{
			Code: "SB308", Severity: signalbox.SeverityWarning, App: b.app, Label: "health check port", Value: fmt.Sprint(*of),
			Message: "the app has no such port to probe", Action: "the port itself is probed",
		})
		return own
	case !own.found:
		own = ports[*of].probe
	}
	if own.port == 0 {
		own.of = *of
	}
	return own
}

// add adds a task to the service of a port; places are where it answers for each of them. Where its address cannot be told now, the
// one it had before stands.
func (b *builder) add(port int, e signalbox.Endpoint, places []place) {
	s, at := b.byPort[port], places[port]
	if s == nil || at.none {
		return
	}
	if s.Policy.TaskPort != 0 {
		at = b.labelled(s, e.Task, at)
	}
	e.Addr = at.addr
	if at.trouble == "" {
		e.CheckPort = b.checkPort(s, e, places)
	} else {
		old := b.earlier(port, e)
		known := old.Addr.IsValid()
		if known {
			e.Addr, e.CheckPort = old.Addr, old.CheckPort
		}
		expected := at.quiet || e.State == signalbox.Draining || known && e.State == signalbox.Suspect
		if !expected {
			b.report(s, e.Task, at.trouble, known)
		}
		if !known {
			return
		}
	}
	s.Endpoints = append(s.Endpoints, e)
}

// labelled is the place at the port that a label names, which must be at an address that is the task's own.
func (b *builder) labelled(s *signalbox.Service, task string, at place) place {
	if at.other != nil {
		return at.other(s.Policy.TaskPort)
	}
	if !at.quiet {
		b.troubles[s.Port] = append(b.troubles[s.Port], signalbox.Problem{
			Code: "SB309", Severity: signalbox.SeverityWarning, App: b.app, Label: "task", Value: shown(task),
			Message: fmt.Sprintf("task-port=%d is for tasks with an address of their own", s.Policy.TaskPort), Action: "the port that Marathon says is used",
		})
	}
	return at
}

// checkPort returns the port of a task that is probed, 0 for the one that is routed to.
func (b *builder) checkPort(s *signalbox.Service, e signalbox.Endpoint, places []place) uint16 {
	probe, trouble := &b.probes[s.Port], ""
	port := probe.port
	if port == 0 && probe.of != s.Port {
		other := places[probe.of]
		if other.addr.Addr() == e.Addr.Addr() {
			port = int(other.addr.Port())
		} else {
			trouble = fmt.Sprintf("port %d, which is to be probed, is not at its address", probe.of)
		}
	}
	if port == 0 && trouble == "" || port == int(e.Addr.Port()) {
		return 0
	}
	switch {
	case trouble != "":
	case b.options.controls(port):
		trouble = controlPort(port).trouble
	default:
		trouble = checked(e.Addr.Addr(), port, b.options).trouble
	}
	if trouble == "" {
		return uint16(port)
	}
	b.troubles[s.Port] = append(b.troubles[s.Port], signalbox.Problem{
		Code: "SB308", Severity: signalbox.SeverityWarning, App: b.app, Label: "task", Value: shown(e.Task),
		Message: trouble, Action: "the port itself is probed",
	})
	return 0
}

// earlier returns the endpoint that the same task on the same host was before, if its address still is one that may be used.
func (b *builder) earlier(port int, e signalbox.Endpoint) signalbox.Endpoint {
	before := b.last(port)
	if before == nil {
		return signalbox.Endpoint{}
	}
	for _, old := range before.Endpoints {
		if old.Task == e.Task && (old.Host == e.Host || e.Host == "") && checked(old.Addr.Addr(), int(old.Addr.Port()), b.options).trouble == "" {
			return old
		}
	}
	return signalbox.Endpoint{}
}

// last returns the service that a port was before, or nil: the one of the same name where ports have names, and have moved.
func (b *builder) last(port int) *signalbox.Service {
	named := func(all []*signalbox.Service, name string) *signalbox.Service {
		i := slices.IndexFunc(all, func(s *signalbox.Service) bool { return s != nil && s.PortName == name })
		if i < 0 {
			return nil
		}
		return all[i]
	}
	name, before := b.byPort[port].PortName, b.before[port]
	if before != nil && before.PortName == name || name == "" {
		return before
	}
	if other := named(b.before, name); other != nil {
		return other
	}
	if before != nil && before.PortName != "" && named(b.byPort, before.PortName) != nil {
		return nil
	}
	return before
}

func (b *builder) report(s *signalbox.Service, task, trouble string, kept bool) {
	problem := signalbox.Problem{
		Code: "SB301", Severity: signalbox.SeverityWarning, App: b.app, Label: "task", Value: shown(task),
		Message: trouble, Action: "it is not routed to",
	}
	if kept {
		problem.Action = "its last known address stays"
	}
	b.troubles[s.Port] = append(b.troubles[s.Port], problem)
}

// refuse leaves out a task that has no proper id.
func (b *builder) refuse(task string) {
	b.problems = append(b.problems, signalbox.Problem{
		Code: "SB302", Severity: signalbox.SeverityError, App: b.app, Label: "task", Value: shown(task),
		Message: "this is no task id", Action: "the task is not routed to",
	})
}

// taskProblems returns the first problems with the tasks of a port, in an order of their own.
func (b *builder) taskProblems(port int) []signalbox.Problem {
	all := b.troubles[port]
	slices.SortFunc(all, signalbox.Problem.Compare)
	all = slices.Compact(all)
	if len(all) <= maxTaskProblems {
		return all
	}
	return append(all[:maxTaskProblems:maxTaskProblems], signalbox.Problem{
		Code: "SB301", Severity: signalbox.SeverityWarning, App: b.app, Label: "port", Value: fmt.Sprint(port),
		Message: fmt.Sprintf("%d more tasks have problems with their addresses", len(all)-maxTaskProblems), Action: "see the others",
	})
}

func wordOrNone(s string) string {
	if isWord(s) {
		return s
	}
	return ""
}

func (b *builder) done() ([]*signalbox.Service, []signalbox.Problem) {
	slices.SortFunc(b.problems, signalbox.Problem.Compare)
	b.problems = slices.Compact(b.problems)
	for _, s := range b.services {
		slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
		s.Endpoints = slices.CompactFunc(s.Endpoints, func(x, y signalbox.Endpoint) bool { return x.Task == y.Task && x.Addr == y.Addr })
		s.Problems = append(s.Problems, b.taskProblems(s.Port)...)
		slices.SortFunc(s.Problems, signalbox.Problem.Compare)
		s.Problems = slices.Compact(s.Problems)
	}
	slices.SortFunc(b.services, func(x, y *signalbox.Service) int {
		switch {
		case x.ID < y.ID:
			return -1
		case x.ID > y.ID:
			return 1
		}
		return 0
	})
	return b.services, b.problems
}

func shown(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// isWord reports whether s can stand in a line of text without being taken for anything else: ids of tasks, names of ports.
func isWord(s string) bool {
	return s != "" && len(s) <= 512 && madeOf(s, "-._:/")
}

// madeOf reports whether s has only letters, digits and the given signs.
func madeOf(s, signs string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && strings.IndexByte(signs, c) < 0 {
			return false
		}
	}
	return true
}

// BadProblem is what to show of an app that could not be read.
func BadProblem(bad BadApp) signalbox.Problem {
	return signalbox.Problem{
		Code: "SB300", Severity: signalbox.SeverityError, App: bad.ID,
		Message: "it cannot be read: " + shown(bad.Err.Error()), Action: "its last good services stay",
	}
}
