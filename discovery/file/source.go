package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/labels"
)

// Config configures a Source.
type Config struct {
	// Name names the source; default "static".
	Name string
	// Path is the file's.
	Path   string
	Labels labels.Options
	// Forbidden reports whether an address is one of this program's own entries. Nil: none is.
	Forbidden func(netip.AddrPort) bool
	// Every is the time between two looks at the file; default 1 s.
	Every time.Duration
	// Resolver resolves host names; default: one of its own.
	Resolver *discovery.Resolver
	Log      logrus.FieldLogger // nil discards
}

// Source follows one file of static services. A change is taken once the file has stayed the same from one look to the next, so that
// one that is being written is not read half.
type Source struct {
	cfg      Config
	resolver *discovery.Resolver
	log      logrus.FieldLogger

	// Of the goroutine that runs.
	state   []*signalbox.Service // the newest
	entries []entry              // of the last good file
	content []byte               // that was read last, good or bad
	seen    stamp                // of the last look
	read    stamp                // of content
	good    bool                 // entries are those of a file that was read
	broken  error                // why content, or the file, is no good
	health  discovery.Health

	shown atomic.Pointer[[]entry] // entries, for everybody; they are not changed any more
}

var (
	_ discovery.Source = (*Source)(nil)
	_ discovery.Seeder = (*Source)(nil)
)

// stamp tells two states of a file apart without reading it.
type stamp struct{ info os.FileInfo }

func (s stamp) same(o stamp) bool {
	return s.info != nil && o.info != nil && os.SameFile(s.info, o.info) && s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size()
}

// reportEvery is the time between two reports of a file in which nothing changes.
const reportEvery = 30 * time.Second

// New returns a source, or says what is wrong with cfg. It reads nothing: a file may come later.
func New(cfg Config) (*Source, error) {
	if !filepath.IsAbs(cfg.Path) {
		return nil, fmt.Errorf("the path %q of the static services is not absolute", cfg.Path)
	}
	if cfg.Name == "" {
		cfg.Name = "static"
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Resolver == nil {
		cfg.Resolver = discovery.NewResolver(discovery.ResolverConfig{})
	}
	cfg.Log = discovery.LoggerOr(cfg.Log)
	return &Source{cfg: cfg, resolver: cfg.Resolver, log: cfg.Log.WithField("source", cfg.Name), health: discovery.Health{Endpoint: cfg.Path}}, nil
}

// Name implements discovery.Source.
func (s *Source) Name() string { return s.cfg.Name }

// Seed implements discovery.Seeder: what was stored stands in for entries and names that cannot be read now.
func (s *Source) Seed(state []*signalbox.Service) { s.state = state }

// Readings returns what became of each label of a service, as the last good file has it. False: that has no such service.
func (s *Source) Readings(app string) ([]labels.Reading, bool) {
	if entries := s.shown.Load(); entries != nil {
		for i := range *entries {
			if e := &(*entries)[i]; e.name == app {
				return labels.Read(e.name, e.labels, e.ports(), s.cfg.Labels), true
			}
		}
	}
	return nil, false
}

// Run implements discovery.Source.
func (s *Source) Run(ctx context.Context, out chan<- discovery.Update, again <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	moves := make(chan []discovery.HostChange)
	resolving := make(chan struct{})
	go func() {
		defer close(resolving)
		s.resolver.Run(ctx, func(c []discovery.HostChange) {
			select {
			case moves <- c:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { cancel(); <-resolving }()

	look := time.NewTicker(s.cfg.Every)
	defer look.Stop()
	pending := s.look(ctx, true)
	reported := time.Now()
	for {
		var send chan<- discovery.Update
		var update discovery.Update
		if pending != nil {
			send, update = out, *pending
			update.Health = s.health
		}
		select {
		case <-ctx.Done():
			return nil
		case send <- update:
			pending, reported = nil, time.Now()
		case <-look.C:
			pending = newer(pending, s.look(ctx, false))
			if pending == nil && time.Since(reported) > reportEvery {
				pending = &discovery.Update{Cause: "health", At: time.Now()}
			}
		case <-again:
			pending = newer(pending, s.look(ctx, true))
		case c := <-moves:
			if s.good {
				s.log.WithField("host", c[0].Host).Info("a host has another address")
				pending = newer(pending, s.convert(ctx, "address of "+c[0].Host, time.Now()))
			}
		}
	}
}

// newer returns the update to send of one that waits and one that has come. What the first explained stays explained.
func newer(waiting, now *discovery.Update) *discovery.Update {
	switch {
	case now == nil:
		return waiting
	case waiting == nil:
		return now
	}
	if now.State == nil {
		now.State, now.Problems, now.Whole, now.Cause = waiting.State, waiting.Problems, waiting.Whole, waiting.Cause
	}
	now.Explained = waiting.Explained.And(now.Explained)
	return now
}

// look looks at the file, and returns what is new, or nil. At once, it does not wait for the file to settle.
func (s *Source) look(ctx context.Context, atOnce bool) *discovery.Update {
	began := time.Now()
	info, err := os.Stat(s.cfg.Path)
	if err != nil {
		s.seen, s.read, s.content = stamp{}, stamp{}, nil
		return s.fail(ctx, err)
	}
	now := stamp{info}
	settled := atOnce || now.same(s.seen)
	s.seen = now
	if !settled {
		return nil
	}
	if !atOnce && now.same(s.read) {
		if s.broken == nil {
			s.health.LastRead = began
		}
		return nil
	}
	content, err := readBounded(s.cfg.Path)
	if err != nil {
		return s.fail(ctx, err)
	}
	s.read = now
	if bytes.Equal(content, s.content) && s.content != nil && !atOnce {
		if s.broken == nil {
			s.health.LastRead = began
		}
		return nil
	}
	s.content = content
	entries, err := parse(content)
	if err != nil {
		return s.fail(ctx, err)
	}
	if s.broken != nil {
		s.log.Info("the file of static services is good again")
	}
	s.entries, s.good, s.broken = entries, true, nil
	s.health.LastRead, s.health.Err, s.health.Connected = began, "", true
	return s.convert(ctx, "file "+filepath.Base(s.cfg.Path), began)
}

// readBounded reads a regular file. Nothing else is opened: a pipe would hold up everything until somebody writes to it.
func readBounded(path string) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return b, err
}

// fail notes why the file cannot be used, and returns the last good services with that as a problem.
func (s *Source) fail(ctx context.Context, err error) *discovery.Update {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // the message names the file anyway
	}
	if s.broken != nil && s.broken.Error() == err.Error() {
		return nil
	}
	s.broken = err
	s.health.Connected, s.health.Err = false, fmt.Sprintf("%s cannot be used: %s; the last good services stay", s.cfg.Path, err)
	s.log.WithError(err).Error("the file of static services cannot be used; the last good services stay")
	if !s.good {
		return &discovery.Update{Cause: "health", At: time.Now()}
	}
	return s.convert(ctx, "file "+filepath.Base(s.cfg.Path), time.Now())
}

// convert makes an update of the last good entries.
func (s *Source) convert(ctx context.Context, cause string, at time.Time) *discovery.Update {
	var missing []string
	in := surroundings{
		source: s.cfg.Name, labels: s.cfg.Labels, addresses: discovery.Addresses{Loopback: true, Forbidden: s.cfg.Forbidden},
		before: s.state,
		resolve: func(host string) (netip.Addr, bool) {
			a, ok := s.resolver.Lookup(host)
			if !ok {
				missing = append(missing, host)
			}
			return a, ok
		},
	}
	entries := s.entries
	s.shown.Store(&entries)
	services, problems := convert(entries, in)
	if len(missing) > 0 {
		s.resolver.Prefetch(ctx, missing)
		services, problems = convert(s.entries, in)
	}
	if s.broken != nil {
		problems = append(problems, signalbox.Problem{
			Code: "SB310", Severity: signalbox.SeverityError, Label: "file", Value: s.cfg.Path,
			Message: "it cannot be used: " + s.broken.Error(), Action: "the last good services stay",
		})
	}
	i := 0
	signalbox.Walk(s.state, services, func(old, now *signalbox.Service) {
		if now == nil {
			return
		}
		if old != nil && old.Equal(now) {
			services[i] = old // an unchanged service keeps its pointer
		}
		i++
	})
	if services == nil {
		services = []*signalbox.Service{} // nil says that there is no news
	}
	u := &discovery.Update{State: services, Problems: problems, Whole: true, Cause: cause, At: at, Explained: absent(s.state, services)}
	s.state = services
	return u
}

// absent explains what a state lacks of the one before: the file is the whole truth about its services.
func absent(before, now []*signalbox.Service) discovery.Explained {
	x := discovery.Explained{Apps: map[string]bool{}, Tasks: map[string]bool{}}
	signalbox.Walk(before, now, func(old, s *signalbox.Service) {
		if old == nil || old == s {
			return
		}
		if s == nil {
			x.Apps[old.App] = true
		}
		for _, e := range old.Endpoints {
			x.Tasks[e.Task] = true
		}
	})
	return x
}
