package marathon

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// deathHolds is for how long after a death reads that still show the task as running are not believed: ids are never used again.
// intentHolds is the same for a task that is about to be killed: Marathon lists it until the grace period has passed.
const (
	deathHolds  = 10 * time.Second
	intentHolds = time.Minute
)

// marksKept is for how long a mark is remembered after it was last needed.
const marksKept = 10 * time.Minute

// maxMarks bounds how many tasks that no service has are remembered from events.
const maxMarks = 100_000

// reading is what one read says of one app.
type reading struct {
	app      string
	pod      bool
	services []*signalbox.Service
	problems []signalbox.Problem
	bad      bool      // the app could not be read: its services before stay, problems say why
	unknown  []version // of the app, that its tasks have and that are still to be read

	deployment string // id of the deployment of the app that runs, or ""
}

// present are the apps that a read of everything has shown.
func present(all []reading) map[string]bool {
	apps := make(map[string]bool, len(all))
	for _, r := range all {
		apps[r.app] = true
	}
	return apps
}

// model is what is known of Marathon's apps: the newest read of each, with what events have said since. It has one user at a
// time; the states it hands out are immutable.
type model struct {
	apps     map[string]*knownApp
	state    []*signalbox.Service // sorted by ID; replaced, never changed
	problems []signalbox.Problem  // sorted; replaced, never changed
	marks    map[string]mark      // by task id
	gone     map[string]time.Time // deleted apps: when the read that showed it began
	explain  discovery.Explained  // since the last update was taken
}

// knownApp is one app as it was last read.
type knownApp struct {
	services []*signalbox.Service
	problems []signalbox.Problem
	pod      bool
	read     time.Time // when that read began
}

// mark is what an event said of a task. Reads that began before until are outweighed by it.
type mark struct {
	state signalbox.State
	why   string
	at    time.Time
	until time.Time
}

func newModel() *model {
	return &model{apps: map[string]*knownApp{}, marks: map[string]mark{}, gone: map[string]time.Time{}}
}

// seed takes a state that was stored earlier.
func (m *model) seed(state []*signalbox.Service) {
	m.state = state
	for _, s := range state {
		a := m.apps[s.App]
		if a == nil {
			a = &knownApp{}
			m.apps[s.App] = a
		}
		a.services = append(a.services, s)
	}
}

// whole takes a read of everything that began at start. What was read, deleted or marked after that stays; so do pods, and what may
// be one, if the read is without them.
func (m *model) whole(readings []reading, start time.Time, withPods bool) {
	present := present(readings)
	for _, r := range readings {
		if r.app == "" || m.gone[r.app].After(start) {
			continue
		}
		if a := m.apps[r.app]; a == nil || !a.read.After(start) {
			m.set(r, start)
		}
	}
	for id, a := range m.apps {
		if !present[id] && !a.read.After(start) && (withPods || !a.pod && !a.read.IsZero()) {
			delete(m.apps, id)
		}
	}
	m.rebuild(readings)
	m.forget(start)
}

// one takes a read of a single app that began at start, and reports whether anything differs.
func (m *model) one(r reading, start time.Time) bool {
	if a := m.apps[r.app]; a != nil && a.read.After(start) {
		return false
	}
	delete(m.gone, r.app)
	if len(r.services) == 0 && !r.bad {
		m.proveApp(r.app)
	}
	before := m.apps[r.app]
	m.set(r, start)
	return m.replace(r.app, before)
}

// deleted takes the answer that an app does not exist, from a read that began at start.
func (m *model) deleted(app string, start time.Time) bool {
	before := m.apps[app]
	if before != nil && before.read.After(start) {
		return false
	}
	m.gone[app] = start
	m.explainApp(app)
	m.proveApp(app)
	if before == nil {
		return false
	}
	delete(m.apps, app)
	return m.replace(app, before)
}

// set replaces one app, and keeps the pointers of services that say the same as before.
func (m *model) set(r reading, start time.Time) {
	old := m.apps[r.app]
	a := &knownApp{services: r.services, problems: r.problems, pod: r.pod, read: start}
	if r.bad {
		a.services = nil
		if old != nil {
			a.services, a.pod = old.services, old.pod
		}
	} else {
		slices.SortFunc(a.services, func(x, y *signalbox.Service) int { return strings.Compare(string(x.ID), string(y.ID)) })
		for i, s := range a.services {
			m.applyMarks(s, start)
			if old == nil {
				continue
			}
			for _, o := range old.services {
				if o.ID == s.ID && o.Equal(s) {
					a.services[i] = o
				}
			}
		}
	}
	if old != nil && slices.Equal(a.problems, old.problems) {
		a.problems = old.problems
	}
	m.apps[r.app] = a
}

// applyMarks lets events outweigh a read that began before them. s is not published yet.
func (m *model) applyMarks(s *signalbox.Service, start time.Time) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if k, ok := m.marks[e.Task]; ok && start.Before(k.until) && worse(k.state, e.State) {
			e.State, e.Why = k.state, k.why
		}
	}
}

// worse reports whether a says more against a task than b does.
func worse(a, b signalbox.State) bool {
	return a == signalbox.Draining && b != signalbox.Draining ||
		a == signalbox.Suspect && (b == signalbox.Up || b == signalbox.Unknown)
}

// mark applies what an event says of a task, or of every task of an instance, and reports whether a service changed.
func (m *model) mark(n notice) bool {
	k := mark{state: signalbox.Draining, why: n.Why, at: n.At, until: n.At.Add(deathHolds)}
	switch {
	case n.Action == actSuspect:
		k.state, k.until = signalbox.Suspect, n.At
	case n.Intent:
		k.until = n.At.Add(intentHolds)
	}
	note := func(task string) {
		if old, ok := m.marks[task]; ok && (old.state == signalbox.Draining && k.state == signalbox.Suspect) {
			return
		}
		m.marks[task] = k
		if k.state == signalbox.Draining {
			m.explainTask(task)
		}
	}
	if n.Task != "" && len(m.marks) < maxMarks {
		note(n.Task)
	}
	a := m.apps[n.App]
	if a == nil {
		return false
	}
	before := *a
	changed := false
	services := slices.Clone(a.services)
	for i, s := range services {
		var c *signalbox.Service
		for j, e := range s.Endpoints {
			if !n.names(e.Task) {
				continue
			}
			note(e.Task)
			if k := m.marks[e.Task]; worse(k.state, e.State) {
				if c == nil {
					copied := *s
					copied.Endpoints = slices.Clone(s.Endpoints)
					c = &copied
				}
				c.Endpoints[j].State, c.Endpoints[j].Why = k.state, k.why
			}
		}
		if c != nil {
			services[i], changed = c, true
		}
	}
	if !changed {
		return false
	}
	after := before
	after.services = services
	m.apps[n.App] = &after
	return m.replace(n.App, &before)
}

// names reports whether the event is about a task. An instance's id begins the ids of its tasks.
func (n notice) names(task string) bool {
	if n.Task != "" && (n.Task == task || strings.HasPrefix(task, n.Task+".")) {
		return true
	}
	return n.Task == "" && n.Instance != "" && (n.Instance == task || strings.HasPrefix(task, n.Instance+"."))
}

// move gives the tasks of a host another address, and reports whether any had the old one. Where allowed does not let them go there,
// they stay: the next read says why.
func (m *model) move(c discovery.HostChange, allowed func(netip.AddrPort) bool) bool {
	changed := false
	for id, a := range m.apps {
		var services []*signalbox.Service
		for i, s := range a.services {
			for j, e := range s.Endpoints {
				if e.Host != c.Host || e.Addr.Addr() != c.From || !allowed(netip.AddrPortFrom(c.To, e.Addr.Port())) {
					continue
				}
				if services == nil {
					services = slices.Clone(a.services)
				}
				if services[i] == s {
					copied := *s
					copied.Endpoints = slices.Clone(s.Endpoints)
					services[i] = &copied
				}
				services[i].Endpoints[j].Addr = netip.AddrPortFrom(c.To, e.Addr.Port())
			}
		}
		if services == nil {
			continue
		}
		for _, s := range services {
			slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
		}
		after := *a
		after.services = services
		m.apps[id] = &after
		changed = true
	}
	if changed {
		m.rebuild(nil)
	}
	return changed
}

// replace puts one app's services into the state, and reports whether it says something else than before.
func (m *model) replace(app string, before *knownApp) bool {
	var services []*signalbox.Service
	var problems []signalbox.Problem
	if a := m.apps[app]; a != nil {
		services, problems = a.services, a.problems
	}
	var oldServices []*signalbox.Service
	var oldProblems []signalbox.Problem
	if before != nil {
		oldServices, oldProblems = before.services, before.problems
	}
	same := slices.Equal(services, oldServices)
	if !same {
		// The ids of one app's services lie together: they alone begin with its id and a colon, which no app id holds.
		lo, _ := slices.BinarySearchFunc(m.state, app+":", compareID)
		hi, _ := slices.BinarySearchFunc(m.state, app+";", compareID)
		state := make([]*signalbox.Service, 0, len(m.state)-(hi-lo)+len(services))
		state = append(state, m.state[:lo]...)
		state = append(state, services...)
		m.state = append(state, m.state[hi:]...)
	}
	if !slices.Equal(problems, oldProblems) {
		m.collectProblems(nil)
		same = false
	}
	return !same
}

func compareID(s *signalbox.Service, id string) int { return strings.Compare(string(s.ID), id) }

// rebuild makes the state anew, and keeps the old one if it is made of the same services.
func (m *model) rebuild(readings []reading) {
	state := make([]*signalbox.Service, 0, len(m.state))
	for _, a := range m.apps {
		state = append(state, a.services...)
	}
	slices.SortFunc(state, func(x, y *signalbox.Service) int { return strings.Compare(string(x.ID), string(y.ID)) })
	if m.state == nil || !slices.Equal(state, m.state) {
		m.state = state
	}
	m.collectProblems(readings)
}

// collectProblems gathers the problems of all apps, and of readings that name no app.
func (m *model) collectProblems(readings []reading) {
	var all []signalbox.Problem
	for _, a := range m.apps {
		all = append(all, a.problems...)
	}
	for _, r := range readings {
		if r.app == "" {
			all = append(all, r.problems...)
		}
	}
	slices.SortFunc(all, signalbox.Problem.Compare)
	if all = slices.Compact(all); !slices.Equal(all, m.problems) {
		m.problems = all
	}
}

// forget drops marks and deletions that no read can contradict any more.
func (m *model) forget(start time.Time) {
	for t, k := range m.marks {
		if start.Sub(k.at) > marksKept {
			delete(m.marks, t)
		}
	}
	for a, at := range m.gone {
		if start.Sub(at) > marksKept {
			delete(m.gone, a)
		}
	}
}

func (m *model) explainApp(app string) {
	if m.explain.Apps == nil {
		m.explain.Apps = map[string]bool{}
	}
	m.explain.Apps[app] = true
}

// proveApp notes that an app is gone, or without services, for certain.
func (m *model) proveApp(app string) {
	if m.explain.Proven == nil {
		m.explain.Proven = map[string]bool{}
	}
	m.explain.Proven[app] = true
}

func (m *model) explainTask(task string) {
	if m.explain.Tasks == nil {
		m.explain.Tasks = map[string]bool{}
	}
	m.explain.Tasks[task] = true
}
