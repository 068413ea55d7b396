package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// maxRounds bounds how many rejections of one wanted configuration are answered by withholding.
const maxRounds = 10

// portRetry is how long a port that somebody else holds is left out.
const portRetry = 30 * time.Second

// withheld are the parts of the wanted configuration that HAProxy does not take. Everything else goes on without them.
type withheld struct {
	apps   map[string]heldApp
	ports  map[int]heldPort
	rounds int
	subs   map[*haproxy.Backend]*haproxy.Backend // what stands in for a held backend, kept so that pointers stay
}

type heldApp struct {
	shape   string // of its backends, as rejected
	drop    bool   // the last good ones were rejected too, or there are none
	problem signalbox.Problem
}

type heldPort struct {
	until   time.Time
	problem signalbox.Problem
}

func newWithheld() withheld {
	return withheld{apps: map[string]heldApp{}, ports: map[int]heldPort{}, subs: map[*haproxy.Backend]*haproxy.Backend{}}
}

// reject withholds the apps that a check complained about, and reports whether there is something new to try.
func (w *withheld) reject(r jobResult, appAt func([]byte, int) string) bool {
	if w.rounds++; appAt == nil || w.rounds > maxRounds {
		return false
	}
	i := slices.IndexFunc(r.files, func(f File) bool { return f.Name == configName })
	if i < 0 {
		return false
	}
	changed := false
	for _, rej := range r.verdict.Rejections {
		if rej.File != configName || rej.Line <= 0 {
			continue
		}
		app := appAt(r.files[i].Data, rej.Line)
		if app == "" {
			continue
		}
		old, again := w.apps[app]
		if again && old.drop {
			continue
		}
		h := heldApp{shape: shapeOf(r.config, app), drop: again, problem: signalbox.Problem{
			Code: "SB401", Severity: signalbox.SeverityError, App: app,
			Message: "HAProxy rejects its configuration: " + cut(rej.Message, 300),
			Action:  "its last good configuration stays",
		}}
		if again {
			h.shape, h.problem = old.shape, old.problem
			h.problem.Action = "it is left out"
		}
		w.apps[app] = h
		changed = true
	}
	return changed
}

// port leaves a service port out for a while.
func (w *withheld) port(config *haproxy.Config, port int, why string, now time.Time) {
	p := signalbox.Problem{
		Code: "SB402", Severity: signalbox.SeverityError,
		Value:   fmt.Sprint(port),
		Message: fmt.Sprintf("the service port %d %s", port, why),
		Action:  "the port is left out and tried again",
	}
	for _, l := range config.Listeners {
		if l.Port == port {
			if b := backend(config, l.Backend); b != nil {
				p.App = b.App
			}
		}
	}
	w.ports[port] = heldPort{now.Add(portRetry), p}
}

// expired reports whether a port's time is over, and forgets it then.
func (w *withheld) expired(now time.Time) bool {
	n := len(w.ports)
	for port, h := range w.ports {
		if now.After(h.until) {
			delete(w.ports, port)
		}
	}
	return len(w.ports) < n
}

// accepted says that a configuration was taken: the rounds start again.
func (w *withheld) accepted() { w.rounds = 0 }

// apply returns want less what is withheld: want itself when nothing is. ran is what ran last, with the last good of each app. An app whose definition changed is tried again.
func (w *withheld) apply(want, ran *haproxy.Config) *haproxy.Config {
	if want == nil || len(w.apps) == 0 && len(w.ports) == 0 {
		return want
	}
	for app, h := range w.apps {
		if shapeOf(want, app) != h.shape {
			delete(w.apps, app)
		}
	}
	out := *want
	gone := map[string]bool{}
	subs := map[*haproxy.Backend]*haproxy.Backend{}
	out.Backends = nil
	for _, b := range want.Backends {
		h, held := w.apps[b.App]
		if !held || b.Retired {
			out.Backends = append(out.Backends, b)
			continue
		}
		old := backend(ran, b.Name)
		if h.drop || old == nil || old.Service != b.Service && !b.Fits(old) {
			gone[b.Name] = true
			continue
		}
		grew := len(old.Slots) < len(b.Slots) && shape(old) == shape(b) // and nothing else of it changed
		if shape(old) == shape(b) && !grew {
			gone[b.Name] = true
			continue
		}
		sub := w.subs[b]
		if sub == nil {
			c := *old
			if old.Service != b.Service { // it took a spare one since, which is as it was loaded
				c = *b
			}
			c.Slots, c.Retired, c.Resting = b.Slots, false, false
			if grew {
				c.Slots = b.Sized(len(old.Slots)).Slots
			}
			if old.Check.Kind == signalbox.CheckOff { // which has no port
				c.Slots = slices.Clone(c.Slots)
				for i := range c.Slots {
					c.Slots[i].CheckPort = 0
				}
			}
			sub = &c
		}
		subs[b] = sub
		out.Backends = append(out.Backends, sub)
	}
	w.subs = subs
	out.Routes, out.Ways = want.Routes.Without(gone), want.Ways.Without(gone)
	out.Settings = want.Settings.As(slices.Collect(maps.Values(subs))).Without(gone)
	out.Listeners = slices.DeleteFunc(slices.Clone(want.Listeners), func(l *haproxy.Listener) bool {
		_, held := w.ports[l.Port]
		return held || gone[l.Backend]
	})
	return &out
}

// problems returns what is withheld, sorted.
func (w *withheld) problems() []signalbox.Problem {
	if len(w.apps) == 0 && len(w.ports) == 0 {
		return nil
	}
	var out []signalbox.Problem
	for _, h := range w.apps {
		out = append(out, h.problem)
	}
	for _, h := range w.ports {
		out = append(out, h.problem)
	}
	slices.SortFunc(out, signalbox.Problem.Compare)
	return out
}

// shapeOf returns what a configuration says about an app, its servers aside.
func shapeOf(c *haproxy.Config, app string) string {
	s := ""
	for _, b := range c.Backends {
		if b.App == app && !b.Retired {
			s += shape(b) + "\n"
		}
	}
	for _, l := range c.Listeners {
		if b := backend(c, l.Backend); b != nil && b.App == app {
			s += fmt.Sprintf("%+v\n", *l)
		}
	}
	return s
}

func shape(b *haproxy.Backend) string {
	c := *b
	c.Slots = nil
	j, err := json.Marshal(c)
	if err != nil {
		return fmt.Sprintf("%+v", c)
	}
	return string(j)
}
