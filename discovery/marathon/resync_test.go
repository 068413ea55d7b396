package marathon

import (
	"testing"
	"time"
)

// TestAskedDuringAWholeReadIsReadAgain: what a whole read under way may have missed is read soon after it, not at the next
// regular read.
func TestAskedDuringAWholeReadIsReadAgain(t *testing.T) {
	s, err := New(Config{URLs: []string{"http://127.0.0.1:1"}, Resync: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		asked bool
		soon  bool
	}{
		{"nobody asks", false, false},
		{"the stream stands only now", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			l := &loop{Source: s, ctx: t.Context(), sched: newSchedule(1), stream: &stream{}, whole: true, resyncAt: began}
			if c.asked {
				l.streamChanged(streamState{connected: true, endpoint: "http://127.0.0.1:1"}, began)
			}
			l.health.Connected = true
			l.finish(result{start: began, took: time.Millisecond}, began.Add(time.Millisecond))
			if soon := l.resyncAt.Before(began.Add(time.Minute)); soon != c.soon {
				t.Errorf("the next whole read is due after %s, want soon: %t", l.resyncAt.Sub(began), c.soon)
			}
		})
	}
}
