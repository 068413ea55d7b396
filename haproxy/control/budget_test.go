package control

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/haproxy"
)

// An app that asks for a reload each second does not use up what others need; what others ask for takes it along.
func TestBudgetIsFair(t *testing.T) {
	now := time.Now()
	b := newBudget(5, 10*time.Second)
	noisy, others, longest := 0, 0, 0
	for second := range 600 {
		now = now.Add(time.Second)
		if second%20 == 19 { // a new app of somebody else's
			waited := 0
			for ; !b.take(now, []string{fmt.Sprint("/new", others), "/noisy"}); now = now.Add(time.Second) {
				waited++
			}
			longest = max(longest, waited)
			others++
			continue
		}
		if b.take(now, []string{"/noisy"}) {
			noisy++
		}
	}
	if longest > 0 {
		t.Errorf("a new app waited for %d s because of another one", longest)
	}
	if noisy > 15 || noisy < 3 {
		t.Errorf("the noisy app got %d reloads of its own in 10 minutes beside %d of others", noisy, others)
	}
}

// Many such apps at once go along with each other.
func TestBudgetOfManyNoisyApps(t *testing.T) {
	now := time.Now()
	b := newBudget(5, 10*time.Second)
	apps := []string{"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"}
	reloads := 0
	for range 600 {
		now = now.Add(time.Second)
		if b.take(now, apps) {
			reloads++
		}
	}
	if reloads > 15 {
		t.Errorf("%d reloads in 10 minutes", reloads)
	}
	if !b.take(now, []string{"/new"}) {
		t.Error("a new app has to wait")
	}
	if p := b.problems(); len(p) != 0 {
		t.Errorf("problems %v after everything was taken along", p)
	}
}

func TestBudgetIsBounded(t *testing.T) {
	now := time.Now()
	b := newBudget(5, 10*time.Second)
	reloads := 0
	for i := range 600 {
		now = now.Add(100 * time.Millisecond)
		if b.take(now, []string{string(rune('a' + i))}) {
			reloads++
		}
		if b.take(now, nil) {
			reloads++
		}
	}
	if reloads > 5+6 {
		t.Errorf("%d reloads in a minute", reloads)
	}
	if now = now.Add(time.Hour); !b.take(now, nil) || len(b.apps) != 0 {
		t.Errorf("after an hour %d apps are still known", len(b.apps))
	}
}

// The same with HAProxy: with a budget that never comes back, an app that flaps leaves enough of it.
func TestFlappingAppHoldsUpNobody(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor, s.ReloadBurst, s.ReloadRefill, s.ReloadInterval = r.sup, 5, time.Hour, time.Millisecond
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	flapping := func(state int) app {
		return app{name: "flap", tasks: addrs{one}, bad: []string{"", "timeout server 7s"}[state%2]}
	}
	r.apply(r.config(flapping(0)))
	for i := range 3 { // what one app may cause
		r.apply(r.config(flapping(i + 1)))
	}
	r.app.Update(r.config(flapping(4)))
	r.until("the flapping app waits", func() bool {
		p := r.app.Problems()
		return len(p) == 1 && p[0].Code == "SB403" && p[0].App == "/flap"
	})
	out := r.apply(r.config(flapping(4), app{name: "new", tasks: addrs{two}}))
	if !out.Reloaded {
		t.Errorf("outcome %+v", out)
	}
	r.answers("new.local", "two")
	r.until("nobody waits", func() bool { return len(r.app.Problems()) == 0 })
	if st := r.app.Status(); st.Reloads != 5 || st.Level != "ok" {
		t.Errorf("status %+v", st)
	}
}

func TestAskers(t *testing.T) {
	r := newRig(t)
	base := r.config(app{name: "a"}, app{name: "b"})
	for name, c := range map[string]struct {
		want   *haproxy.Config
		reason haproxy.Reason
		apps   string
	}{
		"new":      {r.config(app{name: "a"}, app{name: "b"}, app{name: "c"}), haproxy.BackendAdded, "/c"},
		"gone":     {r.config(app{name: "a"}), haproxy.BackendRemoved, ""},
		"policy":   {r.config(app{name: "a", bad: "x"}, app{name: "b"}), haproxy.PolicyChanged, "/a"},
		"listener": {r.config(app{name: "a"}, app{name: "b", listen: 7}), haproxy.ListenerAdded, "/b"},
		"nobody":   {r.config(app{name: "a"}, app{name: "b"}, app{name: "c"}), haproxy.OptionsChanged, ""},
	} {
		got := ""
		for _, a := range askers(base, c.want, []haproxy.Reason{c.reason}) {
			got += a
		}
		if got != c.apps {
			t.Errorf("%s: %q, want %q", name, got, c.apps)
		}
	}
}

// An app that no spare backend is there for asks for its reload itself, whatever else goes along with that.
func TestAskersOfAReload(t *testing.T) {
	o := &haproxy.Options{
		Dir: "/d", StatsSocket: "/d/s", HTTPBind: []string{":80"}, SpareSlots: 512, Node: []string{"here"}, FleetSize: 100,
	}
	shop, odd := service("shop", addr(1), addr(2), addr(3)), service("odd", addr(4))
	shop.Check, odd.Policy.Sticky = signalbox.Check{Kind: signalbox.CheckTCP}, "C"
	for i := range shop.Endpoints {
		shop.Endpoints[i].State, shop.Endpoints[i].Host = signalbox.Unknown, "there"
	}
	first := haproxy.Build(table(shop), o, nil)
	known := *shop
	known.Endpoints = slices.Clone(shop.Endpoints)
	for i := range known.Endpoints {
		known.Endpoints[i].State, known.Endpoints[i].Host = signalbox.Up, "here"
	}
	running := haproxy.Build(table(&known), o, first)
	if len(haproxy.Diff(first, running).Reasons) > 0 {
		t.Fatalf("tasks that are known to be healthy ask for a reload: %v", haproxy.Diff(first, running).Reasons)
	}
	want := haproxy.Build(table(&known, odd), o, running)
	reasons := haproxy.Diff(running, want).Reasons
	if diff := cmp.Diff([]haproxy.Reason{haproxy.NoSpare}, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/odd"}, askers(running, want, reasons)); diff != "" {
		t.Errorf("askers (-want +got):\n%s", diff)
	}
}
