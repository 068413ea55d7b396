package consul

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/labels"
)

// Config configures a Source.
type Config struct {
	// Name names the source; default "consul".
	Name string
	// URLs are those of this machine's agent, or of several servers of one cluster. At least one.
	URLs []string
	// TokenFile holds an ACL token, and is read anew for each request. CAFile holds the certificates that may sign Consul's; "" takes
	// the system's.
	TokenFile, CAFile string
	Datacenter        string // "": the agent's own
	Convert           Options
	// MaxStale is how old an answer may be, by its server's last contact with the leader; default 5 s. An older one is asked of the leader.
	MaxStale time.Duration
	// Watches bounds the blocking queries at one time, each of which is a connection; default 150, within the 200 that an agent allows
	// one client. More services than that take turns.
	Watches int
	// FleetSize is how many slaves read the same Consul: after an interruption they begin anew one after the other. Default 1.
	FleetSize int
	// Timeout bounds an answer, beside the time that a blocking query waits; default 5 s.
	Timeout time.Duration
	// Resolver resolves host names; default: one of its own.
	Resolver *discovery.Resolver
	Log      logrus.FieldLogger // nil discards

	pulse time.Duration // for how long the list of services is waited for; default 5 s
	grace time.Duration // for how long a history that has begun anew may lack what there was; default 5 min, within which agents register again
}

// The bounds of what is asked of Consul and taken from it.
const (
	maxReads    = 8 // reads that do not wait, at one time
	maxBody     = 64 << 20
	maxServices = 20_000
	dialTimeout = 2 * time.Second
)

// Source reads one Consul.
type Source struct {
	cfg      Config
	client   *client
	resolver *discovery.Resolver
	metrics  *sourceMetrics
	log      logrus.FieldLogger

	state []*signalbox.Service // the newest; of the goroutine that runs

	mu      sync.Mutex
	defined map[string]definition // by app
}

var (
	_ discovery.Source = (*Source)(nil)
	_ discovery.Seeder = (*Source)(nil)
)

// New returns a source, or says what is wrong with cfg. It sends nothing.
func New(cfg Config) (*Source, error) {
	orDefault(&cfg.Name, "consul")
	orDefault(&cfg.MaxStale, 5*time.Second)
	orDefault(&cfg.Watches, 150)
	orDefault(&cfg.FleetSize, 1)
	orDefault(&cfg.Timeout, 5*time.Second)
	orDefault(&cfg.pulse, 5*time.Second)
	orDefault(&cfg.grace, 5*time.Minute)
	if cfg.Resolver == nil {
		cfg.Resolver = discovery.NewResolver(discovery.ResolverConfig{})
	}
	cfg.Log = discovery.LoggerOr(cfg.Log)
	metrics := newSourceMetrics()
	c, err := newClient(&cfg, metrics)
	if err != nil {
		return nil, err
	}
	return &Source{
		cfg: cfg, client: c, resolver: cfg.Resolver, metrics: metrics, log: cfg.Log.WithField("source", cfg.Name),
		defined: map[string]definition{},
	}, nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Name implements discovery.Source.
func (s *Source) Name() string { return s.cfg.Name }

// Seed implements discovery.Seeder: what was stored stands in for what cannot be read now.
func (s *Source) Seed(state []*signalbox.Service) { s.state = state }

// Readings returns what became of each label of a service, as it was last read. False: no such service has been read.
func (s *Source) Readings(app string) ([]labels.Reading, bool) {
	s.mu.Lock()
	d, ok := s.defined[app]
	s.mu.Unlock()
	if !ok {
		return nil, false
	}
	return labels.Read(app, d.labels, d.ports, s.cfg.Convert.Labels), true
}

// define remembers what the labels of a service say, for Readings.
func (s *Source) define(name string, all []instance) {
	d := define(name, all, &s.cfg.Convert)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.ports == nil {
		delete(s.defined, appOf(name))
		return
	}
	s.defined[appOf(name)] = d
}

// surroundings returns what services are converted in; before finds services as they were.
func (s *Source) surroundings(before *signalbox.Table) *surroundings {
	return &surroundings{
		source: s.cfg.Name, options: &s.cfg.Convert, before: before.Service,
		resolve: func(host string) (netip.Addr, bool) { return s.resolver.Lookup(host) },
	}
}
