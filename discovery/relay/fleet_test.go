package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
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
	if url := os.Getenv(asProcess); url != "" {
		takePart(url)
		return
	}
	goleak.VerifyTestMain(m)
}

// origin is what a Marathon would be: one state, which changes, and a count of who reads it.
type origin struct {
	mu      sync.Mutex
	state   []*signalbox.Service
	changed chan struct{} // closed with the next change
	err     error         // it does not answer
	readers map[string]bool
}

func newOrigin(state ...*signalbox.Service) *origin {
	return &origin{state: state, changed: make(chan struct{}), readers: map[string]bool{}}
}

func (o *origin) set(state ...*signalbox.Service) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = state
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *origin) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *origin) reading() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for name, ok := range o.readers {
		if ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// direct reads an origin for one node.
type direct struct {
	*origin
	node string
}

func (d *direct) Name() string { return "marathon" }

func (d *direct) Run(ctx context.Context, out chan<- discovery.Update, again <-chan struct{}) error {
	mark := func(is bool) {
		d.mu.Lock()
		d.readers[d.node] = is
		d.mu.Unlock()
	}
	mark(true)
	defer mark(false)
	for {
		d.mu.Lock()
		changed, now := d.changed, time.Now()
		u := discovery.Update{State: slices.Clone(d.state), Whole: true, Cause: "read", At: now, Event: now, Health: discovery.Health{Connected: true, Endpoint: "origin", LastRead: now}}
		if u.State == nil {
			u.State = []*signalbox.Service{}
		}
		if d.err != nil {
			u = discovery.Update{Health: discovery.Health{Err: d.err.Error()}}
		}
		d.mu.Unlock()
		select {
		case out <- u:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-changed:
		case <-again:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// service is one with a number of tasks.
func service(name string, tasks int) *signalbox.Service {
	s := &signalbox.Service{
		ID: signalbox.NewServiceID("/"+name, 0), Source: "marathon", App: "/" + name, Version: "2026-01-01T00:00:00Z", Mode: signalbox.HTTP,
		Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Routes: []signalbox.Route{{Host: name + ".local", Path: "/"}},
	}
	for i := range tasks {
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{
			Task: fmt.Sprintf("%s.%04d", name, i), Host: "slave", State: signalbox.Up,
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 31000),
		})
	}
	return s
}

// node is one controller of the fleet.
type node struct {
	t       *testing.T
	name    string
	source  *Source
	watcher *discovery.Watcher
	stop    func()

	mu    sync.Mutex
	table *signalbox.Table
	fell  string // a table had fewer services than least
	least int
}

func (n *node) String() string { return n.name }

// join starts a controller. Times are short: a beat is 300 ms.
func join(t *testing.T, o *origin, name string, store Store, change func(*Config)) *node {
	t.Helper()
	cfg := Config{Direct: &direct{o, name}, Store: store, Node: name, FleetSize: 3, Beat: 300 * time.Millisecond, Pace: 20 * time.Millisecond, Patience: 3 * time.Second}
	if change != nil {
		change(&cfg)
	}
	src, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, name: name, source: src}
	n.watcher = discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{src}, FirstWait: time.Minute})
	out := make(chan *discovery.Change)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.watcher.Run(ctx, out); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		for {
			select {
			case c := <-out:
				n.mu.Lock()
				n.table = c.Table
				if len(c.Table.Services) < n.least {
					n.fell = fmt.Sprintf("%s had a table of %d services, fewer than %d: %s", n.name, len(c.Table.Services), n.least, c.Cause)
				}
				n.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	n.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(func() {
		n.stop()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.fell != "" {
			t.Error(n.fell)
		}
	})
	return n
}

func (n *node) role() Role { return n.source.Standing().Role }

// keeps says that from now on no table may have fewer services.
func keeps(least int, nodes ...*node) {
	for _, n := range nodes {
		n.mu.Lock()
		n.least = least
		n.mu.Unlock()
	}
}

// served is what a table says, without where it comes from.
func (n *node) served() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.table == nil {
		return ""
	}
	return text(n.table.Services)
}

func text(state []*signalbox.Service) string {
	var b strings.Builder
	(&signalbox.Table{Services: state}).WriteTo(&b)
	return b.String()
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute it does not hold that %s", what)
		}
	}
}

// all waits until every node serves a state.
func all(t *testing.T, state []*signalbox.Service, nodes ...*node) {
	t.Helper()
	want := text(state)
	for _, n := range nodes {
		until(t, fmt.Sprintf("%s serves what there is; it %s, says %+v, and its state is %.300s", n.name, n.role(), n.watcher.Status()[0], n.served()), func() bool { return n.served() == want })
	}
}

// one waits until one of the nodes leads and the others follow it, and returns them.
func one(t *testing.T, nodes ...*node) (leader *node, followers []*node) {
	t.Helper()
	until(t, "one leads and the others follow", func() bool {
		leader, followers = nil, nil
		for _, n := range nodes {
			switch st := n.source.Standing(); st.Role {
			case Leads:
				if leader != nil {
					return false
				}
				leader = n
			case Follows:
				followers = append(followers, n)
			}
		}
		if leader == nil || len(followers) != len(nodes)-1 {
			return false
		}
		for _, f := range followers {
			if f.source.Standing().Leader != leader.name {
				return false
			}
		}
		return true
	})
	return leader, followers
}

var errSilent = errors.New("no answer")
