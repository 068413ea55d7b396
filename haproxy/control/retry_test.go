package control

import (
	"errors"
	"testing"
	"time"

	"signalbox/haproxy"
)

// Between two reloads passes their interval, and after one that failed a time that doubles from a second to a minute.
func TestReloadsWait(t *testing.T) {
	r := newRig(t)
	s := r.settings()
	s.ReloadInterval = 500 * time.Millisecond
	a := New(s)
	a.running = r.config(app{name: "shop"})
	a.effective = r.config(app{name: "cart"}, app{name: "shop"})
	a.reasons = []haproxy.Reason{haproxy.BackendAdded}
	may := func(at time.Time, want bool, when string) {
		t.Helper()
		if got := a.mayReload(at); got != want {
			t.Errorf("%s: a reload may be made: %t, want %t", when, got, want)
		}
	}
	now := time.Now()
	a.lastTry = now
	may(now, false, "at once")
	may(now.Add(499*time.Millisecond), false, "before the interval has passed")
	may(now.Add(500*time.Millisecond), true, "after the interval")

	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		a.lastTry = time.Now()
		a.reloadFailed(jobResult{}, errors.New("HAProxy does not take it"))
		wait := a.retryAt.Sub(a.lastTry).Round(time.Second)
		if wait != want*time.Second {
			t.Errorf("after another failure it waits for %s, want %s", wait, want*time.Second)
		}
		may(a.retryAt.Add(-time.Millisecond), false, "before the next try")
		may(a.retryAt, true, "at the next try")
	}
}
