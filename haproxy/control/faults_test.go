package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fake writes a program that stands in for HAProxy: a shell script whose last words are the real one, which keeps its name so that a
// reload begins with the script as well.
func (r *rig) fake(script string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, "haproxy")
	real, err := exec.LookPath("haproxy")
	if err != nil {
		r.t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/bash\n%s\nexec -a \"$0\" %s \"$@\"\n", script, real)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil { //nolint:gosec // checks run as somebody else
		r.t.Fatal(err)
	}
	if err := os.Chmod(r.dir, 0o755); err != nil { //nolint:gosec // the same
		r.t.Fatal(err)
	}
	return path
}

// dieAfter kills the workers some time after they have loaded a configuration with a certain word.
func (r *rig) dieAfter(word, seconds string) string {
	return r.fake(fmt.Sprintf("if grep -q %s %s/%s; then (sleep %s; kill -SEGV $(cat /proc/$$/task/$$/children)) & fi", word, r.dir, configName, seconds))
}

// An app whose configuration HAProxy dies of, at once or a moment after it has proven to run, is withheld; the earlier configuration serves,
// and what else was asked for goes on.
func TestConfigurationThatHAProxyDiesOf(t *testing.T) {
	for name, after := range map[string]string{"before the proof": "0.01", "after the proof": "0.7"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			sup := &Supervisor{
				Binary: r.dieAfter("deadly", after), Dir: r.dir, MasterSocket: filepath.Join(r.dir, "master.sock"), DieWithParent: true, Log: testLog(t),
			}
			r.background(sup.Run)
			s := r.settings()
			s.Supervisor = sup
			r.start(s)
			one, two := task(t, "one"), task(t, "two")
			r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
			deadly := app{name: "bad", tasks: addrs{two}, bad: "# deadly"}
			r.app.Update(r.config(deadly, app{name: "shop", tasks: addrs{one}}))
			r.until("the app is withheld", func() bool {
				p := r.app.Problems()
				return len(p) == 1 && p[0].Code == "SB401" && p[0].App == "/bad"
			})
			r.answers("shop.local", "one")
			r.apply(r.config(deadly, app{name: "new", tasks: addrs{two}}, app{name: "shop", tasks: addrs{one}}))
			r.answers("new.local", "two")
			before := r.proc()
			r.apply(r.config(deadly, app{name: "new", tasks: addrs{two}}, app{name: "shop", tasks: addrs{two}}))
			r.answers("shop.local", "two")
			if after := r.proc(); after.Master != before.Master {
				t.Errorf("HAProxy died again: %+v became %+v", before, after)
			}
			r.apply(r.config(app{name: "bad", tasks: addrs{two}}, app{name: "new", tasks: addrs{two}}, app{name: "shop", tasks: addrs{two}}))
			r.answers("bad.local", "two")
			if p := r.app.Problems(); len(p) != 0 {
				t.Errorf("problems %v", p)
			}
		})
	}
}

// A master that hangs is told from one that is not there: nothing is published, the worker goes on and takes commands, and the reload is done
// when the master goes on.
func TestDeafMaster(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	before := r.proc()
	if err := syscall.Kill(before.Master, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(before.Master, syscall.SIGCONT) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := r.config(app{name: "new", tasks: addrs{two}}, app{name: "shop", tasks: addrs{two}})
	if _, err := r.app.Apply(ctx, want); !errors.Is(err, ErrMasterDeaf) {
		t.Fatalf("Apply: %v, want %v", err, ErrMasterDeaf)
	}
	r.answers("shop.local", "two") // what needs no reload is done
	r.until("health tells of it", func() bool {
		st := r.app.Status()
		return st.Level == "degraded" && strings.Contains(st.Detail, ErrMasterDeaf.Error())
	})
	if b, err := os.ReadFile(filepath.Join(r.dir, configName)); err != nil || strings.Contains(string(b), "b_new") {
		t.Errorf("a file was published that nothing could load: %v", err)
	}
	if err := syscall.Kill(before.Master, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.answers("new.local", "two")
	r.until("all is well", func() bool { return r.app.Status().Level == "ok" })
	if after := r.proc(); after.Master != before.Master {
		t.Errorf("processes %+v became %+v", before, after)
	}
}

// A check that hangs, or crashes, is no verdict: the old worker goes on, health and a metric tell, and it is tried again. If it does so
// because of an app, that one is found and withheld, and the rest goes on.
func TestCheckWithoutVerdict(t *testing.T) {
	for name, how := range map[string]string{"timeout": "exec sleep 600", "failed": "kill -SEGV $$"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.supervise()
			s := r.settings()
			s.Supervisor = r.sup
			marker := filepath.Join(r.dir, "all")
			s.Checker = &Checker{
				Binary: r.fake(fmt.Sprintf("if [ -e %s ] || grep -q strange \"$3\"; then %s; fi", marker, how)), Timeout: 2 * time.Second,
			}
			r.start(s)
			one, two := task(t, "one"), task(t, "two")
			shop := app{name: "shop", tasks: addrs{one}}
			r.apply(r.config(shop))
			if err := os.WriteFile(marker, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			strange, fine := app{name: "bad", tasks: addrs{two}, bad: "# strange"}, app{name: "fine", tasks: addrs{two}}
			if _, err := r.app.Apply(ctx, r.config(strange, fine, shop)); !errors.Is(err, ErrNoVerdict) {
				t.Fatalf("Apply: %v, want %v", err, ErrNoVerdict)
			}
			r.until("health tells", func() bool {
				st := r.app.Status()
				return st.Level == "degraded" && strings.Contains(st.Detail, ErrNoVerdict.Error())
			})
			if _, got := r.get("shop.local"); got != "one" {
				t.Errorf("shop answers %q", got)
			}
			if n := testutil.ToFloat64(r.app.met.checks.WithLabelValues(name)); n == 0 {
				t.Error("it is not counted")
			}
			if err := os.Remove(marker); err != nil {
				t.Fatal(err)
			}
			r.answers("fine.local", "two")
			if p := r.app.Problems(); len(p) != 1 || p[0].App != "/bad" || p[0].Code != "SB401" {
				t.Errorf("problems %v, want SB401 for /bad", p)
			}
			r.until("all is well", func() bool { return r.app.Status().Level == "ok" })
		})
	}
}

// Two apps that are rejected at once are both withheld, and so is one whose rejection names no line.
func TestRejectionsOfSeveralApps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	s.Checker = &Checker{Binary: r.fake(`if [ "$1" = -c ] && grep -q unnamed "$3"; then echo "[ALERT]    (1) : config : something is wrong somewhere."; exit 1; fi`)}
	r.start(s)
	one, two := task(t, "one"), task(t, "two")
	shop := app{name: "shop", tasks: addrs{one}}
	r.apply(r.config(shop))
	r.app.Update(r.config(
		app{name: "bad1", tasks: addrs{two}, bad: "frobnicate yes"}, app{name: "bad2", tasks: addrs{two}, bad: "# unnamed"},
		app{name: "bad3", tasks: addrs{two}, bad: "frobnicate no"}, app{name: "fine", tasks: addrs{two}}, shop,
	))
	r.answers("fine.local", "two")
	var apps []string
	for _, p := range r.app.Problems() {
		apps = append(apps, p.App)
	}
	if d := cmp.Diff([]string{"/bad1", "/bad2", "/bad3"}, apps); d != "" {
		t.Errorf("withheld (-want +got):\n%s", d)
	}
	r.until("all is well", func() bool { return r.app.Status().Level == "ok" })
}

func TestSearchFindsEveryBadApp(t *testing.T) {
	all := make([]string, 100)
	for i := range all {
		all[i] = fmt.Sprintf("/app%02d", i)
	}
	for _, bad := range [][]string{{"/app00"}, {"/app99"}, {"/app13", "/app14"}, {"/app00", "/app50", "/app99"}} {
		asked := 0
		got := search(all, func(held []string) bool {
			asked++
			return !slices.ContainsFunc(bad, func(app string) bool { return !slices.Contains(held, app) })
		})
		if d := cmp.Diff(bad, got); d != "" || asked > 2+14*len(bad) {
			t.Errorf("found with %d questions (-want +got):\n%s", asked, d)
		}
	}
	if got := search(all, func([]string) bool { return false }); got != nil {
		t.Errorf("found %v where no app is to blame", got)
	}
}
