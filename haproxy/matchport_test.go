package haproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
	if owner := c.PortOwner(3306); owner != "/db:0" {
		t.Errorf("port 3306 is that of %q", owner)
	}
	if a := c.MatchPort(80, Request{Host: "shop.local"}); a != nil {
		t.Errorf("nobody's port: %+v", a)
	}
	if a := c.Match(Request{Host: "shop.local", Path: "/"}); a.Status != 301 {
		t.Errorf("by name: %d, want 301", a.Status)
	}
}

// Ports of the range, the entry by an app's id, and hosts whose TLS is passed through lead where no name does.
func TestAskFollowsEveryWayIn(t *testing.T) {
	o := testOptions(t.TempDir())
	o.HTTPSBind, o.AppIDBind, o.ServicePorts = []string{":18443"}, []string{":9091"}, PortRange{First: 10000, Last: 10009}
	shop, db := routed("/shop", "shop.local/"), &signalbox.Service{ID: "/db:0", App: "/db", Mode: signalbox.TCP, Listen: 10002}
	shop.Listen, shop.Endpoints, shop.Policy.HTTPSRedirect = 10001, tasks(1), true
	db.Endpoints, db.Policy.Allow = tasks(1), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	own := routed("/own", "own.local/", "*.own.local/")
	own.Mode, own.Endpoints, own.Policy.Passthrough = signalbox.TCP, tasks(1), true
	c := Build(signalbox.NewTable([]*signalbox.Service{shop, db, own}, nil), o, nil)
	for port, want := range map[int]signalbox.ServiceID{10001: "/shop:0", 10002: "/db:0", 10003: "", 80: ""} {
		if got := c.PortOwner(port); got != want {
			t.Errorf("port %d is that of %q, want %q", port, got, want)
		}
	}
	for _, q := range []struct {
		port int
		r    Request
		want string
	}{
		{10001, Request{Host: "localhost:10001"}, "by service port :10001 to /shop:0"},
		{10002, Request{}, "by service port :10002 to /db:0"},
		{10002, Request{Source: netip.MustParseAddr("192.0.2.1")}, "by service port :10002 to /db:0, 0: the connection is closed: 192.0.2.1 may not enter, only 10.0.0.0/8"},
		{10003, Request{}, "0: the connection is closed: no service has this port of the range"},
		{9091, Request{AppID: "/Shop"}, "by app id /Shop to /shop:0"},
		{9091, Request{AppID: "/none"}, "404: no app with this id, in X-Marathon-App-Id"},
		{443, Request{Host: "own.local", TLS: true}, "by server name own.local to /own:0"},
		{443, Request{Host: "a.own.local:443", TLS: true}, "by server name *.own.local to /own:0"},
		{443, Request{Host: "shop.local", TLS: true}, "by host shop.local to /shop:0"},
		{80, Request{Host: "own.local"}, "404: no route for this host"},
		{80, Request{Host: "shop.local"}, "by host shop.local to /shop:0, 301: sent to https://shop.local:18443"},
	} {
		a := c.Ask(q.port, q.r)
		var got []string
		if i := slices.IndexFunc(a.Names, func(n NameTried) bool { return n.Holds }); i >= 0 && len(a.Destinations) == 1 {
			got = append(got, fmt.Sprintf("by %s %s to %s", a.Names[i].Kind, a.Names[i].Name, a.Destinations[0].Service))
		}
		if a.Reason != "" {
			got = append(got, fmt.Sprintf("%d: %s", a.Status, a.Reason))
		}
		if got := strings.Join(got, ", "); got != q.want {
			t.Errorf("port %d, %+v: %s; want %s", q.port, q.r, got, q.want)
		}
	}
}

// A browser that asks whether a page may ask is answered here, if the page's origin is one of the label's.
func TestPreflightIsNoTasks(t *testing.T) {
	shop := routed("/shop", "shop.local/")
	shop.Endpoints, shop.Policy.CORS = tasks(1), []string{"https://app.local"}
	c := Build(signalbox.NewTable([]*signalbox.Service{shop}, nil), testOptions(t.TempDir()), nil)
	f := func(method, origin string, status int) {
		t.Helper()
		if a := c.Match(Request{Method: method, Host: "shop.local", Origin: origin}); a.Status != status {
			t.Errorf("%s from %q: %d, want %d", method, origin, a.Status, status)
		}
	}
	f("OPTIONS", "https://app.local", 204)
	f("OPTIONS", "https://other.local", 0)
	f("OPTIONS", "", 0)
	f("GET", "https://app.local", 0)
}

// Where tasks on this machine are preferred, they are told apart.
func TestMatchSaysWhichTasksComeFirst(t *testing.T) {
	o := testOptions(t.TempDir())
	o.Prefer, o.Node = PreferLocal, []string{"10.0.0.1"}
	shop := routed("/shop", "shop.local/")
	shop.Endpoints = tasks(2)
	shop.Endpoints[0].Addr, shop.Endpoints[1].Addr = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	a := Build(signalbox.NewTable([]*signalbox.Service{shop}, nil), o, nil).Match(Request{Host: "shop.local"})
	if s := a.Destinations[0].Servers; s[0].Why != "nearby: it comes first" || s[1].Why != "" {
		t.Errorf("%+v", s)
	}
}
