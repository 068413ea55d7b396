package main

import (
	"net/netip"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/metrics"
)

// What is counted by locality is what HAProxy is told to prefer.
func TestHistoryKnowsWhoIsNearby(t *testing.T) {
	s := &signalbox.Service{ID: "/a:0", App: "/a", Endpoints: []signalbox.Endpoint{
		{Task: "near", Host: "here.local", Addr: netip.MustParseAddrPort("10.0.0.1:1")},
		{Task: "far", Host: "there.local", Addr: netip.MustParseAddrPort("10.0.0.2:1")},
		{Task: "container", Host: "10.0.0.9", Addr: netip.MustParseAddrPort("172.17.0.2:1")},
	}}
	table := signalbox.NewTable([]*signalbox.Service{s}, nil)
	now := time.Now()
	for _, c := range []struct {
		options haproxy.Options
		want    map[string]metrics.Locality
	}{
		{haproxy.Options{}, map[string]metrics.Locality{"10.0.0.1:1": metrics.Anywhere, "10.0.0.2:1": metrics.Anywhere, "172.17.0.2:1": metrics.Anywhere}},
		{
			haproxy.Options{Prefer: haproxy.PreferLocal, Node: []string{"Here.local", "10.0.0.9"}},
			map[string]metrics.Locality{"10.0.0.1:1": metrics.Local, "10.0.0.2:1": metrics.Remote, "172.17.0.2:1": metrics.Local},
		},
	} {
		h := metrics.NewHistory(time.Hour)
		feedHistory(h, &signalbox.Table{}, table, c.options.Nearby(), now)
		for addr, want := range c.want {
			if got, ok := h.Task("/a:0", addr, now); !ok || got.Locality != want {
				t.Errorf("preferring %q: %s is %q, want %q", c.options.Prefer, addr, got.Locality, want)
			}
		}
		if got := nearby(table, c.options.Nearby()); c.options.Prefer == "" && got != nil || c.options.Prefer != "" && got["/a:0"] != 2 {
			t.Errorf("preferring %q: %v of the tasks are near", c.options.Prefer, got)
		}
	}
}
