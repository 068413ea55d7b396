package control

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"signalbox"
	"signalbox/haproxy"
)

type addrs = []netip.AddrPort

func TestScalingAndMovingNeedNoReload(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	r.start(s)
	one, two := task(t, "one"), task(t, "two")

	out := r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	if !out.Reloaded {
		t.Errorf("the first configuration needs HAProxy to load it: %+v", out)
	}
	r.answers("shop.local", "one")
	before := r.proc()

	out = r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
	if out.Reloaded || out.Commands == 0 {
		t.Errorf("a move takes commands and no reload: %+v", out)
	}
	if _, got := r.get("shop.local"); got != "two" {
		t.Errorf("answer %q after Apply returned, want two", got)
	}
	if after := r.proc(); after.Workers[0].PID != before.Workers[0].PID {
		t.Errorf("worker %d became %d", before.Workers[0].PID, after.Workers[0].PID)
	}
	r.until("the file follows", func() bool {
		b, _ := os.ReadFile(filepath.Join(r.dir, configName))
		return strings.Contains(string(b), two.String()) && r.app.Status().FileBehind == 0
	})
}

func TestNewBackendReloadsWithReason(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	first := r.proc().Workers[0].PID

	out := r.apply(r.config(app{name: "cart", tasks: addrs{two}}, app{name: "shop", tasks: addrs{one}}))
	if !out.Reloaded || len(out.Reasons) != 1 || out.Reasons[0] != haproxy.BackendAdded {
		t.Errorf("outcome %+v, want one reload for %q", out, haproxy.BackendAdded)
	}
	r.answers("cart.local", "two")
	p := r.proc()
	if p.Workers[0].PID == first || p.Reloads != 1 {
		t.Errorf("processes %+v, want one reload", p)
	}
	st := r.app.Status()
	if st.PID != p.Workers[0].PID || st.ReloadReason != string(haproxy.BackendAdded) || st.Level != "ok" {
		t.Errorf("status %+v", st)
	}
}

func TestKilledHAProxyComesBackWithTheSameState(t *testing.T) {
	for _, victim := range []string{"worker", "master"} {
		t.Run(victim, func(t *testing.T) {
			r := newRig(t)
			r.supervise()
			s := r.settings()
			s.Supervisor = r.sup
			s.FileInterval = time.Hour // the file stays behind: the state must come from the model
			r.start(s)
			one, two := task(t, "one"), task(t, "two")
			r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
			time.Sleep(1100 * time.Millisecond) // a worker's start is known to the second
			r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
			r.answers("shop.local", "two")
			p := r.proc()
			if victim == "worker" {
				kill9(t, p.Workers[0].PID)
			} else {
				kill9(t, p.Master)
			}
			r.until("a new worker", func() bool {
				st := r.app.Status()
				return st.Level == "ok" && st.PID != p.Workers[0].PID
			})
			r.answers("shop.local", "two")
			if n := r.app.Status().Reloads; n != 1 {
				t.Errorf("%d reloads, want the first start only", n)
			}
		})
	}
}

func TestControllerRestartNeedsNoReload(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	_, stop := r.start(s)
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one, two}}))
	r.apply(r.config(app{name: "shop", tasks: addrs{two, one}}))
	before := r.proc()
	stop()

	second := New(r.settings())
	r.app = second
	prev, err := second.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := backend(prev, "b_shop")
	if b == nil || b.Slots[0].Addr != two || b.Slots[0].Task != "shop.0" || b.Slots[1].Addr != one {
		t.Fatalf("recovered %+v, want the slots as they run", prev)
	}
	r.background(second.Run)
	if out := r.apply(r.config(app{name: "shop", tasks: addrs{two, one}})); out.Reloaded || out.Commands != 0 {
		t.Errorf("nothing changed, and yet: %+v", out)
	}
	if after := r.proc(); after.Workers[0] != before.Workers[0] {
		t.Errorf("processes %+v became %+v", before, after)
	}
	r.answers("shop.local", "two")
}

func TestControllerKilledBeforeTheFileFollowed(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.FileInterval, s.Supervisor = time.Hour, r.sup
	first := New(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); first.Run(ctx) }()
	r.app = first
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	files := map[string][]byte{}
	for _, n := range []string{configName, stateName, manifest} {
		files[n], _ = os.ReadFile(filepath.Join(r.dir, n))
	}
	r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
	cancel()
	<-done
	for n, b := range files { // as if the controller had been killed: its last writes never happened
		if err := os.WriteFile(filepath.Join(r.dir, n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := r.proc()
	second := New(r.settings())
	prev, err := second.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := backend(prev, "b_shop").Slots[0].Addr; got != two {
		t.Errorf("recovered address %s, want what runs: %s", got, two)
	}
	r.app = second
	r.background(second.Run)
	if out := r.apply(r.config(app{name: "shop", tasks: addrs{two}})); out.Reloaded {
		t.Errorf("outcome %+v, want no reload", out)
	}
	if after := r.proc(); after.Workers[0] != before.Workers[0] {
		t.Errorf("processes %+v became %+v", before, after)
	}
}

func TestRejectedAppIsWithheldAlone(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	r.start(s)
	one, two, three := task(t, "one"), task(t, "two"), task(t, "three")
	out := r.apply(r.config(app{name: "bad", tasks: addrs{two}, bad: "frobnicate yes"}, app{name: "shop", tasks: addrs{one}}))
	if len(out.Problems) != 1 || out.Problems[0].App != "/bad" || out.Problems[0].Code != "SB401" {
		t.Errorf("problems %v, want SB401 for /bad", out.Problems)
	}
	r.answers("shop.local", "one")
	// Changes of the others go on, without a new check of what is known to be bad.
	out = r.apply(r.config(app{name: "bad", tasks: addrs{two}, bad: "frobnicate yes"}, app{name: "shop", tasks: addrs{three}}))
	if out.Reloaded {
		t.Errorf("outcome %+v, want commands only", out)
	}
	r.answers("shop.local", "three")
	// The repaired app comes in.
	r.apply(r.config(app{name: "bad", tasks: addrs{two}}, app{name: "shop", tasks: addrs{three}}))
	r.answers("bad.local", "two")
	// A bad version of an app that works leaves the last good one in place, with its tasks of today.
	r.apply(r.config(app{name: "bad", tasks: addrs{one}, bad: "frobnicate again"}, app{name: "shop", tasks: addrs{three}}))
	r.answers("bad.local", "one")
	if p := r.app.Problems(); len(p) != 1 || !strings.Contains(p[0].Action, "last good") {
		t.Errorf("problems %v", p)
	}
}

// The last good configuration of a withheld app is not lost while nobody knows what a HAProxy has loaded that was just restarted.
func TestWithheldAppKeepsItsLastGoodWhileHAProxyIsUnknown(t *testing.T) {
	r := newRig(t)
	one := task(t, "one")
	good := r.config(app{name: "bad", tasks: addrs{one}})
	want := r.config(app{name: "bad", tasks: addrs{one}, bad: "frobnicate yes"})
	a := New(r.settings())
	a.want, a.earlier = want, good
	a.withheld.apps["/bad"] = heldApp{shape: shapeOf(want, "/bad")}
	got := backend(a.effect(), "b_bad")
	if got == nil || got.Check != good.Backends[0].Check {
		t.Errorf("the backend is %+v, want its last good definition", got)
	}
}

// A withheld app has the tasks of today and what stood in maps for its last good definition, in as many slots as it needs.
func TestWithheldAppHasItsTasksAndSettings(t *testing.T) {
	r := newRig(t)
	opts := r.opts
	good, bad := service("shop", netip.MustParseAddrPort("127.0.0.1:9")), service("shop")
	good.Policy.Timeout, bad.Policy.Timeout = 7*time.Second, 9*time.Second
	bad.Policy.Raw = []string{"frobnicate yes"}
	for i := range 100 {
		bad.Endpoints = append(bad.Endpoints, signalbox.Endpoint{
			Task: fmt.Sprintf("shop.%03d", i), Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1000+i)), State: signalbox.Up,
		})
	}
	loaded := haproxy.Build(table(good), opts, nil)
	want := haproxy.Build(table(bad), opts, loaded)
	w := newWithheld()
	w.apps["/shop"] = heldApp{shape: shapeOf(want, "/shop")}
	got := w.apply(want, loaded)
	b := got.Backends[0]
	if n := len(b.Slots) - len(slices.DeleteFunc(slices.Clone(b.Slots), func(s haproxy.Server) bool { return s.Task != "" })); n != 100 {
		t.Errorf("%d tasks, want 100", n)
	}
	if len(b.Policy.Raw) > 0 || len(got.Timeouts) != 1 || got.Timeouts[0].Value != "7000" {
		t.Errorf("policy %+v and timeouts %v, want the last good ones", b.Policy, got.Timeouts)
	}
}

func TestOccupiedPortCostsThatPortOnly(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	r.start(s)
	one := task(t, "one")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	out := r.apply(r.config(app{name: "cart", tasks: addrs{one}}, app{name: "shop", tasks: addrs{one}, listen: port}))
	if len(out.Problems) != 1 || out.Problems[0].Code != "SB402" {
		t.Errorf("problems %v, want SB402", out.Problems)
	}
	r.answers("cart.local", "one")
	if p := r.proc(); p.Failed != 0 {
		t.Errorf("HAProxy was made to try: %+v", p)
	}
	if n := testutil.ToFloat64(r.app.met.checks.WithLabelValues("accepted")); n != 2 {
		t.Errorf("%v checks for two configurations that were loaded", n)
	}
}

func TestFailedReloadKeepsTheOldWorkerAndRetries(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// A port that only HAProxy's own attempt finds occupied.
	r.mu.Lock()
	r.extra = fmt.Sprintf("listen surprise\n  bind %s\n", l.Addr())
	r.mu.Unlock()
	want := r.config(app{name: "cart", tasks: addrs{two}}, app{name: "shop", tasks: addrs{one}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := r.app.Apply(ctx, want); err == nil || !strings.Contains(err.Error(), "could not load") {
		t.Fatalf("Apply: %v, want a failed reload", err)
	}
	if _, got := r.get("shop.local"); got != "one" {
		t.Errorf("the old worker answers %q", got)
	}
	if st := r.app.Status(); st.Level != "degraded" {
		r.until("degraded", func() bool { return r.app.Status().Level == "degraded" })
	}
	if n := counterValue(t, r.app.met.reloadFailures.WithLabelValues("failed")); n == 0 {
		t.Error("the failed reload is not counted")
	}
	l.Close()
	r.answers("cart.local", "two")
}

// surprising starts an Applier whose renderings of a configuration with a cart cannot be loaded: its port is held. free lets go of it.
func surprising(t *testing.T, s func(*Settings)) (r *rig, free func() error) {
	t.Helper()
	r = newRig(t)
	r.supervise()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	set := r.settings()
	set.Supervisor = r.sup
	set.Render = func(c *haproxy.Config) ([]File, error) {
		files, err := r.render(c)
		if c.Backend("b_cart") != nil {
			files[0].Data = append(files[0].Data, fmt.Sprintf("listen surprise\n  bind %s\n", l.Addr())...)
		}
		return files, err
	}
	if s != nil {
		s(&set)
	}
	r.start(set)
	return r, l.Close
}

// Once what could not be loaded is not wanted any more, nothing is wrong, although nothing was reloaded.
func TestTakenBackFailureIsOver(t *testing.T) {
	r, _ := surprising(t, nil)
	one := task(t, "one")
	shop := r.config(app{name: "shop", tasks: addrs{one}})
	r.apply(shop)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := r.app.Apply(ctx, r.config(app{name: "cart", tasks: addrs{one}}, app{name: "shop", tasks: addrs{one}})); err == nil {
		t.Fatal("the reload did not fail")
	}
	if out := r.apply(shop); out.Reloaded {
		t.Errorf("outcome %+v, want nothing to do", out)
	}
	r.until("all is well", func() bool { return r.app.Status().Level == "ok" })
}

// Whoever waits for what was wanted after a reload began is not told that this one failed.
func TestFailureOfAnOlderConfigurationIsNotThatOfANewer(t *testing.T) {
	rendering, goOn := make(chan bool, 8), make(chan bool)
	r, _ := surprising(t, func(s *Settings) {
		plain := s.Render
		s.Render = func(c *haproxy.Config) ([]File, error) {
			if c.Backend("b_cart") != nil {
				rendering <- true
				<-goOn
			}
			return plain(c)
		}
	})
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	older := r.app.Submit(r.config(app{name: "cart", tasks: addrs{one}}, app{name: "shop", tasks: addrs{one}}))
	<-rendering
	newer := r.app.Submit(r.config(app{name: "pay", tasks: addrs{two}}, app{name: "shop", tasks: addrs{one}}))
	close(goOn)
	if _, err := older(ctx); err == nil {
		t.Error("the older one was not told of its failure")
	}
	if _, err := newer(ctx); err != nil {
		t.Errorf("the newer one was told: %v", err)
	}
	r.answers("pay.local", "two")
}

func TestFullDiskLosesNothing(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	bad := &failingDisk{disk: osDisk{}}
	s.Publisher = NewPublisher(r.dir, -1)
	s.Publisher.disk = bad
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	bad.fail.Store(true)
	r.apply(r.config(app{name: "shop", tasks: addrs{two}})) // over the socket all the same
	r.answers("shop.local", "two")
	r.until("the error is counted", func() bool { return counterValue(t, r.app.met.fileErrors) > 0 })
	bad.fail.Store(false)
	r.until("the file follows", func() bool {
		b, _ := os.ReadFile(filepath.Join(r.dir, configName))
		return strings.Contains(string(b), two.String())
	})
}

func TestAuditRepairsWhatSomebodyElseChanged(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor, s.AuditInterval = r.sup, 200*time.Millisecond
	r.start(s)
	one := task(t, "one")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	if _, err := rt.Do(t.Context(), "set server b_shop/s1 state maint", "del map "+r.dir+"/hosts.map shop.local"); err != nil {
		t.Fatal(err)
	}
	r.answers("shop.local", "one")
	if n := counterValue(t, r.app.met.repairs.WithLabelValues("server")); n != 1 {
		t.Errorf("%v servers repaired, want 1", n)
	}
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads", n)
	}
}

func TestUnexpectedAnswerLeadsToReload(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	s.Diff = func(running, want *haproxy.Config) haproxy.Plan {
		p := diff(running, want)
		for i := range p.Commands {
			p.Commands[i].Text = strings.Replace(p.Commands[i].Text, "b_shop/s1", "b_shop/nosuch", 1)
		}
		return p
	}
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	out := r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
	if !out.Reloaded || out.Reasons[0] != ReasonUnexpected {
		t.Errorf("outcome %+v, want a reload for %q", out, ReasonUnexpected)
	}
	r.answers("shop.local", "two")
}
