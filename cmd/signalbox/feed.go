package main

import (
	"time"

	"signalbox"
	"signalbox/metrics"
)

// feedHistory tells the metrics who is where from now on: of two tables, what differs.
func feedHistory(h *metrics.History, from, to *signalbox.Table, now time.Time) {
	var a, b []*signalbox.Service
	if from != nil {
		a = from.Services
	}
	if to != nil {
		b = to.Services
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].ID < b[0].ID:
			h.Remove(now, string(a[0].ID))
			a = a[1:]
		case len(a) == 0 || b[0].ID < a[0].ID:
			h.Set(now, string(b[0].ID), placements(b[0]))
			b = b[1:]
		default:
			if a[0] != b[0] {
				h.Set(now, string(b[0].ID), placements(b[0]))
			}
			a, b = a[1:], b[1:]
		}
	}
}

func placements(s *signalbox.Service) []metrics.Placement {
	out := make([]metrics.Placement, len(s.Endpoints))
	for i, e := range s.Endpoints {
		out[i] = metrics.Placement{Addr: e.Addr.String(), Task: e.Task, State: string(e.State)}
	}
	return out
}
