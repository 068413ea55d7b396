package loadgen

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var durations = rapid.Custom(func(t *rapid.T) time.Duration {
	return time.Duration(rapid.Int64Range(0, 1<<rapid.IntRange(1, 62).Draw(t, "bits")).Draw(t, "duration"))
})

func TestQuantilesAreCloseFromAbove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(durations, 1, 200).Draw(t, "all")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		var h Histogram
		for _, d := range all {
			h.Add(d)
		}
		slices.Sort(all)
		rank := int(q * float64(len(all)))
		if float64(rank) < q*float64(len(all)) {
			rank++
		}
		truth := all[min(max(rank, 1), len(all))-1]
		got := h.Quantile(q)
		if got < truth || float64(got) > float64(truth)*(1+1.0/subs) {
			t.Fatalf("quantile %g of %v is %d, not %d", q, all, got, truth)
		}
		if h.Min() != all[0] || h.Max() != all[len(all)-1] || h.Quantile(1) != h.Max() {
			t.Fatalf("%d to %d, not %d to %d", h.Min(), h.Max(), all[0], all[len(all)-1])
		}
	})
}

func TestHistogramsMergeWithoutLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Map(durations, func(d time.Duration) time.Duration { return d / 300 }), 0, 50), 1, 5).
			Draw(t, "parts")
		var whole, merged Histogram
		for _, part := range parts {
			var h Histogram
			for _, d := range part {
				h.Add(d)
				whole.Add(d)
			}
			c := h.Clone()
			merged.Merge(&c)
		}
		if diff := cmp.Diff(whole, merged, cmp.AllowUnexported(Histogram{})); diff != "" {
			t.Fatalf("(-whole +merged):\n%s", diff)
		}
	})
}

func TestAnEmptyHistogramIsZero(t *testing.T) {
	var h, o Histogram
	h.Merge(&o)
	if h.Quantile(.5) != 0 || h.Mean() != 0 || h.Count() != 0 {
		t.Errorf("%+v", h)
	}
}
