package marathon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"signalbox"
)

// Bounds of what is remembered and read of earlier versions.
const (
	maxEras     = 64               // of one app
	maxAwaited  = 64               // versions that one read waits for
	awaited     = 2 * time.Second  // how long a read waits for them
	versionsOff = 10 * time.Second // after a failure, until the version is asked for again
	manyReads   = 4                // of versions at one time
)

// version names one version of one app.
type version struct{ app, version string }

// shapes remembers the shapes that apps had in earlier versions, as long as tasks of these are there. Most are learned from the reads
// of the app itself, when the version was today's; what was before the first read is asked for. It is safe for concurrent use.
type shapes struct {
	mu      sync.Mutex
	apps    map[string][]era
	reading map[version]bool
}

// era is a span of versions of an app with one configuration: scalings make versions that leave it as it is.
type era struct {
	from, to time.Time
	shape    *shape    // nil: nobody knows it
	again    time.Time // when to ask again, zero: never
}

func (e *era) holds(at time.Time) bool { return !at.Before(e.from) && !at.After(e.to) }

// learn takes what a read says of an app's version of today, and forgets those that none of its tasks has.
func (s *shapes) learn(a *App) {
	from := a.Since()
	to, err := time.Parse(time.RFC3339Nano, a.Version)
	if err != nil || from.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apps == nil {
		s.apps = map[string][]era{}
	}
	eras := s.apps[a.ID]
	at := slices.IndexFunc(eras, func(e era) bool { return e.from.Equal(from) })
	if at < 0 {
		today := era{from: from, to: to, shape: a.shape()}
		if n := len(eras); n > 0 && reflect.DeepEqual(eras[n-1].shape, today.shape) {
			today.shape = eras[n-1].shape
		}
		at, eras = len(eras), append(slices.Clip(eras), today)
	} else if to.After(eras[at].to) {
		eras[at].to = to
	}
	if len(eras) > 1 {
		today := eras[at]
		eras = slices.DeleteFunc(slices.Clone(eras), func(e era) bool {
			return !e.from.Equal(today.from) && !slices.ContainsFunc(a.Tasks, func(t Task) bool {
				v, err := time.Parse(time.RFC3339Nano, t.Version)
				return err == nil && e.holds(v)
			})
		})
		if n := len(eras); n > maxEras {
			eras = eras[n-maxEras:]
		}
	}
	s.apps[a.ID] = eras
}

// ask reports whether a version is to be asked for, by nobody else meanwhile.
func (s *shapes) ask(v version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading == nil {
		s.reading = map[version]bool{}
	}
	asked := s.reading[v]
	s.reading[v] = true
	return !asked
}

// answered takes the answer to ask, to be asked again at a time, or with the zero time never.
func (s *shapes) answered(v version, sh *shape, again time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reading, v)
	at, err := time.Parse(time.RFC3339Nano, v.version)
	if err != nil {
		return
	}
	if s.apps == nil {
		s.apps = map[string][]era{}
	}
	eras := slices.DeleteFunc(slices.Clone(s.apps[v.app]), func(e era) bool { return e.shape == nil && e.holds(at) })
	s.apps[v.app] = append([]era{{from: at, to: at, shape: sh, again: again}}, eras...)
}

// of returns the shape of a version, nil if nobody knows it. known is false if it must be asked for.
func (s *shapes) of(v version) (sh *shape, known bool) {
	at, err := time.Parse(time.RFC3339Nano, v.version)
	if err != nil {
		return nil, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.apps[v.app] {
		if e.holds(at) {
			return e.shape, e.again.IsZero() || time.Now().Before(e.again)
		}
	}
	return nil, false
}

// keep forgets the apps that are not there any more.
func (s *shapes) keep(present func(app string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.apps, func(app string, _ []era) bool { return !present(app) })
}

// shapesFor returns a function for Options that notes the versions which must be asked for.
func (s *Source) shapesFor(missing map[version]bool) func(app, v string) (*shape, bool) {
	return func(app, v string) (*shape, bool) {
		name := version{app, v}
		sh, known := s.shapes.of(name)
		if !known {
			missing[name] = true
		}
		return sh, known
	}
}

// await reads those of the missing versions that tasks without a last known address have, and reports whether it read any. The others
// can wait: their tasks stay where they are.
func (s *Source) await(ctx context.Context, apps []*App, missing map[version]bool) bool {
	if len(missing) == 0 {
		return false
	}
	urgent := map[version]bool{}
	previous := s.previous()
	for _, app := range apps {
		for i := range app.Tasks {
			t := &app.Tasks[i]
			v := version{app.ID, t.Version}
			if missing[v] && !urgent[v] && len(urgent) < maxAwaited && t.presence() != absent && !placed(previous, app, t.ID) {
				urgent[v] = true
			}
		}
	}
	if len(urgent) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, awaited)
	defer cancel()
	s.readVersions(ctx, slices.Collect(maps.Keys(urgent)))
	clear(missing) // the next look at the apps notes what is still missing
	return true
}

// placed reports whether a task had an address before.
func placed(previous func(signalbox.ServiceID) *signalbox.Service, app *App, task string) bool {
	for i := range app.ports() {
		if s := previous(signalbox.NewServiceID(app.ID, i)); s != nil &&
			slices.ContainsFunc(s.Endpoints, func(e signalbox.Endpoint) bool { return e.Task == task }) {
			return true
		}
	}
	return false
}

// readVersions reads versions of apps, a few at a time. What cannot be read now counts as unknown to everybody for a while: then
// today's shape is taken for it. It reports whether it has asked for any that nobody else asks for.
func (s *Source) readVersions(ctx context.Context, all []version) bool {
	asked := false
	var wg sync.WaitGroup
	slots := make(chan struct{}, manyReads)
	for _, v := range all {
		if !s.shapes.ask(v) {
			continue
		}
		asked = true
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			sh, err := s.readVersion(ctx, v)
			var again time.Time
			if err != nil && !errors.Is(err, errNotFound) {
				s.log.WithError(err).Warn("an earlier version of an app could not be read; its tasks are taken to have today's ports")
				again = time.Now().Add(versionsOff)
			}
			s.shapes.answered(v, sh, again)
		})
	}
	wg.Wait()
	return asked
}

func (s *Source) readVersion(ctx context.Context, v version) (*shape, error) {
	app := &App{}
	err := s.client.get(ctx, "version", "/v2/apps/"+escapePath(v.app)+"/versions/"+escapePath(v.version), nil, func(r io.Reader) error {
		return json.NewDecoder(&cappedReader{r: r, left: s.cfg.MaxBody}).Decode(app)
	})
	if err != nil {
		return nil, fmt.Errorf("reading version %s of %s: %w", v.version, v.app, err)
	}
	return app.shape(), nil
}
