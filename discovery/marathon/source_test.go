package marathon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"signalbox/discovery"
)

// one starts a world of one Marathon with the app /shop of two tasks, and a source that has read it.
func one(t *testing.T, cfg Config) (*stub, *follower) {
	t.Helper()
	w := newWorld(t, "m1:8080")
	m := w.at["m1:8080"]
	m.put("/shop", 1, 2)
	f := w.follow(cfg)
	t.Cleanup(f.stop)
	f.expect("/shop: 1=up 2=up", 5*time.Second)
	time.Sleep(time.Second)
	return m, f
}

func TestColdStartIsOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		if n := m.count("/v2/apps"); n != 1 {
			t.Errorf("%d whole reads, want 1", n)
		}
		u := f.last()
		if !u.Whole || u.Cause != "resync" {
			t.Errorf("the first update: whole %t, cause %q", u.Whole, u.Cause)
		}
		if !f.health().Connected || f.health().Err != "" || f.health().LastRead.IsZero() {
			t.Errorf("health %+v", f.health())
		}
	})
}

func TestUnchangedAppsKeepTheirPointers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.put("/other", 1)
		f.again <- struct{}{}
		f.expect("/other: 1=up; /shop: 1=up 2=up", 5*time.Second)
		before := f.last().State
		m.put("/shop", 1)
		f.again <- struct{}{}
		f.expect("/other: 1=up; /shop: 1=up", 5*time.Second)
		if after := f.last().State; after[0] != before[0] || after[1] == before[1] {
			t.Error("pointers do not follow what changed")
		}
	})
}

func TestBadAppKeepsItsLastGoodServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.put("/other", 1)
		m.mu.Lock()
		m.apps["/shop"] = `{"id":"/shop","labels":[1,2]}`
		m.mu.Unlock()
		f.again <- struct{}{}
		f.expect("/other: 1=up; /shop: 1=up 2=up", 5*time.Second)
		if p := f.last().Problems; len(p) != 1 || p[0].App != "/shop" {
			t.Errorf("problems %v, want one of /shop", p)
		}
	})
}

// TestSourceFaults: whatever the API answers, nothing that was known is lost, and the state heals once it answers again.
func TestSourceFaults(t *testing.T) {
	status := func(code int, typ, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/events" {
				return false
			}
			w.Header().Set("Content-Type", typ)
			w.WriteHeader(code)
			io.WriteString(w, body)
			return true
		}
	}
	for _, c := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
		err   string // part of what health says
		slow  bool   // a request that is stuck must end first
	}{
		{"401", status(401, "application/json", `{"message":"no"}`), "401", false},
		{"500", status(500, "application/json", `{"message":"URI not found"}`), "500", false},
		{"502 without a leader", status(502, "text/html", "<html>Could not determine the current leader</html>"), "502", false},
		{"503 busy", status(503, "application/json", `{"message":"Too many concurrent requests! Allowed: 1."}`), "503", false},
		{"200 with an empty body", status(200, "application/json", ""), "empty", false},
		{"200 with white space", status(200, "application/json", " \n"), "empty", false},
		{"HTML", status(200, "text/html", "<html><body>login</body></html>"), "not JSON", false},
		{"half JSON", status(200, "application/json", `{"apps":[`+appJSON("/shop", nil, 1)[:40]), "too early", false},
		{"a body cut between apps", status(200, "application/json", `{"apps":[`+appJSON("/shop", nil, 1)+`,`), "too early", false},
		{"no apps", status(200, "application/json", `{"message":"hello"}`), "no apps", false},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/events" {
				return false
			}
			http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
			return true
		}, "302", false},
		{"one byte a second", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/events" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			for range 120 {
				if _, err := io.WriteString(w, " "); err != nil || http.NewResponseController(w).Flush() != nil {
					break
				}
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
					return true
				}
			}
			return true
		}, "deadline", true},
		{"silence", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/events" {
				return false
			}
			<-r.Context().Done()
			return true
		}, "silent", true},
		{"a connection cut in the body", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/events" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"apps":[`)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "too early", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := one(t, Config{})
				updates := f.sent()
				m.setFault(c.fault)
				f.again <- struct{}{}
				m.status("/shop", task("/shop", 2), "TASK_RUNNING")
				said := ""
				for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
					synctest.Wait()
					if strings.Contains(f.err(), c.err) {
						said = f.err()
					}
					f.expect("/shop: 1=up 2=up", 0)
				}
				if said == "" {
					t.Errorf("health never says %q; now %q", c.err, f.err())
				}
				if f.sent() != updates {
					t.Errorf("%d updates came of failures", f.sent()-updates)
				}
				if n := m.count("/v2/apps"); n < 5 || n > 200 {
					t.Errorf("%d whole reads were tried in 10 minutes", n)
				}
				m.setFault(nil)
				m.put("/shop", 2, 3)
				if d := f.expect("/shop: 2=up 3=up", 2*time.Minute); d > 10*time.Second && !c.slow {
					t.Errorf("healed after %s", d)
				}
				f.expect("/shop: 2=up 3=up", 0)
				if f.err() != "" {
					time.Sleep(6 * time.Second)
					if f.err() != "" {
						t.Errorf("health still says %q", f.err())
					}
				}
			})
		})
	}
}

func TestEmptyAppsAreReadAsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.remove("/shop")
		f.again <- struct{}{} // the watcher, not the source, doubts it
		f.expect("", 5*time.Second)
		if u := f.last(); !u.Whole || u.State == nil || len(u.Explained.Apps) != 0 {
			t.Errorf("update %+v", u)
		}
	})
}

func TestOversizeBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{MaxBody: 64 << 10})
		m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/apps" {
				return false
			}
			reply(w, 200, `{"apps":[],"padding":"`+strings.Repeat("x", 1<<20)+`"}`)
			return true
		})
		f.again <- struct{}{}
		f.always("/shop: 1=up 2=up", 10*time.Second)
		if !strings.Contains(f.err(), "larger") {
			t.Errorf("health says %q", f.err())
		}
	})
}

// TestVerdictsOutliveAGap: a Marathon that has failed over first lists nothing, then apps without health.
func TestVerdictsOutliveAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		set := func(verdict string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.apps["/shop"] = appJSON("/shop", &verdict, 1, 2)
		}
		set("true")
		f.again <- struct{}{}
		time.Sleep(time.Second)
		m.remove("/shop")
		f.again <- struct{}{}
		f.expect("", 5*time.Second)
		set("")
		f.again <- struct{}{}
		f.expect("/shop: 1=up 2=up", 5*time.Second)
	})
}

// TestFailoverWithoutHealth: after a failover Marathon knows no health; the verdicts before stand, also across a restart.
func TestFailoverWithoutHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "m1:8080")
		m := w.at["m1:8080"]
		set := func(verdict string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.apps["/shop"] = appJSON("/shop", &verdict, 1, 2)
		}
		set("true")
		f := w.follow(Config{})
		f.expect("/shop: 1=up 2=up", 5*time.Second)
		for range 100 {
			set("")
			m.drop()
			f.always("/shop: 1=up 2=up", 5*time.Second)
		}
		f.stop()

		src, err := New(Config{URLs: []string{"http://m1:8080"}, dial: w.dial})
		if err != nil {
			t.Fatal(err)
		}
		src.Seed(f.last().State)
		f = w.run(src)
		t.Cleanup(f.stop)
		f.expect("/shop: 1=up 2=up", 5*time.Second)
		set("false")
		f.again <- struct{}{}
		f.expect("/shop: 1=down 2=down", 10*time.Second)
		set("")
		f.again <- struct{}{}
		f.always("/shop: 1=down 2=down", 30*time.Second)
	})
}

func TestHostNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dns := map[string]string{"agent1": "10.1.0.1"}
		set := func(host, addr string) {
			mu.Lock()
			defer mu.Unlock()
			dns[host] = addr
		}
		resolver := discovery.NewResolver(discovery.ResolverConfig{LookupHost: func(_ context.Context, host string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			a, err := netip.ParseAddr(dns[host])
			return []netip.Addr{a}, err
		}})
		w := newWorld(t, "m1:8080")
		m := w.at["m1:8080"]
		for app, host := range map[string]string{"/a": "agent1", "/b": "agent2"} {
			m.apps[app] = strings.ReplaceAll(appJSON(app, nil, 1), "10.0.0.1", host)
		}
		f := w.follow(Config{Resolver: resolver, Resync: time.Hour})
		t.Cleanup(f.stop)
		addr := func() string { return f.last().State[0].Endpoints[0].Addr.String() }
		f.expect("/a: 1=up; /b:", 5*time.Second) // agent2 is not known
		if addr() != "10.1.0.1:31001" {
			t.Errorf("the address is %s", addr())
		}
		set("agent2", "10.1.0.2")
		f.expect("/a: 1=up; /b: 1=up", 3*time.Minute)
		set("agent1", "10.1.0.9")
		for end := time.Now().Add(3 * time.Minute); addr() != "10.1.0.9:31001" && time.Now().Before(end); {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		set("agent1", "127.0.0.1") // somebody else's answer must not lead HAProxy to this machine
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if addr() != "10.1.0.9:31001" {
			t.Errorf("the address is %s", addr())
		}
		set("agent1", "") // the name server fails
		time.Sleep(10 * time.Minute)
		f.again <- struct{}{}
		time.Sleep(time.Second)
		f.expect("/a: 1=up; /b: 1=up", 0)
		if addr() != "10.1.0.9:31001" {
			t.Errorf("the address is %s, want the last good one", addr())
		}
	})
}

func TestPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pod = `{"id":"/p","spec":{"id":"/p","version":"2021-06-01T09:58:00.000Z","labels":{"signalbox.host":"p.local"},"networks":[{"mode":"host"}],"containers":[{"name":"c","endpoints":[{"name":"http","hostPort":0,"protocol":["tcp"]}]}]},
			"status":"STABLE","instances":[{"id":"p.instance-1","status":"STABLE","agentHostname":"10.0.0.1","containers":[{"name":"c","status":"TASK_RUNNING","containerId":"p.instance-1","endpoints":[{"name":"http","allocatedHostPort":%d}]}]}]}`
		m, f := one(t, Config{Resync: time.Hour})
		port, broken := 31001, false
		var mu sync.Mutex
		m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			body := fmt.Sprintf(pod, port)
			switch {
			case strings.HasPrefix(r.URL.Path, "/v2/pods") && broken:
				reply(w, 500, `{"message":"oops"}`)
			case r.URL.Path == "/v2/pods/p::status":
				reply(w, 200, body)
			case r.URL.Path == "/v2/pods/::status":
				reply(w, 200, "["+body+"]")
			default:
				return false
			}
			return true
		})
		m.event("pod_created_event", `"uri":"/v2/pods/p"`)
		f.expect("/p: 1=up; /shop: 1=up 2=up", time.Second)
		mu.Lock()
		port = 31005
		mu.Unlock()
		m.status("/p", "p.instance-1", "TASK_RUNNING")
		time.Sleep(time.Second)
		if got := f.last().State[0].Endpoints[0].Addr.Port(); got != 31005 {
			t.Errorf("port %d", got)
		}
		mu.Lock()
		broken = true
		mu.Unlock()
		f.again <- struct{}{}
		f.always("/p: 1=up; /shop: 1=up 2=up", time.Minute) // what cannot be read stays
	})
}

func TestConfigIsChecked(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no URL":                  {},
		"no scheme":               {URLs: []string{"m1:8080"}},
		"a password in the URL":   {URLs: []string{"http://admin:hunter2@m1:8080"}},
		"a password that cuts":    {URLs: []string{"http://admin:hunter2%zz@m1:8080"}},
		"a query":                 {URLs: []string{"http://m1:8080?x=1"}},
		"a user without password": {URLs: []string{"http://m1"}, User: "admin"},
		"no such password file":   {URLs: []string{"http://m1"}, User: "admin", PasswordFile: "/nonexistent"},
		"an empty password file":  {URLs: []string{"http://m1"}, User: "admin", PasswordFile: empty},
		"two secrets":             {URLs: []string{"http://m1"}, User: "admin", PasswordFile: empty, TokenFile: empty},
		"no such CA":              {URLs: []string{"https://m1"}, CAFile: "/nonexistent"},
		"an empty CA":             {URLs: []string{"https://m1"}, CAFile: empty},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(cfg)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestSourceMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.status("/shop", task("/shop", 1), "TASK_KILLED")
		m.event("no_such_event", `"x":1`)
		time.Sleep(time.Second)
		r := prometheus.NewPedanticRegistry()
		if err := r.Register(f.source); err != nil {
			t.Fatal(err)
		}
		want := `
# HELP signalbox_marathon_events_total Events received, by type and by what they led to.
# TYPE signalbox_marathon_events_total counter
signalbox_marathon_events_total{action="drain",type="status_update_event"} 1
signalbox_marathon_events_total{action="ignore",type="other"} 1
`
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "signalbox_marathon_events_total"); err != nil {
			t.Error(err)
		}
	})
}
