package marathon

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
