package control

import "github.com/prometheus/client_golang/prometheus"

// counters are the Applier's own metrics.
type counters struct {
	reloads        *prometheus.CounterVec
	reloadFailures *prometheus.CounterVec
	commands       *prometheus.CounterVec
	checks         *prometheus.CounterVec
	repairs        *prometheus.CounterVec
	drains         *prometheus.CounterVec
	cutSessions    prometheus.Counter
	audits         prometheus.Counter
	fileErrors     prometheus.Counter
	workersChanged prometheus.Counter
	applySeconds   prometheus.Histogram
	reloadSeconds  prometheus.Histogram
	fileBehind     prometheus.Gauge
	appsLate       prometheus.Gauge
	oldWorkers     prometheus.Gauge
}

func newCounters() *counters {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	// A counter that begins at 1 hides its first step from rate and increase: those of what goes wrong begin at 0.
	from0 := func(v *prometheus.CounterVec, values ...string) *prometheus.CounterVec {
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	return &counters{
		reloads: vec("signalbox_haproxy_reloads_total",
			"Reloads of HAProxy by reason and result (done, failed, rejected, occupied). One with several reasons counts for each.", "reason", "result"),
		reloadFailures: from0(vec("signalbox_haproxy_reload_failures_total",
			"Reloads of HAProxy that did not become what runs, by how: failed, rejected (haproxy -c refused the files), occupied (another process has a port). Each counts once.",
			"result"), "failed", "rejected", "occupied"),
		commands: from0(vec("signalbox_haproxy_commands_total", "Runtime commands by result (accepted, refused).", "result"), "accepted", "refused"),
		checks: from0(vec("signalbox_haproxy_checks_total", "Runs of haproxy -c by result (accepted, rejected, timeout, failed).", "result"),
			"accepted", "rejected", "timeout", "failed"),
		repairs: from0(vec("signalbox_haproxy_audit_repairs_total",
			"Places where the running state was not the model's, by kind (server, shape, certificate, certificates for their list, or the map: hosts, names and so on).", "kind"),
			"server", "shape", "certificate", "certificates"),
		drains: from0(vec("signalbox_haproxy_drains_total",
			"Drains of tasks by how they ended: finished, or cut because sessions went on for longer than --drain.", "result"), "finished", "cut"),
		cutSessions:    counter("signalbox_haproxy_drain_cut_sessions_total", "Sessions that were ended because the drain of their task was over."),
		audits:         counter("signalbox_haproxy_audits_total", "Comparisons of the running state with the model."),
		fileErrors:     counter("signalbox_haproxy_file_errors_total", "Failures to render or write HAProxy's files."),
		workersChanged: counter("signalbox_haproxy_worker_changes_total", "Workers that appeared without a reload of ours."),
		applySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signalbox_haproxy_apply_seconds", Help: "Time from comparing to the last accepted runtime command of a change.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1},
		}),
		reloadSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signalbox_haproxy_reload_seconds", Help: "Time of a reload, from rendering to its proof.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		fileBehind: gauge("signalbox_haproxy_file_behind_seconds", "How long the file has not said what runs."),
		appsLate: gauge("signalbox_haproxy_apps_waiting",
			"Apps whose changes have led to the last reloads, and which wait for their next one."),
		oldWorkers: gauge("signalbox_haproxy_old_workers", "Workers of earlier configurations that still serve connections."),
	}
}

func (m *counters) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.reloads, m.reloadFailures, m.commands, m.checks, m.repairs, m.drains, m.cutSessions, m.audits, m.fileErrors, m.workersChanged, m.applySeconds, m.reloadSeconds,
		m.fileBehind, m.appsLate, m.oldWorkers,
	}
}

// Describe implements prometheus.Collector.
func (a *Applier) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range a.met.all() {
		c.Describe(ch)
	}
	ch <- startsDesc
	ch <- deathsDesc
}

// Collect implements prometheus.Collector.
func (a *Applier) Collect(ch chan<- prometheus.Metric) {
	for _, c := range a.met.all() {
		c.Collect(ch)
	}
	if s := a.cfg.Supervisor; s != nil {
		ch <- prometheus.MustNewConstMetric(startsDesc, prometheus.CounterValue, float64(s.starts.Load()))
		ch <- prometheus.MustNewConstMetric(deathsDesc, prometheus.CounterValue, float64(s.deaths.Load()))
	}
}

var (
	startsDesc = prometheus.NewDesc("signalbox_haproxy_starts_total", "Starts of the supervised HAProxy.", nil, nil)
	deathsDesc = prometheus.NewDesc("signalbox_haproxy_deaths_total", "Unwanted ends of the supervised HAProxy.", nil, nil)
)
