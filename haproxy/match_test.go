package haproxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// said writes an answer as lines.
func said(a *Answer) string {
	var b strings.Builder
	route := "no route"
	if a.Route != nil {
		route = a.Route.String()
	}
	fmt.Fprintf(&b, "%s %s: %s", a.Host, a.Path, route)
	if a.Status != 0 {
		fmt.Fprintf(&b, ", answers %d: %s", a.Status, a.Reason)
	}
	for _, n := range a.Names {
		fmt.Fprintf(&b, "\nname %s %s %v", n.Kind, n.Name, n.Holds)
	}
	for _, c := range a.Claims {
		fmt.Fprintf(&b, "\nclaim %s %s wins=%v: %s", c.Service, c.Route, c.Wins, c.Why)
	}
	for _, d := range a.Destinations {
		fmt.Fprintf(&b, "\nto %s %d %% %s %s %d usable", d.Service, d.Percent, d.Backend, d.Balance, d.Usable())
		for _, s := range d.Servers {
			fmt.Fprintf(&b, "\n  %s %s %d takes=%v %s", cmpOr(s.Server, "-"), s.Task, s.Weight, s.Takes, s.Why)
		}
	}
	for _, e := range a.Effects {
		fmt.Fprintf(&b, "\n%s: %s", e.Label, e.Text)
	}
	return b.String()
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func TestMatchSaysWhy(t *testing.T) {
	cart := routed("/cart", "shop.local/cart", `~shop.local/v[0-9]`)
	cart.Endpoints = tasks(3)
	cart.Endpoints[1].State, cart.Endpoints[1].Why = signalbox.Down, "health check failing"
	cart.Endpoints[2].State = signalbox.Suspect
	cart.Policy = signalbox.Policy{
		StripPrefix: true, HTTPSRedirect: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		RequestHeaders: []signalbox.Header{{Name: "X-A", Value: "b"}},
	}
	young := routed("/young", "shop.local/cart")
	young.Since = time.Unix(5, 0)
	table := tableOf(
		cart, young, routed("/root", "shop.local/", "=shop.local/"), routed("/wild", "*.local/", "*.x.local/"), routed("/re", `/.*\.y\.local/ /`),
		routed("/any", "/any"), weighted(routed("/a", "split.local/"), 3), weighted(routed("/b", "split.local/"), 1),
	)
	c := Build(table, testOptions("/d"), nil)
	for _, q := range []struct {
		r    Request
		want string
	}{
		{Request{Host: "Shop.local:80", Path: "/cart/7", TLS: true, Source: netip.MustParseAddr("10.1.1.1")}, `
shop.local /cart/7: shop.local/cart
name host shop.local true
claim /cart:0 shop.local/cart wins=true: the longest prefix wins
claim /root:0 shop.local/ (exact) wins=false: the path is another one
claim /cart:0 shop.local/v[0-9] (regex) wins=false: the path is another one
claim /young:0 shop.local/cart wins=false: /cart:0 has the same route and is older
claim /root:0 shop.local/ wins=false: a longer prefix wins over it
claim /wild:0 *.local/ wins=false: shop.local (host) hides it
claim /any:0 */any wins=false: shop.local (host) hides it
to /cart:0 100 % cart:0 roundrobin 2 usable
  s1 shop.00 100 takes=true 
  s2 shop.01 100 takes=false health check failing
  s3 shop.02 1 takes=true suspect
allow: 10.1.1.1 may enter
strip-prefix: asks for GET /7
request-header: sets X-A: b`},
		{Request{Host: "shop.local", Path: "/cart", Query: "x=1"}, `
shop.local /cart: shop.local/cart, answers 301: sent to https://shop.local/cart?x=1`},
		{Request{Host: "shop.local", Path: "/cart", Source: netip.MustParseAddr("192.0.2.1")}, `
shop.local /cart: shop.local/cart, answers 403: 192.0.2.1 may not enter, only 10.0.0.0/8`},
		{Request{Host: "x.local.", Path: "/a%2fb"}, `
x.local /a%2fb: *.local/, answers 503: no task of /wild:0 takes requests
name host x.local false
name wildcard *.local true
claim /wild:0 *.local/ wins=true: the longest prefix wins
claim /any:0 */any wins=false: *.local (wildcard) hides it`},
		{Request{Host: "a.y.local", Path: "/"}, `
a.y.local /: ~.*\.y\.local/, answers 503: no task of /re:0 takes requests
name host a.y.local false
name wildcard *.y.local false
name regex ~.*\.y\.local true`},
		{Request{Host: "split.local"}, `
split.local /: split.local/, answers 503: no task of /a:0 takes requests
name host split.local true
claim /a:0 split.local/ wins=true: shares the route by weight: 3 has 75 % of the requests
claim /b:0 split.local/ wins=true: shares the route by weight: 1 has 25 % of the requests`},
		{Request{Host: "no", Path: "/x"}, `
no /x: no route, answers 404: no route for this host, and that of every host is for other paths
name host no false
name regex ~.*\.y\.local false
name every host * true
claim /any:0 */any wins=false: the path is another one`},
		{Request{Host: "shop.local", Path: "/a//b"}, `
shop.local /a//b: no route, answers 400: paths tell services apart here, and two programs may read this one differently`},
		{Request{Host: "shop local", Path: "/"}, `
shop local /: no route, answers 400: the Host is none`},
	} {
		got := said(c.Match(q.r))
		want := strings.TrimPrefix(q.want, "\n")
		if n := len(want); len(got) > n && !strings.Contains(want, "\nto ") {
			got = got[:n] // the case is about the lines that it says
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", q.r, diff)
		}
	}
}
