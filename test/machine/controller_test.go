package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// The ports of the entries.
const (
	httpPort  = 8000
	httpsPort = 8443
	appIDPort = 8001
)

// What HAProxy does not take, by the bound of connections that a configuration has. Everything else works with both.
const (
	rejectedMaxConn = 666 // the check refuses it
	deadlyMaxConn   = 667 // a worker that loads it ends
)

// failer is what a test and a property have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// controller is signalbox from the watcher on, with the HAProxy that it drives.
type controller struct {
	t        failer
	dir      string
	addr     string // where HAProxy listens
	options  *haproxy.Options
	template *haproxy.Template
	log      *logrus.Logger
	said     *lockedBuffer
	slow     bool // the file follows only where it has to, and at the end

	supervisor *control.Supervisor
	certs      *control.Certificates
	source     *source
	watcher    *discovery.Watcher
	applier    *control.Applier
	table      *signalbox.Table // the last one that came
	prev       *haproxy.Config
	latest     atomic.Pointer[discovery.Change]
	stored     atomic.Pointer[discovery.Change] // what an earlier run of the watcher has left
	came       chan struct{}

	occupied net.Listener
	stops    []func() // of what a restart ends
	stopHA   func()
}

var controllers atomic.Uint32

// newController starts a controller that has seen nothing yet.
func newController(t failer, slow bool) *controller {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sb") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := &controller{
		t: t, dir: dir, addr: fmt.Sprintf("127.%d.2.%d", network, controllers.Add(1)%120+1), template: haproxy.DefaultTemplate(),
		said: &lockedBuffer{}, slow: slow, table: &signalbox.Table{}, source: &source{updates: make(chan discovery.Update)},
	}
	c.log = logrus.New()
	c.log.SetOutput(c.said)
	c.log.SetLevel(logrus.InfoLevel)
	for _, d := range []string{"", "certificates", "sources"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o750); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if c.occupied, err = net.Listen("tcp", c.addr+":0"); err != nil {
		t.Fatalf("%v", err)
	}
	c.options = optionsAt(c.dir, c.addr)
	c.supervisor = &control.Supervisor{Dir: c.dir, MasterSocket: c.masterSocket(), DieWithParent: true, Log: c.log}
	c.stopHA = c.background(c.supervisor.Run)
	c.start()
	return c
}

// optionsAt are those of a HAProxy in a directory, at an address.
func optionsAt(dir, addr string) *haproxy.Options {
	at := func(port int) []string { return []string{fmt.Sprintf("%s:%d", addr, port)} }
	return &haproxy.Options{
		Dir: dir, HTTPBind: at(httpPort), HTTPSBind: at(httpsPort), AppIDBind: at(appIDPort), ServiceBind: addr,
		ServicePorts: haproxy.PortRange{First: rangePorts[0], Last: rangePorts[len(rangePorts)-1]},
		StatsSocket:  filepath.Join(dir, "stats.sock"), MaxConn: 500, Threads: 1, HardStopAfter: 10 * time.Second, MaxReloads: 20,
	}
}

func (c *controller) masterSocket() string { return filepath.Join(c.dir, "master.sock") }

// background runs something until the returned function stops it.
func (c *controller) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("stopping: %v", err)
		}
	})
}

// start starts what a restart of the controller starts anew.
func (c *controller) start() {
	c.t.Helper()
	c.certs = control.NewCertificates(filepath.Join(c.dir, "certificates"), c.dir, c.log)
	if err := c.certs.Read(time.Now()); err != nil {
		c.t.Fatalf("%v", err)
	}
	c.readCertificates()
	interval := 20 * time.Millisecond
	if c.slow {
		interval = time.Hour
	}
	c.applier = control.New(control.Settings{
		Dir: c.dir, StatsSocket: c.options.StatsSocket, MasterSocket: c.masterSocket(), Template: c.template, Render: c.render,
		Certificates: c.certs, Supervisor: c.supervisor, ReloadInterval: time.Millisecond, ReloadBurst: 1000, FileInterval: interval,
		AuditInterval: 150 * time.Millisecond, StateInterval: interval, Log: c.log,
	})
	running, err := c.applier.Recover(context.Background())
	if err != nil {
		c.log.WithError(err).Warn("recovering")
	}
	c.prev = running
	c.watcher = discovery.NewWatcher(discovery.Config{
		Sources: []discovery.Source{c.source}, StateDir: filepath.Join(c.dir, "sources"), Settle: time.Nanosecond, Log: c.log,
	})
	changes := make(chan *discovery.Change)
	c.latest.Store(nil)
	c.stored.Store(nil)
	c.came = make(chan struct{}, 1)
	came := c.came
	collect := c.background(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case change := <-changes:
				if change.Stored { // what runs may be newer: the first read is waited for
					c.stored.Store(change)
				} else {
					c.latest.Store(change)
				}
				select {
				case came <- struct{}{}:
				default:
				}
			}
		}
	})
	watch := c.background(func(ctx context.Context) error { return c.watcher.Run(ctx, changes) })
	apply := c.background(c.applier.Run)
	c.stops = []func(){watch, collect, apply}
}

// stop ends what a restart of the controller ends. HAProxy goes on.
func (c *controller) stop() {
	for _, stop := range c.stops {
		stop()
	}
	c.stops = nil
}

// crash ends the controller as kill -9 would: what it writes on its way out never happened.
func (c *controller) crash() {
	c.t.Helper()
	kept := map[string][]byte{}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if kept[e.Name()], err = os.ReadFile(filepath.Join(c.dir, e.Name())); err != nil {
				c.t.Fatalf("%v", err)
			}
		}
	}
	c.stop()
	for name, b := range kept {
		if err := os.WriteFile(filepath.Join(c.dir, name), b, 0o600); err != nil {
			c.t.Fatalf("%v", err)
		}
	}
}

// close ends everything.
func (c *controller) close() {
	c.stop()
	c.stopHA()
	c.occupied.Close()
	os.RemoveAll(c.dir)
}

// render is haproxy's own rendering, broken for a configuration that is to fail.
func (c *controller) render(config *haproxy.Config) ([]control.File, error) {
	made, err := haproxy.Render(c.template, config)
	if err != nil {
		return nil, err
	}
	var files []control.File
	for _, m := range made.Maps {
		files = append(files, control.File(m))
	}
	text := made.Config
	switch config.Options.MaxConn {
	case rejectedMaxConn:
		text = append([]byte("frobnicate\n"), text...)
	case deadlyMaxConn:
		text = append(bytes.Clone(text), fmt.Sprintf("listen surprise\n  mode tcp\n  bind %s\n", c.occupied.Addr())...)
	}
	return append(files, control.File{Name: "haproxy.cfg", Data: text}), nil
}

// readCertificates takes what the operator's directory holds into the options.
func (c *controller) readCertificates() {
	fresh := *c.options
	fresh.Certificates = c.certs.List()
	c.options = &fresh
}

// tell has the source say what there is, and waits until the watcher has made a table of it.
func (c *controller) tell(table *signalbox.Table) {
	c.t.Helper()
	apps, tasks := gone(c.table, table)
	c.source.say(discovery.Update{
		State: append([]*signalbox.Service{}, table.Services...), Whole: true, At: time.Now(), Cause: "test", Explained: discovery.Explained{Apps: apps, Tasks: tasks, Proven: apps},
	})
	for end := time.After(patience); ; {
		got := c.latest.Load()
		if got == nil {
			got = c.stored.Load() // there was no news in what the source said
		}
		if got != nil && equalTables(got.Table, table) {
			c.table = got.Table
			return
		}
		select {
		case <-c.came:
		case <-end:
			c.t.Fatalf("the watcher has made no table of what the source said within %s\n%s", patience, c.said)
		}
	}
}

// doWithout takes what an earlier run has stored, as the controller does whose source does not answer.
func (c *controller) doWithout() {
	c.t.Helper()
	if !wait(func() bool { return c.stored.Load() != nil }) {
		c.t.Fatalf("nothing is stored\n%s", c.said)
	}
	c.table = c.stored.Load().Table
}

// submit builds what is wanted for the table that came last, and hands it over.
func (c *controller) submit() func(context.Context) (control.Outcome, error) {
	c.prev = haproxy.Build(c.table, c.options, c.prev)
	return c.applier.Submit(c.prev)
}

// follow brings HAProxy to a table, and returns what that took.
func (c *controller) follow(table *signalbox.Table) control.Outcome {
	c.t.Helper()
	c.tell(table)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := c.submit()(ctx)
	if err != nil {
		c.t.Fatalf("applying: %v\n%s", err, c.said)
	}
	return out
}

// proc returns HAProxy's processes, or false while there are none.
func (c *controller) proc() (control.Proc, bool) {
	p, err := control.NewMaster(c.masterSocket()).Proc(context.Background())
	return p, err == nil && len(p.Workers) > 0
}

// audits returns how many audits the controller has made.
func (c *controller) audits() (n float64) {
	c.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.applier)
	families, err := registry.Gather()
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	for _, f := range families {
		if f.GetName() == "signalbox_haproxy_audits_total" {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing HAProxy: %w", err)
	}
	return nil
}

// source is one that a test speaks for.
type source struct{ updates chan discovery.Update }

func (s *source) Name() string { return "test" }

func (s *source) Run(ctx context.Context, out chan<- discovery.Update, _ <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-s.updates:
			select {
			case out <- u:
			case <-ctx.Done():
			}
		}
	}
}

// say hands an update to the watcher, and returns when that has taken it in.
func (s *source) say(u discovery.Update) {
	s.updates <- u
	// Each is taken only when the one before it has been handed on, by the source, the watcher's queue and its loop.
	for range 3 {
		s.updates <- discovery.Update{Health: u.Health}
	}
}

// lockedBuffer is the log of one controller, which is shown when something fails.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns the last 6 KiB.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.b.Bytes()
	return string(b[max(0, len(b)-6<<10):])
}

// serveTasks answers at every address that tasks can have, with that address, until the test ends.
func serveTasks(t *testing.T) {
	t.Helper()
	server := &http.Server{
		ReadHeaderTimeout: patience,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			w.Header().Set("X-Task", at.String())
			io.WriteString(w, at.String())
		}),
	}
	var serving sync.WaitGroup
	for i := range taskAddresses {
		l, err := net.Listen("tcp", taskAddress(i).String())
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() { _ = server.Serve(l) })
	}
	t.Cleanup(func() { server.Close(); serving.Wait() })
}
