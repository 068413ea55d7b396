package control

import (
	"encoding/json"
	"testing"
	"time"

	"signalbox/haproxy"
)

// Whether a worker has loaded what is published is decided by ages. What the clock said when it started, and says now, decides nothing.
func TestClockJumpsDecideNothing(t *testing.T) {
	now := thisMoment()
	hour := time.Hour
	for name, c := range map[string]struct {
		published moment
		started   time.Time // by the clock of its time
		uptime    time.Duration
		trusted   bool
	}{
		"younger":                                  {now.minus(hour), time.Now(), time.Minute, true},
		"younger, by a clock an hour behind":       {now.minus(hour), time.Now().Add(-3 * hour), time.Minute, true},
		"younger, by a clock of the year 1970":     {now.minus(hour), time.Unix(1, 0), time.Minute, true},
		"older":                                    {now.minus(hour), time.Now().Add(-2 * hour), 2 * hour, false},
		"older, by a clock a day ahead":            {now.minus(hour), time.Now().Add(24 * hour), 2 * hour, false},
		"in the same second":                       {now.minus(time.Second), time.Now(), 0, false},
		"published before the machine was started": {moment{"another boot", now.Since + hour}, time.Now(), 0, true},
	} {
		a := New(Settings{Dir: t.TempDir()})
		a.onDisk, a.shapeAt = &haproxy.Config{}, c.published
		info := Info{PID: 1, UptimeSec: int64(c.uptime.Seconds()), StartTimeSec: c.started.Unix(), At: now}
		if got := a.loadedBy(info) != nil; got != c.trusted {
			t.Errorf("a worker that is %s: trusted %v, want %v", name, got, c.trusted)
		}
	}
}

func TestMomentSurvivesARestart(t *testing.T) {
	was := thisMoment()
	if was.Boot == "" || was.Since <= 0 {
		t.Fatalf("moment %+v", was)
	}
	text, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	var read moment
	if err := json.Unmarshal(text, &read); err != nil || read != was {
		t.Errorf("read %+v, %v", read, err)
	}
	if now := thisMoment(); now.before(read) || !read.minus(time.Second).before(now) {
		t.Errorf("%+v is not after %+v", now, read)
	}
}
