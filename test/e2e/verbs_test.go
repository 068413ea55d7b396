package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signalbox/admin"
)

// What the verbs say of a controller that runs is what its HAProxy does.
func TestVerbsSayWhatHAProxyDoes(t *testing.T) {
	c := cluster(t)
	apps := map[string]map[string]string{
		"/shop":   {"signalbox.host": "shop.local"},
		"/cart":   {"signalbox.host": "shop.local", "signalbox.path": "/cart", "signalbox.strip-prefix": "true"},
		"/rival":  {"signalbox.host": "late.local shop.local", "signalbox.path": "/cart"},
		"/wild":   {"signalbox.host": "*.shop.local"},
		"/expr":   {"signalbox.host": `~api[0-9]+\.local`, "signalbox.path": "/v[0-9]+", "signalbox.path-match": "regex"},
		"/inside": {"signalbox.host": "inside.local", "signalbox.allow": "10.0.0.0/8"},
		"/typo":   {"signalbox.host": "typo.local", "signalbox.alow": "10.0.0.0/8"},
		"/moved":  {"signalbox.host": "moved.local", "signalbox.redirect-root": "/app"},
		"/none":   {"signalbox.host": "none.local"},
	}
	for _, id := range []string{"/shop", "/cart", "/rival", "/wild", "/expr", "/inside", "/typo", "/moved", "/none"} {
		app := demoApp(id, "", 1)
		app["labels"] = apps[id]
		if id == "/none" {
			app["instances"] = 0
		}
		put(t, c.URL(), "/v2/apps/"+id, app)
	}
	n := newNode(t, c.URL())
	n.run()
	for _, host := range []string{"shop.local", "x.shop.local", "moved.local"} {
		n.answers(host, "/x", 200)
	}
	n.answers("late.local", "/cart", 200)
	n.answers("shop.local", "/cart", 200)
	n.answers("api7.local", "/v1", 200)

	_, port, err := net.SplitHostPort(n.proxy)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, host := range []string{"shop.local", "SHOP.local.", "x.shop.local", "x.y.shop.local", "late.local", "api7.local", "api.local", "inside.local", "typo.local", "moved.local", "none.local", "nobody.local"} {
		for _, path := range []string{"/", "/cart", "/cart/1?a=b", "/carts", "/v1", "/v1/x"} {
			var said admin.Explanation
			text := n.verb("explain", "http://"+host+":"+port+path, "-o", "json", "--src", "127.0.0.1")
			if err := json.Unmarshal([]byte(text), &said); err != nil {
				t.Fatalf("explain %s%s: %v\n%s", host, path, err, text)
			}
			status, body := n.ask(host, path)
			want := said.Status
			for _, e := range said.Effects {
				if want == 0 {
					want = e.Status
				}
			}
			if want == 0 {
				want = http.StatusOK
			}
			if status != want {
				t.Errorf("%s%s: HAProxy answers %d, and explain says %d\n%s\n%s", host, path, status, want, body, text)
				continue
			}
			var answer struct{ Service string }
			if status == http.StatusOK {
				if err := json.Unmarshal([]byte(body), &answer); err != nil {
					t.Fatalf("%s%s: %v\n%s", host, path, err, body)
				}
				if len(said.Destinations) != 1 || said.Destinations[0].App != "/"+answer.Service {
					t.Errorf("%s%s: /%s answers, and explain says\n%s", host, path, answer.Service, text)
				}
			}
			compared++
		}
	}
	if compared != 72 {
		t.Errorf("%d requests were compared", compared)
	}

	contains := func(what, text string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q:\n%s", what, want, text)
			}
		}
	}
	states := map[string]admin.RouteState{}
	readStates := func() {
		var routes admin.Routes
		if err := json.Unmarshal([]byte(n.verb("routes", "-o", "json")), &routes); err != nil {
			t.Fatal(err)
		}
		for _, r := range routes.Routes {
			states[r.App+" "+r.Host+r.Path] = r.State
		}
	}
	// Marathon's verdict on the tasks comes after their first answers.
	eventually(t, "Marathon's checks pass", func() bool {
		readStates()
		return states["/shop shop.local/"] == admin.RouteOK && states["/cart shop.local/cart"] == admin.RouteOK
	}, func() string { return fmt.Sprint(states) })
	for row, want := range map[string]admin.RouteState{
		"/shop shop.local/": admin.RouteOK, "/cart shop.local/cart": admin.RouteOK, "/rival shop.local/cart": admin.RouteLost, "/none none.local/": admin.RouteEmpty,
		"/typo typo.local/": admin.RouteProblem,
	} {
		if states[row] != want {
			t.Errorf("the route %s is %q, want %q; all are %v", row, states[row], want, states)
		}
	}
	contains("why", n.verb("why", "/typo"), "SB102", "signalbox.allow", "closed")
	contains("why", n.verb("why", "/rival"), "shop.local/cart", "/cart:0")
	// The file follows within a second.
	eventually(t, "diff says no difference", func() bool { return strings.Contains(n.verb("diff"), "no difference") }, func() string { return n.verb("diff") })

	file := filepath.Join(t.TempDir(), "app.json")
	if err := os.WriteFile(file, []byte(`{"id": "/late", "ports": [0], "labels": {"signalbox.host": "shop.local"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	contains("lint", n.verb("lint", file), "0 errors")
	contains("lint --against", n.verb("lint", "--against", "running", file), "SB203", "/shop:0", "1 error")
}

// ask sends a request as it stands, and follows no redirect.
func (n *node) ask(host, path string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+n.proxy+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Host, req.Close = host, true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, readAll(n.t, resp.Body)
}
