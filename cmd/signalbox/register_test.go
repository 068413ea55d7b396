package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// story is a register that is told a story.
type story struct {
	*register
	t          *testing.T
	log        *bytes.Buffer
	now        time.Time
	generation uint64
	table      *signalbox.Table
	stop       func()
}

func newStory(t *testing.T, path string) *story {
	t.Helper()
	log := logrus.New()
	s := &story{t: t, log: &bytes.Buffer{}, now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
	log.SetOutput(s.log)
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true, DisableColors: true})
	s.register = newRegister(path, log)
	s.generation = s.register.generation()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	s.stop = func() {
		if !ended {
			ended = true
			cancel()
			<-done
		}
	}
	t.Cleanup(s.stop)
	return s
}

// service returns one that asks for a host, with tasks.
func asking(app, host string, tasks ...int) *signalbox.Service {
	s := &signalbox.Service{ID: signalbox.NewServiceID(app, 0), App: app, Source: "marathon", Mode: signalbox.HTTP, Routes: []signalbox.Route{{Host: host, Path: "/"}}}
	for _, n := range tasks {
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{Task: fmt.Sprint(app, n), Addr: netip.MustParseAddrPort(fmt.Sprint("10.0.0.1:", 31000+n)), State: signalbox.Up})
	}
	return s
}

// change submits a table.
func (s *story) change(cause string, list ...*signalbox.Service) *haproxy.Config {
	s.t.Helper()
	table := signalbox.NewTable(list, nil)
	want := &haproxy.Config{}
	s.now = s.now.Add(time.Second)
	s.submitted(submission{want: want, cause: cause, event: s.now.Add(-10 * time.Millisecond), at: s.now, from: s.table, to: table})
	s.table = table
	return want
}

// done tells that a configuration is in force, by one command.
func (s *story) done(want *haproxy.Config) {
	s.t.Helper()
	s.generation++
	s.told(control.Step{Want: want, Generation: s.generation, At: s.now, Commands: 1, Done: true})
	s.flush(s.t.Context())
}

// texts returns what a history says, one line each.
func (s *story) texts(q admin.HistoryQuestion) []string {
	s.flush(s.t.Context())
	list, _ := s.history(q)
	var out []string
	for _, c := range list {
		out = append(out, fmt.Sprintf("%d %s: %d commands, reload %t, apps %v, %d lines, %s%s", c.Generation, c.Cause, c.Commands, c.Reloaded, c.Apps, c.LineCount, c.Error, strings.Join(c.Withheld, " ")))
	}
	return out
}

func TestTheRegisterTellsWhatWasDoneAndWhy(t *testing.T) {
	s := newStory(t, "")
	s.done(s.change("marathon: resync", asking("/a", "a.local", 1)))
	one := s.change("marathon: event 1", asking("/a", "a.local", 1, 2))
	two := s.change("marathon: event 2", asking("/a", "a.local", 1, 2, 3))
	_ = one
	s.done(two) // one entry for both
	// A change that needs a reload, and another one while it lasts.
	reload := s.change("marathon: event 3", asking("/a", "a.local", 1, 2, 3), asking("/b", "b.local", 4))
	s.generation++
	s.told(control.Step{Want: reload, Generation: s.generation, At: s.now, Commands: 2})
	s.generation++
	s.told(control.Step{Want: reload, Generation: s.generation, At: s.now, Reloaded: true, Reasons: []haproxy.Reason{haproxy.BackendAdded}, Done: true})
	// One that fails, and is in the next one.
	bad := s.change("marathon: event 4", asking("/a", "evil.local", 1), asking("/b", "b.local", 4))
	s.told(control.Step{Want: bad, Generation: s.generation, At: s.now, Err: errors.New("the check rejects it"), Withheld: []signalbox.Problem{{Code: "SB401", App: "/a", Message: "no"}}})
	s.done(s.change("marathon: event 5", asking("/a", "a.local", 1), asking("/b", "b.local", 4)))
	// What nobody asked for.
	s.generation++
	s.told(control.Step{Want: two, Cause: control.CauseAudit, Generation: s.generation, At: s.now, Commands: 1, Done: true})
	s.told(control.Step{Cause: control.CauseCertificate, Generation: s.generation, At: s.now, Certificates: []string{"shop"}, Done: true})
	// What changes nothing is nothing.
	s.told(control.Step{Want: s.change("marathon: resync", asking("/a", "a.local", 1), asking("/b", "b.local", 4)), Generation: s.generation, At: s.now, Done: true})
	want := []string{
		"1 marathon: resync: 1 commands, reload false, apps [/a], 3 lines, ",
		"2 marathon: event 1; marathon: event 2: 1 commands, reload false, apps [/a], 2 lines, ",
		"4 marathon: event 3: 2 commands, reload true, apps [/b], 3 lines, ",
		"4 marathon: event 4: 0 commands, reload false, apps [/a], 4 lines, the check rejects itSB401 /a: no",
		"5 marathon: event 5: 1 commands, reload false, apps [/a], 2 lines, ",
		"6 audit repair: 1 commands, reload false, apps [], 0 lines, ",
		"6 certificate renewal: 0 commands, reload false, apps [], 0 lines, ",
	}
	if diff := cmp.Diff(want, s.texts(admin.HistoryQuestion{})); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	s.stop()
	for _, line := range []string{
		`msg="change applied" apps=/a cause="marathon: event 1; marathon: event 2" commands=1 generation=2 lines=2 took=`,
		`msg="change applied" apps=/b cause="marathon: event 3" commands=2 generation=4 lines=3 reload="backend added" took=10ms`,
		`level=warning msg="change not applied" apps=/a cause="marathon: event 4" commands=0 error="the check rejects it" generation=4`,
		`certificates=shop`,
	} {
		if strings.Count(s.log.String(), line) != 1 {
			t.Errorf("the audit log has %d lines with %s:\n%s", strings.Count(s.log.String(), line), line, s.log)
		}
	}
}

// Definitions of earlier generations come back after a restart, and past a hundred changes of tasks.
func TestEarlierDefinitionsAreFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	s := newStory(t, path)
	s.done(s.change("first", asking("/a", "a.local", 1), asking("/b", "b.local", 2)))
	s.done(s.change("b", asking("/a", "a.local", 1), asking("/b", "b2.local", 2)))
	s.done(s.change("a", asking("/a", "evil.local", 1), asking("/b", "b2.local", 2)))
	s.done(s.change("c", asking("/a", "evil.local", 1), asking("/b", "b2.local", 2), asking("/c", "c.local", 3)))
	for n := range 2 * keptChanges {
		s.done(s.change("scale", asking("/a", "evil.local", 1, n), asking("/b", "b2.local", 2), asking("/c", "c.local", 3)))
	}
	check := func(s *story) {
		t.Helper()
		f := func(generation uint64, app string, want uint64, hosts ...string) {
			t.Helper()
			got, err := s.earlier(generation, app)
			if err != nil {
				t.Errorf("generation %d of %q: %v", generation, app, err)
				return
			}
			var names []string
			for _, svc := range got.definitions.Services {
				names = append(names, svc.Routes[0].Host)
				if len(svc.Endpoints) > 0 {
					t.Errorf("tasks of then: %v", svc.Endpoints)
				}
			}
			if got.generation != want || !slices.Equal(names, hosts) {
				t.Errorf("generation %d of %q is %d with %v, want %d with %v", generation, app, got.generation, names, want, hosts)
			}
		}
		f(0, "/a", 2, "a.local", "b2.local")
		f(0, "/b", 1, "a.local", "b.local")
		f(0, "", 3, "evil.local", "b2.local")
		f(1, "", 1, "a.local", "b.local")
		f(2, "/a", 2, "a.local", "b2.local")
		f(50, "", 50, "evil.local", "b2.local", "c.local")
		if _, err := s.earlier(0, "/c"); !errors.Is(err, admin.ErrConflict) {
			t.Errorf("before the first definition of an app: %v", err)
		}
		if _, err := s.earlier(1000, ""); !errors.Is(err, admin.ErrConflict) {
			t.Errorf("a generation that is yet to come: %v", err)
		}
	}
	check(s)
	s.stop()
	again := newStory(t, path)
	if again.generation != 104 {
		t.Errorf("after a restart generation %d runs", again.generation)
	}
	check(again)
	if got := again.texts(admin.HistoryQuestion{}); len(got) != keptChanges || !strings.HasPrefix(got[keptChanges-1], "104 scale") {
		t.Errorf("%d changes after a restart, the last %q", len(got), got[len(got)-1])
	}
	// What differs from the last run's definitions is a change; that tasks came is none.
	again.done(again.change("stored state", asking("/a", "evil.local", 9), asking("/b", "b3.local", 2), asking("/c", "c.local", 3)))
	got := again.texts(admin.HistoryQuestion{Definitions: true})
	if want := "105 stored state: 1 commands, reload false, apps [/b], 2 lines, "; got[len(got)-1] != want || len(got) != 5 {
		t.Errorf("the changes of definitions are %q", got)
	}
}

func TestHoldsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	s := newStory(t, path)
	s.done(s.change("first", asking("/a", "a.local", 1), asking("/b", "b.local", 2)))
	hold := signalbox.Hold{App: "/a", Since: s.now, Reason: "trouble", By: "root", Generation: 1, RolledBack: true}
	frozen := signalbox.NewTable([]*signalbox.Service{asking("/a", "older.local", 7), asking("/b", "b.local", 2)}, nil)
	if err := s.hold(t.Context(), []signalbox.Hold{hold}, frozen); err != nil {
		t.Fatal(err)
	}
	// No end of the program: kill -9 leaves a torn line at most.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "0123 {"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again := newStory(t, path)
	holds, defs := again.stored()
	if diff := cmp.Diff([]signalbox.Hold{hold}, holds); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
	if got := defs.Service("/a:0"); got == nil || got.Routes[0].Host != "older.local" || len(got.Endpoints) > 0 {
		t.Errorf("what is held is %+v", got)
	}
	if again.log.Len() > 0 {
		t.Errorf("a torn line is told: %s", again.log)
	}
	// A release survives one too: it is appended to a file that has the hold.
	for _, holds := range [][]signalbox.Hold{{hold}, nil} {
		if err := again.hold(t.Context(), holds, defs); err != nil {
			t.Fatal(err)
		}
	}
	if holds, _ := newStory(t, path).stored(); len(holds) != 0 {
		t.Errorf("after the release %v is held again", holds)
	}
}

func TestADamagedRegisterIsToldAndUsedAsFarAsItGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	s := newStory(t, path)
	s.done(s.change("first", asking("/a", "a.local", 1)))
	s.done(s.change("second", asking("/a", "b.local", 1)))
	s.stop()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte("b.local"), []byte("x.local"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	again := newStory(t, path)
	if !strings.Contains(again.log.String(), "is damaged") {
		t.Errorf("the log says %q", again.log)
	}
	again.done(again.change("third", asking("/a", "c.local", 1)))
	if again.stop(); strings.Contains(newStory(t, path).log.String(), "damaged") {
		t.Error("the register is not written anew")
	}
}

func TestTheRegisterIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register")
	s := newStory(t, path)
	apps := func(n, round int) []*signalbox.Service {
		var out []*signalbox.Service
		for i := range n {
			out = append(out, asking(fmt.Sprintf("/app-%05d", i), fmt.Sprintf("%d.%d.%s.local", i, round, strings.Repeat("x", 300)), 1))
		}
		return out
	}
	for round := range 2*keptUndone/1000 + 5 {
		s.done(s.change(strings.Repeat("y", 10_000), apps(1000, round)...))
	}
	undone := 0
	s.mu.Lock()
	for _, e := range s.entries {
		undone += len(e.undo)
		if len(e.Lines) > keptLines || len(e.Lines[0]) > keptLine+10 || len(e.Cause) > keptLine+10 || e.LineCount < 1000 || len(e.Apps) != 1000 {
			t.Errorf("%d lines of %d, %d apps, a cause of %d bytes", len(e.Lines), e.LineCount, len(e.Apps), len(e.Cause))
		}
	}
	floor := s.floor
	s.mu.Unlock()
	if undone > keptUndone || floor == 0 {
		t.Errorf("%d definitions of before are kept, the floor is %d", undone, floor)
	}
	if _, err := s.earlier(floor-1, ""); !errors.Is(err, admin.ErrConflict) {
		t.Errorf("a generation of which the definitions are not kept: %v", err)
	}
	if _, err := s.earlier(floor, ""); err != nil {
		t.Errorf("the oldest that is kept: %v", err)
	}
	s.stop()
	for line := range strings.Lines(s.log.String()) {
		if len(line) > 1500 {
			t.Fatalf("a line of the audit log has %d bytes: %.2000s", len(line), line)
		}
	}
}
