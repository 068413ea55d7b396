package loadgen

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// precisely is below what the runtime's own timers can be relied on: an idle program wakes up to a millisecond late by them,
// which would count as latency of whoever is asked.
const precisely = 2 * time.Millisecond

// alarm waits to within some microseconds: the last part of a wait is left to a timer of the kernel.
type alarm struct {
	timer *time.Timer
	fine  *os.File // nil: the runtime's timer does all
}

func newAlarm(fine bool) (*alarm, error) {
	a := &alarm{timer: time.NewTimer(0)}
	<-a.timer.C
	if !fine {
		return a, nil
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	a.fine = os.NewFile(uintptr(fd), "timer")
	return a, nil
}

func (a *alarm) close() {
	a.timer.Stop()
	if a.fine != nil {
		a.fine.Close()
	}
}

// wait returns when due has come, with false when ctx was done before.
func (a *alarm) wait(ctx context.Context, due time.Time) bool {
	left := time.Until(due)
	coarse := left
	if a.fine != nil {
		coarse -= precisely
	}
	if coarse > 0 {
		a.timer.Reset(coarse)
		select {
		case <-ctx.Done():
			return false
		case <-a.timer.C:
		}
		left = time.Until(due)
	}
	if left > 0 && a.fine != nil {
		a.sleep(left)
	}
	return ctx.Err() == nil
}

// sleep waits for the kernel's timer, at most precisely long. A timer that does not work lets the request go early by so much.
func (a *alarm) sleep(d time.Duration) {
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	raw, err := a.fine.SyscallConn()
	if err != nil {
		return
	}
	if raw.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &once, nil) }) != nil || err != nil {
		return
	}
	var expirations [8]byte
	_, _ = a.fine.Read(expirations[:]) // parks this goroutine until the timer fires
}
