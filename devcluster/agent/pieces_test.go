package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDescribe(t *testing.T) {
	for status, want := range map[syscall.WaitStatus]string{
		0:               "exited with status 0",
		3 << 8:          "exited with status 3",
		9:               "terminated with signal Killed",
		15:              "terminated with signal Terminated",
		11 | 0x80:       "terminated with signal Segmentation fault (core dumped)",
		(128 + 15) << 8: "exited with status 143",
	} {
		if got := describe(status); got != want {
			t.Errorf("%#x: %q, want %q", int(status), got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("17 (sh) S 1 17 17 0 -1"))
	f.Add([]byte("17 (a) R 2 (b) Z 5 6 7"))
	f.Add([]byte("17 (x"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		p, ok := parseStat(17, stat)
		if ok && p.pid != 17 {
			t.Errorf("%+v", p)
		}
	})
}

func TestParseStat(t *testing.T) {
	for stat, want := range map[string]process{
		"17 (sh) S 1 16 15 0 -1":      {pid: 17, parent: 1, group: 16},
		"17 (a) R 2 (b) Z 5 6 7 0":    {pid: 17, parent: 5, group: 6, zombie: true},
		"17 (line\nbreak) D 5 -6 7 0": {pid: 17, parent: 5, group: -6},
	} {
		got, ok := parseStat(17, []byte(stat))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(process{})); !ok || diff != "" {
			t.Errorf("%q (-want +got):\n%s", stat, diff)
		}
	}
	for _, stat := range []string{"", "17 sh S 1 1", "17 (sh) S 1", "17 (sh) S x y z"} {
		if got, ok := parseStat(17, []byte(stat)); ok {
			t.Errorf("%q is %+v", stat, got)
		}
	}
	self := processTable()
	for _, p := range self {
		if p.pid == os.Getpid() && p.parent == os.Getppid() {
			return
		}
	}
	t.Errorf("this process is not among %d", len(self))
}

func TestDescendants(t *testing.T) {
	table := []process{{pid: 1}, {pid: 2, parent: 1}, {pid: 3, parent: 2}, {pid: 4, parent: 1}, {pid: 5, parent: 5}, {pid: 6, parent: 3}}
	var pids []int
	for _, p := range descendants(table, 2, 5) {
		pids = append(pids, p.pid)
	}
	if diff := cmp.Diff([]int{3, 5, 6}, pids); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever an id says, its sandbox is one name right below the root.
func TestSandboxNamesStayBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.String(), rapid.StringMatching(`[./\x00a]{0,6}`)).Draw(t, "id")
		name := sandboxName(id)
		if filepath.Dir(filepath.Join("/root", name)) != "/root" || strings.ContainsAny(name, "/\x00\n") || name == "" {
			t.Fatalf("%q becomes %q", id, name)
		}
	})
	if got := sandboxName("shop_cart.instance-1c2d._app.1"); got != "shop_cart.instance-1c2d._app.1" {
		t.Errorf("an ordinary id becomes %q", got)
	}
}

// Whatever is written in whatever pieces, neither file passes the limit, and together they end as the output does.
func TestLogFileKeepsTheEnd(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 50).Draw(t, "limit")
		pieces := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 80)).Draw(t, "pieces")
		path := filepath.Join(dir, "stdout")
		_ = os.Remove(path + ".1")
		l, err := openLogFile(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		l.drain(&piecewise{pieces})
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path + ".1")
		all := bytes.Join(pieces, nil)
		if int64(len(now)) > limit || int64(len(before)) > limit {
			t.Fatalf("%d and %d bytes, more than %d", len(before), len(now), limit)
		}
		if !bytes.HasSuffix(all, now) || len(all) > 0 && len(now) == 0 {
			t.Fatalf("%q does not end as %q does", now, all)
		}
	})
}

// piecewise reads one piece at a time.
type piecewise struct{ pieces [][]byte }

func (p *piecewise) Read(b []byte) (int, error) {
	if len(p.pieces) == 0 {
		return 0, os.ErrClosed
	}
	n := copy(b, p.pieces[0])
	p.pieces = p.pieces[1:]
	return n, nil
}

func (*piecewise) Close() error { return nil }

func TestTasksOfAnotherUser(t *testing.T) {
	base := t.TempDir()
	if err := os.Chmod(filepath.Dir(base), 0o755); err != nil { // others pass through
		t.Fatal(err)
	}
	p, w := startProcesses(t, Config{Dir: base})
	defer p.Close()
	if err := p.Launch(Spec{ID: "a", User: "nobody", Shell: "id -un > who && cat who", Env: []string{"PATH=/usr/bin:/bin"}}); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		want := "Failed to launch the command: running as nobody: only root can run tasks as somebody else"
		if got := w.until(t, "a", Failed); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		return
	}
	w.until(t, "a", Finished)
	awaitOutput(t, p, "a", "nobody\n")
}

func TestATaskIDCanBeUsedAgain(t *testing.T) {
	p, w := startProcesses(t, Config{})
	for i := range 3 {
		if err := p.Launch(Spec{ID: "again", Shell: fmt.Sprintf("test ! -e old && touch old && exit %d", i+1)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it ends", func() bool { return len(w.of("again")) == 3*(i+1) })
	}
	last := w.of("again")
	if got := last[len(last)-1].Message; got != "Command exited with status 3" {
		t.Errorf("it ended with %q", got)
	}
}

func TestSandboxesOfLiveTasksAreNotShared(t *testing.T) {
	p, w := startProcesses(t, Config{KeepSandboxes: -1})
	if err := p.Launch(Spec{ID: "a/b", Shell: "sleep 1000"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Launch(Spec{ID: "a_b", Shell: "sleep 1000"}); err != nil {
		t.Fatal(err)
	}
	w.until(t, "a_b", Failed)
	if _, err := os.Stat(filepath.Join(p.Dir(), "a_b", "stdout")); err != nil {
		t.Errorf("the first task's sandbox is gone: %v", err)
	}
}

func BenchmarkLaunchOfAProcess(b *testing.B) {
	ran := make(chan Status, 16)
	p, err := NewProcesses(Config{Dir: b.TempDir()}, func(s Status) {
		if s.State == Running || s.State == Finished {
			ran <- s
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for i := 0; b.Loop(); i++ {
		if err := p.Launch(Spec{ID: fmt.Sprint(i), Args: []string{"/bin/true"}}); err != nil {
			b.Fatal(err)
		}
		for (<-ran).State != Finished {
		}
	}
}
