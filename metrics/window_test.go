package metrics

import (
	"testing"
	"time"
)

// busy counts ten requests a second for a span, the last ones slow and failing, with a tick each second.
func busy(a *Aggregator, seconds, bad int) time.Time {
	now := epoch
	a.Tick(now)
	for second := range seconds {
		status, micros := 200, 10_000
		if second >= seconds-bad {
			status, micros = 503, 900_000
		}
		for i := range 10 {
			feed(a, now, line(1, "web", second*10+i, "/a:0", "10.0.0.1:1", status, micros))
		}
		now = now.Add(time.Second)
		a.Tick(now)
	}
	return now
}

// A window counts what was within it, to a cell's length, whatever the lengths of the cells that it is summed of.
func TestWindows(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	now := busy(a, 2*3600+7, 100)
	for _, one := range []struct{ span, slack time.Duration }{
		{10 * time.Second, 10 * time.Second},
		{time.Minute, 10 * time.Second},
		{5 * time.Minute, 10 * time.Second},
		{time.Hour, time.Minute},
		{90 * time.Minute, 5 * time.Minute},
	} {
		w := a.Windows(now, one.span)[0]
		if d := w.Span - one.span; d < -one.slack || d > one.slack {
			t.Errorf("%s: span is %s", one.span, w.Span)
		}
		if want := uint64(w.Span.Seconds() * 10); w.Requests != want || w.Errors != min(1000, want) {
			t.Errorf("%s: %d requests, %d errors, want %d", one.span, w.Requests, w.Errors, want)
		}
		if one.span <= time.Hour && w.Duration.Count() != w.Requests {
			t.Errorf("%s: %d times of %d requests", one.span, w.Duration.Count(), w.Requests)
		}
		if one.span == 5*time.Minute && (w.Duration.Quantile(0.5) > 11*time.Millisecond || w.Duration.Quantile(0.9) < 800*time.Millisecond) {
			t.Errorf("median %s, p90 %s", w.Duration.Quantile(0.5), w.Duration.Quantile(0.9))
		}
	}
	if w := a.Windows(now, 72*time.Hour)[0]; w.Requests != 10*(2*3600+7) {
		t.Errorf("of all: %d requests", w.Requests)
	}
}

// The budget of an objective burns by what is too slow or fails, over each window.
func TestBudgets(t *testing.T) {
	h := NewHistory(time.Hour)
	h.Set(epoch, "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "t1"}})
	h.Describe("/a:0", About{SLO: Objective{Share: 0.99, Latency: 250 * time.Millisecond}})
	a := NewAggregator(AggregatorConfig{Directory: h})
	now := busy(a, 1800, 60)
	b := a.Budgets(now)
	if len(b) != 1 || b[0].Service != "/a:0" {
		t.Fatalf("%+v", b)
	}
	near := func(window string, want float64) {
		if got := b[0].Burn[window]; got < want*0.95 || got > want*1.05 {
			t.Errorf("%s: burn rate %.2f, want about %.2f", window, got, want)
		}
	}
	near("5m", 100*60./300)
	near("30m", 100*60./1800)
	near("3d", 100*60./1800)
	if left := b[0].Left; left != 1-b[0].Burn["3d"] {
		t.Errorf("left %v", left)
	}
	slo := a.Snapshot(now).Service("/a:0").SLO
	if slo == nil || slo.Judged != 18000 || slo.Good != 17400 {
		t.Errorf("%+v", slo)
	}
}
