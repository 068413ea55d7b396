package sink

import "github.com/prometheus/client_golang/prometheus"

var (
	descSent = prometheus.NewDesc("signalbox_sink_sent_total",
		"Points that arrived at a sink, as far as its protocol tells; by UDP, that were sent.", []string{"sink"}, nil)
	descDropped = prometheus.NewDesc("signalbox_sink_dropped_total",
		"Points that no sink got: queue_full (the oldest, while it took none), rejected (by the server), too_long (for a datagram), shutdown.", []string{"sink", "reason"}, nil)
	descErrors = prometheus.NewDesc("signalbox_sink_errors_total",
		"Attempts to send that failed: connect, write, refused (nobody listens), answer (broken off, or not as it should be), timeout. What they held is sent again.", []string{"sink", "reason"}, nil)
	descPoints = prometheus.NewDesc("signalbox_sink_queue_points", "Points that wait for a sink.", []string{"sink"}, nil)
	descBytes  = prometheus.NewDesc("signalbox_sink_queue_bytes", "Bytes that wait for a sink.", []string{"sink"}, nil)
	descLast   = prometheus.NewDesc("signalbox_sink_last_success_timestamp_seconds", "When a sink last took something, as Unix time.", []string{"sink"}, nil)
)

var _ prometheus.Collector = (*Pusher)(nil)

// Describe implements prometheus.Collector.
func (p *Pusher) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSent, descDropped, descErrors, descPoints, descBytes, descLast} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (p *Pusher) Collect(ch chan<- prometheus.Metric) {
	for _, s := range p.Status() {
		put := func(d *prometheus.Desc, kind prometheus.ValueType, x float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, x, append([]string{s.Name}, labels...)...)
		}
		put(descSent, prometheus.CounterValue, float64(s.Sent))
		for reason, n := range s.Dropped {
			put(descDropped, prometheus.CounterValue, float64(n), reason)
		}
		for reason, n := range s.Errors {
			put(descErrors, prometheus.CounterValue, float64(n), reason)
		}
		put(descPoints, prometheus.GaugeValue, float64(s.Waiting))
		put(descBytes, prometheus.GaugeValue, float64(s.QueueBytes))
		if !s.LastSent.IsZero() {
			put(descLast, prometheus.GaugeValue, float64(s.LastSent.UnixMilli())/1000)
		}
	}
}

// Status returns how each sink fares, in the order of the targets.
func (p *Pusher) Status() []Status {
	out := make([]Status, len(p.outs))
	for i, o := range p.outs {
		out[i] = o.current()
	}
	return out
}
