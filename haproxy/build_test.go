package haproxy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

func tasks(n int) []signalbox.Endpoint {
	var out []signalbox.Endpoint
	for i := range n {
		out = append(out, signalbox.Endpoint{
			Task: fmt.Sprintf("shop.%02d", i), State: signalbox.Up, Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(31000+i)),
		})
	}
	return out
}

func TestScalingNeedsNoReload(t *testing.T) {
	o := testOptions("/d")
	now := Build(tableOf(service("/shop", "shop.local/", tasks(2)...)), o, nil)
	for _, n := range []int{10, 1, 0, 16, 3} {
		next := Build(tableOf(service("/shop", "shop.local/", tasks(n)...)), o, now)
		if p := Diff(now, next); len(p.Reasons) != 0 {
			t.Errorf("scaling to %d reloads: %v", n, p.Reasons)
		}
		now = next
	}
	next := Build(tableOf(service("/shop", "shop.local/", tasks(17)...)), o, now)
	if p := Diff(now, next); !slices.Equal(p.Reasons, []Reason{SlotsExhausted}) || len(next.Backends[0].Slots) != 32 {
		t.Errorf("17 tasks: %v, %d slots", p.Reasons, len(next.Backends[0].Slots))
	}
	back := Build(tableOf(service("/shop", "shop.local/", tasks(1)...)), o, next)
	if p := Diff(next, back); len(p.Reasons) != 0 || len(back.Backends[0].Slots) != 32 {
		t.Errorf("back to one: %v, %d slots", p.Reasons, len(back.Backends[0].Slots))
	}
}

func TestTasksKeepTheirSlots(t *testing.T) {
	o := testOptions("/d")
	all := tasks(4)
	one := Build(tableOf(service("/shop", "shop.local/", all[1], all[3])), o, nil)
	two := Build(tableOf(service("/shop", "shop.local/", all...)), o, one)
	three := Build(tableOf(service("/shop", "shop.local/", all[0], all[3])), o, two)
	var got []string
	for _, s := range three.Backends[0].Slots[:4] {
		got = append(got, s.Name+" "+s.Task+" "+string(s.Admin))
	}
	if diff := cmp.Diff([]string{"s1  maint", "s2 shop.03 ready", "s3 shop.00 ready", "s4  maint"}, got); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
}

func TestFloorFollowsTheBudget(t *testing.T) {
	for services, want := range map[int]int{0: 16, 1: 16, 1000: 16, 2000: 8, 4000: 4, 5000: 4, 20000: 4} {
		if got := floor(&Options{}, services); got != want {
			t.Errorf("floor of %d services is %d, want %d", services, got, want)
		}
	}
	if got := floor(&Options{MinSlots: 7}, 5000); got != 7 {
		t.Errorf("the floor set by hand is %d, want 7", got)
	}
}

// A reload that happens anyway takes what has left along, and gives nearly full backends room.
func TestReloadsAreUsed(t *testing.T) {
	o := testOptions("/d")
	shop, cart := service("/shop", "shop.local/", tasks(2)...), service("/cart", "cart.local/", tasks(2)...)
	one := Build(tableOf(shop, cart), o, nil)
	fuller := service("/shop", "shop.local/", tasks(14)...)
	two := Build(tableOf(fuller), o, one)
	if p := Diff(one, two); len(p.Reasons) != 0 || len(two.Backends) != 2 || !two.Backends[0].Retired || len(two.Hosts) != 1 {
		t.Fatalf("an app that left costs a reload: %v", p)
	}
	three := Build(tableOf(fuller, service("/new", "new.local/")), o, two)
	if p := Diff(two, three); !slices.Equal(p.Reasons, []Reason{BackendAdded, SlotsExhausted}) {
		t.Errorf("reasons %v", p.Reasons)
	}
	if three.Backend("cart:0") != nil || len(three.Backend("shop:0").Slots) != 32 {
		t.Errorf("backends %v", three.Backends)
	}
}

func TestTheOlderClaimWins(t *testing.T) {
	o := testOptions("/d")
	old, young := service("/z-old", "shop.local/ shop.local/a"), service("/a-young", "shop.local/ young.local/")
	old.Since, young.Since = time.Unix(1, 0), time.Unix(2, 0)
	old.Listen, young.Listen = 10000, 10000
	entry := service("/entry", "")
	entry.Listen = 18000
	c := Build(tableOf(young, old, entry), o, nil)
	want := []MapEntry{{"shop.local/", "z-old:0"}, {"shop.local/a/", "z-old:0"}, {"young.local/", "a-young:0"}}
	if diff := cmp.Diff(want, c.Hosts); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if len(c.Listeners) != 1 || c.Listeners[0].Service != "/z-old:0" {
		t.Errorf("listeners %v", c.Listeners)
	}
	var got []string
	for _, p := range c.Problems {
		got = append(got, p.String())
	}
	if diff := cmp.Diff([]string{
		"SB202 /a-young: this service port belongs to /z-old:0, which is older (/a-young:0 is not reached by this port)",
		"SB203 /a-young: shop.local/ belongs to /z-old:0, which is older (/a-young:0 is not reached under this name)",
		"SB204 /entry: this service port is that of the HTTP entry (/entry:0 is not reached by this port)",
		"SB207 /z-old: /a-young:0 asks for shop.local/ too (/z-old:0 keeps it, because it is older)",
		"SB232 /z-old: /a-young:0 asks for this service port too (it stays with this app, which is older)",
	}, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	// The problems stay while nothing about them changes.
	next := Build(tableOf(young, old, entry, service("/other", "other.local/")), o, c)
	if diff := cmp.Diff(c.Problems, next.Problems); diff != "" {
		t.Errorf("problems of the next table (-before +after):\n%s", diff)
	}
}

func TestBackendNames(t *testing.T) {
	for app, want := range map[string]string{
		"/shop":                          "shop:0",
		"/shop/cart":                     "shop_cart:0",
		"/a.b-c/d":                       "a.b-c_d:0",
		"/a_b":                           "a_b:0:",
		"/a//b":                          "a__b:0:",
		"/a/":                            "a_:0:",
		"a":                              "a:0:",
		"/":                              ":0:",
		"/é":                             "__:0:",
		"/" + strings.Repeat("long", 40): strings.Repeat("long", 40)[:45] + ":0:",
	} {
		got := backendName(&signalbox.Service{ID: signalbox.NewServiceID(app, 0), App: app})
		if !strings.HasPrefix(got, want) || strings.HasSuffix(want, ":0") != (got == want) || len(got) > maxName {
			t.Errorf("%q is %q, want %q", app, got, want)
		}
	}
}

func TestBackendNamesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[/a_.:\-]{0,6}`)
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		i, j := rapid.IntRange(0, 2).Draw(t, "i"), rapid.IntRange(0, 2).Draw(t, "j")
		s, u := signalbox.Service{ID: signalbox.NewServiceID(a, i), App: a, Port: i}, signalbox.Service{ID: signalbox.NewServiceID(b, j), App: b, Port: j}
		if s.ID != u.ID && backendName(&s) == backendName(&u) {
			t.Fatalf("%s and %s are both %s", s.ID, u.ID, backendName(&s))
		}
	})
}

func TestAfterReloadGatesOnlyNewTasks(t *testing.T) {
	o := testOptions("/d")
	e := tasks(4)
	e[0].State = signalbox.Unknown
	one := Build(tableOf(service("/shop", "shop.local/", e[:3]...)), o, nil)
	if c := AfterReload(nil, one); len(c) != 0 {
		t.Errorf("at the start: %v", c)
	}
	e[1].State, e[3].State = signalbox.Draining, signalbox.Unknown
	two := Build(tableOf(service("/shop", "shop.local/", e...)), o, one)
	var got []string
	for _, c := range AfterReload(one, two) {
		got = append(got, c.Text)
	}
	want := []string{
		"set server shop:0/s1 state ready", "set server shop:0/s1 state drain",
		"set server shop:0/s12 state drain", "set server shop:0/s12 health down", "set server shop:0/s12 state ready",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// A controller that starts anew reads its Config back, and changes nothing.
func TestReloadForARegexIsUsed(t *testing.T) {
	o := testOptions("/d")
	shop, cart := service("/shop", "shop.local/", tasks(2)...), service("/cart", "cart.local/", tasks(2)...)
	before := Build(tableOf(shop), o, Build(tableOf(shop, cart), o, nil))
	wider := service("/shop", "shop.local/ ~[a-z]+/", tasks(2)...)
	if p := Diff(before, Build(tableOf(wider), o, before)); !slices.Equal(p.Reasons, []Reason{RegexesChanged}) {
		t.Errorf("reasons %v", p.Reasons)
	}
}

// What this machine is called, or has for ports of its own, is nothing that HAProxy loads: the weights of tasks say what follows.
func TestAnotherNodeNeedsNoReload(t *testing.T) {
	here := testOptions("/d")
	here.Prefer, here.Node = PreferLocal, []string{"10.0.0.9"}
	retired := service("/gone", "gone.local/", tasks(2)...)
	shop := service("/shop", "shop.local/", tasks(13)...)
	before := Build(tableOf(shop), here, Build(tableOf(retired, shop), here, nil))
	there := *here
	there.Node, there.OtherPorts = []string{"10.0.0.9", shop.Endpoints[0].Addr.Addr().String()}, []int{7000}
	p := Diff(before, Build(tableOf(shop), &there, before))
	if len(p.Reasons) != 0 || len(p.Commands) == 0 {
		t.Errorf("%v", p)
	}
}

func TestAConfigSurvivesAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, now := testOptions("/d"), make(map[int]*signalbox.Service)
		var c *Config
		var table *signalbox.Table
		for range 4 {
			table = drawStep(t, now)
			c = Build(table, o, c)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var read Config
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		next := Build(table, o, &read)
		if p := Diff(&read, next); len(p.Commands) != 0 || len(p.Reasons) != 0 {
			t.Fatalf("%v", p)
		}
		if diff := cmp.Diff(c, next, equalConfigs()...); diff != "" {
			t.Fatalf("(-before +after):\n%s", diff)
		}
	})
}

// Tasks come before names, and names before hosts; hosts go before names, and names before tasks.
func TestCommandsComeInASafeOrder(t *testing.T) {
	o := testOptions("/d")
	e := tasks(2)
	now := Build(tableOf(service("/a", "old.local/p", e[0]), service("/b", "b.local/")), o, nil)
	next := Build(tableOf(service("/a", "new.local/p", e[1]), service("/b", "b.local/")), o, now)
	var got []string
	for _, c := range Diff(now, next).Commands {
		got = append(got, c.Text)
	}
	want := []string{
		"set server a:0/s2 addr 10.0.0.1 port 31001", "set server a:0/s2 state ready",
		"add map /d/paths.map new.local prefix",
		"add map /d/hosts.map new.local/ no_path", "add map /d/hosts.map new.local/p/ a:0",
		"del map /d/hosts.map old.local/", "del map /d/hosts.map old.local/p/",
		"del map /d/paths.map old.local",
		"set server a:0/s1 state maint",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	empty := Build(tableOf(service("/b", "b.local/")), o, next)
	got = nil
	removal := Diff(next, empty)
	for _, c := range removal.Whole(next, empty) {
		got = append(got, c.Text)
	}
	if diff := cmp.Diff([]string{"a:0"}, removal.Left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	want = []string{
		"del map /d/hosts.map new.local/", "del map /d/hosts.map new.local/p/", "del map /d/paths.map new.local",
		"del map /d/names.map a:0", "set server a:0/s2 state maint",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands of a removal (-want +got):\n%s", diff)
	}
}

func TestChecksStayWithinBounds(t *testing.T) {
	for path, want := range map[string]signalbox.Check{
		"/health?a=b": {Kind: signalbox.CheckHTTP, Path: "/health?a=b", Interval: time.Second, Timeout: 100 * time.Millisecond},
		"":            {Kind: signalbox.CheckHTTP, Path: "/", Interval: time.Second, Timeout: 100 * time.Millisecond},
		"/a b":        {Kind: signalbox.CheckTCP, Interval: time.Second, Timeout: 100 * time.Millisecond},
		"/a'b":        {Kind: signalbox.CheckTCP, Interval: time.Second, Timeout: 100 * time.Millisecond},
	} {
		s := service("/shop", "")
		s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: path, Interval: time.Microsecond, Timeout: 1, Fall: -1}
		c := Build(tableOf(s), testOptions("/d"), nil)
		if got := c.Backends[0].Check; got != want {
			t.Errorf("%q: %+v, want %+v", path, got, want)
		}
		if refused := want.Kind != signalbox.CheckHTTP; refused != (len(c.Problems) == 1 && c.Problems[0].Code == "SB206") {
			t.Errorf("%q: problems %v", path, c.Problems)
		}
	}
}
