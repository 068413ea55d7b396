package relay

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
)

// Config configures a Source.
type Config struct {
	// Direct is the source that the leader reads, and everybody when there is no relay. It runs, ends and runs again.
	Direct discovery.Source
	Store  Store
	// Node names this controller.
	Node string
	// KeyFile holds a secret that the whole fleet has: a head that was written without it is refused. "": none.
	KeyFile string
	// FleetSize is how many controllers share the relay. What all would do at once is spread accordingly. Default 1.
	FleetSize int
	// Beat is the longest time between two heads; default 5 s. A relay of which nothing was heard for three is stale.
	Beat time.Duration
	// Pace is the shortest time between two heads; default 100 ms, or half a millisecond for each of the fleet if that is more.
	Pace time.Duration
	// Patience is for how long a leader may fail to read before it leaves that to another one; default 6 beats.
	Patience time.Duration
	// Forbidden says that no task can be at an address as seen from this machine; nil: none is.
	Forbidden func(netip.AddrPort) bool
	// Check says what is wrong with a service that a leader with the same settings would not publish; nil: nothing is.
	Check func(*signalbox.Service) error
	Log   logrus.FieldLogger // nil discards
}

// Sharing is implemented by a direct source that reads the more gently the more of the fleet read beside it. Share may be called at any time.
type Sharing interface {
	Share(readers int)
}

// Role is what a controller does.
type Role string

// The roles of a controller.
const (
	Waits   Role = "waits"   // it has neither a relay nor a reason yet to read for itself
	Follows Role = "follows" // it takes what the leader publishes
	Leads   Role = "leads"   // it reads, and publishes
	Alone   Role = "alone"   // it reads for itself
)

// Standing is how a controller fares with the relay.
type Standing struct {
	Role       Role
	Leader     string    // node, as last heard; "": of none
	Generation uint64    // of the published state that this controller has; 0: none
	Moved      time.Time // when the relay was last heard of
}

// Source is a discovery.Source by way of a relay. It has the name of the direct source: whoever reads it, the state is the same.
type Source struct {
	cfg     Config
	key     []byte
	epoch   string // of this process
	metrics *sourceMetrics
	log     logrus.FieldLogger
	seeded  []*signalbox.Service

	mu       sync.Mutex
	standing Standing
}

var (
	_ discovery.Source = (*Source)(nil)
	_ discovery.Seeder = (*Source)(nil)
)

// New returns a source, or says what is wrong with cfg. It sends nothing.
func New(cfg Config) (*Source, error) {
	if cfg.Direct == nil || cfg.Store == nil {
		return nil, errors.New("a relay needs a source and a store")
	}
	cfg.FleetSize = cmp.Or(cfg.FleetSize, 1)
	cfg.Beat = cmp.Or(cfg.Beat, 5*time.Second)
	cfg.Pace = cmp.Or(cfg.Pace, max(100*time.Millisecond, min(time.Duration(cfg.FleetSize)*500*time.Microsecond, time.Second)))
	cfg.Patience = cmp.Or(cfg.Patience, 6*cfg.Beat)
	cfg.Node = cmp.Or(cfg.Node, "signalbox")
	s := &Source{cfg: cfg, metrics: newSourceMetrics(), standing: Standing{Role: Waits}}
	s.log = discovery.LoggerOr(cfg.Log).WithField("source", cfg.Direct.Name())
	if cfg.KeyFile != "" {
		b, err := os.ReadFile(cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the relay's key: %w", err)
		}
		s.key = []byte(strings.TrimSpace(string(b)))
		if len(s.key) < 16 {
			return nil, fmt.Errorf("reading the relay's key: %s has fewer than 16 bytes", cfg.KeyFile)
		}
	}
	b := make([]byte, 8)
	rand.Read(b)
	s.epoch = hex.EncodeToString(b)
	return s, nil
}

// Name implements discovery.Source.
func (s *Source) Name() string { return s.cfg.Direct.Name() }

// Seed implements discovery.Seeder.
func (s *Source) Seed(state []*signalbox.Service) { s.seeded = state }

// Standing returns how this controller fares with the relay.
func (s *Source) Standing() Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standing
}
