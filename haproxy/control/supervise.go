package control

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Supervisor keeps one HAProxy running, master and workers, in a process group of their own. A living master that it finds at the
// master socket is adopted instead of starting a second one.
type Supervisor struct {
	Binary       string // "haproxy" if empty
	Dir          string // holds haproxy.cfg
	MasterSocket string
	// DieWithParent ends HAProxy when this process dies, by whatever signal. Without it HAProxy goes on serving, and the next
	// controller adopts it.
	DieWithParent bool
	// Grace is how long connections may go on when Run ends; then HAProxy is terminated, and killed 5 s later.
	Grace time.Duration
	Env   []string // of HAProxy; nothing is inherited
	// Free says why HAProxy can't be started now, and is asked before each start; nil: it always can.
	Free func() error
	Log  logrus.FieldLogger

	once    sync.Once
	allowed chan struct{}
	starts  atomic.Uint64
	deaths  atomic.Uint64
	adopted atomic.Uint64
}

func (s *Supervisor) init() {
	s.once.Do(func() {
		s.allowed = make(chan struct{})
		s.Log = loggerOr(s.Log)
	})
}

// Allow says that the files are in place: HAProxy may be started. Later calls change nothing.
func (s *Supervisor) Allow() {
	s.init()
	select {
	case <-s.allowed:
	default:
		close(s.allowed)
	}
}

// The waits between a death and the next start.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 10 * time.Second
)

// Run keeps HAProxy alive from the first Allow on until ctx ends, then ends HAProxy and returns when no process of it is left.
func (s *Supervisor) Run(ctx context.Context) error {
	s.init()
	select {
	case <-ctx.Done():
		return nil
	case <-s.allowed:
	}
	backoff := backoffMin
	for ctx.Err() == nil {
		began := time.Now()
		err := s.live(ctx)
		if ctx.Err() != nil {
			return err
		}
		s.deaths.Add(1)
		if time.Since(began) > 10*time.Second {
			backoff = backoffMin
		}
		s.Log.WithError(err).WithField("again_in", backoff).Error("HAProxy ended")
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffMax)
	}
	return nil
}

// live adopts or starts a HAProxy and returns when it is dead, which it is soon after ctx ends.
func (s *Supervisor) live(ctx context.Context) error {
	if p, err := NewMaster(s.MasterSocket).Proc(ctx); err == nil {
		fd, err := unix.PidfdOpen(p.Master, 0)
		if err != nil {
			return fmt.Errorf("adopting HAProxy: %w", err)
		}
		defer unix.Close(fd)
		s.adopted.Add(1)
		s.Log.WithField("pid", p.Master).Info("HAProxy was running already; it is adopted")
		return s.watch(ctx, p.Master, fd, nil)
	}
	if s.Free != nil {
		if err := s.Free(); err != nil {
			return fmt.Errorf("starting HAProxy: %w", err)
		}
	}
	// The signal of DieWithParent comes when the thread ends that started the child: it has to live as long.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- s.start(ctx)
	}()
	return <-done
}

func (s *Supervisor) start(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting HAProxy: %w", err)
	}
	cmd := exec.Command(cmp.Or(s.Binary, "haproxy"), "-W", "-S", s.MasterSocket+",mode,600",
		"-f", filepath.Join(s.Dir, configName))
	cmd.Args[0] = cmd.Path // the master runs itself again by this name, without a PATH
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Env = append([]string{}, s.Env...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.DieWithParent {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	s.starts.Add(1) // before the start: a count that did not grow means that nothing was started since
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return fmt.Errorf("starting HAProxy: %w", err)
	}
	var copied sync.WaitGroup
	copied.Go(func() { s.forward(r) })
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	err = s.watch(ctx, cmd.Process.Pid, -1, exited)
	// An old worker may hold the pipe's other end no longer than this.
	_ = r.SetReadDeadline(time.Now().Add(time.Second))
	copied.Wait()
	_ = r.Close()
	return err
}

// watch waits for the end of the master pid, through exited for a child and through a pidfd otherwise, and ends it when ctx does.
// On return its process group is empty.
func (s *Supervisor) watch(ctx context.Context, pid, pidfd int, exited <-chan error) error {
	if exited == nil {
		ch := make(chan error, 1)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
				if n, err := unix.Poll(fds, 200); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
					ch <- errors.New("the adopted HAProxy ended")
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		exited = ch
	}
	var err error
	select {
	case err = <-exited:
	case <-ctx.Done():
		err = s.end(pid, exited)
	}
	if g, gerr := syscall.Getpgid(pid); gerr != nil || g == pid { // dead, or alive and the leader of its group
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	return err
}

// end ends HAProxy: softly for Grace, then at once, then by force. The master passes each signal on to its workers.
func (s *Supervisor) end(pid int, exited <-chan error) error {
	for _, step := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGUSR1, s.Grace}, {syscall.SIGTERM, 5 * time.Second}, {syscall.SIGKILL, 5 * time.Second}} {
		if step.wait == 0 {
			continue
		}
		_ = syscall.Kill(pid, step.sig)
		select {
		case <-exited: //nolint:errcheck // it was told to end; how it did says nothing
			return nil
		case <-time.After(step.wait):
		}
	}
	return fmt.Errorf("HAProxy (pid %d) does not end", pid)
}

// forward writes HAProxy's own lines to the log, by their level.
func (s *Supervisor) forward(r io.Reader) {
	in := bufio.NewReaderSize(r, 16<<10)
	for {
		b, err := in.ReadSlice('\n') // a longer line comes in pieces
		if line := strings.TrimSpace(string(b)); line != "" {
			s.Log.WithField("from", "haproxy").Log(severity(line), line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// severity returns the level of a line that HAProxy wrote. What follows from our own orders is for debugging, and so is the end of
// a worker by SIGTERM; a backend without a server may be an app that is just starting. A thread of 2.6 that has once added a server
// begins every later line with "CLI : ".
func severity(line string) logrus.Level {
	line = strings.Replace(line, ") : CLI : ", ") : ", 1)
	switch {
	case strings.Contains(line, "has no server available"):
		return logrus.WarnLevel
	case strings.Contains(line, "exited with code 143"), strings.Contains(line, "exited with code 0"):
		return logrus.DebugLevel
	case strings.HasPrefix(line, "[ALERT]"), strings.HasPrefix(line, "[EMERG]"):
		return logrus.ErrorLevel
	case strings.Contains(line, ") : Server ") && strings.Contains(line, " is UP, reason: "):
		return logrus.InfoLevel
	case strings.Contains(line, ") : Server ") && strings.Contains(line, "reason: "):
		return logrus.WarnLevel // the verdict of a check
	case strings.HasPrefix(line, "[WARNING]") && !strings.Contains(line, ") : Server ") && !strings.Contains(line, ") : Proxy ") && !strings.Contains(line, "Exiting"):
		return logrus.WarnLevel
	}
	return logrus.DebugLevel
}

func loggerOr(l logrus.FieldLogger) logrus.FieldLogger {
	if l != nil {
		return l
	}
	discard := logrus.New()
	discard.SetOutput(io.Discard)
	return discard
}
