package haproxy

import (
	"fmt"
	"maps"
	"slices"

	"signalbox"
)

// Diff returns what leads from the running state to a wanted one. The commands can be sent even if reasons to reload remain:
// they then do what can be done without, and name nothing that does not run. They are in an order in which no request meets a
// host without its servers: tasks come, names, splits, hosts; then hosts go, splits, names, tasks.
func Diff(running, want *Config) Plan { return diff(running, want, massChange) }

// diff is Diff with another number of entries from which on a map is replaced.
func diff(running, want *Config, mass int) Plan {
	if running == nil || running.Options == nil {
		return Plan{Reasons: []Reason{FirstConfig}}
	}
	d := differ{running: running, want: want, mass: mass, reasons: make(map[Reason]bool), along: make(map[Reason]bool)}
	d.reason(OptionsChanged, !running.Options.loadsAs(want.Options))
	d.reason(CertificatesChanged, running.Options.tls() != want.Options.tls()) // that some are others is for whoever has them
	target := followed(running, want)
	// What a server is asked for stands before it comes, and until it has gone.
	d.entries(running.Checks, target.Checks, running.Options.MapPath(ChecksMap))
	d.backends()
	d.listeners()
	d.reason(ListenerChanged, running.Passthrough != want.Passthrough || !slices.Equal(running.PortBinds, want.PortBinds))
	d.reason(RegexesChanged, !equalEntries(running.HostRegexes, want.HostRegexes) || !equalEntries(running.PathRegexes, want.PathRegexes))
	d.maps(target)
	return Plan{Commands: append(d.come, d.leave...), Reasons: d.sorted(), Opens: d.opens, Left: d.left}
}

// AfterReload returns the commands that a worker needs which has just loaded the file of want: the file can't say that a server
// drains, nor that a new task of unknown health waits for its first check. Tasks that running had ready are not made to wait
// again, and with nothing running before none is.
//
// A server starts, and leaves maintenance, as if its checks had passed. On 2.6 "health down" in the drain state before "ready"
// keeps requests away until two checks have passed, the first of which comes within the check's interval.
func AfterReload(running, want *Config) []Command {
	var out []Command
	before := make(map[signalbox.ServiceID]*Backend) // a service may have moved
	if running != nil {
		for _, b := range running.Backends {
			if !b.Retired {
				before[b.Service] = b
			}
		}
	}
	for _, b := range want.Backends {
		for _, s := range b.Slots {
			switch {
			case s.Admin == Drain:
				out = append(out, setServer(b, s, "state ready", "drain "+s.Task), setServer(b, s, "state drain", "drain "+s.Task))
			case s.Gated && running != nil && running.Options != nil && !before[b.Service].served(s):
				out = append(out, gate(b, s)...)
			}
		}
	}
	return out
}

// served reports whether a task is ready in b, which may be nil.
func (b *Backend) served(s Server) bool {
	return b != nil && slices.ContainsFunc(b.Slots, func(o Server) bool {
		return o.Task == s.Task && o.Addr == s.Addr && o.Admin == Ready
	})
}

// Applied returns the state that HAProxy has once it has accepted the commands of Diff(running, want) and was not reloaded.
// Where that is all that want asks for, it is want itself.
func Applied(running, want *Config) *Config {
	if running == nil || running.Options == nil {
		return running
	}
	plan := Diff(running, want)
	if len(plan.Reasons) == 0 && len(plan.Left) == 0 {
		return want
	}
	c := &Config{Options: running.Options, Listeners: running.Listeners, Certificates: running.Certificates, Problems: want.Problems}
	if running.canShow(want) {
		c.Options, c.Certificates = want.Options, want.Certificates
	}
	for _, r := range running.Backends {
		w := want.Backend(r.Name)
		switch {
		case w == r:
		case w == nil || !w.succeeds(r) || w.Retired && !r.Retired: // it is left
			if r.Retired {
				r = r.emptied()
			}
		default:
			a := *w
			if !w.Fits(r) {
				a.Mode, a.Check, a.Policy = r.Mode, r.Check, r.Policy
			}
			n := min(len(r.Slots), len(w.Slots))
			if r.canAdd(w, want.Options) {
				n = len(w.Slots)
			}
			a.Slots = append(slices.Clone(w.Slots[:n]), r.Slots[min(n, len(r.Slots)):]...)
			for i := range a.Slots {
				if i >= n {
					a.Slots[i].free()
				}
				if i < len(r.Slots) {
					a.Slots[i].Pace = r.Slots[i].Pace
				}
				if i < len(r.Slots) && !r.checked() {
					a.Slots[i].CheckPort = r.Slots[i].CheckPort
				}
			}
			r = &a
		}
		c.Backends = append(c.Backends, r)
	}
	f := followed(running, want)
	c.Settings, c.Routes, c.Ways = f.Settings, f.Routes, f.Ways
	return c
}

// Emptied returns the state that HAProxy has once it has accepted the commands, which empty some backends that were left, by name.
func Emptied(running *Config, left []string) (*Config, []Command) {
	c := *running
	c.Backends = slices.Clone(running.Backends)
	d := differ{running: running, want: &c} // whose slots have the same paces
	for i, b := range c.Backends {
		if slices.Contains(left, b.Name) {
			c.Backends[i] = b.retire()
			d.servers(b, c.Backends[i])
		}
	}
	return &c, append(d.come, d.leave...)
}

// Whole returns the commands of Diff(running, want) with those that empty what is left: for whom nobody is on their way.
func (p Plan) Whole(running, want *Config) []Command {
	if len(p.Left) == 0 {
		return p.Commands
	}
	_, more := Emptied(Applied(running, want), p.Left)
	return slices.Concat(p.Commands, more)
}

type differ struct {
	running, want *Config
	mass          int
	come, leave   []Command
	reasons       map[Reason]bool
	along         map[Reason]bool // of what goes along with a reload, and is a reason where no other is left
	opens         bool
	left          []string                       // backends
	backendOf     map[signalbox.ServiceID]string // what want has; nil until it is asked for
}

func (d *differ) reason(r Reason, holds bool) {
	if holds {
		d.reasons[r] = true
	}
}

func (d *differ) sorted() []Reason {
	if len(d.reasons) == 0 {
		return slices.Sorted(maps.Keys(d.along))
	}
	return slices.Sorted(maps.Keys(d.reasons))
}

func (d *differ) backends() {
	from, to := d.running.Backends, d.want.Backends
	if sameSlice(from, to) {
		return
	}
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(from) > 0 && len(to) > 0 && from[0] == to[0]:
			from, to = from[1:], to[1:]
		case len(to) == 0 || len(from) > 0 && from[0].Name < to[0].Name:
			d.reason(BackendRemoved, !from[0].Retired)
			d.along[SparesChanged] = true
			d.leaves(from[0])
			from = from[1:]
		case len(from) == 0 || to[0].Name < from[0].Name:
			d.added(to[0])
			to = to[1:]
		default:
			d.backend(from[0], to[0])
			from, to = from[1:], to[1:]
		}
	}
}

// added notes why a backend is new.
func (d *differ) added(b *Backend) {
	kind, common := b.shape()
	switch {
	case b.Retired:
		d.along[SparesChanged] = true
	case !common || d.want.Options.SpareSlots == 0 ||
		slices.ContainsFunc(d.want.Listeners, func(l *Listener) bool { return l.Backend == b.Name }):
		d.reasons[BackendAdded] = true
	case slices.ContainsFunc(d.running.Backends, func(r *Backend) bool { k, ok := r.shape(); return ok && k == kind && isSpare(r.Name) }):
		d.reasons[SparesExhausted] = true
	default:
		d.reasons[NoSpare] = true
	}
}

// leaves notes that a running backend is to be emptied, unless its service has no other one that serves.
func (d *differ) leaves(b *Backend) {
	if b.Retired {
		d.servers(b, b.retire().emptied())
		return
	}
	if d.backendOf == nil {
		d.backendOf = make(map[signalbox.ServiceID]string, len(d.want.Names))
		for _, e := range d.want.Names {
			d.backendOf[signalbox.ServiceID(e.Value)] = e.Key
		}
	}
	if now, ok := d.backendOf[b.Service]; !ok || serves(d.running, d.want, now) {
		d.left = append(d.left, b.Name)
	}
}

func (d *differ) backend(from, to *Backend) {
	if !to.succeeds(from) {
		d.added(to)
		d.leaves(from)
		return
	}
	d.reason(ModeChanged, from.Mode != to.Mode)
	d.reason(CheckChanged, !from.sameCheck(to))
	d.reason(PolicyChanged, !from.samePolicy(to))
	grows := from.canAdd(to, d.want.Options)
	d.reason(SlotsExhausted, len(from.Slots) < len(to.Slots) && !grows)
	d.reason(SlotsShrunk, len(from.Slots) > len(to.Slots))
	if to.Retired && !from.Retired {
		d.leaves(from)
		return
	}
	if grows {
		from = d.add(from, to)
	}
	d.servers(from, to)
}

// add gives HAProxy the servers that to has more than from, free at first, and returns from with them.
func (d *differ) add(from, to *Backend) *Backend {
	grown := from.Sized(len(to.Slots))
	for i := len(from.Slots); i < len(grown.Slots); i++ {
		grown.Slots[i].Pace = to.Slots[i].Pace
		d.come = append(d.come, added(to, grown.Slots[i], i+1, d.want.Options)...)
	}
	return grown
}

// servers compares slot by slot. Slots that only one side has wait for the reload, free of tasks. Servers that become usable
// come first, so that no moment is without one.
func (d *differ) servers(from, to *Backend) {
	var later []Command
	for i, f := range from.Slots {
		t := f
		if i < len(to.Slots) {
			t = to.Slots[i]
		} else {
			t.free()
		}
		if !from.checked() {
			t.CheckPort = f.CheckPort // the check comes with the reload, and its port with it
		}
		if f.Pace != t.Pace {
			d.along[PacesChanged] = true
			t.Pace = f.Pace
		}
		if f == t {
			continue
		}
		commands := server(to, f, t)
		switch {
		case t.usable() && !f.usable():
			d.come = append(d.come, commands...)
		case t.Admin == Ready:
			later = append(later, commands...)
		default:
			d.leave = append(d.leave, commands...)
		}
	}
	d.come = append(d.come, later...)
	if !slices.ContainsFunc(from.Slots, Server.usable) && slices.ContainsFunc(to.Slots[:min(len(to.Slots), len(from.Slots))], Server.usable) {
		d.opens = true
	}
}

// server returns the commands that turn one slot from f to t.
func server(b *Backend, f, t Server) []Command {
	var out []Command
	do := func(what, why string) { out = append(out, setServer(b, t, what, why)) }
	moved := f.Addr != t.Addr
	fresh := moved || f.Task != t.Task && !f.anonymous()
	admin := f.Admin
	if admin != Maint && (t.Admin == Maint || fresh) {
		do("state maint", "leaves: "+f.Task)
		admin = Maint
	}
	if moved && t.Addr.IsValid() {
		do(fmt.Sprintf("addr %s port %d", t.Addr.Addr(), t.Addr.Port()), "address of "+t.Task)
	}
	if f.CheckPort != t.CheckPort {
		do(fmt.Sprintf("check-port %d", t.CheckPort), "what is probed of "+t.Task)
	}
	if f.Weight != t.Weight {
		do(fmt.Sprintf("weight %d", t.Weight), "preference of "+t.Task)
	}
	switch {
	case t.Admin == Ready && admin != Ready && t.Gated:
		out = append(out, gate(b, t)...)
	case t.Admin == Ready && admin != Ready:
		do("state ready", "takes traffic: "+t.Task)
		if admin == Drain && f.Gated {
			do("health up", "known to be healthy: "+t.Task)
		}
	case t.Admin == Drain && admin != Drain:
		do("state drain", "drains: "+t.Task)
		if t.Gated && !f.Gated { // it comes from another backend, where it waited
			do("health down", "waits for a check: "+t.Task)
		}
	case t.Admin == Ready && f.Gated && !t.Gated:
		do("health up", "known to be healthy: "+t.Task)
	case t.Admin == Ready && !f.Gated && t.Gated:
		do("health down", "waits for a check: "+t.Task)
	}
	return out
}

// gate returns the commands by which a server that leaves maintenance waits for its first check.
func gate(b *Backend, s Server) []Command {
	why := "waits for a check: " + s.Task
	return []Command{setServer(b, s, "state drain", why), setServer(b, s, "health down", why), setServer(b, s, "state ready", why)}
}

func setServer(b *Backend, s Server, what, why string) Command {
	return Command{Text: "set server " + b.Name + "/" + s.Name + " " + what, Why: why}
}

// maps brings the maps, but that of checks, to what can be followed before a reload.
func (d *differ) maps(target *Config) {
	to := target.Maps()
	for i, m := range d.running.Maps() {
		if !m.Ordered && m.Name != ChecksMap {
			d.entries(*m.Entries, *to[i].Entries, d.running.Options.MapPath(m.Name))
		}
	}
}

// massChange is how many entries of one map are set, or removed, one by one. On 2.6 each of these among 10,000 takes 0.13 ms, or 0.07 ms,
// because HAProxy looks at every other one; the whole map is replaced in 100 ms.
const massChange = 1000

// MapVersion stands in a command where HAProxy expects the version of a map that the last "prepare map" made.
const MapVersion = "@VERSION"

// entries brings a map from one list to another. What it removes goes before what was removed of maps that it refers to.
func (d *differ) entries(from, to []MapEntry, path string) {
	if sameSlice(from, to) {
		return
	}
	var come, leave []Command
	sets, twice := 0, false
	walkEntries(from, to, func(old, now *MapEntry) {
		switch {
		case now == nil:
			leave = append(leave, Command{"del map " + path + " " + old.Key, "gone: " + old.Key})
		case old == nil:
			come = append(come, Command{"add map " + path + " " + now.Key + " " + now.Value, "new: " + now.Key})
		case *old != *now:
			come = append(come, Command{"set map " + path + " " + now.Key + " " + now.Value, "changed: " + now.Key})
			sets, twice = sets+1, twice || old.Value == ""
		}
	})
	d.opens = d.opens || len(come) > 0
	if sets > d.mass || twice { // of two entries with one key "set map" finds one
		come = replaceMap(path, union(from, to))
	}
	if len(leave) > d.mass {
		leave = replaceMap(path, to)
	}
	d.come = append(d.come, come...)
	d.leave = append(leave, d.leave...)
}

// union returns the entries of to, and those of from whose keys to lacks.
func union(from, to []MapEntry) []MapEntry {
	out := make([]MapEntry, 0, max(len(from), len(to)))
	walkEntries(from, to, func(old, now *MapEntry) {
		if now == nil {
			now = old
		}
		out = append(out, *now)
	})
	return out
}

// replaceMap returns the commands that give a map other entries in one moment.
func replaceMap(path string, entries []MapEntry) []Command {
	out := make([]Command, 0, len(entries)+2)
	why := fmt.Sprintf("the whole map: %d entries", len(entries))
	out = append(out, Command{"prepare map " + path, why})
	for _, e := range entries {
		out = append(out, Command{"add map " + MapVersion + " " + path + " " + e.Key + " " + e.Value, why})
	}
	return append(out, Command{"commit map " + MapVersion + " " + path, why})
}

func (d *differ) listeners() {
	from, to := d.running.Listeners, d.want.Listeners
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].Port < to[0].Port:
			d.reason(ListenerRemoved, true)
			from = from[1:]
		case len(from) == 0 || to[0].Port < from[0].Port:
			d.reason(ListenerAdded, true)
			to = to[1:]
		default:
			d.reason(ListenerChanged, *from[0] != *to[0])
			from, to = from[1:], to[1:]
		}
	}
}

// sameSlice reports whether two slices are one.
func sameSlice[E any](a, b []E) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
