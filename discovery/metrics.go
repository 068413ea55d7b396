package discovery

import (
	"github.com/prometheus/client_golang/prometheus"

	"signalbox"
)

type watcherMetrics struct {
	updates, quarantines, loads, saves, saved *prometheus.CounterVec
	changes, superseded                       prometheus.Counter
	delay                                     prometheus.Histogram

	apps, endpoints, connected, quarantined, lastGood, lastRead, problems *prometheus.Desc
}

func newWatcherMetrics() *watcherMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_discovery_" + name, Help: help}, labels)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("signalbox_discovery_"+name, help, labels, nil)
	}
	return &watcherMetrics{
		updates:     vec("updates_total", "States read by a source, by what became of them: applied, unchanged or held.", "source", "result"),
		quarantines: vec("quarantines_total", "Suspicious states that were held back.", "source"),
		loads:       vec("state_loads_total", "Stored states loaded at start, by result.", "source", "result"),
		saves:       vec("state_writes_total", "Writes of the last good state, by result.", "source", "result"),
		saved:       vec("state_written_bytes_total", "Bytes of last good state written.", "source"),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_discovery_changes_total", Help: "Tables made that differ from the one before.",
		}),
		superseded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_discovery_changes_superseded_total", Help: "Tables replaced by a newer one before they were taken.",
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signalbox_discovery_change_delay_seconds", Help: "Time from a source's event to the table that reflects it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		apps:        desc("apps", "Apps served from a source.", "source"),
		endpoints:   desc("endpoints", "Endpoints served from a source.", "source"),
		connected:   desc("connected", "Whether the source's event stream stands.", "source"),
		quarantined: desc("quarantined", "Whether a suspicious state of the source is held back.", "source"),
		lastGood:    desc("last_good_timestamp_seconds", "When the state that is served was read.", "source"),
		lastRead:    desc("last_read_timestamp_seconds", "When the source was last read without error.", "source"),
		problems:    desc("problems", "Problems of labels, names and tasks in the newest table, by code.", "code"),
	}
}

// from0 makes a source's counters of what may go wrong: one that began at 1 would hide its first step from rate and increase.
func (m *watcherMetrics) from0(source string) {
	m.quarantines.WithLabelValues(source)
	for _, result := range []string{"ok", "failed"} {
		m.loads.WithLabelValues(source, result)
		m.saves.WithLabelValues(source, result)
	}
}

func (m *watcherMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.updates, m.quarantines, m.loads, m.saves, m.saved, m.changes, m.superseded, m.delay}
}

func (m *watcherMetrics) descs() []*prometheus.Desc {
	return []*prometheus.Desc{m.apps, m.endpoints, m.connected, m.quarantined, m.lastGood, m.lastRead, m.problems}
}

// Describe implements prometheus.Collector.
func (w *Watcher) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range w.metrics.collectors() {
		c.Describe(ch)
	}
	for _, d := range w.metrics.descs() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (w *Watcher) Collect(ch chan<- prometheus.Metric) {
	m := w.metrics
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
	}
	for _, s := range w.Status() {
		gauge(m.apps, float64(s.Apps), s.Name)
		gauge(m.endpoints, float64(s.Endpoints), s.Name)
		gauge(m.connected, truth(s.Connected), s.Name)
		gauge(m.quarantined, truth(s.Quarantined != ""), s.Name)
		if !s.LastGood.IsZero() {
			gauge(m.lastGood, float64(s.LastGood.UnixMilli())/1e3, s.Name)
		}
		if !s.LastRead.IsZero() {
			gauge(m.lastRead, float64(s.LastRead.UnixMilli())/1e3, s.Name)
		}
	}
	codes := map[string]int{}
	if t := w.Table(); t != nil {
		for _, p := range t.Problems {
			codes[p.Code]++
		}
		for _, s := range t.Services {
			countCodes(codes, s.Problems)
		}
	}
	for code, n := range codes {
		gauge(m.problems, float64(n), code)
	}
}

func countCodes(codes map[string]int, problems []signalbox.Problem) {
	for _, p := range problems {
		codes[p.Code]++
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
