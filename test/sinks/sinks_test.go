package sinks

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"

	"signalbox/metrics"
	"signalbox/metrics/sink"
)

// words are the services that are requested, and what they are called in dotted names.
var words = map[string]string{"/shop/cart:0": "shop_cart_0", "/shop/web.v2:1": "shop_web__2ev2_1", "/blog:0": "blog_0", "none": "none"}

// figure is one count that a server should have in the end.
type figure struct {
	service, name string
	labels        []string // names and values in turn
	n             float64
}

// expected returns every count of a snapshot, as docs/sinks.md says.
func expected(s *metrics.Snapshot) (out []figure) {
	put := func(service, name string, n uint64, labels ...string) {
		out = append(out, figure{service, name, labels, float64(n)})
	}
	put("", "log_counted", s.Loss.Counted)
	for _, t := range s.Services {
		put(t.Service, "requests", t.Requests)
		put(t.Service, "errors", t.Errors())
		for _, c := range t.Codes {
			put(t.Service, "responses", c.Count, "code", c.Code, "method", c.Method)
		}
		for _, c := range t.Failures {
			put(t.Service, "failures", c.Count, "reason", c.Reason, "task_state", c.State, "during", c.During)
		}
		for _, c := range t.Terminations {
			if c.Cause != "normal" {
				put(t.Service, "terminations", c.Count, "cause", c.Cause, "phase", c.Phase)
			}
		}
		for _, c := range t.TLS {
			put(t.Service, "tls_requests", c.Count, "version", c.Version, "cipher", c.Cipher)
		}
		put(t.Service, "request_bytes", t.BytesIn)
		put(t.Service, "response_bytes", t.BytesOut)
		put(t.Service, "retries", t.Retries)
		put(t.Service, "redispatches", t.Redispatches)
	}
	return out
}

// named returns the figures that are more than 0, or that keep keeps, by a name.
func named(figures []figure, keep func(figure) bool, name func(figure) string) map[string]float64 {
	out := map[string]float64{}
	for _, f := range figures {
		if f.n > 0 || keep(f) {
			out[name(f)] += f.n
		}
	}
	return out
}

func never(figure) bool { return false }

// zeros are the figures that are sent when they are 0 too.
func zeros(f figure) bool { return f.name == "requests" || f.name == "errors" }

// dotted returns a plain name. The values of labels here have letters, digits and underscores, and a point.
func dotted(prefix string) func(figure) string {
	return func(f figure) string {
		parts := []string{prefix}
		if f.service != "" {
			parts = append(parts, words[f.service])
		}
		parts = append(parts, f.name)
		for i := 1; i < len(f.labels); i += 2 {
			value := strings.ReplaceAll(f.labels[i], ".", "__2e")
			if value == "" {
				value = "__"
			}
			parts = append(parts, value)
		}
		return strings.Join(parts, ".")
	}
}

// scene counts requests while they are pushed to targets each second.
type scene struct {
	aggregator *metrics.Aggregator
	mu         sync.Mutex
	snapshots  []*metrics.Snapshot // of each push
}

// snapshot takes a snapshot, and remembers it.
func (s *scene) snapshot(now time.Time) *metrics.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.aggregator.Snapshot(now)
	kept := *one
	s.snapshots = append(s.snapshots, &kept)
	return one
}

// count counts n requests of all services.
func (s *scene) count(t *testing.T, r *rand.Rand, n int) {
	t.Helper()
	names := slices.Sorted(maps.Keys(words))
	b := &metrics.Batch{At: time.Now(), Source: 1, Records: make([]metrics.Record, n)}
	for i := range b.Records {
		service, code, state, retries := names[r.IntN(len(names))], []int{200, 200, 200, 201, 404, 500, 503}[r.IntN(7)], "----", 0
		if code == 503 {
			state, retries = "SC--", 3
		}
		us := r.IntN(1 << (4 + r.IntN(20)))
		tls := "- -"
		if i%3 == 0 {
			tls = "TLSv1.3 TLS_AES_128_GCM_SHA256"
		}
		line := fmt.Sprintf(`SB1 H 7 web %d %d %s "%s" be s1 10.0.0.%d:31000 127.0.0.1:5 1795230849 278 0 0 0 0 %d %d %d 1795230849279039 %d %d 57 73 0 0 0 %s "%s" "HTTP/1.1" "h" "/"`,
			i, code, state, service, r.IntN(3), retries, us/1000, us/1000, us, us, tls, []string{"GET", "POST"}[r.IntN(2)])
		if err := metrics.Parse([]byte(line), &b.Records[i]); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	}
	s.aggregator.Consume(b)
}

// Values that were counted over several intervals stand in each server in the end, to the last request.
func TestServersHaveWhatWasCounted(t *testing.T) {
	etsy, plain, dog, graphite, riemann := startStatsD(t), startExporter(t), startExporter(t), startCarbon(t), startRiemann(t)
	in := sink.Context{Node: "node-1.example", Interval: time.Second}
	targets, err := sink.ParseAll([]string{
		fmt.Sprintf("statsd://127.0.0.1:%d?times=summary", etsy.port),
		fmt.Sprintf("statsd://127.0.0.1:%d", plain.port),
		"statsd://" + dog.socket + "?tags=datadog&times=buckets",
		fmt.Sprintf("graphite://127.0.0.1:%d?prefix=dotted", graphite.port),
		fmt.Sprintf("graphite://127.0.0.1:%d?tags=graphite&name=tags", graphite.port),
		"riemann://" + riemann.address + "?tag=blue",
	}, in)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{aggregator: metrics.NewAggregator(metrics.AggregatorConfig{Node: in.Node})}
	log := logrus.New()
	log.SetOutput(io.Discard)
	p := sink.New(sink.Config{Targets: targets, Context: in, Snapshot: s.snapshot, Started: time.Now(), Log: log})
	end := ends(t, p.Run)
	r := rand.New(rand.NewPCG(1, 2))
	pushes := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.snapshots)
	}
	for n := range 3 {
		s.count(t, r, 1000)
		eventually(t, "a push follows", func() bool { return pushes() > n }, func() string { return fmt.Sprint(pushes()) })
	}
	s.count(t, r, 1000)
	end()
	for _, status := range p.Status() {
		if status.Lost() > 0 || status.Sent == 0 || status.Detail != "" {
			t.Errorf("%+v", status)
		}
	}
	last := s.snapshots[len(s.snapshots)-1]
	if last.Total().Requests != 4000 {
		t.Fatalf("%d requests were counted", last.Total().Requests)
	}
	figures := expected(last)

	same := func(what string, want map[string]float64, got func() map[string]float64) {
		t.Helper()
		seen := map[string]float64{}
		eventually(t, what+" has what was counted", func() bool { seen = got(); return maps.Equal(want, seen) },
			func() string { return "(-want +got)\n" + cmp.Diff(want, seen) })
		t.Logf("%s: %d series are equal", what, len(want))
	}
	same("StatsD", named(figures, never, dotted("signalbox")), func() map[string]float64 { return etsy.ask(t, "counters") })
	gauges := etsy.ask(t, "gauges")
	for service, word := range words {
		h := lastBusy(s.snapshots, service)
		for name, want := range map[string]time.Duration{"p50_ms": h.Quantile(0.5), "p99_ms": h.Quantile(0.99), "mean_ms": h.Mean()} {
			key := "signalbox." + word + ".request_duration.node-1_example." + name
			if got, ok := gauges[key]; !ok || math.Abs(got-want.Seconds()*1e3) > 0.0006 {
				t.Errorf("StatsD: %s is %v, was %s", key, got, want)
			}
		}
	}
	same("statsd_exporter", named(figures, never, func(f figure) string {
		return strings.ReplaceAll(dotted("signalbox")(f), ".", "_")
	}), func() map[string]float64 {
		got := map[string]float64{}
		for name, family := range plain.scrape(t) {
			got[name] = family.Metric[0].GetCounter().GetValue()
		}
		return got
	})
	same("statsd_exporter, by tags", named(figures, never, func(f figure) string { return "signalbox_" + f.name + labelled(f) }), func() map[string]float64 {
		got := map[string]float64{}
		for name, family := range dog.scrape(t) {
			for _, m := range family.Metric {
				if family.GetType() == dto.MetricType_COUNTER {
					got[name+pairs(m)] = m.GetCounter().GetValue()
				}
			}
		}
		return got
	})
	durations := dog.scrape(t)["signalbox_request_duration"]
	if len(durations.GetMetric()) != len(words) {
		t.Errorf("statsd_exporter has durations of %d services", len(durations.GetMetric()))
	}
	for _, m := range durations.GetMetric() {
		h := last.Service(m.GetLabel()[0].GetValue()).Duration
		sum := m.GetSummary()
		if sum.GetSampleCount() != h.Count() || math.Abs(sum.GetSampleSum()/h.Sum().Seconds()-1) > 0.011 {
			t.Errorf("%s: %d durations, %v s; they were %d, %s", pairs(m), sum.GetSampleCount(), sum.GetSampleSum(), h.Count(), h.Sum())
		}
	}

	files := named(figures, zeros, func(f figure) string { return strings.ReplaceAll(dotted("dotted.node-1_example")(f), ".", "/") })
	maps.Copy(files, named(figures, zeros, tagged))
	same("Graphite", files, func() map[string]float64 { return graphite.sums(t) })

	same("Riemann", named(figures, zeros, func(f figure) string {
		parts := []string{f.name}
		if f.service != "" {
			parts = []string{f.service, f.name}
		}
		for i := 1; i < len(f.labels); i += 2 {
			if f.labels[i] != "" {
				parts = append(parts, f.labels[i])
			}
		}
		return strings.Join(parts, " ") + fmt.Sprint(attributes(f))
	}), func() map[string]float64 {
		got := map[string]float64{}
		for _, e := range riemann.events(t) {
			if e.Whole != nil {
				got[e.Service+fmt.Sprint(e.Attributes)] += float64(*e.Whole)
			}
		}
		return got
	})
	ratios := 0
	for _, e := range riemann.events(t) {
		if e.Host != in.Node || e.TTL != 3 || !slices.Equal(e.Tags, []string{"signalbox", "blue"}) || e.Time*1e6 != e.TimeMicros || e.State == "" {
			t.Errorf("an event is %+v", e)
		}
		if strings.HasSuffix(e.Service, " error_ratio") {
			ratios++
			want := "ok"
			if *e.Figure >= 0.05 {
				want = "critical"
			} else if *e.Figure >= 0.01 {
				want = "warning"
			}
			if e.State != want || e.Whole != nil || !strings.Contains(e.Description, "requests were answered") {
				t.Errorf("an event is %+v", e)
			}
		}
	}
	if ratios < 3*len(words) {
		t.Errorf("%d ratios of errors", ratios)
	}
}

// lastBusy returns the times of a service in the last interval in which it had requests.
func lastBusy(snapshots []*metrics.Snapshot, service string) metrics.Histogram {
	for i := len(snapshots) - 1; i >= 0; i-- {
		before := &metrics.Snapshot{}
		if i > 0 {
			before = snapshots[i-1]
		}
		if s := snapshots[i].Since(before).Service(service); s != nil && s.Requests > 0 {
			return s.Duration
		}
	}
	return metrics.Histogram{}
}

// attributes are those of an event.
func attributes(f figure) map[string]string {
	out := map[string]string{}
	if f.service != "" {
		out["service_id"] = f.service
	}
	for i := 0; i < len(f.labels); i += 2 {
		out[f.labels[i]] = f.labels[i+1]
	}
	return out
}

// labelled returns the labels of a figure in order, less empty ones, as pairs does.
func labelled(f figure) string {
	var all []string
	if f.service != "" {
		all = append(all, "service="+f.service)
	}
	for i := 0; i < len(f.labels); i += 2 {
		if f.labels[i+1] != "" {
			all = append(all, f.labels[i]+"="+f.labels[i+1])
		}
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

func pairs(m *dto.Metric) string {
	var all []string
	for _, l := range m.GetLabel() {
		if l.GetValue() != "" { // the exporter gives every series of a name all labels of that name
			all = append(all, l.GetName()+"="+l.GetValue())
		}
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

// tagged returns the file of a series with tags: carbon names it by a hash.
func tagged(f figure) string {
	tags := []string{"node=node-1.example"}
	if f.service != "" {
		tags = append(tags, "service="+f.service)
	}
	for i := 0; i < len(f.labels); i += 2 {
		if f.labels[i+1] != "" {
			tags = append(tags, f.labels[i]+"="+f.labels[i+1])
		}
	}
	slices.Sort(tags)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("signalbox."+f.name+";"+strings.Join(tags, ";"))))
	return "_tagged/" + sum[:3] + "/" + sum[3:6] + "/" + sum
}
