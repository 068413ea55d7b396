package signalbox

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asked returns a service with a host and tasks.
func asked(app, host string, tasks ...int) *Service {
	s := &Service{ID: NewServiceID(app, 0), App: app, Source: "marathon", Mode: HTTP, Routes: []Route{{Host: host, Path: "/"}}}
	for _, n := range tasks {
		s.Endpoints = append(s.Endpoints, Endpoint{
			Task: fmt.Sprintf("%s.%d", strings.Trim(app, "/"), n), Addr: netip.MustParseAddrPort(fmt.Sprint("10.0.0.1:", 31000+n)), State: Up,
		})
	}
	return s
}

func tableText(t *testing.T, table *Table) string {
	t.Helper()
	var b strings.Builder
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func everything(string) bool { return true }

// Definitions stand still; tasks come, go and drain as ever.
func TestAHoldKeepsDefinitionsAndFollowsTasks(t *testing.T) {
	before := NewTable([]*Service{asked("/shop", "shop.local", 1), asked("/old", "old.local", 2), asked("/same", "same.local", 3)}, nil)
	changed := asked("/shop", "evil.local", 4, 5)
	changed.Mode, changed.Listen, changed.Policy.Balance = TCP, 10001, "first"
	changed.Check = Check{Kind: CheckHTTP, Path: "/wrong"}
	same := asked("/same", "same.local", 6)
	same.Version = "2"
	now := NewTable([]*Service{changed, asked("/new", "new.local", 7), same}, nil)

	held := NewHeld(before, everything).Follow(now)
	want := `service /old:0 http from marathon
route /old:0 old.local/
service /same:0 http from marathon
route /same:0 same.local/
endpoint /same:0 10.0.0.1:31006 up same.6
service /shop:0 http from marathon
route /shop:0 shop.local/
endpoint /shop:0 10.0.0.1:31004 up shop.4
endpoint /shop:0 10.0.0.1:31005 up shop.5
`
	if diff := cmp.Diff(want, tableText(t, held.Table)); diff != "" {
		t.Errorf("what is routed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"/shop": KeptChanged, "/old": KeptRemoved, "/new": KeptNew}, held.Kept); diff != "" {
		t.Errorf("what is kept back (-want +got):\n%s", diff)
	}
	if held.Table.Service("/shop:0").Check != (Check{}) || held.Table.Service("/same:0") != same {
		t.Error("a check has changed, or a service that asks for the same is a copy")
	}
	var codes []string
	for _, p := range held.Table.AllProblems() {
		codes = append(codes, p.Code+" "+p.App)
	}
	if want := []string{"SB501 /new", "SB503 /old", "SB502 /shop"}; !slices.Equal(codes, want) {
		t.Errorf("the problems are %v, want %v", codes, want)
	}

	// A change of tasks gives a new service to that app alone.
	drained := *changed
	drained.Endpoints = slices.Clone(changed.Endpoints)
	drained.Endpoints[0].State = Draining
	next := held.Follow(NewTable([]*Service{&drained, now.Service("/new:0"), same}, nil))
	if next.Table.Service("/old:0") != held.Table.Service("/old:0") || next.Table.Service("/same:0") != same {
		t.Error("services that did not change have other pointers")
	}
	if got := next.Table.Service("/shop:0").Endpoints; got[0].State != Draining || len(got) != 2 {
		t.Errorf("the tasks are %v", got)
	}
	if before.Service("/shop:0").Problems != nil || changed.Problems != nil {
		t.Error("what was handed over has changed")
	}
}

func TestAHoldOfOneAppLeavesTheOthers(t *testing.T) {
	before := NewTable([]*Service{asked("/a", "a.local", 1), asked("/b", "b.local", 2)}, nil)
	now := NewTable([]*Service{asked("/a", "a2.local", 1), asked("/c", "c.local", 3)}, []Problem{{Code: "SB102", App: "/a"}})
	held := NewHeld(before, func(app string) bool { return app == "/a" }).Follow(now)
	if got := held.Table.Service("/a:0").Routes[0].Host; got != "a.local" || held.Table.Service("/b:0") != nil || held.Table.Service("/c:0") == nil {
		t.Errorf("/a answers at %s; all is\n%s", got, tableText(t, held.Table))
	}
	if diff := cmp.Diff(map[string]string{"/a": KeptChanged}, held.Kept); diff != "" || len(held.Table.Problems) != 1 {
		t.Errorf("%v; problems %v", diff, held.Table.Problems)
	}
}

// The port at which a new definition wants to be probed is none of the old one's.
func TestAHoldDoesNotProbeWhereTheNewDefinitionAsks(t *testing.T) {
	now := asked("/a", "a.local", 1)
	now.ProbedAt, now.Endpoints[0].CheckPort = "port 9", 9
	held := NewHeld(NewTable([]*Service{asked("/a", "a.local")}, nil), everything).Follow(NewTable([]*Service{now}, nil))
	if got := held.Table.Service("/a:0").Endpoints[0]; got.CheckPort != 0 || now.Endpoints[0].CheckPort != 9 {
		t.Errorf("port %d is probed", got.CheckPort)
	}
}

// Two ports of one app may be kept back in two ways, and a release is the live table again.
func TestTwoPortsOfAHeldApp(t *testing.T) {
	gone := asked("/a", "a.local", 1)
	come := asked("/a", "b.local", 1)
	come.ID, come.Port = "/a:1", 1
	held := NewHeld(NewTable([]*Service{gone}, nil), everything).Follow(NewTable([]*Service{come}, nil))
	if held.Kept["/a"] != KeptChanged || len(held.Table.Services) != 1 || held.Table.Services[0].ID != "/a:0" {
		t.Errorf("%v\n%s", held.Kept, tableText(t, held.Table))
	}
	if empty := NewHeld(nil, everything).Follow(nil); len(empty.Table.Services) != 0 || len(empty.Kept) != 0 {
		t.Errorf("nothing is %+v", empty)
	}
}

func TestRedefined(t *testing.T) {
	scaled, deployed, policy := asked("/scaled", "s.local", 1, 2), asked("/deployed", "d.local", 1), asked("/policy", "p.local", 1)
	deployed.Version, policy.Policy.Balance = "2", "first"
	kept := asked("/kept", "k.local", 1)
	from := NewTable([]*Service{kept, asked("/scaled", "s.local", 1), asked("/deployed", "d.local", 1), asked("/policy", "p.local", 1), asked("/gone", "g.local")}, nil)
	to := NewTable([]*Service{kept, scaled, deployed, policy, asked("/come", "c.local")}, nil)
	var got []string
	Redefined(from, to, func(old, now *Service) {
		switch {
		case old == nil:
			got = append(got, "+"+now.App)
		case now == nil:
			got = append(got, "-"+old.App)
		default:
			got = append(got, "~"+now.App)
		}
	})
	if want := []string{"+/come", "-/gone", "~/policy"}; !slices.Equal(got, want) {
		t.Errorf("redefined are %v, want %v", got, want)
	}
}
