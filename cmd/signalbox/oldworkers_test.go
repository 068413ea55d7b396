package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/metrics"
)

// logPath is a real HAProxy with the real template, under an Applier, and the whole way of its log lines, as the controller wires it.
type logPath struct {
	t       *testing.T
	addr    string // of HAProxy's web entry
	options *haproxy.Options
	applier *control.Applier
	agg     *metrics.Aggregator
	old     *control.OldWorkers
	origin  netip.AddrPort
	config  *haproxy.Config
	tables  int
	sent    atomic.Uint64 // requests that were answered
}

const logPatience = 20 * time.Second

func newLogPath(t *testing.T, pulled bool, choose ...func(*haproxy.Options, *control.Settings)) *logPath {
	dir, err := os.MkdirTemp("", "sb") //nolint:usetesting // a socket path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the check runs as somebody else
		t.Fatal(err)
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(50 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(origin.Close)
	addr, err := freeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	p := &logPath{t: t, addr: addr, origin: netip.MustParseAddrPort(origin.Listener.Addr().String())}
	p.options = &haproxy.Options{
		Dir: dir, HTTPBind: []string{addr}, ServiceBind: "127.0.0.1",
		StatsSocket: filepath.Join(dir, "stats.sock"), LogSocket: filepath.Join(dir, "log.sock"),
		LogFormat: metrics.LogFormat, LogFormatTCP: metrics.LogFormatTCP, RingFormat: metrics.RingFormat,
		LogLine: metrics.MaxLine, RingBytes: metrics.RingBytes, MaxConn: 200, HardStopAfter: time.Minute, MaxReloads: 50,
		LogPulled: pulled,
	}
	p.agg = metrics.NewAggregator(metrics.AggregatorConfig{})
	receiver, err := metrics.Listen(metrics.ReceiverConfig{Path: p.options.LogSocket, Consumer: p.agg})
	if err != nil {
		t.Fatal(err)
	}
	p.run(receiver.Run)
	supervisor := &control.Supervisor{Dir: dir, MasterSocket: filepath.Join(dir, "master.sock"), DieWithParent: true}
	settings := control.Settings{
		Dir: dir, StatsSocket: p.options.StatsSocket, MasterSocket: supervisor.MasterSocket, Template: haproxy.DefaultTemplate(),
		Supervisor: supervisor, ReloadInterval: 50 * time.Millisecond, ReloadBurst: 100,
	}
	for _, f := range choose {
		f(p.options, &settings)
	}
	p.applier = control.New(settings)
	p.run(supervisor.Run)
	p.run(p.applier.Run)
	p.old = &control.OldWorkers{
		StatsSocket: p.options.StatsSocket, Master: control.NewMaster(supervisor.MasterSocket), Ring: accessRing, Take: p.agg.ConsumeRing,
	}
	if pulled {
		feed := &control.LogFeed{StatsSocket: p.options.StatsSocket, LogSocket: p.options.LogSocket, Ring: accessRing, Held: p.old.Held}
		p.old.Followed = feed.Follows
		p.run(feed.Run)
	}
	p.run(p.old.Run)
	p.reload()
	return p
}

// run runs a part until the test ends.
func (p *logPath) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("stopping: %v", err)
		}
	})
}

// reload adds a service, for which HAProxy has to reload, and waits until the new worker is held.
func (p *logPath) reload() {
	p.t.Helper()
	p.tables++
	var services []*signalbox.Service
	for i := range p.tables {
		app := fmt.Sprint("/app", i)
		services = append(services, &signalbox.Service{
			ID: signalbox.NewServiceID(app, 0), App: app, Mode: signalbox.HTTP,
			Routes:    []signalbox.Route{{Host: fmt.Sprintf("app%d.local", i), Path: "/"}},
			Endpoints: []signalbox.Endpoint{{Task: app[1:] + ".1", Addr: p.origin, State: signalbox.Up}},
		})
	}
	p.config = haproxy.Build(signalbox.NewTable(services, nil), p.options, p.config)
	ctx, cancel := context.WithTimeout(p.t.Context(), logPatience)
	defer cancel()
	out, err := p.applier.Apply(ctx, p.config)
	if err != nil || !out.Reloaded {
		p.t.Fatalf("the reload: %+v, %v", out, err)
	}
	p.until("the new worker is held", func() bool {
		held := p.old.Held()
		return len(held) > 0 && held[0] == p.applier.Status().PID
	})
}

// account reconciles, and returns the account and the number of workers.
func (p *logPath) account() (metrics.Loss, int) {
	workers, err := p.applier.WorkerStats(p.t.Context())
	if err != nil {
		return metrics.Loss{}, 0
	}
	p.agg.Reconcile(workerStats(workers, &haproxy.Config{}))
	return p.agg.Loss(), len(workers)
}

func (p *logPath) until(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(logPatience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s: not within %s; %d answers, account %+v", what, logPatience, p.sent.Load(), p.agg.Loss())
		}
	}
}

// client is one connection that is used again until HAProxy closes it, and then another one.
type client struct {
	path *logPath
	conn net.Conn
	in   *bufio.Reader
}

var errUnanswered = errors.New("a request was not answered")

func (c *client) get(path string) error {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.path.addr)
		if err != nil {
			return err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(logPatience))
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: app0.local\r\n\r\n", path); err != nil {
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	c.path.sent.Add(1)
	if res.Close {
		c.close()
	}
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// Ten reloads under load, with clients that keep their connections to old workers: each answer is a record, none is lost, and
// nothing is left unsure, while old workers live and after their end. A worker that is killed leaves an interval that holds the truth.
func TestReloadsLoseNoRecord(t *testing.T) {
	version, err := control.CheckBinary(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, pulled := range map[string]bool{"the ring is sent": false, "the ring is read": true} {
		t.Run(name, func(t *testing.T) {
			if !pulled && !version.SendsRings() {
				t.Log("this HAProxy sends no ring to a unix socket")
				return
			}
			reloadsLoseNoRecord(t, newLogPath(t, pulled))
		})
	}
}

func reloadsLoseNoRecord(t *testing.T, p *logPath) {
	t.Helper()
	clients := make([]*client, 6)
	for i := range clients {
		clients[i] = &client{path: p}
		t.Cleanup(clients[i].close)
	}
	// stay keeps its connection from before the next reload until after it.
	stay := func(n int) []*client {
		out := make([]*client, n)
		for i := range out {
			out[i] = &client{path: p}
			t.Cleanup(out[i].close)
			if err := out[i].get("/stay"); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	var staying []*client
	for range 10 {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for i, c := range clients {
			path := "/"
			if i == 0 {
				path = "/slow"
			}
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := c.get(path); err != nil {
						t.Errorf("under load: %v", err)
						return
					}
				}
			})
		}
		more := stay(4)
		p.reload()
		// Of those that stayed, half say something to their worker, which is then an old one.
		for i, c := range more {
			if i%2 == 0 {
				if err := c.get("/stayed"); err != nil {
					t.Errorf("after the reload: %v", err)
				}
			}
		}
		staying = append(staying, more...)
		stop()
		wg.Wait()
		p.until("each answer is counted while the old worker lives", func() bool {
			loss, workers := p.account()
			return workers > 1 && loss.Counted == p.sent.Load() && loss.Lost+loss.Bad+loss.Unsure == 0
		})
	}
	for _, c := range staying {
		if c.conn != nil {
			_ = c.get("/last") // after 10 s without a request HAProxy closes the connection, which is no answer and no record
			c.close()
		}
	}
	p.until("the old workers have ended", func() bool { _, workers := p.account(); return workers == 1 })
	want := metrics.Loss{Sent: p.sent.Load(), Counted: p.sent.Load()}
	p.until("their accounts are closed", func() bool { loss, _ := p.account(); return cmp.Equal(want, loss) })
	t.Logf("%d answers, account %+v", p.sent.Load(), p.agg.Loss())

	for _, c := range clients {
		c.close()
	}
	doomed := stay(4)
	pid := p.applier.Status().PID
	p.reload()
	p.until("the account knows the old worker", func() bool { _, workers := p.account(); return workers == 2 })
	for _, c := range doomed {
		if err := c.get("/doomed"); err != nil {
			t.Error(err)
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	p.until("the interval contains the truth", func() bool {
		loss, workers := p.account()
		truth := p.sent.Load() - loss.Counted
		return workers == 1 && loss.Lost <= truth && truth <= loss.Lost+loss.Unsure
	})
	loss, _ := p.account()
	t.Logf("%d answers, account %+v", p.sent.Load(), loss)
	if loss.Unsure > 8 {
		t.Errorf("the interval is %d wide", loss.Unsure)
	}
}
