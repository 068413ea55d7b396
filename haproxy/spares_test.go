package haproxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// spareOptions are those of a HAProxy with spare backends.
func spareOptions() *Options {
	o := testOptions("/d")
	o.SpareSlots = DefaultSpareSlots
	return o
}

// loaded returns a Config as it is once HAProxy has loaded it, and nothing is on its way to what was left.
func loaded(c *Config) *Config { return c.Rested(atRest(c)) }

// backendOf returns the name of a service's backend.
func backendOf(t *testing.T, c *Config, app string) string {
	t.Helper()
	b := serving(c, &signalbox.Service{ID: signalbox.NewServiceID(app, 0)})
	if b == nil {
		t.Fatalf("%s has no backend, or several", app)
	}
	return b.Name
}

// follows fails if a change needs a reload, or more than that.
func follows(t *testing.T, what string, from, to *Config) {
	t.Helper()
	if p := Diff(from, to); len(p.Reasons) > 0 {
		t.Errorf("%s takes a reload: %v", what, p.Reasons)
	}
}

// A day of an ordinary cluster: apps come, grow, change how they are checked and what bounds them, and leave. Nothing is loaded anew.
func TestADayOfAppsNeedsNoReload(t *testing.T) {
	o := spareOptions()
	apps := make(map[int]*signalbox.Service)
	app := func(i, n int) *signalbox.Service {
		s := service(fmt.Sprintf("/app%d", i), fmt.Sprintf("app%d.local/", i), tasks(n)...)
		s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: fmt.Sprintf("/health%d", i), Interval: time.Duration(i%7+1) * time.Second}
		if i%5 == 0 {
			s.Policy.HTTPSRedirect, s.Policy.HSTS, s.Policy.Timeout = true, i%2 == 0, time.Duration(i)*time.Second
		}
		return s
	}
	for i := range 100 {
		apps[i] = app(i, 1+i%20)
	}
	table := func() *signalbox.Table {
		var all []*signalbox.Service
		for _, s := range apps {
			all = append(all, s)
		}
		return tableOf(all...)
	}
	now := loaded(Build(table(), o, nil))
	for event := range 3000 {
		switch i := 100 + event/3; event % 3 {
		case 0:
			apps[i] = app(i, 3)
		case 1:
			apps[i] = app(i, 1+i%20) // and more than its backend has room for
		default:
			delete(apps, i-100) // those that were there first have gone after 100 of them
		}
		next := Build(table(), o, now)
		follows(t, fmt.Sprintf("event %d", event), now, next)
		if t.Failed() {
			return
		}
		now = loaded(next)
	}
}

// A taken spare backend holds what one of its own would, by another name.
func TestASpareBackendIsAsGoodAsItsOwn(t *testing.T) {
	o := spareOptions()
	first := service("/first", "first.local/", tasks(1)...)
	fresh := service("/fresh", "fresh.local/ first.local/fresh", tasks(3)...)
	fresh.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health"}
	fresh.Policy.Timeout, fresh.Policy.HSTS = 90*time.Second, true
	before := loaded(Build(tableOf(first), o, nil))
	taken, own := Build(tableOf(first, fresh), o, before), Build(tableOf(first, fresh), o, nil)
	follows(t, "a new app", before, taken)
	if name := backendOf(t, taken, "/fresh"); !isSpare(name) {
		t.Errorf("it has the backend %s", name)
	}
	for _, r := range []Request{{Host: "fresh.local"}, {Host: "first.local", Path: "/fresh/x"}, {Host: "first.local", Path: "/y"}, {Host: "other.local"}} {
		a, b := taken.Match(r), own.Match(r)
		for _, x := range []*Answer{a, b} {
			for i := range x.Destinations {
				x.Destinations[i].Backend = ""
			}
		}
		if diff := cmp.Diff(b, a, cmp.Comparer(func(x, y signalbox.Policy) bool { return fmt.Sprint(x) == fmt.Sprint(y) }),
			cmp.Comparer(func(x, y interface{ IsValid() bool }) bool { return fmt.Sprint(x) == fmt.Sprint(y) })); diff != "" {
			t.Errorf("%+v (-own +spare):\n%s", r, diff)
		}
	}
	var settings []string
	name := backendOf(t, taken, "/fresh")
	for _, m := range taken.Settings.maps() {
		for _, e := range *m.Entries {
			if e.Key == name {
				settings = append(settings, e.Value)
			}
		}
	}
	if diff := cmp.Diff([]string{"/health", "/fresh:0", "90000", "hsts"}, settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// What comes does so before anything leads to it, and what is left is emptied a moment after nothing does any more.
func TestTheOrderInWhichASpareIsTakenAndLeft(t *testing.T) {
	o := spareOptions()
	first := service("/first", "first.local/", tasks(1)...)
	fresh := service("/fresh", "fresh.local/", tasks(1)...)
	fresh.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health"}
	fresh.Policy.Timeout = time.Second
	before := loaded(Build(tableOf(first), o, nil))
	taken := Build(tableOf(first, fresh), o, before)
	name := backendOf(t, taken, "/fresh")
	texts := func(commands []Command) (out []string) {
		for _, c := range commands {
			out = append(out, strings.ReplaceAll(c.Text, name, "X"))
		}
		return out
	}
	if diff := cmp.Diff([]string{
		"add map /d/checks.map X /health", "set server X/s1 addr 10.0.0.1 port 31000", "set server X/s1 state ready",
		"add map /d/names.map X /fresh:0", "add map /d/timeouts.map X 1000", "add map /d/hosts.map fresh.local/ X",
	}, texts(Diff(before, taken).Commands)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	left := Build(tableOf(first), o, taken)
	plan := Diff(taken, left)
	if diff := cmp.Diff([]string{
		"del map /d/hosts.map fresh.local/", "del map /d/timeouts.map X", "del map /d/names.map X", "del map /d/checks.map X",
	}, texts(plan.Commands)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	applied := Applied(taken, left)
	emptied, commands := Emptied(applied, plan.Left)
	if diff := cmp.Diff([]string{"set server X/s1 state maint"}, texts(commands)); diff != "" || !slices.Equal(plan.Left, []string{name}) {
		t.Errorf("emptied of %v (-want +got):\n%s", plan.Left, diff)
	}
	if Applied(emptied, left) != left {
		t.Error("emptied, it is not what was wanted")
	}
	// Nobody gets it before nothing is on its way to it any more, but its own service.
	other := service("/other", "other.local/", tasks(1)...)
	other.Check = fresh.Check
	if again := backendOf(t, Build(tableOf(first, fresh), o, left), "/fresh"); again != name {
		t.Errorf("its own service comes back to %s, want %s", again, name)
	}
	if got := backendOf(t, Build(tableOf(first, other), o, left), "/other"); got == name {
		t.Error("another service has it at once")
	}
	if rested := left.Rested(map[string]signalbox.ServiceID{name: "/older:0"}); rested != left {
		t.Error("it is free because what an earlier service left is at rest")
	}
	if got := backendOf(t, Build(tableOf(first, other), o, loaded(left)), "/other"); got != name {
		t.Errorf("at rest, the next service has %s, want %s", got, name)
	}
}

// What no command can change of a backend moves the service to a spare one, without a task that has to be judged again.
func TestServicesMoveToASpareOfTheirShape(t *testing.T) {
	o := spareOptions()
	o.ServicePorts, o.AppIDBind = PortRange{10000, 10010}, []string{":9091"}
	// Of each shape there is one already.
	seed := func(name string, change func(*signalbox.Service)) *signalbox.Service {
		s := service("/seed-"+name, name+".seed/", tasks(1)...)
		change(s)
		return s
	}
	changes := map[string]func(*signalbox.Service){
		"the kind of check":  func(s *signalbox.Service) { s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/x"} },
		"the balance":        func(s *signalbox.Service) { s.Policy.Balance = "leastconn" },
		"sticky":             func(s *signalbox.Service) { s.Policy.Sticky = "S" },
		"TLS to tasks":       func(s *signalbox.Service) { s.Policy.BackendTLS = signalbox.BackendUnverified },
		"more tasks":         func(s *signalbox.Service) { s.Endpoints = tasks(20) },
		"from its own rules": func(s *signalbox.Service) { s.Policy.RequestHeaders = nil },
	}
	all := make([]*signalbox.Service, 0, len(changes)+1)
	for name, change := range changes {
		all = append(all, seed(strings.ReplaceAll(name, " ", "-"), change))
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			shop := service("/shop", "shop.local/ shop.local/x", tasks(3)...)
			shop.Listen = 10001
			if name == "from its own rules" {
				shop.Policy.RequestHeaders = []signalbox.Header{{Name: "X", Value: "y"}}
			}
			now := loaded(Build(tableOf(slices.Concat(all, []*signalbox.Service{shop})...), o, nil))
			after := *shop
			after.Endpoints = slices.Clone(after.Endpoints)
			after.Endpoints[1].State = signalbox.Unknown
			change(&after)
			next := Build(tableOf(slices.Concat(all, []*signalbox.Service{&after})...), o, now)
			follows(t, name, now, next)
			plan := Diff(now, next)
			if !slices.Equal(plan.Left, []string{"shop:0"}) || !isSpare(backendOf(t, next, "/shop")) {
				t.Errorf("it left %v for %s", plan.Left, backendOf(t, next, "/shop"))
			}
			for _, c := range plan.Commands {
				if strings.Contains(c.Text, "health down") {
					t.Errorf("a task that served is judged again: %s", c.Text)
				}
			}
			for _, s := range serving(next, shop).Slots[:3] {
				if was := now.Backend("shop:0"); name != "more tasks" && !slices.ContainsFunc(was.Slots, func(o Server) bool { return o.Name == s.Name && o.Task == s.Task }) {
					t.Errorf("%s is in %s", s.Task, s.Name)
				}
			}
			if got := lookup(next.Ports, "10001"); got != "http/"+backendOf(t, next, "/shop") {
				t.Errorf("its port leads to %s", got)
			}
		})
	}
}

// What no spare backend can be for takes a reload, with a reason that says why.
func TestReasonsWhereNoSpareFits(t *testing.T) {
	o := spareOptions()
	first := service("/first", "first.local/", tasks(1)...)
	now := loaded(Build(tableOf(first), o, nil))
	for name, c := range map[string]struct {
		change func(*signalbox.Service)
		want   []Reason
	}{
		"a shape that nobody had": {func(s *signalbox.Service) { s.Policy.Sticky = "S" }, []Reason{NoSpare}},
		"rules of its own":        {func(s *signalbox.Service) { s.Policy.RateLimit = signalbox.RateLimit{Requests: 1, Per: time.Second} }, []Reason{BackendAdded}},
		"a port of its own":       {func(s *signalbox.Service) { s.Listen = 20000 }, []Reason{BackendAdded, ListenerAdded}},
		"too many tasks":          {func(s *signalbox.Service) { s.Endpoints = tasks(500) }, []Reason{SparesExhausted}},
	} {
		fresh := service("/fresh", "fresh.local/", tasks(1)...)
		c.change(fresh)
		next := Build(tableOf(first, fresh), o, now)
		if got := Diff(now, next).Reasons; !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		// The reload brings spares of that shape.
		another := service("/another", "another.local/", tasks(1)...)
		c.change(another)
		another.Listen, another.Endpoints = 0, another.Endpoints[:1]
		if got := Diff(loaded(next), Build(tableOf(first, fresh, another), o, loaded(next))).Reasons; name != "rules of its own" && len(got) > 0 {
			t.Errorf("%s: the next one takes %v", name, got)
		}
	}
	o = testOptions("/d")
	now = Build(tableOf(first), o, nil)
	if got := Diff(now, Build(tableOf(first, service("/fresh", "fresh.local/")), o, now)).Reasons; !slices.Equal(got, []Reason{BackendAdded}) {
		t.Errorf("without spares: %v", got)
	}
}

// The pool is held to its budget, and doubles where it was used up.
func TestHowManySparesThereAre(t *testing.T) {
	slotsOf := func(c *Config) (free, slots int) {
		for _, b := range c.Backends {
			if b.Retired {
				free, slots = free+1, slots+len(b.Slots)
			}
		}
		return free, slots
	}
	for n, want := range map[int][2]int{0: {70, 896}, 100: {229, 2384}, 5000: {500, 0}} {
		free, slots := slotsOf(Build(fleet(n, 1), spareOptions(), nil))
		if slots > DefaultSpareSlots || free < want[0] || want[1] > 0 && slots != want[1] {
			t.Errorf("%d apps: %d spare backends with %d slots, want %v", n, free, slots, want)
		}
	}
	// Every app that comes takes one; whenever they are used up there are as many more as there are apps.
	o := spareOptions()
	var all []*signalbox.Service
	now := loaded(Build(tableOf(), o, nil))
	reloads := 0
	for i := range 300 {
		all = append(all, service(fmt.Sprintf("/app%d", i), "", tasks(1)...))
		next := Build(tableOf(all...), o, now)
		if len(Diff(now, next).Reasons) > 0 {
			reloads++
		}
		now = loaded(next)
	}
	if reloads > 3 {
		t.Errorf("300 new apps take %d reloads", reloads)
	}
}

// A file leads no line of a spare backend to the app whose block stands before it.
func TestSpareBackendsBelongToNoApp(t *testing.T) {
	f, err := Render(DefaultTemplate(), Build(tableOf(service("/a", "a.local/")), spareOptions(), nil))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for i, line := range strings.Split(string(f.Config), "\n") {
		if strings.HasPrefix(line, "backend "+sparePrefix) {
			seen++
			if app := AppAt(f.Config, i+1); app != "" {
				t.Errorf("%s is that of %s", line, app)
			}
		}
	}
	if seen == 0 {
		t.Error("there are none")
	}
}

// A service whose new backend does not run yet is served by its old one, which is checked and bounded as before.
func TestWhatServesOnKeepsItsSettings(t *testing.T) {
	o := spareOptions()
	shop := service("/shop", "shop.local/", tasks(1)...)
	shop.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health"}
	shop.Policy.Timeout, shop.Policy.HTTPSRedirect = 7*time.Second, true
	running := loaded(Build(tableOf(shop), o, nil)) // which comes back after a newer configuration was taken back
	newer := *o
	newer.SpareSlots *= 2
	moved := *shop
	moved.Check.Kind, moved.Policy.Sticky = signalbox.CheckHTTP, "C"
	sticky := service("/sticky", "sticky.local/")
	sticky.Check, sticky.Policy.Sticky = shop.Check, "C"
	last := loaded(Build(tableOf(shop, sticky), &newer, running))
	want := Build(tableOf(&moved, sticky), &newer, last)
	if backendOf(t, want, "/shop") == backendOf(t, running, "/shop") {
		t.Fatal("it did not move")
	}
	applied := Applied(running, want)
	for i, m := range applied.Settings.maps() {
		if diff := cmp.Diff(*running.Settings.maps()[i].Entries, *m.Entries); diff != "" {
			t.Errorf("%s (-before +now):\n%s", m.Name, diff)
		}
	}
}
