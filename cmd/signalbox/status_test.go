package main

import (
	"testing"
	"time"
)

// A gap in the log's numbers is a loss until the lines arrive after all, as those of a worker do that a reload has replaced. What is
// then no longer lost degrades health no longer; what stays lost does, for its time.
func TestLossThatWasMadeGoodIsForgotten(t *testing.T) {
	type step struct {
		after time.Duration
		lost  uint64
		grown bool
	}
	for name, steps := range map[string][]step{
		"none":                    {{0, 0, false}, {time.Hour, 0, false}},
		"stays":                   {{0, 3, true}, {time.Second, 3, true}, {lossMatters, 3, false}},
		"made good":               {{0, 40, true}, {time.Second, 0, false}, {time.Second, 0, false}},
		"made good step by step":  {{0, 40, true}, {time.Second, 60, true}, {time.Second, 1, true}, {time.Second, 0, false}},
		"all but one made good":   {{0, 40, true}, {time.Second, 1, true}, {lossMatters, 1, false}},
		"upon an old one":         {{0, 5, true}, {time.Hour, 5, false}, {time.Second, 45, true}, {time.Second, 5, false}},
		"less than an old one":    {{0, 5, true}, {time.Hour, 5, false}, {time.Second, 45, true}, {time.Second, 4, false}},
		"again after it was good": {{0, 40, true}, {time.Second, 0, false}, {time.Second, 2, true}, {time.Second, 2, true}},
		"upon one that matters":   {{0, 5, true}, {time.Second, 45, true}, {time.Second, 5, true}, {time.Second, 0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var r recently
			now := time.Now()
			for i, s := range steps {
				now = now.Add(s.after)
				if got := r.grown(s.lost, now); got != s.grown {
					t.Fatalf("step %d, %d lost: %v, want %v", i, s.lost, got, s.grown)
				}
			}
		})
	}
}
