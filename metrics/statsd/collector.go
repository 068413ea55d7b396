package statsd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var descSeries = prometheus.NewDesc("signalbox_statsd_series", "Series that services of this machine have made by StatsD.", nil, nil)

func newStats() *stats {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	s := &stats{
		datagrams: counter("signalbox_statsd_datagrams_total", "Datagrams of StatsD that arrived."),
		bytes:     counter("signalbox_statsd_received_bytes_total", "Bytes of StatsD that arrived."),
		samples:   counter("signalbox_statsd_samples_total", "Values that arrived by StatsD, those that were not taken among them."),
		discarded: counter("signalbox_statsd_discarded_total", "Values that the mapping file drops (action: drop)."),
		tagged:    prometheus.NewCounter(prometheus.CounterOpts{Name: "tagged"}), // the parser asks for one
		events:    vec("signalbox_statsd_events_total", "Values that were taken, by type: counter, gauge, observer (timers, histograms, distributions), set. A sampled one counts as often as it stands for.", "type"),
		bad: vec("signalbox_statsd_bad_total", "Lines and values of StatsD that were not taken, by reason: docs/statsd.md; of malformed_tag only the tag.",
			"reason", badReasons...),
		overflow: vec("signalbox_statsd_overflow_total", "Values that were not taken because there were too many: series (of all names, or of one), set_values (different ones in a minute).",
			"dimension", overflowSeries, overflowSet),
		lost: vec("signalbox_statsd_lost_total", "Datagrams that the kernel dropped because they were not read fast enough.", "reason", "kernel"),
	}
	s.counters, s.gauges = s.events.WithLabelValues("counter"), s.events.WithLabelValues("gauge")
	s.observations, s.sets = s.events.WithLabelValues("observer"), s.events.WithLabelValues("set")
	s.badTags = s.bad.WithLabelValues(reasonTag)
	return s
}

func (s *stats) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.datagrams, s.bytes, s.samples, s.discarded, s.events, s.bad, s.overflow, s.lost}
}

var _ prometheus.Collector = (*Receiver)(nil)

// Describe implements prometheus.Collector.
func (r *Receiver) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range r.decoder.stats.collectors() {
		c.Describe(ch)
	}
	ch <- descSeries
}

// Collect implements prometheus.Collector: the receiver's own account.
func (r *Receiver) Collect(ch chan<- prometheus.Metric) {
	r.countDrops()
	for _, c := range r.decoder.stats.collectors() {
		c.Collect(ch)
	}
	ch <- prometheus.MustNewConstMetric(descSeries, prometheus.GaugeValue, float64(r.decoder.store.size()))
}

// Series collects what the services count. It describes nothing, because nobody knows their names beforehand.
func (r *Receiver) Series() prometheus.Collector { return given{r.decoder.store} }

type given struct{ store *store }

func (given) Describe(chan<- *prometheus.Desc) {}

func (g given) Collect(ch chan<- prometheus.Metric) { g.store.collect(ch, time.Now()) }
