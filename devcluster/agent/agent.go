// Package agent runs a dev cluster's tasks on one simulated Mesos agent: as real local processes, or as virtual ones that a
// single process answers for. It probes them as Mesos and Marathon would, and leaves nothing behind.
package agent

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"
)

// Agent runs tasks and reports what becomes of them. Its methods may be called at the same time.
//
// The report function that an agent is made with is called from one goroutine of the agent's own, one status after the other,
// and never from within Launch or Kill; neither of these waits for it. So it may take locks that are held during both.
type Agent interface {
	// Launch starts a task and does not wait for it. Every later word about it comes through the report function: Starting,
	// Running, then exactly one terminal state. A program that cannot be executed is reported as Failed. An error means that
	// the task was never started and is reported no further.
	Launch(spec Spec) error
	// Kill asks a task to end: SIGTERM to its process group, SIGKILL after grace. A second Kill can only shorten the grace.
	// Unknown ids are ignored.
	Kill(taskID string, grace time.Duration)
	// Probe runs one check against a task, once, within ctx. A nil error means alive, ErrNoVerdict neither alive nor dead, any
	// other error dead, and says why.
	Probe(ctx context.Context, taskID string, p Probe) error
	// Close kills every task at once, waits until all are gone, and removes their sandboxes. It reports nothing: the last call
	// of the report function ends before Close returns, so a lock that the function takes must not be held here.
	Close() error
}

// Placer is an Agent that decides itself where a task is to be found. Who launches on it asks for a place first, and puts the
// answer into the task's environment and into Spec.Addr and Spec.Ports.
type Placer interface {
	// Place reserves an address of 127.0.0.0/8 that no other task of this agent has, with so many ports of it. The place is
	// held until the task's terminal state, or until Kill when it was never launched. The same id gets the same place again.
	Place(taskID string, ports int) (addr string, hostPorts []int, err error)
}

// Config is what an agent needs. The zero value works.
type Config struct {
	// Dir is where the agent makes a directory of its own, which holds one sandbox for each task; "" is os.TempDir.
	Dir string
	// Cleanup names files and directories that go when the agent goes, however its process ends.
	Cleanup []string
	// LogBytes bounds each of a task's stdout and stderr files. A file that would grow past it becomes stdout.1 (stderr.1), in
	// place of the one before, so that a sandbox holds at most four times as much. 0 means 1 MiB.
	LogBytes int64
	// KeepSandboxes is how many sandboxes of ended tasks stay for people to look at, the youngest; 0 means 20, less than 0 none.
	KeepSandboxes int
	// Linger is for how long a virtual task still answers after Kill, at most the grace.
	Linger time.Duration
	// OwnListeners lets every virtual task listen for itself, one file descriptor for each port.
	OwnListeners bool
	// Log takes what no status says; nil discards it.
	Log logrus.FieldLogger
}

// ErrNoVerdict is the answer of a probe that says neither alive nor dead.
var ErrNoVerdict = errors.New("no verdict: informational answer")

// Spec is one task to run.
type Spec struct {
	ID      string   // Mesos task id
	App     string   // the app's id, which a virtual task names in its answers
	Version string   // the app's, for who takes the task over
	Shell   string   // run by /bin/sh -c; or
	Args    []string // run without a shell
	Env     []string // whole environment, KEY=value; the agent adds MESOS_SANDBOX
	Addr    string   // the loopback address of the agent that the task is on
	Ports   []int    // allocated host ports, in order
	User    string   // "" keeps the agent's own
	Fetch   []string // not fetched; listed so that an agent can say so
	Virtual bool
}

// State is a task's state in Mesos' words.
type State string

// The states that an agent reports.
const (
	Starting State = "TASK_STARTING"
	Running  State = "TASK_RUNNING"
	Finished State = "TASK_FINISHED" // exit code 0
	Failed   State = "TASK_FAILED"   // any other exit
	Killed   State = "TASK_KILLED"   // ended after Kill
)

// Status is one word about one task.
type Status struct {
	TaskID  string
	State   State
	Message string // "Command exited with status 1", as Mesos words it
	At      time.Time
}

// Probe is one health or readiness check to run.
type Probe struct {
	Kind    ProbeKind
	Port    int    // host port
	Path    string // HTTP and HTTPS
	Command string // Command: run by /bin/sh -c in the task's sandbox, with its environment
	// IgnoreHTTP1xx makes 100 to 199 neither alive nor dead.
	IgnoreHTTP1xx bool
}

// ProbeKind is how a probe asks.
type ProbeKind string

// The kinds of probes.
const (
	ProbeHTTP    ProbeKind = "HTTP"
	ProbeHTTPS   ProbeKind = "HTTPS" // certificates are not verified, as in Marathon
	ProbeTCP     ProbeKind = "TCP"
	ProbeCommand ProbeKind = "COMMAND"
)
