package control

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// spares builds one Config after another, as the controller does.
type spares struct {
	*rig
	last *haproxy.Config
}

func (s *spares) want(services ...*signalbox.Service) *haproxy.Config {
	s.last = haproxy.Build(table(services...), s.opts, s.last.Rested(s.app.Rested()))
	return s.last
}

// backend returns the backend of an app.
func (s *spares) backend(app string) *haproxy.Backend {
	for _, b := range s.last.Backends {
		if b.App == "/"+app && !b.Retired {
			return b
		}
	}
	s.t.Fatalf("%s has no backend", app)
	return nil
}

// settled waits until what was left has been emptied.
func (s *spares) settled() {
	s.t.Helper()
	s.until("what is wanted runs", func() bool { return s.app.Running() == s.last })
}

// An app comes, moves, goes, and gives its backend to the next one; HAProxy and the controller die meanwhile. One reload at the start
// is all that it takes, and no request fails.
func TestAppsComeAndGoWithoutAReload(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	_, stop := r.start(r.real())
	one, two := task(t, "one"), task(t, "two")
	shop := service("shop", one)
	if out := r.apply(r.want(shop)); !out.Reloaded {
		t.Errorf("the first configuration: %+v", out)
	}
	calm := func(what string, services ...*signalbox.Service) {
		t.Helper()
		if out := r.apply(r.want(services...)); out.Reloaded || len(out.Reasons) > 0 {
			t.Errorf("%s: %+v", what, out)
		}
	}
	checked := func(s *signalbox.Service) *signalbox.Service {
		s.Check = signalbox.Check{}
		return s
	}
	cart := checked(service("cart", two))
	calm("a new app", shop, cart)
	if code, body := r.get("cart.local"); code != 200 || body != "two" {
		t.Errorf("at once: %d %s", code, body)
	}

	// The first app is asked all the time while it moves: from a check that is off to one that is made, and to more room.
	var failed, asked atomic.Int64
	halt := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-halt:
					return
				default:
				}
				asked.Add(1)
				if code, body := r.get("shop.local"); code != 200 || body != "one" {
					failed.Add(1)
					t.Logf("%d %s", code, body)
				}
			}
		})
	}
	for i := range 6 {
		moved := checked(service("shop", one))
		for n := range 7*i + 1 {
			moved.Endpoints = append(moved.Endpoints, signalbox.Endpoint{Task: fmt.Sprintf("shop.down%d", n), Addr: two, State: signalbox.Down})
		}
		before := r.last
		calm(fmt.Sprintf("with %d tasks more", 7*i+1), moved, cart)
		shop = moved
		r.settled()
		if i == 0 && backend(before, r.backend("shop").Name).Service != "" {
			t.Errorf("it did not move to a spare backend: %s", r.backend("shop").Name)
		}
	}
	close(halt)
	load.Wait()
	if failed.Load() > 0 || asked.Load() == 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}

	// One that goes leaves its backend to the next, once nothing is on its way to it.
	name := r.backend("cart").Name
	calm("an app that goes", shop)
	if code, _ := r.get("cart.local"); code != 404 {
		t.Errorf("its host: %d", code)
	}
	r.settled()
	r.until("the backend is at rest", func() bool { return r.app.Rested()[name] == cart.ID })
	late := checked(service("late", two))
	calm("the next one", shop, late)
	if b := r.backend("late"); b.Name != name {
		t.Errorf("the next one has %s, want %s", b.Name, name)
	}
	if _, body := r.get("late.local"); body != "two" {
		t.Errorf("it answers %q", body)
	}
	r.settled()

	// HAProxy dies, and comes back with what it ran.
	r.until("the file says so", func() bool { return r.app.Status().FileBehind == 0 })
	for _, pid := range haproxyProcesses(r.dir) {
		kill9(t, pid)
	}
	r.answers("late.local", "two")
	r.answers("shop.local", "one")
	r.until("the state is known again", func() bool { return r.app.Running() != nil })
	calm("a change after that", shop, late, checked(service("more", one)))
	r.answers("more.local", "one")

	// So does the controller.
	stop()
	second := New(r.real())
	r.app = second
	prev, err := second.Recover(t.Context())
	if err != nil || prev == nil {
		t.Fatalf("recovered %v, %v", prev, err)
	}
	r.last = prev
	r.background(second.Run)
	calm("a restart with nothing new", shop, late, checked(service("more", one)))
	if b := r.backend("late"); b.Name != name || !slices.ContainsFunc(b.Slots, func(s haproxy.Server) bool { return s.Task == "late.0" }) {
		t.Errorf("after the restart: %v", b)
	}
	calm("a new app after that", shop, late, checked(service("more", one)), checked(service("last", two)))
	r.answers("last.local", "two")
}

// Whoever takes or leaves a backend after the file was written is found by the map of names.
func TestReadBackFindsWhoHasASpare(t *testing.T) {
	o := &haproxy.Options{Dir: "/d", StatsSocket: "/d/s", HTTPBind: []string{":80"}, SpareSlots: 512}
	shop, cart := service("shop", addr(1)), service("cart", addr(2))
	first := haproxy.Build(table(shop), o, nil)
	at := map[string]signalbox.ServiceID{}
	for _, b := range first.Backends {
		if b.Retired {
			at[b.Name] = b.Service
		}
	}
	first = first.Rested(at)
	shop.Check, cart.Check = signalbox.Check{}, signalbox.Check{}
	both := haproxy.Build(table(shop, cart), o, first)
	for from, to := range map[*haproxy.Config]*haproxy.Config{first: both, both: first} {
		got, _, err := readBack(from, to, actualOf(to))
		if err != nil {
			t.Fatal(err)
		}
		got = owned(got, to)
		for _, want := range to.Backends {
			b := backend(got, want.Name)
			if b.Retired != want.Retired || !want.Retired && (b.Service != want.Service || b.App != want.App) {
				t.Errorf("%s is that of %q %v, want %q %v", b.Name, b.Service, b.Retired, want.Service, want.Retired)
			}
		}
		if p := haproxy.Diff(got, to); len(p.Commands) > 0 || len(p.Reasons) > 0 {
			t.Errorf("what was read back needs %v", p)
		}
	}
}

func addr(last int) netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:31000", last))
}

// actualOf returns what a worker says that runs a Config.
func actualOf(c *haproxy.Config) (act actual) {
	for _, b := range c.Backends {
		for _, s := range b.Slots {
			act.servers = append(act.servers, ServerState{Backend: b.Name, Name: s.Name, Addr: s.Addr, Admin: s.Admin, Weight: s.Weight, CheckPort: s.CheckPort})
		}
	}
	for _, m := range c.Maps() {
		act.maps = append(act.maps, slices.Clone(*m.Entries))
	}
	return act
}

// A controller that was killed after an app had taken a spare backend and left it, all of which the persisted state does not know, gives
// it to nobody while anything of that app is on its way.
func TestASpareIsFreeOnlyWhenThatIsSeen(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	set := r.real()
	set.StateInterval, set.FileInterval = time.Millisecond, time.Millisecond
	_, stop := r.start(set)
	shop, cart, late := service("shop", task(t, "one")), service("cart", streaming(t, "two")), service("late", task(t, "three"))
	shop.Check, cart.Check, late.Check = signalbox.Check{Kind: signalbox.CheckTCP}, signalbox.Check{Kind: signalbox.CheckTCP}, signalbox.Check{Kind: signalbox.CheckTCP}
	r.apply(r.want(shop))
	r.until("the spare backends are at rest", func() bool { return len(r.app.Rested()) > 0 })
	r.apply(r.want(shop)) // they are free
	path := filepath.Join(r.dir, stateName)
	var earlier []byte
	var err error
	r.until("that is kept", func() bool {
		if earlier, err = os.ReadFile(path); err != nil {
			return false
		}
		p, err := decodeState(earlier)
		return err == nil && slices.ContainsFunc(p.Config.Backends, func(b *haproxy.Backend) bool { return b.Retired && !b.Resting })
	})
	r.apply(r.want(shop, cart))
	name := r.backend("cart").Name
	ended, _, _ := r.stream("cart.local", "")
	r.apply(r.want(shop))
	r.settled()
	stop()
	if err := os.WriteFile(path, earlier, 0o600); err != nil {
		t.Fatal(err)
	}

	r.app = New(r.real())
	if r.last, err = r.app.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.background(r.app.Run)
	if out := r.apply(r.want(shop, late)); out.Reloaded {
		t.Errorf("a new app after the restart: %+v", out)
	}
	if b := r.backend("late"); b.Name == name || !b.Spare() {
		t.Errorf("it has %s, which has a stream of another app", b.Name)
	}
	if _, rests := r.app.Rested()[name]; rests || !open(ended) {
		t.Errorf("the backend is at rest: %v; the stream is open: %v", rests, open(ended))
	}
}

// While a reload that one app asks for is not to be had, others come, move, and take the backends of those that leave.
func TestSparesAreTakenWhileAReloadWaits(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	set := r.real()
	set.ReloadBurst, set.ReloadRefill = 1, time.Hour
	r.start(set)
	checked := func(name string, a netip.AddrPort) *signalbox.Service {
		s := service(name, a)
		s.Check = signalbox.Check{Kind: signalbox.CheckTCP}
		return s
	}
	one, two := task(t, "one"), task(t, "two")
	shop, cart := checked("shop", one), checked("cart", two)
	r.apply(r.want(shop))
	r.apply(r.want(shop, cart))
	odd := checked("odd", one)
	odd.Policy.RequestHeaders = []signalbox.Header{{Name: "X-A", Value: "b"}}
	r.app.Update(r.want(shop, cart, odd))
	r.until("the reload is due", func() bool {
		running := r.app.Running()
		return running != nil && running != r.last
	})
	late := checked("late", one)
	r.app.Update(r.want(shop, cart, odd, late))
	r.answers("late.local", "one")
	moved := service("shop", two) // with its check off
	moved.Endpoints[0].Task = "shop.new"
	r.app.Update(r.want(moved, cart, odd, late))
	r.answers("shop.local", "two")
	name := r.backend("cart").Name
	r.app.Update(r.want(moved, odd, late))
	r.until("the backend that was left is at rest", func() bool { return r.app.Rested()[name] == cart.ID })
	next := checked("next", one)
	r.app.Update(r.want(moved, odd, late, next))
	r.answers("next.local", "one")
	if b := r.backend("next"); b.Name != name {
		t.Errorf("it has %s, want %s", b.Name, name)
	}
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads", n)
	}

	// HAProxy dies, and comes back with that.
	r.until("the file says so", func() bool { return r.app.Status().FileBehind == 0 })
	for _, pid := range haproxyProcesses(r.dir) {
		kill9(t, pid)
	}
	for host, body := range map[string]string{"late.local": "one", "shop.local": "two", "next.local": "one"} {
		r.answers(host, body)
	}
	r.app.Update(r.want(moved, odd, late, next, checked("more", two)))
	r.answers("more.local", "two")
	if code, _ := r.get("odd.local"); code != 404 {
		t.Errorf("the app that waits: %d", code)
	}
}

// A controller was killed, and the state that it had persisted gives a spare backend to the app before: whoever the maps say has it goes
// on there, and the one before gets another.
func TestTheMapsSayWhoHasASpare(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	set := r.real()
	set.StateInterval, set.FileInterval = time.Millisecond, time.Millisecond
	_, stop := r.start(set)
	shop, cart, late := service("shop", task(t, "one")), service("cart", task(t, "two")), service("late", task(t, "three"))
	for _, s := range []*signalbox.Service{shop, cart, late} {
		s.Check = signalbox.Check{Kind: signalbox.CheckTCP}
	}
	late.Policy.Timeout = 9 * time.Second
	cart.Policy.Timeout = 7 * time.Second
	r.apply(r.want(shop))
	r.apply(r.want(shop, cart))
	name := r.backend("cart").Name
	path := filepath.Join(r.dir, stateName)
	var earlier []byte
	r.until("that is kept", func() bool {
		b, err := os.ReadFile(path)
		p, derr := decodeState(b)
		earlier = b
		return err == nil && derr == nil && backend(p.Config, name).Service == cart.ID
	})
	r.apply(r.want(shop))
	r.until("the backend is at rest", func() bool { return r.app.Rested()[name] == cart.ID })
	r.apply(r.want(shop, late))
	if b := r.backend("late"); b.Name != name {
		t.Fatalf("the next one has %s, want %s", b.Name, name)
	}
	r.settled()
	before := r.app.Running()
	stop()
	if err := os.WriteFile(path, earlier, 0o600); err != nil {
		t.Fatal(err)
	}

	r.app = New(r.real())
	var err error
	if r.last, err = r.app.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := backend(r.last, name); b.Service != late.ID || b.App != late.App {
		t.Errorf("%s is that of %s and %s", name, b.Service, b.App)
	}
	r.background(r.app.Run)
	same := r.want(shop, late)
	if p := haproxy.Diff(before, same); len(p.Commands) > 0 || len(p.Reasons) > 0 {
		t.Errorf("the restart alone changes %v", p)
	}
	if out := r.apply(same); out.Reloaded || out.Commands > 0 {
		t.Errorf("after the restart: %+v", out)
	}
	if out := r.apply(r.want(shop, late, cart)); out.Reloaded {
		t.Errorf("the one before comes back: %+v", out)
	}
	for host, body := range map[string]string{"late.local": "three", "cart.local": "two", "shop.local": "one"} {
		r.answers(host, body)
	}
}
