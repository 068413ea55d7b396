package haproxy

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

// model is what a HAProxy knows, changed by runtime commands as the real one changes it. It is strict: what does not exist can't
// be set, added or removed.
type model struct {
	servers  map[string]Server
	unprobed map[string]bool // servers without a check
	maps     map[string]map[string]string
	prepared map[string]map[string]string // versions of maps that are not in force
}

func load(c *Config) *model {
	m := &model{servers: make(map[string]Server), unprobed: make(map[string]bool), maps: make(map[string]map[string]string)}
	for _, b := range c.Backends {
		for _, s := range b.Slots {
			s.Task = ""
			m.servers[b.Name+"/"+s.Name] = s
			if b.Check.Kind == signalbox.CheckOff {
				m.unprobed[b.Name+"/"+s.Name] = true
			}
		}
	}
	for _, list := range c.Maps() {
		entries := make(map[string]string)
		for _, e := range *list.Entries {
			entries[e.Key] = e.Value
		}
		m.maps[c.Options.MapPath(list.Name)] = entries
	}
	return m
}

// paceOf returns the pace that the words of a server say.
func paceOf(words []string) Pace {
	for i, w := range words {
		switch {
		case w == "rise" && words[i+1] == "1":
			return Quick
		case w == "inter" && (words[i+1] == "30000ms" || words[i+1] == "50000ms"):
			return Far
		}
	}
	return Active
}

func (m *model) apply(c Command) error {
	f := strings.Split(c.Text, " ")
	switch f[0] + " " + f[1] {
	case "set server":
		s, ok := m.servers[f[2]]
		if !ok {
			return fmt.Errorf("%s: no such server", c.Text)
		}
		switch f[3] {
		case "addr":
			port, err := strconv.ParseUint(f[6], 10, 16)
			if err != nil || f[5] != "port" {
				return fmt.Errorf("%s: bad port", c.Text)
			}
			s.Addr = netip.AddrPortFrom(netip.MustParseAddr(f[4]), uint16(port))
		case "check-port":
			port, err := strconv.ParseUint(f[4], 10, 16)
			if err != nil || m.unprobed[f[2]] {
				return fmt.Errorf("%s: bad port, or no check", c.Text)
			}
			s.CheckPort = uint16(port)
		case "weight":
			s.Weight, _ = strconv.Atoi(f[4])
		case "state":
			s.Admin = AdminState(f[4])
			if s.Admin == Maint {
				s.Gated = false
			}
		case "health":
			s.Gated = f[4] == "down"
		default:
			return fmt.Errorf("%s: unknown", c.Text)
		}
		m.servers[f[2]] = s
		return nil
	case "add server":
		backend, name, _ := strings.Cut(f[2], "/")
		if _, has := m.servers[f[2]]; has || m.servers[backend+"/s1"].Name == "" || !slices.Contains(f, "disabled") {
			return fmt.Errorf("%s: the server is there, or its backend is not, or it starts enabled", c.Text)
		}
		m.servers[f[2]] = Server{Name: name, Admin: Maint, Weight: NormalWeight, Pace: paceOf(f)}
		if !slices.Contains(f, "check") {
			m.unprobed[f[2]] = true
		}
		return nil
	case "enable health":
		if _, ok := m.servers[f[2]]; !ok || m.unprobed[f[2]] {
			return fmt.Errorf("%s: no such server, or no check", c.Text)
		}
		return nil
	case "prepare map":
		if m.maps[f[2]] == nil || m.prepared != nil {
			return fmt.Errorf("%s: no such map, or another one is being prepared", c.Text)
		}
		m.prepared = map[string]map[string]string{f[2]: {}}
		return nil
	case "commit map":
		if m.prepared[f[3]] == nil || f[2] != MapVersion {
			return fmt.Errorf("%s: it is not prepared", c.Text)
		}
		m.maps[f[3]], m.prepared = m.prepared[f[3]], nil
		return nil
	case "add map", "set map", "del map":
		if f[2] == MapVersion {
			entries := m.prepared[f[3]]
			if _, has := entries[f[4]]; entries == nil || has || f[0] != "add" || len(f) != 6 {
				return fmt.Errorf("%s: it is not prepared, or the entry is there", c.Text)
			}
			entries[f[4]] = f[5]
			return nil
		}
		entries, ok := m.maps[f[2]]
		if !ok {
			return fmt.Errorf("%s: no such map", c.Text)
		}
		if _, has := entries[f[3]]; has == (f[0] == "add") {
			return fmt.Errorf("%s: the entry is there: %v", c.Text, has)
		}
		if f[0] == "del" {
			delete(entries, f[3])
			return nil
		}
		if len(f) != 5 {
			return fmt.Errorf("%s: wants a key and a value", c.Text)
		}
		entries[f[3]] = f[4]
		return nil
	}
	return fmt.Errorf("%s: unknown", c.Text)
}

// holds checks what every request may rely on, between any two commands: a host leads to a backend that has a name.
func (m *model) holds(t *rapid.T, o *Options, after Command) {
	for _, name := range []string{HostsMap, ExactMap, PathRegexesMap} {
		for key, value := range m.maps[o.MapPath(name)] {
			if value == noPath {
				continue
			}
			to := []string{value}
			if isSplit(value) {
				to = nil
				for i := range buckets {
					to = append(to, m.maps[o.MapPath(SplitsMap)][bucketKey(value, i)])
				}
			}
			for _, backend := range to {
				if _, named := m.maps[o.MapPath(NamesMap)][backend]; !named {
					t.Fatalf("after %q %q leads to %q, which has no name", after.Text, key, backend)
				}
				if _, runs := m.servers[backend+"/s1"]; !runs {
					t.Fatalf("after %q %q leads to %q, which does not run", after.Text, key, backend)
				}
			}
		}
	}
}

// atRest returns the retired backends of a running Config, as if nobody were on their way to them.
func atRest(running *Config) map[string]signalbox.ServiceID {
	out := make(map[string]signalbox.ServiceID)
	for _, b := range running.Backends {
		if b.Retired {
			out[b.Name] = b.Service
		}
	}
	return out
}

// drawService draws one service of few possible ones, so that conflicts and returns are frequent.
func drawService(t *rapid.T, i int) *signalbox.Service {
	app := fmt.Sprintf("/a%d", i)
	s := &signalbox.Service{
		ID: signalbox.NewServiceID(app, 0), Source: "test", App: app, Mode: signalbox.HTTP,
		Since: time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "since")), 0),
	}
	if rapid.IntRange(0, 2).Draw(t, "policy") == 0 {
		s.Policy = drawPolicy(t)
	}
	if rapid.IntRange(0, 9).Draw(t, "tcp") == 0 {
		s.Mode = signalbox.TCP
		s.Policy.Passthrough = rapid.Bool().Draw(t, "passthrough")
	}
	if rapid.IntRange(0, 9).Draw(t, "tls") == 0 {
		s.Policy.TLS, s.Policy.PortTLS = rapid.SampledFrom([]string{"a", "b", "none"}).Draw(t, "certificate"), rapid.Bool().Draw(t, "port-tls")
	}
	if rapid.IntRange(0, 5).Draw(t, "listens") == 0 {
		s.Listen = rapid.SampledFrom([]int{10000, 10001, 10002, 20000, 18000, 70000}).Draw(t, "port")
	}
	s.Check.Kind = rapid.SampledFrom([]signalbox.CheckKind{"", "", "", "", signalbox.CheckOff, signalbox.CheckHTTP}).Draw(t, "check")
	s.Check.TLS = rapid.IntRange(0, 4).Draw(t, "check by TLS") == 0
	hosts := []string{"", "a.x", "b.x", "*.x", "a.x-y", "bad host", `~[a-z]\.x`}
	matches := []signalbox.Match{signalbox.Prefix, signalbox.Prefix, signalbox.Prefix, signalbox.Prefix, signalbox.Exact, signalbox.Exact, signalbox.Regex}
	for range rapid.IntRange(0, 3).Draw(t, "routes") {
		s.Routes = append(s.Routes, signalbox.Route{
			Host: rapid.SampledFrom(hosts).Draw(t, "host"), Path: rapid.SampledFrom([]string{"/", "/c", "/c/d", "bad"}).Draw(t, "path"),
			Match: rapid.SampledFrom(matches).Draw(t, "match"),
		})
	}
	if w := rapid.IntRange(-2, 2).Draw(t, "weight"); w >= 0 {
		s.Policy.Weight = &w
	}
	states := []signalbox.State{signalbox.Up, signalbox.Up, signalbox.Unknown, signalbox.Suspect, signalbox.Down, signalbox.Draining}
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 30), 0, 20, rapid.ID).Draw(t, "tasks") {
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{
			CheckPort: uint16(rapid.SampledFrom([]int{0, 0, 0, 1000 + n, 77}).Draw(t, "check port")),
			Host:      rapid.SampledFrom([]string{"", "here", "there"}).Draw(t, "agent"),
			Task:      fmt.Sprintf("t%d", n), State: rapid.SampledFrom(states).Draw(t, "state"),
			Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+n+rapid.IntRange(0, 1).Draw(t, "moved"))),
		})
	}
	slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
	return s
}

// drawStep draws the next table: services come, go, change or stay, the latter with their pointer.
func drawStep(t *rapid.T, now map[int]*signalbox.Service) *signalbox.Table {
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		i := rapid.IntRange(0, 7).Draw(t, "service")
		switch {
		case now[i] != nil && rapid.IntRange(0, 2).Draw(t, "goes") == 0:
			delete(now, i)
		case now[i] != nil && rapid.Bool().Draw(t, "scales"):
			s := *now[i]
			s.Endpoints = drawService(t, i).Endpoints
			now[i] = &s
		default:
			now[i] = drawService(t, i)
		}
	}
	return signalbox.NewTable(slices.Collect(maps.Values(now)), nil)
}

var private = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".made" }, cmp.Ignore())

func equalConfigs() []cmp.Option {
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	return []cmp.Option{private, cmp.Comparer((*Policy).Equal), same, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Transformer("nil", func(in []MapEntry) []MapEntry {
		if len(in) == 0 {
			return []MapEntry{}
		}
		return slices.Clip(in)
	})}
}

// What HAProxy has after the commands is what Applied says, and what was wanted if no reason to reload remains; and a Config
// built step by step says what one built at once around the same slots says.
func TestCommandsLeadToWhatWasBuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := testOptions("/d")
		o.MinSlots, o.AddServers = rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "slots"), rapid.Bool().Draw(t, "servers can be added")
		mass := rapid.SampledFrom([]int{0, 1, massChange}).Draw(t, "mass change")
		if rapid.Bool().Draw(t, "the node is known") {
			o.Node, o.FleetSize = []string{"here"}, rapid.SampledFrom([]int{0, 3, 500}).Draw(t, "fleet")
		}
		if rapid.Bool().Draw(t, "every way in") {
			o.HTTPSBind, o.AppIDBind, o.ServicePorts = []string{":443"}, []string{":9091"}, PortRange{10000, 10004}
			o.Certificates = []Certificate{{"a", []string{"*.x"}}, {"b", []string{"a.x", "b.x"}}}
		}
		o.SpareSlots = rapid.SampledFrom([]int{0, 64, 4096}).Draw(t, "spare slots")
		now := make(map[int]*signalbox.Service)
		running := Build(drawStep(t, now), o, nil)
		last := running
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			table := drawStep(t, now)
			want := Build(table, o, last)
			last = want
			checkBuilt(t, table, want)
			if again := Build(table, o, want); len(Diff(want, again).Commands) != 0 || !samePointers(want, again) {
				t.Fatalf("built again, the same table changes %v", Diff(want, again))
			}
			m := load(running)
			plan := diff(running, want, mass)
			for _, c := range plan.Commands {
				if err := m.apply(c); err != nil {
					t.Fatalf("%v\nall: %v", err, plan)
				}
				m.holds(t, o, c)
			}
			applied := Applied(running, want)
			if diff := differs(applied, m); diff != "" {
				t.Fatalf("what runs after %v (-Applied +commands):\n%s", plan, diff)
			}
			if rest := Diff(applied, want); len(rest.Commands) > 0 || !slices.Equal(rest.Reasons, plan.Reasons) || !slices.Equal(rest.Left, plan.Left) {
				t.Fatalf("what remains is %v, want the reasons and what is left of %v", rest, plan)
			}
			if len(plan.Left) > 0 && rapid.Bool().Draw(t, "a moment later") {
				emptied, commands := Emptied(applied, plan.Left)
				for _, c := range commands {
					if err := m.apply(c); err != nil {
						t.Fatal(err)
					}
					m.holds(t, o, c)
				}
				if rest := Diff(emptied, want); len(rest.Commands) > 0 || len(rest.Reasons) > 0 != (len(plan.Reasons) > 0) || len(rest.Left) > 0 {
					t.Fatalf("once it is emptied, %v remains", rest)
				}
				applied = Applied(emptied, want)
				if diff := differs(applied, m); diff != "" {
					t.Fatalf("what runs once it is emptied (-Applied +commands):\n%s", diff)
				}
				plan.Left = nil
			}
			if len(plan.Reasons) == 0 && len(plan.Left) == 0 && applied != want {
				t.Fatal("without a reason to reload the wanted state runs")
			}
			// Some reloads fail, or are put off: then the commands are all that happened.
			running = want
			if len(plan.Left) > 0 && len(plan.Reasons) == 0 || rapid.IntRange(0, 2).Draw(t, "no reload") == 0 {
				running = applied
			}
			at := atRest(running)
			if rapid.IntRange(0, 3).Draw(t, "some are on their way") == 0 {
				at = nil
			}
			last = last.Rested(at)
		}
	})
}

// differs returns what is otherwise in a HAProxy that has a Config than in the model, "" for nothing.
func differs(c *Config, m *model) string {
	says := load(c)
	for name, s := range says.servers {
		if m.unprobed[name] { // whatever its pace
			s.Pace = m.servers[name].Pace
			says.servers[name] = s
		}
		if !s.Addr.IsValid() { // a free slot that may have any
			s.Addr = m.servers[name].Addr
			says.servers[name] = s
		}
	}
	return cmp.Diff(says, m, cmp.AllowUnexported(model{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))
}

// checkBuilt holds a Config against its table and against one that is built without what the earlier one remembers.
func checkBuilt(t *rapid.T, table *signalbox.Table, c *Config) {
	forgetful := *c
	forgetful.made = made{}
	if diff := cmp.Diff(Build(table, c.Options, &forgetful), c, equalConfigs()...); diff != "" {
		t.Fatalf("(-anew +step by step):\n%s", diff)
	}
	for _, s := range table.Services {
		b := serving(c, s)
		if b == nil {
			t.Fatalf("%s has no backend, or several", s.ID)
		}
		for _, e := range s.Endpoints {
			i := slices.IndexFunc(b.Slots, func(x Server) bool { return x.Task == e.Task && x.Addr == e.Addr })
			if i < 0 && e.State != signalbox.Draining {
				t.Fatalf("%s has no slot for %s", s.ID, e.Task)
			}
			ready := e.State == signalbox.Up || e.State == signalbox.Unknown || e.State == signalbox.Suspect
			if i >= 0 && e.State == signalbox.Draining && b.Slots[i].Admin == Ready {
				ready = lastResort(s, b) // nobody else could take its requests
			}
			if i >= 0 && (b.Slots[i].Admin == Ready) != ready {
				t.Fatalf("%s is %s in the slot %v", e.Task, e.State, b.Slots[i])
			}
		}
		if used := b.used(); used > len(s.Endpoints) {
			t.Fatalf("%s: %d slots are taken by %d tasks", s.ID, used, len(s.Endpoints))
		}
	}
	for _, m := range c.Maps() {
		for i, list := 1, *m.Entries; i < len(list); i++ {
			if !m.Ordered && list[i-1].Key >= list[i].Key {
				t.Fatalf("%s is not sorted: %v", m.Name, list)
			}
		}
	}
	for _, e := range slices.Concat(c.Hosts, c.Exact, c.PathRegexes, c.Splits) {
		if b := c.Backend(e.Value); e.Value != noPath && !isSplit(e.Value) && (b == nil || b.Retired) {
			t.Fatalf("%q leads nowhere: %q", e.Key, e.Value)
		}
	}
}

// serving returns the backend of a service, nil if it has none, or several.
func serving(c *Config, s *signalbox.Service) *Backend {
	var out *Backend
	for _, b := range c.Backends {
		switch {
		case b.Service != s.ID || b.Retired:
		case out != nil:
			return nil
		default:
			out = b
		}
	}
	return out
}

// lastResort reports whether no task of a service is usable but those that should drain.
func lastResort(s *signalbox.Service, b *Backend) bool {
	return !slices.ContainsFunc(b.Slots, func(x Server) bool {
		return x.usable() && !slices.ContainsFunc(s.Endpoints, func(e signalbox.Endpoint) bool { return e.Task == x.Task && e.State == signalbox.Draining })
	})
}

func samePointers(a, b *Config) bool {
	return slices.Equal(a.Backends, b.Backends) && slices.Equal(a.Listeners, b.Listeners) && slices.Equal(a.Problems, b.Problems) &&
		slices.EqualFunc(mapsOf(a), mapsOf(b), slices.Equal[[]MapEntry])
}

func mapsOf(c *Config) (all [][]MapEntry) {
	for _, m := range c.Maps() {
		all = append(all, *m.Entries)
	}
	return all
}

func TestOrderDoesNotMatter(t *testing.T) {
	tmpl := DefaultTemplate()
	rapid.Check(t, func(t *rapid.T) {
		now := make(map[int]*signalbox.Service)
		for range 4 {
			drawStep(t, now)
		}
		services := slices.Collect(maps.Values(now))
		var shuffled []*signalbox.Service
		for _, s := range rapid.Permutation(services).Draw(t, "services") {
			c := *s
			c.Endpoints = rapid.Permutation(s.Endpoints).Draw(t, "tasks")
			c.Routes = rapid.Permutation(s.Routes).Draw(t, "routes")
			shuffled = append(shuffled, &c)
		}
		o := testOptions("/d")
		o.HTTPSBind, o.AppIDBind, o.ServicePorts = []string{":443"}, []string{":9091"}, PortRange{10000, 10004}
		o.Certificates = []Certificate{{"a", []string{"*.x"}}, {"b", []string{"a.x", "b.x"}}}
		a, err := Render(tmpl, Build(signalbox.NewTable(services, nil), o, nil))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Render(DefaultTemplate(), Build(signalbox.NewTable(shuffled, nil), o, nil))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Config, b.Config) || !slices.EqualFunc(a.Maps, b.Maps, func(x, y File) bool { return bytes.Equal(x.Data, y.Data) }) {
			t.Fatalf("order matters (-first +shuffled):\n%s", cmp.Diff(a, b))
		}
		if err := Verify(a.Config); err != nil {
			t.Fatal(err)
		}
	})
}
