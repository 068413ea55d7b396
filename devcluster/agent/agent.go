// Package agent runs a dev cluster's tasks on one simulated Mesos agent: as real local processes, or as virtual ones that a
// single process answers for. It probes them as Mesos and Marathon would, and leaves nothing behind.
package agent

import (
	"context"
	"time"
)

// Agent runs tasks and reports what becomes of them. Its methods may be called at the same time.
type Agent interface {
	// Launch starts a task. Every later word about it comes through the report function that the agent was made with: Starting,
	// Running, then exactly one terminal state. An error means that the task was never started and is reported no further.
	Launch(spec Spec) error
	// Kill asks a task to end: SIGTERM to its process group, SIGKILL after grace. Unknown ids are ignored.
	Kill(taskID string, grace time.Duration)
	// Probe runs one check against a task, once, within ctx. A nil error means alive.
	Probe(ctx context.Context, taskID string, p Probe) error
	// Close kills every task at once, waits until all are gone, and removes their sandboxes.
	Close() error
}

// Spec is one task to run.
type Spec struct {
	ID      string   // Mesos task id
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
