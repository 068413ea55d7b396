package control

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/haproxy"
)

// loadedConfig returns a Config with its spare backends free.
func loadedConfig(c *haproxy.Config) *haproxy.Config {
	at := map[string]signalbox.ServiceID{}
	for _, b := range c.Backends {
		if b.Retired {
			at[b.Name] = b.Service
		}
	}
	return c.Rested(at)
}

// HAProxy dies of one app's rules. An app that took a spare backend since the last load, one that left, and one that moved are not
// what is new to it; one that grew along keeps what it had.
func TestSuspectsAreThoseWhoseSectionIsNew(t *testing.T) {
	o := &haproxy.Options{Dir: "/d", StatsSocket: "/d/s", HTTPBind: []string{":80"}, SpareSlots: 512}
	tcp := func(name string, last ...int) *signalbox.Service {
		s := service(name)
		for _, l := range last {
			s.Endpoints = append(s.Endpoints, service(name, addr(l)).Endpoints...)
		}
		s.Check = signalbox.Check{Kind: signalbox.CheckTCP}
		return s
	}
	moves, leaves, stays := tcp("moves", 1), tcp("leaves", 2), tcp("stays", 3)
	loaded := loadedConfig(haproxy.Build(table(moves, leaves, stays), o, nil))
	moved := tcp("moves", 1)
	moved.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health"}
	comes := tcp("comes", 4)
	running := haproxy.Build(table(moved, comes, stays), o, loaded)
	deadly := tcp("deadly", 5)
	deadly.Policy.RequestHeaders = []signalbox.Header{{Name: "X-A", Value: "b"}}
	want := haproxy.Build(table(moved, comes, stays, deadly), o, running)
	if len(haproxy.Diff(loaded, running).Reasons) > 0 || len(haproxy.Diff(running, want).Reasons) == 0 {
		t.Fatal("the example is none")
	}
	for what, from := range map[string]*haproxy.Config{"since the last load": loaded, "of what runs": running} {
		if diff := cmp.Diff([]string{"/deadly"}, slices.Sorted(maps.Keys(changedApps(from, want)))); diff != "" {
			t.Errorf("changed %s (-want +got):\n%s", what, diff)
		}
	}
}

// An app that is held because it grew goes on with the servers that it had.
func TestAHeldAppThatGrewKeepsWhatItHad(t *testing.T) {
	o := &haproxy.Options{Dir: "/d", StatsSocket: "/d/s", HTTPBind: []string{":80"}, MinSlots: 2}
	var all []netip.AddrPort
	for i := range 9 {
		all = append(all, addr(i+1))
	}
	ran := haproxy.Build(table(service("shop", all[:1]...)), o, nil)
	want := haproxy.Build(table(service("shop", all...)), o, ran)
	w := newWithheld()
	w.hold(want, "/shop", "HAProxy died")
	got := w.apply(want, ran)
	if len(got.Backends) != 1 || len(got.Backends[0].Slots) != 2 || len(got.Hosts) != 1 {
		t.Errorf("%+v", got)
	}
	if p := haproxy.Diff(ran, got); len(p.Reasons) > 0 || len(p.Commands) == 0 {
		t.Errorf("what runs needs %v", p)
	}
}

// An app that is held and took a spare backend has its own settings there, and nobody else's rules.
func TestAHeldAppInASpareHasItsOwnSettings(t *testing.T) {
	o := &haproxy.Options{Dir: "/d", StatsSocket: "/d/s", HTTPBind: []string{":80"}, SpareSlots: 512}
	shop, cart := service("shop", addr(1)), service("cart", addr(2))
	shop.Check, cart.Check = signalbox.Check{Kind: signalbox.CheckTCP}, signalbox.Check{Kind: signalbox.CheckTCP}
	cart.Policy.Timeout, cart.Policy.HTTPSRedirect = 7*time.Second, true
	ran := loadedConfig(haproxy.Build(table(shop), o, nil))
	want := haproxy.Build(table(shop, cart), o, ran)
	w := newWithheld()
	w.hold(want, "/cart", "HAProxy died")
	got := w.apply(want, ran)
	if p := haproxy.Diff(want, got); len(p.Reasons) > 0 || len(p.Commands) > 0 {
		t.Errorf("it differs by %v", p)
	}
}
