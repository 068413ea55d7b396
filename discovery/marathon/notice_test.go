package marathon

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
