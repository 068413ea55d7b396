package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"signalbox"
	"signalbox/admin"
)

// sampleOperate has a history of a cluster in which much has happened.
func sampleOperate() *admin.Operate {
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	var many, lines []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("/tenant-%03d/web", i))
	}
	for i := range keptLines {
		lines = append(lines, fmt.Sprintf("+ route /tenant-%03d/web:0 tenant-%03d.example.com/", i, i))
	}
	changes := []admin.Change{
		{
			Generation: 116, At: noon.Add(-50 * time.Hour), TookSeconds: 1.25, Cause: "marathon: resync", Reloaded: true, Reasons: []string{"backend added", "slots exhausted"},
			Definitions: true, Apps: many, AppCount: 1000, Lines: lines, LineCount: 5000,
		},
		{
			Generation: 117, At: noon.Add(-20 * time.Minute), Event: noon.Add(-20*time.Minute - 4*time.Millisecond), TookSeconds: 0.004,
			Cause: "marathon: event status_update_event /shop/cart TASK_RUNNING", Commands: 3, Apps: []string{"/shop/cart"}, AppCount: 1,
			Lines: []string{"+ endpoint /shop/cart:0 10.0.0.6:31877 up shop_cart.2"}, LineCount: 1,
		},
		{
			Generation: 118, At: noon.Add(-10 * time.Minute), Event: noon.Add(-10*time.Minute - 8*time.Millisecond), TookSeconds: 0.008,
			Cause: "marathon: event api_post_event /shop/cart deployment 5ed4c0c5-9ff8-4a6f-a0cd-f57f59a34b43", Commands: 2, Definitions: true,
			Apps: []string{"/shop/cart"}, AppCount: 1, Lines: []string{"- route /shop/cart:0 shop.local/cart", "+ route /shop/cart:0 shop.local/crat"}, LineCount: 2,
		},
		{
			Generation: 118, At: noon.Add(-9 * time.Minute), TookSeconds: 0.31, Cause: "marathon: event api_post_event /bad", Apps: []string{"/bad"}, AppCount: 1, Definitions: true,
			Error: "the check rejects it: haproxy.cfg:140: unknown keyword 'frobnicate'", Withheld: []string{"SB401 /bad: HAProxy rejects its configuration (it is left out)"},
			Lines: []string{"+ service /bad:0 http from marathon"}, LineCount: 1,
		},
		{Generation: 119, At: noon.Add(-time.Minute), Cause: "audit repair", Commands: 1},
		{Generation: 119, At: noon.Add(-30 * time.Second), Cause: "certificate renewal", Certificates: []string{"shop"}},
	}
	hold := signalbox.Hold{
		App: "/shop/cart", Since: noon.Add(-5 * time.Minute), Until: noon.Add(25 * time.Minute), Reason: "SHOP-12: crat", By: "alice (uid 1000), pid 4711", Generation: 117, RolledBack: true,
	}
	done := func(_ context.Context, _ string, o admin.Order) (admin.Done, error) {
		return admin.Done{APIVersion: admin.APIVersion, Generation: 120, Commands: 2, TookSeconds: 0.0042, Holds: []signalbox.Hold{hold}}, nil
	}
	return &admin.Operate{
		History: func(q admin.HistoryQuestion) (admin.History, error) {
			h := admin.History{APIVersion: admin.APIVersion, At: noon, Generation: 119}
			for _, c := range changes {
				if (q.Generation == 0 || q.Generation == c.Generation) && (q.App == "" || slices.Contains(c.Apps, q.App)) && (!q.Definitions || c.Definitions) {
					h.Changes = append(h.Changes, c)
				}
			}
			if len(h.Changes) == 0 {
				return h, fmt.Errorf("%w: no change of generation %d is kept", admin.ErrConflict, q.Generation)
			}
			return h, nil
		},
		Holds: func() (admin.Holds, error) {
			return admin.Holds{
				APIVersion: admin.APIVersion, At: noon, Generation: 119, Holds: []signalbox.Hold{hold},
				Kept:  []admin.Kept{{App: "/shop/cart", How: signalbox.KeptChanged}},
				Lines: []string{"- route /shop/cart:0 shop.local/cart", "+ route /shop/cart:0 shop.local/crat"}, LineCount: 2,
			}, nil
		},
		Quarantine: func() (admin.Quarantines, error) {
			return admin.Quarantines{APIVersion: admin.APIVersion, At: noon, Sources: []admin.Quarantine{{
				Source: "marathon", Since: noon.Add(-10 * time.Second), Reads: 1, Needed: 3, SpanSeconds: 15, AppsBefore: 41, AppsAfter: 1, TasksBefore: 120,
				TasksAfter: 3, MissingApps: 40, MissingTasks: 117, Missing: many[:20], Lines: lines, LineCount: 237,
			}}}, nil
		},
		Preview: func(app string, generation uint64) (admin.Rollback, error) {
			if generation > 119 {
				return admin.Rollback{}, fmt.Errorf("%w: generation %d is yet to come; 119 runs", admin.ErrConflict, generation)
			}
			return admin.Rollback{
				APIVersion: admin.APIVersion, Generation: 119, To: 117, ToAt: noon.Add(-20 * time.Minute), App: app, Undone: changes[2:3], Apps: []string{"/shop/cart"},
				Unrouted: []string{"/bad"}, Lines: []string{"- route /shop/cart:0 shop.local/crat", "+ route /shop/cart:0 shop.local/cart"}, LineCount: 2,
			}, nil
		},
		Hold: done, Release: done, Rollback: done, Accept: done,
	}
}

// terminal returns the ends of a pseudo terminal: what a person types goes in at the first.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// Whoever sits at a terminal is asked, and nothing is done unless he says yes.
func TestATerminalIsAsked(t *testing.T) {
	clearEnvironment(t)
	socket, _ := fakeController(t)
	for typed, want := range map[string]int{"y\n": exitOK, "Yes\n": exitOK, "\n": exitFindings, "n\n": exitFindings, "yess\n": exitFindings, "\x04": exitFindings} {
		person, in := terminal(t)
		if _, err := person.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		code := run(t.Context(), []string{"rollback", "--app", "/shop/cart", "--admin", socket}, in, &out, &errs)
		if code != want || !strings.Contains(errs.String(), "hold it there? [y/N]") || strings.Contains(out.String(), "they are held") != (want == exitOK) {
			t.Errorf("after %q it ends with %d, want %d:\n%s%s", typed, code, want, out.String(), errs.String())
		}
	}
}
