package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/discovery/consul"
	"signalbox/discovery/file"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/discovery/zookeeper"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/metrics"
	"signalbox/metrics/hub"
	"signalbox/metrics/sink"
	"signalbox/metrics/statsd"
	"signalbox/templates"
)

// The times of the controller's own rounds.
const (
	sampleEvery = 2 * time.Second // between two looks at the program's own metrics, for health
	readEvery   = 5 * time.Second // between two looks at the operator's directories: certificates, lists of users, error pages
	historyKept = 10 * time.Minute
)

// accessRing is the template's name of the ring with the access log.
const accessRing = "access"

// controller is the whole of signalbox on one machine, wired: what Marathon says goes in at watcher, what HAProxy logs goes in at
// receiver, and nothing flows back.
type controller struct {
	settings  *settings
	transient bool // it only asks once, for a verb, and leaves nothing behind
	journal   *journal
	started   time.Time
	node      string // this machine's name

	watcher      *discovery.Watcher
	options      *haproxy.Options // at the start; current has what the operator has changed since
	current      atomic.Pointer[haproxy.Options]
	template     *haproxy.Template
	certificates *control.Certificates
	given        *control.Given
	applier      *control.Applier
	supervisor   *control.Supervisor // nil: HAProxy is somebody else's
	history      *metrics.History
	aggregator   *metrics.Aggregator
	receiver     *metrics.Receiver
	sinks        *sink.Pusher
	statsd       *statsd.Receiver
	oldWorkers   *control.OldWorkers
	feed         *control.LogFeed
	admin        *admin.Server
	scrape       *admin.Remote
	hubs         *hub.Pusher
	recent       *recentMetrics
	registry     *prometheus.Registry // every metric of the program

	wanted   atomic.Pointer[haproxy.Config]
	taking   func(ctx context.Context, next *haproxy.Config) // is told what HAProxy is about to be told; nil: nobody is
	lost     recently
	answered atomic.Int64 // when HAProxy's workers last gave their counters, in Unix nanoseconds; 0: not yet
	latency  prometheus.Histogram
	rotation prometheus.Histogram
	problems *problemLog

	readers   []reader // of the sources
	chronicle *chronicle
	register  *register
	holding   *holding
	orders    chan *order
}

// lifetime says how long a supervised HAProxy lives.
type lifetime struct {
	grace         time.Duration // for its connections, when the controller ends
	dieWithParent bool          // whatever ends the controller ends it
}

// sources returns what announces services, in order of precedence: no app may take the place of what the operator wrote. The second
// value collects the metrics of them all.
func (c *controller) sources() (sources []discovery.Source, collectors []prometheus.Collector, err error) {
	s := c.settings
	if s.Static != "" {
		static, err := c.static()
		if err != nil {
			return nil, nil, &exitError{code: exitUsage, err: err, try: "signalbox config"}
		}
		c.readers, sources = append(c.readers, static), append(sources, static)
	}
	if len(s.Marathon) > 0 {
		apps, members, err := c.marathon()
		if err != nil {
			return nil, nil, &exitError{code: exitUsage, err: err, try: "signalbox config"}
		}
		if members != nil {
			collectors = append(collectors, members)
		}
		var read discovery.Source = apps
		if s.Relay != "" {
			shared, err := c.relayed(apps)
			if err != nil {
				return nil, nil, &exitError{code: exitUsage, err: err, try: "signalbox config"}
			}
			read, collectors = shared, append(collectors, shared)
		}
		c.readers, sources, collectors = append(c.readers, apps), append(sources, read), append(collectors, apps)
	}
	if len(s.Consul) > 0 {
		catalog, err := c.consul()
		if err != nil {
			return nil, nil, &exitError{code: exitUsage, err: err, try: "signalbox config"}
		}
		c.readers, sources, collectors = append(c.readers, catalog), append(sources, catalog), append(collectors, catalog)
	}
	return sources, collectors, nil
}

func (c *controller) static() (*file.Source, error) {
	s := c.settings
	read := s.labelOptions()
	read.Strict = false // what stands in the operator's file is meant
	return file.New(file.Config{Path: s.Static, Labels: read, Forbidden: s.forbidden(), Log: c.journal.WithField("room", "file")})
}

// marathon returns what reads Marathon, and what knows its members if that is ZooKeeper.
func (c *controller) marathon() (*marathon.Source, *zookeeper.Members, error) {
	s := c.settings
	cfg := marathon.Config{
		URLs: s.Marathon, User: s.MarathonUser, PasswordFile: s.MarathonPasswordFile, TokenFile: s.MarathonTokenFile,
		CAFile: s.MarathonCAFile, Resync: s.Resync, FleetSize: s.FleetSize, UserAgent: "signalbox/" + version(),
		Convert: marathon.Options{
			Labels: s.labelOptions(),
			Health: marathon.Health(s.Health), AllowLoopback: s.AllowLoopback, PreferHostPort: s.PreferHostPort,
			Forbidden: s.forbidden(), ControlPorts: s.controlPorts(),
		},
		Deploying: func(app string, running bool) { c.history.Deploy(time.Now(), app, running) },
		Log:       c.journal.WithField("room", "marathon"),
	}
	var members *zookeeper.Members
	if s.election() != "" {
		m, err := c.directory()
		if err != nil {
			return nil, nil, err
		}
		members, cfg.URLs, cfg.Directory = m, nil, m
	}
	apps, err := marathon.New(cfg)
	return apps, members, err
}

func (c *controller) consul() (*consul.Source, error) {
	s := c.settings
	return consul.New(consul.Config{
		URLs: s.Consul, TokenFile: s.ConsulTokenFile, CAFile: s.ConsulCAFile, Datacenter: s.ConsulDatacenter,
		MaxStale: s.ConsulMaxStale, Watches: s.ConsulWatches, FleetSize: s.FleetSize,
		Convert: consul.Options{
			Labels: s.labelOptions(), AllowLoopback: s.AllowLoopback, Forbidden: s.forbidden(), ControlPorts: s.controlPorts(),
		},
		Log: c.journal.WithField("room", "consul"),
	})
}

// labelOptions says how the labels of apps are read.
func (s *settings) labelOptions() labels.Options {
	return labels.Options{Dialects: s.Labels, Strict: s.Strict, ServicePorts: labels.ServicePorts(s.ServicePorts), Groups: s.Group, RawTemplates: s.RawTemplates}
}

// hideSecrets keeps what the secrets' files hold out of the log.
func (c *controller) hideSecrets() error {
	for _, path := range []string{c.settings.MarathonPasswordFile, c.settings.MarathonTokenFile, c.settings.ConsulTokenFile, c.settings.RelayKeyFile, c.settings.ZooKeeperPasswordFile} {
		secret, err := readSecret(path)
		if err != nil {
			return &exitError{code: exitUsage, err: err}
		}
		c.journal.hide(secret)
	}
	return nil
}

// watch makes what keeps the last good state of the sources, and turns it into tables.
func (c *controller) watch(sources []discovery.Source) {
	s := c.settings
	c.watcher = discovery.NewWatcher(discovery.Config{
		Sources:  sources,
		StateDir: filepath.Join(s.StateDir, "sources"),
		Guard: discovery.Guard{
			Apps: s.QuarantineApps, Tasks: s.QuarantineTasks, AtLeast: s.QuarantineMin, Reads: s.QuarantineReads, Span: s.QuarantineSpan,
		},
		Settle: s.Settle,
		Log:    c.journal.WithField("room", "discovery"),
	})
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
	options, warning, err := s.options(dir)
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "signalbox config"}
	}
	if warning != "" {
		c.journal.Warn(warning)
	}
	c.options = options
	gid, err := groupID(s.HAProxyGroup)
	if err != nil {
		return err
	}
	log := c.journal.WithField("room", "haproxy")
	c.certificates = control.NewCertificates(s.Certificates, dir, log)
	checker := &control.Checker{Binary: s.HAProxyBin, User: s.CheckUser, Dir: dir}
	c.certificates.Try = func(pem []byte) error { return checker.TryCertificate(context.Background(), pem) }
	if err := c.certificates.Read(time.Now()); err != nil {
		return err
	}
	c.options.Certificates = c.certificates.List()
	c.given = control.NewGiven(s.UserLists, s.ErrorPages, c.options, log)
	c.current.Store(c.options)
	version, err := control.CheckBinary(context.Background(), s.HAProxyBin)
	c.options.LogPulled = err == nil && !version.SendsRings()
	c.options.AddServers = err == nil && version.AddsServers() && s.Template == "" // what another template says of servers is not known
	if s.HAProxy == "supervise" {
		if err != nil {
			return &exitError{code: exitUsage, err: err, try: "apt-get install haproxy, or --haproxy-bin with its path"}
		}
		c.supervisor = &control.Supervisor{
			Binary: s.HAProxyBin, Dir: dir, MasterSocket: s.masterSocket(), Grace: life.grace, DieWithParent: life.dieWithParent, Log: log,
			Free: func() error { return control.Free(c.options) },
		}
	}
	c.applier = control.New(control.Settings{
		Dir: dir, StatsSocket: c.options.StatsSocket, MasterSocket: s.masterSocket(), Template: c.template, Certificates: c.certificates,
		Publisher:  control.NewPublisher(dir, gid),
		Checker:    checker,
		Supervisor: c.supervisor, Generation: c.register.generation(), Told: c.register.told,
		Loads:          func(now time.Time) { c.history.Reload(now) },
		ReloadInterval: s.ReloadInterval, ReloadBurst: s.ReloadBurst, ReloadRefill: s.ReloadRefill, Drain: s.Drain, Log: log,
	})
	return nil
}

// accessLog opens the way back from HAProxy: what it logs, counted.
func (c *controller) accessLog() error {
	c.history = metrics.NewHistory(historyKept)
	c.node, _ = os.Hostname()
	c.aggregator = metrics.NewAggregator(metrics.AggregatorConfig{Node: c.node, Directory: c.history, Started: c.started, Derived: c.settings.derived})
	gid, err := groupID(cmp.Or(c.settings.LogSocketGroup, c.settings.HAProxyGroup))
	if err != nil {
		return err
	}
	foreign, err := c.settings.intakes()
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "signalbox config"}
	}
	c.receiver, err = metrics.Listen(metrics.ReceiverConfig{
		Foreign: foreign,
		Path:    c.options.LogSocket, GID: gid, Consumer: c.aggregator, Logger: c.journal.WithField("room", "metrics"),
	})
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("listening for the access log: %w", err), try: "--state-dir with a directory that no other signalbox uses, or other addresses for --log-listen"}
	}
	c.oldWorkers = &control.OldWorkers{
		StatsSocket: c.options.StatsSocket, Ring: accessRing, Take: c.aggregator.ConsumeRing, Log: c.journal.WithField("room", "haproxy"),
	}
	c.feed = &control.LogFeed{
		StatsSocket: c.options.StatsSocket, LogSocket: c.options.LogSocket, Ring: accessRing, Held: c.oldWorkers.Held,
		Log: c.journal.WithField("room", "haproxy"),
	}
	if c.options.LogPulled {
		c.oldWorkers.Followed = c.feed.Follows
	}
	return nil
}

// answer collects every metric of the program, those of the sources among them, and opens the admin listener.
func (c *controller) answer(sources []prometheus.Collector) error {
	s := c.settings
	registry, own := prometheus.NewRegistry(), prometheus.NewRegistry()
	c.registry = registry
	c.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "signalbox_change_seconds",
		Help:    "From when a source said that something changed until HAProxy did what follows from it.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	c.rotation = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "signalbox_out_of_rotation_seconds",
		Help:    "From when a source's event said that a task is dying until HAProxy had accepted the command to send it nothing more.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	c.recent = newRecentMetrics(own)

	addresses, err := s.adminAddresses()
	if err != nil {
		return &exitError{code: exitUsage, err: err}
	}
	c.admin, err = admin.New(admin.Config{
		Listen: addresses, TokenFile: s.adminTokenFile(), SocketGroup: s.AdminSocketGroup,
		Status: c.status, Services: c.services, Windows: c.windows, Render: c.render, Live: c.live, State: c.state, Why: c.why, Explain: c.explain, Watch: c.aggregator.Watch,
		Operate: c.operate(), Gatherer: registry, Web: templates.Web,
		Log: c.journal.WithField("room", "admin"),
	})
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("opening the admin listener: %w", err), try: "--admin with another address"}
	}
	c.scrape, err = admin.NewRemote(admin.RemoteConfig{
		Listen: s.MetricsListen, TokenFile: s.MetricsTokenFile, Open: []string{"/health"},
		Handler: admin.ForNodes(admin.ForScrapes(registry, func() signalbox.Level { return admin.Verdict(c.levels()) }), c.appliedNow),
	})
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "--metrics-listen with another address"}
	}
	for _, m := range append(sources, []prometheus.Collector{
		c.watcher, c.applier, c.certificates, c.receiver, c.latency, c.rotation, c.journal, newProblemCollector(c.allProblems), c.admin,
		c.register, c.holding, c.sinks, c.statsd, c.hubs,
	}...) {
		registry.MustRegister(m)
		own.MustRegister(m)
	}
	registry.MustRegister(
		c.aggregator, c.statsd.Series(), buildInfo(), newHostCollector(s.StateDir), healthCollector(c.levels),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
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
	if c.statsd != nil {
		if err := c.statsd.Close(); err != nil {
			c.journal.WithError(err).Warn("closing the sockets of StatsD")
		}
	}
	if c.scrape != nil {
		if err := c.scrape.Close(); err != nil {
			c.journal.WithError(err).Warn("closing the metrics listener")
		}
	}
	if c.admin != nil {
		if err := c.admin.Close(); err != nil {
			c.journal.WithError(err).Warn("closing the admin listener")
		}
	}
}
