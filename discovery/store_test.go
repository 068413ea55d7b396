package discovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox"
)

// dieWhileStoring is the program that TestKilledAtEachStepOfStoring starts: it stores 2 apps, and kills itself before the given step.
func dieWhileStoring() {
	n, err := strconv.Atoi(os.Getenv("DISCOVERY_TEST_DIE"))
	if err != nil {
		panic(err)
	}
	s := store{dir: os.Getenv("DISCOVERY_TEST_DIR"), before: func(string) error {
		if n--; n < 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}}
	b, err := (&encoder{}).encode(&stored{Source: "a", Generation: 2, Services: apps(2, 1)})
	if err == nil {
		err = s.save("a", b)
	}
	if err != nil {
		panic(err)
	}
	fmt.Println("stored")
}

func storeApps(t *testing.T, s store, n int) {
	t.Helper()
	b, err := (&encoder{}).encode(&stored{Source: "a", Generation: uint64(n), Services: apps(n, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.save("a", b); err != nil {
		t.Fatal(err)
	}
}

// Killed before any step, the disk has the old state or the new one, whole, and nothing else stays behind.
func TestKilledAtEachStepOfStoring(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		s := store{dir: t.TempDir()}
		storeApps(t, s, 1)
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), fmt.Sprintf("DISCOVERY_TEST_DIE=%d", n), "DISCOVERY_TEST_DIR="+s.dir)
		out, err := cmd.CombinedOutput()
		lived := err == nil
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !lived && (!ok || status.Signal() != syscall.SIGKILL) {
			t.Fatalf("step %d: %v\n%s", n, err, out)
		}
		st, err := s.load("a")
		if err != nil || len(st.Services) != int(st.Generation) || st.Generation != 1 && st.Generation != 2 || lived && st.Generation != 2 {
			t.Errorf("killed before step %d: %+v, %v; want the old state or the new one", n, st, err)
		}
		k := newKeeper(s, time.Millisecond, func(string, int, error) {})
		k.sweep()
		storeApps(t, s, 3) // whatever was left behind is in nobody's way
		left, err := filepath.Glob(filepath.Join(s.dir, "*"))
		hidden, herr := filepath.Glob(filepath.Join(s.dir, ".state-*"))
		if err != nil || herr != nil || len(left) != 2 || len(hidden) != 0 {
			t.Errorf("killed before step %d: files %v and %v, want two generations", n, left, hidden)
		}
		if lived {
			if n < 8 {
				t.Errorf("only %d steps were killed", n)
			}
			return
		}
	}
}

// A disk that is full leaves what is there, is said in the status, and what could not be stored is when there is room again.
func TestStoringCatchesUp(t *testing.T) {
	dir := t.TempDir()
	src := newScript("a")
	w := NewWatcher(Config{Sources: []Source{src}, StateDir: dir, SaveEvery: time.Millisecond})
	full := make(chan bool, 1)
	full <- false
	w.keeper.store.before = func(step string) error {
		is := <-full
		full <- is
		if is && step == "writing" {
			return &fs.PathError{Op: "write", Path: dir, Err: syscall.ENOSPC}
		}
		return nil
	}
	out, stop := running(t, w)
	defer stop()
	stored := func(apps int) func() bool {
		return func() bool {
			st, err := store{dir: dir}.load("a")
			return err == nil && len(st.Services) == apps
		}
	}
	src.send(apps(1, 1))
	<-out
	wait(t, "one app is stored", stored(1))
	<-full
	full <- true
	src.send(apps(2, 1))
	<-out
	wait(t, "the status tells", func() bool {
		st := w.Status()[0]
		return st.Level == signalbox.Degraded && strings.Contains(st.Detail, syscall.ENOSPC.Error())
	})
	if !stored(1)() {
		t.Error("what was stored is gone")
	}
	<-full
	full <- false
	wait(t, "two apps are stored", stored(2))
	wait(t, "the status is good again", func() bool { return !strings.Contains(w.Status()[0].Detail, syscall.ENOSPC.Error()) })
	if left, _ := filepath.Glob(filepath.Join(dir, ".state-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// Numbers are given once, whatever ended the program.
func TestGenerationsAreGivenOnce(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for n := 1; n <= 3; n++ {
		src := newScript("a")
		w, out, stop := run(t, Config{Sources: []Source{src}, StateDir: dir})
		if n > 1 {
			<-out // what is stored
		}
		for i := range 2 {
			src.send(apps(3*n+i, 1))
			<-out
			if g := w.Status()[0].Generation; g <= last {
				t.Errorf("generation %d after %d", g, last)
			} else {
				last = g
			}
		}
		stop()
	}
	if st, err := (store{dir: dir}).load("a"); errors.Is(err, errNoState) || st.Generation != last {
		t.Errorf("stored %+v, %v; want generation %d", st, err, last)
	}
}
