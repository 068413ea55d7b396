package control

import (
	"slices"
	"testing"

	"signalbox"
	"signalbox/haproxy"
)

// What a worker says of every kind of route is what it was given: nothing to repair, in the order that counts, after commands and after
// a reload.
func TestEveryKindOfRouteIsReadBack(t *testing.T) {
	r := newRig(t)
	r.supervise()
	app, _ := r.start(r.real())
	one, two := task(t, "one"), task(t, "two")
	fleet := func(weight int, regexes ...string) *signalbox.Table {
		a, b := service("a", one), service("b", two)
		a.Policy.Weight, b.Policy.Weight = new(int), new(int)
		*a.Policy.Weight, *b.Policy.Weight = 100-weight, weight
		for i, s := range []*signalbox.Service{a, b} {
			s.Policy.Priority = i
			s.Routes = []signalbox.Route{{Host: "shared.local", Path: "/"}, {Host: s.App[1:] + ".local", Path: "/x", Match: signalbox.Exact}}
			for _, expr := range regexes {
				s.Routes = append(s.Routes, signalbox.Route{Host: "~" + expr, Path: "/"}, signalbox.Route{Host: s.App[1:] + ".local", Path: expr, Match: signalbox.Regex})
			}
			slices.SortFunc(s.Routes, signalbox.Route.Compare)
		}
		return table(a, b)
	}
	same := func(c *haproxy.Config) {
		t.Helper()
		rt := NewRuntime(r.opts.StatsSocket)
		defer rt.Close()
		act, err := app.observe(t.Context(), rt, Worker{}, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, diffs, err := readBack(c, nil, act); err != nil || len(diffs) > 0 {
			t.Errorf("read back: %v, %v", diffs, err)
		}
	}
	c := haproxy.Build(fleet(30, `[a-z]+\.re`, `v\d{1,2}`), r.opts, nil)
	if out := r.apply(c); !out.Reloaded || len(c.PathRegexes) != 4 || len(c.HostRegexes) != 2 || len(c.Splits) != 300 {
		t.Errorf("the first: %+v, %v", out, c.Routes)
	}
	same(c)
	c = haproxy.Build(fleet(70, `[a-z]+\.re`, `v\d{1,2}`), r.opts, c)
	if out := r.apply(c); out.Reloaded || out.Commands == 0 {
		t.Errorf("other weights: %+v", out)
	}
	same(c)
	c = haproxy.Build(fleet(70, `v\d{1,2}`, `[a-z]+\.re`, `(x|y)\.z`), r.opts, c)
	if out := r.apply(c); !out.Reloaded {
		t.Errorf("other expressions: %+v", out)
	}
	same(c)
}
