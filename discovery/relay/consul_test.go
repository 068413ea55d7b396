package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/consulserver"
)

func consulStore(t *testing.T, servers ...*consulserver.Server) *ConsulStore {
	t.Helper()
	cfg := ConsulConfig{Prefix: "signalbox/relay"}
	for _, s := range servers {
		cfg.URLs = append(cfg.URLs, s.URL)
	}
	s, err := NewConsulStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// fleet is three controllers with a relay in one Consul, which all serve what there is.
func fleet(t *testing.T, change func(*Config)) (*consulserver.Server, *origin, []*node) {
	t.Helper()
	server := consulserver.Start(t)
	o := newOrigin(service("a", 2), service("b", 3))
	var nodes []*node
	for _, name := range []string{"n1", "n2", "n3"} {
		nodes = append(nodes, join(t, o, name, consulStore(t, server), change))
	}
	all(t, o.state, nodes...)
	one(t, nodes...)
	keeps(2, nodes...)
	return server, o, nodes
}

// One reads, all have what it has read, and when it goes another one does.
func TestOneReadsForAll(t *testing.T) {
	t.Parallel()
	_, o, nodes := fleet(t, nil)
	leader, followers := one(t, nodes...)
	until(t, "only the leader reads", func() bool { return slices.Equal(o.reading(), []string{leader.name}) })
	for _, n := range nodes {
		st := n.watcher.Status()[0]
		want := "follows " + leader.name
		if n == leader {
			want = "leads the relay"
		}
		if !strings.Contains(st.Detail, want) || st.Name != "marathon" {
			t.Errorf("%s says %q of %q; want %q", n, st.Detail, st.Name, want)
		}
	}
	b := followers[0].table.Services[1]
	for i := range 5 {
		o.set(service("a", 3+i), o.state[1], service("c", i))
		all(t, o.state, nodes...)
	}
	if followers[0].table.Services[1] != b {
		t.Error("a service that did not change has a new pointer")
	}
	generation := followers[0].source.Standing().Generation
	leader.stop()
	until(t, "another one reads", func() bool { r := o.reading(); return len(r) == 1 && r[0] != leader.name })
	o.set(service("a", 6), service("b", 2), service("d", 1))
	all(t, o.state, followers...)
	one(t, followers...)
	if now := followers[0].source.Standing().Generation; now <= generation {
		t.Errorf("the generation was %d and is %d", generation, now)
	}
}

// Consul goes away: each controller reads for itself, with what there was until then, and comes back.
func TestConsulGoesAndReturns(t *testing.T) {
	t.Parallel()
	server, o, nodes := fleet(t, nil)
	server.Kill()
	for _, n := range nodes {
		until(t, n.name+" reads for itself", func() bool { return n.role() == Alone })
	}
	if st := nodes[0].watcher.Status()[0]; st.Level != signalbox.Degraded || !strings.Contains(st.Detail, "on its own: the relay is stale for") {
		t.Errorf("it says %q", st.Detail)
	}
	o.set(service("a", 5), service("b", 3), service("c", 1))
	all(t, o.state, nodes...)
	server.Start()
	server.Ready()
	leader, _ := one(t, nodes...)
	until(t, "only the leader reads", func() bool { return slices.Equal(o.reading(), []string{leader.name}) })
	o.set(service("a", 1), service("b", 3), service("d", 1))
	all(t, o.state, nodes...)
}

// Everything of Consul is lost: the leader publishes anew, and generations go on.
func TestConsulIsWiped(t *testing.T) {
	t.Parallel()
	server, o, nodes := fleet(t, nil)
	generation := nodes[0].source.Standing().Generation
	server.Kill()
	server.Wipe()
	server.Start()
	server.Ready()
	one(t, nodes...)
	o.set(service("a", 5), service("b", 3), service("c", 1))
	all(t, o.state, nodes...)
	if now := nodes[0].source.Standing().Generation; now <= generation {
		t.Errorf("the generation was %d and is %d", generation, now)
	}
}

// The keys alone are deleted: the leader writes them again, and who joins finds them.
func TestKeysAreDeleted(t *testing.T) {
	t.Parallel()
	server, o, nodes := fleet(t, nil)
	c := consulStore(t, server)
	term := &consulTerm{store: c}
	names, err := term.Names(t.Context())
	if err != nil || len(names) < 2 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range append(names, headName) {
		if err := term.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	late := join(t, o, "late", consulStore(t, server), nil)
	all(t, o.state, late)
	one(t, append(nodes, late)...)
	o.set(service("b", 1), service("c", 1))
	all(t, o.state, append(nodes, late)...)
}

// A chunk is damaged: who needs it reads for itself until the next base.
func TestChunkIsDamaged(t *testing.T) {
	t.Parallel()
	server, o, nodes := fleet(t, nil)
	term := &consulTerm{store: consulStore(t, server)}
	names, err := term.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, name := range names {
		if strings.HasPrefix(name, baseNames) {
			damaged++
			if err := term.Put(t.Context(), name, []byte("not what was written")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if damaged == 0 {
		t.Fatalf("there is no base: %v", names)
	}
	late := join(t, o, "late", consulStore(t, server), nil)
	until(t, "it reads for itself", func() bool { return late.role() == Alone })
	all(t, o.state, append(nodes, late)...)
	if st := late.watcher.Status()[0]; !strings.Contains(st.Detail, "on its own") {
		t.Errorf("it says %q", st.Detail)
	}
	for i := range 60 { // changes, until a base follows
		o.set(service("a", 10+i), service("b", 3))
		all(t, o.state, nodes[0])
	}
	one(t, append(nodes, late)...)
	all(t, o.state, append(nodes, late)...)
}

// Who does not lead any more can't publish, whatever it believes.
func TestDeposedLeaderCannotPublish(t *testing.T) {
	t.Parallel()
	server := consulserver.Start(t)
	s := consulStore(t, server)
	seen, err := s.Watch(t.Context(), Seen{})
	if err != nil || seen.Value != nil || seen.Held {
		t.Fatalf("%+v, %v", seen, err)
	}
	first, err := s.Claim(t.Context(), seen, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), seen, []byte("second")); err == nil {
		t.Fatal("two lead")
	}
	seen, err = s.Watch(t.Context(), seen)
	if err != nil || string(seen.Value) != "first" || !seen.Held {
		t.Fatalf("%+v, %v", seen, err)
	}
	server.Put("/v1/session/destroy/"+first.(*consulTerm).session, nil)
	seen, err = s.Watch(t.Context(), seen)
	if err != nil || string(seen.Value) != "first" || seen.Held {
		t.Fatalf("%+v, %v", seen, err)
	}
	second, err := s.Claim(t.Context(), seen, []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Publish(t.Context(), []byte("late"), map[string][]byte{"change/x": []byte("x")}); err == nil {
		t.Error("the first published")
	}
	if err := second.Publish(t.Context(), []byte("news"), map[string][]byte{"change/y": []byte("y")}); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(t.Context(), "change/x"); err == nil {
		t.Error("what the first wrote is there")
	}
	if b, err := s.Read(t.Context(), "change/y"); err != nil || string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
	<-first.Lost()
	first.Resign(t.Context())
	second.Resign(t.Context())
	if seen, err = s.Watch(t.Context(), Seen{}); err != nil || string(seen.Value) != "news" || seen.Held {
		t.Errorf("%+v, %v", seen, err)
	}
}

// A leader that can't read leaves the lead to one that can.
func TestLeaderThatCannotRead(t *testing.T) {
	t.Parallel()
	server := consulserver.Start(t)
	deaf, fine := newOrigin(), newOrigin(service("a", 2))
	deaf.fail(errSilent)
	n1 := join(t, deaf, "n1", consulStore(t, server), nil)
	until(t, "n1 leads", func() bool { return n1.role() == Leads })
	n2 := join(t, fine, "n2", consulStore(t, server), nil)
	all(t, fine.state, n1, n2)
	one(t, n1, n2)
	if n2.role() != Leads {
		t.Error("n2 does not lead")
	}
}

// Large tables fit the limits of the store.
func TestLargeTables(t *testing.T) {
	t.Parallel()
	server := consulserver.Start(t)
	var state []*signalbox.Service
	for i := range 1000 {
		state = append(state, service(fmt.Sprintf("app-%04d", i), 50))
	}
	o := newOrigin(state...)
	n1 := join(t, o, "n1", consulStore(t, server), func(c *Config) { c.Beat = 2 * time.Second })
	all(t, o.state, n1)
	n2 := join(t, o, "n2", consulStore(t, server), func(c *Config) { c.Beat = 2 * time.Second })
	all(t, o.state, n2)
	one(t, n1, n2)
	state = slices.Clone(state)
	state[500] = service("app-0500", 49)
	o.set(state...)
	all(t, o.state, n1, n2)
}
