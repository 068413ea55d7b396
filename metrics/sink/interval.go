package sink

import (
	"iter"
	"time"

	"signalbox/metrics"
)

// Interval is what was counted between two moments. It is immutable.
type Interval struct {
	From, To time.Time         // To is a multiple of the interval, From mostly too
	Delta    *metrics.Snapshot // as Snapshot.Since returns it
}

// Label is one dimension of a point.
type Label struct{ Name, Value string }

// Point is one figure of an interval: a count, or times. Names and labels are those of docs/sinks.md.
type Point struct {
	Name    string
	Service string  // "": of the node, not of a service
	Labels  []Label // beside the service
	Count   uint64
	Times   *metrics.Histogram // nil: a count
}

// always reports whether the point is sent when it is 0 too, so that silence and absence differ.
func (p *Point) always() bool { return p.Name == "requests" || p.Name == "errors" }

// detail says which points there are beside the counts of services.
type detail struct{ times, routes, tasks, callers bool }

// points yields the figures of an interval: of the node, then of each service in the order of the snapshot. Counts of 0 are left out,
// but for requests and errors, and times where there are none.
func (iv *Interval) points(want detail) iter.Seq[*Point] {
	return func(yield func(*Point) bool) {
		on := true
		iv.each(want, func(p Point) { on = on && yield(&p) })
	}
}

func (iv *Interval) each(want detail, visit func(Point)) {
	add := func(service, name string, n uint64, labels ...Label) {
		p := Point{Name: name, Service: service, Labels: labels, Count: n}
		if n > 0 || p.always() {
			visit(p)
		}
	}
	lasted := func(service, name string, h *metrics.Histogram, labels ...Label) {
		if want.times && h.Count() > 0 {
			visit(Point{Name: name, Service: service, Labels: labels, Times: h})
		}
	}
	// parts are routes, tasks or callers.
	parts := func(service, kind string, list []metrics.Part) {
		for i := range list {
			p, of := &list[i], Label{kind, list[i].Name}
			for _, c := range p.Classes {
				add(service, kind+"_requests", c.Count, of, Label{"code", c.Class}, Label{"method", c.Method})
			}
			for _, c := range p.Failures {
				add(service, kind+"_failures", c.Count, of, Label{"reason", c.Reason})
			}
			add(service, kind+"_request_bytes", p.BytesIn, of)
			add(service, kind+"_response_bytes", p.BytesOut, of)
			lasted(service, kind+"_request_duration", &p.Duration, of)
		}
	}
	add("", "log_counted", iv.Delta.Loss.Counted)
	add("", "log_lost", iv.Delta.Loss.Lost)
	add("", "log_unreadable", iv.Delta.Loss.Bad)
	for i := range iv.Delta.Services {
		s := &iv.Delta.Services[i]
		add(s.Service, "requests", s.Requests)
		add(s.Service, "errors", s.Errors())
		for _, c := range s.Codes {
			add(s.Service, "responses", c.Count, Label{"code", c.Code}, Label{"method", c.Method})
		}
		for _, c := range s.Failures {
			add(s.Service, "failures", c.Count, Label{"reason", c.Reason}, Label{"task_state", c.State}, Label{"during", c.During})
		}
		for _, c := range s.Terminations {
			if c.Cause != "normal" {
				add(s.Service, "terminations", c.Count, Label{"cause", c.Cause}, Label{"phase", c.Phase})
			}
		}
		add(s.Service, "request_bytes", s.BytesIn)
		add(s.Service, "response_bytes", s.BytesOut)
		add(s.Service, "retries", s.Retries)
		add(s.Service, "redispatches", s.Redispatches)
		add(s.Service, "requests_by_locality", s.Local, Label{"locality", "local"})
		add(s.Service, "requests_by_locality", s.Remote, Label{"locality", "remote"})
		for _, c := range s.TLS {
			add(s.Service, "tls_requests", c.Count, Label{"version", c.Version}, Label{"cipher", c.Cipher})
		}
		if s.SLO != nil {
			add(s.Service, "slo_requests", s.SLO.Judged)
			add(s.Service, "slo_good_requests", s.SLO.Good)
		}
		lasted(s.Service, "request_duration", &s.Duration)
		lasted(s.Service, "response_time", &s.Response)
		lasted(s.Service, "connect_time", &s.Connect)
		lasted(s.Service, "queue_time", &s.Queue)
		lasted(s.Service, "request_read", &s.Read)
		if want.routes {
			parts(s.Service, "route", s.Routes)
		}
		if want.tasks {
			parts(s.Service, "task", s.Tasks)
		}
		if want.callers {
			parts(s.Service, "caller", s.Callers)
		}
	}
}

// figure is one number that sums times up.
type figure struct {
	name string // its unit is in the name
	q    float64
	ms   float64
}

// summary returns the mean and the percentiles of times, in ms. They are of one node, and no server can add them up.
func summary(h *metrics.Histogram) []figure {
	out := []figure{{name: "mean_ms", ms: milliseconds(h.Mean())}}
	for _, f := range []figure{{name: "p50_ms", q: 0.5}, {name: "p90_ms", q: 0.9}, {name: "p99_ms", q: 0.99}} {
		f.ms = milliseconds(h.Quantile(f.q))
		out = append(out, f)
	}
	return out
}

// milliseconds returns a duration in ms, to the µs.
func milliseconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }
