package relay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type sourceMetrics struct {
	published, bytes, loads, errors *prometheus.CounterVec
	bases, terms, fallbacks         prometheus.Counter
	role, generation, age           *prometheus.Desc
}

// The kinds of errors.
const (
	errorStore   = "store"   // it does not answer
	errorHead    = "head"    // the head can't be used
	errorState   = "state"   // the state that it leads to can't
	errorPublish = "publish" // the leader could not tell its news
)

func newSourceMetrics() *sourceMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_relay_" + name, Help: help}, labels)
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "signalbox_relay_" + name, Help: help})
	}
	m := &sourceMetrics{
		published:  vec("published_total", "Heads that this controller published, by kind: change, beat (nothing new).", "kind"),
		bytes:      vec("published_bytes_total", "Bytes that this controller published, compressed, by kind: head, change, base.", "kind"),
		loads:      vec("loads_total", "States taken over from the relay, by how: inline (with the head), delta (changes read), base (read whole).", "how"),
		errors:     vec("errors_total", "What failed, by kind: store (no answer), head or state (damaged or missing), publish.", "kind"),
		bases:      one("bases_total", "Whole states that this controller published."),
		terms:      one("terms_total", "How often this controller became the leader."),
		fallbacks:  one("fallbacks_total", "How often this controller began to read for itself, because the relay was stale, wrong or gone."),
		role:       prometheus.NewDesc("signalbox_relay_role", "1 for what this controller is: leads, follows, alone (reads for itself) or waits.", []string{"role"}, nil),
		generation: prometheus.NewDesc("signalbox_relay_generation", "Generation of the published state that this controller has.", nil, nil),
		age:        prometheus.NewDesc("signalbox_relay_head_age_seconds", "Time since the leader was last heard of.", nil, nil),
	}
	for _, kind := range []string{errorStore, errorHead, errorState, errorPublish} {
		m.errors.WithLabelValues(kind)
	}
	for _, kind := range []string{"change", "beat"} {
		m.published.WithLabelValues(kind)
	}
	for _, how := range []string{"inline", "delta", "base"} {
		m.loads.WithLabelValues(how)
	}
	return m
}

func (m *sourceMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.published, m.bytes, m.loads, m.errors, m.bases, m.terms, m.fallbacks}
}

// Describe implements prometheus.Collector.
func (s *Source) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.metrics.collectors() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{s.metrics.role, s.metrics.generation, s.metrics.age} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Source) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.metrics.collectors() {
		c.Collect(ch)
	}
	is := s.Standing()
	for _, r := range []Role{Waits, Follows, Leads, Alone} {
		v := 0.0
		if r == is.Role {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(s.metrics.role, prometheus.GaugeValue, v, string(r))
	}
	ch <- prometheus.MustNewConstMetric(s.metrics.generation, prometheus.GaugeValue, float64(is.Generation))
	if !is.Moved.IsZero() {
		ch <- prometheus.MustNewConstMetric(s.metrics.age, prometheus.GaugeValue, time.Since(is.Moved).Seconds())
	}
}
