package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// oldWorkersBench measures what reloads leave behind when each finds one more long connection: how many processes there are, what
// memory they hold, and how long the connections live. Beside signalbox, with two bounds, the same configuration under a naive
// "haproxy -sf" without any.
type oldWorkersBench struct {
	apps, reloads int
	every         time.Duration // between two reloads
	hardStop      time.Duration // hard-stop-after
	maxReloads    int           // mworker-max-reloads, where that is the bound
	progress      io.Writer
}

type oldWorkersResults struct {
	Machine machine            `json:"machine"`
	Command []string           `json:"command"`
	At      string             `json:"at"`
	Apps    int                `json:"apps"`
	Reloads int                `json:"reloads"`
	Every   float64            `json:"secondsBetweenReloads"`
	Ways    []oldWorkersResult `json:"ways"`
}

// oldWorkersResult is what one way of reloading left. Lives are in seconds, from the reload after a connection was opened.
type oldWorkersResult struct {
	Way       string  `json:"way"`
	Bound     string  `json:"bound"`
	Processes int     `json:"mostProcesses"` // at a time, of HAProxy
	RSS       int64   `json:"mostRSS"`       // bytes, of all at that time
	PSS       int64   `json:"mostPSS"`       // the same, memory that several share counted once
	First     int64   `json:"firstRSS"`      // of the first worker, alone
	Ended     int     `json:"connectionsEnded"`
	Shortest  float64 `json:"shortestLife"`
	Longest   float64 `json:"longestLife"`
	Configure float64 `json:"configuredLife"` // 0: none
	Early     int     `json:"endedEarly"`     // connections that lived more than a second less
	Stops     bool    `json:"endsAll"`        // every connection ends at its time, without a further reload
}

// reloader is one way of reloading HAProxy.
type reloader interface {
	// reload makes HAProxy load another configuration, and returns when it has.
	reload(ctx context.Context, n int) error
	// pids returns the processes that serve.
	pids(ctx context.Context) ([]int, error)
	close()
}

func (b oldWorkersBench) run(ctx context.Context) (all []oldWorkersResult, err error) {
	task, err := startEcho(ctx)
	if err != nil {
		return nil, err
	}
	defer task.close()
	times := fmt.Sprintf("hard-stop-after %s", b.hardStop)
	bounded := b.hardStop + time.Hour
	for _, way := range []struct {
		result oldWorkersResult
		start  func(dir string) (reloader, string, error)
	}{
		{oldWorkersResult{Way: "signalbox", Bound: times, Stops: true, Configure: b.hardStop.Seconds()}, func(dir string) (reloader, string, error) {
			return b.signalbox(ctx, dir, task.addr, b.hardStop, b.reloads+1)
		}},
		{oldWorkersResult{Way: "signalbox", Bound: fmt.Sprintf("max-reloads %d", b.maxReloads), Configure: (time.Duration(b.maxReloads) * b.every).Seconds()}, func(dir string) (reloader, string, error) {
			return b.signalbox(ctx, dir, task.addr, bounded, b.maxReloads)
		}},
		{oldWorkersResult{Way: "haproxy -sf", Bound: "none"}, func(dir string) (reloader, string, error) { return b.naive(ctx, dir, task.addr) }},
	} {
		fmt.Fprintf(b.progress, "oldworkers: %s, %s\n", way.result.Way, way.result.Bound)
		one, err := b.measure(ctx, way.result, way.start)
		if err != nil {
			return all, fmt.Errorf("%s, %s: %w", way.result.Way, way.result.Bound, err)
		}
		all = append(all, one)
	}
	return all, nil
}

func (b oldWorkersBench) measure(ctx context.Context, r oldWorkersResult, start func(string) (reloader, string, error)) (oldWorkersResult, error) {
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return r, err
	}
	how, proxy, err := start(dir)
	if err != nil {
		return r, err
	}
	defer how.close()
	if err := how.reload(ctx, 0); err != nil {
		return r, err
	}
	look := func() error {
		pids, err := how.pids(ctx)
		if err != nil {
			return err
		}
		rss, pss := memoryOf(pids)
		if r.First == 0 {
			r.First = rss
		}
		r.Processes, r.RSS, r.PSS = max(r.Processes, len(pids)), max(r.RSS, rss), max(r.PSS, pss)
		return nil
	}
	if err := look(); err != nil {
		return r, err
	}
	streams := make([]*stream, b.reloads)
	defer func() {
		for _, s := range streams {
			if s != nil {
				s.close()
			}
		}
	}()
	for n := range b.reloads {
		began := time.Now()
		if streams[n], err = openStream(ctx, proxy, host(0)); err != nil {
			return r, fmt.Errorf("opening connection %d: %w", n, err)
		}
		if err := how.reload(ctx, n+1); err != nil {
			return r, fmt.Errorf("reload %d: %w", n+1, err)
		}
		streams[n].replaced = time.Now()
		if err := look(); err != nil {
			return r, err
		}
		if err := sleep(ctx, b.every-time.Since(began)); err != nil {
			return r, err
		}
	}
	// Those that are to end do; nothing ends the others.
	last := time.Now().Add(5 * time.Second)
	if r.Stops {
		last = last.Add(time.Duration(r.Configure * float64(time.Second)))
	}
	for _, s := range streams {
		if !s.endedBy(last) {
			continue
		}
		r.Ended++
		life := s.end.Sub(s.replaced).Seconds()
		if r.Shortest == 0 || life < r.Shortest {
			r.Shortest = life
		}
		r.Longest = max(r.Longest, life)
		if life < r.Configure-1 {
			r.Early++
		}
	}
	return r, nil
}

// table returns services of which the first has the task, the others tasks that nobody asks for.
func (b oldWorkersBench) table(task netip.AddrPort) *signalbox.Table {
	services := make([]*signalbox.Service, b.apps)
	for i := range services {
		s := &signalbox.Service{
			ID: signalbox.NewServiceID(id(i), 0), App: id(i), Mode: signalbox.HTTP, Source: "bench",
			Routes: []signalbox.Route{{Host: host(i), Path: "/"}}, Check: signalbox.Check{Kind: signalbox.CheckOff},
		}
		s.Endpoints = []signalbox.Endpoint{{Task: fmt.Sprintf("t.%d", i), Addr: task, State: signalbox.Up}}
		services[i] = s
	}
	return signalbox.NewTable(services, nil)
}

// bySignalbox reloads as the controller does.
type bySignalbox struct {
	b       oldWorkersBench
	task    netip.AddrPort
	options haproxy.Options
	applier *control.Applier
	master  *control.Master
	config  *haproxy.Config
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

func (b oldWorkersBench) signalbox(ctx context.Context, dir string, task netip.AddrPort, hardStop time.Duration, maxReloads int) (reloader, string, error) {
	proxy, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	log := logrus.New()
	log.SetOutput(b.progress)
	log.SetLevel(logrus.ErrorLevel)
	s := &bySignalbox{b: b, task: task, options: haproxy.Options{
		Dir: dir, HTTPBind: []string{proxy}, StatsSocket: filepath.Join(dir, "stats.sock"), ServiceBind: "127.0.0.1",
		MaxConn: 1000, HardStopAfter: hardStop, MaxReloads: maxReloads,
	}}
	sup := &control.Supervisor{Dir: dir, MasterSocket: filepath.Join(dir, "master.sock"), DieWithParent: true, Log: log}
	s.master = control.NewMaster(sup.MasterSocket)
	s.applier = control.New(control.Settings{
		Dir: dir, StatsSocket: s.options.StatsSocket, MasterSocket: sup.MasterSocket, Template: haproxy.DefaultTemplate(), Supervisor: sup,
		ReloadInterval: time.Millisecond, ReloadBurst: 10 * b.reloads, Log: log,
	})
	ctx, s.stop = context.WithCancel(ctx)
	s.ended.Go(func() { _ = sup.Run(ctx) })
	s.ended.Go(func() { _ = s.applier.Run(ctx) })
	return s, proxy, nil
}

func (s *bySignalbox) reload(ctx context.Context, n int) error {
	o := s.options
	o.MaxConn += n // what only a reload changes
	s.config = haproxy.Build(s.b.table(s.task), &o, s.config)
	out, err := s.applier.Apply(ctx, s.config)
	if err == nil && !out.Reloaded {
		err = errors.New("it was no reload")
	}
	return err
}

func (s *bySignalbox) pids(ctx context.Context) (pids []int, err error) {
	p, err := s.master.Proc(ctx)
	for _, w := range slices.Concat(p.Workers, p.Old) {
		pids = append(pids, w.PID)
	}
	return pids, err
}

func (s *bySignalbox) close() { s.stop(); s.ended.Wait() }

// bySF starts another HAProxy each time, which tells the one before to finish.
type bySF struct {
	config string
	procs  []*exec.Cmd
	ended  []chan struct{}
	stats  string
}

func (b oldWorkersBench) naive(_ context.Context, dir string, task netip.AddrPort) (reloader, string, error) {
	proxy, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	s := &bySF{config: filepath.Join(dir, "haproxy.cfg"), stats: filepath.Join(dir, "stats.sock")}
	o := &haproxy.Options{Dir: dir, HTTPBind: []string{proxy}, StatsSocket: s.stats, ServiceBind: "127.0.0.1", MaxConn: 1000}
	files, err := haproxy.Render(haproxy.DefaultTemplate(), haproxy.Build(b.table(task), o, nil))
	if err != nil {
		return nil, "", err
	}
	var unbound []string
	for line := range strings.Lines(string(files.Config)) {
		if !strings.HasPrefix(line, "  hard-stop-after ") && !strings.HasPrefix(line, "  mworker-max-reloads ") {
			unbound = append(unbound, line)
		}
	}
	for _, f := range append(files.Maps, haproxy.File{Name: "haproxy.cfg", Data: []byte(strings.Join(unbound, ""))}) {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			return nil, "", err
		}
	}
	return s, proxy, nil
}

func (s *bySF) reload(ctx context.Context, _ int) error {
	args := []string{"-db", "-f", s.config}
	if n := len(s.procs); n > 0 {
		args = append(args, "-sf", strconv.Itoa(s.procs[n-1].Process.Pid))
	}
	p := exec.CommandContext(context.WithoutCancel(ctx), "haproxy", args...)
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		return fmt.Errorf("starting HAProxy: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = p.Wait(); close(ended) }()
	s.procs, s.ended = append(s.procs, p), append(s.ended, ended)
	for end := time.Now().Add(deadline); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		rt := control.NewRuntime(s.stats)
		info, err := rt.Connect(ctx)
		rt.Close()
		if err == nil && info.PID == p.Process.Pid {
			return nil
		}
	}
	return errors.New("the naive HAProxy does not come up")
}

func (s *bySF) pids(context.Context) (pids []int, err error) {
	for i, p := range s.procs {
		select {
		case <-s.ended[i]:
		default:
			pids = append(pids, p.Process.Pid)
		}
	}
	return pids, nil
}

func (s *bySF) close() {
	for i, p := range s.procs {
		_ = p.Process.Kill()
		<-s.ended[i]
	}
}

// memoryOf sums up what processes hold; one that has ended holds nothing.
func memoryOf(pids []int) (rss, pss int64) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var kb int64
			if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kb); n == 1 {
				rss += kb << 10
			} else if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kb); n == 1 {
				pss += kb << 10
			}
		}
	}
	return rss, pss
}

// echo is a task whose connections are streams: it sends back what it is sent.
type echo struct {
	addr   netip.AddrPort
	server *http.Server
}

func startEcho(ctx context.Context) (*echo, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echo{addr: netip.MustParseAddrPort(ln.Addr().String())}
	e.server = &http.Server{ReadHeaderTimeout: deadline, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"); err == nil {
			_, _ = io.Copy(conn, buf)
		}
	})}
	go func() { _ = e.server.Serve(ln) }()
	return e, nil
}

func (e *echo) close() { _ = e.server.Close() }

// stream is a connection that says something each second and is answered.
type stream struct {
	conn     net.Conn
	replaced time.Time // when its worker was
	end      time.Time // once ended is closed
	ended    chan struct{}
}

func openStream(ctx context.Context, proxy, name string) (*stream, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, ended: make(chan struct{})}
	_ = conn.SetDeadline(time.Now().Add(deadline))
	in := bufio.NewReader(conn)
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", name); err != nil {
		conn.Close()
		return nil, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("it answers %s", resp.Status)
	}
	if resp != nil {
		_ = resp.Body.Close() // a switched connection has none
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("asking for a stream: %w", err)
	}
	go func() {
		defer close(s.ended)
		for {
			_ = conn.SetDeadline(time.Now().Add(deadline))
			_, err := io.WriteString(conn, "still here\n")
			if err == nil {
				_, err = in.ReadString('\n')
			}
			if err == nil {
				// It waits for the end where it would wait for its next word.
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				if _, err = in.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
					continue
				}
			}
			s.end = time.Now()
			return
		}
	}()
	return s, nil
}

// endedBy waits for the end of a stream, until then.
func (s *stream) endedBy(then time.Time) bool {
	select {
	case <-s.ended:
		return true
	default:
	}
	select {
	case <-s.ended:
		return true
	case <-time.After(time.Until(then)):
		return false
	}
}

func (s *stream) close() { _ = s.conn.Close(); <-s.ended }

func (r *oldWorkersResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "%d reloads, %gs apart, at %d apps, each with one more stream open. A stream's life counts from the reload that replaced its worker;\n"+
		"early: more than 1 s before what is configured. Memory is that of all workers at the worst moment.\n\n", r.Reloads, r.Every, r.Apps)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way\tbound\tmost workers\tMB\tshared once\tone worker MB\tstreams ended\tshortest s\tlongest s\tconfigured s\tearly\t")
	for _, o := range r.Ways {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%d\t%.1f\t%.1f\t%.1f\t%d\t\n", o.Way, o.Bound, o.Processes, float64(o.RSS)/1e6, float64(o.PSS)/1e6,
			float64(o.First)/1e6, o.Ended, o.Shortest, o.Longest, o.Configure, o.Early)
	}
	return t.Flush()
}
