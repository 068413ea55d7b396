package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"signalbox"
	"signalbox/haproxy"
)

// errShape says that HAProxy does not run the backends and servers that it was believed to run.
var errShape = errors.New("HAProxy runs other backends or servers than it was given")

// actual is what a worker says that it runs.
type actual struct {
	servers []ServerState
	maps    [][]haproxy.MapEntry // of each of Config.Maps; sorted by key, each key once, but where the order counts
}

// kindOf names a map in logs and metrics: "hosts" is in hosts.map.
func kindOf(m haproxy.Map) string { return strings.TrimSuffix(m.Name, ".map") }

// difference is one place where the running state is not the model's.
type difference struct{ kind, what string }

// observe asks a worker for everything that commands can change, of a configuration with the maps of base.
func (a *Applier) observe(ctx context.Context, rt *Runtime, w Worker, base *haproxy.Config) (actual, error) {
	var act actual
	commands := []string{"show servers state"}
	maps := base.Maps()
	for _, m := range maps {
		commands = append(commands, "show map "+filepath.Join(a.cfg.Dir, m.Name))
	}
	answers, err := rt.exchange(ctx, w, commands, nil)
	if err != nil {
		return act, err
	}
	if act.servers, err = ParseServersState(answers[0]); err != nil {
		return act, fmt.Errorf("reading the servers' state: %w", err)
	}
	for i, m := range maps {
		lines, err := ParseMap(answers[i+1])
		if err != nil {
			return act, fmt.Errorf("reading the map of %s: %w", kindOf(m), err)
		}
		act.maps = append(act.maps, entries(lines, m.Ordered))
	}
	return act, nil
}

func entries(lines []MapLine, ordered bool) []haproxy.MapEntry {
	out := make([]haproxy.MapEntry, len(lines))
	for i, l := range lines {
		out[i] = haproxy.MapEntry(l)
	}
	if ordered {
		return out
	}
	slices.SortStableFunc(out, func(x, y haproxy.MapEntry) int { return strings.Compare(x.Key, y.Key) })
	for i := 1; i < len(out); i++ {
		if out[i].Key == out[i-1].Key && out[i].Value != out[i-1].Value { // which one counts is not known: neither does
			out[i-1].Value, out[i].Value = "", ""
		}
	}
	return slices.CompactFunc(out, func(x, y haproxy.MapEntry) bool { return x.Key == y.Key })
}

// readBack returns base as it really runs: base's shape with the observed addresses, states, weights and map entries. Where nothing
// differs, base's own values are kept, pointers included. The task of a server that differs is found by its address in hint or base.
// The error wraps errShape when a backend or server of base is missing. Where servers can be added, backends may have more or fewer.
func readBack(base, hint *haproxy.Config, act actual) (*haproxy.Config, []difference, error) {
	var diffs []difference
	index := make(map[string][]ServerState, len(base.Backends))
	for i := 0; i < len(act.servers); {
		j := i + 1
		for j < len(act.servers) && act.servers[j].Backend == act.servers[i].Backend {
			j++
		}
		index[act.servers[i].Backend] = act.servers[i:j]
		i = j
	}
	canAdd := base.Options != nil && base.Options.AddServers || hint != nil && hint.Options != nil && hint.Options.AddServers
	out := *base
	copied := false
	for i, b := range base.Backends {
		got := index[b.Name]
		var slots []haproxy.Server
		if len(got) != len(b.Slots) {
			if !canAdd || len(got) == 0 {
				return nil, nil, fmt.Errorf("%w: backend %s has %d servers instead of %d", errShape, b.Name, len(got), len(b.Slots))
			}
			// Servers were added that the file did not say yet, or were lost with a worker.
			diffs = append(diffs, difference{"server", fmt.Sprintf("%s has %d servers instead of %d", b.Name, len(got), len(b.Slots))})
			more := len(b.Slots)
			b = b.Sized(len(got))
			slots = b.Slots
			if h := backend(hint, b.Name); h != nil { // as they were added
				for k := more; k < min(len(slots), len(h.Slots)); k++ {
					slots[k].Pace = h.Slots[k].Pace
				}
			}
		}
		for k, s := range b.Slots {
			st := got[k]
			if st.Name != s.Name {
				at := slices.IndexFunc(got, func(x ServerState) bool { return x.Name == s.Name })
				if at < 0 {
					return nil, nil, fmt.Errorf("%w: no server %s/%s", errShape, b.Name, s.Name)
				}
				st = got[at]
			}
			if sameServer(s, st) {
				continue
			}
			if slots == nil {
				slots = slices.Clone(b.Slots)
			}
			slots[k] = haproxy.Server{Name: s.Name, Addr: st.Addr, Admin: st.Admin, Weight: st.Weight, CheckPort: st.CheckPort, Pace: s.Pace}
			if st.Admin != haproxy.Maint {
				slots[k].Task = taskAt(st.Addr, backend(hint, b.Name), b)
			}
			diffs = append(diffs, difference{"server", fmt.Sprintf("%s/%s is %s %s weight %d instead of %s %s weight %d",
				b.Name, s.Name, st.Admin, st.Addr, st.Weight, s.Admin, s.Addr, s.Weight)})
		}
		if slots != nil {
			if !copied {
				out.Backends, copied = slices.Clone(base.Backends), true
			}
			c := *b
			c.Slots = slots
			out.Backends[i] = &c
		}
	}
	for i, m := range out.Maps() {
		got := act.maps[i]
		if slices.Equal(*m.Entries, got) {
			continue
		}
		if m.Ordered {
			diffs = append(diffs, difference{kindOf(m), fmt.Sprintf("it has other entries, or another order: %d instead of %d", len(got), len(*m.Entries))})
		} else {
			diffs = append(diffs, mapDifferences(kindOf(m), *m.Entries, got)...)
		}
		*m.Entries = got
	}
	if len(diffs) == 0 {
		return base, nil, nil
	}
	return &out, diffs, nil
}

// owned returns a configuration that was read back with the services that its backends have by the map of names: a spare one may have been
// taken or left since the file was written. It is c itself where all are those that the file says.
func owned(c, hint *haproxy.Config) *haproxy.Config {
	names := make(map[string]signalbox.ServiceID, len(c.Names))
	for _, e := range c.Names {
		names[e.Key] = signalbox.ServiceID(e.Value)
	}
	out := c
	for i, b := range c.Backends {
		id, taken := names[b.Name]
		if taken == !b.Retired && (!taken || id == b.Service || !b.Spare()) {
			continue
		}
		o := *b
		if o.Retired, o.Resting = !taken, !taken; taken && b.Spare() {
			o.Service, o.App = id, string(id)[:max(strings.LastIndexByte(string(id), ':'), 0)]
			if h := backend(hint, b.Name); h != nil && h.Service == id {
				o.App = h.App
			}
		}
		if out == c {
			copied := *c
			copied.Backends = slices.Clone(c.Backends)
			out = &copied
		}
		out.Backends[i] = &o
	}
	return out
}

// sameServer compares what a later command relies on. A server in maintenance keeps its address and weight for the next task, unless it
// may have any address.
func sameServer(s haproxy.Server, st ServerState) bool {
	anyAddr := s.Admin == haproxy.Maint && !s.Addr.IsValid()
	return s.Admin == st.Admin && s.Weight == st.Weight && s.CheckPort == st.CheckPort && (anyAddr || s.Addr == st.Addr)
}

func taskAt(addr netip.AddrPort, backends ...*haproxy.Backend) string {
	for _, b := range backends {
		if b == nil {
			continue
		}
		for _, s := range b.Slots {
			if s.Task != "" && s.Addr == addr {
				return s.Task
			}
		}
	}
	return ""
}

func backend(c *haproxy.Config, name string) *haproxy.Backend {
	if c == nil {
		return nil
	}
	return c.Backend(name)
}

func mapDifferences(kind string, want, got []haproxy.MapEntry) []difference {
	var out []difference
	for len(want) > 0 || len(got) > 0 {
		switch {
		case len(got) == 0 || len(want) > 0 && want[0].Key < got[0].Key:
			out = append(out, difference{kind, want[0].Key + " is missing"})
			want = want[1:]
		case len(want) == 0 || got[0].Key < want[0].Key:
			out = append(out, difference{kind, got[0].Key + " is too many"})
			got = got[1:]
		default:
			if want[0] != got[0] {
				out = append(out, difference{kind, want[0].Key + " leads to " + got[0].Value + " instead of " + want[0].Value})
			}
			want, got = want[1:], got[1:]
		}
	}
	return out
}
