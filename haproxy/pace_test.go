package haproxy

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// Whatever the fleet's size, all its machines together ask a task a bounded number of times a second.
func TestChecksDoNotMultiplyWithTheFleet(t *testing.T) {
	for fleet, want := range map[int][2]time.Duration{
		0:      {30 * time.Second, 2 * time.Second},
		100:    {30 * time.Second, 2 * time.Second},
		500:    {50 * time.Second, 5 * time.Second},
		100000: {10 * time.Minute, 10 * time.Second},
	} {
		o := &Options{FleetSize: fleet}
		if got := [2]time.Duration{o.FarInterval(0), o.soonInterval()}; got != want {
			t.Errorf("a fleet of %d checks tasks elsewhere, and those that are down or new, every %v, want %v", fleet, got, want)
		}
		if got := o.FarInterval(20 * time.Minute); got != 20*time.Minute {
			t.Errorf("an app that asks for checks every 20 min is checked every %s", got)
		}
	}
}

// pacesOf returns how many slots there are of each pace.
func pacesOf(slots []Server) map[Pace]int {
	n := make(map[Pace]int)
	for _, s := range slots {
		n[s.Pace]++
	}
	return n
}

func TestEachBackendHasSlotsOfEachPace(t *testing.T) {
	known := func(*signalbox.Endpoint) bool { return false }
	for _, c := range []struct {
		name             string
		near             func(*signalbox.Endpoint) bool
		fleet, size      int
		nearby, far      int
		active, afar, qk int
	}{
		{"this machine is not known", nil, 500, 16, 3, 0, 14, 0, 2},
		{"nothing is known", known, 1, 16, 0, 0, 7, 7, 2},
		{"a spare one in a large fleet", known, 500, 16, 0, 0, 1, 13, 2},
		{"a small spare one in a large fleet", known, 500, 4, 0, 0, 1, 2, 1},
		{"all tasks are here", known, 1, 16, 5, 0, 13, 1, 2},
		{"three of a small backend are elsewhere", known, 500, 4, 0, 3, 0, 3, 1},
		{"one of three is here", known, 500, 4, 1, 2, 1, 2, 1},
		{"a single slot", known, 500, 1, 1, 0, 1, 0, 0},
	} {
		g := &slotting{checked: true, near: c.near, fleet: c.fleet}
		got := g.shares(c.size, c.nearby, c.far)
		if want := (map[Pace]int{Active: c.active, Far: c.afar, Quick: c.qk}); got[Active] != want[Active] || got[Far] != want[Far] || got[Quick] != want[Quick] {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}

// A newcomer of unknown health waits in a quick slot, and goes to one of its own pace with its verdict. Where that is taken it stays
// until one is free. Nobody else moves.
func TestNewcomersGoWhereTheyBelong(t *testing.T) {
	o := testOptions("/d")
	o.Node, o.FleetSize, o.MinSlots = []string{"10.0.0.9"}, 500, 4
	e := tasks(4) // none of them is here
	now := Build(tableOf(service("/shop", "shop.local/", e[:3]...)), o, nil)
	step := func(change func(), want ...string) {
		t.Helper()
		change()
		next := Build(tableOf(service("/shop", "shop.local/", e...)), o, now)
		if p := Diff(now, next); len(p.Reasons) > 0 {
			t.Fatalf("it reloads: %v", p.Reasons)
		}
		now = next
		var got []string
		for _, s := range now.Backends[0].Slots {
			text := s.Task + " " + string(s.Pace) + " " + string(s.Admin)
			if s.Gated {
				text += " gated"
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("slots (-want +got):\n%s", diff)
		}
	}
	step(func() { e[3].State = signalbox.Unknown }, "shop.00 far ready", "shop.01 far ready", "shop.02 far ready", "shop.03 quick ready gated")
	step(func() { e[3].State = signalbox.Up }, "shop.00 far ready", "shop.01 far ready", "shop.02 far ready", "shop.03 quick ready")
	step(func() { e[1].State = signalbox.Draining }, "shop.00 far ready", "shop.01 far drain", "shop.02 far ready", "shop.03 quick ready")
	step(func() { e = slices.Delete(e, 1, 2) }, "shop.00 far ready", "shop.03 far ready", "shop.02 far ready", " quick maint")
}

// A reload that happens anyway gives every slot the pace that fits it.
func TestReloadsMendPaces(t *testing.T) {
	o := testOptions("/d")
	shop := func(n int) *signalbox.Service { return service("/shop", "shop.local/", tasks(n)...) }
	before := Build(tableOf(shop(3)), o, nil) // by an earlier program, say, that knew no paces
	known := *o
	known.Node, known.FleetSize = []string{"10.0.0.9"}, 500
	after := Build(tableOf(shop(3)), &known, before)
	if got, want := pacesOf(after.Backends[0].Slots), (map[Pace]int{Far: 13, Active: 1, Quick: 2}); !cmp.Equal(got, want) {
		t.Errorf("paces %v, want %v", got, want)
	}
	for i, s := range after.Backends[0].Slots[:3] {
		if s.Pace != Far || s.Task != before.Backends[0].Slots[i].Task {
			t.Errorf("slot %+v, want the task where it was, checked from afar", s)
		}
	}
	if p := Diff(before, after); !slices.Equal(p.Reasons, []Reason{OptionsChanged}) || len(p.Commands) > 0 {
		t.Errorf("%v", p)
	}
	unmoved := *before // the options are the old ones again before HAProxy has loaded it
	unmoved.Options = &known
	if p := Diff(&unmoved, after); !slices.Equal(p.Reasons, []Reason{PacesChanged}) {
		t.Errorf("where nothing else is left to load: %v", p)
	}
	again := Build(tableOf(shop(4), service("/new", "new.local/")), &known, after)
	if p := Diff(after, again); slices.Contains(p.Reasons, PacesChanged) {
		t.Errorf("paces that fit change: %v", p.Reasons)
	}
}
