package metrics

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"
)

// Every whole number of microseconds lies in the bucket that the definition says, at every bound in particular.
func TestBucketBounds(t *testing.T) {
	check := func(us uint64) {
		i := bucketIndex(us)
		if us > upper[i-minIndex] && i < maxIndex {
			t.Errorf("%d µs: bucket %d ends at %d", us, i, upper[i-minIndex])
		}
		if i > minIndex && us <= upper[i-1-minIndex] {
			t.Errorf("%d µs: the bucket below %d ends at %d", us, i, upper[i-1-minIndex])
		}
	}
	for us := uint64(1); us < 1<<17; us++ {
		check(us)
	}
	for _, bound := range upper {
		check(max(bound, 1))
		check(bound + 1)
	}
	for shift := range 64 {
		check(1 << shift)
		check(math.MaxUint64 >> shift)
	}
}

// Our buckets are those of client_golang's native histograms, index for index.
func TestBucketsAreThoseOfPrometheus(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", NativeHistogramBucketFactor: 1.03})
	var ours Histogram
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		us := uint64(math.Exp(r.NormFloat64()*2 + 9))
		ours.Observe(us)
		theirs.Observe(float64(us) / 1e6)
	}
	for octave := -19; octave < 12; octave++ {
		us := uint64(math.Exp2(float64(octave)) * 1e6)
		ours.Observe(us)
		theirs.Observe(float64(us) / 1e6)
	}
	var want, got dto.Metric
	if err := theirs.Write(&want); err != nil {
		t.Fatal(err)
	}
	if err := newHistogramMetric(descQueue, &ours, "x").Write(&got); err != nil {
		t.Fatal(err)
	}
	type native struct {
		Schema  int32
		Buckets map[int]int64
		Zero    uint64
		Count   uint64
	}
	unpack := func(h *dto.Histogram) native {
		n := native{Schema: h.GetSchema(), Zero: h.GetZeroCount(), Count: h.GetSampleCount(), Buckets: map[int]int64{}}
		i, value, d := 0, int64(0), 0
		for _, span := range h.GetPositiveSpan() {
			i += int(span.GetOffset())
			for range span.GetLength() {
				value += h.GetPositiveDelta()[d]
				if value > 0 {
					n.Buckets[i] = value
				}
				d++
				i++
			}
		}
		return n
	}
	if diff := cmp.Diff(unpack(want.Histogram), unpack(got.Histogram)); diff != "" {
		t.Errorf("(-theirs +ours)\n%s", diff)
	}
}

// The classic buckets of the exposed histogram are exact.
func TestClassicBuckets(t *testing.T) {
	var h Histogram
	values := []uint64{0, 1, 900, 976, 977, 1000, 124999, 125000, 125001, 1e6, 1e6 + 1, 64e6, 64e6 + 1, 1e12}
	for _, v := range values {
		h.Observe(v)
	}
	var m dto.Metric
	if err := newHistogramMetric(descQueue, &h, "x").Write(&m); err != nil {
		t.Fatal(err)
	}
	if n := len(m.Histogram.Bucket); n != classicHigh-classicLow+1 {
		t.Fatalf("%d classic buckets", n)
	}
	for _, b := range m.Histogram.Bucket {
		want := uint64(0)
		for _, v := range values {
			if float64(v)/1e6 <= b.GetUpperBound() {
				want++
			}
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("le=%v: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
}

// A quantile is at most 1.1 % off the exact one, whatever the distribution.
func TestQuantileError(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, draw := range map[string]func() uint64{
		"lognormal": func() uint64 { return uint64(math.Exp(r.NormFloat64()*1.5+9)) + 50 },
		"uniform":   func() uint64 { return r.Uint64N(5_000_000) + 50 },
		"two peaks": func() uint64 { return []uint64{2_000, 900_000}[r.IntN(2)] + r.Uint64N(500) },
		"tail":      func() uint64 { return 1000 + uint64(min(1000/math.Pow(1-r.Float64(), 1.5), 1e12)) },
	} {
		var h Histogram
		exact := make([]uint64, 200_000)
		sum := uint64(0)
		for i := range exact {
			exact[i] = draw()
			sum += exact[i]
			h.Observe(exact[i])
		}
		slices.Sort(exact)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
			rank := max(int(math.Ceil(q*float64(len(exact)))), 1)
			want := float64(exact[rank-1]) / 1e6
			if got := h.Quantile(q).Seconds(); math.Abs(got-want)/want > 0.0110 {
				t.Errorf("%s: q%v is %v, exactly %v (%.2f %%)", name, q, got, want, 100*(got-want)/want)
			}
		}
		if h.Sum() != time.Duration(sum)*time.Microsecond {
			t.Errorf("%s: sum %v, exactly %v", name, h.Sum(), sum)
		}
	}
	var none Histogram
	if none.Quantile(0.5) != 0 || none.Mean() != 0 {
		t.Error("an empty histogram has a quantile or a mean")
	}
}

// Values spread over any number of histograms, merged in any order, give the same bytes as one histogram of them all.
func TestHistogramsMergeExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.Uint64Range(0, 1<<44)).Draw(t, "values")
		parts := make([]Histogram, rapid.IntRange(1, 8).Draw(t, "parts"))
		var whole Histogram
		for _, v := range values {
			whole.Observe(v)
			parts[rapid.IntRange(0, len(parts)-1).Draw(t, "part")].Observe(v)
		}
		var sum Histogram
		for _, i := range rapid.Permutation(indexes(len(parts))).Draw(t, "order") {
			sum.Merge(&parts[i])
		}
		want, got := mustJSON(t, whole), mustJSON(t, sum)
		if !bytes.Equal(want, got) {
			t.Fatalf("want %s, got %s", want, got)
		}
		var back Histogram
		if err := json.Unmarshal(got, &back); err != nil || !bytes.Equal(mustJSON(t, back), want) {
			t.Fatalf("read back: %v", err)
		}
	})
}

func indexes(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func mustJSON(t interface{ Fatal(...any) }, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzHistogramJSON(f *testing.F) {
	f.Add([]byte(`{"count":3,"sum_us":7,"zero":1,"offset":-637,"buckets":[1,0,1]}`))
	f.Add([]byte(`{"count":1,"offset":9223372036854775807,"buckets":[1]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Histogram
		if json.Unmarshal(b, &h) != nil {
			return
		}
		h.Quantile(0.5)
		sum := h.Clone()
		sum.Merge(&h)
		var back Histogram
		if err := json.Unmarshal(mustJSON(t, h), &back); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkHistogramObserve(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	values := make([]uint64, 1<<12)
	for i := range values {
		values[i] = uint64(math.Exp(r.NormFloat64()*1.5 + 9))
	}
	var h Histogram
	i := 0
	for b.Loop() {
		h.Observe(values[i&(1<<12-1)])
		i++
	}
}
