package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
)

func TestJudge(t *testing.T) {
	at := func(version string, tasks ...string) *admin.Applied {
		a := &admin.Applied{Known: true, Versions: []string{version}}
		for _, task := range tasks {
			name, of, _ := strings.Cut(task, "@")
			a.Tasks = append(a.Tasks, admin.AppliedTask{Task: name, Version: of})
		}
		return a
	}
	waits := at("v2", "a@v2")
	waits.Waits = "HAProxy is slow"
	for _, c := range []struct {
		name     string
		q        convergence
		answers  []*admin.Applied // nil: the node is silent
		whys     string
		converge bool
	}{
		{"all have it", convergence{version: "v2"}, []*admin.Applied{at("v2", "a@v2"), at("v2", "a@v2")}, " | ", true},
		{"no version is asked", convergence{}, []*admin.Applied{at("v2", "a@v1"), at("v2", "a@v1")}, " | ", true},
		{"one is behind", convergence{}, []*admin.Applied{at("v1", "a@v1"), at("v2", "a@v1")}, "it has version v1, others v2 | ", false},
		{"an earlier version", convergence{version: "v2"}, []*admin.Applied{at("v1", "a@v1")}, "it has version v1", false},
		{"a later version", convergence{version: "v1"}, []*admin.Applied{at("v2", "a@v1")}, "it has version v2", false},
		{"other tasks", convergence{}, []*admin.Applied{at("v2", "a@v2"), at("v2", "b@v2")}, " | it has other tasks than n0", false},
		{"silent", convergence{}, []*admin.Applied{at("v2", "a@v2"), nil}, " | silent", false},
		{"HAProxy waits", convergence{}, []*admin.Applied{waits, at("v2", "a@v2")}, "HAProxy is slow | ", false},
		{"unknown", convergence{}, []*admin.Applied{{}}, "it knows no such app", false},
		{"old tasks", convergence{only: true}, []*admin.Applied{at("v2", "a@v1", "b@v2")}, "the task a of version v1 takes requests", false},
		{"no old tasks", convergence{only: true, version: "v2"}, []*admin.Applied{at("v2", "b@v2")}, "", true},
		{"still there", convergence{gone: true}, []*admin.Applied{at("v2"), {}}, "it still has the app | ", false},
		{"gone", convergence{gone: true}, []*admin.Applied{{}, {}}, " | ", true},
	} {
		var nodes []nodeAnswer
		for i, a := range c.answers {
			n := nodeAnswer{Node: "n" + string(rune('0'+i)), Applied: a}
			if a == nil {
				n.Why = "silent"
			}
			nodes = append(nodes, n)
		}
		got := judge(c.q, nodes)
		var whys []string
		for _, n := range got.Nodes {
			whys = append(whys, n.Why)
			if n.Has != (n.Why == "") {
				t.Errorf("%s: %+v", c.name, n)
			}
		}
		if w := strings.Join(whys, " | "); w != c.whys || got.Converged != c.converge {
			t.Errorf("%s: %t, %q", c.name, got.Converged, w)
		}
	}
}

// What a node says of an app is what its HAProxy runs, not what it has heard of.
func TestAppliedIsWhatRuns(t *testing.T) {
	options := &haproxy.Options{Dir: "/run/sb", HTTPBind: []string{":80"}, StatsSocket: "/run/sb/stats.sock", MinSlots: 4}
	service := func(version, host string, states ...signalbox.State) *signalbox.Table {
		s := &signalbox.Service{ID: "/shop:0", App: "/shop", Version: version, Mode: signalbox.HTTP, Routes: []signalbox.Route{{Host: host, Path: "/"}}}
		for i, state := range states {
			at := fmt.Sprint("10.0.0.1:", 8000+i)
			s.Endpoints = append(s.Endpoints, signalbox.Endpoint{Task: at, Addr: netip.MustParseAddrPort(at), State: state, Version: version})
		}
		return signalbox.NewTable([]*signalbox.Service{s}, nil)
	}
	one := service("v1", "a", signalbox.Up, signalbox.Draining)
	ran := haproxy.Build(one, options, nil)
	check := func(what string, table *signalbox.Table, running *haproxy.Config, version string, tasks int, waits string) {
		t.Helper()
		a := appliedOf("/shop", table, haproxy.Build(table, options, ran), running)
		if strings.Join(a.Versions, " ") != version || len(a.Tasks) != tasks || a.Known != (version != "" || waits != "") || !strings.HasPrefix(a.Waits, waits) || (waits == "") != (a.Waits == "") {
			t.Errorf("%s: %+v", what, a)
		}
	}
	check("as it is", one, ran, "v1", 1, "")
	check("nothing runs", one, nil, "v1", 0, "no HAProxy runs yet")
	check("a task has come", service("v2", "a", signalbox.Up, signalbox.Draining, signalbox.Up), ran, "v2", 1, "HAProxy does not have its present tasks yet")
	check("another name", service("v2", "b", signalbox.Up, signalbox.Draining), ran, "v2", 1, "HAProxy does not run its present definition yet")
	check("it is gone, but from HAProxy", &signalbox.Table{}, ran, "", 0, "HAProxy still has it")
	check("it is gone", &signalbox.Table{}, haproxy.Build(&signalbox.Table{}, options, nil), "", 0, "")
}
