package discovery

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

func nothingExplained(string, string) bool { return false }

func TestJudgeOneStep(t *testing.T) {
	withTasks := func(n, tasks, of int) []*signalbox.Service {
		s := apps(n, of)
		for i, svc := range s {
			c := *svc
			c.Endpoints = svc.Endpoints[:tasks]
			s[i] = &c
		}
		return s
	}
	draining := func(state []*signalbox.Service) []*signalbox.Service {
		for _, s := range state {
			for i := range s.Endpoints {
				s.Endpoints[i].State = signalbox.Draining
			}
		}
		return state
	}
	for _, c := range []struct {
		name       string
		good, next []*signalbox.Service
		explained  func(app, task string) bool
		held       bool
	}{
		{"nothing at first, and nothing after", nil, nil, nil, false},
		{"growth", apps(10, 2), apps(100, 2), nil, false},
		{"the same", apps(100, 2), apps(100, 2), nil, false},
		{"empty after one app", apps(1, 1), nil, nil, true},
		{"empty after many", apps(100, 3), nil, nil, true},
		{"apps stay, every task is gone", apps(5, 2), withTasks(5, 0, 2), nil, true},
		{"nine apps of ten: fewer than ten are missing, and fewer than ten tasks", apps(10, 1), apps(1, 1), nil, false},
		{"exactly a fifth of the apps", apps(50, 1), apps(40, 1), nil, false},
		{"more than a fifth of the apps", apps(50, 1), apps(39, 1), nil, true},
		{"exactly half of the tasks", apps(10, 4), withTasks(10, 2, 4), nil, false},
		{"more than half of the tasks", apps(10, 4), withTasks(10, 1, 4), nil, true},
		{"all tasks were draining", draining(apps(20, 2)), withTasks(20, 0, 2), nil, false},
		{"empty, and every app's deletion was announced", apps(100, 3), nil, func(string, string) bool { return true }, false},
		{"empty, and the tasks' deaths alone were announced", apps(100, 3), nil, func(_, task string) bool { return task != "" }, true},
		{
			"half of the apps were deleted, the others lose a fifth",
			apps(100, 1), apps(45, 1), func(app, _ string) bool { return app >= "/app-0050" }, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.explained == nil {
				c.explained = nothingExplained
			}
			r := DefaultGuard().judge(c.good, c.next, c.explained, nil, true, time.Unix(1000, 0), false)
			if held := r.held != nil; held != c.held {
				t.Fatalf("held = %t, want %t", held, c.held)
			}
			want := c.next
			if c.held {
				want = c.good
			}
			if diff := cmp.Diff((&signalbox.Table{Services: want}).Services, r.serve, cmp.Comparer((*signalbox.Service).Equal)); diff != "" && len(want)+len(r.serve) > 0 {
				t.Errorf("served (-want +got):\n%s", diff)
			}
		})
	}
}

// TestJudgeStory follows one shrink from suspicion to its end: each step is one read.
func TestJudgeStory(t *testing.T) {
	all, half, none := apps(100, 1), apps(50, 1), []*signalbox.Service(nil)
	type step struct {
		at     int // seconds
		next   []*signalbox.Service
		part   bool // not a whole read
		served int  // how many services
		held   bool
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"three equal reads over 15 s confirm", []step{{0, half, false, 100, true}, {5, half, false, 100, true}, {15, half, false, 50, false}}},
		{"three equal reads too close do not", []step{{0, half, false, 100, true}, {1, half, false, 100, true}, {2, half, false, 100, true}, {16, half, false, 50, false}}},
		{"two reads far apart do not", []step{{0, half, false, 100, true}, {60, half, false, 100, true}, {61, half, false, 50, false}}},
		{"once empty, then back", []step{{0, none, false, 100, true}, {5, all, false, 100, false}}},
		{"alternating lists never shrink", []step{
			{0, half, false, 100, true},
			{10, all, false, 100, false},
			{20, half, false, 100, true},
			{30, all, false, 100, false},
			{40, half, false, 100, true},
			{50, all, false, 100, false},
		}},
		{"reads of single apps do not confirm", []step{{0, half, false, 100, true}, {10, half, true, 100, true}, {20, half, true, 100, true}, {30, half, false, 100, true}, {31, half, false, 50, false}}},
		{"a shrink that deepens is confirmed step by step", []step{
			{0, half, false, 100, true},
			{5, half, false, 100, true},
			{15, none, false, 50, true},
			{20, none, false, 50, true},
			{29, none, false, 50, true},
			{31, none, false, 0, false},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := all
			var held *suspicion
			for i, s := range c.steps {
				r := DefaultGuard().judge(good, s.next, nothingExplained, held, !s.part, time.Unix(int64(1000+s.at), 0), false)
				if len(r.serve) != s.served || (r.held != nil) != s.held {
					t.Fatalf("step %d: serves %d, held %t; want %d, %t", i, len(r.serve), r.held != nil, s.served, s.held)
				}
				good, held = r.serve, r.held
			}
		})
	}
}

func TestJudgeAcceptPasses(t *testing.T) {
	r := DefaultGuard().judge(apps(100, 1), nil, nothingExplained, &suspicion{}, true, time.Unix(0, 0), true)
	if len(r.serve) != 0 || r.held != nil {
		t.Errorf("an accepted shrink serves %d services, held %v", len(r.serve), r.held)
	}
}

// TestHeldStateStillMoves: what a suspicious state adds or changes is served, what it lacks stays.
func TestHeldStateStillMoves(t *testing.T) {
	good := apps(100, 2)
	next := slices.Clone(good[:20])
	changed := *good[0]
	changed.Endpoints = slices.Clone(good[0].Endpoints[1:])
	changed.Endpoints[0].State = signalbox.Draining
	next[0] = &changed
	next = append(next, app("/new", 1))
	r := DefaultGuard().judge(good, next, nothingExplained, nil, true, time.Unix(0, 0), false)
	if r.held == nil {
		t.Fatal("a loss of 80 apps of 100 is not held back")
	}
	table := &signalbox.Table{Services: r.serve}
	if len(r.serve) != 101 || table.Service("/new:0") == nil {
		t.Errorf("serves %d services, want the 100 known ones and the new one", len(r.serve))
	}
	if e := table.Service("/app-0000:0").Endpoints; len(e) != 2 || e[1].State != signalbox.Draining {
		t.Errorf("the changed app has %v, want its missing task and its draining one", e)
	}
	for i, s := range good[1:] {
		if r.serve[i+1] != s {
			t.Fatalf("%s did not keep its pointer", s.ID)
		}
	}
}

// TestNoErrorShrinks: whatever a source reads once, nothing unexplained beyond the guard's limits is lost.
func TestNoErrorShrinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		good := apps(rapid.IntRange(1, 60).Draw(t, "apps"), rapid.IntRange(1, 4).Draw(t, "tasks"))
		var next []*signalbox.Service
		for _, s := range good {
			switch rapid.IntRange(0, 2).Draw(t, "fate") {
			case 0:
				next = append(next, s)
			case 1:
				c := *s
				c.Endpoints = s.Endpoints[:rapid.IntRange(0, len(s.Endpoints)).Draw(t, "left")]
				next = append(next, &c)
			}
		}
		g := DefaultGuard()
		r := g.judge(good, next, nothingExplained, nil, true, time.Unix(0, 0), false)
		lost := missing(good, r.serve, nothingExplained)
		if g.suspicious(good, r.serve, lost) {
			t.Fatalf("one read loses %s", lost)
		}
		if r.held != nil && !lost.empty() {
			t.Fatalf("a state that is held back still loses %s", lost)
		}
		if !slices.IsSortedFunc(r.serve, compareIDs) {
			t.Fatal("the served state is not sorted")
		}
	})
}

func compareIDs(a, b *signalbox.Service) int {
	switch {
	case a.ID < b.ID:
		return -1
	case a.ID > b.ID:
		return 1
	}
	return 0
}
