package haproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"signalbox"
)

func endpoint(n int, state signalbox.State) signalbox.Endpoint {
	return signalbox.Endpoint{Task: fmt.Sprintf("t%02d", n), Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1000+n)), State: state}
}

// TestNoMomentWithoutServer holds that no prefix of the commands leaves a backend without a usable server, if it has one before
// and after. Only a task that has to take the very slot of the last usable one is excepted.
func TestNoMomentWithoutServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := []signalbox.State{signalbox.Up, signalbox.Unknown, signalbox.Suspect, signalbox.Down, signalbox.Draining}
		be := &Backend{Name: "b"}
		g := &slotting{checked: true, floor: 16, fleet: 500, weigh: weighAlike}
		if rapid.Bool().Draw(t, "the node is known") {
			g.near = func(e *signalbox.Endpoint) bool { return e.Task == "t01" }
		}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			var all []signalbox.Endpoint
			for n := range 5 {
				if rapid.Bool().Draw(t, "present") {
					all = append(all, endpoint(n, rapid.SampledFrom(states).Draw(t, "state")))
				}
			}
			next := &Backend{Name: "b", Slots: g.assign(all, be)}
			if len(be.Slots) > 0 {
				stays(t, be, next)
			}
			be = next
		}
	})
}

func stays(t *rapid.T, from, to *Backend) {
	if !slices.ContainsFunc(from.Slots, Server.usable) || !slices.ContainsFunc(to.Slots, Server.usable) {
		return
	}
	d := differ{}
	d.servers(from, to)
	now := slices.Clone(from.Slots)
	for _, c := range append(d.come, d.leave...) {
		name, what, _ := strings.Cut(strings.TrimPrefix(c.Text, "set server b/"), " ")
		s := &now[slices.IndexFunc(now, func(s Server) bool { return s.Name == name })]
		switch what {
		case "state maint":
			s.Admin, s.Gated = Maint, false
		case "state drain":
			s.Admin = Drain
		case "state ready":
			s.Admin = Ready
		case "health down":
			s.Gated = true
		case "health up":
			s.Gated = false
		}
		if !slices.ContainsFunc(now, Server.usable) {
			t.Fatalf("no server after %q\nfrom %+v\nto %+v", c.Text, from.Slots, to.Slots)
		}
	}
}

// four is the slotting of a backend with four slots whose tasks are all on this machine.
var four = slotting{checked: true, floor: 4, fleet: 1, weigh: weighAlike}

func TestAnonymousSlotIsFoundByAddress(t *testing.T) {
	was := four.assign([]signalbox.Endpoint{endpoint(1, signalbox.Up)}, nil)
	was[0].Task = ""
	from := &Backend{Name: "b", Slots: was}
	to := &Backend{Name: "b", Slots: four.assign([]signalbox.Endpoint{endpoint(1, signalbox.Up)}, from)}
	if to.Slots[0].Task != "t01" || to.used() != 1 {
		t.Errorf("slots %+v, want the task in the slot that serves it", to.Slots)
	}
	d := differ{}
	d.servers(from, to)
	if n := len(d.come) + len(d.leave); n != 0 {
		t.Errorf("%d commands, want none", n)
	}
}

// The last usable server serves on, least preferred, when it should drain; it drains once another one is usable.
func TestLastServerServesOn(t *testing.T) {
	up := &Backend{Name: "b", Slots: four.assign([]signalbox.Endpoint{endpoint(1, signalbox.Up)}, nil)}
	last := &Backend{Name: "b", Slots: four.assign([]signalbox.Endpoint{endpoint(1, signalbox.Draining), endpoint(2, signalbox.Unknown)}, up)}
	if s := last.Slots[0]; s.Admin != Ready || s.Weight != SuspectWeight {
		t.Errorf("the last server is %+v, want it ready at weight %d", s, SuspectWeight)
	}
	if s := last.Slots[3]; !s.Gated || s.Pace != Quick {
		t.Errorf("the new server is %+v, want it to wait for its check in a quick slot", s)
	}
	next := &Backend{Name: "b", Slots: four.assign([]signalbox.Endpoint{endpoint(1, signalbox.Draining), endpoint(2, signalbox.Up)}, last)}
	if next.Slots[0].Admin != Drain || !next.Slots[1].usable() || next.Slots[3].Task != "" {
		t.Errorf("slots %+v, want the first to drain and the second to serve, out of its quick slot", next.Slots)
	}
}

// A task that is taken out and takes nothing any more, because it was down or its drain is over, is not made to drain again.
func TestWhoTakesNothingDoesNotDrain(t *testing.T) {
	all := []signalbox.Endpoint{endpoint(1, signalbox.Up), endpoint(2, signalbox.Down)}
	before := &Backend{Name: "b", Slots: four.assign(all, nil)}
	all[1].State = signalbox.Draining
	if s := four.assign(all, before)[1]; s.Admin != Maint || s.Task != "t02" {
		t.Errorf("the slot is %+v, want it in maintenance", s)
	}
}
