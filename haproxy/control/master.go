package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

// ErrReloadFailed says that HAProxy refused the new configuration. The earlier worker goes on.
var ErrReloadFailed = errors.New("HAProxy could not load the new configuration")

// ErrReloadUnproven says that a reload was asked for and no new worker was seen in time.
var ErrReloadUnproven = errors.New("the reload is not proven")

// Master speaks to the master socket. Each exchange has a connection of its own, because a reload replaces the master's program.
type Master struct {
	path string

	mu    sync.Mutex
	looks map[int]*look // by the worker's pid
}

// NewMaster returns a client for the master socket at path.
func NewMaster(path string) *Master { return &Master{path: path} }

// do sends one command to the master, or with an "@!pid " prefix to one of its workers.
func (m *Master) do(ctx context.Context, command string) (string, error) {
	if err := validCommand(command); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	c, err := dialCLI(ctx, m.path, masterPrompt)
	if err != nil {
		return "", fmt.Errorf("connecting to HAProxy's master socket: %w", err)
	}
	defer c.close()
	answers, err := c.do(ctx, command)
	if err != nil {
		return "", fmt.Errorf("asking HAProxy's master: %w", err)
	}
	return answers[0], nil
}

// Proc asks for the processes.
func (m *Master) Proc(ctx context.Context) (Proc, error) {
	a, err := m.do(ctx, "show proc")
	if err != nil {
		return Proc{}, err
	}
	p, err := ParseProc(a)
	if err != nil {
		return Proc{}, fmt.Errorf("reading the answer to %q: %w", "show proc", err)
	}
	return p, nil
}

var success = regexp.MustCompile(`(?m)^Success=([01])$`)

// Reload asks the master to load its configuration file again, and waits until ctx ends for proof: from 2.7 on the master says
// so itself, before that a worker that was not there and that has lived through no reload, with no failure counted.
// It returns the processes after the reload. The error is ErrReloadFailed, ErrReloadUnproven, or that of the connection.
func (m *Master) Reload(ctx context.Context) (Proc, error) {
	before, err := m.Proc(ctx)
	if err != nil {
		return Proc{}, err
	}
	said, err := m.reload(ctx)
	for err == nil && strings.Contains(said, reloadsAlready) {
		select {
		case <-ctx.Done():
			return before, fmt.Errorf("%w: %s", ErrReloadUnproven, reloadsAlready)
		case <-time.After(10 * time.Millisecond):
		}
		said, err = m.reload(ctx)
	}
	if err != nil {
		return before, err
	}
	if s := success.FindStringSubmatch(said); s != nil && s[1] == "0" {
		return before, fmt.Errorf("%w: %s", ErrReloadFailed, cut(strings.TrimSpace(said), 1000))
	}
	known := map[int]bool{}
	for _, w := range before.Workers {
		known[w.PID] = true
	}
	for {
		p, err := m.Proc(ctx)
		switch {
		case err != nil: // the new master may not answer yet
		case p.Failed > 0 && p.Reloads > before.Reloads:
			return p, fmt.Errorf("%w: the master counts %d in a row", ErrReloadFailed, p.Failed)
		case p.Reloads > before.Reloads && len(p.Workers) > 0 && !known[p.Workers[0].PID]:
			return p, nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("no new worker")
			}
			return before, fmt.Errorf("%w: %w", ErrReloadUnproven, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// reloadsAlready is what the master says from 3.1 on while a worker begins, its first one included. It reloads nothing then, and does not
// close the connection.
const reloadsAlready = "Another reload is still in progress"

// reload sends the command and returns what the master says until it closes the connection, which before 2.7 is nothing.
func (m *Master) reload(ctx context.Context) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", m.path)
	if err != nil {
		return "", fmt.Errorf("connecting to HAProxy's master socket: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, "reload\n"); err != nil {
		return "", fmt.Errorf("asking HAProxy's master to reload: %w", err)
	}
	// The master closes the connection by replacing its program; a reset says no more than that.
	var said []byte
	buf := make([]byte, 4<<10)
	for len(said) < 64<<10 && !bytes.Contains(said, []byte(reloadsAlready)) {
		n, err := conn.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil && ctx.Err() != nil {
			return string(said), fmt.Errorf("%w: the master does not answer: %w", ErrReloadUnproven, ctx.Err())
		}
		if err != nil {
			break
		}
	}
	return string(said), nil
}

func (p Proc) lists(pid int) bool {
	for _, w := range append(p.Workers[:len(p.Workers):len(p.Workers)], p.Old...) {
		if w.PID == pid {
			return true
		}
	}
	return false
}
