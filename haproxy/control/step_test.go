package control

import (
	"sync"
	"testing"
	"time"
)

// Whoever keeps a record of what was done is told of every step, with numbers that go on from an earlier run: what was changed without a
// reload, what needed one, what was rejected, and what an audit has repaired.
func TestEveryStepIsTold(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	var mu sync.Mutex
	var steps []Step
	s.Supervisor, s.AuditInterval, s.Generation = r.sup, 200*time.Millisecond, 40
	s.Told = func(step Step) {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, step)
	}
	last := func() Step {
		mu.Lock()
		defer mu.Unlock()
		return steps[len(steps)-1]
	}
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	first := r.config(app{name: "shop", tasks: addrs{one}})
	r.apply(first)
	if got := last(); got.Generation != 41 || !got.Reloaded || len(got.Reasons) == 0 || got.Want != first || !got.Done || got.At.IsZero() {
		t.Errorf("after the first reload: %+v", got)
	}
	r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
	if got := last(); got.Generation != 42 || got.Commands == 0 || got.Reloaded || !got.Done || got.Cause != "" {
		t.Errorf("after a move: %+v", got)
	}

	bad := r.config(app{name: "bad", tasks: addrs{one}, bad: "frobnicate yes"}, app{name: "shop", tasks: addrs{two}})
	r.apply(bad)
	mu.Lock()
	rejected := false
	for _, step := range steps {
		rejected = rejected || step.Want == bad && step.Err != nil && len(step.Withheld) == 1 && step.Withheld[0].App == "/bad"
	}
	mu.Unlock()
	if got := last(); !rejected || got.Want != bad || !got.Done || len(got.Withheld) != 1 || got.Err != nil {
		t.Errorf("after a rejection: %+v", got)
	}

	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	if _, err := rt.Do(t.Context(), "set server b_shop/s1 state maint"); err != nil {
		t.Fatal(err)
	}
	r.until("the audit's repair is told", func() bool { return last().Cause == CauseAudit && last().Commands > 0 })
	r.answers("shop.local", "two")
	generation := last().Generation
	if got := r.apply(r.config(app{name: "shop", tasks: addrs{one}})); got.Generation <= generation || last().Cause != "" {
		t.Errorf("after the repair: generation %d of %d, %+v", got.Generation, generation, last())
	}
}
