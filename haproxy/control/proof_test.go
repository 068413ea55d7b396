package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// statsSocket answers "show info" as the worker does whose pid the function returns.
func (r *rig) statsSocket(path string, pid func() int) {
	r.t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					answer := ""
					if in.Text() == "show info" {
						answer = fmt.Sprintf("Version: 2.6.12\nPid: %d\nStart_time_sec: 1000\n", pid())
					}
					fmt.Fprintf(c, "%s\n> ", answer)
				}
			}()
		}
	}()
}

// A reload is proven by the new worker's own answer: as long as the old one answers at the socket, it is not.
func TestProofIsTheNewWorkersAnswer(t *testing.T) {
	const old, fresh = 7, 8
	r := newRig(t)
	s := r.settings()
	s.StatsSocket = filepath.Join(r.dir, "handed.sock")
	var asked atomic.Int32
	handedOver := int32(3)
	r.statsSocket(s.StatsSocket, func() int {
		if asked.Add(1) <= handedOver {
			return old
		}
		return fresh
	})
	a := New(s)
	w, err := a.meet(t.Context(), fresh)
	if err != nil || w.PID != fresh {
		t.Errorf("the worker that is met is %+v, %v; want pid %d", w, err, fresh)
	}
	if n := asked.Load(); n != handedOver+1 {
		t.Errorf("it was asked %d times, want %d", n, handedOver+1)
	}

	// Whoever never comes is no proof.
	s.StatsSocket = filepath.Join(r.dir, "kept.sock")
	r.statsSocket(s.StatsSocket, func() int { return old })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if w, err := New(s).meet(ctx, fresh); !errors.Is(err, ErrReloadUnproven) {
		t.Errorf("while the old worker answers: %+v, error %v; want ErrReloadUnproven", w, err)
	}
}
