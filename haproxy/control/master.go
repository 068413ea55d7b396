package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"
)

// ErrReloadFailed says that HAProxy refused the new configuration. The earlier worker goes on.
var ErrReloadFailed = errors.New("HAProxy could not load the new configuration")

// ErrReloadUnproven says that a reload was asked for and no new worker was seen in time.
var ErrReloadUnproven = errors.New("the reload is not proven")

// Master speaks to the master socket. Each exchange has a connection of its own, because a reload replaces the master's program.
type Master struct{ path string }

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
	b, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil && ctx.Err() != nil {
		return string(b), fmt.Errorf("%w: the master does not answer: %w", ErrReloadUnproven, ctx.Err())
	}
	return string(b), nil
}

// WorkerStats are the counters of one live worker.
type WorkerStats struct {
	PID       int
	Old       bool      // of an earlier configuration
	Started   time.Time // zero if this version does not say
	Frontends []Stat
	InFlight  uint64 // connections that backends have now
}

// WorkerStats returns the frontends' counters of every live worker, the current ones first. A worker that ends meanwhile is left
// out.
func (m *Master) WorkerStats(ctx context.Context) ([]WorkerStats, error) {
	p, err := m.Proc(ctx)
	if err != nil {
		return nil, err
	}
	var out []WorkerStats
	// question asks one worker; false says that it has ended between two questions.
	question := func(pid int, command string) (string, bool, error) {
		a, err := m.do(ctx, fmt.Sprintf("@!%d %s", pid, command))
		if err == nil && a != "" && !strings.HasPrefix(a, "Can't find the target PID") {
			return a, true, nil
		}
		if ctx.Err() != nil {
			return "", false, ctx.Err()
		}
		if now, perr := m.Proc(ctx); perr != nil || now.lists(pid) {
			return "", false, fmt.Errorf("asking worker %d: %w", pid, errors.Join(err, perr))
		}
		return "", false, nil
	}
	ask := func(pid int, old bool) error {
		text, alive, err := question(pid, "show info")
		if err != nil || !alive {
			return err
		}
		info, err := ParseInfo(text)
		if err != nil {
			return fmt.Errorf("reading what worker %d is: %w", pid, err)
		}
		if text, alive, err = question(pid, "show stat -1 3 -1"); err != nil || !alive {
			return err
		}
		stats, err := ParseStat(text)
		if err != nil {
			return fmt.Errorf("reading the counters of worker %d: %w", pid, err)
		}
		w := WorkerStats{PID: pid, Old: old}
		if info.StartTimeSec > 0 {
			w.Started = time.Unix(info.StartTimeSec, 0)
		}
		for _, s := range stats {
			if s.Server == "FRONTEND" {
				w.Frontends = append(w.Frontends, s)
			} else {
				w.InFlight += s.Current
			}
		}
		out = append(out, w)
		return nil
	}
	for _, w := range p.Workers {
		if err := ask(w.PID, false); err != nil {
			return out, err
		}
	}
	for _, w := range p.Old {
		if err := ask(w.PID, true); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (p Proc) lists(pid int) bool {
	for _, w := range append(p.Workers[:len(p.Workers):len(p.Workers)], p.Old...) {
		if w.PID == pid {
			return true
		}
	}
	return false
}
