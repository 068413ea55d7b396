package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// probesBench measures how often a task is asked for its health by a fleet: some of its machines run, each a real HAProxy.
type probesBench struct {
	machines, fleet int
	span            time.Duration // 0: two intervals of tasks on other machines
	progress        io.Writer
}

// probesResults is what it found. Rates are probes of one task in a second.
type probesResults struct {
	Machine  machine  `json:"machine"`
	Command  []string `json:"command"`
	At       string   `json:"at"`
	Machines int      `json:"machines"` // that ran
	Fleet    int      `json:"fleet"`    // that the rates are scaled to
	Tasks    int      `json:"tasks"`    // of each kind
	Ways     []probed `json:"ways"`
}

// probed is one way of checking.
type probed struct {
	Way      string  `json:"way"`
	Span     float64 `json:"spanSeconds"`
	Probes   int64   `json:"probes"`          // that were counted
	Here     float64 `json:"here"`            // measured: by the machine that the task runs on
	Far      float64 `json:"far"`             // measured: by each other machine
	OfFleet  float64 `json:"ofFleet"`         // scaled: by all machines of the fleet
	FarEvery float64 `json:"farEverySeconds"` // between two probes by one other machine
}

const probedTasks = 5 // of each kind

func (b *probesBench) run(ctx context.Context) (*probesResults, error) {
	r := &probesResults{Machines: b.machines, Fleet: b.fleet, Tasks: probedTasks}
	known := func(i int) haproxy.Options {
		return haproxy.Options{Node: []string{fmt.Sprintf("machine-%d", i)}, FleetSize: b.fleet}
	}
	o := known(0)
	far := o.FarInterval(0)
	span := b.span
	if span == 0 {
		span = 2 * far
	}
	for _, way := range []struct {
		name       string
		options    func(int) haproxy.Options
		warm, span time.Duration
	}{
		// Without a node every task counts as near. All machines start together: what is measured begins half an interval later, and lasts
		// for whole ones.
		{"every machine checks every task", func(int) haproxy.Options { return haproxy.Options{} }, 3 * time.Second, 20 * time.Second},
		{"near and far", known, far / 2, span},
	} {
		fmt.Fprintf(b.progress, "probes: %s, for %s\n", way.name, way.warm+way.span)
		one, err := b.way(ctx, way.options, way.warm, way.span)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		one.Way = way.name
		r.Ways = append(r.Ways, one)
	}
	return r, nil
}

// way counts the probes of tasks that are on one of the machines, and of tasks that are on none.
func (b *probesBench) way(ctx context.Context, options func(int) haproxy.Options, warm, span time.Duration) (p probed, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	s := &signalbox.Service{
		ID: "/probed:0", App: "/probed", Mode: signalbox.HTTP, Check: signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health"},
		Routes: []signalbox.Route{{Host: "probed.local", Path: "/"}},
	}
	var here, elsewhere atomic.Int64
	for i := range 2 * probedTasks {
		count, host := &here, fmt.Sprintf("machine-%d", i%b.machines)
		if i >= probedTasks {
			count, host = &elsewhere, "another"
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { count.Add(1) })}
		wg.Go(func() { _ = server.Serve(l) })
		defer server.Close()
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{
			Task: fmt.Sprintf("task-%02d", i), Host: host, Addr: netip.MustParseAddrPort(l.Addr().String()), State: signalbox.Up,
		})
	}
	for i := range b.machines {
		stop, err := startMachine(ctx, options(i), s)
		if err != nil {
			return p, err
		}
		defer stop()
	}
	count := func(d time.Duration) (float64, float64, error) {
		h, e := here.Load(), elsewhere.Load()
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(d):
		}
		return float64(here.Load() - h), float64(elsewhere.Load() - e), nil
	}
	if _, _, err := count(warm); err != nil {
		return p, err
	}
	h, e, err := count(span)
	if err != nil {
		return p, err
	}
	p.Span, p.Probes = span.Seconds(), int64(h+e)
	p.Far = e / probedTasks / float64(b.machines) / p.Span
	p.Here = h/probedTasks/p.Span - float64(b.machines-1)*p.Far
	p.OfFleet = p.Here + float64(b.fleet-1)*p.Far
	if p.Far > 0 {
		p.FarEvery = 1 / p.Far
	}
	return p, nil
}

// startMachine runs a HAProxy with one service, as a machine of the fleet has it.
func startMachine(ctx context.Context, o haproxy.Options, s *signalbox.Service) (stop func(), err error) {
	dir, err := os.MkdirTemp("/tmp", "sbprobes")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o.Dir, o.HTTPBind, o.ServiceBind, o.StatsSocket = dir, []string{l.Addr().String()}, "127.0.0.1", filepath.Join(dir, "stats.sock")
	o.MaxConn, o.Threads = 200, 1
	l.Close()
	files, err := haproxy.Render(haproxy.DefaultTemplate(), haproxy.Build(signalbox.NewTable([]*signalbox.Service{s}, nil), &o, nil))
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "haproxy.cfg")
	for _, f := range append(files.Maps, haproxy.File{Name: "haproxy.cfg", Data: files.Config}) {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "haproxy", "-db", "-f", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}, nil
}

func (r *probesResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "%d HAProxies ran, each as one machine of a fleet of %d; the last column is scaled: one machine as that of the task, all others as\nthose elsewhere. %d tasks of each kind, all healthy.\n\n",
		r.Machines, r.Fleet, r.Tasks)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way\tseconds\tprobes counted\tprobes/s of a task by its own machine\tby each other one\tby a fleet of "+fmt.Sprint(r.Fleet)+" (scaled)\t")
	for _, p := range r.Ways {
		fmt.Fprintf(t, "%s\t%.0f\t%d\t%.3f\t%.4f\t%.1f\t\n", p.Way, p.Span, p.Probes, p.Here, p.Far, p.OfFleet)
	}
	return t.Flush()
}
