package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/admin"
)

// The story of one app: it comes, scales, fails, changes and goes.
func TestChronicleTellsWhatHappened(t *testing.T) {
	task := func(n int, state signalbox.State, why string) signalbox.Endpoint {
		return signalbox.Endpoint{Task: fmt.Sprint("shop.", n), Addr: netip.MustParseAddrPort(fmt.Sprint("10.0.0.1:", 31000+n)), State: state, Why: why}
	}
	service := func(version, host string, tasks ...signalbox.Endpoint) *signalbox.Service {
		return &signalbox.Service{
			ID: "/shop:0", App: "/shop", Version: version, Mode: signalbox.HTTP, Endpoints: tasks, Routes: []signalbox.Route{{Host: host, Path: "/"}},
		}
	}
	up := signalbox.Up
	last := service("2", "new.local", task(2, up, ""))
	last.Listen, last.Policy.Balance = 10001, "leastconn"
	c := newChronicle()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	before := &signalbox.Table{}
	for _, s := range []*signalbox.Service{
		service("1", "shop.local", task(1, up, "")),
		service("1", "shop.local", task(1, up, ""), task(2, up, ""), task(3, up, ""), task(4, up, ""), task(5, signalbox.Unknown, "")),
		service("1", "shop.local", task(1, signalbox.Down, "its check fails"), task(2, up, ""), task(5, up, "")),
		last,
		nil,
	} {
		next := &signalbox.Table{}
		if s != nil {
			next = signalbox.NewTable([]*signalbox.Service{s}, nil)
		}
		if apps := c.follow(now, before, next); !cmp.Equal(apps, []string{"/shop"}) {
			t.Errorf("a change is about %v", apps)
		}
		before = next
	}
	if apps := c.follow(now, before, before); len(apps) != 0 {
		t.Errorf("no change is about %v", apps)
	}
	c.problem(signalbox.Problem{Code: "SB102", App: "/shop", Label: "signalbox.hots", Value: "x", Message: "is unknown"}, false)
	for range 2 { // two changes waited for one
		c.reloaded(now, []string{"/shop"}, 7, "listener added")
	}
	var got []string
	for _, m := range c.of("/shop") {
		got = append(got, m.What+" "+m.Text)
	}
	want := []string{
		"app port 0 became a service, version 1", "route asks for shop.local/", "task 1 task came: 10.0.0.1:31001",
		"task 3 tasks came: 10.0.0.1:31002, 10.0.0.1:31003, 10.0.0.1:31004", "task 1 task came, unknown: 10.0.0.1:31005",
		"task 1 task down: 10.0.0.1:31001 (its check fails)", "task 1 task up: 10.0.0.1:31005", "task 2 tasks went: 10.0.0.1:31003, 10.0.0.1:31004",
		"app the definition changed, version 2", "app port 0: balance=leastconn, was none",
		"route asks for new.local/", "route asks for :10001", "route asks for shop.local/ no more",
		"task 2 tasks went: 10.0.0.1:31001, 10.0.0.1:31005", "app port 0 is no service any more",
		`problem SB102 signalbox.hots="x": is unknown`, "reload listener added",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func TestChronicleIsBounded(t *testing.T) {
	c := newChronicle()
	c.limit = 3 * keptMoments
	now := time.Now()
	for i := range 10 * keptMoments {
		c.note(now, "/busy", admin.MomentTask, fmt.Sprint(i))
	}
	if got := c.of("/busy"); len(got) != keptMoments || got[keptMoments-1].Text != fmt.Sprint(10*keptMoments-1) {
		t.Errorf("%d moments are kept, the last one %q", len(got), got[len(got)-1].Text)
	}
	for i := range c.limit {
		c.note(now, fmt.Sprint("/app-", i), admin.MomentApp, "came")
	}
	if c.total != c.limit || c.order.Len() != c.limit || len(c.apps) != c.limit {
		t.Errorf("%d moments of %d apps are kept, want %d", c.total, len(c.apps), c.limit)
	}
	if c.of("/busy") != nil || c.of("/app-0") == nil {
		t.Error("not the app to which nothing has happened for the longest time was forgotten")
	}
}
