package haproxy

import (
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// routed is a service with routes of every kind: "shop.local/cart", "=shop.local/cart" for an exact path, "~shop.local/v[0-9]+" for
// the regular expression of a path, and "/api[0-9]+\.local/ /" for that of a host.
func routed(app string, routes ...string) *signalbox.Service {
	s := service(app, "")
	for _, text := range routes {
		r := signalbox.Route{}
		switch text[0] {
		case '=':
			r.Match, text = signalbox.Exact, text[1:]
		case '~':
			r.Match, text = signalbox.Regex, text[1:]
		}
		if host, path, ok := strings.Cut(text, " "); ok {
			r.Host, r.Path = "~"+strings.Trim(host, "/"), path
		} else {
			i := strings.IndexByte(text, '/')
			r.Host, r.Path = text[:i], text[i:]
		}
		s.Routes = append(s.Routes, r)
	}
	return s
}

func weighted(s *signalbox.Service, weight int) *signalbox.Service {
	s.Policy.Weight = &weight
	return s
}

func TestEveryKindOfNameAndPath(t *testing.T) {
	prior := routed("/prior", `/v[0-9]+\.re\.local/ /`)
	prior.Policy.Priority = 5
	prior.Endpoints = append(prior.Endpoints, task(t, "prior"))
	all := []*signalbox.Service{
		routed("/root", "shop.local/"), routed("/cart", "shop.local/cart"), routed("/exact", "=shop.local/cart", "=shop.local/cart/"),
		routed("/regex", `~shop.local/cart/[0-9]+`, `~shop.local/(en|de)/.*`), routed("/only", "=only.local/x"),
		routed("/wild", "*.shop.local/", "=*.shop.local/w"), routed("/hosts", `/.*\.re\.local/ /`, `/.*\.shop\.local/ /`),
		routed("/any", `~/any[0-9]`), prior,
	}
	for _, s := range all {
		if len(s.Endpoints) == 0 {
			s.Endpoints = append(s.Endpoints, task(t, s.App[1:]))
		}
	}
	l := start(t, tableOf(slices.Clone(all)...))
	for _, c := range []struct{ host, path, want string }{
		{"shop.local", "/", "root"},
		{"shop.local", "/cart", "exact"},
		{"shop.local", "/cart?x", "exact"},
		{"shop.local", "/cart/", "exact"},
		{"shop.local", "/cart/a", "cart"},
		{"shop.local", "/cart/12", "regex"},
		{"shop.local", "/cart/12/", "cart"},
		{"shop.local", "/de/a/b", "regex"},
		{"shop.local", "/fr/a/b", "root"},
		{"shop.local", "/en/" + strings.Repeat("x", 1100), "414"},
		{"only.local", "/x", "only"},
		{"only.local", "/", "no route for this path"},
		{"a.shop.local", "/", "wild"},
		{"a.shop.local", "/w", "wild"},
		{"a.b.shop.local", "/", "hosts"},
		{"x.re.local", "/", "hosts"},
		{"V1.RE.local.:80", "/", "prior"},
		{"re.local", "/", "no route for this host"},
		{"re.local", "/any7", "any"},
		{"re.local", "/any77", "no route for this host"},
		{hostToken(`~v[0-9]+\.re\.local`), "/", "400"},
		{"*.shop.local", "/", "400"},
		{"*", "/any7", "400"},
	} {
		code, body := l.get(c.host, c.path)
		if got := fmt.Sprintf("%d %s", code, body); !strings.Contains(got, c.want) {
			t.Errorf("%s%s: %s, want %s", c.host, c.path, got, c.want)
		}
	}
	// Exact paths come and go while it runs.
	before := all[2].Routes
	c := *all[2]
	c.Routes = before[:1]
	all[2] = &c
	l.become(tableOf(slices.Clone(all)...))
	if _, body := l.get("shop.local", "/cart/"); !strings.HasPrefix(body, "cart") {
		t.Errorf("an exact path that went: %s", body)
	}
	// Regular expressions do not: their order counts.
	d := *all[3]
	d.Routes = d.Routes[:1]
	all[3] = &d
	if p := Diff(l.now, Build(tableOf(slices.Clone(all)...), l.options, l.now)); len(p.Reasons) != 1 || p.Reasons[0] != RegexesChanged {
		t.Errorf("the reasons for a reload are %v", p.Reasons)
	}
}

// Services that share a route, each with a weight, split its traffic; a change of weights or tasks needs no reload.
// No path at all is "/", also for a name whose paths are told apart in every way.
func TestNoPathIsTheRoot(t *testing.T) {
	rest := routed("/rest", "shop.local/", `~shop.local/x[0-9]`, "=exact.local/", `~exact.local/x[0-9]`)
	rest.Endpoints = append(rest.Endpoints, task(t, "rest"))
	l := start(t, tableOf(rest))
	for _, line := range []string{"OPTIONS *", "GET http://%s", "OPTIONS http://%s", "GET /"} {
		for _, host := range []string{"shop.local", "exact.local"} {
			c, err := net.Dial("tcp", l.options.HTTPBind[0])
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", strings.ReplaceAll(line, "%s", host), host)
			if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				t.Errorf("%s at %s: %.60q %v", line, host, answer, err)
			}
		}
	}
}

func TestWeightsSplitTraffic(t *testing.T) {
	t.Parallel()
	one, two := task(t, "one"), task(t, "two")
	table := func(a, b int, tasks ...signalbox.Endpoint) *signalbox.Table {
		old, canary := weighted(routed("/old", "shop.local/", "=shop.local/x"), a), weighted(routed("/canary", "shop.local/", "=shop.local/x"), b)
		old.Endpoints, canary.Endpoints = tasks[:1], tasks[1:]
		return tableOf(old, canary)
	}
	l := start(t, table(90, 10, one, two))
	share := func(want int) {
		t.Helper()
		const n = 400
		got := 0
		for i := range n {
			code, body := l.get("shop.local", []string{"/", "/x"}[i%2])
			if code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			if strings.HasPrefix(body, "two") {
				got++
			}
		}
		// Five standard deviations: one run in two million fails by chance.
		p := float64(want) / 100
		if d := float64(got) - n*p; d*d > 25*n*p*(1-p) {
			t.Errorf("the canary got %d of %d requests, want %d %%", got, n, want)
		}
	}
	share(10)
	l.become(table(1, 1, one, two))
	share(50)
	l.become(table(1, 0, one, two))
	share(0)
	l.become(table(0, 3, one, two))
	share(100)
	off := two
	off.State = signalbox.Down
	l.become(table(50, 50, one, off))
	share(0)
	l.become(table(50, 50, one, two))
	share(50)
	solo := routed("/old", "shop.local/", "=shop.local/x")
	solo.Endpoints = []signalbox.Endpoint{one}
	l.become(tableOf(solo, weighted(routed("/canary"), 10)))
	share(0)
}

func TestSharesAddUp(t *testing.T) {
	for name, c := range map[string]struct{ weights, want []int }{
		"thirds":        {[]int{1, 1, 1}, []int{34, 33, 33}},
		"canary":        {[]int{95, 5}, []int{95, 5}},
		"off":           {[]int{100, 0}, []int{100, 0}},
		"nobody":        {[]int{0, 0}, []int{100, 0}},
		"no task":       {[]int{-50, 50, 50}, []int{0, 50, 50}},
		"no task, none": {[]int{-30, -10}, []int{75, 25}},
		"no task left":  {[]int{-30, 0}, []int{100, 0}},
		"large":         {[]int{256, 256, 256, 1}, []int{34, 33, 33, 0}},
	} {
		var claims []*claim
		for _, w := range c.weights {
			claims = append(claims, &claim{weight: max(w, -w), usable: w >= 0})
		}
		if diff := cmp.Diff(c.want, shares(claims)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestConflictsAreToldToBoth(t *testing.T) {
	low, high, old := routed("/low", "a.local/"), routed("/high", "a.local/"), routed("/old", "a.local/", "=a.local/x")
	low.Since, high.Since = time.Unix(9, 0), time.Unix(9, 0)
	high.Policy.Priority = 2
	c := Build(tableOf(weighted(low, 5), high, old), testOptions("/d"), nil)
	var got []string
	for _, p := range c.Problems {
		got = append(got, string(p.Severity)+" "+p.String())
	}
	want := []string{
		"warning SB207 /high: /low:0 asks for a.local/ too (/high:0 keeps it, because it has the higher priority, 2 over 0)",
		"warning SB207 /high: /old:0 asks for a.local/ too (/high:0 keeps it, because it has the higher priority, 2 over 0)",
		"error SB203 /low: a.local/ belongs to /high:0, which has the higher priority, 2 over 0 (/low:0 is not reached under this name)",
		"error SB203 /old: a.local/ belongs to /high:0, which has the higher priority, 2 over 0 (/old:0 is not reached under this name)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// A split with a service whose backend does not run yet stays as it was until the reload.
func TestASplitWaitsForItsBackends(t *testing.T) {
	o := testOptions("/d")
	a, b, c := weighted(routed("/a", "x.local/"), 50), weighted(routed("/b", "x.local/"), 50), weighted(routed("/c", "x.local/"), 50)
	for _, s := range []*signalbox.Service{a, b, c} {
		s.Endpoints = tasks(1)
	}
	alone := Build(tableOf(a), o, nil)
	both := Build(tableOf(a, b), o, alone)
	if p := Diff(alone, both); len(p.Commands) != 0 || len(p.Reasons) != 1 || p.Reasons[0] != BackendAdded {
		t.Errorf("from one to two: %v", p)
	}
	three := Build(tableOf(a, b, c), o, both)
	if p := Diff(both, three); len(p.Commands) != 0 {
		t.Errorf("from two to three: %v", p)
	}
	if got := Applied(both, three); len(got.Splits) != buckets {
		t.Errorf("before the reload there are %d buckets", len(got.Splits))
	}
	without := three.Routes.Without(map[string]bool{"a:0": true, "b:0": true})
	if without.Hosts[0].Value == noPath || len(without.Splits) != buckets || without.Splits[0].Value != "c:0" {
		t.Errorf("without two of three: %v", without)
	}
	if got := three.Routes.Without(map[string]bool{"a:0": true, "b:0": true, "c:0": true}); len(got.Splits)+len(got.Hosts) != 0 {
		t.Errorf("without any: %v", got)
	}
}

// The slowest expressions that are taken, on the longest paths that they are tried on, hold nobody up for long.
func TestRegularExpressionsAreFast(t *testing.T) {
	var all []*signalbox.Service
	// A class at the end, because PCRE sees at once that a path lacks a character that must be there.
	expressions := []string{
		`.*a.*[bc]`, `/(a|a)?.*.*[bc]`, `/[^/]*a[^/]*[bc]`, `.*a?a?.*[bc]`, `/.*(a?a?a?a?a?a?)[bc]`, `(a|a)(a|a)(a|a).*[bc]`, `[a/]*[a/]*[bc]`, `(/a)*(/a)*[bc]`,
	}
	for i, expr := range expressions {
		if err := signalbox.CheckRegex(expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
		all = append(all, routed(fmt.Sprintf("/app%d", i), fmt.Sprintf("~h%d/", i)))
		all[i].Routes[0].Path = expr
	}
	l := start(t, tableOf(all...))
	for i, expr := range expressions {
		for _, path := range []string{"/" + strings.Repeat("a", 1023), strings.Repeat("/a", 512), strings.Repeat("/aa", 341)} {
			fastest := time.Hour
			for tries := 0; tries < 20 && fastest > 300*time.Millisecond; tries++ { // others want the processor too
				began := time.Now()
				if code, _ := l.get(fmt.Sprintf("h%d", i), path); code != 404 {
					t.Errorf("%s: %d", expr, code)
				}
				fastest = min(fastest, time.Since(began))
			}
			if fastest > 300*time.Millisecond {
				t.Errorf("%s on %s… took %s", expr, path[:8], fastest)
			}
		}
	}
}

// All apps together can't slow requests down by their regular expressions: those of the older ones are tried, and no more.
func TestRegularExpressionsAreBounded(t *testing.T) {
	var all []*signalbox.Service
	for i := range 20 {
		s := service(fmt.Sprintf("/app%02d", i), "")
		s.Since = time.Unix(int64(i), 0)
		for j := range 60 {
			s.Routes = append(s.Routes, signalbox.Route{Host: fmt.Sprintf("~h%d-%d[a-z]", i, j), Path: "/"},
				signalbox.Route{Host: "x.local", Path: fmt.Sprintf("/%d/%d[0-9]", i, j), Match: signalbox.Regex})
		}
		s.Policy.Priority = i // decides who comes first, not who stays
		all = append(all, s)
	}
	o := testOptions("/d")
	c := Build(tableOf(all...), o, nil)
	if len(c.HostRegexes) != maxExpressions || len(c.PathRegexes) != maxExpressions {
		t.Errorf("%d expressions of hosts and %d of paths, want %d", len(c.HostRegexes), len(c.PathRegexes), maxExpressions)
	}
	told := map[string]int{}
	for _, p := range c.Problems {
		told[p.Code+p.App]++
	}
	if want := map[string]int{"SB208/app17": 2 * 56, "SB208/app18": 2 * 60, "SB208/app19": 2 * 60}; !maps.Equal(told, want) {
		t.Errorf("problems %v, want %v", told, want)
	}
	if again := Build(tableOf(all...), o, c); !slices.Equal(again.Problems, c.Problems) {
		t.Error("problems get lost")
	}
}
