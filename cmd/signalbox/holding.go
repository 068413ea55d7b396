package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox"
	"signalbox/admin"
)

// holding is what operators hold, and what is routed for it. One goroutine changes it; view may be asked by any.
type holding struct {
	holds []signalbox.Hold
	held  *signalbox.Held // nil: nothing is held
	shown atomic.Pointer[held]
}

// held is what a holding shows: the holds, what they keep back, and what is asked for.
type held struct {
	holds        []signalbox.Hold
	kept         map[string]string
	live, routed *signalbox.Table
}

// set replaces what is held; frozen has the definitions that hold, whatever its tasks.
func (h *holding) set(holds []signalbox.Hold, frozen *signalbox.Table) {
	h.holds, h.held = holds, nil
	if len(holds) > 0 {
		h.held = signalbox.NewHeld(frozen, func(app string) bool { return holdOf(holds, app) != nil })
	}
	view := *h.view()
	view.holds = holds
	h.shown.Store(&view)
}

// routed returns what is routed while live is what is asked for.
func (h *holding) routed(live *signalbox.Table) *signalbox.Table {
	view := &held{holds: h.holds, live: live, routed: live}
	if h.held != nil {
		h.held = h.held.Follow(live)
		view.routed, view.kept = h.held.Table, h.held.Kept
	}
	h.shown.Store(view)
	return view.routed
}

// expired returns the holds without those whose time is over, and these.
func (h *holding) expired(now time.Time) (rest, over []signalbox.Hold) {
	for _, hold := range h.holds {
		if !hold.Until.IsZero() && !now.Before(hold.Until) {
			over = append(over, hold)
		} else {
			rest = append(rest, hold)
		}
	}
	return rest, over
}

// longestWait bounds a wait for the end of a hold: the clock may be set meanwhile.
const longestWait = time.Minute

// wait returns how long until the next hold may end, and whether one will.
func (h *holding) wait(now time.Time) (time.Duration, bool) {
	wait, ends := longestWait, false
	for _, hold := range h.holds {
		if !hold.Until.IsZero() {
			wait, ends = min(wait, max(0, hold.Until.Sub(now))), true
		}
	}
	return wait, ends
}

// view returns what is held now; before anything is routed nothing is.
func (h *holding) view() *held {
	if v := h.shown.Load(); v != nil {
		return v
	}
	return &held{}
}

// holdOf returns the hold that an app is under, that of everything first; nil for none.
func holdOf(holds []signalbox.Hold, app string) *signalbox.Hold {
	for _, name := range []string{"", app} {
		if i := slices.IndexFunc(holds, func(h signalbox.Hold) bool { return h.App == name }); i >= 0 {
			return &holds[i]
		}
	}
	return nil
}

// list says what is held and kept back.
func (v *held) list(now time.Time, generation uint64) admin.Holds {
	out := admin.Holds{APIVersion: admin.APIVersion, At: now, Generation: generation, Holds: append([]signalbox.Hold{}, v.holds...), Kept: []admin.Kept{}}
	for _, app := range slices.Sorted(maps.Keys(v.kept)) {
		out.Kept = append(out.Kept, admin.Kept{App: app, How: v.kept[app]})
	}
	out.Lines, out.LineCount = firstLines(signalbox.DiffText(v.routed, v.live))
	return out
}

// firstLines bounds the lines of a difference.
func firstLines(all []string) ([]string, int) {
	lines := make([]string, 0, min(len(all), keptLines))
	for _, line := range all[:min(len(all), keptLines)] {
		lines = append(lines, bounded(line))
	}
	return lines, len(all)
}

// replaced returns routed with the definitions of an earlier table for an app, or for all with ""; and the apps that have none there.
func replaced(routed, earlier *signalbox.Table, app string) (frozen *signalbox.Table, unrouted []string) {
	frozen = &signalbox.Table{}
	signalbox.Walk(services(routed), services(earlier), func(now, before *signalbox.Service) {
		switch {
		case app != "" && cmp.Or(now, before).App != app:
			if now != nil {
				frozen.Services = append(frozen.Services, now)
			}
		case before != nil:
			frozen.Services = append(frozen.Services, before)
		case !slices.Contains(unrouted, now.App):
			unrouted = append(unrouted, now.App)
		}
	})
	return frozen, unrouted
}

var (
	heldDesc = prometheus.NewDesc("signalbox_held", "Holds of operators that are in force, by what they hold: all or app.", []string{"scope"}, nil)
	keptDesc = prometheus.NewDesc("signalbox_held_back_apps", "Apps of which a hold keeps something back: new are not routed, changed have an earlier definition, removed keep their names.", []string{"how"}, nil)
)

// Describe implements prometheus.Collector.
func (h *holding) Describe(ch chan<- *prometheus.Desc) { ch <- heldDesc; ch <- keptDesc }

// Collect implements prometheus.Collector.
func (h *holding) Collect(ch chan<- prometheus.Metric) {
	v := h.view()
	all := 0
	for _, hold := range v.holds {
		if hold.App == "" {
			all++
		}
	}
	kept := map[string]int{signalbox.KeptNew: 0, signalbox.KeptChanged: 0, signalbox.KeptRemoved: 0}
	for _, how := range v.kept {
		kept[how]++
	}
	gauge := func(d *prometheus.Desc, n int, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label)
	}
	gauge(heldDesc, all, "all")
	gauge(heldDesc, len(v.holds)-all, "app")
	for how, n := range kept {
		gauge(keptDesc, n, how)
	}
}

// heldText names holds for people.
func heldText(holds []signalbox.Hold) string {
	names := make([]string, len(holds))
	for i, h := range holds {
		names[i] = h.String()
	}
	return fmt.Sprintf("the hold of %s", someOf(names, len(names)))
}
