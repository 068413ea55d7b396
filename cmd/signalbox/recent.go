package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"signalbox"
)

// keptPoints is how many metric points health shows.
const keptPoints = 10

// recentMetrics keeps the points of the program's own metrics that changed last: of each metric the series that changed most.
// It is given a gatherer without the per-service metrics, whose gathering costs more with every service.
type recentMetrics struct {
	from prometheus.Gatherer

	mu    sync.Mutex
	seen  map[string]float64 // by name and labels
	first bool
	last  []signalbox.MetricPoint // newest first, one a name
}

func newRecentMetrics(from prometheus.Gatherer) *recentMetrics {
	return &recentMetrics{from: from, seen: map[string]float64{}, first: true}
}

// run samples until ctx ends.
func (r *recentMetrics) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		r.sample(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// points returns the kept points, newest first.
func (r *recentMetrics) points() []signalbox.MetricPoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.last)
}

// sample gathers once. What can't be gathered is left out: /metrics says so to whoever scrapes it.
func (r *recentMetrics) sample(now time.Time) {
	families, _ := r.from.Gather()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[string]float64, len(r.seen))
	var changed []signalbox.MetricPoint
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "signalbox_") {
			continue
		}
		most := signalbox.MetricPoint{}
		by := 0.0
		for _, m := range f.GetMetric() {
			name, value, ok := pointOf(f, m)
			if !ok {
				continue
			}
			labels := labelText(m.GetLabel())
			key := name + "{" + labels
			seen[key] = value
			before, known := r.seen[key]
			if diff := math.Abs(value - before); (!known || diff != 0) && (most.Name == "" || diff > by) {
				most, by = signalbox.MetricPoint{Time: now, Name: name, Labels: labels, Value: value}, diff
			}
		}
		// At first everything is new, and what is 0 says nothing yet.
		if most.Name != "" && (!r.first || most.Value != 0) {
			changed = append(changed, most)
		}
	}
	r.seen, r.first = seen, false
	for _, old := range r.last {
		if !slices.ContainsFunc(changed, func(p signalbox.MetricPoint) bool { return p.Name == old.Name }) {
			changed = append(changed, old)
		}
	}
	slices.SortStableFunc(changed, func(a, b signalbox.MetricPoint) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Name, b.Name))
	})
	r.last = changed[:min(keptPoints, len(changed))]
}

// pointOf returns the value of a metric; of a histogram or summary how many were observed.
func pointOf(f *dto.MetricFamily, m *dto.Metric) (name string, value float64, ok bool) {
	name = f.GetName()
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		value = m.GetCounter().GetValue()
	case dto.MetricType_GAUGE:
		value = m.GetGauge().GetValue()
	case dto.MetricType_UNTYPED:
		value = m.GetUntyped().GetValue()
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		name, value = name+"_count", float64(m.GetHistogram().GetSampleCount())
	case dto.MetricType_SUMMARY:
		name, value = name+"_count", float64(m.GetSummary().GetSampleCount())
	}
	return name, value, !math.IsNaN(value) && !math.IsInf(value, 0)
}

func labelText(labels []*dto.LabelPair) string {
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = fmt.Sprintf("%s=%q", l.GetName(), l.GetValue())
	}
	return strings.Join(parts, ",")
}
