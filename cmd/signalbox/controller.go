package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/metrics"
	"signalbox/templates"
)

// The times of the controller's own rounds.
const (
	accountEvery = time.Second     // between two comparisons of counted records with HAProxy's own counters
	sampleEvery  = 2 * time.Second // between two looks at the program's own metrics, for health
	historyKept  = 10 * time.Minute
)

// accessRing is the template's name of the ring with the access log.
const accessRing = "access"

// controller is the whole of signalbox on one machine, wired: what Marathon says goes in at watcher, what HAProxy logs goes in at
// receiver, and nothing flows back.
type controller struct {
	settings *settings
	journal  *journal
	started  time.Time

	watcher    *discovery.Watcher
	options    *haproxy.Options
	template   *haproxy.Template
	applier    *control.Applier
	supervisor *control.Supervisor // nil: HAProxy is somebody else's
	history    *metrics.History
	aggregator *metrics.Aggregator
	receiver   *metrics.Receiver
	oldWorkers *control.OldWorkers
	admin      *admin.Server
	recent     *recentMetrics
	registry   *prometheus.Registry // every metric of the program

	wanted   atomic.Pointer[haproxy.Config]
	lost     recently
	latency  prometheus.Histogram
	problems *problemLog
}

// lifetime says how long a supervised HAProxy lives.
type lifetime struct {
	grace         time.Duration // for its connections, when the controller ends
	dieWithParent bool          // whatever ends the controller ends it
}

// newController wires a controller, and opens its sockets. Whoever does not call run calls close.
func newController(s *settings, j *journal, life lifetime) (c *controller, err error) {
	c = &controller{settings: s, journal: j, started: time.Now(), problems: newProblemLog(j)}
	dir := s.haproxyDir()
	for _, d := range []string{s.StateDir, dir} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			return nil, fmt.Errorf("making the state directory: %w (--state-dir names another one)", err)
		}
	}

	sources, source, err := c.sources()
	if err != nil {
		return nil, err
	}
	c.watcher = discovery.NewWatcher(discovery.Config{
		Sources:  sources,
		StateDir: filepath.Join(s.StateDir, "sources"),
		Guard: discovery.Guard{
			Apps: s.QuarantineApps, Tasks: s.QuarantineTasks, AtLeast: s.QuarantineMin, Reads: s.QuarantineReads, Span: s.QuarantineSpan,
		},
		Settle: s.Settle,
		Log:    j.WithField("room", "discovery"),
	})

	if err := c.haproxy(dir, life); err != nil {
		return nil, err
	}

	c.history = metrics.NewHistory(historyKept)
	node, _ := os.Hostname()
	c.aggregator = metrics.NewAggregator(metrics.AggregatorConfig{Node: node, Directory: c.history, Started: c.started})
	gid, err := groupID(s.LogSocketGroup)
	if err != nil {
		return nil, err
	}
	c.receiver, err = metrics.Listen(metrics.ReceiverConfig{
		Path: c.options.LogSocket, GID: gid, Consumer: c.aggregator, Logger: j.WithField("room", "metrics"),
	})
	if err != nil {
		return nil, fmt.Errorf("listening for the access log: %w", err)
	}
	c.oldWorkers = &control.OldWorkers{
		StatsSocket: c.options.StatsSocket, Ring: accessRing, Take: c.aggregator.ConsumeRing, Log: j.WithField("room", "haproxy"),
	}

	registry, own := prometheus.NewRegistry(), prometheus.NewRegistry()
	c.registry = registry
	c.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "signalbox_change_seconds",
		Help:    "From when a source said that something changed until HAProxy did what follows from it.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	all := []prometheus.Collector{
		c.watcher, source, c.applier, c.receiver, c.latency, j, newProblemCollector(c.allProblems),
	}
	c.recent = newRecentMetrics(own)

	addresses, err := s.adminAddresses()
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	c.admin, err = admin.New(admin.Config{
		Listen: addresses, TokenFile: s.adminTokenFile(), SocketGroup: s.AdminSocketGroup,
		Status: c.status, Services: c.services, Render: c.render, Gatherer: registry, Web: templates.Web,
		Log: j.WithField("room", "admin"),
	})
	if err != nil {
		return nil, &exitError{code: exitUsage, err: fmt.Errorf("opening the admin listener: %w", err), try: "--admin with another address"}
	}
	all = append(all, c.admin)
	for _, m := range all {
		registry.MustRegister(m)
		own.MustRegister(m)
	}
	registry.MustRegister(
		c.aggregator, buildInfo(), newHostCollector(s.StateDir),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return c, nil
}

// sources returns what announces services; the second value collects the metrics of them all.
func (c *controller) sources() ([]discovery.Source, prometheus.Collector, error) {
	s := c.settings
	source, err := marathon.New(marathon.Config{
		URLs: s.Marathon, User: s.MarathonUser, PasswordFile: s.MarathonPasswordFile, TokenFile: s.MarathonTokenFile,
		CAFile: s.MarathonCAFile, Resync: s.Resync, FleetSize: s.FleetSize, UserAgent: "signalbox/" + version(),
		Convert: marathon.Options{
			Labels: labels.Options{Dialects: s.Labels, ServicePorts: labels.ServicePorts(s.ServicePorts), Groups: s.Group},
			Health: marathon.Health(s.Health), AllowLoopback: s.AllowLoopback, Forbidden: s.forbidden(),
		},
		Log: c.journal.WithField("room", "marathon"),
	})
	if err != nil {
		return nil, nil, &exitError{code: exitUsage, err: err, try: "signalbox config"}
	}
	return []discovery.Source{source}, source, nil
}

// forbidden returns whether an address is one of this program's own entries: a task there would lead HAProxy to itself.
func (s *settings) forbidden() func(netip.AddrPort) bool {
	var ports []uint16
	for _, bind := range append(slices.Clone(s.HTTPBind), s.Admin...) {
		_, port, err := net.SplitHostPort(bind)
		if n, parseErr := strconv.ParseUint(port, 10, 16); err == nil && parseErr == nil {
			ports = append(ports, uint16(n))
		}
	}
	local := map[netip.Addr]bool{}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				local[p.Addr()] = true
			}
		}
	}
	return func(a netip.AddrPort) bool {
		return slices.Contains(ports, a.Port()) && (a.Addr().IsLoopback() || local[a.Addr()])
	}
}

// haproxy makes what decides about HAProxy and what acts on it.
func (c *controller) haproxy(dir string, life lifetime) error {
	s := c.settings
	c.template = haproxy.DefaultTemplate()
	if s.Template != "" {
		t, err := haproxy.LoadTemplate(s.Template)
		if err != nil {
			return &exitError{code: exitUsage, err: err}
		}
		c.template = t
	}
	limit, err := control.FDLimit()
	if err != nil {
		return err
	}
	maxConn, warning := control.MaxConn(limit, s.MaxConn, 0, 0)
	if warning != "" {
		c.journal.Warn(warning)
	}
	c.options = &haproxy.Options{
		Dir: dir, HTTPBind: s.HTTPBind, ServiceBind: s.ServiceBind,
		StatsSocket: filepath.Join(dir, "stats.sock"), LogSocket: filepath.Join(dir, "log.sock"),
		LogFormat: metrics.LogFormat, LogFormatTCP: metrics.LogFormatTCP,
		RingFormat: metrics.RingFormat, LogLine: metrics.MaxLine, RingBytes: metrics.RingBytes,
		MaxConn: maxConn, User: s.HAProxyUser, Group: s.HAProxyGroup,
		HardStopAfter: s.HardStopAfter, MaxReloads: s.MaxReloads, MinSlots: s.Slots,
	}
	if err := c.options.Validate(); err != nil {
		return &exitError{code: exitUsage, err: err}
	}
	gid, err := groupID(s.HAProxyGroup)
	if err != nil {
		return err
	}
	log := c.journal.WithField("room", "haproxy")
	if s.HAProxy == "supervise" {
		c.supervisor = &control.Supervisor{
			Binary: s.HAProxyBin, Dir: dir, MasterSocket: s.masterSocket(), Grace: life.grace, DieWithParent: life.dieWithParent, Log: log,
		}
	}
	c.applier = control.New(control.Settings{
		Dir: dir, StatsSocket: c.options.StatsSocket, MasterSocket: s.masterSocket(), Template: c.template,
		Publisher:  control.NewPublisher(dir, gid),
		Checker:    &control.Checker{Binary: s.HAProxyBin, User: s.CheckUser, Dir: dir},
		Supervisor: c.supervisor, ReloadInterval: s.ReloadInterval, Log: log,
	})
	return nil
}

// groupID returns the id of a group by its name, -1 for "".
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, &exitError{code: exitUsage, err: fmt.Errorf("looking up a group: %w", err)}
	}
	return strconv.Atoi(g.Gid)
}

// close releases what newController opened.
func (c *controller) close() {
	if c.admin != nil {
		if err := c.admin.Close(); err != nil {
			c.journal.WithError(err).Warn("closing the admin listener")
		}
	}
}

// run runs everything until ctx ends or a part fails. What produces ends before what consumes: the deciding parts first, then
// HAProxy, whose last words the log path still counts.
func (c *controller) run(ctx context.Context) error {
	defer c.close()
	logs := stage(ctx, c.receiver.Run, "receiving the access log")
	running, err := c.applier.Recover(ctx)
	if err != nil {
		c.journal.WithError(err).Warn("the running HAProxy could not be read back; it is told everything anew")
	}
	process := &part{}
	if c.supervisor != nil {
		process = stage(ctx, c.supervisor.Run, "supervising HAProxy")
	}
	kept := stage(ctx, c.oldWorkers.Run, "keeping old workers")

	changes := make(chan *discovery.Change)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.watcher.Run(ctx, changes) })
	g.Go(func() error { c.follow(ctx, running, changes); return nil })
	g.Go(func() error { return c.applier.Run(ctx) })
	g.Go(func() error { return c.admin.Run(ctx) })
	g.Go(func() error { c.account(ctx); return nil })
	g.Go(func() error { c.recent.run(ctx, sampleEvery); return nil })
	g.Go(func() error { c.alive(ctx); return nil })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, process.end(), kept.end(), logs.end())
}

// follow turns each table into what HAProxy should do.
func (c *controller) follow(ctx context.Context, running *haproxy.Config, changes <-chan *discovery.Change) {
	prev := running
	var table *signalbox.Table
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-changes:
			now := time.Now()
			feedHistory(c.history, table, change.Table, now)
			table = change.Table
			wanted := haproxy.Build(change.Table, c.options, prev)
			c.wanted.Store(wanted)
			c.problems.note(c.allProblems())
			_, err := c.applier.Apply(ctx, wanted)
			if err != nil && ctx.Err() == nil {
				c.journal.WithError(err).Error("applying a change")
			}
			if err == nil && !change.Event.IsZero() {
				c.latency.Observe(time.Since(change.Event).Seconds())
			}
			prev = wanted
			c.problems.note(c.allProblems())
		}
	}
}

// account keeps the rates of the last seconds, and compares what was counted with what HAProxy's workers say they served.
func (c *controller) account(ctx context.Context) {
	tick := time.NewTicker(accountEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c.aggregator.Tick(now)
			c.reconcile(ctx)
		}
	}
}

// alive tells systemd that the controller is up, and stays so.
func (c *controller) alive(ctx context.Context) {
	tell := func(state string) {
		if err := notify(state); err != nil {
			c.journal.WithError(err).Warn("systemd cannot be told")
		}
	}
	tell(notifyReady)
	defer tell(notifyStopping)
	every := watchdogInterval()
	if every == 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tell(notifyAlive)
		}
	}
}

// isSocket reports whether a path is a socket.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// part is something that runs on until it is told to end, longer than what it serves.
type part struct {
	stop context.CancelFunc
	done chan error
	what string
}

// stage starts a part that does not end with ctx, but by end.
func stage(ctx context.Context, run func(context.Context) error, what string) *part {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{stop: stop, done: make(chan error, 1), what: what}
	go func() { p.done <- run(ctx) }()
	return p
}

// end ends the part, waits, and returns what went wrong. A part that never began has nothing to say.
func (p *part) end() error {
	if p.stop == nil {
		return nil
	}
	p.stop()
	if err := <-p.done; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", p.what, err)
	}
	return nil
}
