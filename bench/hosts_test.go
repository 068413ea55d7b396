package main

import (
	"io"
	"testing"
	"time"
)

// A small run: every HAProxy loads its configuration, whatever becomes of the template, and answers for every host.
func TestHostsBench(t *testing.T) {
	all, err := hostsBench{counts: []int{2, 6}, rounds: 2, span: 50 * time.Millisecond, progress: io.Discard}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 {
		t.Errorf("%d results", len(all))
	}
	for _, r := range all {
		if r.Requests == 0 || r.PerSecond == 0 || r.Ratio == 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestMedian(t *testing.T) {
	var values []float64
	for i := range 100 {
		values = append(values, float64(99-i))
	}
	if mid, low, high := median(values); mid != 50 || low != 40 || high != 59 {
		t.Errorf("median %v, within %v to %v", mid, low, high)
	}
}
