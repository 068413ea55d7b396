package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signalbox/haproxy"
)

// statsSocket is one at which a function answers.
func (r *rig) statsSocket(path string, answer func(command string) string) {
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
					fmt.Fprintf(c, "%s\n> ", answer(in.Text()))
				}
			}()
		}
	}()
}

// infoOf answers "show info" as a worker does.
func infoOf(pid int) string {
	return fmt.Sprintf("Version: 2.6.12\nPid: %d\nStart_time_sec: 1000\n", pid)
}

// A reload is proven by the new worker's own answer: as long as the old one answers at the socket, it is not.
func TestProofIsTheNewWorkersAnswer(t *testing.T) {
	const old, fresh = 7, 8
	r := newRig(t)
	s := r.settings()
	s.StatsSocket = filepath.Join(r.dir, "handed.sock")
	var asked atomic.Int32
	handedOver := int32(3)
	r.statsSocket(s.StatsSocket, func(command string) string {
		switch {
		case command != "show info":
			return ""
		case asked.Add(1) <= handedOver:
			return infoOf(old)
		}
		return infoOf(fresh)
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
	r.statsSocket(s.StatsSocket, func(command string) string {
		if command == "show info" {
			return infoOf(old)
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if w, err := New(s).meet(ctx, fresh); !errors.Is(err, ErrReloadUnproven) {
		t.Errorf("while the old worker answers: %+v, error %v; want ErrReloadUnproven", w, err)
	}
}

// A worker that was just replaced takes no orders. That is no answer of the new one's, and no reason for another reload.
func TestAWorkerThatLeavesRefusesNothing(t *testing.T) {
	r := newRig(t)
	s := r.settings()
	s.StatsSocket = filepath.Join(r.dir, "leaving.sock")
	r.statsSocket(s.StatsSocket, func(command string) string {
		switch {
		case command == "show info":
			return infoOf(7)
		case strings.HasPrefix(command, "set server "):
			return "Proxy is disabled.\n"
		}
		return ""
	})
	a := New(s)
	defer a.rt.Close()
	a.running = r.config(app{name: "shop"})
	a.loaded, a.busy = a.running, reloading
	plan := haproxy.Plan{Commands: []haproxy.Command{{Text: "set server b_shop/s1 weight 7"}}}
	if a.send(t.Context(), plan, time.Now()) {
		t.Error("it was taken for done")
	}
	if len(a.forced) > 0 || a.running == nil {
		t.Errorf("it forces %v; running state known: %t", a.forced, a.running != nil)
	}
}
