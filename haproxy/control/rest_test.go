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
