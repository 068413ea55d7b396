package main

import (
	"net/netip"
	"testing"

	"signalbox"
)

// A change takes a task out when one begins to drain that took requests.
func TestWhichChangesTakeTasksOut(t *testing.T) {
	with := func(states ...signalbox.State) *signalbox.Table {
		s := &signalbox.Service{ID: "/shop:0", App: "/shop"}
		for i, st := range states {
			s.Endpoints = append(s.Endpoints, signalbox.Endpoint{Task: string(rune('a' + i)), Addr: netip.MustParseAddrPort("10.0.0.1:80"), State: st})
		}
		return signalbox.NewTable([]*signalbox.Service{s}, nil)
	}
	for name, c := range map[string]struct {
		from, to *signalbox.Table
		want     bool
	}{
		"a task begins to drain":       {with(signalbox.Up, signalbox.Up), with(signalbox.Up, signalbox.Draining), true},
		"it drains on":                 {with(signalbox.Draining), with(signalbox.Draining), false},
		"it was down":                  {with(signalbox.Down), with(signalbox.Draining), false},
		"one comes that drains":        {with(signalbox.Up), with(signalbox.Up, signalbox.Draining), false},
		"one is gone":                  {with(signalbox.Up, signalbox.Up), with(signalbox.Up), false},
		"the service is new, and ends": {&signalbox.Table{}, with(signalbox.Draining), false},
	} {
		if got := takesOut(c.from, c.to); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
