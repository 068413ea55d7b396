package main

import (
	"runtime"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/admin"
)

// maxProblemLines bounds what one change of the problems writes to the log.
const maxProblemLines = 20

// problemLog logs each problem once when it comes and once when it goes.
type problemLog struct {
	log  logrus.FieldLogger
	told func(p signalbox.Problem, solved bool) // of each that comes or goes; nil: nobody asks

	mu    sync.Mutex
	known map[signalbox.Problem]bool
}

func newProblemLog(log logrus.FieldLogger) *problemLog {
	return &problemLog{log: log, known: map[signalbox.Problem]bool{}}
}

// note takes the problems that there are now.
func (l *problemLog) note(now []signalbox.Problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(now) == 0 && len(l.known) == 0 {
		return
	}
	current := make(map[signalbox.Problem]bool, len(now))
	lines := 0
	say := func(p signalbox.Problem, solved bool) {
		if l.told != nil {
			l.told(p, solved)
		}
		lines++
		if lines > maxProblemLines {
			return
		}
		entry := l.log.WithFields(logrus.Fields{"app": p.App, "code": p.Code})
		switch {
		case solved:
			entry.Info("solved: " + p.String())
		case p.Severity == signalbox.SeverityError:
			entry.Error(p.String())
		case p.Severity == signalbox.SeverityWarning:
			entry.Warn(p.String())
		default:
			entry.Info(p.String())
		}
	}
	for _, p := range now {
		current[p] = true
		if !l.known[p] {
			say(p, false)
		}
	}
	for p := range l.known {
		if !current[p] {
			say(p, true)
		}
	}
	if lines > maxProblemLines {
		l.log.Warnf("%d problems more came or went; signalbox routes and the health page list them", lines-maxProblemLines)
	}
	l.known = current
}

// problemCollector counts the problems that there are, by code and app.
type problemCollector struct {
	problems func() []signalbox.Problem
	desc     *prometheus.Desc
}

func newProblemCollector(problems func() []signalbox.Problem) *problemCollector {
	return &problemCollector{problems, prometheus.NewDesc(
		"signalbox_problems", "What is wrong now with labels, names, tasks and configurations, by app and code (SBnnn).", []string{"app", "code", "severity"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *problemCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// maxProblemSeries bounds the series of signalbox_problems; what is beyond is counted under the app "other".
const maxProblemSeries = 1000

// Collect implements prometheus.Collector.
func (c *problemCollector) Collect(ch chan<- prometheus.Metric) {
	type key struct{ app, code, severity string }
	counts := map[key]int{}
	for _, p := range c.problems() {
		k := key{p.App, p.Code, string(p.Severity)}
		if _, ok := counts[k]; !ok && len(counts) >= maxProblemSeries {
			k.app = "other"
		}
		counts[k]++
	}
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), k.app, k.code, k.severity)
	}
}

// healthCollector reports the verdicts of health. It returns a status of which only what these are made of need be there.
type healthCollector func() signalbox.Status

var healthDesc = prometheus.NewDesc("signalbox_health",
	"What health says of each part (all, haproxy, log, source, sink, statsd, held), and by name of each source and sink: 1 for the state it is in (ok, degraded, failing), 0 for the others.",
	[]string{"part", "name", "state"}, nil)

// Describe implements prometheus.Collector.
func (healthCollector) Describe(ch chan<- *prometheus.Desc) { ch <- healthDesc }

// Collect implements prometheus.Collector.
func (levels healthCollector) Collect(ch chan<- prometheus.Metric) {
	for _, part := range admin.Parts(levels()) {
		for _, state := range []signalbox.Level{signalbox.OK, signalbox.Degraded, signalbox.Failing} {
			v := 0.0
			if part.Level == state {
				v = 1
			}
			ch <- prometheus.MustNewConstMetric(healthDesc, prometheus.GaugeValue, v, part.Kind, part.Name, string(state))
		}
	}
}

// buildInfo is the metric that carries the version.
func buildInfo() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "signalbox_build_info", Help: "Always 1; its labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version(), "go": runtime.Version()},
	})
	g.Set(1)
	return g
}

// hostCollector reports what the machine has left, so that no agent is needed for it.
type hostCollector struct {
	dir                  string
	load, memTotal       *prometheus.Desc
	memFree, disk, total *prometheus.Desc
}

func newHostCollector(dir string) *hostCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &hostCollector{
		dir:      dir,
		load:     desc("signalbox_host_load_average", "The machine's load average over one minute."),
		memTotal: desc("signalbox_host_memory_bytes", "The machine's memory."),
		memFree:  desc("signalbox_host_memory_free_bytes", "The machine's memory that nothing uses, caches not counted as free."),
		disk:     desc("signalbox_host_disk_free_bytes", "Free space where the state directory is."),
		total:    desc("signalbox_host_disk_bytes", "Size of the file system where the state directory is."),
	}
}

// Describe implements prometheus.Collector.
func (c *hostCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector. What the kernel does not tell is left out.
func (c *hostCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		unit := float64(info.Unit)
		gauge(c.load, float64(info.Loads[0])/65536)
		gauge(c.memTotal, float64(info.Totalram)*unit)
		gauge(c.memFree, float64(info.Freeram)*unit)
	}
	var fs syscall.Statfs_t
	if syscall.Statfs(c.dir, &fs) == nil {
		gauge(c.disk, float64(fs.Bavail)*float64(fs.Bsize))
		gauge(c.total, float64(fs.Blocks)*float64(fs.Bsize))
	}
}
