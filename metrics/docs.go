package metrics

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// MetricDoc documents one metric.
type MetricDoc struct {
	Name   string
	Type   string // "counter", "gauge" or "histogram"
	Help   string
	Labels []string
}

// Metrics returns every metric of this package, sorted by name.
func Metrics() []MetricDoc {
	return slices.SortedFunc(slices.Values(metricDocs), func(x, y MetricDoc) int { return cmp.Compare(x.Name, y.Name) })
}

// metricDocs is the one place where the names, labels and help texts of this package's metrics stand.
var metricDocs = append(partDocs(), []MetricDoc{
	{"signalbox_derived_requests_total", "counter", "Requests that meet the conditions of a SIGNALBOX_METRIC_ variable, by its name.", []string{"service", "metric"}},
	{"signalbox_log_connections", "gauge", "Connections of HAProxy workers' log rings.", nil},
	{"signalbox_log_counted_total", "counter", "Requests and connections that were counted.", nil},
	{"signalbox_log_last_record_timestamp_seconds", "gauge", "When the last record arrived, as Unix time.", nil},
	{"signalbox_log_lines_total", "counter", "Log lines by result: ok, or why they could not be read.", []string{"result"}},
	{"signalbox_log_lost_total", "counter", "Log lines known to be lost: ring (HAProxy's ring was full), path (between the ring and us), kernel (datagrams of other HAProxies that it had no room for), tail (found by comparing with HAProxy's own counters).", []string{"reason"}},
	{"signalbox_log_notices_total", "counter", "Log lines of HAProxy about itself, by severity.", []string{"severity"}},
	{"signalbox_log_received_bytes_total", "counter", "Bytes of the access log that arrived.", nil},
	{"signalbox_log_streams_broken_total", "counter", "Log streams given up: framing (not octet-counted), unfinished (ended within a line), refused (too many at once).", []string{"reason"}},
	{"signalbox_log_unsure", "gauge", "Upper bound of further log lines that workers may have lost when they ended.", nil},
	{"signalbox_series_overflow_total", "counter", "Records counted under other because a dimension (service, address, task, route, caller) had too many values; for worker, records left out of the account of losses.", []string{"dimension"}},
	{"signalbox_service_connect_time_seconds", "histogram", "Time to connect to the task. Measured in whole milliseconds.", []string{"service"}},
	{"signalbox_service_failures_total", "counter", "Requests and connections that did not go well, by who failed: no_route, refused, no_server, queue_timeout, connect, server_closed, server_timeout, server_error (500 and more), server_down, client_gone, client_timeout, haproxy; and by the state in which the orchestrator had the task (up, draining), empty without one; and by what was going on: reload (HAProxy began to load another configuration in the 10 s before), deployment (Marathon was deploying the app), change (tasks of the service came or went in the 30 s before), empty otherwise.", []string{"service", "reason", "task_state", "during"}},
	{"signalbox_service_queue_time_seconds", "histogram", "Time in HAProxy's queues. Measured in whole milliseconds.", []string{"service"}},
	{"signalbox_service_redispatches_total", "counter", "Requests that went to another task after a failed attempt.", []string{"service"}},
	{"signalbox_service_request_bytes_total", "counter", "Bytes received from clients, headers included.", []string{"service"}},
	{"signalbox_service_request_duration_seconds", "histogram", "Active time of requests, from the first byte received to the last one sent; of TCP services, the life of connections. Measured in microseconds for requests that HAProxy read whole, in whole milliseconds otherwise.", []string{"service"}},
	{"signalbox_service_request_read_seconds", "histogram", "Time to receive the request's headers. Measured in whole milliseconds.", []string{"service"}},
	{"signalbox_service_requests_by_locality_total", "counter", "Requests by where the task runs that answered, local (on this machine) or remote, where tasks nearby are preferred (--prefer local).", []string{"service", "locality"}},
	{"signalbox_service_requests_total", "counter", "Requests by response code (none if none was sent) and method; connections of TCP services have code and method tcp.", []string{"service", "code", "method"}},
	{"signalbox_service_response_bytes_total", "counter", "Bytes sent to clients, headers included.", []string{"service"}},
	{"signalbox_service_response_time_seconds", "histogram", "Time from the request to the response's headers. Measured in microseconds.", []string{"service"}},
	{"signalbox_service_retries_total", "counter", "Attempts to reach a task that were repeated.", []string{"service"}},
	{"signalbox_service_terminations_total", "counter", "Requests and connections that did not end normally: who ended them, and in which phase.", []string{"service", "cause", "phase"}},
	{"signalbox_service_tls_requests_total", "counter", "Requests over TLS by version and cipher; the version is TLS and the cipher empty where the log does not say which.", []string{"service", "version", "cipher"}},
	{"signalbox_slo_budget_left_ratio", "gauge", "Share of the error budget of the last 3 days that is left, of services with the label slo; negative where it is overdrawn. A restart forgets the days before.", []string{"service"}},
	{"signalbox_slo_burn_rate", "gauge", "How fast the error budget is used up over a window (5m, 30m, 1h, 6h, 3d): at 1 it lasts as long as the objective is meant to hold.", []string{"service", "window"}},
	{"signalbox_slo_good_requests_total", "counter", "Requests that were as the objective asks: answered below 500, and in time.", []string{"service"}},
	{"signalbox_slo_objective_ratio", "gauge", "Share of requests that must be good, of the label slo.", []string{"service"}},
	{"signalbox_slo_requests_total", "counter", "Requests by which the objective is judged: all but those that the client ended or that were refused.", []string{"service"}},
}...)

func metricDoc(name string) MetricDoc {
	for _, d := range metricDocs {
		if d.Name == name {
			return d
		}
	}
	panic(fmt.Sprintf("metrics: %s is not documented", name))
}

func opts(name string) prometheus.Opts {
	return prometheus.Opts{Name: name, Help: metricDoc(name).Help}
}

func desc(name string) *prometheus.Desc {
	d := metricDoc(name)
	return prometheus.NewDesc(name, d.Help, d.Labels, nil)
}
