package control

import (
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// appRefills is how many times longer an app waits for one more reload of its own than everybody does.
const appRefills = 6

// budget holds reloads to a bucket of tokens that is everybody's. An app has a smaller one besides: if its changes alone have led to the
// last reloads it waits by itself, so that what is left of the common one, and what comes in, is there for others. Whatever waits
// goes along with the next reload of anybody.
type budget struct {
	burst  int
	refill time.Duration
	all    tokens
	apps   map[string]*tokens // those that are not full
	late   map[string]bool    // apps that wait by themselves
}

// tokens is what is left of a bucket.
type tokens struct {
	left float64
	at   time.Time
}

func newBudget(burst int, refill time.Duration) budget {
	return budget{
		burst: burst, refill: refill, all: tokens{float64(burst), time.Now()},
		apps: map[string]*tokens{}, late: map[string]bool{},
	}
}

// appBurst is how many reloads in a row one app may cause.
func (b *budget) appBurst() int { return max(1, b.burst-2) }

func (t *tokens) fill(now time.Time, burst int, refill time.Duration) {
	t.left = min(float64(burst), t.left+max(0, now.Sub(t.at).Seconds())/refill.Seconds())
	t.at = now
}

// take takes a token for a reload that some apps ask for, none if it is not theirs. It reports whether there was one.
func (b *budget) take(now time.Time, apps []string) bool {
	b.all.fill(now, b.burst, b.refill)
	for app, t := range b.apps {
		if t.fill(now, b.appBurst(), appRefills*b.refill); t.left >= float64(b.appBurst()) {
			delete(b.apps, app)
		}
	}
	poor := func(app string) bool { t := b.apps[app]; return t != nil && t.left < 1 }
	clear(b.late)
	if len(apps) > 0 && !slices.ContainsFunc(apps, func(app string) bool { return !poor(app) }) {
		for _, app := range apps {
			b.late[app] = true
		}
		return false
	}
	if b.all.left < 1 {
		return false
	}
	b.all.left--
	for _, app := range apps {
		t := b.apps[app]
		if t == nil {
			t = &tokens{float64(b.appBurst()), now}
			b.apps[app] = t
		}
		t.left = max(0, t.left-1)
	}
	return true
}

// problems returns which apps wait by themselves, sorted.
func (b *budget) problems() []signalbox.Problem {
	out := make([]signalbox.Problem, 0, len(b.late))
	for _, app := range slices.Sorted(maps.Keys(b.late)) {
		out = append(out, signalbox.Problem{
			Code: "SB403", Severity: signalbox.SeverityWarning, App: app,
			Message: "its changes have asked for one reload of HAProxy after the other",
			Action:  "what it asks for waits, and goes along with the next reload",
		})
	}
	return out
}

// ofApps are the reasons to reload that are some app's.
var ofApps = map[haproxy.Reason]bool{
	haproxy.BackendAdded: true, haproxy.NoSpare: true, haproxy.SparesExhausted: true, haproxy.BackendRemoved: true, haproxy.SlotsExhausted: true, haproxy.SlotsShrunk: true,
	haproxy.ModeChanged: true, haproxy.CheckChanged: true, haproxy.PolicyChanged: true, haproxy.RegexesChanged: true,
	haproxy.ListenerAdded: true, haproxy.ListenerRemoved: true, haproxy.ListenerChanged: true,
}

// askers returns the apps for whose sake HAProxy has to load want, sorted; none if one of the reasons is no app's.
func askers(running, want *haproxy.Config, reasons []haproxy.Reason) []string {
	if running == nil || slices.ContainsFunc(reasons, func(r haproxy.Reason) bool { return !ofApps[r] }) {
		return nil
	}
	apps := changedApps(running, want)
	return slices.Sorted(maps.Keys(apps))
}

// changedApps returns the apps whose share of two configurations differs in what only a reload changes. One that leaves asks for none.
func changedApps(from, to *haproxy.Config) map[string]bool {
	apps := map[string]bool{}
	if from == nil {
		from = &haproxy.Config{}
	}
	of := map[string]string{} // app by backend
	known := map[string]*haproxy.Backend{}
	for _, b := range from.Backends {
		of[b.Name], known[b.Name] = b.App, b
	}
	for _, b := range to.Backends {
		of[b.Name] = b.App
		old := known[b.Name]
		if !b.Retired && old != b && (old == nil || len(old.Slots) != len(b.Slots) || !b.Fits(old)) {
			apps[b.App] = true
		}
	}
	listeners := map[haproxy.Listener]bool{}
	for _, l := range from.Listeners {
		listeners[*l] = true
	}
	for _, l := range to.Listeners {
		if !listeners[*l] {
			apps[of[l.Backend]] = true
		}
		delete(listeners, *l)
	}
	for l := range listeners {
		apps[of[l.Backend]] = true
	}
	for e := range differing(from.PathRegexes, to.PathRegexes) {
		apps[of[e.Value]] = true
	}
	for e := range differing(from.HostRegexes, to.HostRegexes) { // whose value is the name that paths begin with
		for _, h := range slices.Concat(from.Hosts, to.Hosts, from.Exact, to.Exact) {
			if rest, ok := strings.CutPrefix(h.Key, e.Value); ok && strings.HasPrefix(rest, "/") {
				apps[of[h.Value]] = true
			}
		}
	}
	delete(apps, "")
	return apps
}

// differing returns the entries that only one of two lists has.
func differing(from, to []haproxy.MapEntry) map[haproxy.MapEntry]bool {
	out := map[haproxy.MapEntry]bool{}
	for _, e := range from {
		out[e] = true
	}
	for _, e := range to {
		if out[e] {
			delete(out, e)
		} else {
			out[e] = true
		}
	}
	return out
}
