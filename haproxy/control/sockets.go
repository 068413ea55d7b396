package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"signalbox/haproxy"
)

// ReasonSocket is the reason for a reload because somebody has removed one of HAProxy's sockets, whose process lives.
const ReasonSocket haproxy.Reason = "a socket of HAProxy's is gone"

// isGone reports whether nothing listens at a socket, rather than something that does not answer.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// reopenMaster brings the master socket back if a worker lives whose master has lost it: a signal makes the master load what is published
// again, and bind its socket. The error is masterErr where there is no such worker.
func (a *Applier) reopenMaster(ctx context.Context, masterErr error) error {
	rt := NewRuntime(a.cfg.StatsSocket)
	info, err := rt.Connect(ctx)
	rt.Close()
	pid := info.PID
	if err != nil {
		pid = a.worker.PID // that socket may be gone as well
	}
	master, err := a.masterOf(pid)
	if err != nil {
		return masterErr
	}
	a.log.WithField("pid", master).Warn("HAProxy's master socket is gone; a signal makes the master bind it again")
	if err := syscall.Kill(master, syscall.SIGUSR2); err != nil {
		return fmt.Errorf("making HAProxy's master bind its socket again: %w", err)
	}
	for {
		p, err := a.master.Proc(ctx)
		if err == nil && p.Master == master {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: its socket is gone, and it does not bind it again", ErrMasterDeaf)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// masterOf returns the parent of a worker, which has to be a program that was told to listen at the master socket.
func (a *Applier) masterOf(worker int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", worker))
	if err != nil {
		return 0, fmt.Errorf("looking for the master of worker %d: %w", worker, err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name before it is HAProxy's own
	var state string
	var parent int
	if _, err := fmt.Sscan(string(rest), &state, &parent); err != nil {
		return 0, fmt.Errorf("looking for the master of worker %d: %w", worker, err)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", parent))
	if err != nil || !bytes.Contains(line, []byte("\x00-S\x00"+a.cfg.MasterSocket)) {
		return 0, fmt.Errorf("the parent of worker %d is no master of %s", worker, a.cfg.MasterSocket)
	}
	return parent, nil
}

// reopenStats brings the runtime socket back if it is gone while the master lives. A reload alone hands the old socket over, which has no
// name any more; one to a configuration with another name for it comes between.
func (a *Applier) reopenStats(ctx context.Context, files []File) error {
	if _, err := os.Stat(a.cfg.StatsSocket); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	i := slices.IndexFunc(files, func(f File) bool { return f.Name == configName })
	if i < 0 {
		return nil
	}
	a.log.Warn("HAProxy's runtime socket is gone; two reloads bind it again")
	between, aside := slices.Clone(files), a.cfg.StatsSocket+".aside"
	between[i].Data = renamed(files[i].Data, a.cfg.StatsSocket, aside)
	if _, err := a.pub.Publish(between); err != nil {
		return err
	}
	_, err := a.master.Reload(ctx)
	_ = os.Remove(aside)
	return err
}

// renamed returns a file with another path in it, and the trailer that belongs to it.
func renamed(data []byte, from, to string) []byte {
	body, _, sealed := cutTrailer(data)
	if !sealed {
		body = data
	}
	out := bytes.ReplaceAll(body, []byte(from+" "), []byte(to+" "))
	if sealed {
		out = fmt.Appendf(out, "%s%x\n", trailer, sha256.Sum256(out))
	}
	return out
}
