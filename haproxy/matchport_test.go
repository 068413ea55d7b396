package haproxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// A service port leads to its service whatever the name, and is not sent to https.
func TestMatchPortFollowsTheServicePort(t *testing.T) {
	shop, db := routed("/shop", "shop.local/"), &signalbox.Service{ID: "/db:0", App: "/db", Mode: signalbox.TCP, Listen: 3306}
	shop.Listen, shop.Endpoints = 10001, tasks(2)
	shop.Policy = signalbox.Policy{HTTPSRedirect: true, Sticky: "TASK"}
	c := Build(signalbox.NewTable([]*signalbox.Service{shop, db}, nil), testOptions(t.TempDir()), nil)
	want := `nobody.local /x: no route
name service port :10001 true
claim /shop:0 * wins=true: the service port is its own
to /shop:0 100 % shop:0 roundrobin 2 usable
  s1 shop.00 100 takes=true 
  s2 shop.01 100 takes=true 
sticky: the cookie TASK keeps a client at its task`
	if diff := cmp.Diff(want, said(c.MatchPort(10001, Request{Host: "nobody.local:10001", Path: "/x"}))); diff != "" {
		t.Errorf("by port (-want +got):\n%s", diff)
	}
	if a := c.MatchPort(3306, Request{}); a == nil || len(a.Destinations) != 1 || a.Destinations[0].Service != "/db:0" || len(a.Effects) != 0 {
		t.Errorf("a TCP service: %+v", a)
	}
	if a := c.MatchPort(80, Request{Host: "shop.local"}); a != nil {
		t.Errorf("nobody's port: %+v", a)
	}
	if a := c.Match(Request{Host: "shop.local", Path: "/"}); a.Status != 301 {
		t.Errorf("by name: %d, want 301", a.Status)
	}
}
