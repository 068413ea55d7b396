package marathon

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// watched is a watcher over one source, and its newest table.
type watched struct {
	*discovery.Watcher
	t      *testing.T
	cancel context.CancelFunc
	done   chan error

	mu    sync.Mutex
	table *signalbox.Table
}

func (w *world) watch(dir string, cfg Config) *watched {
	w.t.Helper()
	cfg.URLs, cfg.dial = []string{"http://m1:8080"}, w.dial
	src, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	out := make(chan *discovery.Change)
	d := &watched{
		t: w.t, cancel: cancel, done: make(chan error, 1),
		Watcher: discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{src}, StateDir: dir}),
	}
	go func() { d.done <- d.Run(ctx, out) }()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case c := <-out:
				d.mu.Lock()
				d.table = c.Table
				d.mu.Unlock()
			}
		}
	}()
	return d
}

func (d *watched) stop() {
	d.cancel()
	if err := <-d.done; err != nil {
		d.t.Errorf("Run: %v", err)
	}
}

func (d *watched) apps() int {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	n, _ := d.table.Counts()
	return n
}

// until waits for a number of apps on the fake clock, and returns how long that took.
func (d *watched) until(n int, within time.Duration) time.Duration {
	d.t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if d.apps() == n {
			return time.Since(began)
		}
		if time.Since(began) > within {
			d.t.Fatalf("%d apps after %s, want %d (%+v)", d.apps(), within, n, d.Status())
		}
	}
}

func (d *watched) stays(n int, for_ time.Duration) {
	d.t.Helper()
	for end := time.Now().Add(for_); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got := d.apps(); got != n {
			d.t.Fatalf("%d apps, want %d (%+v)", got, n, d.Status())
		}
	}
}

// fifty starts a Marathon of 50 apps and a watcher that has read it.
func fifty(t *testing.T) (*world, *stub, *watched) { return some(t, 50) }

// some watches a Marathon with so many apps of two tasks each.
func some(t *testing.T, n int) (*world, *stub, *watched) {
	w := newWorld(t, "m1:8080")
	m := w.at["m1:8080"]
	for i := range n {
		m.put(fmt.Sprintf("/app-%02d", i), 1, 2)
	}
	d := w.watch("", Config{})
	t.Cleanup(d.stop)
	d.until(n, 5*time.Second)
	time.Sleep(time.Second)
	return w, m, d
}

func emptyApps(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/v2/apps" {
		return false
	}
	reply(w, 200, `{"apps":[]}`)
	return true
}

func TestEmptyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, d := fifty(t)
		left := 1
		m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/apps" || left == 0 {
				return false
			}
			left--
			return emptyApps(w, r)
		})
		m.drop() // the reconnected stream asks for a whole read
		d.stays(50, 3*time.Minute)
		if left != 0 || d.Status()[0].Quarantined != "" {
			t.Errorf("%d empty answers are left, status %+v", left, d.Status()[0])
		}
	})
}

func TestEmptyForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, d := fifty(t)
		m.setFault(emptyApps)
		m.drop()
		d.stays(50, 15*time.Second)
		d.until(0, 20*time.Second)
		m.setFault(nil)
		d.until(50, 2*time.Minute)
	})
}

// That every app has just been deployed does not explain that there is none.
func TestEmptyAfterDeployments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, d := fifty(t)
		for i := range 50 {
			m.event("api_post_event", `"appDefinition":{"id":%q}`, fmt.Sprintf("/app-%02d", i))
		}
		d.stays(50, 5*time.Second)
		m.setFault(emptyApps)
		m.drop()
		d.stays(50, 15*time.Second)
		if d.Status()[0].Quarantined == "" {
			t.Errorf("nothing is held back: %+v", d.Status()[0])
		}
		m.setFault(nil)
		d.stays(50, time.Minute)
	})
}

// The one app that there is goes at once when Marathon answers that there is none of its name.
func TestLastAppGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, d := some(t, 1)
		m.remove("/app-00")
		m.event("api_post_event", `"appDefinition":{"id":"/app-00"}`)
		if took := d.until(0, 20*time.Second); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAlternatingLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, d := fifty(t)
		n := 0
		m.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/apps" {
				return false
			}
			n++
			return n%2 == 1 && emptyApps(w, r)
		})
		for range 10 {
			m.drop()
			d.stays(50, 30*time.Second)
		}
	})
}

func TestAnnouncedDeletionsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, d := fifty(t)
		for i := range 50 {
			id := fmt.Sprintf("/app-%02d", i)
			m.remove(id)
			for _, n := range []int{1, 2} {
				m.status(id, task(id, n), "TASK_KILLED")
			}
			m.event("app_terminated_event", `"appId":%q`, id)
		}
		if d := d.until(0, 10*time.Second); d > 2*time.Second {
			t.Errorf("50 announced deletions took %s", d)
		}
	})
}

// TestRestartWhileMarathonIsDown: the stored state is served at once, as it was.
func TestRestartWhileMarathonIsDown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "m1:8080")
		m := w.at["m1:8080"]
		for i := range 50 {
			healthy := fmt.Sprint(i%2 == 0)
			m.apps[fmt.Sprintf("/app-%02d", i)] = appJSON(fmt.Sprintf("/app-%02d", i), &healthy, 1, 2)
		}
		d := w.watch(dir, Config{})
		d.until(50, 5*time.Second)
		before := d.table
		d.stop()

		m.mu.Lock()
		m.down = true
		m.mu.Unlock()
		for range 20 {
			d = w.watch(dir, Config{})
			d.until(50, 0)
			if !d.table.Equal(before) {
				t.Fatal(signalbox.DiffText(before, d.table))
			}
			d.stays(50, 3*time.Minute)
			if st := d.Status()[0]; st.Level != signalbox.Degraded {
				t.Errorf("status %+v", st)
			}
			d.stop()
		}

		// It comes back failed over: no health is known, and the verdicts before stand.
		m.mu.Lock()
		m.down = false
		for i := range 50 {
			unknown := ""
			m.apps[fmt.Sprintf("/app-%02d", i)] = appJSON(fmt.Sprintf("/app-%02d", i), &unknown, 1, 2)
		}
		m.mu.Unlock()
		d = w.watch(dir, Config{})
		t.Cleanup(d.stop)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, s := range d.table.Services {
			for i, e := range s.Endpoints {
				if was := before.Service(s.ID).Endpoints[i]; e.State != was.State {
					t.Fatalf("%s was %s and is %s (%s)", e.Task, was.State, e.State, e.Why)
				}
			}
		}
	})
}
