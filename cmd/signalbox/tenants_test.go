package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/haproxy"
)

func TestWhatBackendsCountIsTheirServices(t *testing.T) {
	config := func(names ...string) *haproxy.Config { // backend, service
		c := &haproxy.Config{}
		for i := 0; i < len(names); i += 2 {
			c.Backends = append(c.Backends, &haproxy.Backend{Name: names[i], Service: signalbox.ServiceID(names[i+1])})
		}
		return c
	}
	ok := func(n uint64) responses { return responses{0, n} }
	var all tenants
	all.take(config("a", "/a:0"), 0, nil) // before HAProxy runs
	all.take(config("a", "/a:0", "spare-1", "/b:0"), 7, map[string]responses{"a": ok(3)})
	// /b leaves its backend to /c, and comes back in another one; /a moves.
	all.take(config("spare-1", "/c:0", "spare-2", "/a:0"), 7, map[string]responses{"a": ok(10), "spare-1": ok(5)})
	all.take(config("spare-1", "/c:0", "spare-2", "/a:0", "spare-3", "/b:0"), 7, map[string]responses{"a": ok(11), "spare-1": ok(9), "spare-2": ok(1)})
	got := all.counts(7, map[string]responses{"a": ok(12), "spare-1": ok(10), "spare-2": ok(2), "spare-3": ok(4)})
	want := map[string]responses{"/a:0": ok(14), "/b:0": ok(9), "/c:0": ok(5)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	all.take(config("spare-1", "/d:0"), 0, nil)
	if got := all.counts(7, nil); got != nil {
		t.Errorf("of a worker that could not be asked when it mattered: %v", got)
	}
	all.take(config("spare-1", "/c:0"), 8, map[string]responses{})
	if got := all.counts(8, map[string]responses{"spare-1": ok(3)}); got["/c:0"] != ok(3) || got["/a:0"] != ok(0) {
		t.Errorf("after a reload: %v", got)
	}
}
