package main

import (
	"time"

	"signalbox"
	"signalbox/metrics"
)

// feedHistory tells the metrics who is where from now on: of two tables, what differs.
func feedHistory(h *metrics.History, from, to *signalbox.Table, now time.Time) {
	signalbox.Walk(from.Services, to.Services, func(old, next *signalbox.Service) {
		switch {
		case old == next:
		case next == nil:
			h.Remove(now, string(old.ID))
		default:
			h.Set(now, string(next.ID), placements(next))
		}
	})
}

func placements(s *signalbox.Service) []metrics.Placement {
	out := make([]metrics.Placement, len(s.Endpoints))
	for i, e := range s.Endpoints {
		out[i] = metrics.Placement{Addr: e.Addr.String(), Task: e.Task, State: string(e.State)}
	}
	return out
}
