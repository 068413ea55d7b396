package main

import (
	"cmp"
	"slices"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
)

// appliedNow returns what HAProxy does for an app.
func (c *controller) appliedNow(app string) admin.Applied {
	out := appliedOf(app, c.table(), c.wanted.Load(), c.applier.Running())
	out.Generation = c.applier.Status().Generation
	if kept := c.holding.view().kept[app]; kept != "" && out.Waits == "" {
		out.Waits = "a hold stands over it: signalbox release"
	}
	return out
}

// appliedOf returns what a running configuration does for an app, beside what the table says of it and what is wanted.
func appliedOf(app string, table *signalbox.Table, wanted, running *haproxy.Config) admin.Applied {
	out := admin.Applied{APIVersion: admin.APIVersion, App: app, Tasks: []admin.AppliedTask{}}
	services := table.ServicesOf(app)
	out.Known = len(services) > 0
	for _, s := range services {
		if s.Version != "" {
			out.Versions = append(out.Versions, s.Version)
		}
	}
	slices.Sort(out.Versions)
	out.Versions = slices.Compact(out.Versions)
	if wanted == nil || running == nil {
		out.Waits = "no HAProxy runs yet"
		return out
	}
	versions := map[string]string{} // of tasks
	for _, s := range services {
		for _, e := range s.Endpoints {
			versions[e.Task] = e.Version
		}
		if !sameDefinition(s.ID, wanted, running) {
			out.Waits = "HAProxy does not run its present definition yet: signalbox diff, signalbox why " + app
		}
		if !sameTasks(backendOf(wanted, s.ID), backendOf(running, s.ID)) {
			out.Waits = cmp.Or(out.Waits, "HAProxy does not have its present tasks yet")
		}
		for _, task := range readyTasks(backendOf(running, s.ID)) {
			task.Version = versions[task.Task]
			out.Tasks = append(out.Tasks, task)
		}
	}
	if !out.Known {
		for _, b := range running.Backends {
			if b.App == app && !b.Retired {
				out.Known, out.Waits = true, "HAProxy still has it"
			}
		}
	}
	slices.SortFunc(out.Tasks, func(a, b admin.AppliedTask) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Addr, b.Addr))
	})
	return out
}

func backendOf(c *haproxy.Config, id signalbox.ServiceID) *haproxy.Backend {
	for _, b := range c.Backends {
		if b.Service == id && !b.Retired {
			return b
		}
	}
	return nil
}

// sameDefinition reports whether two configurations do the same for a service, its tasks aside.
func sameDefinition(id signalbox.ServiceID, a, b *haproxy.Config) bool {
	x, y := backendOf(a, id), backendOf(b, id)
	if x == nil || y == nil {
		return x == y
	}
	if x.Mode != y.Mode || x.Check != y.Check || !x.Policy.Equal(y.Policy) {
		return false
	}
	of := func(c *haproxy.Config) (own []signalbox.Standing) {
		for _, s := range c.Standings() {
			if s.Service == id {
				own = append(own, s)
			}
		}
		return own
	}
	return slices.EqualFunc(of(a), of(b), func(s, t signalbox.Standing) bool {
		return s.Route == t.Route && s.Owner == t.Owner && s.Share == t.Share
	})
}

// readyTasks returns the tasks of a backend that take new requests, once HAProxy's checks pass. In no particular order.
func readyTasks(b *haproxy.Backend) (out []admin.AppliedTask) {
	if b == nil {
		return nil
	}
	for _, s := range b.Slots {
		if s.Task != "" && s.Admin == haproxy.Ready {
			out = append(out, admin.AppliedTask{Task: s.Task, Addr: s.Addr.String()})
		}
	}
	return out
}

func sameTasks(a, b *haproxy.Backend) bool {
	of := func(b *haproxy.Backend) []admin.AppliedTask {
		tasks := readyTasks(b)
		slices.SortFunc(tasks, func(x, y admin.AppliedTask) int {
			return cmp.Or(cmp.Compare(x.Task, y.Task), cmp.Compare(x.Addr, y.Addr))
		})
		return tasks
	}
	return slices.Equal(of(a), of(b))
}
