package metrics

import "github.com/prometheus/client_golang/prometheus"

// partKinds are what a service's requests are told apart by.
var partKinds = []struct{ label, note string }{
	{"route", " A route is a template of the label routes, or the path with ids as {id}; answers 400, 404 and 405 to paths without a template, and what exceeds the limit of routes, are other."},
	{"task", ""},
	{"caller", " Who calls is what the header says that --caller-header names; requests without it are not here."},
}

// partDocs documents the metrics of all kinds of parts.
func partDocs() (docs []MetricDoc) {
	for _, k := range partKinds {
		add := func(name, typ, help string, labels ...string) {
			docs = append(docs, MetricDoc{"signalbox_" + k.label + "_" + name, typ, help, append([]string{"service", k.label}, labels...)})
		}
		by := " by " + k.label
		add("connect_time_seconds", "summary", "Time to connect to the task"+by+", as a sum and a count.")
		add("failures_total", "counter", "Requests and connections that did not go well"+by+" and reason, which are those of signalbox_service_failures_total.", "reason")
		add("queue_time_seconds", "summary", "Time in HAProxy's queues"+by+", as a sum and a count.")
		add("redispatches_total", "counter", "Requests that went to another task after a failed attempt"+by+".")
		add("request_bytes_total", "counter", "Bytes received from clients"+by+", headers included.")
		add("request_duration_seconds", "histogram", "Active time of requests"+by+".")
		add("requests_total", "counter", "Requests"+by+", method and class of the response code."+k.note, "method", "code")
		add("response_bytes_total", "counter", "Bytes sent to clients"+by+", headers included.")
		add("response_time_seconds", "summary", "Time from the request to the response's headers"+by+", as a sum and a count.")
		add("retries_total", "counter", "Attempts to reach a task that were repeated"+by+".")
		add("terminations_total", "counter", "Requests and connections that did not end normally"+by+": who ended them, and in which phase.", "cause", "phase")
		add("tls_requests_total", "counter", "Requests over TLS"+by+" and version.", "version")
	}
	return docs
}

// partDescs describe the metrics of one kind of parts.
type partDescs struct {
	connect, failures, queue, redispatches, bytesIn, duration, requests, bytesOut, response, retries, ends, tls *prometheus.Desc
}

func descParts(kind string) partDescs {
	of := func(name string) *prometheus.Desc { return desc("signalbox_" + kind + "_" + name) }
	return partDescs{
		connect: of("connect_time_seconds"), failures: of("failures_total"), queue: of("queue_time_seconds"),
		redispatches: of("redispatches_total"), bytesIn: of("request_bytes_total"), duration: of("request_duration_seconds"),
		requests: of("requests_total"), bytesOut: of("response_bytes_total"), response: of("response_time_seconds"),
		retries: of("retries_total"), ends: of("terminations_total"), tls: of("tls_requests_total"),
	}
}

func (d *partDescs) describe(ch chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{
		d.connect, d.failures, d.queue, d.redispatches, d.bytesIn, d.duration, d.requests, d.bytesOut, d.response, d.retries, d.ends, d.tls,
	} {
		ch <- one
	}
}

// collect yields the metrics of a service's parts. What seldom happens has a series only once it did.
func (d *partDescs) collect(ch chan<- prometheus.Metric, service string, parts []Part) {
	for i := range parts {
		p := &parts[i]
		counter := func(of *prometheus.Desc, n uint64, labels ...string) {
			if n > 0 {
				ch <- prometheus.MustNewConstMetric(of, prometheus.CounterValue, float64(n), append([]string{service, p.Name}, labels...)...)
			}
		}
		times := func(of *prometheus.Desc, t Times) {
			if t.Count > 0 {
				ch <- prometheus.MustNewConstSummary(of, t.Count, float64(t.Micros)/1e6, nil, service, p.Name)
			}
		}
		for _, c := range p.Classes {
			counter(d.requests, c.Count, c.Method, c.Class)
		}
		for _, c := range p.Terminations {
			counter(d.ends, c.Count, c.Cause, c.Phase)
		}
		for _, c := range p.Failures {
			counter(d.failures, c.Count, c.Reason)
		}
		for _, c := range p.TLS {
			counter(d.tls, c.Count, c.Version)
		}
		counter(d.bytesIn, p.BytesIn)
		counter(d.bytesOut, p.BytesOut)
		counter(d.retries, p.Retries)
		counter(d.redispatches, p.Redispatches)
		times(d.queue, p.Queue)
		times(d.connect, p.Connect)
		times(d.response, p.Response)
		ch <- newHistogramMetric(d.duration, &p.Duration, service, p.Name)
	}
}
