// Package process runs real servers for tests, to be killed, made mute and started again.
package process

import (
	"bytes"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// Process is a server that runs, or not. What it prints is shown where the test fails.
type Process struct {
	tb     testing.TB
	name   string
	cmd    *exec.Cmd // nil: it does not run
	mu     sync.Mutex
	output bytes.Buffer
}

// New returns a server that does not run yet.
func New(tb testing.TB, name string) *Process { return &Process{tb: tb, name: name} }

// Run starts the server, until the end of the test.
func (p *Process) Run(program string, args ...string) {
	p.tb.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.tb.Fatalf("starting %s (test/install test installs what comes from packages): %v", p.name, err)
	}
	p.cmd = cmd
	p.tb.Cleanup(func() {
		if p.cmd == cmd {
			p.Kill()
		}
		if p.tb.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			b := p.output.Bytes()
			p.tb.Logf("%s printed:\n%s", p.name, b[max(0, len(b)-3000):])
		}
	})
}

// Runs reports whether the server was started, and not killed since.
func (p *Process) Runs() bool { return p.cmd != nil }

// Write takes what the server prints.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

// Kill ends the server at once, as a crash would.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// Signal sends the server a signal: SIGSTOP makes it mute, SIGCONT ends that.
func (p *Process) Signal(sig syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Fatal(err)
	}
}
