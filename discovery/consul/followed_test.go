package consul

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"signalbox"
	"signalbox/discovery"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// followed is a watcher of one Consul.
type followed struct {
	t       *testing.T
	source  *Source
	watcher *discovery.Watcher
	out     chan *discovery.Change
	table   *signalbox.Table
	least   int // number of services below which the table may not fall
	stop    func()
}

// followConsul follows a Consul until the end of the test. state is where the last good state is kept, "" for nowhere.
func followConsul(t *testing.T, cfg Config, state string) *followed {
	t.Helper()
	cfg.Convert.AllowLoopback = true
	src, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{t: t, source: src, out: make(chan *discovery.Change)}
	f.watcher = discovery.NewWatcher(discovery.Config{
		Sources: []discovery.Source{src}, StateDir: state, FirstWait: 100 * time.Millisecond,
		Guard: discovery.Guard{Apps: 0.2, Tasks: 0.5, AtLeast: 10, Reads: 3, Span: time.Hour},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.watcher.Run(ctx, f.out); err != nil {
			t.Error(err)
		}
	})
	f.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(f.stop)
	return f
}

// text is the table in one line: each service with its routes and tasks.
func (f *followed) text() string {
	var out []string
	if f.table != nil {
		for _, s := range f.table.Services {
			var parts []string
			for _, r := range s.Routes {
				parts = append(parts, r.String())
			}
			if s.Listen != 0 {
				parts = append(parts, fmt.Sprintf(":%d", s.Listen))
			}
			for _, e := range s.Endpoints {
				parts = append(parts, fmt.Sprintf("%s=%s", e.Addr, e.State))
			}
			out = append(out, string(s.ID)+" "+strings.Join(parts, " "))
		}
	}
	return strings.Join(out, "; ")
}

func (f *followed) take(c *discovery.Change) {
	f.t.Helper()
	f.table = c.Table
	if n := len(f.table.Services); n < f.least {
		f.t.Fatalf("a table has %d services, fewer than the %d that were good: %s", n, f.least, f.text())
	}
}

// expect waits until the table says what is wanted, the codes of its problems are those, and the source's status has detail.
func (f *followed) expect(want, detail string, codes ...string) {
	f.t.Helper()
	f.until(func() (bool, string) {
		var found []string
		if f.table != nil {
			for _, p := range f.table.AllProblems() {
				found = append(found, p.Code)
			}
		}
		got, st := f.text(), f.watcher.Status()[0]
		said := st.Detail + " " + st.Quarantined
		ok := got == want && strings.Contains(said, detail) && slices.Equal(slices.Compact(found), codes)
		return ok, fmt.Sprintf("the table has %q with problems %v, and the source says %q;\nwant %q, %v and %q", got, found, said, want, codes, detail)
	})
}

// until waits for something to hold.
func (f *followed) until(holds func() (bool, string)) {
	f.t.Helper()
	deadline := time.After(time.Minute)
	for {
		ok, last := holds()
		if ok {
			return
		}
		select {
		case c := <-f.out:
			f.take(c)
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			f.t.Fatal(last)
		}
	}
}

// during takes what comes while f runs: the table does not fall below its least.
func (f *followed) during(run func()) {
	f.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		run()
	}()
	for {
		select {
		case c := <-f.out:
			f.take(c)
		case <-done:
			return
		}
	}
}
