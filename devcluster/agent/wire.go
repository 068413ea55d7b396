package agent

import "time"

// order is what the agent tells its supervisor: one JSON object a line, in the order of Do's values.
type order struct {
	Do    action        `json:"do"`
	Task  string        `json:"task,omitempty"`
	Spec  *Spec         `json:"spec,omitempty"`  // launch
	Grace time.Duration `json:"grace,omitempty"` // kill; probe: its time limit
	Probe uint64        `json:"probe,omitempty"` // probe and cancel: a number of the agent's choice
	Shell string        `json:"shell,omitempty"` // probe
	Setup *setup        `json:"setup,omitempty"` // hello
}

type action string

const (
	doHello  action = "hello" // first, once
	doLaunch action = "launch"
	doKill   action = "kill"
	doProbe  action = "probe"
	doCancel action = "cancel"
)

// setup is what a supervisor needs to know before its first task.
type setup struct {
	Dir      string   `json:"dir"`
	Cleanup  []string `json:"cleanup"`
	LogBytes int64    `json:"logBytes"`
	Keep     int      `json:"keep"`
}

// event is what the supervisor answers: one JSON object a line.
type event struct {
	Is      happening `json:"is"`
	Task    string    `json:"task,omitempty"`
	PID     int       `json:"pid,omitempty"`
	State   State     `json:"state,omitempty"`   // ended
	Message string    `json:"message,omitempty"` // ended, probed: "" means alive; ready: an error, or ""
	Probe   uint64    `json:"probe,omitempty"`
	Root    string    `json:"root,omitempty"` // ready: the directory of the sandboxes
}

type happening string

const (
	isReady   happening = "ready"
	isStarted happening = "started"
	isEnded   happening = "ended"
	isProbed  happening = "probed"
)
