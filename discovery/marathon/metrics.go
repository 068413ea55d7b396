package marathon

import "github.com/prometheus/client_golang/prometheus"

type sourceMetrics struct {
	fetches, bytes, streams, events *prometheus.CounterVec
	dropped, resyncs                prometheus.Counter
	drains                          *prometheus.CounterVec
	latency                         *prometheus.HistogramVec
	eventAge                        prometheus.Histogram
}

func newSourceMetrics() *sourceMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_marathon_" + name, Help: help}, labels)
	}
	m := &sourceMetrics{
		fetches: vec("requests_total", "Requests to Marathon by kind (apps, app, version, pods, pod, leader) and result.", "kind", "result"),
		bytes:   vec("received_bytes_total", "Bytes received from Marathon, after decompression, by kind.", "kind"),
		streams: vec("streams_total", "Event stream connections: opened, ended (after opening) and failed.", "result"),
		events:  vec("events_total", "Events received, by type and by what they led to.", "type", "action"),
		drains:  vec("task_marks_total", "Tasks marked from an event itself, by state: draining or suspect.", "state"),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_marathon_events_dropped_total", Help: "Events dropped because too many waited; a whole read follows.",
		}),
		resyncs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_marathon_resyncs_total", Help: "Whole reads begun.",
		}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signalbox_marathon_request_duration_seconds", Help: "Duration of requests to Marathon, the body included, by kind.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"kind"}),
		eventAge: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signalbox_marathon_event_age_seconds",
			Help:    "Time from Marathon's timestamp of an event to its arrival; the clocks' difference is part of it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
	}
	for _, kind := range []string{"apps", "app", "version", "pods", "pod", "leader"} {
		m.latency.WithLabelValues(kind)
	}
	return m
}

func (m *sourceMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.fetches, m.bytes, m.streams, m.events, m.drains, m.dropped, m.resyncs, m.latency, m.eventAge}
}

// Describe implements prometheus.Collector.
func (s *Source) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.metrics.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (s *Source) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.metrics.collectors() {
		c.Collect(ch)
	}
}
