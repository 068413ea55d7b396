package routing

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// The ports of the entries, on the cell's first address.
const (
	httpPort  = "8000"
	httpsPort = "8443"
)

// balancer is a real HAProxy with the tasks behind it.
type balancer struct {
	addr  string
	tasks map[string]*task // by name; those that only answer probes by name and port
	kept  map[string]*kept // connections that requests without options share, by where they lead; nil: each has one of its own

	config *haproxy.Config // that runs
	lead   func(*signalbox.Table) *signalbox.Table
}

// shortDir returns a directory whose sockets fit into the 108 bytes that a path may have.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sb") //nolint:usetesting // the name of the test would make the path too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// write renders a config, and has HAProxy check it; warnings count as errors.
func write(t testing.TB, c *haproxy.Config) {
	t.Helper()
	files, err := haproxy.Render(haproxy.DefaultTemplate(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files.Maps, haproxy.File{Name: "haproxy.cfg", Data: files.Config}) {
		if err := os.WriteFile(filepath.Join(c.Options.Dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for try := 1; ; try++ {
		cmd := exec.CommandContext(ctx, program, "-dW", "-c", "-f", "haproxy.cfg")
		cmd.Dir = c.Options.Dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		// From 3.3 on HAProxy warns of passwords that take it 10 ms to verify, which on a busy machine any may do.
		if try < 5 && bytes.Contains(out, []byte("milliseconds to verify")) {
			continue
		}
		t.Fatalf("haproxy -c: %v\n%s\n%s", err, out, numbered(files.Config))
	}
}

// numbered puts the number before each line.
func numbered(b []byte) string {
	var out bytes.Buffer
	n := 0
	for line := range bytes.Lines(b) {
		n++
		fmt.Fprintf(&out, "%4d %s", n, line)
	}
	return out.String()
}

// balance runs a HAProxy for a table, and its tasks, until the test ends.
func balance(t *testing.T, table *signalbox.Table, o *haproxy.Options, own *addresses, behave map[string]map[string]string) *balancer {
	t.Helper()
	b := &balancer{addr: o.ServiceBind, tasks: make(map[string]*task)}
	b.lead = b.leader(t, o, own, behave)
	b.config = haproxy.Build(b.lead(table), o, nil)
	write(t, b.config)
	b.start(t, o)
	return b
}

// follow brings a running HAProxy to another table, without a reload.
func (b *balancer) follow(t *testing.T, table *signalbox.Table) {
	t.Helper()
	next := haproxy.Build(b.lead(table), b.config.Options, b.config)
	plan := haproxy.Diff(b.config, next)
	if len(plan.Reasons) > 0 {
		t.Errorf("it takes a reload: %v", plan.Reasons)
	}
	runtime := control.NewRuntime(b.config.Options.StatsSocket)
	defer runtime.Close()
	for _, c := range plan.Whole(b.config, next) {
		if said, err := runtime.Do(t.Context(), c.Text); err != nil {
			t.Fatalf("%s: %v %q", c.Text, err, said)
		}
	}
	b.config = next
}

// start runs HAProxy until the test ends.
func (b *balancer) start(t *testing.T, o *haproxy.Options) {
	t.Helper()
	takeLog(t, o.LogSocket)
	cmd := exec.Command(program, "-db", "-f", "haproxy.cfg")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Dir = o.Dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", &said)
			if !testing.Verbose() {
				return
			}
			if config, err := os.ReadFile(filepath.Join(o.Dir, "haproxy.cfg")); err == nil {
				t.Logf("\n%s", numbered(config))
			}
		}
	})
	runtime := control.NewRuntime(o.StatsSocket)
	defer runtime.Close()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := runtime.Info(t.Context()) // once it answers, every port is bound: one is after the other
		if err == nil {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("HAProxy ended: %v\n%s", err, &said)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("HAProxy does not listen: %v\n%s", err, &said)
		}
	}
}

// takeLog takes what HAProxy logs, and drops it: while nobody listens, HAProxy 2.6 tries to connect without a pause.
func takeLog(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var taking sync.WaitGroup
	taking.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taking.Go(func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		taking.Wait()
	})
}

// leader returns what replaces every address of a task in tables by one of this test's, always the same, where a server then answers for
// the task.
func (b *balancer) leader(t *testing.T, o *haproxy.Options, own *addresses, behave map[string]map[string]string) func(*signalbox.Table) *signalbox.Table {
	t.Helper()
	moved := make(map[netip.Addr]netip.Addr)
	up := make(map[netip.AddrPort]*task)
	run := func(name string, at netip.AddrPort) {
		if up[at] == nil {
			up[at] = startTask(t, name, at, behave[name])
		}
	}
	return func(table *signalbox.Table) *signalbox.Table {
		var services []*signalbox.Service
		for _, s := range table.Services {
			c := *s
			c.Endpoints = nil
			for _, e := range s.Endpoints {
				to, ok := moved[e.Addr.Addr()]
				if !ok {
					to = own.next()
					moved[e.Addr.Addr()] = to
					if slices.Contains(o.Node, e.Addr.Addr().String()) {
						o.Node = append(o.Node, to.String())
					}
				}
				e.Addr = netip.AddrPortFrom(to, e.Addr.Port())
				run(e.Task, e.Addr)
				b.tasks[e.Task] = up[e.Addr]
				if e.CheckPort != 0 {
					at := netip.AddrPortFrom(to, e.CheckPort)
					run(e.Task, at)
					b.tasks[fmt.Sprintf("%s:%d", e.Task, e.CheckPort)] = up[at]
				}
				c.Endpoints = append(c.Endpoints, e)
			}
			services = append(services, &c)
		}
		return signalbox.NewTable(services, table.Problems)
	}
}
