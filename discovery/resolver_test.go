package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestResolverKeepsTheLastGoodAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		var mu sync.Mutex
		var answer []netip.Addr
		var fail error
		lookups := 0
		set := func(addrs []netip.Addr, err error) {
			mu.Lock()
			defer mu.Unlock()
			answer, fail = addrs, err
		}
		asked := func() int {
			mu.Lock()
			defer mu.Unlock()
			return lookups
		}
		r := NewResolver(ResolverConfig{LookupHost: func(context.Context, string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			lookups++
			return answer, fail
		}})
		if _, ok := r.Lookup("agent1"); ok || asked() != 0 {
			t.Fatal("Lookup waits, or knows what it cannot")
		}
		if got, ok := r.Lookup("::ffff:10.1.2.3"); !ok || got != netip.MustParseAddr("10.1.2.3") {
			t.Errorf("an address resolves to %v, %t", got, ok)
		}
		set([]netip.Addr{b, a}, nil)
		r.Prefetch(t.Context(), []string{"agent1"})
		if got, _ := r.Lookup("agent1"); got != a {
			t.Errorf("resolved to %v, want the lowest, %v", got, a)
		}

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var changes []HostChange
		go r.Run(ctx, func(c []HostChange) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, c...)
		})
		seen := func() []HostChange {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(changes)
		}
		keep := func(d time.Duration) { // somebody asks all the time
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Second) {
				r.Lookup("agent1")
			}
		}
		set([]netip.Addr{b, a}, nil)
		keep(5 * time.Minute)
		if got := seen(); len(got) != 0 {
			t.Errorf("changes %v while the address is still among the answers", got)
		}
		set(nil, errors.New("SERVFAIL"))
		keep(time.Hour)
		if got, ok := r.Lookup("agent1"); !ok || got != a {
			t.Errorf("after an hour of failures: %v, %t; want the last good %v", got, ok, a)
		}
		set([]netip.Addr{b}, nil)
		keep(2 * time.Minute)
		if diff := cmp.Diff([]HostChange{{"agent1", a, b}}, seen(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		time.Sleep(time.Hour)
		before := asked()
		time.Sleep(time.Hour)
		if asked() != before {
			t.Error("a name that nobody asks for is still looked up")
		}
	})
}

func TestResolverBoundsASlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewResolver(ResolverConfig{LookupHost: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		began := time.Now()
		r.Prefetch(t.Context(), []string{"a", "b", "c"})
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("three names took %s, want 2 s", d)
		}
		r.Prefetch(t.Context(), []string{"a", "b", "c"})
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("names that have just failed are tried again: %s", d)
		}
	})
}

// A storm of names that a dead server does not answer holds no read up for long, and asks for few at a time.
func TestResolverBoundsAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		r := NewResolver(ResolverConfig{LookupHost: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			now--
			mu.Unlock()
			return nil, ctx.Err()
		}})
		hosts := make([]string, 1000)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("agent%d", i)
		}
		began := time.Now()
		r.Prefetch(t.Context(), hosts)
		if d := time.Since(began); d > 4*time.Second || most > 16 {
			t.Errorf("%s for 1000 names, %d lookups at a time; want at most 4 s and 16", d, most)
		}
	})
}

func TestResolverChooses(t *testing.T) {
	for _, c := range []struct{ answers, current, want string }{
		{"10.0.0.2 10.0.0.1", "", "10.0.0.1"},
		{"10.0.0.2 10.0.0.1", "10.0.0.2", "10.0.0.2"},
		{"2001:db8::1 10.0.0.9", "", "10.0.0.9"},
		{"2001:db8::2 2001:db8::1", "", "2001:db8::1"},
		{"2001:db8::2 2001:db8::1", "2001:db8::9", "2001:db8::1"},
		{"::ffff:10.0.0.7", "", "10.0.0.7"},
	} {
		var answers []netip.Addr
		for text := range strings.FieldsSeq(c.answers) {
			answers = append(answers, netip.MustParseAddr(text))
		}
		var current netip.Addr
		if c.current != "" {
			current = netip.MustParseAddr(c.current)
		}
		if got := choose(answers, current); got.String() != c.want {
			t.Errorf("of %s after %q: %s, want %s", c.answers, c.current, got, c.want)
		}
	}
}
