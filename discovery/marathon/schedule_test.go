package marathon

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestScheduleFirstAtOnceThenSpaced(t *testing.T) {
	s := newSchedule(1)
	now := time.Unix(1000, 0)
	s.want("/a", false, now, "first", now)
	if got := s.take(now, 9); len(got) != 1 {
		t.Fatalf("took %v, want the first change at once", got)
	}
	s.want("/a", false, now, "second", now)
	if got := s.take(now.Add(time.Second), 9); len(got) != 0 {
		t.Fatalf("took %v while it is being read", got)
	}
	s.done("/a", false, false, 10*time.Millisecond, now.Add(10*time.Millisecond))
	second := now.Add(10 * time.Millisecond)
	got := s.take(second, 9)
	if j := got["/a"]; j.cause != "second" || !j.event.Equal(now) {
		t.Errorf("took %+v, want the second as soon as the first is done", got)
	}
	s.done("/a", false, false, time.Millisecond, second)
	s.want("/a", false, second, "third", second)
	if at, ok := s.next(second); !ok || at != second.Add(minSpacing) {
		t.Errorf("next at %s, %t; want 100 ms after the second", at.Sub(second), ok)
	}
	if got := s.take(second.Add(minSpacing), 9); got["/a"].cause != "third" {
		t.Errorf("took %+v", got)
	}
	s.done("/a", false, false, 0, now)
	if s.next(now.Add(time.Hour)); len(s.jobs) != 0 {
		t.Errorf("%d jobs are kept", len(s.jobs))
	}
}

// A pair of events per spacing, as a storm of scalings makes them, leads to a read per spacing, not to two.
func TestPairsShareTheSecondRead(t *testing.T) {
	s := newSchedule(1)
	now := time.Unix(1000, 0)
	reads := 0
	for range 50 {
		for range 2 {
			s.want("/a", false, now, "x", now)
			for app := range s.take(now, 9) {
				reads++
				s.done(app, false, false, 0, now)
			}
		}
		now = now.Add(minSpacing)
	}
	if reads != 51 {
		t.Errorf("%d reads in 50 pairs, want one for each and one beyond", reads)
	}
}

func TestSpacingGrows(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name    string
		fleet   int
		latency time.Duration
		refused int
		want    time.Duration
	}{
		{"alone", 1, 10 * time.Millisecond, 0, 100 * time.Millisecond},
		{"a slow Marathon", 1, 400 * time.Millisecond, 0, 1600 * time.Millisecond},
		{"a very slow Marathon", 1, time.Minute, 0, 5 * time.Second},
		{"refused once", 1, 0, 1, 200 * time.Millisecond},
		{"refused often", 1, 0, 20, 5 * time.Second},
		{"a fleet of 100", 100, 0, 0, time.Second},
		{"a fleet of 10000", 10000, 0, 0, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSchedule(c.fleet)
			for range 200 {
				s.done("/a", false, false, c.latency, now)
			}
			for range c.refused {
				s.done("/a", true, true, 0, now)
			}
			if got := s.spacing(); got < c.want*95/100 || got > c.want {
				t.Errorf("spacing %s, want %s", got, c.want)
			}
			for range 400 {
				s.done("/a", false, false, time.Millisecond, now)
			}
			if got := s.spacing(); got != s.base {
				t.Errorf("spacing %s after good times, want %s", got, s.base)
			}
		})
	}
}

// TestScheduleProperties: reads of one app never overlap, in any span they are at most two more than the spacings in it, and no
// change is forgotten.
func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule(1)
		now := time.Unix(1000, 0)
		running := map[string]bool{}
		reads := map[string][]time.Time{}
		due := map[string]bool{}
		names := []string{"/a", "/b", "/c"}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				app := rapid.SampledFrom(names).Draw(t, "app")
				s.want(app, false, now, "x", now)
				due[app] = true
			case 1:
				for app := range s.take(now, 2) {
					if running[app] || !due[app] {
						t.Fatalf("%s: running %t, due %t", app, running[app], due[app])
					}
					running[app], reads[app], due[app] = true, append(reads[app], now), false
					for i, from := range reads[app] {
						if n, most := len(reads[app])-i, 2+int(now.Sub(from)/minSpacing); n > most {
							t.Fatalf("%s: %d reads in %s, want at most %d", app, n, now.Sub(from), most)
						}
					}
				}
			case 2:
				for app := range running {
					failed := rapid.Bool().Draw(t, "failed")
					s.done(app, failed, false, 0, now)
					due[app] = due[app] || failed
					delete(running, app)
				}
			}
			s.next(now)
		}
		for app := range running {
			s.done(app, false, false, 0, now)
		}
		now = now.Add(time.Minute)
		taken := s.take(now, 9)
		for app, d := range due {
			if _, ok := taken[app]; d && !ok {
				t.Fatalf("the change of %s is forgotten", app)
			}
		}
	})
}

// Events that name ever new apps fill no memory: past a bound everything is read instead.
func TestFloodOfAppsIsBounded(t *testing.T) {
	now := time.Now()
	s := newSchedule(1)
	for i := range 2 * maxJobs {
		if took := s.want(strconv.Itoa(i), false, now, "x", now); took != (i < maxJobs) {
			t.Fatalf("app %d of a flood: taken %t", i, took)
		}
	}
	if !s.want("0", false, now, "x", now) {
		t.Error("an app that is known is refused")
	}
	l := &loop{keys: map[string]keyed{}, posted: map[string]time.Time{}, groupAt: map[string]time.Time{}, sched: newSchedule(1), Source: &Source{model: newModel()}}
	for i := range 2 * maxJobs {
		id := strconv.Itoa(i)
		l.notice(notice{Type: "api_post_event", App: "/" + id, Key: id}, now)
	}
	if n := len(l.keys) + len(l.posted); n > maxJobs+2 {
		t.Errorf("%d things are remembered", n)
	}
}
