package metrics

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// exposition is a registry of an aggregator and a receiver that have counted one of everything.
func exposition(t *testing.T) *prometheus.Registry {
	t.Helper()
	h := NewHistory(time.Hour)
	h.Set(epoch.Add(-time.Hour), "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "10.0.0.1:1", State: "up", Locality: Local}})
	h.Describe("/a:0", About{SLO: Objective{Share: 0.999, Latency: 250 * time.Millisecond}})
	a := NewAggregator(AggregatorConfig{Node: "n1", Directory: h, Derived: []Derived{{Name: "all"}}})
	redispatched := strings.NewReplacer("/shop/cart:0", "/a:0", " 200 ----", " 503 SC--", " 0 0 0 - - ", " +2 0 0 TLSv1.3 AES ").Replace(fullLine)
	feed(a, epoch, redispatched, httpLine, tcpLine, line(1, "web", 0, "/a:0", "10.0.0.1:1", 503, 2500), line(1, "web", 1, "", "-:-", 404, 0),
		strings.Replace(httpLine, "---- ", "SC-- ", 1), "<1>Server be/s1 is DOWN", "<5>3 events dropped", "nonsense SB1", "SB1 H 1 web 2 x")
	r := &Receiver{stats: newReceiverStats()}
	r.stats.lines[ReasonNone].Inc()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(a, r)
	return reg
}

func TestMetricsFollowTheConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(exposition(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The documentation names the metrics that exist, with their types and labels, and no others.
func TestMetricsAreDocumented(t *testing.T) {
	families, err := exposition(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]MetricDoc{}
	for _, f := range families {
		d := MetricDoc{Name: f.GetName(), Help: f.GetHelp(), Type: strings.ToLower(f.GetType().String())}
		for _, l := range f.GetMetric()[0].GetLabel() {
			d.Labels = append(d.Labels, l.GetName())
		}
		got[d.Name] = d
	}
	want := map[string]MetricDoc{}
	for _, d := range Metrics() {
		slices.Sort(d.Labels)
		want[d.Name] = d
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-documented +exposed)\n%s", diff)
	}
	if !slices.IsSortedFunc(Metrics(), func(a, b MetricDoc) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the table is not sorted")
	}
}

// A scrape in text has classic buckets; one in protobuf has native buckets beside them.
func TestBothKindsOfHistograms(t *testing.T) {
	families, err := exposition(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetType() != dto.MetricType_HISTOGRAM {
			continue
		}
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h.Schema == nil || len(h.GetPositiveSpan()) == 0 || len(h.GetBucket()) == 0 {
				t.Errorf("%s %v has not both kinds", f.GetName(), m.GetLabel())
			}
		}
		var text bytes.Buffer
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), `_bucket{`) {
			t.Errorf("%s: no classic buckets in text", f.GetName())
		}
	}
}

// A counter never falls, though the account that it shows is corrected when late lines arrive.
func TestLostCounterNeverFalls(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	feed(a, epoch, line(1, "web", 9, "/a:0", "-:-", 200, 1))
	for range lossLooks {
		a.Reconcile([]WorkerStat{stat(1, 10, 0)})
	}
	feed(a, epoch, line(1, "web", 3, "/a:0", "-:-", 200, 1))
	for range lossLooks {
		a.Reconcile([]WorkerStat{stat(1, 10, 0)})
	}
	if a.shown.Lost != 9 || a.Loss().Lost != 8 {
		t.Errorf("the counter shows %d, the account says %d", a.shown.Lost, a.Loss().Lost)
	}
	if s := a.Snapshot(time.Now()); s.Loss.Sent != s.Loss.Counted+s.Loss.Bad+s.Loss.Lost {
		t.Errorf("the account does not add up: %+v", s.Loss)
	}
}
