package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

const someTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// A line tells its trace; one of an earlier version, without, is read too, and what is no id of a trace is refused.
func TestTraceOfALine(t *testing.T) {
	for end, want := range map[string]string{
		"": "", " -": "", " " + someTrace: someTrace, " 4bf92f3577b34da6": "4bf92f3577b34da6",
	} {
		var r Record
		if err := Parse([]byte(httpLine+end), &r); err != nil || string(r.Trace) != want || string(r.Path) != "/cart/7" || r.Truncated {
			t.Errorf("%q: %v, trace %q, path %q, cut %t", end, err, r.Trace, r.Path, r.Truncated)
		}
	}
	for _, end := range []string{" 4BF92F3577B34DA6", " " + someTrace + "00", " x y", " " + someTrace + " x", `"`, `x`, ` "` + someTrace + `"`, "  \"\" \"\""} {
		var r Record
		if err := Parse([]byte(httpLine+end), &r); err == nil {
			t.Errorf("%q is read, trace %q", end, r.Trace)
		}
	}
	for n := range len(someTrace) {
		if n == 16 {
			continue // as long as an id of B3
		}
		var r Record
		if err := Parse([]byte(httpLine+" "+someTrace[:n]), &r); err != nil || !r.Truncated || string(r.Path) != "/cart/7" || r.Trace != nil {
			t.Errorf("cut within its trace: %v, %+v", err, r)
		}
	}
}

func traced(seq, micros int, trace string) string {
	return line(1, "web", seq, "/a:0", "10.0.0.1:1", 200, micros) + " " + trace
}

// Of each classic bucket the last request with a trace is kept, and stands beside it on /metrics.
func TestExemplars(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	old, late, slow := strings.Repeat("1", 32), strings.Repeat("2", 32), strings.Repeat("3", 16)
	feed(a, epoch, traced(0, 900, old), traced(1, 950, late), traced(2, 1_500_000, slow), traced(3, 99_000_000, old), traced(4, 980, "-"))
	got := a.Snapshot(epoch).Service("/a:0").Exemplars
	want := []Exemplar{
		{Bucket: -10, Trace: late, Micros: 950, At: epoch.Add(950 * time.Microsecond).UTC()},
		{Bucket: 1, Trace: slow, Micros: 1_500_000, At: epoch.Add(1500 * time.Millisecond).UTC()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(a)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeOpenMetrics))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{
		fmt.Sprintf(`signalbox_service_request_duration_seconds_bucket{service="/a:0",le="0.0009765625"} 2 # {trace_id="%s"} 0.00095`, late),
		fmt.Sprintf(`le="2.0"} 4 # {trace_id="%s"} 1.5 `, slow),
	} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("not there: %s", part)
		}
	}
}

// Merging keeps the later one, whichever comes first.
func TestExemplarsMerge(t *testing.T) {
	one := []Exemplar{{Bucket: -3, Trace: "a", At: epoch}, {Bucket: 2, Trace: "b", At: epoch}}
	two := []Exemplar{{Bucket: -3, Trace: "c", At: epoch.Add(time.Second)}}
	want := []Exemplar{two[0], one[1]}
	if diff := cmp.Diff(want, mergeExemplars(one, two)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(want, mergeExemplars(two, one)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The hub has the latest exemplar of any machine, and each travels once.
func TestExemplarsOfMachines(t *testing.T) {
	one, two, hub := NewAggregator(AggregatorConfig{Node: "one"}), NewAggregator(AggregatorConfig{Node: "two"}), NewAggregator(AggregatorConfig{})
	was := map[*Aggregator]*Snapshot{one: {}, two: {}}
	push := func(a *Aggregator) int {
		t.Helper()
		now := a.Snapshot(epoch)
		inc, err := DecodeSnapshot(now.Since(was[a]).AppendBinary(nil))
		if err != nil {
			t.Fatal(err)
		}
		was[a] = now
		hub.Add(inc, epoch)
		return len(inc.Service("/a:0").Exemplars)
	}
	early, late, other := strings.Repeat("1", 32), strings.Repeat("2", 16), strings.Repeat("3", 32)
	feed(one, epoch, traced(0, 901, late), traced(1, 1_500_000, other)) // what takes longer ends later
	feed(two, epoch, traced(0, 900, early))
	for i, n := range []int{push(one), push(two), push(one)} {
		if want := []int{2, 1, 0}[i]; n != want {
			t.Errorf("push %d has %d exemplars, want %d", i, n, want)
		}
	}
	if diff := cmp.Diff(one.Snapshot(epoch).Service("/a:0").Exemplars, hub.Snapshot(epoch).Service("/a:0").Exemplars); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, bad := range []Exemplar{{Bucket: classicHigh + 1, Trace: early}, {Trace: "x"}, {Trace: strings.Repeat("X", 16)}} {
		s := &Snapshot{Services: []ServiceTotals{{Service: "/a:0", Exemplars: []Exemplar{bad}}}}
		if _, err := DecodeSnapshot(s.AppendBinary(nil)); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
