package zookeeper

import "github.com/prometheus/client_golang/prometheus"

type membersMetrics struct {
	reads, changes, refused prometheus.Counter
	gauges                  []prometheus.Collector
}

func newMembersMetrics(m *Members) *membersMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "signalbox_zookeeper_" + name, Help: help})
	}
	from := func(name, help string, value func(Status) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "signalbox_zookeeper_" + name, Help: help}, func() float64 {
			return float64(value(m.client.Status()))
		})
	}
	return &membersMetrics{
		reads:   counter("reads_total", "Reads of who stands for election as Marathon's leader."),
		changes: counter("members_changes_total", "Reads that found other members, or another leader."),
		refused: counter("reads_refused_total", "Reads that failed, or found nobody; the members known before stand."),
		gauges: []prometheus.Collector{
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "signalbox_zookeeper_members", Help: "Members of Marathon that are known.",
			}, func() float64 { return float64(len(m.Known())) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "signalbox_zookeeper_connected", Help: "1 while a session with ZooKeeper stands.",
			}, func() float64 {
				if m.client.Status().Server != "" {
					return 1
				}
				return 0
			}),
			from("sessions_total", "Sessions begun.", func(s Status) uint64 { return s.Sessions }),
			from("sessions_lost_total", "Sessions that a broken connection or a silent server ended.", func(s Status) uint64 { return s.Lost }),
			from("failures_total", "Connections, and beginnings of sessions, that failed.", func(s Status) uint64 { return s.Failures }),
		},
	}
}

func (m *membersMetrics) collectors() []prometheus.Collector {
	return append([]prometheus.Collector{m.reads, m.changes, m.refused}, m.gauges...)
}

// Describe implements prometheus.Collector.
func (m *Members) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.metrics.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Members) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.metrics.collectors() {
		c.Collect(ch)
	}
}
