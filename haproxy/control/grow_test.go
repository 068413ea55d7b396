package control

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signalbox/haproxy"
)

// A backend that grows past its slots takes no reload where servers can be added; the file follows, and what HAProxy was not told
// by its file when it dies, or the controller, is told or found again.
func TestAnAppOutgrowsItsSlotsWithoutAReload(t *testing.T) {
	r := newRig(t)
	r.supervise()
	r.opts.AddServers, r.opts.MinSlots = true, 4
	s := r.real()
	s.AuditInterval = 100 * time.Millisecond
	_, stop := r.start(s)
	var all addrs
	for i := range 40 {
		all = append(all, task(t, fmt.Sprintf("t%d", i)))
	}
	c := haproxy.Build(table(service("shop", all[:1]...)), r.opts, nil)
	r.apply(c)
	inFile := func() int {
		b, _ := os.ReadFile(filepath.Join(r.dir, configName))
		return strings.Count(string(b), "\n  server s")
	}
	reached := func(n int) {
		t.Helper()
		seen := map[string]bool{}
		r.until(fmt.Sprintf("%d tasks answer", n), func() bool {
			code, body := r.get("shop.local")
			if code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			seen[body] = true
			return len(seen) == n
		})
	}
	grow := func(n int) {
		t.Helper()
		c = haproxy.Build(table(service("shop", all[:n]...)), r.opts, c)
		if out := r.apply(c); out.Reloaded {
			t.Fatalf("growing to %d: %+v", n, out)
		}
		reached(n)
		r.until("the file follows", func() bool { return inFile() == len(c.Backends[0].Slots) && r.app.Status().FileBehind == 0 })
	}
	grow(3)
	grow(9)
	grow(20)
	if n := counterValue(t, r.app.met.repairs.WithLabelValues("server")); n != 0 {
		t.Errorf("the audit repaired %v servers", n)
	}

	// Somebody deletes a server, which the audit adds again, and gives HAProxy one of his own, which only a reload takes away.
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	b := c.Backends[0].Name
	if _, err := rt.Do(t.Context(), "set server "+b+"/s32 state maint", "del server "+b+"/s32"); err != nil {
		t.Fatal(err)
	}
	servers := func() int {
		all, err := rt.Servers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	r.until("the audit adds the server again", func() bool { return servers() == 32 })
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads, want the first start only", n)
	}
	if _, err := rt.Do(t.Context(), "add server "+b+"/own 127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	r.until("the server of somebody else's goes", func() bool { return r.app.Status().Reloads == 2 })
	if reason := r.app.Status().ReloadReason; !strings.Contains(reason, string(ReasonShape)) {
		t.Errorf("reloaded for %q", reason)
	}
	rt.Close()
	reached(20)
	stop()

	// The controller starts anew while its state on disk is older: as if it had been killed right after it added servers.
	older := map[string][]byte{}
	for _, n := range []string{configName, stateName, manifest} {
		older[n], _ = os.ReadFile(filepath.Join(r.dir, n))
	}
	next := func() (stop func()) {
		second := New(s)
		prev, err := second.Recover(t.Context())
		if err != nil || prev == nil {
			t.Fatalf("recovered %v, %v", prev, err)
		}
		r.app, c = second, prev
		return r.background(second.Run)
	}
	stop = next()
	grow(40)
	stop()
	for n, b := range older {
		if err := os.WriteFile(filepath.Join(r.dir, n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := r.proc()
	next()
	if n := len(c.Backends[0].Slots); n != 64 {
		t.Errorf("%d slots are recovered, want 64", n)
	}
	c = haproxy.Build(table(service("shop", all...)), r.opts, c)
	if out := r.apply(c); out.Reloaded || r.proc().Workers[0] != before.Workers[0] {
		t.Errorf("after the controller was killed: %+v", out)
	}
	reached(40)
}

// A worker that dies before the file says that it was given servers comes back with fewer; it is given them again.
func TestServersThatWereAddedSurviveTheWorker(t *testing.T) {
	r := newRig(t)
	r.supervise()
	r.opts.AddServers, r.opts.MinSlots = true, 2
	s := r.real()
	s.FileInterval = time.Hour
	r.start(s)
	one, two, three := task(t, "one"), task(t, "two"), task(t, "three")
	c := haproxy.Build(table(service("shop", one)), r.opts, nil)
	r.apply(c)
	time.Sleep(1100 * time.Millisecond) // a worker's start is known to the second
	c = haproxy.Build(table(service("shop", one, two, three)), r.opts, c)
	if out := r.apply(c); out.Reloaded || len(c.Backends[0].Slots) < 4 {
		t.Fatalf("%+v with %d slots", out, len(c.Backends[0].Slots))
	}
	p := r.proc()
	kill9(t, p.Workers[0].PID)
	r.until("a new worker", func() bool {
		st := r.app.Status()
		return st.Level == "ok" && st.PID != p.Workers[0].PID
	})
	for _, name := range []string{"one", "two", "three"} {
		r.answers("shop.local", name)
	}
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads, want the first start only", n)
	}
}
