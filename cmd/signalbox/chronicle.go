package main

import (
	"cmp"
	linked "container/list"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
)

// Bounds of what a chronicle keeps.
const (
	keptMoments   = 50     // of one app
	keptChronicle = 50_000 // of all: the apps to which nothing has happened for the longest time go first
	namedTasks    = 3      // in one moment; of the others it says how many
)

// chronicle keeps what happened to each app lately. Its methods may be called at the same time.
type chronicle struct {
	mu    sync.Mutex
	apps  map[string]*linked.Element
	order *linked.List // of *annals; the app to which something happened last comes last
	total int
	limit int
}

// annals are the moments of one app, oldest first.
type annals struct {
	app     string
	moments []admin.Moment
	reload  uint64 // generation of the last one noted
}

func newChronicle() *chronicle {
	return &chronicle{apps: map[string]*linked.Element{}, order: linked.New(), limit: keptChronicle}
}

// of returns what happened to an app, oldest first.
func (c *chronicle) of(app string) []admin.Moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.apps[app]; e != nil {
		return slices.Clone(e.Value.(*annals).moments)
	}
	return nil
}

// note adds one moment.
func (c *chronicle) note(now time.Time, app, what, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.apps[app]
	if e == nil {
		e = c.order.PushBack(&annals{app: app})
		c.apps[app] = e
	}
	c.order.MoveToBack(e)
	a := e.Value.(*annals)
	if len(a.moments) == keptMoments {
		a.moments = append(a.moments[:0], a.moments[1:]...)
		c.total--
	}
	a.moments = append(a.moments, admin.Moment{Time: now, What: what, Text: text})
	c.total++
	for c.total > c.limit {
		oldest := c.order.Remove(c.order.Front()).(*annals)
		delete(c.apps, oldest.app)
		c.total -= len(oldest.moments)
	}
}

// follow notes what differs between two tables, and returns the apps that it is about.
func (c *chronicle) follow(now time.Time, from, to *signalbox.Table) []string {
	var apps []string
	signalbox.Walk(from.Services, to.Services, func(old, next *signalbox.Service) {
		if old == next {
			return
		}
		app := cmp.Or(next, old).App
		for _, m := range moments(old, next) {
			c.note(now, app, m.What, m.Text)
			if len(apps) == 0 || apps[len(apps)-1] != app {
				apps = append(apps, app)
			}
		}
	})
	return apps
}

// problem notes that a problem came, or was solved.
func (c *chronicle) problem(p signalbox.Problem, solved bool) {
	if p.App == "" {
		return
	}
	text := strings.Replace(p.String(), " "+p.App, "", 1)
	if solved {
		text = "solved: " + text
	}
	c.note(time.Now(), p.App, admin.MomentProblem, text)
}

// reloaded notes that HAProxy was reloaded for a change of some apps. Several changes may have waited for one reload.
func (c *chronicle) reloaded(now time.Time, apps []string, generation uint64, reasons string) {
	for _, app := range apps {
		if c.freshReload(app, generation) {
			c.note(now, app, admin.MomentReload, reasons)
		}
	}
}

// freshReload reports whether a reload was not noted yet for an app.
func (c *chronicle) freshReload(app string, generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.apps[app]
	if e == nil {
		return true
	}
	a := e.Value.(*annals)
	fresh := a.reload != generation
	a.reload = generation
	return fresh
}

// moments says what differs between two states of one service; nil stands for none.
func moments(old, next *signalbox.Service) []admin.Moment {
	var out []admin.Moment
	say := func(what, format string, args ...any) {
		out = append(out, admin.Moment{What: what, Text: fmt.Sprintf(format, args...)})
	}
	switch {
	case next == nil:
		say(admin.MomentApp, "port %d is no service any more", old.Port)
		return out
	case old == nil:
		old = &signalbox.Service{Port: next.Port}
		say(admin.MomentApp, "port %d became a service%s", next.Port, ofVersion(next.Version))
	default:
		if old.Version != next.Version {
			say(admin.MomentApp, "the definition changed%s", ofVersion(next.Version))
		}
		if was, is := old.Policy.String(), next.Policy.String(); was != is {
			say(admin.MomentApp, "port %d: %s, was %s", next.Port, cmp.Or(is, "no policy"), cmp.Or(was, "none"))
		}
	}
	was, is := ways(old), ways(next)
	for _, w := range is {
		if !slices.Contains(was, w) {
			say(admin.MomentRoute, "asks for %s", w)
		}
	}
	for _, w := range was {
		if !slices.Contains(is, w) {
			say(admin.MomentRoute, "asks for %s no more", w)
		}
	}
	for _, text := range taskMoments(old.Endpoints, next.Endpoints) {
		say(admin.MomentTask, "%s", text)
	}
	return out
}

func ofVersion(version string) string {
	if version == "" {
		return ""
	}
	return ", version " + version
}

// ways returns the names and the port that a service asks for.
func ways(s *signalbox.Service) []string {
	var out []string
	for _, r := range s.Routes {
		out = append(out, r.String())
	}
	if s.Listen != 0 {
		out = append(out, fmt.Sprintf(":%d", s.Listen))
	}
	return out
}

// taskMoments says which tasks came, went, or changed, one line for all of a kind.
func taskMoments(old, next []signalbox.Endpoint) []string {
	type key struct{ task, addr string }
	was := make(map[key]signalbox.Endpoint, len(old))
	for _, e := range old {
		was[key{e.Task, e.Addr.String()}] = e
	}
	var order []string
	kinds := map[string][]string{}
	add := func(kind string, e signalbox.Endpoint, why string) {
		if kinds[kind] == nil {
			order = append(order, kind)
		}
		text := e.Addr.String()
		if why != "" {
			text += " (" + why + ")"
		}
		kinds[kind] = append(kinds[kind], text)
	}
	for _, e := range next {
		k := key{e.Task, e.Addr.String()}
		before, known := was[k]
		delete(was, k)
		switch {
		case !known && e.State == signalbox.Up:
			add("came", e, "")
		case !known:
			add("came, "+string(e.State), e, e.Why)
		case before.State != e.State:
			add(string(e.State), e, e.Why)
		}
	}
	for _, e := range old {
		if _, gone := was[key{e.Task, e.Addr.String()}]; gone {
			add("went", e, "")
		}
	}
	var out []string
	for _, kind := range order {
		list := kinds[kind]
		text := plural(len(list), "task") + " " + kind + ": " + strings.Join(list[:min(len(list), namedTasks)], ", ")
		if more := len(list) - namedTasks; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, text)
	}
	return out
}

// reasonText lists the reasons of a reload.
func reasonText(reasons []haproxy.Reason) string {
	words := make([]string, len(reasons))
	for i, r := range reasons {
		words[i] = string(r)
	}
	return strings.Join(words, ", ")
}
