package metrics

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The client, HAProxy and the pipeline count on their own, and agree per service, method and code; nothing is lost.
func TestCountsClose(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	history := NewHistory(time.Minute)
	p := newPipeline(t, socket, AggregatorConfig{Node: "n1", Directory: history})
	b := startBalancer(t, balancerOptions{logSocket: socket})
	history.Set(time.Now(), "/shop/cart:0", []Placement{
		{Addr: b.shop[0].Listener.Addr().String(), Task: "shop.1", State: "up"},
		{Addr: b.shop[1].Listener.Addr().String(), Task: "shop.2", State: "up"},
	})
	history.Set(time.Now(), "/pay:0", nil)
	history.Set(time.Now(), "/db:0", nil)

	client := &sent{counts: map[string]uint64{}}
	b.load(client, 500)
	for range 20 {
		if line := b.raw("web.sock", "nonsense\r\n\r\n"); !strings.Contains(line, " 400 ") {
			t.Fatalf("a bad request was answered with %q", line)
		}
		client.counts["none other 400"]++
		if line := b.raw("tcp.sock", "GET /x/200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.Contains(line, " 200 ") {
			t.Fatalf("the TCP service answered %q", line)
		}
		client.counts["/db:0 tcp tcp"]++
	}
	if client.failed > 0 {
		t.Fatalf("%d requests failed", client.failed)
	}
	eventually(t, "all lines are counted", func() bool { return p.agg.Loss().Counted >= client.total() })
	p.agg.Reconcile(b.workers())
	p.agg.Reconcile(b.workers())

	s := p.agg.Snapshot(time.Now())
	if diff := cmp.Diff(client.counts, counted(s)); diff != "" {
		t.Errorf("client and pipeline differ (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(Loss{Sent: client.total(), Counted: client.total()}, s.Loss); diff != "" {
		t.Errorf("account (-want +got)\n%s", diff)
	}
	byTask := map[string]uint64{}
	for _, task := range s.Service("/shop/cart:0").Tasks {
		for _, c := range task.Classes {
			byTask[task.Name] += c.Count
		}
	}
	if len(byTask) != 2 || byTask["shop.1"]+byTask["shop.2"] != s.Service("/shop/cart:0").Requests {
		t.Errorf("requests by task: %v", byTask)
	}
	if h := s.Service("/shop/cart:0").Duration; h.Zero() > h.Count()/10 {
		t.Errorf("%d of %d durations are 0 µs: the microsecond clock is not used", h.Zero(), h.Count())
	}
}

// What a client sends can't make another line, another service or another field.
func TestForgedRequests(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	p := newPipeline(t, socket, AggregatorConfig{})
	b := startBalancer(t, balancerOptions{logSocket: socket})
	hosts := []string{
		"shop.local", `shop.local:80" 200 forged`, `a b 200 "forged`, "caf\xc3\xa9\xff\x01\t\x7f", strings.Repeat(`"`, 3000), strings.Repeat("h", 9000),
		"", `x" "/pay:0" "`, "<6>SB1 H 1 web 0 200 ---- \"/pay:0\" ", "\\", "%22%20", "\x1b[31m",
	}
	paths := []string{"/", "/a|b{c}^`\\<>;,", "/" + strings.Repeat("p", 6000), "/%22%20SB1", "/'$(x)${y}%[z]", "*"}
	n := uint64(0)
	for _, host := range hosts {
		for _, path := range paths {
			b.raw("web.sock", "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			n++
		}
	}
	for _, method := range []string{"X", strings.Repeat("M", 200), "SB1", `A"B`} {
		b.raw("web.sock", method+" / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		n++
	}
	eventually(t, "all lines have arrived", func() bool { l := p.agg.Loss(); return l.Counted+l.Bad >= n })
	p.agg.Reconcile(b.workers())
	p.agg.Reconcile(b.workers())
	if diff := cmp.Diff(Loss{Sent: n, Counted: n}, p.agg.Loss()); diff != "" {
		t.Errorf("account (-want +got)\n%s", diff)
	}
	s := p.agg.Snapshot(time.Now())
	if s.Service("/pay:0") != nil {
		t.Error("a request was counted for a service that it named itself")
	}
	naming, least := 2, 2*len(paths)
	if haproxyVersion(t) >= 300 { // it refuses the one with a quote, and the path "*", before any rule
		naming, least = 1, len(paths)-1
	}
	if got := s.Service("/shop/cart:0"); got == nil || got.Requests < uint64(least) || got.Requests > uint64(naming*len(paths)) {
		t.Errorf("the service that %d of the hosts name has %+v", naming, got)
	}
}

// dropper stands between HAProxy and the receiver, and loses the frames that lose says.
type dropper struct {
	lost    atomic.Uint64 // of our lines
	passed  atomic.Uint64
	lose    func(n uint64) bool // the n-th of our lines, from 0
	silence atomic.Bool         // lose all
}

func (d *dropper) listen(t *testing.T, path, to string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	conns := make(chan net.Conn, 64)
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			go d.pass(c, to)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		close(conns)
		for c := range conns {
			_ = c.Close()
		}
	})
}

func (d *dropper) pass(from net.Conn, path string) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	buf, held := make([]byte, 1<<20), 0
	for {
		n, err := from.Read(buf[held:])
		if err != nil {
			return
		}
		held += n
		used := 0
		for {
			msg, size, err := Frame(buf[used:held])
			if err != nil || size == 0 {
				break
			}
			if strings.Contains(string(msg[:8]), mark) && d.loses() {
				d.lost.Add(1)
			} else if _, err := to.Write(buf[used : used+size]); err != nil {
				return
			}
			used += size
		}
		held = copy(buf, buf[used:held])
	}
}

func (d *dropper) loses() bool {
	return d.silence.Load() || d.lose != nil && d.lose(d.passed.Add(1)-1)
}

// Lines that vanish between HAProxy and the receiver are reported as lost, to the line: those in the middle by their numbers,
// those at the end by HAProxy's counters.
func TestDroppedLinesAreReported(t *testing.T) {
	dir := t.TempDir()
	socket, outer := filepath.Join(dir, "log.sock"), filepath.Join(dir, "outer.sock")
	p := newPipeline(t, socket, AggregatorConfig{})
	d := &dropper{lose: func(n uint64) bool { return n%7 == 3 }}
	d.listen(t, outer, socket)
	b := startBalancer(t, balancerOptions{logSocket: outer})
	client := &sent{counts: map[string]uint64{}}
	b.load(client, 300)
	eventually(t, "all lines have arrived or are dropped", func() bool {
		return p.agg.Loss().Counted+d.lost.Load() >= client.total()
	})
	d.silence.Store(true)
	b.load(client, 25)
	eventually(t, "the last lines are dropped", func() bool {
		return p.agg.Loss().Counted+d.lost.Load() >= client.total()
	})
	for range 2 * lossLooks {
		p.agg.Reconcile(b.workers())
	}
	got := p.agg.Loss()
	want := Loss{Sent: client.total(), Counted: client.total() - d.lost.Load(), Lost: d.lost.Load(), Tail: got.Tail}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("account (-want +got)\n%s", diff)
	}
	if got.Tail < 100 || got.Tail > 105 {
		t.Errorf("%d lines found by HAProxy's counters, want about 100", got.Tail)
	}
	if p.agg.shown.Lost != got.Lost {
		t.Errorf("the metric says %d lost, the account %d", p.agg.shown.Lost, got.Lost)
	}
}

// A receiver that is away loses what the ring can't hold; sent = counted + lost, and the ring's own words name the cause.
func TestReceiverRestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	p := newPipeline(t, socket, AggregatorConfig{})
	b := startBalancer(t, balancerOptions{logSocket: socket, ringBytes: 64 << 10})
	client := &sent{counts: map[string]uint64{}}
	b.load(client, 100)
	p.stop()
	b.load(client, 300)
	p.start()
	b.load(client, 100)
	eventually(t, "the account closes", func() bool {
		p.agg.Reconcile(b.workers())
		l := p.agg.Loss()
		return l.Sent == client.total() && l.Counted+l.Lost == client.total()
	})
	l := p.agg.Loss()
	t.Logf("%d sent, %+v", client.total(), l)
	if l.Lost == 0 || l.Ring == 0 && haproxyVersion(t) < 300 { // HAProxy 3.0 drops without a word
		t.Errorf("a ring of 64 KiB held 1200 lines: %+v", l)
	}
}

// At a reload the old worker's account is closed with an interval that contains the truth.
func TestReload(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	p := newPipeline(t, socket, AggregatorConfig{})
	b := startBalancer(t, balancerOptions{logSocket: socket})
	client := &sent{counts: map[string]uint64{}}
	b.load(client, 100)
	held, err := net.Dial("unix", b.path("tcp.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	eventually(t, "the held connection is HAProxy's", func() bool {
		for _, f := range b.workers()[0].Frontends {
			if f.Name == "port_9000" && f.Current == 1 {
				return true
			}
		}
		return false
	})
	first := b.workers()[0].PID
	if err := b.master.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two workers live", func() bool { return len(b.workers()) == 2 })
	b.load(client, 100)
	p.agg.Reconcile(b.workers())
	_, _ = io.WriteString(held, "GET / HTTP/1.0\r\n\r\n")
	_, _ = io.ReadAll(held)
	_ = held.Close()
	client.add("/db:0", "tcp", 0)
	eventually(t, "the old worker is gone and its account is closed", func() bool {
		ws := b.workers()
		p.agg.Reconcile(ws)
		p.agg.mu.Lock()
		defer p.agg.mu.Unlock()
		return len(ws) == 1 && ws[0].PID != first && p.agg.ledger.workers[first] == nil
	})
	b.load(client, 50)
	if client.failed > 0 {
		t.Errorf("%d requests failed", client.failed)
	}
	eventually(t, "the interval contains the truth", func() bool {
		p.agg.Reconcile(b.workers())
		l := p.agg.Loss()
		truth := client.total() - l.Counted
		return l.Lost <= truth && truth <= l.Lost+l.Unsure
	})
	l := p.agg.Loss()
	t.Logf("%d sent, %+v", client.total(), l)
	if l.Unsure > 20 {
		t.Errorf("the interval is %d wide", l.Unsure)
	}
}

// A worker that is killed takes along at most what its ring held.
func TestKilledWorker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	p := newPipeline(t, socket, AggregatorConfig{})
	b := startBalancer(t, balancerOptions{logSocket: socket})
	client := &sent{counts: map[string]uint64{}}
	b.load(client, 100)
	ws := b.workers()
	p.agg.Reconcile(ws)
	b.load(client, 100)
	if err := syscall.Kill(ws[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the account is closed", func() bool {
		p.agg.Reconcile(nil)
		return p.agg.Loss().Unsure > 0
	})
	l := p.agg.Loss()
	truth := client.total() - l.Counted
	t.Logf("%d sent, %+v", client.total(), l)
	if truth < l.Lost || truth > l.Lost+l.Unsure {
		t.Errorf("%d lines are missing, the account says %d to %d", truth, l.Lost, l.Lost+l.Unsure)
	}
}

// Two receivers do not take each other's socket; a file that a dead one left behind is no obstacle.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "log.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	p := newPipeline(t, socket, AggregatorConfig{})
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if _, err := Listen(ReceiverConfig{Path: socket, Consumer: p.agg}); err == nil || !strings.Contains(err.Error(), ErrInUse.Error()) {
		t.Errorf("a second receiver on the same socket: %v", err)
	}
	p.stop()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	plainFile := filepath.Join(dir, "file")
	if err := os.WriteFile(plainFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(ReceiverConfig{Path: plainFile, Consumer: p.agg}); err == nil {
		t.Error("a file that is not a socket was replaced")
	}
	if got, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

// What has reached the socket when the receiver is told to end is counted, not thrown away; the peer learns that no more is taken.
func TestDrain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	p := newPipeline(t, socket, AggregatorConfig{})
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	written := 0
	for i := range 200 {
		line := strings.Replace(httpLine, " 5 200", fmt.Sprintf(" %d 200", i), 1)
		if _, err := fmt.Fprintf(c, "%d %s", len(line), line); err != nil {
			t.Fatal(err)
		}
		written++
	}
	p.stop()
	if got := p.agg.Loss(); got.Counted != uint64(written) || got.Lost != 0 {
		t.Errorf("%d lines were written before the end, account %+v", written, got)
	}
	if _, err := c.Write([]byte("1 x")); err == nil {
		t.Error("the peer can still write into the void")
	}
}
