package main

import (
	"time"

	"signalbox"
	"signalbox/metrics"
)

// feedHistory tells the metrics who is where from now on: of two tables, what differs.
func feedHistory(h *metrics.History, from, to *signalbox.Table, nearby func(*signalbox.Endpoint) bool, now time.Time) {
	signalbox.Walk(from.Services, to.Services, func(old, next *signalbox.Service) {
		switch {
		case old == next:
		case next == nil:
			h.Remove(now, string(old.ID))
		default:
			h.Set(now, string(next.ID), placements(next, nearby))
			slo := metrics.Objective{Share: next.Policy.SLO.Objective, Latency: next.Policy.SLO.Latency}
			h.Describe(string(next.ID), metrics.About{
				App: next.App, Routes: next.Policy.RoutePatterns, SLO: slo, Shown: metrics.ParseShown(next.Policy.Log),
			})
		}
	})
}

// placements returns where a service's tasks are. nearby says which are on this machine; nil: nobody asks.
func placements(s *signalbox.Service, nearby func(*signalbox.Endpoint) bool) []metrics.Placement {
	out := make([]metrics.Placement, len(s.Endpoints))
	for i, e := range s.Endpoints {
		out[i] = metrics.Placement{Addr: e.Addr.String(), Task: e.Task, State: string(e.State)}
		switch {
		case nearby == nil:
		case nearby(&e):
			out[i].Locality = metrics.Local
		default:
			out[i].Locality = metrics.Remote
		}
	}
	return out
}
