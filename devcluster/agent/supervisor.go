package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process that is killed cannot clean up, and what it started lives on. So the tasks are not its children: the agent runs
// the program's own executable a second time, under supervisorName, as the parent of all tasks. The supervisor is a session of
// its own, so that no signal to the agent's process group reaches it, and a child subreaper, so that what daemonises is handed
// to it instead of to init. It learns of the agent's death, of whatever kind, by the end of the pipe that orders come through;
// then it kills every descendant, removes every sandbox, and exits.
const (
	supervisorName     = "signalbox-agent"
	supervisorVariable = "SIGNALBOX_AGENT_SUPERVISOR"

	ordersFD, eventsFD = 3, 4
)

// The supervisor takes over while the program initialises, before main or TestMain, so that every program that links this
// package can have an agent without doing anything for it. Name and variable are both asked for: neither an inherited variable
// nor an odd file name alone diverts a program.
func init() {
	if len(os.Args) == 1 && os.Args[0] == supervisorName && os.Getenv(supervisorVariable) != "" {
		os.Exit(supervise())
	}
}

const (
	killAgainAfter = 10 * time.Millisecond // the pause between two rounds against what is left of a task
	giveUpAfter    = 5 * time.Second       // after which an unkillable rest (uninterruptible sleep) no longer delays the status
)

// job is a task or a probe of one.
type job struct {
	id     string // the task's
	probe  uint64 // 0: the task itself
	dir    string
	env    []string
	pid    int
	killed bool
	expire time.Time // when SIGKILL is due; zero: never
	status syscall.WaitStatus
	ended  time.Time // when the leader ended; zero: it lives
}

// supervisor is the state of the second process. One goroutine owns it, on the main thread, which outlives every task: the
// parent-death signal of a task is bound to the thread that forked it.
type supervisor struct {
	setup  setup
	root   string
	events *json.Encoder
	jobs   map[int]*job // by the leader's pid, until nothing is left of the job
	tasks  map[string]*job
	past   []string // sandboxes of ended tasks, the oldest first
}

func supervise() int {
	unix.CloseOnExec(ordersFD)
	unix.CloseOnExec(eventsFD)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "becoming the parent of orphans:", err)
		return 1
	}
	s := &supervisor{
		events: json.NewEncoder(os.NewFile(eventsFD, "events")),
		jobs:   make(map[int]*job), tasks: make(map[string]*job),
	}
	children, ask := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	signal.Notify(ask, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	orders := make(chan order)
	go readOrders(os.NewFile(ordersFD, "orders"), orders)

	timer := time.NewTimer(time.Hour)
	for {
		timer.Reset(s.tend())
		select {
		case o, ok := <-orders:
			if !ok {
				return s.end()
			}
			s.follow(o)
		case <-ask:
			return s.end()
		case <-children:
			s.reap()
		case <-timer.C:
		}
	}
}

func readOrders(r io.Reader, orders chan<- order) {
	defer close(orders)
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var o order
		if dec.Decode(&o) != nil {
			return
		}
		orders <- o
	}
}

func (s *supervisor) tell(e event) {
	_ = s.events.Encode(e) // a reader that is gone shows as the end of the orders
}

func (s *supervisor) follow(o order) {
	switch o.Do {
	case doHello:
		s.setup = *o.Setup
		root, err := os.MkdirTemp(s.setup.Dir, "signalbox-agent-")
		if err == nil {
			err = os.Chmod(root, 0o755) //nolint:gosec // tasks of other users pass through to their own sandboxes
		}
		if err != nil {
			s.tell(event{Is: isReady, Message: err.Error()})
			return
		}
		s.root = root
		s.tell(event{Is: isReady, Root: root})
	case doLaunch:
		s.launch(*o.Spec)
	case doKill:
		if j := s.tasks[o.Task]; j != nil && j.ended.IsZero() {
			s.askToEnd(j, o.Grace)
		}
	case doProbe:
		s.probe(o)
	case doCancel:
		for _, j := range s.jobs {
			if j.probe == o.Probe && j.probe != 0 {
				j.expire = time.Now()
			}
		}
	}
}

func (s *supervisor) launch(spec Spec) {
	dir := filepath.Join(s.root, sandboxName(spec.ID))
	j := &job{id: spec.ID, dir: dir, env: withSandbox(spec.Env, dir)}
	argv := spec.Args
	if spec.Shell != "" || len(argv) == 0 {
		argv = []string{"/bin/sh", "-c", spec.Shell}
	}
	err := s.makeSandbox(dir)
	var as *syscall.Credential
	if err == nil && spec.User != "" {
		as, err = credential(spec.User)
		if err == nil && as != nil {
			err = os.Chown(dir, int(as.Uid), int(as.Gid))
		}
	}
	if err == nil {
		err = s.start(j, argv, as, filepath.Join(dir, "stdout"), filepath.Join(dir, "stderr"))
	}
	if err != nil {
		if !s.uses(dir) {
			s.bury(dir)
		}
		s.tell(event{Is: isEnded, Task: spec.ID, State: Failed, Message: "Failed to launch the command: " + err.Error()})
		return
	}
	s.tasks[spec.ID] = j
	s.tell(event{Is: isStarted, Task: spec.ID, PID: j.pid})
}

// makeSandbox makes a directory that must be new: one of an ended task of the same id gives way, one of a live task does not.
func (s *supervisor) makeSandbox(dir string) error {
	if i := slices.Index(s.past, dir); i >= 0 {
		s.past = slices.Delete(s.past, i, i+1)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("making room for the sandbox: %w", err)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("making the sandbox: %w", err)
	}
	return nil
}

func (s *supervisor) probe(o order) {
	task := s.tasks[o.Task]
	if task == nil || !task.ended.IsZero() {
		s.tell(event{Is: isProbed, Probe: o.Probe, Message: "the task does not run"})
		return
	}
	j := &job{id: task.id, probe: o.Probe, dir: task.dir, env: task.env, expire: time.Now().Add(o.Grace)}
	if err := s.start(j, []string{"/bin/sh", "-c", o.Shell}, nil, "", ""); err != nil {
		s.tell(event{Is: isProbed, Probe: o.Probe, Message: err.Error()})
	}
}

// uses reports whether a live task has a sandbox.
func (s *supervisor) uses(dir string) bool {
	for _, j := range s.tasks {
		if j.dir == dir {
			return true
		}
	}
	return false
}

// start runs argv as the leader of a process group of its own. Its output goes to two files; a name of "" discards it.
func (s *supervisor) start(j *job, argv []string, as *syscall.Credential, stdout, stderr string) error {
	program, err := lookPath(argv[0], j.env, j.dir)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the null device: %w", err)
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), null.Fd()}
	for i, name := range []string{stdout, stderr} {
		if name == "" {
			continue
		}
		log, err := openLogFile(name, s.setup.LogBytes)
		if err != nil {
			return err
		}
		r, w, err := os.Pipe()
		if err != nil {
			log.file.Close()
			return fmt.Errorf("opening a pipe: %w", err)
		}
		defer w.Close() // the task holds its own copy
		go log.drain(r)
		files[i+1] = w.Fd()
	}
	j.pid, err = syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Dir: j.dir, Env: j.env, Files: files,
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: as},
	})
	if err != nil {
		return fmt.Errorf("running %s: %w", program, err)
	}
	s.jobs[j.pid] = j
	return nil
}

func (s *supervisor) askToEnd(j *job, grace time.Duration) {
	at := time.Now().Add(grace)
	if !j.killed || at.Before(j.expire) {
		j.expire = at
	}
	if !j.killed {
		j.killed = true
		_ = unix.Kill(-j.pid, unix.SIGTERM)
	}
}

// reap collects every child that has ended: leaders, whose word it keeps, and orphans that were handed over.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if j := s.jobs[pid]; j != nil && j.ended.IsZero() {
			j.ended, j.status = time.Now(), status
		}
	}
}

// tend does what is due: SIGKILL after the grace, and the end of jobs whose leader has ended. It returns when it has to be
// called again at the latest.
func (s *supervisor) tend() time.Duration {
	now := time.Now()
	wait := time.Hour
	var table []process
	for pid, j := range s.jobs {
		if j.ended.IsZero() {
			if j.expire.IsZero() {
				continue
			}
			if due := j.expire.Sub(now); due > 0 {
				wait = min(wait, due)
				continue
			}
			_ = unix.Kill(-pid, unix.SIGKILL)
			j.expire = now.Add(killAgainAfter)
			wait = min(wait, killAgainAfter)
			continue
		}
		if table == nil {
			table = processTable()
		}
		if s.sweep(j, table) && now.Sub(j.ended) < giveUpAfter {
			wait = min(wait, killAgainAfter)
			continue
		}
		delete(s.jobs, pid)
		s.conclude(j)
	}
	return wait
}

// sweep kills what is left of a job whose leader has ended and reports whether there was anything: its process group, and for
// a task whatever has the sandbox in its environment and left the group, with all that it started.
func (s *supervisor) sweep(j *job, table []process) bool {
	left := false
	var strays []int
	mine := descendants(table, os.Getpid())
	for _, p := range mine {
		if p.zombie {
			continue
		}
		if p.group == j.pid {
			left = true
			_ = unix.Kill(p.pid, unix.SIGKILL)
			continue
		}
		if j.probe != 0 || s.jobs[p.group] != nil {
			continue
		}
		if hasVariable(p.pid, sandboxVariable(j.dir)) {
			strays = append(strays, p.pid)
		}
	}
	for _, pid := range strays {
		left = true
		for _, p := range descendants(table, pid) {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return left
}

func (s *supervisor) conclude(j *job) {
	text := "Command " + describe(j.status)
	switch {
	case j.probe != 0:
		if j.status.Exited() && j.status.ExitStatus() == 0 {
			text = ""
		}
		s.tell(event{Is: isProbed, Probe: j.probe, Message: text})
		return
	case j.killed:
		s.tell(event{Is: isEnded, Task: j.id, State: Killed, Message: text})
	case j.status.Exited() && j.status.ExitStatus() == 0:
		s.tell(event{Is: isEnded, Task: j.id, State: Finished, Message: text})
	default:
		s.tell(event{Is: isEnded, Task: j.id, State: Failed, Message: text})
	}
	delete(s.tasks, j.id)
	s.bury(j.dir)
}

// bury notes the sandbox of an ended task and removes the oldest that are too many.
func (s *supervisor) bury(dir string) {
	s.past = append(s.past, dir)
	for len(s.past) > max(0, s.setup.Keep) {
		_ = os.RemoveAll(s.past[0]) // the whole root goes at the end
		s.past = s.past[1:]
	}
}

// end kills every descendant until there is none, then removes all files.
func (s *supervisor) end() int {
	for begun := time.Now(); time.Since(begun) < 2*giveUpAfter; time.Sleep(killAgainAfter / 5) {
		s.reap()
		left := 0
		for _, p := range descendants(processTable(), os.Getpid()) {
			if !p.zombie {
				left++
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
		}
		if left == 0 {
			break
		}
	}
	s.reap()
	code := 0
	for _, path := range append([]string{s.root}, s.setup.Cleanup...) {
		if path == "" {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			code = 1
		}
	}
	return code
}

// describe words a wait status as Mesos does.
func describe(w syscall.WaitStatus) string {
	if !w.Signaled() { //nolint:misspell // the name is the standard library's
		return fmt.Sprintf("exited with status %d", w.ExitStatus())
	}
	name := w.Signal().String()
	text := "terminated with signal " + strings.ToUpper(name[:1]) + name[1:]
	if w.CoreDump() {
		text += " (core dumped)"
	}
	return text
}

// withSandbox returns env with MESOS_SANDBOX, once.
func withSandbox(env []string, dir string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, sandboxVariable("")) })
	return append(env, sandboxVariable(dir))
}

func sandboxVariable(dir string) string { return "MESOS_SANDBOX=" + dir }

// sandboxName makes a file name of a task id. Ids that Marathon makes stay as they are.
func sandboxName(id string) string {
	name := strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' {
			return '_'
		}
		return r
	}, id)
	if name == "" || name[0] == '.' {
		name = "_" + name
	}
	return name
}
