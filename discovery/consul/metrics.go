package consul

import "github.com/prometheus/client_golang/prometheus"

type sourceMetrics struct {
	requests, refused *prometheus.CounterVec
	sessions          prometheus.Counter
	watched           prometheus.Gauge
}

func newSourceMetrics() *sourceMetrics {
	m := &sourceMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_consul_requests_total", Help: "Answers of Consul by kind (services, health) and result: ok, refused (no news) or failed.",
		}, []string{"kind", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_consul_answers_refused_total", Help: "Answers of Consul that were no news, by reason.",
		}, []string{"reason"}),
		sessions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_consul_starts_total", Help: "How often everything was read anew: at the start, and after each interruption.",
		}),
		watched: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signalbox_consul_watched_services", Help: "Services of Consul that are followed, each by a blocking query.",
		}),
	}
	for _, kind := range []string{"services", "health"} {
		for _, result := range []string{"ok", "refused", "failed"} {
			m.requests.WithLabelValues(kind, result)
		}
	}
	for _, reason := range refusals {
		m.refused.WithLabelValues(reason)
	}
	return m
}

func (m *sourceMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.refused, m.sessions, m.watched}
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
