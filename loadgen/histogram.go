package loadgen

import (
	"encoding/json"
	"math/bits"
	"time"
)

const (
	subBits = 6 // 64 buckets to an octave: a quantile is at most 1/64 above the truth
	subs    = 1 << subBits
	octaves = 64 - subBits
)

// Histogram counts durations in buckets whose width grows with them. Count, sum, least and greatest are exact, and a quantile
// is never below the true one and less than 1.6 % above it. Histograms merge without loss. The zero value is empty.
type Histogram struct {
	count    uint64
	sum      time.Duration
	min, max time.Duration
	pages    [octaves]*[subs]uint64 // made when needed: latencies lie in a few octaves
}

// Add counts one duration; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(0, d)
	page, slot := bucket(d)
	if h.pages[page] == nil {
		h.pages[page] = new([subs]uint64)
	}
	h.pages[page][slot]++
	if h.count == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.count++
	h.sum += d
}

// bucket finds the place of a duration: the first page is linear, each further one covers an octave.
func bucket(d time.Duration) (page, slot int) {
	v := uint64(d)
	if v < subs {
		return 0, int(v)
	}
	page = bits.Len64(v) - subBits
	return page, int(v>>(page-1)) - subs
}

// top returns the greatest duration of a bucket.
func top(page, slot int) time.Duration {
	if page == 0 {
		return time.Duration(slot)
	}
	return time.Duration((uint64(slot)+subs+1)<<(page-1) - 1)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.count == 0 {
		return
	}
	if h.count == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.count += o.count
	h.sum += o.sum
	for i, page := range o.pages {
		if page == nil {
			continue
		}
		if h.pages[i] == nil {
			h.pages[i] = new([subs]uint64)
		}
		for j, n := range page {
			h.pages[i][j] += n
		}
	}
}

// Clone returns a copy that shares nothing.
func (h Histogram) Clone() Histogram {
	var c Histogram
	c.Merge(&h)
	return c
}

// Count returns how many durations were added.
func (h Histogram) Count() uint64 { return h.count }

// Sum returns the sum of all durations.
func (h Histogram) Sum() time.Duration { return h.sum }

// Max returns the greatest duration, 0 when there is none.
func (h Histogram) Max() time.Duration { return h.max }

// Min returns the least duration, 0 when there is none.
func (h Histogram) Min() time.Duration { return h.min }

// Mean returns the average, 0 when there is none.
func (h Histogram) Mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.sum / time.Duration(h.count)
}

// Quantile returns the duration that a share q (0 to 1) of all does not exceed, 0 when there is none.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := uint64(q * float64(h.count))
	if float64(rank) < q*float64(h.count) {
		rank++
	}
	rank = min(max(rank, 1), h.count)
	var seen uint64
	for i, page := range h.pages {
		if page == nil {
			continue
		}
		for j, n := range page {
			if seen += n; seen >= rank {
				return min(max(top(i, j), h.min), h.max)
			}
		}
	}
	return h.max
}

// MarshalJSON writes the figures that people ask for, in seconds.
func (h Histogram) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count uint64  `json:"count"`
		Mean  float64 `json:"mean"`
		Min   float64 `json:"min"`
		P50   float64 `json:"p50"`
		P90   float64 `json:"p90"`
		P95   float64 `json:"p95"`
		P99   float64 `json:"p99"`
		P999  float64 `json:"p999"`
		Max   float64 `json:"max"`
	}{
		h.count, h.Mean().Seconds(), h.min.Seconds(), h.Quantile(.5).Seconds(), h.Quantile(.9).Seconds(),
		h.Quantile(.95).Seconds(), h.Quantile(.99).Seconds(), h.Quantile(.999).Seconds(), h.max.Seconds(),
	})
}
