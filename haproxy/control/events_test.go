package control

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signalbox/test/ports"
)

// reading is what OldWorkers said of one worker.
type reading struct {
	lines []string // of the last time
	all   int      // how often it was the last time
}

// takes collects readings.
type takes struct {
	mu  sync.Mutex
	pid map[int]reading
}

func (c *takes) take(pid int, text []byte, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := reading{all: c.pid[pid].all}
	for line := range strings.Lines(string(text)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), " served "); ok {
			r.lines = append(r.lines, path)
		}
	}
	if all {
		r.all++
	}
	c.pid[pid] = r
}

func (c *takes) of(pid int) reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid[pid]
}

func (c *takes) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pid)
}

// keptAlive is one connection that is used again and again.
type keptAlive struct {
	net.Conn
	in *bufio.Reader
}

func dialKept(t *testing.T, port int) *keptAlive {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &keptAlive{c, bufio.NewReader(c)}
}

func (k *keptAlive) get(t *testing.T, path string) {
	t.Helper()
	if _, err := fmt.Fprintf(k, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(k.in, nil)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	res.Body.Close()
}

// keeping starts a HAProxy with a ring, and an OldWorkers beside it.
func keeping(t *testing.T) (k *keeper, port int, got *takes, stop func()) {
	r := newRig(t)
	port = ports.Free(t)
	r.extra = fmt.Sprintf("ring access\n  format short\n  maxlen 1024\n  size 65536\n"+
		"frontend late\n  bind 127.0.0.1:%d\n  log ring@access format short local0\n  log-format \"%%f served %%HPO\"\n"+
		"  option idle-close-on-response\n  timeout http-keep-alive 20s\n  http-request return status 200\n", port)
	got = &takes{pid: map[int]reading{}}
	s := r.settings()
	s.Supervisor = r.supervise()
	r.start(s)
	r.apply(r.config(app{name: "shop"}))
	o := &OldWorkers{StatsSocket: r.opts.StatsSocket, Ring: "access", Take: got.take, Every: 10 * time.Millisecond, Log: testLog(t)}
	return &keeper{r, o}, port, got, r.background(o.Run)
}

// keeper is a rig whose old workers are kept.
type keeper struct {
	*rig
	old *OldWorkers
}

// held waits until the worker of the day is kept.
func (k *keeper) held() {
	k.until("the worker is held", func() bool {
		p, err := NewMaster(k.app.cfg.MasterSocket).Proc(k.t.Context())
		return err == nil && len(p.Workers) == 1 && slices.Contains(k.old.Held(), p.Workers[0].PID)
	})
}

// What an old worker serves after the reload is read, to the last line, and the worker ends then.
func TestOldWorkersAreReadToTheEnd(t *testing.T) {
	r, port, got, _ := keeping(t)
	r.held()
	var conns []*keptAlive
	var want []string
	get := func(k *keptAlive, path string) {
		t.Helper()
		k.get(t, path)
		want = append(want, path)
	}
	for i := range 4 {
		conns = append(conns, dialKept(t, port))
		get(conns[i], fmt.Sprint("/before/", i))
	}
	first := r.proc().Workers[0].PID
	r.apply(r.config(app{name: "shop"}, app{name: "more"}))
	for i, c := range conns[:3] {
		get(c, fmt.Sprint("/after/", i))
		r.until("the line is read", func() bool { return slices.Equal(got.of(first).lines, want) })
	}
	if g := got.of(first); g.all != 0 {
		t.Errorf("with a connection left, that was called all: %+v", g)
	}
	if !r.proc().lists(first) {
		t.Error("the old worker ended before its last client")
	}
	get(conns[3], "/last")
	r.until("the old worker ends", func() bool { return !r.proc().lists(first) })
	if g := got.of(first); g.all != 1 || !slices.Equal(g.lines, want) {
		t.Errorf("read %+v, want %q, once", g, want)
	}
	if n := got.count(); n != 1 {
		t.Errorf("%d workers were read, want the old one only", n)
	}
}

// An old worker that nobody talks to any more ends as soon as it would without being held.
func TestOldWorkersAreLetGo(t *testing.T) {
	r, port, got, _ := keeping(t)
	for i := range 5 {
		r.held()
		pid := r.proc().Workers[0].PID
		k := dialKept(t, port)
		k.get(t, fmt.Sprint("/", i))
		k.Close()
		apps := []app{{name: "shop"}, {name: "more"}}
		r.apply(r.config(apps[:1+(i+1)%2]...))
		r.until("the old worker ends", func() bool { return !r.proc().lists(pid) })
		if g := got.of(pid); g.all != 1 || !slices.Equal(g.lines, []string{fmt.Sprint("/", i)}) {
			t.Errorf("reload %d: read %+v", i, g)
		}
	}
}

// A worker that is killed is not called read to the end; whoever comes after it is held.
func TestOldWorkersKilled(t *testing.T) {
	r, port, got, stop := keeping(t)
	r.held()
	k := dialKept(t, port)
	k.get(t, "/1")
	first := r.proc().Workers[0].PID
	r.apply(r.config(app{name: "shop"}, app{name: "more"}))
	r.until("the old worker is read", func() bool { return len(got.of(first).lines) == 1 })
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.held()
	second := r.proc().Workers[0].PID
	r.apply(r.config(app{name: "shop"}))
	r.until("the next one is read", func() bool { return got.of(second).all == 1 })
	if g := got.of(first); g.all != 0 {
		t.Errorf("the killed worker was read to its end: %+v", g)
	}
	stop()
}

// Without its OldWorkers a worker ends by itself: what held it goes with the connection.
func TestOldWorkersEnd(t *testing.T) {
	r, _, _, stop := keeping(t)
	r.held()
	stop()
	first := r.proc().Workers[0].PID
	r.apply(r.config(app{name: "shop"}, app{name: "more"}))
	r.until("the old worker ends", func() bool { return !r.proc().lists(first) })
}

// A HAProxy without that ring, by another template, is left alone.
func TestOldWorkersWithoutRing(t *testing.T) {
	r, _, got, stop := keeping(t)
	stop()
	r.old.Ring = "other"
	r.background(r.old.Run)
	r.held()
	first := r.proc().Workers[0].PID
	r.apply(r.config(app{name: "shop"}, app{name: "more"}))
	r.until("the old worker ends", func() bool { return !r.proc().lists(first) })
	if n := got.count(); n != 0 {
		t.Errorf("%d workers were read", n)
	}
}

// An old worker from before this program is read through the master, and not kept.
func TestOldWorkersThatAreNotHeld(t *testing.T) {
	r, port, got, stop := keeping(t)
	stop()
	k := dialKept(t, port)
	k.get(t, "/before")
	first := r.proc().Workers[0].PID
	r.apply(r.config(app{name: "shop"}, app{name: "more"}))
	r.old.current = nil
	r.old.Master = NewMaster(r.app.cfg.MasterSocket)
	r.background(r.old.Run)
	r.until("the old worker is read", func() bool { return slices.Equal(got.of(first).lines, []string{"/before"}) })
	if slices.Contains(r.old.Held(), first) {
		t.Error("the old worker is kept")
	}
	k.get(t, "/after")
	r.until("the old worker ends", func() bool { return !r.proc().lists(first) })
}
