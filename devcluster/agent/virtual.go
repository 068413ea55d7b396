package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/websocket"
	"golang.org/x/sys/unix"
)

// Virtual is an Agent that answers for all its tasks itself. Every task has an address of 127.0.0.0/8 of its own, from 127.1.0.1
// up, and its ports are the same few for all: the server listens on all loopback addresses and tells tasks apart by the address
// that was asked. An address is not used again before all others were.
//
// It answers every HTTP request with 200, a JSON body {"task":…,"app":…,"addr":…} and the headers X-Task and X-App, and with 503 at an
// address without a live task. A task that was placed and not launched yet is not alive. What asks for a web socket gets one that
// echoes every message; a task that is killed waits for the end of those it has, at most for its grace.
//
// With Config.OwnListeners each task listens for itself, on ports of its own, as a process would: where it has ended, connections
// are refused.
type Virtual struct {
	cfg      Config
	reporter *reporter
	server   *http.Server
	serving  sync.WaitGroup
	keeper   *Processes // cleans up however this process ends; nil: nothing is to be cleaned up

	mu     sync.RWMutex
	ports  []int // one listener each
	tasks  map[string]*virtualTask
	byAddr map[uint32]*virtualTask
	next   uint32 // where the search for a free address goes on: the address's last three bytes
	closed bool
	ending context.Context // done when nothing is waited for any more
	hurry  context.CancelFunc
}

type virtualTask struct {
	id, app string
	offset  uint32 // the address's last three bytes
	state   virtualState
	linger  *time.Timer // to the next state
	until   time.Time   // the end of its grace, once killed
	own     *ownServer  // nil: it is served together with all others
	sockets map[*websocket.Conn]struct{}
}

type virtualState uint8

const (
	placed virtualState = iota
	alive
	lingering // killed, and still answering
	closing   // killed, and answering no more; web sockets go on
)

const (
	firstOffset = 1<<16 + 1 // 127.1.0.1: 127.0.x.x is left to real listeners
	lastOffset  = 255<<16 - 1
	maxPorts    = 64 // of one task
)

// NewVirtual starts an agent of virtual tasks.
func NewVirtual(cfg Config, report func(Status)) (*Virtual, error) {
	if cfg.Log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		cfg.Log = discard
	}
	v := &Virtual{cfg: cfg, tasks: make(map[string]*virtualTask), byAddr: make(map[uint32]*virtualTask), next: firstOffset}
	v.ending, v.hurry = context.WithCancel(context.Background())
	v.server = &http.Server{
		Handler:           http.HandlerFunc(v.answer),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	if len(cfg.Cleanup) > 0 {
		keeper, err := NewProcesses(Config{Dir: cfg.Dir, Cleanup: cfg.Cleanup, Log: cfg.Log}, func(Status) {})
		if err != nil {
			return nil, err
		}
		v.keeper = keeper
	}
	v.reporter = newReporter(report)
	if !cfg.OwnListeners {
		if err := v.listen(1); err != nil {
			return nil, errors.Join(err, v.Close())
		}
	}
	return v, nil
}

// Place implements Placer.
func (v *Virtual) Place(taskID string, ports int) (string, []int, error) {
	if ports < 0 || ports > maxPorts {
		return "", nil, fmt.Errorf("placing %s: %d ports; a virtual task has at most %d", taskID, ports, maxPorts)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return "", nil, fmt.Errorf("placing %s: %w", taskID, errClosed)
	}
	if !v.cfg.OwnListeners {
		if err := v.listen(ports); err != nil {
			return "", nil, fmt.Errorf("placing %s: %w", taskID, err)
		}
	}
	t := v.tasks[taskID]
	if t == nil {
		t = &virtualTask{id: taskID}
		if !v.assign(t) {
			return "", nil, fmt.Errorf("placing %s: no address is free", taskID)
		}
		if v.cfg.OwnListeners {
			var err error
			if t.own, err = v.listenFor(t, ports); err != nil {
				v.forget(t)
				return "", nil, fmt.Errorf("placing %s: %w", taskID, err)
			}
		}
	}
	if t.own != nil {
		return address(t.offset).String(), t.own.ports(), nil
	}
	return address(t.offset).String(), append([]int(nil), v.ports[:ports]...), nil
}

// assign gives a task the next free address. The lock is held.
func (v *Virtual) assign(t *virtualTask) bool {
	for range lastOffset - firstOffset + 1 {
		offset := v.next
		if v.next++; v.next > lastOffset {
			v.next = firstOffset
		}
		if last := offset & 0xff; last == 0 || last == 0xff || v.byAddr[offset] != nil {
			continue
		}
		t.offset = offset
		v.byAddr[offset], v.tasks[t.id] = t, t
		return true
	}
	return false
}

// Launch implements Agent. A task that no Place preceded gets an address all the same, which Spec.Addr then does not name.
func (v *Virtual) Launch(spec Spec) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return fmt.Errorf("launching %s: %w", spec.ID, errClosed)
	}
	t := v.tasks[spec.ID]
	if t == nil {
		t = &virtualTask{id: spec.ID}
		if !v.assign(t) {
			return fmt.Errorf("launching %s: no address is free", spec.ID)
		}
	}
	if t.state != placed {
		return fmt.Errorf("launching %s: a task of this id runs", spec.ID)
	}
	t.app, t.state = spec.App, alive
	if t.own != nil {
		v.serve(t.own, spec.App)
	}
	v.reporter.put(spec.ID, Starting, "")
	v.reporter.put(spec.ID, Running, "")
	return nil
}

// Kill implements Agent. The task answers on for Config.Linger, and then waits for its web sockets to end, for grace in all at most.
func (v *Virtual) Kill(taskID string, grace time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tasks[taskID]
	if t == nil || v.closed {
		return
	}
	switch {
	case t.state == placed:
		v.forget(t)
	case grace <= 0:
		v.end(t)
	case t.state == alive:
		t.until = time.Now().Add(grace)
		if t.own != nil {
			t.own.leaving.Store(true)
		}
		v.after(t, lingering, min(v.cfg.Linger, grace), v.close)
	}
}

// after moves a task to a state, and on from there after d, at once if that is nothing. The lock is held.
func (v *Virtual) after(t *virtualTask, state virtualState, d time.Duration, next func(*virtualTask)) {
	t.state = state
	if d <= 0 {
		next(t)
		return
	}
	t.linger = time.AfterFunc(d, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.tasks[t.id] == t && t.state == state && !v.closed {
			next(t)
		}
	})
}

// close lets a task answer no more, and end with its last web socket. The lock is held.
func (v *Virtual) close(t *virtualTask) {
	if t.own != nil {
		v.retire(t.own, t.until) // what has reached it is answered all the same
	}
	left := time.Until(t.until)
	if len(t.sockets) == 0 {
		left = 0
	}
	v.after(t, closing, left, v.end)
}

// end reports a task as killed and frees its place. The lock is held.
func (v *Virtual) end(t *virtualTask) {
	v.forget(t)
	v.reporter.put(t.id, Killed, "Command terminated with signal Terminated")
}

func (v *Virtual) forget(t *virtualTask) {
	if t.linger != nil {
		t.linger.Stop()
	}
	delete(v.tasks, t.id)
	delete(v.byAddr, t.offset)
	if t.own != nil {
		v.retire(t.own, time.Now().Add(unfinished))
	}
	for c := range t.sockets {
		cut(c)
	}
}

// Probe implements Agent. A task is alive while it answers; a command is taken to succeed. Nothing goes over the network.
func (v *Virtual) Probe(ctx context.Context, taskID string, _ Probe) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if t := v.tasks[taskID]; t == nil || t.state == placed || t.state == closing {
		return fmt.Errorf("probing %s: the task does not run", taskID)
	}
	return context.Cause(ctx)
}

// Close implements Agent.
func (v *Virtual) Close() error {
	v.mu.Lock()
	v.closed = true
	for _, t := range v.tasks {
		if t.linger != nil {
			t.linger.Stop()
		}
		if t.own != nil {
			v.retire(t.own, time.Now().Add(unfinished))
		}
		for c := range t.sockets {
			cut(c)
		}
	}
	v.mu.Unlock()
	late := time.AfterFunc(unfinished, v.hurry)
	defer v.hurry()
	defer late.Stop()
	err := v.server.Close()
	if err != nil {
		err = fmt.Errorf("closing the virtual tasks' server: %w", err)
	}
	v.serving.Wait()
	v.reporter.close()
	if v.keeper != nil {
		err = errors.Join(err, v.keeper.Close())
	}
	return err
}

// listen opens listeners until there are n. The lock is held, or nobody else knows v.
func (v *Virtual) listen(n int) error {
	for len(v.ports) < n {
		control := net.ListenConfig{Control: onLoopback}
		l, err := control.Listen(context.Background(), "tcp4", "0.0.0.0:0")
		if err != nil {
			return fmt.Errorf("listening for virtual tasks: %w", err)
		}
		v.ports = append(v.ports, l.Addr().(*net.TCPAddr).Port)
		v.serving.Go(func() {
			if err := v.server.Serve(localOnly{l}); !errors.Is(err, http.ErrServerClosed) {
				v.cfg.Log.WithError(err).Error("virtual tasks answer no more on one port")
			}
		})
	}
	return nil
}

// onLoopback ties a socket to the loopback device, where the kernel lets it: 0.0.0.0 is then no open port for the network.
func onLoopback(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo") // localOnly holds without it
	})
}

// localOnly closes every connection that did not come to a loopback address.
type localOnly struct{ net.Listener }

func (l localOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
			return c, nil
		}
		c.Close()
	}
}

func (v *Virtual) answer(w http.ResponseWriter, r *http.Request) {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	var ip netip.Addr
	if addr != nil {
		ip = addr.AddrPort().Addr().Unmap()
	}
	t, ok := v.at(ip)
	if !ok {
		w.Header().Set("Connection", "close")
		http.Error(w, "no task at "+ip.String(), http.StatusServiceUnavailable)
		return
	}
	v.say(w, r, t.id, t.app)
}

// say answers as a task.
func (v *Virtual) say(w http.ResponseWriter, r *http.Request, task, app string) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		v.echo(w, r, task, app)
		return
	}
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	body, err := json.Marshal(struct {
		Task string `json:"task"`
		App  string `json:"app"`
		Addr string `json:"addr"`
	}{task, app, addr.String()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Task", task)
	h.Set("X-App", app)
	_, _ = w.Write(body) // a client that went away is its own affair
}

// at returns the live task at an address, by value: it may end while it is being read.
func (v *Virtual) at(ip netip.Addr) (virtualTask, bool) {
	if !ip.Is4() {
		return virtualTask{}, false
	}
	b := ip.As4()
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := v.byAddr[uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])]
	if b[0] != 127 || t == nil || t.state == placed || t.state == closing {
		return virtualTask{}, false
	}
	return *t, true
}

func address(offset uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(offset >> 16), byte(offset >> 8), byte(offset)})
}
