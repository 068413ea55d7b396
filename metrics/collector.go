package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var (
	descCounted      = desc("signalbox_log_counted_total")
	descLast         = desc("signalbox_log_last_record_timestamp_seconds")
	descLost         = desc("signalbox_log_lost_total")
	descNotices      = desc("signalbox_log_notices_total")
	descUnsure       = desc("signalbox_log_unsure")
	descOverflow     = desc("signalbox_series_overflow_total")
	descConnect      = desc("signalbox_service_connect_time_seconds")
	descQueue        = desc("signalbox_service_queue_time_seconds")
	descRedispatches = desc("signalbox_service_redispatches_total")
	descBytesIn      = desc("signalbox_service_request_bytes_total")
	descDuration     = desc("signalbox_service_request_duration_seconds")
	descRead         = desc("signalbox_service_request_read_seconds")
	descLocality     = desc("signalbox_service_requests_by_locality_total")
	descRequests     = desc("signalbox_service_requests_total")
	descBytesOut     = desc("signalbox_service_response_bytes_total")
	descResponse     = desc("signalbox_service_response_time_seconds")
	descRetries      = desc("signalbox_service_retries_total")
	descEnds         = desc("signalbox_service_terminations_total")
	descFailures     = desc("signalbox_service_failures_total")
	descDerived      = desc("signalbox_derived_requests_total")
	descBudget       = desc("signalbox_slo_budget_left_ratio")
	descBurn         = desc("signalbox_slo_burn_rate")
	descGood         = desc("signalbox_slo_good_requests_total")
	descObjective    = desc("signalbox_slo_objective_ratio")
	descJudged       = desc("signalbox_slo_requests_total")
	descTLS          = desc("signalbox_service_tls_requests_total")
	descRoute        = descParts("route")
	descTask         = descParts("task")
	descCaller       = descParts("caller")
)

// Describe implements prometheus.Collector.
func (a *Aggregator) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descCounted, descLast, descLost, descNotices, descUnsure, descOverflow, descConnect, descQueue, descRedispatches,
		descBytesIn, descDuration, descRead, descLocality, descRequests, descBytesOut, descResponse, descRetries, descEnds,
		descFailures, descDerived, descBudget, descBurn, descGood, descObjective, descJudged, descTLS,
	} {
		ch <- d
	}
	for _, of := range []partDescs{descRoute, descTask, descCaller} {
		of.describe(ch)
	}
}

// Collect implements prometheus.Collector. Only the copying of the totals holds up counting, not their way to the scraper.
func (a *Aggregator) Collect(ch chan<- prometheus.Metric) {
	s := a.Snapshot(time.Now())
	a.mu.Lock()
	shown, notices, last := a.shown, a.notices, a.lastRecord
	a.mu.Unlock()

	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }

	counter(descCounted, s.Loss.Counted)
	counter(descLost, shown.Ring, "ring")
	counter(descLost, shown.Tail, "tail")
	counter(descLost, shown.Kernel, "kernel")
	counter(descLost, shown.Lost-min(shown.Lost, shown.Ring+shown.Tail+shown.Kernel), "path")
	gauge(descUnsure, float64(s.Loss.Unsure))
	if !last.IsZero() {
		gauge(descLast, float64(last.UnixMilli())/1000)
	}
	for _, b := range a.Budgets(s.At) {
		for _, one := range burnWindows {
			ch <- prometheus.MustNewConstMetric(descBurn, prometheus.GaugeValue, b.Burn[one.name], b.Service, one.name)
		}
		ch <- prometheus.MustNewConstMetric(descBudget, prometheus.GaugeValue, b.Left, b.Service)
	}
	for i, n := range notices {
		if n > 0 {
			counter(descNotices, n, severities[i])
		}
	}
	for _, dimension := range dimensions {
		counter(descOverflow, s.Overflow[dimension], dimension)
	}
	for i := range s.Services {
		t := &s.Services[i]
		for _, c := range t.Codes {
			counter(descRequests, c.Count, t.Service, c.Code, c.Method)
		}
		for _, c := range t.Terminations {
			if c.Cause != "normal" {
				counter(descEnds, c.Count, t.Service, c.Cause, c.Phase)
			}
		}
		counter(descBytesIn, t.BytesIn, t.Service)
		counter(descBytesOut, t.BytesOut, t.Service)
		counter(descRetries, t.Retries, t.Service)
		counter(descRedispatches, t.Redispatches, t.Service)
		if t.Local+t.Remote > 0 {
			counter(descLocality, t.Local, t.Service, string(Local))
			counter(descLocality, t.Remote, t.Service, string(Remote))
		}
		ch <- histogramMetric{desc: descDuration, labels: prometheus.MakeLabelPairs(descDuration, []string{t.Service}), h: &t.Duration, exemplars: t.Exemplars}
		ch <- newHistogramMetric(descResponse, &t.Response, t.Service)
		ch <- newHistogramMetric(descConnect, &t.Connect, t.Service)
		ch <- newHistogramMetric(descQueue, &t.Queue, t.Service)
		ch <- newHistogramMetric(descRead, &t.Read, t.Service)
		for _, c := range t.Derived {
			counter(descDerived, c.Count, t.Service, c.Metric)
		}
		if t.SLO != nil {
			ch <- prometheus.MustNewConstMetric(descObjective, prometheus.GaugeValue, t.SLO.Share, t.Service)
			counter(descGood, t.SLO.Good, t.Service)
			counter(descJudged, t.SLO.Judged, t.Service)
		}
		for _, c := range t.Failures {
			counter(descFailures, c.Count, t.Service, c.Reason, c.State, c.During)
		}
		for _, c := range t.TLS {
			counter(descTLS, c.Count, t.Service, c.Version, c.Cipher)
		}
		descRoute.collect(ch, t.Service, t.Routes)
		descTask.collect(ch, t.Service, t.Tasks)
		descCaller.collect(ch, t.Service, t.Callers)
	}
}

var severities = [8]string{"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"}

// histogramMetric writes a Histogram both as a native histogram and with classic buckets, which a server that scrapes text gets.
// The classic bounds are powers of two seconds, because only at these the buckets divide: the classic counts are exact.
type histogramMetric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	h      *Histogram
	// exemplars are those of its classic buckets.
	exemplars []Exemplar
}

func newHistogramMetric(d *prometheus.Desc, h *Histogram, labels ...string) prometheus.Metric {
	return histogramMetric{desc: d, labels: prometheus.MakeLabelPairs(d, labels), h: h}
}

// classicOctaves are the exponents of the classic bounds: 2^-10 s (about 1 ms) to 2^6 s (64 s).
const classicLow, classicHigh = -10, 6

// zeroThreshold is client_golang's own default, so that our histograms merge with others.
const zeroThreshold = prometheus.DefNativeHistogramZeroThreshold

// Desc implements prometheus.Metric.
func (m histogramMetric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m histogramMetric) Write(out *dto.Metric) error {
	h := &dto.Histogram{
		SampleCount:   new(m.h.count),
		SampleSum:     new(float64(m.h.sum) / 1e6),
		Schema:        new(int32(Schema)),
		ZeroThreshold: new(zeroThreshold),
		ZeroCount:     new(m.h.zero),
	}
	below := m.h.zero
	octave := classicLow
	bound := func(upTo int) {
		for ; octave <= classicHigh && octave*perOctave < upTo; octave++ {
			b := &dto.Bucket{CumulativeCount: new(below), UpperBound: new(math.Exp2(float64(octave)))}
			for i := range m.exemplars {
				if m.exemplars[i].Bucket == octave {
					b.Exemplar = m.exemplars[i].write()
				}
			}
			h.Bucket = append(h.Bucket, b)
		}
	}
	next, before := 0, int64(0)
	for i, n := range m.h.Buckets() {
		bound(i)
		below += n
		if len(h.PositiveSpan) == 0 || i > next {
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: new(int32(i - next)), Length: new(uint32(0))})
		}
		*h.PositiveSpan[len(h.PositiveSpan)-1].Length++
		h.PositiveDelta = append(h.PositiveDelta, int64(n)-before)
		before, next = int64(n), i+1
	}
	bound(math.MaxInt)
	if len(h.PositiveSpan) == 0 {
		// An empty span marks a native histogram without values.
		h.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}}
	}
	out.Label, out.Histogram = m.labels, h
	return nil
}
