package main

import (
	"slices"

	"signalbox"
)

// takesOut reports whether a task begins to drain from one table to the next.
func takesOut(from, to *signalbox.Table) bool {
	found := false
	signalbox.Walk(from.Services, to.Services, func(a, b *signalbox.Service) {
		if a == nil || b == nil || a == b || found {
			return
		}
		for _, e := range b.Endpoints {
			if e.State != signalbox.Draining {
				continue
			}
			i := slices.IndexFunc(a.Endpoints, func(o signalbox.Endpoint) bool { return o.Task == e.Task && o.Addr == e.Addr })
			found = found || i >= 0 && a.Endpoints[i].State != signalbox.Draining && a.Endpoints[i].State != signalbox.Down
		}
	})
	return found
}
