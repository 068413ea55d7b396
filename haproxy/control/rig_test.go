package control

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/test/ports"
)

func TestMain(m *testing.M) {
	if os.Getenv("CONTROL_TEST_PARENT") != "" {
		superviseForParentTest()
		return
	}
	if os.Getenv("CONTROL_TEST_DOOMED") != "" {
		dieAtAStep()
		return
	}
	if _, err := exec.LookPath("haproxy"); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need HAProxy 2.6 or newer: apt-get install haproxy")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// rig is a directory, ports, an Applier and, while it runs, a real HAProxy.
type rig struct {
	t       *testing.T
	dir     string
	port    int
	opts    *haproxy.Options
	sup     *Supervisor
	app     *Applier
	extra   string // appended to the configuration
	mu      sync.Mutex
	stops   []func()
	renders int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "sb") //nolint:usetesting // a socket path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, port: ports.Free(t)}
	r.opts = rigOptions(dir)
	t.Cleanup(func() {
		for _, stop := range slices.Backward(r.stops) {
			stop()
		}
		os.RemoveAll(dir)
	})
	return r
}

func (r *rig) settings() Settings {
	return Settings{
		Dir: r.dir, StatsSocket: r.opts.StatsSocket, MasterSocket: filepath.Join(r.dir, "master.sock"),
		Render: r.render, Diff: diff, AppAt: appAt, Log: testLog(r.t),
		ReloadInterval: 50 * time.Millisecond, ReloadBurst: 100, FileInterval: 50 * time.Millisecond,
	}
}

// supervise starts a Supervisor that ends with the test.
func (r *rig) supervise() *Supervisor {
	r.sup = &Supervisor{Dir: r.dir, MasterSocket: filepath.Join(r.dir, "master.sock"), DieWithParent: true, Log: testLog(r.t)}
	r.background(r.sup.Run)
	return r.sup
}

// background runs something until the returned function, or the end of the test, stops it.
func (r *rig) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("stopping: %v", err)
		}
	})
	r.stops = append(r.stops, stop)
	return stop
}

// start runs an Applier until the returned function, or the end of the test, stops it.
func (r *rig) start(s Settings) (*Applier, func()) {
	r.app = New(s)
	return r.app, r.background(r.app.Run)
}

func (r *rig) apply(want *haproxy.Config) Outcome {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	out, err := r.app.Apply(ctx, want)
	if err != nil {
		r.t.Fatalf("Apply: %v", err)
	}
	return out
}

func (r *rig) proc() Proc {
	r.t.Helper()
	p, err := NewMaster(filepath.Join(r.dir, "master.sock")).Proc(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// get asks HAProxy for a host and returns the status and the body.
func (r *rig) get(host string) (int, string) {
	req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", r.port), nil)
	req.Host, req.Close = host, true
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// audits returns how often the running state was compared with the model.
func (r *rig) audits() float64 { return counterValue(r.t, r.app.met.audits) }

// until polls until ok.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			r.t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *rig) answers(host, body string) {
	r.t.Helper()
	var code int
	var got string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s: last answer %d %q, want %q", host, code, got, body)
		}
	}()
	r.until(host+" answers "+body, func() bool { code, got = r.get(host); return got == body })
}

// task starts a server that answers with its name.
func task(t *testing.T, name string) netip.AddrPort {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// config builds a configuration: each app is "name" with its tasks' addresses, reachable at name.local.
func (r *rig) config(apps ...app) *haproxy.Config {
	c := &haproxy.Config{Options: r.opts}
	for _, a := range apps {
		b := &haproxy.Backend{
			Name: "b_" + a.name, App: "/" + a.name, Service: signalbox.NewServiceID("/"+a.name, 0), Mode: signalbox.HTTP,
			Check: signalbox.Check{Kind: signalbox.CheckOff},
		}
		if a.bad != "" {
			b.Policy = &haproxy.Policy{Policy: signalbox.Policy{Raw: []string{a.bad}}}
		}
		for i := range 4 {
			s := haproxy.Server{Name: fmt.Sprintf("s%d", i+1), Admin: haproxy.Maint, Weight: 100}
			if i < len(a.tasks) {
				s.Addr, s.Admin, s.Task = a.tasks[i], haproxy.Ready, fmt.Sprintf("%s.%d", a.name, i)
			}
			b.Slots = append(b.Slots, s)
		}
		c.Backends = append(c.Backends, b)
		c.Hosts = append(c.Hosts, haproxy.MapEntry{Key: a.name + ".local", Value: b.Name})
		c.Names = append(c.Names, haproxy.MapEntry{Key: b.Name, Value: string(b.Service)})
		if a.listen != 0 {
			c.Listeners = append(c.Listeners, &haproxy.Listener{
				Name: "svc_" + a.name, Port: a.listen, Mode: signalbox.HTTP, Backend: b.Name, Service: b.Service,
			})
		}
	}
	return c
}

type app struct {
	name   string
	tasks  []netip.AddrPort
	listen int
	bad    string // a line that HAProxy rejects
}

// render is a small renderer of its own, so that these tests stand without the template.
func (r *rig) render(c *haproxy.Config) ([]File, error) {
	r.mu.Lock()
	r.renders++
	extra := r.extra
	r.mu.Unlock()
	var b, hosts, paths, names bytes.Buffer
	fmt.Fprintf(&b, "global\n  stats socket %s mode 600 level admin expose-fd listeners\n  maxconn %d\n  hard-stop-after 20s\n",
		r.opts.StatsSocket, r.opts.MaxConn)
	fmt.Fprintf(&b, "defaults\n  mode http\n  timeout connect 2s\n  timeout client 20s\n  timeout server 20s\n")
	fmt.Fprintf(&b, "frontend http\n  bind 127.0.0.1:%d\n", r.port)
	fmt.Fprintf(&b, "  http-request set-var(txn.be) req.hdr(host),field(1,:),map_str(%s/hosts.map)\n", r.dir)
	fmt.Fprintf(&b, "  http-request set-var(txn.p) req.hdr(host),map_str(%s/paths.map)\n", r.dir)
	fmt.Fprintf(&b, "  http-request set-var(txn.s) var(txn.be),map_str(%s/names.map)\n", r.dir)
	for _, name := range []string{"checks", "timeouts", "https", "exact", "splits", "host-regexes", "path-regexes"} { // empty, and there
		fmt.Fprintf(&b, "  http-request set-var(txn.x) req.hdr(host),map_str(%s/%s.map)\n", r.dir, name)
	}
	fmt.Fprintf(&b, "  use_backend %%[var(txn.be)] if { var(txn.be) -m found }\n")
	for _, l := range c.Listeners {
		fmt.Fprintf(&b, "# app %s\nfrontend %s\n  bind %s:%d\n  default_backend %s\n", appOf(c, l), l.Name, r.opts.ServiceBind, l.Port, l.Backend)
	}
	for _, be := range c.Backends {
		fmt.Fprintf(&b, "# app %s\nbackend %s\n", be.App, be.Name)
		if be.Policy != nil {
			fmt.Fprintf(&b, "  %s\n", be.Policy.Raw[0])
		}
		for _, s := range be.Slots {
			addr := s.Addr
			if !addr.IsValid() {
				addr = netip.MustParseAddrPort("127.0.0.1:1")
			}
			state := map[haproxy.AdminState]string{haproxy.Maint: " disabled"}[s.Admin]
			fmt.Fprintf(&b, "  server %s %s weight %d%s\n", s.Name, addr, s.Weight, state)
		}
	}
	b.WriteString(extra)
	for _, e := range c.Hosts {
		fmt.Fprintf(&hosts, "%s %s\n", e.Key, e.Value)
	}
	for _, e := range c.Paths {
		fmt.Fprintf(&paths, "%s %s\n", e.Key, e.Value)
	}
	for _, e := range c.Names {
		fmt.Fprintf(&names, "%s %s\n", e.Key, e.Value)
	}
	return []File{
		{configName, b.Bytes()},
		{"hosts.map", hosts.Bytes()},
		{"paths.map", paths.Bytes()},
		{"names.map", names.Bytes()},
		{"checks.map", nil},
		{"timeouts.map", nil},
		{"https.map", nil},
		{"exact.map", nil},
		{"splits.map", nil},
		{"host-regexes.map", nil},
		{"path-regexes.map", nil},
	}, nil
}

func appOf(c *haproxy.Config, l *haproxy.Listener) string { return backend(c, l.Backend).App }

func appAt(cfg []byte, line int) string {
	app := ""
	for i, l := range strings.Split(string(cfg), "\n") {
		if i >= line {
			break
		}
		if a, ok := strings.CutPrefix(l, "# app "); ok {
			app = a
		}
	}
	return app
}

// diff is a small comparison of its own.
func diff(running, want *haproxy.Config) haproxy.Plan {
	var p haproxy.Plan
	cmd := func(format string, args ...any) {
		p.Commands = append(p.Commands, haproxy.Command{Text: fmt.Sprintf(format, args...), Why: "test"})
	}
	dir := want.Options.Dir
	for _, b := range want.Backends {
		old := backend(running, b.Name)
		if old == nil || !old.Fits(b) || len(old.Slots) != len(b.Slots) {
			p.Reasons = merge(p.Reasons, []haproxy.Reason{haproxy.BackendAdded})
			continue
		}
		for i, s := range b.Slots {
			o := old.Slots[i]
			if s.Admin != haproxy.Maint && s.Addr != o.Addr {
				cmd("set server %s/%s addr %s port %d", b.Name, s.Name, s.Addr.Addr(), s.Addr.Port())
			}
			if s.Admin != haproxy.Maint && s.Weight != o.Weight {
				cmd("set server %s/%s weight %d", b.Name, s.Name, s.Weight)
			}
			if s.Admin != o.Admin {
				cmd("set server %s/%s state %s", b.Name, s.Name, s.Admin)
			}
		}
	}
	if len(running.Backends) > len(want.Backends) {
		p.Reasons = merge(p.Reasons, []haproxy.Reason{haproxy.BackendRemoved})
	}
	if !slices.EqualFunc(running.Listeners, want.Listeners, func(a, b *haproxy.Listener) bool { return *a == *b }) {
		p.Reasons = merge(p.Reasons, []haproxy.Reason{haproxy.ListenerAdded})
	}
	for _, m := range []struct {
		file     string
		from, to []haproxy.MapEntry
	}{{"names", running.Names, want.Names}, {"hosts", running.Hosts, want.Hosts}} {
		for _, e := range m.to {
			i := slices.IndexFunc(m.from, func(o haproxy.MapEntry) bool { return o.Key == e.Key })
			if i < 0 {
				cmd("add map %s/%s.map %s %s", dir, m.file, e.Key, e.Value)
			} else if m.from[i] != e {
				cmd("set map %s/%s.map %s %s", dir, m.file, e.Key, e.Value)
			}
		}
		for _, e := range m.from {
			if !slices.ContainsFunc(m.to, func(o haproxy.MapEntry) bool { return o.Key == e.Key }) {
				cmd("del map %s/%s.map %s", dir, m.file, e.Key)
			}
		}
	}
	return p
}

// testLog writes to the test's own log while the test runs.
func testLog(t *testing.T) logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(t.Output())
	l.SetLevel(logrus.DebugLevel)
	return l
}

// haproxyProcesses returns the pids of the HAProxy processes that were started for a directory.
func haproxyProcesses(dir string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !bytes.Contains(b, []byte(dir)) || !bytes.HasPrefix(b, []byte("haproxy")) && !bytes.Contains(b, []byte("/haproxy\x00")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func kill9(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// newBenchRig starts a HAProxy for a benchmark and returns its stats socket.
func newBenchRig(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "sb") //nolint:usetesting // a socket path has at most 107 bytes
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "stats.sock")
	cfg := filepath.Join(dir, configName)
	text := fmt.Sprintf("global\n  stats socket %s mode 600 level admin\ndefaults\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"+
		"backend b_shop\n  server s1 127.0.0.1:1\n", sock)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("haproxy", "-db", "-f", cfg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", sock); err == nil {
			c.Close()
			break
		}
	}
	return sock
}
