package devcluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRollingRestartArithmetic(t *testing.T) {
	for _, c := range []struct {
		name               string
		instances, healthy int
		minHealth, over    float64
		resident           bool
		want               ignition
		firstStart         int
	}{
		{"the default doubles", 4, 4, 1, 1, false, ignition{0, 8}, 4},
		{"no room goes one over", 4, 4, 1, 0, false, ignition{0, 5}, 1},
		{"no room, resident, goes one under", 4, 4, 1, 0, true, ignition{1, 4}, 0},
		{"half may go", 4, 4, 0.5, 0, false, ignition{2, 4}, 0},
		{"all may go", 3, 3, 0, 0, false, ignition{3, 3}, 0},
		{"an odd half is rounded up", 5, 5, 0.5, 0, false, ignition{2, 5}, 0},
		{"an odd capacity is rounded down", 5, 5, 1, 0.5, false, ignition{0, 7}, 2},
		{"surplus goes at once", 2, 5, 1, 1, false, ignition{3, 4}, 0},
		{"the unhealthy are not counted", 4, 1, 1, 0, false, ignition{0, 4}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			there := max(c.healthy, c.instances)
			got := ignite(c.instances, there, c.healthy, upgradeStrategy{c.over, c.minHealth}, c.resident)
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			old := there
			if n := got.startNow(c.instances, old, 0); n != c.firstStart {
				t.Errorf("starts %d at first, want %d", n, c.firstStart)
			}
		})
	}
}

func TestUnhealthySurplusGoesAtOnce(t *testing.T) {
	if got, want := ignite(1, 3, 1, upgradeStrategy{1, 1}, false), (ignition{2, 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPlanOrder(t *testing.T) {
	mk := func(id string, instances int, deps ...string) *app {
		a := defaultApp("1.11")
		a.ID, a.Instances, a.Dependencies = id, instances, deps
		return a
	}
	other := mk("/shop/old", 1)
	other.Labels = map[string]string{"a": "b"}
	got := plan(map[string]change{
		"/gone":     {before: mk("/gone", 1)},
		"/shop/web": {after: mk("/shop/web", 2, "/db")},
		"/db/one":   {before: mk("/db/one", 1), after: mk("/db/one", 3)},
		"/shop/old": {before: mk("/shop/old", 1), after: other},
		"/same":     {before: mk("/same", 1), after: mk("/same", 1)},
	})
	want := []step{
		{{stopApp, "/gone"}},
		{{startApp, "/shop/web"}},
		{{scaleApp, "/db/one"}, {restartApp, "/shop/old"}},
		{{scaleApp, "/shop/web"}},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(planned{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
