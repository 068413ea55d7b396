package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	startTimeout = 20 * time.Second // for the supervisor's first word, on a machine that is busy
	closeTimeout = 30 * time.Second // for its exit, after which it is killed
)

// Processes is an Agent whose tasks are real local processes. Each has its own process group and
// works in a sandbox directory of its own, with stdout and stderr files there. What a task leaves in its group, or what carries its
// MESOS_SANDBOX, is killed when its leader ends, before the terminal state is reported: its ports are free by then. What hides
// from both goes with the agent.
type Processes struct {
	cfg      Config
	reporter *reporter
	cmd      *exec.Cmd
	stderr   bytes.Buffer
	root     string
	exited   chan struct{} // closed when the supervisor is gone and its last event is handled

	sendMu sync.Mutex
	pipe   *os.File
	send   *json.Encoder
	outbox chan struct{} // one token: orders wait
	queue  []order

	mu     sync.Mutex
	tasks  map[string]*running
	probes map[uint64]chan string
	last   uint64
	closed bool // by Close, or by the supervisor's death

	closing  sync.Once
	closeErr error
}

// running is what the agent keeps about a task that has not ended.
type running struct {
	addr string
	pid  int // 0: not started yet
}

var errClosed = errors.New("the agent is closed")

// NewProcesses starts an agent of real processes. It runs this program's executable a second time, as the tasks' parent, which
// takes over before main; the agent needs nothing done for that.
func NewProcesses(cfg Config, report func(Status)) (*Processes, error) {
	if cfg.LogBytes <= 0 {
		cfg.LogBytes = 1 << 20
	}
	if cfg.KeepSandboxes == 0 {
		cfg.KeepSandboxes = 20
	}
	if cfg.Log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		cfg.Log = discard
	}
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the tasks' supervisor: %w", err)
	}
	eventsR, eventsW, err := os.Pipe()
	if err != nil {
		ordersR.Close()
		ordersW.Close()
		return nil, fmt.Errorf("starting the tasks' supervisor: %w", err)
	}
	p := &Processes{
		cfg: cfg, pipe: ordersW, send: json.NewEncoder(ordersW), outbox: make(chan struct{}, 1), exited: make(chan struct{}),
		tasks: make(map[string]*running), probes: make(map[uint64]chan string),
	}
	p.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{supervisorName}, Dir: "/",
		// A race detector would delay its exit by a second, and the agent's end with it.
		Env:        append(os.Environ(), supervisorVariable+"=1", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"),
		ExtraFiles: []*os.File{ordersR, eventsW}, Stderr: &p.stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = p.cmd.Start()
	ordersR.Close()
	eventsW.Close()
	if err != nil {
		ordersW.Close()
		eventsR.Close()
		return nil, fmt.Errorf("starting the tasks' supervisor: %w", err)
	}
	p.reporter = newReporter(report)
	ready := make(chan event, 1)
	go p.post()
	go p.listen(eventsR, ready)
	p.order(order{Do: doHello, Setup: &setup{
		Dir: cfg.Dir, Cleanup: cfg.Cleanup, LogBytes: cfg.LogBytes, Keep: cfg.KeepSandboxes,
	}})
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case e := <-ready:
		if e.Message == "" {
			p.root = e.Root
			return p, nil
		}
		err = errors.New(e.Message)
	case <-p.exited:
		err = fmt.Errorf("it ended at once: %s", bytes.TrimSpace(p.stderr.Bytes()))
	case <-timeout.C:
		err = fmt.Errorf("no word within %s", startTimeout)
	}
	return nil, errors.Join(fmt.Errorf("starting the tasks' supervisor: %w", err), p.Close())
}

// Dir returns the directory that holds the sandboxes.
func (p *Processes) Dir() string { return p.root }

// Launch implements Agent.
func (p *Processes) Launch(spec Spec) error {
	if spec.ID == "" {
		return errors.New("launching a task: it has no id")
	}
	if spec.Shell == "" && len(spec.Args) == 0 {
		return fmt.Errorf("launching %s: neither a command nor arguments", spec.ID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("launching %s: %w", spec.ID, errClosed)
	case p.tasks[spec.ID] != nil:
		return fmt.Errorf("launching %s: a task of this id runs", spec.ID)
	}
	if len(spec.Fetch) > 0 {
		p.cfg.Log.WithField("task", spec.ID).WithField("uris", spec.Fetch).Warn("what the app asks to fetch is not fetched")
	}
	p.tasks[spec.ID] = &running{addr: spec.Addr}
	p.reporter.put(spec.ID, Starting, "")
	p.order(order{Do: doLaunch, Task: spec.ID, Spec: &spec})
	return nil
}

// Kill implements Agent.
func (p *Processes) Kill(taskID string, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tasks[taskID] != nil && !p.closed {
		p.order(order{Do: doKill, Task: taskID, Grace: max(0, grace)})
	}
}

// Close implements Agent.
func (p *Processes) Close() error {
	p.closing.Do(func() { p.closeErr = p.close() })
	return p.closeErr
}

func (p *Processes) close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.reporter.mute()
	p.pipe.Close() // the supervisor's word to end
	var err error
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-p.exited:
	case <-timeout.C:
		err = fmt.Errorf("ending the tasks: the supervisor did not within %s", closeTimeout)
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	p.reporter.close()
	return err
}

// order queues an order and never waits: a caller may hold locks. The queue is bounded by the calls that led to it.
func (p *Processes) order(o order) {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	p.queue = append(p.queue, o)
	select {
	case p.outbox <- struct{}{}:
	default:
	}
}

// post writes orders to the pipe until the supervisor is gone. A pipe that breaks shows in listen.
func (p *Processes) post() {
	for {
		select {
		case <-p.exited:
			return
		case <-p.outbox:
		}
		p.sendMu.Lock()
		batch := p.queue
		p.queue = nil
		p.sendMu.Unlock()
		for _, o := range batch {
			if p.send.Encode(o) != nil {
				return
			}
		}
	}
}

// listen handles the supervisor's events until it ends, and cleans up after it when it did so unasked.
func (p *Processes) listen(r *os.File, ready chan<- event) {
	defer close(p.exited)
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var e event
		if dec.Decode(&e) != nil {
			break
		}
		if e.Is == isReady {
			ready <- e
			continue
		}
		p.handle(e)
	}
	r.Close()
	err := p.cmd.Wait()
	p.mu.Lock()
	expected := p.closed
	p.mu.Unlock()
	if err != nil || !expected {
		p.orphaned(err)
	}
}

func (p *Processes) handle(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Is {
	case isStarted:
		if t := p.tasks[e.Task]; t != nil {
			t.pid = e.PID
			p.reporter.put(e.Task, Running, "")
		}
	case isEnded:
		if p.tasks[e.Task] != nil {
			delete(p.tasks, e.Task)
			p.reporter.put(e.Task, e.State, e.Message)
		}
	case isProbed:
		if answer := p.probes[e.Probe]; answer != nil {
			answer <- e.Message
			delete(p.probes, e.Probe)
		}
	}
}

// orphaned does the supervisor's last work in its place: it was killed, and its tasks may live.
func (p *Processes) orphaned(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.cfg.Log.WithError(err).WithField("stderr", p.stderr.String()).Error("the tasks' supervisor ended, and all tasks with it")
	}
	p.closed = true
	for range 100 { // each round can find what the one before set free
		left := false
		for _, proc := range processTable() {
			if !proc.zombie && (p.leads(proc.group) || p.root != "" && inSandbox(proc.pid, p.root)) {
				left = true
				_ = unix.Kill(proc.pid, unix.SIGKILL)
			}
		}
		if !left {
			break
		}
		time.Sleep(killAgainAfter)
	}
	for id := range p.tasks {
		p.reporter.put(id, Failed, "Command terminated with its agent")
	}
	clear(p.tasks)
	for n, answer := range p.probes {
		answer <- errClosed.Error()
		delete(p.probes, n)
	}
	for _, path := range append([]string{p.root}, p.cfg.Cleanup...) {
		if path != "" {
			_ = os.RemoveAll(path)
		}
	}
}

// leads reports whether a process group is that of a task. The lock is held.
func (p *Processes) leads(group int) bool {
	for _, t := range p.tasks {
		if t.pid == group && group != 0 {
			return true
		}
	}
	return false
}

// Probe implements Agent.
func (p *Processes) Probe(ctx context.Context, taskID string, probe Probe) error {
	p.mu.Lock()
	t := p.tasks[taskID]
	if t == nil || p.closed {
		p.mu.Unlock()
		return fmt.Errorf("probing %s: the task does not run", taskID)
	}
	addr := t.addr
	p.mu.Unlock()
	if probe.Kind == ProbeCommand {
		return p.probeCommand(ctx, taskID, probe.Command)
	}
	return probeNetwork(ctx, addr, probe)
}

// probeCommand has the supervisor run a command beside the task, so that it cannot outlive the agent either.
func (p *Processes) probeCommand(ctx context.Context, taskID, command string) error {
	limit := commandLimit(ctx)
	answer := make(chan string, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return fmt.Errorf("probing %s: %w", taskID, errClosed)
	}
	p.last++
	n := p.last
	p.probes[n] = answer
	p.order(order{Do: doProbe, Task: taskID, Probe: n, Shell: command, Grace: limit})
	p.mu.Unlock()
	return verdict(ctx, answer, p.exited, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.probes, n)
		if !p.closed {
			p.order(order{Do: doCancel, Probe: n})
		}
	})
}
