package machine

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"signalbox"
)

// cluster is what the source would say: the apps that there are, with their tasks.
type cluster struct {
	apps map[string]*app
	born int // how many tasks there have been
}

// app is one app, with one port.
type app struct {
	name   string
	since  int
	routes []signalbox.Route
	listen int // its service port, 0 for none
	mode   signalbox.Mode
	check  signalbox.Check
	policy signalbox.Policy
	tasks  []task
	// spoiled says that HAProxy does not take its definition. good is its last one that HAProxy took, nil for none.
	spoiled bool
	good    *signalbox.Policy
}

type task struct {
	id    string
	at    netip.AddrPort
	state signalbox.State
}

// The names and ports that apps choose from. They are few, so that apps meet.
var (
	hosts = []string{"a.test", "b.test", "c.wild.test", "*.wild.test", `~r[0-9]\.test`, "d.test", ""}
	paths = []signalbox.Route{
		{Path: "/"},
		{Path: "/"},
		{Path: "/p"},
		{Path: "/p/q"},
		{Path: "/exact", Match: signalbox.Exact},
		{Path: "/x[0-9]+", Match: signalbox.Regex},
	}
	rangePorts = []int{21000, 21001, 21002} // in the range that is bound at once
	otherPorts = []int{21100, 21101}

	askedHosts = []string{"a.test", "b.test", "c.wild.test", "z.wild.test", "r7.test", "d.test", "nobody.test"}
	askedPaths = []string{"/", "/p", "/p/q/r", "/exact", "/x12", "/other"}
)

func (c *cluster) names() []string { return slices.Sorted(maps.Keys(c.apps)) }

// table returns the services of all apps.
func (c *cluster) table() *signalbox.Table {
	var all []*signalbox.Service
	for _, name := range c.names() {
		all = append(all, c.apps[name].service())
	}
	return signalbox.NewTable(all, nil)
}

// judged returns what HAProxy is to do: of a spoiled app what it last took.
func (c *cluster) judged() *signalbox.Table {
	var all []*signalbox.Service
	for _, name := range c.names() {
		a := c.apps[name]
		s := a.service()
		if a.spoiled {
			if a.good == nil {
				continue
			}
			s.Policy = *a.good
		}
		all = append(all, s)
	}
	return signalbox.NewTable(all, nil)
}

// idOf returns the id of an app's service.
func idOf(name string) signalbox.ServiceID { return signalbox.NewServiceID("/"+name, 0) }

func (a *app) service() *signalbox.Service {
	s := &signalbox.Service{
		ID: idOf(a.name), Source: "test", App: "/" + a.name, Mode: a.mode, Since: time.Unix(int64(1e9+a.since), 0),
		Routes: slices.Clone(a.routes), Listen: a.listen, Check: a.check, Policy: a.policy,
	}
	slices.SortFunc(s.Routes, signalbox.Route.Compare)
	s.Routes = slices.Compact(s.Routes)
	for _, t := range a.tasks {
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{Task: t.id, Addr: t.at, State: t.state})
	}
	slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
	return s
}

// has reports whether a task of the app is in a state.
func (a *app) has(state signalbox.State) bool {
	return slices.ContainsFunc(a.tasks, func(t task) bool { return t.state == state })
}

// drains reports whether a task drains. Whether it does so in HAProxy depends on what was before.
func (c *cluster) drains() bool {
	return slices.ContainsFunc(c.names(), func(n string) bool { return c.apps[n].has(signalbox.Draining) })
}

// unsettled names the services whose tasks wait for a check.
func (c *cluster) unsettled() map[signalbox.ServiceID]bool {
	out := map[signalbox.ServiceID]bool{}
	for name, a := range c.apps {
		if a.has(signalbox.Unknown) && a.check.Kind != signalbox.CheckOff {
			out[idOf(name)] = true
		}
	}
	return out
}

// shares reports whether an app shares what it serves with others by weight.
func (c *cluster) shares(id signalbox.ServiceID) bool {
	for name, a := range c.apps {
		if idOf(name) == id {
			return a.policy.Weight != nil
		}
	}
	return false
}

// grow adds a task in a state to an app, at an address that no other task has.
func (c *cluster) grow(a *app, state signalbox.State) bool {
	taken := map[netip.AddrPort]bool{}
	for _, other := range c.apps {
		for _, t := range other.tasks {
			taken[t.at] = true
		}
	}
	for i := range taskAddresses {
		at := taskAddress((c.born + i) % taskAddresses)
		if !taken[at] {
			c.born++
			a.tasks = append(a.tasks, task{id: fmt.Sprintf("%s.%d", a.name, c.born), at: at, state: state})
			return true
		}
	}
	return false
}

// taskAddresses is how many addresses tasks can have. At each of them a server answers.
const taskAddresses = 48

func taskAddress(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, network, 1, byte(1 + i)}), 9000)
}

// policies are what apps ask for, by a name.
var policies = map[string]signalbox.Policy{
	"plain":          {},
	"sticky":         {Sticky: "lb"},
	"leastconn":      {Balance: "leastconn"},
	"https-redirect": {HTTPSRedirect: true},
	"strip-prefix":   {StripPrefix: true},
	"header":         {ResponseHeaders: []signalbox.Header{{Name: "X-Test", Value: "yes"}}},
	"timeout":        {Timeout: 7 * time.Second},
	"maxconn":        {MaxConn: 20},
	"nobody":         {Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	"priority":       {Priority: 5},
}

// checks are how apps are probed, by a name.
var checks = map[string]signalbox.Check{
	"off":  {Kind: signalbox.CheckOff},
	"tcp":  {Kind: signalbox.CheckTCP, Interval: time.Second},
	"http": {Kind: signalbox.CheckHTTP, Path: "/health", Interval: time.Second},
	"ping": {Kind: signalbox.CheckHTTP, Path: "/ping", Interval: 2 * time.Second},
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// equalTables reports whether two tables say the same of services.
func equalTables(a, b *signalbox.Table) bool {
	return slices.EqualFunc(a.Services, b.Services, (*signalbox.Service).Equal)
}

// gone returns the apps and tasks of one table that another one lacks.
func gone(from, to *signalbox.Table) (apps, tasks map[string]bool) {
	apps, tasks = map[string]bool{}, map[string]bool{}
	for _, s := range from.Services {
		now := to.Service(s.ID)
		apps[s.App] = now == nil
		for _, e := range s.Endpoints {
			tasks[e.Task] = now == nil || !slices.ContainsFunc(now.Endpoints, func(o signalbox.Endpoint) bool { return o.Task == e.Task })
		}
	}
	for _, m := range []map[string]bool{apps, tasks} {
		maps.DeleteFunc(m, func(_ string, gone bool) bool { return !gone })
	}
	return apps, tasks
}
