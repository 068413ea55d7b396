package marathon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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

func TestEventRefetchesTheOneApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.put("/other", 7)
		m.put("/shop", 1, 2, 3)
		m.status("/shop", task("/shop", 3), "TASK_RUNNING")
		if d := f.expect("/shop: 1=up 2=up 3=up", time.Second); d != 0 {
			t.Errorf("the change took %s, want it at once", d)
		}
		if n := m.count("/v2/apps/*"); n != 1 {
			t.Errorf("%d reads of apps, want 1", n)
		}
		if u := f.last(); u.Event.IsZero() || u.Whole || !strings.Contains(u.Cause, "status_update_event /shop") {
			t.Errorf("update %q: event %v, whole %t", u.Cause, u.Event, u.Whole)
		}
	})
}

func TestEventsThatCannotChangeRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := one(t, Config{})
		for range 10 {
			m.status("/shop", task("/shop", 3), "TASK_STAGING")
			m.status("/shop", task("/shop", 3), "TASK_STARTING")
			m.event("instance_changed_event", `"runSpecId":"/shop","instanceId":"i","condition":"Provisioned"`)
			m.event("deployment_info", `"plan":{"id":"x","version":"v","steps":[{"actions":[{"action":"ScaleApplication","app":"/shop"}]}]}`)
			m.event("framework_message_event", `"executorId":"x","message":[104,105]`)
			m.event("event_stream_attached", `"remoteAddress":"10.0.0.7"`)
			time.Sleep(time.Second)
		}
		if n := m.count("/v2/apps/*"); n != 0 {
			t.Errorf("%d reads of apps, want none", n)
		}
	})
}

func TestBothFormsOfOneChangeAreOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := one(t, Config{})
		m.status("/shop", task("/shop", 1), "TASK_RUNNING")
		m.event("instance_changed_event", `"runSpecId":"/shop","instanceId":%q,"condition":"Running"`, task("/shop", 1))
		time.Sleep(3 * time.Second)
		if n := m.count("/v2/apps/*"); n != 1 {
			t.Errorf("%d reads for the start of a task, want 1", n)
		}
		m.event("health_status_changed_event", `"appId":"/shop","instanceId":%q,"alive":true`, task("/shop", 1))
		m.event("instance_health_changed_event", `"runSpecId":"/shop","instanceId":%q,"healthy":true`, task("/shop", 1))
		time.Sleep(3 * time.Second)
		if n := m.count("/v2/apps/*"); n != 2 {
			t.Errorf("%d reads after a change of health too, want 2", n)
		}
	})
}

func TestStormIsSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.put("/shop", 1, 2, 3)
		for range 100 { // 10 s of an event each 100 ms, ten at a time
			for range 10 {
				m.status("/shop", task("/shop", 3), "TASK_RUNNING")
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if n := m.count("/v2/apps/*"); n < 10 || n > 102 {
			t.Errorf("%d reads in a storm of 10 s, want at most one per 100 ms and at least one per second", n)
		}
		f.expect("/shop: 1=up 2=up 3=up", 0)
	})
}

func TestFleetSpacesItsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := one(t, Config{FleetSize: 500, Resync: time.Hour})
		time.Sleep(10 * time.Second)
		before := m.count("/v2/apps/*")
		for range 600 {
			m.status("/shop", task("/shop", 3), "TASK_RUNNING")
			time.Sleep(100 * time.Millisecond)
		}
		if n := m.count("/v2/apps/*") - before; n < 10 || n > 14 {
			t.Errorf("one of 500 slaves reads an app %d times in a minute's storm, want once in 5 s", n)
		}
	})
}

func TestDeathDrainsBeforeAnyRead(t *testing.T) {
	for _, status := range []string{
		"TASK_KILLING", "TASK_KILLED", "TASK_FAILED", "TASK_FINISHED", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_DROPPED", "TASK_ERROR",
	} {
		t.Run(status, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := one(t, Config{})
				release := make(chan struct{})
				m.setFault(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
				m.status("/shop", task("/shop", 1), status)
				if d := f.expect("/shop: 1=draining 2=up", time.Second); d != 0 {
					t.Errorf("drained after %s", d)
				}
				if !f.last().Explained.Tasks[task("/shop", 1)] {
					t.Error("the death does not explain the task's absence")
				}
				m.put("/shop", 2)
				close(release)
				f.expect("/shop: 2=up", time.Second)
			})
		})
	}
}

func TestKillEventsDrain(t *testing.T) {
	for typ, body := range map[string]string{
		"unhealthy_task_kill_event":         `"appId":"/shop","taskId":"shop.instance-1"`,
		"unhealthy_instance_kill_event":     `"appId":"/shop","taskId":"shop.instance-1","instanceId":"shop.instance-1"`,
		"unknown_instance_terminated_event": `"runSpecId":"/shop","instanceId":"shop.instance-1","condition":"Gone"`,
		"unknown_task_terminated_event":     `"appId":"/shop","taskId":"shop.instance-1"`,
	} {
		t.Run(typ, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := one(t, Config{})
				m.setFault(func(http.ResponseWriter, *http.Request) bool { time.Sleep(time.Second); return false })
				m.event(typ, "%s", body)
				f.expect("/shop: 1=draining 2=up", 0)
			})
		})
	}
}

// TestReadBeforeDeathDoesNotResurrect: a read that Marathon answered before the death arrives after it.
func TestReadBeforeDeathDoesNotResurrect(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole=%t", whole), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := one(t, Config{})
				m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
					body := appJSON("/shop", nil, 1, 2)
					if r.URL.Path == "/v2/apps" {
						body = `{"apps":[` + body + `]}`
					} else {
						body = `{"app":` + body + `}`
					}
					time.Sleep(2 * time.Second)
					reply(w, 200, body)
					return true
				})
				if whole {
					f.again <- struct{}{}
				} else {
					m.status("/shop", task("/shop", 2), "TASK_RUNNING")
				}
				time.Sleep(time.Second) // the read is under way
				m.status("/shop", task("/shop", 1), "TASK_KILLED")
				m.put("/shop", 2)
				f.expect("/shop: 1=draining 2=up", 0)
				m.setFault(nil)
				for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
					synctest.Wait()
					if strings.Contains(f.text(), "1=up") {
						t.Fatalf("the dead task is back: %s", f.text())
					}
				}
				f.expect("/shop: 2=up", 2*time.Minute)
			})
		})
	}
}

func TestKillIntentOutlastsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.event("unhealthy_instance_kill_event", `"appId":"/shop","taskId":%q,"instanceId":%q`, task("/shop", 1), task("/shop", 1))
		f.always("/shop: 1=draining 2=up", 30*time.Second) // Marathon lists it as running until it is dead
		f.expect("/shop: 1=up 2=up", 3*time.Minute)        // it was not killed after all
		m.put("/shop", 2)
	})
}

func TestUnreachableIsOnlySuspect(t *testing.T) {
	for _, status := range []string{"TASK_LOST", "TASK_UNREACHABLE"} {
		t.Run(status, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := one(t, Config{})
				m.setFault(func(http.ResponseWriter, *http.Request) bool { time.Sleep(time.Second); return false })
				m.status("/shop", task("/shop", 1), status)
				f.expect("/shop: 1=suspect 2=up", 0)
				if f.last().Explained.Tasks[task("/shop", 1)] {
					t.Error("being unreachable explains an absence")
				}
				f.expect("/shop: 1=up 2=up", 2*time.Second) // the read that began after it says that it runs
			})
		})
	}
}

func TestDeletedApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.remove("/shop")
		m.event("app_terminated_event", `"appId":"/shop"`)
		f.expect("", time.Second)
		if u := f.last(); u.State == nil || !u.Explained.Apps["/shop"] {
			t.Errorf("state %v, explained %v", u.State, u.Explained)
		}
		m.put("/shop", 5)
		m.event("api_post_event", `"uri":"/v2/apps","appDefinition":{"id":"/shop"}`)
		f.expect("/shop: 5=up", time.Second)
	})
}

func TestForeign404DeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.setFault(func(w http.ResponseWriter, _ *http.Request) bool {
			http.NotFound(w, nil)
			return true
		})
		m.event("app_terminated_event", `"appId":"/shop"`)
		f.always("/shop: 1=up 2=up", time.Minute)
	})
}

func TestGroupChangeReadsTheAppsThatItsDeploymentNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.put("/a", 1)
		m.put("/b", 1)
		m.event("group_change_success", `"groupId":"/","version":"v1"`)
		m.event("deployment_info", `"plan":{"id":"x","version":"v1","steps":[{"actions":[{"app":"/a"},{"app":"/b"}]},{"actions":[{"app":"/a"}]}]}`)
		f.expect("/a: 1=up; /b: 1=up; /shop: 1=up 2=up", time.Second)
		time.Sleep(time.Second)
		if n := m.count("/v2/apps/*"); n != 2 {
			t.Errorf("%d reads, want one for each app named", n)
		}
		m.put("/a", 1, 2)
		m.event("deployment_success", `"id":"x","plan":{"steps":[[{"app":"/a"}]]}`) // a step as before 1.1
		f.expect("/a: 1=up 2=up; /b: 1=up; /shop: 1=up 2=up", time.Second)
		if !f.last().Explained.Apps["/a"] {
			t.Error("a deployment explains nothing")
		}
	})
}

func TestManyAppsAreOneResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		for i := range 200 {
			m.put(fmt.Sprintf("/app-%03d", i), 1)
		}
		f.again <- struct{}{}
		time.Sleep(time.Second)
		before := m.count("/v2/apps")
		m.setFault(func(http.ResponseWriter, *http.Request) bool { time.Sleep(20 * time.Millisecond); return false })
		for i := range 200 {
			m.status(fmt.Sprintf("/app-%03d", i), "x", "TASK_RUNNING")
		}
		time.Sleep(2 * time.Second)
		if n := m.count("/v2/apps/*"); n > 60 {
			t.Errorf("%d reads of single apps, want a whole read instead", n)
		}
		if n := m.count("/v2/apps") - before; n < 1 || n > 2 {
			t.Errorf("%d whole reads, want one or two", n)
		}
		_ = f
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

func TestMembers(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hosts := []string{"m1:8080", "m2:8080", "m3:8080"}
	setup := func(t *testing.T) (*world, []*stub) {
		w := newWorld(t, append(slices.Clone(hosts), "evil:80")...)
		var ms []*stub
		for _, h := range hosts {
			w.at[h].put("/shop", 1)
			ms = append(ms, w.at[h])
		}
		return w, ms
	}
	urls := []string{"http://m1:8080", "http://m2:8080", "http://m3:8080"}
	const encoded = "YWRtaW46czNjcmV0" // admin:s3cret
	cfg := Config{URLs: urls, User: "admin", PasswordFile: secret}

	t.Run("one member is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			ms[0].down = true
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			if !ms[1].leaked(encoded) {
				t.Error("no credentials were sent to a configured member")
			}
		})
	})
	t.Run("the leader is followed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for _, m := range ms {
				m.leader = "http://m3:8080"
			}
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(5 * time.Minute)
			if n := ms[2].count("/v2/apps"); n < 3 {
				t.Errorf("the leader was asked %d times", n)
			}
			if a, b := ms[0].count("/v2/apps"), ms[1].count("/v2/apps"); a+b > 1 {
				t.Errorf("the others were asked %d and %d times", a, b)
			}
		})
	})
	t.Run("the leader is asked for where no answer names it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for _, m := range ms {
				m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v2/leader" {
						reply(rw, 200, `{"leader":"m2:8080"}`)
						return true
					}
					return false
				})
			}
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(5 * time.Minute)
			if n := ms[1].count("/v2/apps"); n < 3 {
				t.Errorf("the leader was asked %d times", n)
			}
			if n := ms[0].count("/v2/leader") + ms[1].count("/v2/leader") + ms[2].count("/v2/leader"); n != 1 {
				t.Errorf("the leader was asked for %d times, want once", n)
			}
		})
	})
	t.Run("an old Marathon without pods and without a leader to ask for stays the first choice", func(t *testing.T) {
		for _, code := range []int{http.StatusNotFound, http.StatusInternalServerError} {
			synctest.Test(t, func(t *testing.T) {
				w, ms := setup(t)
				for _, m := range ms {
					m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
						if strings.HasPrefix(r.URL.Path, "/v2/pods") || r.URL.Path == "/v2/leader" {
							reply(rw, code, `{"message":"URI not found"}`)
							return true
						}
						return false
					})
				}
				f := w.follow(cfg)
				t.Cleanup(f.stop)
				f.expect("/shop: 1=up", 10*time.Second)
				time.Sleep(10 * time.Minute)
				if a, b := ms[1].count("*"), ms[2].count("*"); a+b != 0 {
					t.Errorf("the others were asked %d and %d times", a, b)
				}
				if f.err() != "" {
					t.Errorf("health says %q", f.err())
				}
			})
		}
	})
	t.Run("a standby redirects the stream to the leader, with credentials", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			ms[0].setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/events" {
					http.Redirect(rw, r, "http://m2:8080/v2/events?"+r.URL.RawQuery, http.StatusFound)
					return true
				}
				return false
			})
			ms[1].setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if u, p, _ := r.BasicAuth(); u != "admin" || p != "s3cret" || r.URL.Path == "/v2/events" && r.URL.Query().Get("plan-format") != "light" {
					reply(rw, 401, `{}`)
					return true
				}
				return false
			})
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(time.Second)
			ms[1].status("/shop", task("/shop", 1), "TASK_KILLED")
			synctest.Wait()
			if !f.health().Connected {
				t.Errorf("health %+v", f.health())
			}
		})
	})
	t.Run("a redirect to a foreign host carries no credentials", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for _, m := range ms {
				m.leader = "http://evil:80"
				m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v2/events" {
						http.Redirect(rw, r, "http://evil/v2/events", http.StatusFound)
						return true
					}
					return false
				})
			}
			evil := w.at["evil:80"]
			evil.setFault(func(rw http.ResponseWriter, _ *http.Request) bool { reply(rw, 401, `{}`); return true })
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(5 * time.Minute)
			if evil.count("*") == 0 {
				t.Error("the redirect was not followed at all")
			}
			if evil.leaked("Basic") {
				t.Error("credentials were sent to a foreign host")
			}
			if f.health().Connected || !strings.Contains(f.err(), "evil") {
				t.Errorf("health %+v", f.health())
			}
			f.expect("/shop: 1=up", 0)
		})
	})
	t.Run("redirects in a circle end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for i, m := range ms {
				to := urls[(i+1)%3]
				m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v2/events" {
						http.Redirect(rw, r, to+"/v2/events", http.StatusFound)
						return true
					}
					return false
				})
			}
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(time.Minute)
			if n := ms[0].count("/v2/events"); n > 60 {
				t.Errorf("%d connections to one member in a minute", n)
			}
		})
	})
	t.Run("two leaders with different lists", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			ms[0].leader, ms[1].leader = "http://m2:8080", "http://m1:8080"
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			f.always("/shop: 1=up", 5*time.Minute)
		})
	})
}

func TestStreamSilentDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		for range 12 { // heart-beats keep it alive: a CR, then an LF
			m.raw("\r")
			time.Sleep(time.Second)
			m.raw("\n")
			time.Sleep(9 * time.Second)
		}
		if n := m.count("/v2/events"); n != 1 {
			t.Fatalf("%d connections while heart-beats come, want 1", n)
		}
		began := time.Now()
		m.put("/shop", 9)
		for m.count("/v2/events") < 2 {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(began); d > 32*time.Second {
			t.Errorf("a dead stream was noticed after %s, want 30 s", d)
		}
		f.expect("/shop: 9=up", 2*time.Second)
	})
}

func TestStreamNeverOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "m1:8080")
		m := w.at["m1:8080"]
		m.put("/shop", 1)
		m.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/events" {
				<-r.Context().Done()
				return true
			}
			return false
		})
		f := w.follow(Config{})
		t.Cleanup(f.stop)
		f.expect("/shop: 1=up", time.Second)
		m.put("/shop", 1, 2)
		f.expect("/shop: 1=up 2=up", 20*time.Second) // polled
	})
}

func TestStreamResetEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		for i := range 120 {
			m.put("/shop", i)
			m.drop()
			time.Sleep(time.Second)
		}
		if n := m.count("/v2/events"); n < 5 || n > 80 {
			t.Errorf("%d connections in 2 minutes", n)
		}
		if n := m.count("/v2/apps"); n > 80 {
			t.Errorf("%d whole reads in 2 minutes", n)
		}
		f.expect("/shop: 119=up", 20*time.Second)
	})
}

func TestOversizeEventIsSkippedAndReadFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{MaxEvent: 64 << 10})
		m.put("/shop", 1, 2, 3)
		m.event("api_post_event", `"appDefinition":{"id":"/shop","env":%q}`, strings.Repeat("x", 1<<20))
		f.expect("/shop: 1=up 2=up 3=up", 5*time.Second)
		if n := m.count("/v2/events"); n != 1 {
			t.Errorf("%d connections, want the stream to stand", n)
		}
		m.put("/shop", 1)
		m.status("/shop", "x", "TASK_RUNNING")
		f.expect("/shop: 1=up", 5*time.Second)
	})
}

func TestTenThousandEventsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		for i := range 10 {
			for range 1000 {
				m.status("/shop", task("/shop", 50+i), "TASK_RUNNING")
			}
			time.Sleep(100 * time.Millisecond)
		}
		m.put("/shop", 4)
		m.status("/shop", task("/shop", 4), "TASK_RUNNING")
		f.expect("/shop: 4=up", 10*time.Second)
		if n := m.count("/v2/apps/*") + m.count("/v2/apps"); n > 30 {
			t.Errorf("%d reads", n)
		}
		if n := m.count("/v2/events"); n != 1 {
			t.Errorf("%d connections: the server would have closed a slow consumer", n)
		}
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
