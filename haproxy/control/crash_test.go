package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"signalbox/haproxy"
)

// doomed is a controller that is killed: it applies First, which needs a reload, then Second, which does not, and ends well, unless it
// is killed before its disk's step number Die.
type doomed struct {
	Dir           string
	Port          int
	First, Second map[string]netip.AddrPort // the task of each app
	Die           int
}

func (r *rig) each(apps map[string]netip.AddrPort) *haproxy.Config {
	var all []app
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		all = append(all, app{name: name, tasks: addrs{apps[name]}})
	}
	return r.config(all...)
}

// dieAtAStep is the program of a doomed controller.
func dieAtAStep() {
	var d doomed
	if err := json.Unmarshal([]byte(os.Getenv("CONTROL_TEST_DOOMED")), &d); err != nil {
		panic(err)
	}
	r := &rig{dir: d.Dir, port: d.Port}
	r.opts = rigOptions(d.Dir)
	s := Settings{
		Dir: r.dir, StatsSocket: r.opts.StatsSocket, MasterSocket: filepath.Join(r.dir, "master.sock"),
		Render: r.render, Diff: diff, AppAt: appAt, FileInterval: 10 * time.Millisecond, StateInterval: time.Millisecond,
		Publisher: NewPublisher(d.Dir, -1),
	}
	s.Publisher.disk = &killingDisk{disk: osDisk{}, left: d.Die}
	a := New(s)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ran := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ran <- a.Run(running) }()
	for _, apps := range []map[string]netip.AddrPort{d.First, d.Second} {
		if _, err := a.Apply(ctx, r.each(apps)); err != nil {
			panic(err)
		}
	}
	for a.Status().FileBehind > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-ran; err != nil {
		panic(err)
	}
}

// killingDisk is a disk whose process is killed before the step number left. Reading is no step.
type killingDisk struct {
	disk
	mu   sync.Mutex
	left int
}

func (d *killingDisk) step() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left--; d.left < 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d *killingDisk) WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (string, error) {
	d.step()
	half := filepath.Join(dir, prefix+"half")
	_ = os.WriteFile(half, data[:len(data)/2], mode)
	d.step() // half a file stays behind
	_ = os.Remove(half)
	return d.disk.WriteTemp(dir, prefix, data, mode, gid)
}

func (d *killingDisk) Rename(a, b string) error { d.step(); return d.disk.Rename(a, b) }

func (d *killingDisk) Link(a, b string) error { d.step(); return d.disk.Link(a, b) }

func (d *killingDisk) Mkdir(p string, m fs.FileMode) error { d.step(); return d.disk.Mkdir(p, m) }

func (d *killingDisk) SyncDir(p string) error   { d.step(); return d.disk.SyncDir(p) }
func (d *killingDisk) Remove(p string) error    { d.step(); return d.disk.Remove(p) }
func (d *killingDisk) RemoveAll(p string) error { d.step(); return d.disk.RemoveAll(p) }

// A controller that is killed with -9 before any step that it takes at the disk leaves the old files or the new ones, whole; HAProxy goes
// on and is not restarted; no request fails; and the next controller has everything in order soon. The steps are counted by the disk
// itself, so a new one is killed too.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sup := r.supervise()
	one, two := task(t, "one"), task(t, "two")
	s := r.settings()
	s.Supervisor = sup
	_, stop := r.start(s)
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	stop()
	before := r.proc()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	requests, failed := 0, ""
	r.background(func(ctx context.Context) error {
		for ctx.Err() == nil {
			code, body := r.get("shop.local")
			mu.Lock()
			if requests++; code != 200 {
				failed = fmt.Sprintf("%d %s", code, body)
			}
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	var slowest time.Duration
	for n := 0; ; n++ {
		was, err := NewPublisher(r.dir, -1).Load()
		if err != nil {
			t.Fatal(err)
		}
		// Each round has an app that the one before had not: that needs a reload.
		d := doomed{Dir: r.dir, Port: r.port, Die: n}
		fresh := fmt.Sprintf("new%d", n%2)
		d.First = map[string]netip.AddrPort{fresh: one, "shop": one}
		d.Second = map[string]netip.AddrPort{fresh: one, "shop": two}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "CONTROL_TEST_DOOMED="+string(text))
		out, err := cmd.CombinedOutput()
		lived := err == nil
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !lived && (!ok || status.Signal() != syscall.SIGKILL) {
			t.Fatalf("step %d: %v\n%s", n, err, out)
		}
		first, _ := r.render(r.each(d.First))
		second, _ := r.render(r.each(d.Second))
		wholeFiles(t, n, r.dir, was, first, second)

		began := time.Now()
		next := New(r.settings())
		r.app = next
		if _, err := next.Recover(t.Context()); err != nil {
			t.Errorf("killed at step %d: %v", n, err)
		}
		if files, err := NewPublisher(r.dir, -1).Load(); err != nil || !oneOf(files, was, first, second) {
			t.Errorf("killed at step %d: what is in place is a mixture: %v", n, err)
		}
		stop := r.background(next.Run)
		r.apply(r.each(d.Second))
		if _, got := r.get(fresh + ".local"); got != "one" {
			t.Errorf("killed at step %d: the new app answers %q", n, got)
		}
		if _, got := r.get("shop.local"); got != "two" {
			t.Errorf("killed at step %d: shop answers %q, want two", n, got)
		}
		slowest = max(slowest, time.Since(began))
		r.until("the file follows", func() bool { return r.app.Status().FileBehind == 0 })
		stop()
		if files, err := NewPublisher(r.dir, -1).Load(); err != nil || !oneOf(files, second) {
			t.Errorf("killed at step %d: in the end the files are not those of what runs: %v", n, err)
		}
		if lived {
			mu.Lock()
			asked := requests
			mu.Unlock()
			t.Logf("%d steps were killed; the slowest next controller needed %s; %d requests", n, slowest.Round(time.Millisecond), asked)
			if n < 50 {
				t.Errorf("only %d steps were killed", n)
			}
			break
		}
	}
	if slowest > 10*5*time.Second {
		t.Errorf("the slowest next controller needed %s", slowest)
	}
	if after := r.proc(); after.Master != before.Master || sup.starts.Load() != 1 || after.Failed != 0 {
		t.Errorf("HAProxy was started %d times: %+v became %+v", sup.starts.Load(), before, after)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != "" || requests == 0 {
		t.Errorf("of %d requests one failed: %s", requests, failed)
	}
}

// wholeFiles holds each file that HAProxy would load against all that it may be.
func wholeFiles(t *testing.T, n int, dir string, sets ...[]File) {
	t.Helper()
	for _, f := range sets[0] {
		b, err := os.ReadFile(filepath.Join(dir, f.Name))
		whole := false
		for _, set := range sets {
			for _, o := range set {
				whole = whole || o.Name == f.Name && bytes.Equal(o.Data, b)
			}
		}
		if err != nil || !whole {
			t.Errorf("killed at step %d: %s is neither old nor new: %v", n, f.Name, err)
		}
	}
}

// oneOf reports whether a set equals one of others.
func oneOf(files []File, others ...[]File) bool {
	for _, o := range others {
		same := len(o) == len(files)
		for _, f := range o {
			same = same && bytes.Equal(f.Data, dataOf(files, f.Name))
		}
		if same {
			return true
		}
	}
	return false
}

func dataOf(files []File, name string) []byte {
	for _, f := range files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func rigOptions(dir string) *haproxy.Options {
	return &haproxy.Options{Dir: dir, StatsSocket: filepath.Join(dir, "stats.sock"), MaxConn: 200, ServiceBind: "127.0.0.1"}
}
