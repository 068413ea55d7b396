package devcluster

import "github.com/prometheus/client_golang/prometheus"

// counters is what the server counts of itself.
type counters struct {
	requests *prometheus.CounterVec
	events   *prometheus.CounterVec
	launched prometheus.Counter
	ended    *prometheus.CounterVec
	slowGone prometheus.Counter
	faults   *prometheus.CounterVec
}

func newCounters() *counters {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &counters{
		requests: vec("signalbox_devcluster_requests_total", "Requests to the dev cluster's Marathon API, by method.", "method"),
		events:   vec("signalbox_devcluster_events_total", "Events that happened in the dev cluster, by type.", "type"),
		launched: one("signalbox_devcluster_tasks_launched_total", "Tasks that the dev cluster has launched."),
		ended:    vec("signalbox_devcluster_tasks_ended_total", "Tasks of the dev cluster that have ended, by their last state.", "state"),
		slowGone: one("signalbox_devcluster_event_streams_closed_slow_total", "Event streams closed because their client did not keep up."),
		faults:   vec("signalbox_devcluster_faults_total", "Times that a fault made on purpose has changed an answer, by kind.", "kind"),
	}
}

func (c *counters) event(kind string) { c.events.WithLabelValues(kind).Inc() }
func (c *counters) slow()             { c.slowGone.Inc() }

func (c *counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.requests, c.events, c.launched, c.ended, c.slowGone, c.faults}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.cluster.count.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.cluster.count.all() {
		c.Collect(ch)
	}
}
