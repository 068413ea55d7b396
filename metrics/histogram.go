package metrics

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"time"
)

// Schema is the resolution of every Histogram: each bucket's upper bound is 2^(1/32) times that of the one below. A value
// taken from the middle of a bucket is at most 1.1 % off.
const Schema = 5

const (
	perOctave  = 1 << Schema
	minIndex   = -20 * perOctave // the lowest bucket: 1 µs lies in it or above
	maxIndex   = 22 * perOctave  // the highest bucket ends at 2^22 s, about 48 days; longer times count there
	indexCount = maxIndex - minIndex + 1
)

// Histogram counts durations in exponential buckets, those of Prometheus' native and OpenTelemetry's exponential histograms at
// scale 5, with microseconds as whole numbers. Histograms merge exactly: any split of the values over any number of them
// adds up to the same one. The zero value is empty and ready. It is not safe for concurrent use.
type Histogram struct {
	count uint64
	sum   uint64 // µs
	zero  uint64 // values of 0 µs: shorter than the clock that measured them can tell
	first int    // bucket index of counts[0], a multiple of perOctave
	// counts grows by whole octaves. A service's times span a few of them.
	counts []uint64
}

// upper holds each bucket's upper bound in whole microseconds: the largest value that lies in it or below.
var upper = func() (u [indexCount]uint64) {
	for i := range u {
		u[i] = uint64(math.Exp2(float64(i+minIndex)/perOctave) * 1e6)
	}
	return u
}()

// cells maps the leading seven bits of a value and its magnitude to the bucket of the smallest such value. A cell is narrower than
// a bucket, so the value lies in that bucket or in the next.
var cells = func() (t [(64 - 5) * 64]uint16) {
	i := 0
	for c := range t {
		for start := cellStart(c); i < indexCount-1 && start > upper[i]; {
			i++
		}
		t[c] = uint16(i)
	}
	return t
}()

func cellStart(c int) uint64 {
	if c < 128 {
		return uint64(c)
	}
	shift := c/64 - 1
	return uint64(c%64+64) << shift
}

// bucketIndex returns the index of the bucket that holds us: the smallest i with us ≤ 2^(i/32) seconds.
func bucketIndex(us uint64) int {
	c := int(us)
	if us >= 128 {
		shift := bits.Len64(us) - 7
		c = (shift+1)*64 + int(us>>shift) - 64
	}
	i := int(cells[c])
	for i < indexCount-1 && us > upper[i] {
		i++
	}
	return i + minIndex
}

// Observe counts a duration in microseconds.
func (h *Histogram) Observe(us uint64) {
	h.count++
	h.sum += us
	if us == 0 {
		h.zero++
		return
	}
	i := bucketIndex(us) - h.first
	if uint(i) >= uint(len(h.counts)) {
		h.reach(i + h.first)
		i = bucketIndex(us) - h.first
	}
	h.counts[i]++
}

// add counts n durations of us microseconds.
func (h *Histogram) add(us, n uint64) {
	if n == 0 {
		return
	}
	h.Observe(us)
	h.count += n - 1
	h.sum += us * (n - 1)
	if us == 0 {
		h.zero += n - 1
		return
	}
	h.counts[bucketIndex(us)-h.first] += n - 1
}

// addBucket counts n values of bucket i, but not their sum, nor in the count.
func (h *Histogram) addBucket(i int, n uint64) {
	h.reach(i)
	h.counts[i-h.first] += n
}

// reach makes room for bucket i.
func (h *Histogram) reach(i int) {
	low := floorOctave(i)
	high := low + perOctave
	if len(h.counts) > 0 {
		low, high = min(low, h.first), max(high, h.first+len(h.counts))
	}
	if high-low == len(h.counts) {
		return
	}
	counts := make([]uint64, high-low)
	if len(h.counts) > 0 {
		copy(counts[h.first-low:], h.counts)
	}
	h.first, h.counts = low, counts
}

func floorOctave(i int) int { return i &^ (perOctave - 1) }

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	h.count += o.count
	h.sum += o.sum
	h.zero += o.zero
	if len(o.counts) == 0 {
		return
	}
	h.reach(o.first)
	h.reach(o.first + len(o.counts) - 1)
	for i, n := range o.counts {
		h.counts[o.first-h.first+i] += n
	}
}

// Clone returns a copy that shares nothing.
func (h *Histogram) Clone() Histogram {
	c := *h
	c.counts = append([]uint64(nil), h.counts...)
	return c
}

// Count returns how many values were counted.
func (h *Histogram) Count() uint64 { return h.count }

// Zero returns how many of the values were 0: shorter than their clock can tell.
func (h *Histogram) Zero() uint64 { return h.zero }

// Sum returns the exact sum of the values.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.sum) * time.Microsecond }

// Mean returns the exact mean, 0 of nothing.
func (h *Histogram) Mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return time.Duration(float64(h.sum) / float64(h.count) * float64(time.Microsecond))
}

// Quantile returns the value below which a share q of the values lies, at most 1.1 % off; 0 of nothing.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(h.count)))
	rank = min(max(rank, 1), h.count)
	if rank <= h.zero {
		return 0
	}
	seen := h.zero
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return time.Duration(math.Exp2((float64(h.first+i)-0.5)/perOctave) * float64(time.Second))
		}
	}
	return 0
}

// Buckets yields the buckets that hold anything, from the lowest, each with its index: bucket i holds the values greater than
// 2^((i-1)/32) seconds and no greater than 2^(i/32). Values of 0 are in none of them.
func (h *Histogram) Buckets() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, n := range h.counts {
			if n > 0 && !yield(h.first+i, n) {
				return
			}
		}
	}
}

// histogramJSON is the form in which histograms travel: the smallest run of buckets that holds all values, so that equal
// histograms have equal bytes.
type histogramJSON struct {
	Count  uint64   `json:"count"`
	Sum    uint64   `json:"sum_us"`
	Zero   uint64   `json:"zero,omitempty"`
	Offset int      `json:"offset,omitempty"`
	Counts []uint64 `json:"buckets,omitempty"`
}

// MarshalJSON writes the histogram so that equal ones have equal bytes.
func (h Histogram) MarshalJSON() ([]byte, error) {
	low, high := 0, len(h.counts)
	for low < high && h.counts[low] == 0 {
		low++
	}
	for low < high && h.counts[high-1] == 0 {
		high--
	}
	j := histogramJSON{Count: h.count, Sum: h.sum, Zero: h.zero}
	if low < high {
		j.Offset, j.Counts = h.first+low, h.counts[low:high]
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote. A histogram whose parts do not add up is refused.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("reading histogram: %w", err)
	}
	if len(j.Counts) > indexCount || j.Offset < minIndex || j.Offset > maxIndex || j.Offset+len(j.Counts)-1 > maxIndex {
		return fmt.Errorf("reading histogram: %d buckets from %d on do not lie within %d and %d", len(j.Counts), j.Offset, minIndex, maxIndex)
	}
	*h = Histogram{count: j.Count, sum: j.Sum, zero: j.Zero}
	total := j.Zero
	if len(j.Counts) > 0 {
		h.reach(j.Offset)
		h.reach(j.Offset + len(j.Counts) - 1)
		for i, n := range j.Counts {
			h.counts[j.Offset-h.first+i] = n
			total += n
		}
	}
	if total != j.Count {
		return fmt.Errorf("reading histogram: buckets hold %d values, count says %d", total, j.Count)
	}
	return nil
}
