package marathon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
)

// Config configures a Source.
type Config struct {
	// Name names the source; default "marathon".
	Name string
	// URLs are the members' addresses: http://host:port, with DC/OS' path prefix where there is one. At least one, unless there is a
	// Directory, which knows them instead.
	URLs      []string
	Directory Directory
	// User and PasswordFile ask for basic authentication, TokenFile for DC/OS' token. Secrets come from files only, are read anew
	// for each request, and are sent to no host other than those of URLs, or whom Directory names.
	User, PasswordFile, TokenFile string
	// CAFile holds the certificates that may sign the members'; "" takes the system's. Certificates are always verified.
	CAFile string
	// Convert is how apps become services. Verdict and Resolve are set by the Source.
	Convert Options
	// Resync is the mean time between whole reads while the event stream stands, 60 s by default; each is jittered by half.
	// ResyncDown is the same while it does not, 10 s by default.
	Resync, ResyncDown time.Duration
	// StreamIdle is how long the event stream may be silent; default 30 s, three of Marathon's heart-beats.
	StreamIdle time.Duration
	// Timeout bounds one request, its body included, 60 s by default; BodyIdle a silence within it, 15 s by default.
	Timeout, BodyIdle time.Duration
	// MaxBody bounds an answer after decompression, in bytes; default 256 MiB. MaxEvent bounds one event; default 8 MiB.
	MaxBody  int64
	MaxEvent int
	// FleetSize is how many slaves read the same Marathon; reads are spaced accordingly. Default 1.
	FleetSize int
	// Resolver resolves host names; default: one of its own.
	Resolver *discovery.Resolver
	// Deploying is told when a deployment begins to change an app, and when none does any more. It must not wait. nil: nobody is.
	Deploying func(app string, running bool)
	// UserAgent is sent with each request; default "signalbox".
	UserAgent string
	Log       logrus.FieldLogger // nil discards

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // for tests
}

// Directory knows the members of a Marathon whose addresses change.
type Directory interface {
	// Known returns the base URLs that were known last, the leader's first; none where nobody ever was.
	Known() []string
	// Trouble says why they may be old, "" while they are followed.
	Trouble() string
	// Run calls set with each new list, the leader's URL first, never an empty one, until ctx ends.
	Run(ctx context.Context, set func(urls []string))
}

// Source reads one Marathon: its event stream says where to look, reads of single apps and of everything say what is there.
type Source struct {
	cfg       Config
	client    *client
	resolver  *discovery.Resolver
	metrics   *sourceMetrics
	verdicts  verdicts
	wordings  wordings
	deploying deploying
	shapes    shapes
	model     *model
	current   atomic.Pointer[[]*signalbox.Service] // the model's state, for the goroutines that read
	readers   atomic.Int64                         // of this Marathon, of the fleet
	hasPods   atomic.Bool                          // Marathon answers questions about pods
	log       logrus.FieldLogger
}

var (
	_ discovery.Source = (*Source)(nil)
	_ discovery.Seeder = (*Source)(nil)
)

// New returns a source, or says what is wrong with cfg. It sends nothing.
func New(cfg Config) (*Source, error) {
	orDefault(&cfg.Name, "marathon")
	orDefault(&cfg.Resync, time.Minute)
	orDefault(&cfg.ResyncDown, 10*time.Second)
	orDefault(&cfg.StreamIdle, 30*time.Second)
	orDefault(&cfg.Timeout, time.Minute)
	orDefault(&cfg.BodyIdle, 15*time.Second)
	orDefault(&cfg.MaxBody, 256<<20)
	orDefault(&cfg.MaxEvent, 8<<20)
	orDefault(&cfg.FleetSize, 1)
	orDefault(&cfg.UserAgent, "signalbox")
	if cfg.Resolver == nil {
		cfg.Resolver = discovery.NewResolver(discovery.ResolverConfig{})
	}
	cfg.Log = discovery.LoggerOr(cfg.Log)
	if (len(cfg.URLs) == 0) == (cfg.Directory == nil) {
		return nil, errors.New("no Marathon URL is given")
	}
	ms, err := newMembers(cfg.URLs)
	if err == nil && cfg.Directory != nil {
		_, err = ms.replace(cfg.Directory.Known())
	}
	if err != nil {
		return nil, err
	}
	auth, err := newAuthorizer(cfg)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	metrics := newSourceMetrics()
	s := &Source{
		deploying: deploying{tell: cfg.Deploying},
		cfg:       cfg,
		client: &client{
			members: ms,
			http: &http.Client{
				Transport:     transport,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
			auth: auth, total: cfg.Timeout, idle: cfg.BodyIdle, limit: cfg.MaxBody, agent: cfg.UserAgent, metrics: metrics,
		},
		resolver: cfg.Resolver, metrics: metrics, model: newModel(), log: cfg.Log.WithField("source", cfg.Name),
	}
	s.Share(cfg.FleetSize)
	return s, nil
}

// Share says how many of the fleet read this Marathon from now on, in the place of Config.FleetSize.
func (s *Source) Share(readers int) { s.readers.Store(int64(readers)) }

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Name implements discovery.Source.
func (s *Source) Name() string { return s.cfg.Name }

// Seed implements discovery.Seeder: the verdicts of a stored state stand until Marathon says more. What an earlier run has read gives way.
func (s *Source) Seed(state []*signalbox.Service) {
	s.model = newModel()
	s.model.seed(state)
	s.verdicts.seed(state)
	s.current.Store(&state)
}
