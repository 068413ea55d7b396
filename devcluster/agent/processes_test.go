package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second // until a test that waits has hung

// words collects statuses.
type words struct {
	mu   sync.Mutex
	said map[string][]Status
	more chan struct{}
}

func newWords() *words {
	return &words{said: make(map[string][]Status), more: make(chan struct{}, 1)}
}

func (w *words) report(s Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[s.TaskID] = append(w.said[s.TaskID], s)
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *words) of(id string) []Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Status(nil), w.said[id]...)
}

// until waits for a task's state and returns the message that came with it.
func (w *words) until(t *testing.T, id string, state State) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		for _, s := range w.of(id) {
			if s.State == state {
				return s.Message
			}
		}
		select {
		case <-w.more:
		case <-time.After(50 * time.Millisecond):
		case <-timeout:
			t.Fatalf("%s never became %s; it was %v", id, state, w.of(id))
		}
	}
}

func (w *words) states(id string) []State {
	var states []State
	for _, s := range w.of(id) {
		states = append(states, s.State)
	}
	return states
}

func startProcesses(t *testing.T, cfg Config) (*Processes, *words) {
	t.Helper()
	w := newWords()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	p, err := NewProcesses(cfg, w.report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(cfg.Dir); len(left) != 0 {
			t.Errorf("the agent left %v", left)
		}
	})
	return p, w
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for begun := time.Now(); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

func exists(pid int) bool {
	for _, p := range processTable() {
		if p.pid == pid {
			return !p.zombie
		}
	}
	return false
}

func readPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, file+" names a process", func() bool {
		b, err := os.ReadFile(file)
		if err != nil || !bytes.HasSuffix(b, []byte("\n")) {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	return pid
}

func TestExitStatesAreWordedAsMesosDoes(t *testing.T) {
	p, w := startProcesses(t, Config{})
	for _, c := range []struct {
		name    string
		spec    Spec
		states  []State
		message string
	}{
		{"success", Spec{Shell: "true"}, []State{Starting, Running, Finished}, "Command exited with status 0"},
		{"failure", Spec{Shell: "exit 3"}, []State{Starting, Running, Failed}, "Command exited with status 3"},
		{"signal", Spec{Shell: "kill -9 $$"}, []State{Starting, Running, Failed}, "Command terminated with signal Killed"},
		{"args", Spec{Args: []string{"sh", "-c", "exit 4"}}, []State{Starting, Running, Failed}, "Command exited with status 4"},
		{
			"absent",
			Spec{Args: []string{"no-such-program"}, Env: []string{"PATH=/bin"}},
			[]State{Starting, Failed},
			"Failed to launch the command: running no-such-program: no such program in /bin",
		},
		{
			"nobody's",
			Spec{Shell: "true", User: "no-such-user"},
			[]State{Starting, Failed},
			"Failed to launch the command: looking up the user to run as: user: unknown user no-such-user",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.ID = c.name
			if err := p.Launch(c.spec); err != nil {
				t.Fatal(err)
			}
			message := w.until(t, c.name, c.states[len(c.states)-1])
			if diff := cmp.Diff(c.states, w.states(c.name)); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.message, message); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATaskHasItsEnvironmentAndSandbox(t *testing.T) {
	p, w := startProcesses(t, Config{})
	spec := Spec{
		ID: "shop.1", Shell: `pwd; env | sort; echo oops >&2`,
		Env: []string{"PORT0=31000", "MESOS_TASK_ID=shop.1", "MESOS_SANDBOX=/wrong"},
	}
	if err := p.Launch(spec); err != nil {
		t.Fatal(err)
	}
	w.until(t, "shop.1", Finished)
	dir := filepath.Join(p.Dir(), "shop.1")
	out, _ := os.ReadFile(filepath.Join(dir, "stdout"))
	want := dir + "\nMESOS_SANDBOX=" + dir + "\nMESOS_TASK_ID=shop.1\nPORT0=31000\nPWD=" + dir + "\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	eventually(t, "stderr is kept", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "stderr"))
		return string(b) == "oops\n"
	})
}

func TestOutputIsBounded(t *testing.T) {
	p, w := startProcesses(t, Config{LogBytes: 1000})
	if err := p.Launch(Spec{ID: "loud", Shell: `i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo "line $i"; done`}); err != nil {
		t.Fatal(err)
	}
	w.until(t, "loud", Finished)
	dir := filepath.Join(p.Dir(), "loud")
	eventually(t, "the last line is kept", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "stdout"))
		return bytes.HasSuffix(b, []byte("line 2000\n"))
	})
	// How the kernel cuts what was written is not known here: in one piece, there is no file before.
	for _, name := range []string{"stdout", "stdout.1"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if name == "stdout.1" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || info.Size() > 1000 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestLogFileKeepsTheLastTwoPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	l, err := openLogFile(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"12345", "6789a", "b", "0123456789cdef"} {
		if n, err := l.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	for name, want := range map[string]string{path: "456789cdef", path + ".1": "b"} {
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("%s has %q, %v; want %q", name, b, err, want)
		}
	}
}

func TestKillAsksFirst(t *testing.T) {
	p, w := startProcesses(t, Config{})
	err := p.Launch(Spec{ID: "polite", Shell: `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done`})
	if err != nil {
		t.Fatal(err)
	}
	awaitOutput(t, p, "polite", "up\n")
	p.Kill("polite", time.Minute)
	if got := w.until(t, "polite", Killed); got != "Command exited with status 0" {
		t.Errorf("message %q", got)
	}
	awaitOutput(t, p, "polite", "up\nbye\n")
	p.Kill("polite", 0) // unknown by now, and ignored
}

func awaitOutput(t *testing.T, p *Processes, id, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s prints %q", id, want), func() bool {
		b, _ := os.ReadFile(filepath.Join(p.Dir(), id, "stdout"))
		return string(b) == want
	})
}

func TestKillInsistsAfterTheGrace(t *testing.T) {
	p, w := startProcesses(t, Config{})
	if err := p.Launch(Spec{ID: "deaf", Shell: `trap '' TERM; echo up; while :; do sleep 0.01; done`}); err != nil {
		t.Fatal(err)
	}
	awaitOutput(t, p, "deaf", "up\n")
	p.Kill("deaf", time.Hour)
	p.Kill("deaf", 50*time.Millisecond) // a shorter grace counts
	p.Kill("deaf", time.Hour)           // a longer one does not
	if got := w.until(t, "deaf", Killed); got != "Command terminated with signal Killed" {
		t.Errorf("message %q", got)
	}
}

func TestStragglersGoWithTheLeader(t *testing.T) {
	p, w := startProcesses(t, Config{})
	err := p.Launch(Spec{ID: "messy", Shell: `trap '' TERM
		sleep 1000 & echo $! > background
		setsid sh -c 'echo $$ > daemon; (sleep 1000 & echo $! > below); sleep 1000' &
		while [ ! -s below ]; do sleep 0.01; done
		exit 0`})
	if err != nil {
		t.Fatal(err)
	}
	w.until(t, "messy", Finished)
	for _, name := range []string{"background", "daemon", "below"} {
		if pid := readPID(t, filepath.Join(p.Dir(), "messy", name)); exists(pid) {
			t.Errorf("%s (%d) outlives the task", name, pid)
		}
	}
}

func TestPortsAreFreeWhenTheEndIsReported(t *testing.T) {
	p, w := startProcesses(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		id := "listener." + strconv.Itoa(i)
		err := p.Launch(Spec{ID: id, Args: []string{self, "-test.run=^TestHelperListens$"}, Env: []string{"AGENT_TEST_LISTEN=" + addr}})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it listens", func() bool {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return false
			}
			c.Close()
			return true
		})
		p.Kill(id, 0)
		w.until(t, id, Killed)
	}
}

func TestHelperListens(t *testing.T) {
	addr := os.Getenv("AGENT_TEST_LISTEN")
	if addr == "" {
		return
	}
	if _, err := net.Listen("tcp", addr); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

func TestOnlyTheYoungestSandboxesStay(t *testing.T) {
	p, w := startProcesses(t, Config{KeepSandboxes: 2})
	for i := range 4 {
		id := "task." + strconv.Itoa(i)
		if err := p.Launch(Spec{ID: id, Shell: "true"}); err != nil {
			t.Fatal(err)
		}
		w.until(t, id, Finished)
	}
	eventually(t, "two sandboxes are left", func() bool {
		left, err := os.ReadDir(p.Dir())
		return err == nil && len(left) == 2 && left[0].Name() == "task.2" && left[1].Name() == "task.3"
	})
}

func TestLaunchRefuses(t *testing.T) {
	p, _ := startProcesses(t, Config{})
	if err := p.Launch(Spec{ID: "a", Shell: "sleep 1000"}); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []Spec{{ID: "a", Shell: "true"}, {ID: "b"}, {Shell: "true"}} {
		if p.Launch(spec) == nil {
			t.Errorf("%+v was launched", spec)
		}
	}
	p.Close()
	if err := p.Launch(Spec{ID: "c", Shell: "true"}); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStatusesMayTakeTheCallersLock(t *testing.T) {
	var mu sync.Mutex
	ended := make(chan struct{}, 100)
	p, err := NewProcesses(Config{Dir: t.TempDir()}, func(s Status) {
		mu.Lock()
		defer mu.Unlock()
		if s.State == Finished {
			ended <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	mu.Lock()
	for i := range 20 {
		if err := p.Launch(Spec{ID: strconv.Itoa(i), Shell: "true"}); err != nil {
			t.Error(err)
		}
	}
	mu.Unlock()
	timeout := time.After(patience)
	for range 20 {
		select {
		case <-ended:
		case <-timeout:
			t.Fatal("not all tasks ended")
		}
	}
}

func TestCommandProbe(t *testing.T) {
	p, _ := startProcesses(t, Config{})
	err := p.Launch(Spec{ID: "a", Shell: "sleep 1000", Addr: "127.0.0.1", Env: []string{"WORD=yes", "PATH=/usr/bin:/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	probe := func(command string, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return p.Probe(ctx, "a", Probe{Kind: ProbeCommand, Command: command})
	}
	if err := probe(`[ "$WORD" = yes ] && [ "$PWD" = "$MESOS_SANDBOX" ]`, patience); err != nil {
		t.Error(err)
	}
	if err := probe("exit 7", patience); err == nil || err.Error() != "Command exited with status 7" {
		t.Errorf("got %v", err)
	}
	if err := probe("echo $$ > slow; sleep 1000 & wait", 300*time.Millisecond); err == nil {
		t.Error("a probe that takes too long passed")
	}
	if b, err := os.ReadFile(filepath.Join(p.Dir(), "a", "slow")); err == nil {
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		eventually(t, "the slow probe is gone", func() bool { return !exists(pid) })
	}
	if err := p.Probe(t.Context(), "b", Probe{Kind: ProbeCommand, Command: "true"}); err == nil {
		t.Error("a task that is not there was found alive")
	}
}

// helper starts this test binary as a program with an agent of its own, which runs one messy task.
func startHelper(t *testing.T) (helper *exec.Cmd, base string, pids []int) {
	t.Helper()
	base = t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper = exec.Command(self, "-test.run=^TestHelperRunsAnAgent$")
	helper.Env = append(os.Environ(), "AGENT_TEST_BASE="+base)
	helper.Stderr = os.Stderr
	helper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = helper.Process.Kill()
		_ = helper.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the helper said %q, then %v", line, err)
	}
	var supervisor int
	var root string
	if _, err := fmt.Sscan(line, &supervisor, &root); err != nil {
		t.Fatalf("the helper said %q: %v", line, err)
	}
	pids = append(pids, supervisor)
	for _, name := range []string{"leader", "background", "daemon", "bare", "twice"} {
		pids = append(pids, readPID(t, filepath.Join(root, "messy", name)))
	}
	for _, pid := range pids {
		if !exists(pid) {
			t.Fatalf("process %d is gone already", pid)
		}
	}
	return helper, base, pids
}

func TestHelperRunsAnAgent(*testing.T) {
	base := os.Getenv("AGENT_TEST_BASE")
	if base == "" {
		return
	}
	if err := os.Mkdir(filepath.Join(base, "more"), 0o755); err != nil {
		panic(err)
	}
	p, err := NewProcesses(Config{Dir: base, Cleanup: []string{filepath.Join(base, "more")}}, func(Status) {})
	if err != nil {
		panic(err)
	}
	err = p.Launch(Spec{ID: "messy", Env: []string{"PATH=/usr/bin:/bin"}, Shell: `trap '' TERM HUP
		echo $$ > leader
		sleep 1000 & echo $! > background
		setsid sh -c 'echo $$ > daemon; sleep 1000; :' &
		env -i setsid /bin/sh -c 'echo $$ > bare; /bin/sleep 1000; :' &
		(setsid sh -c '(trap "" TERM; echo $$ > /dev/null; sh -c "echo \$\$ > twice; sleep 1000; :") & exit' &)
		while :; do sleep 1; done`})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.cmd.Process.Pid, p.Dir())
	time.Sleep(5 * time.Minute)
}

func expectNothingLeft(t *testing.T, base string, pids []int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return !exists(pid) })
	}
	eventually(t, "no file is left", func() bool {
		left, err := os.ReadDir(base)
		return err == nil && len(left) == 0
	})
}

func TestNothingIsLeftAfterKill9(t *testing.T) {
	for _, c := range []struct {
		name string
		whom func(*exec.Cmd) int
	}{
		{"of the program", func(helper *exec.Cmd) int { return helper.Process.Pid }},
		{"of its whole process group", func(helper *exec.Cmd) int { return -helper.Process.Pid }},
	} {
		t.Run(c.name, func(t *testing.T) {
			helper, base, pids := startHelper(t)
			if err := unix.Kill(c.whom(helper), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			expectNothingLeft(t, base, pids)
		})
	}
}

func TestNothingIsLeftAfterKill9OfTheSupervisor(t *testing.T) {
	base := t.TempDir()
	w := newWords()
	p, err := NewProcesses(Config{Dir: base}, w.report)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Launch(Spec{ID: "messy", Env: []string{"PATH=/usr/bin:/bin"}, Shell: `echo $$ > leader
		setsid sh -c 'echo $$ > daemon; sleep 1000; :' &
		while :; do sleep 1; done`}); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range []string{"leader", "daemon"} {
		pids = append(pids, readPID(t, filepath.Join(p.Dir(), "messy", name)))
	}
	if err := unix.Kill(p.cmd.Process.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := w.until(t, "messy", Failed); got != "Command terminated with its agent" {
		t.Errorf("message %q", got)
	}
	expectNothingLeft(t, base, pids)
	if err := p.Launch(Spec{ID: "b", Shell: "true"}); !errors.Is(err, errClosed) {
		t.Errorf("after the supervisor's death: %v", err)
	}
}

func TestCloseEndsEverythingAtOnce(t *testing.T) {
	base := t.TempDir()
	w := newWords()
	p, err := NewProcesses(Config{Dir: base}, w.report)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := p.Launch(Spec{ID: strconv.Itoa(i), Shell: `trap '' TERM; echo $$ > pid; while :; do sleep 1; done`}); err != nil {
			t.Fatal(err)
		}
	}
	var pids []int
	for i := range 10 {
		pids = append(pids, readPID(t, filepath.Join(p.Dir(), strconv.Itoa(i), "pid")))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if exists(pid) {
			t.Errorf("process %d outlives the agent", pid)
		}
	}
	if left, _ := os.ReadDir(base); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestNewProcessesSaysWhyItCannot(t *testing.T) {
	_, err := NewProcesses(Config{Dir: filepath.Join(t.TempDir(), "absent")}, func(Status) {})
	if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("got %v", err)
	}
}
