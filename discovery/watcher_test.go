package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"pgregory.net/rapid"

	"signalbox"
)

// script is a source that sends what the test hands it.
type script struct {
	name    string
	updates chan Update
	asked   atomic.Int64
	seeded  []*signalbox.Service
	err     error
}

func newScript(name string) *script { return &script{name: name, updates: make(chan Update)} }

func (s *script) Name() string                    { return s.name }
func (s *script) Seed(state []*signalbox.Service) { s.seeded = state }

func (s *script) Run(ctx context.Context, out chan<- Update, again <-chan struct{}) error {
	if s.err != nil {
		return s.err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			s.asked.Add(1)
		case u := <-s.updates:
			select {
			case out <- u:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// send hands over a whole state that was read now.
func (s *script) send(state []*signalbox.Service) {
	if state == nil {
		state = []*signalbox.Service{}
	}
	s.updates <- Update{State: state, Whole: true, At: time.Now(), Cause: "test", Health: Health{LastRead: time.Now(), Connected: true}}
}

// run starts a watcher, and returns its changes and what ends it.
func run(t *testing.T, cfg Config) (*Watcher, chan *Change, func()) {
	t.Helper()
	w := NewWatcher(cfg)
	out, stop := running(t, w)
	return w, out, stop
}

func running(t *testing.T, w *Watcher) (chan *Change, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan *Change)
	done := make(chan error)
	go func() { done <- w.Run(ctx, out) }()
	return out, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestNewestTableOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("a")
		_, out, stop := run(t, Config{Sources: []Source{src}})
		defer stop()
		for n := 1; n <= 20; n++ {
			src.send(apps(n, 1)) // nobody takes a table: the watcher must not wait
			time.Sleep(time.Second)
		}
		c := <-out
		if got := len(c.Table.Services); got != 20 {
			t.Errorf("the table has %d services, want the newest 20", got)
		}
		if c.Superseded != 19 {
			t.Errorf("Superseded = %d, want 19", c.Superseded)
		}
		synctest.Wait()
		select {
		case c := <-out:
			t.Errorf("a second table: %v", c)
		default:
		}
	})
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("a")
		w, out, stop := run(t, Config{Sources: []Source{src}, Settle: 100 * time.Millisecond})
		defer stop()
		began := time.Now()
		src.send(apps(1, 1))
		<-out
		if d := time.Since(began); d != 0 {
			t.Errorf("the first change took %s, want it at once", d)
		}
		for n := 2; n < 7; n++ {
			src.send(apps(n, 1))
		}
		c := <-out
		if d := time.Since(began); d != 100*time.Millisecond || len(c.Table.Services) != 6 {
			t.Errorf("after %s a table of %d, want one of 6 after 100ms", d, len(c.Table.Services))
		}
		if w.Table() != c.Table {
			t.Error("Table is not the newest")
		}
	})
}

func TestQuarantineAndConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("a")
		log, hook := logtest.NewNullLogger()
		w, out, stop := run(t, Config{Sources: []Source{src}, Log: log})
		defer stop()
		src.send(apps(100, 1))
		<-out
		began := time.Now()
		src.send(nil)
		synctest.Wait()
		st := w.Status()[0]
		if st.Level != signalbox.Degraded || st.Quarantined == "" || st.Apps != 100 {
			t.Errorf("status %+v, want 100 apps, degraded and quarantined", st)
		}
		if !slices.ContainsFunc(hook.AllEntries(), func(e *logrus.Entry) bool { return strings.Contains(e.Message, "held back") }) {
			t.Error("the log does not say that a state is held back")
		}
		for asked := 0; len(out) == 0; asked++ {
			time.Sleep(5*time.Second + time.Millisecond)
			if src.asked.Load() <= int64(asked) {
				t.Fatalf("the source was asked %d times after %s", src.asked.Load(), time.Since(began))
			}
			src.send(nil)
			synctest.Wait()
			if w.Status()[0].Quarantined == "" {
				break
			}
		}
		if c := <-out; len(c.Table.Services) != 0 {
			t.Errorf("a table of %d services, want none", len(c.Table.Services))
		}
		if d := time.Since(began); d < 15*time.Second || d > 17*time.Second {
			t.Errorf("confirmed after %s, want 15 s", d)
		}
	})
}

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("a")
		w, out, stop := run(t, Config{Sources: []Source{src}})
		defer stop()
		src.send(apps(100, 1))
		<-out
		if err := w.Accept(t.Context(), "a", time.Time{}, "root"); !errors.Is(err, ErrNothingHeld) {
			t.Errorf("Accept without a quarantine: %v", err)
		}
		if err := w.Accept(t.Context(), "b", time.Time{}, "root"); !errors.Is(err, ErrNoSource) {
			t.Errorf("Accept of an unknown source: %v", err)
		}
		began := time.Now()
		src.send(nil)
		synctest.Wait()
		held := w.Quarantines()
		if len(held) != 1 || held[0].Source != "a" || held[0].Apps != (Step{100, 0}) || held[0].Tasks != (Step{100, 0}) || len(held[0].Missing) != 100 ||
			held[0].MissingTasks != 100 || held[0].Reads != 1 || held[0].Needed != 3 || !held[0].Since.Equal(began) {
			t.Errorf("held back is %+v", held)
		}
		if err := w.Accept(t.Context(), "a", held[0].Since.Add(time.Second), "root"); !errors.Is(err, ErrMoved) {
			t.Errorf("Accept of another shrink: %v", err)
		}
		if err := w.Accept(t.Context(), "a", held[0].Since, "root"); err != nil {
			t.Fatal(err)
		}
		if c := <-out; len(c.Table.Services) != 0 || c.Cause != "a: accepted by root" {
			t.Errorf("a table of %d services for %q, want none", len(c.Table.Services), c.Cause)
		}
		if held := w.Quarantines(); len(held) != 0 {
			t.Errorf("%d are held back after Accept", len(held))
		}
	})
}

func TestExplainedShrinkPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("a")
		_, out, stop := run(t, Config{Sources: []Source{src}})
		defer stop()
		src.send(apps(100, 1))
		<-out
		gone := Explained{Apps: map[string]bool{}}
		for _, s := range apps(100, 1)[30:] {
			gone.Apps[s.App] = true
		}
		src.updates <- Update{Explained: gone, At: time.Now()} // the events come before the read
		src.send(apps(30, 1))
		if c := <-out; len(c.Table.Services) != 30 {
			t.Errorf("a table of %d services, want 30", len(c.Table.Services))
		}
	})
}

// TestEqualServicesKeepTheirPointers: a source that forgot its state and reads the same again changes nothing.
// An app that was deleted and made again is missed like any other, although its deletion was explained a minute ago.
func TestExplanationIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("marathon")
		w, out, stop := run(t, Config{Sources: []Source{src}})
		defer stop()
		full := apps(3, 2)
		src.send(full)
		<-out
		src.updates <- Update{State: full[1:], Whole: true, At: time.Now(), Explained: Explained{Apps: map[string]bool{full[0].App: true}}}
		if c := <-out; len(c.Table.Services) != 2 {
			t.Fatalf("%d services after the deletion, want 2", len(c.Table.Services))
		}
		src.send(full)
		if c := <-out; len(c.Table.Services) != 3 {
			t.Fatalf("%d services after the app was made again, want 3", len(c.Table.Services))
		}
		src.send(nil)
		time.Sleep(time.Second)
		if n := len(w.Table().Services); n != 3 {
			t.Errorf("%d services after an empty answer, want 3", n)
		}
	})
}

func TestEqualServicesKeepTheirPointers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScript("a")
		_, out, stop := run(t, Config{Sources: []Source{src}})
		defer stop()
		src.send(apps(100, 2))
		before := (<-out).Table
		src.send(apps(100, 2))
		time.Sleep(time.Second)
		select {
		case c := <-out:
			t.Errorf("a change without a difference: %v", signalbox.DiffText(before, c.Table))
		default:
		}
		src.send(apps(101, 2))
		after := (<-out).Table
		for i, s := range before.Services {
			if after.Services[i] != s {
				t.Fatalf("%s has another pointer", s.ID)
			}
		}
	})
}

func TestPrecedence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newScript("first"), newScript("second")
		_, out, stop := run(t, Config{Sources: []Source{first, second}, FirstWait: time.Minute})
		defer stop()
		mine, theirs := app("/x", 1), app("/x", 2)
		mine.Source, theirs.Source = "first", "second"
		began := time.Now()
		second.send([]*signalbox.Service{theirs, app("/y", 1)})
		time.Sleep(time.Second)
		first.send([]*signalbox.Service{mine})
		c := <-out
		if d := time.Since(began); d != time.Second {
			t.Errorf("the first table came after %s, want it once both sources have answered", d)
		}
		if c.Table.Service("/x:0") != mine || c.Table.Service("/y:0") == nil {
			t.Errorf("the table is %v", c.Table.Services)
		}
		if p := c.Table.Problems; len(p) != 1 || p[0].Code != "SB201" {
			t.Errorf("problems %v, want one SB201", p)
		}
	})
}

func TestFirstTableDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alive, dead := newScript("alive"), newScript("dead")
		_, out, stop := run(t, Config{Sources: []Source{alive, dead}, FirstWait: 10 * time.Second})
		defer stop()
		began := time.Now()
		alive.send(apps(1, 1))
		<-out
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("the first table came after %s, want 10 s", d)
		}
	})
}

func TestSourceThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newScript("good"), newScript("bad")
		bad.err = errors.New("no such thing")
		w, out, stop := run(t, Config{Sources: []Source{good, bad}})
		defer stop()
		good.send(apps(1, 1))
		<-out
		if st := w.Status()[1]; st.Level != signalbox.Failing || !strings.Contains(st.Detail, "no such thing") {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRestartServesTheSameRoutes(t *testing.T) {
	dir := t.TempDir()
	src := newScript("a")
	_, out, stop := run(t, Config{Sources: []Source{src}, StateDir: dir})
	src.send(apps(50, 3))
	before := (<-out).Table
	stop()

	src = newScript("a") // it stays silent: the origin is down
	w, out, stop := run(t, Config{Sources: []Source{src}, StateDir: dir})
	defer stop()
	after := (<-out).Table
	if !after.Equal(before) {
		t.Errorf("after a restart:\n%s", strings.Join(signalbox.DiffText(before, after), "\n"))
	}
	if len(src.seeded) != 50 {
		t.Errorf("the source was seeded with %d services, want 50", len(src.seeded))
	}
	if st := w.Status()[0]; st.Level != signalbox.Degraded || st.Apps != 50 {
		t.Errorf("status %+v, want degraded with 50 apps", st)
	}
	src.send(nil)
	for end := time.Now().Add(10 * time.Second); w.Status()[0].Quarantined == "" && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if st := w.Status()[0]; st.Quarantined == "" || st.Apps != 50 {
		t.Errorf("an empty answer after a restart: status %+v, want it held back", st)
	}
}

func TestDamagedStateFallsBack(t *testing.T) {
	dir := t.TempDir()
	s := store{dir: dir}
	enc := &encoder{}
	for n := 1; n <= 2; n++ {
		b, err := enc.encode(&stored{Source: "a", Services: apps(n, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.save("a", b); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(s.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(s.path("a"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := s.load("a")
		if err == nil || st == nil || len(st.Services) != 1 {
			t.Fatalf("cut at %d: state %v, error %v; want the previous generation and an error", cut, st, err)
		}
	}
	for at := range whole {
		flipped := slices.Clone(whole)
		flipped[at] ^= 1
		if _, err := decodeState(flipped); err == nil {
			t.Fatalf("a flipped bit in byte %d goes unnoticed", at)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("files %v, want two generations", left)
	}
	if _, err := s.load("b"); !errors.Is(err, errNoState) {
		t.Errorf("loading what was never stored: %v", err)
	}
}

func FuzzSnapshotFile(f *testing.F) {
	b, err := (&encoder{}).encode(&stored{Source: "a", Services: apps(3, 2)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add([]byte(stateMagic + "\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := decodeState(b)
		if (st == nil) == (err == nil) {
			t.Fatalf("state %v, error %v", st, err)
		}
	})
}

func TestMetricsAreWellFormed(t *testing.T) {
	w := NewWatcher(Config{Sources: []Source{newScript("a")}})
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(w); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Gather(); err != nil {
		t.Fatal(err)
	}
}

func TestDiffInTheLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		src := newScript("a")
		_, out, stop := run(t, Config{Sources: []Source{src}, Log: log, DiffLines: 5})
		defer stop()
		src.send(apps(100, 1))
		<-out
		if n := len(hook.AllEntries()); n != 6 {
			t.Errorf("%d log entries, want 5 lines and one for the rest", n)
		}
	})
}

// BenchmarkOneAppOf5000 is what one changed app costs the watcher.
func BenchmarkOneAppOf5000(b *testing.B) {
	src := newScript("a")
	w := NewWatcher(Config{Sources: []Source{src}})
	state := apps(5000, 3)
	s := w.slots[0]
	w.absorb(s, Update{State: state, Whole: true, At: time.Now()}, time.Now())
	w.make("test", time.Time{}, time.Now())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := slices.Clone(state)
		c := *state[2500]
		c.Endpoints = slices.Clone(c.Endpoints)
		c.Endpoints[0].State = signalbox.Down
		c.Version = time.Now().String()
		next[2500] = &c
		state = next
		w.absorb(s, Update{State: state, At: time.Now()}, time.Now())
		if w.make("test", time.Time{}, time.Now()) == nil {
			b.Fatal("no change")
		}
	}
}

// BenchmarkSave5000 is one write of the state of 5,000 apps of which one changed.
func BenchmarkSave5000(b *testing.B) {
	state := apps(5000, 3)
	enc := &encoder{}
	dir := store{dir: b.TempDir()}
	b.ReportAllocs()
	for b.Loop() {
		state = slices.Clone(state)
		c := *state[2500]
		state[2500] = &c
		text, err := enc.encode(&stored{Source: "a", Services: state})
		if err == nil {
			err = dir.save("a", text)
		}
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
	}
}

// Whatever one source says or suffers, the services of another stay in every table, by their pointers; and what a source lost counts
// against its own size, not against that of all.
func TestOneSourceNeverShrinksAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 1))
			busy, quiet := newScript("busy"), newScript("quiet")
			_, out, stop := run(t, Config{Sources: []Source{busy, quiet}})
			theirs := []*signalbox.Service{app("/db-1", 1), app("/db-2", 2), app("/db-3", 0)}
			quiet.send(theirs)
			busy.send(apps(20, 3))
			for range 30 {
				switch rng.IntN(4) {
				case 0:
					quiet.updates <- Update{Health: Health{Err: "it cannot be reached"}}
				case 1:
					busy.updates <- Update{Health: Health{Err: "it cannot be reached"}}
				case 2:
					busy.send(apps(rng.IntN(30), rng.IntN(4)))
				case 3:
					quiet.send(theirs)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				select {
				case c := <-out:
					for _, s := range theirs {
						if c.Table.Service(s.ID) != s {
							t.Fatalf("seed %d: %s is gone from %v", seed, s.ID, c.Table.Services)
						}
					}
				default:
				}
			}
			stop()
		}
	})
}

// Of two sources the first has its way, every service is in the table once, and each that is not is a problem.
func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) origin {
			o := origin{name: name}
			for i := range 6 {
				if rapid.Bool().Draw(t, "there") {
					s := app(fmt.Sprintf("/app-%d", i), rapid.IntRange(0, 3).Draw(t, "tasks"))
					s.Source = name
					o.state = append(o.state, s)
				}
			}
			return o
		}
		a, b := draw("a"), draw("b")
		got := merge([]origin{a, b})
		for _, s := range a.state {
			if got.Service(s.ID) != s {
				t.Fatalf("%s of the first source is not in the table", s.ID)
			}
		}
		lost := 0
		for _, s := range b.state {
			if now := got.Service(s.ID); now == nil || now != s && now.Source != "a" {
				t.Fatalf("%s of the second source is not in the table", s.ID)
			} else if now != s {
				lost++
			}
		}
		if len(got.Problems) != lost || len(got.Services) != len(a.state)+len(b.state)-lost {
			t.Fatalf("%d services and %d problems of %d and %d services, %d of them twice", len(got.Services), len(got.Problems), len(a.state), len(b.state), lost)
		}
		// The root's own way to a table tells the same twins.
		if other := signalbox.NewTable(slices.Concat(b.state, a.state), nil); !other.Equal(got) {
			t.Fatalf("NewTable and merge differ: %v, %v", signalbox.DiffText(other, got), other.Problems)
		}
	})
}
