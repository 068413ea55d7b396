package marathon

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	before = "2021-06-01T09:58:00.000Z" // the version of the stub's apps
	after  = "2021-06-01T10:30:00.000Z"
)

// upgraded is the stub's app amid a deployment that puts another port before its own: task 1 is of the version before, task 3 of today's.
func upgraded() string {
	return fmt.Sprintf(`{"id":"/shop","version":%[1]q,"versionInfo":{"lastConfigChangeAt":%[1]q},"labels":{"signalbox.http.host":"shop.local"},
		"networks":[{"mode":"host"}],"portDefinitions":[{"port":10002,"name":"admin"},{"port":10001,"name":"http"}],"tasks":[
		{"id":%[3]q,"host":"10.0.0.1","ports":[31001],"state":"TASK_RUNNING","version":%[2]q},
		{"id":%[4]q,"host":"10.0.0.1","ports":[31002,31003],"state":"TASK_RUNNING","version":%[1]q}]}`,
		after, before, task("/shop", 1), task("/shop", 3))
}

func (f *follower) addresses() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, s := range f.state {
		for _, e := range s.Endpoints {
			all = append(all, e.Addr.String())
		}
	}
	return strings.Join(all, " ")
}

// A source that has followed an app knows its version of before, and asks Marathon for nothing.
func TestVersionsAreLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		m.mu.Lock()
		m.apps["/shop"] = upgraded()
		m.mu.Unlock()
		m.status("/shop", task("/shop", 3), "TASK_RUNNING")
		f.expect("/shop: 1=up 3=up", time.Second)
		if got := f.addresses(); got != "10.0.0.1:31001 10.0.0.1:31003" {
			t.Errorf("the tasks are at %s", got)
		}
		if n := m.count("/v2/apps/shop/versions/*"); n != 0 {
			t.Errorf("%d questions for what was known", n)
		}
		m.put("/shop", 3)
		m.status("/shop", task("/shop", 1), "TASK_KILLED")
		f.expect("/shop: 3=up", time.Second)
		if n := len(f.source.shapes.apps["/shop"]); n > 2 {
			t.Errorf("%d versions are remembered", n)
		}
	})
}

// A source that comes amid a deployment asks, once. While no answer comes, and where there is none, it does what can be done.
func TestVersionsAreAsked(t *testing.T) {
	definition := `{"id":"/shop","networks":[{"mode":"host"}],"portDefinitions":[{"port":10001,"name":"http"}]}`
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		within time.Duration
		want   string
	}{
		{"it is known", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, definition) }, time.Second, "1=up 3=up"},
		{"it is forgotten", func(w http.ResponseWriter, _ *http.Request) {
			reply(w, 404, `{"message":"App '/shop' does not exist in version x"}`)
		}, time.Second, "3=up"},
		{"nobody answers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 3 * time.Second, "3=up"},
		{"it is nonsense", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, `[]`) }, time.Second, "3=up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "m1:8080")
				m := w.at["m1:8080"]
				m.apps["/shop"] = upgraded()
				m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, "/versions/") {
						return false
					}
					c.answer(w, r)
					return true
				})
				f := w.follow(Config{})
				t.Cleanup(f.stop)
				f.expect("/shop: "+c.want, c.within)
				if c.want == "1=up 3=up" {
					if got := f.addresses(); got != "10.0.0.1:31001 10.0.0.1:31003" {
						t.Errorf("the tasks are at %s", got)
					}
					f.always("/shop: "+c.want, time.Minute)
					if n := m.count("/v2/apps/shop/versions/*"); n != 1 {
						t.Errorf("%d questions, want one", n)
					}
				}
			})
		})
	}
}

// While the version of a task with an address is read, the task stays there, and the read does not wait.
func TestVersionsAreNotAwaitedWhereTasksArePlaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := one(t, Config{})
		release := make(chan struct{})
		m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/versions/") {
				return false
			}
			<-release
			reply(w, 200, `{"id":"/shop","networks":[{"mode":"host"}],"portDefinitions":[{"port":10001,"name":"http"}]}`)
			return true
		})
		m.mu.Lock()
		// A version that the source has never seen: the app was changed twice while nobody looked.
		m.apps["/shop"] = strings.ReplaceAll(upgraded(), before, "2021-06-01T10:10:00.000Z")
		m.mu.Unlock()
		m.status("/shop", task("/shop", 3), "TASK_RUNNING")
		if d := f.expect("/shop: 1=up 3=up", time.Second); d > 200*time.Millisecond {
			t.Errorf("it took %s", d)
		}
		close(release)
		f.always("/shop: 1=up 3=up", time.Minute)
		if got := f.addresses(); got != "10.0.0.1:31001 10.0.0.1:31003" {
			t.Errorf("the tasks are at %s", got)
		}
	})
}
