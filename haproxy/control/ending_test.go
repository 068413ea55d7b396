package control

import (
	"strings"
	"sync"
	"testing"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/test/ports"
)

// While HAProxy is about to load another configuration, a new name waits for the new worker. A task that ends does not: the old worker still
// gets requests, and it takes no orders any more once it leaves.
func TestWorkerThatIsReplacedHearsWhatEnds(t *testing.T) {
	r := newRig(t)
	r.supervise()
	one, two := task(t, "one"), task(t, "two")
	shop := func(hosts ...string) *signalbox.Service {
		s := service("shop", one, two)
		for _, h := range hosts {
			route := s.Routes[0]
			route.Host = h
			s.Routes = append(s.Routes, route)
		}
		return s
	}
	first := haproxy.Build(table(shop()), r.opts, nil)
	s := shop()
	s.Listen = ports.Free(t)
	second := haproxy.Build(table(s), r.opts, first)
	s = shop("checked.local")
	s.Listen = second.Listeners[0].Port
	third := haproxy.Build(table(s), r.opts, second)
	s = shop("checked.local", "loading.local")
	s.Listen = second.Listeners[0].Port
	s.Endpoints[0].State = signalbox.Draining
	fourth := haproxy.Build(table(s), r.opts, third)

	// A reload renders twice, as a host comes meanwhile; after the second time it loads.
	settings := r.real()
	var app *Applier
	var mu sync.Mutex
	var meanwhile []func()
	settings.Render = func(c *haproxy.Config) ([]File, error) {
		files, err := render(settings.Template, c)
		mu.Lock()
		defer mu.Unlock()
		if len(meanwhile) > 0 {
			do := meanwhile[0]
			meanwhile = meanwhile[1:]
			do()
		}
		return files, err
	}
	app, _ = r.start(settings)
	r.apply(first)
	answers := func() string {
		var by []string
		for range 4 {
			_, body := r.get("shop.local")
			by = append(by, body)
		}
		return strings.Join(by, " ")
	}
	r.until("both answer", func() bool { by := answers(); return strings.Contains(by, "one") && strings.Contains(by, "two") })
	mu.Lock()
	meanwhile = []func(){
		func() {
			app.Update(third)
			r.until("a host comes while the files are checked", func() bool { code, _ := r.get("checked.local"); return code == 200 })
		},
		func() {
			app.Update(fourth)
			r.until("the old worker sends nothing to the task that ends", func() bool { return answers() == "two two two two" })
			if code, body := r.get("loading.local"); code == 200 {
				t.Errorf("the old worker has opened a name that the new one has not heard of: %s", body)
			}
		},
	}
	mu.Unlock()
	if out := r.apply(second); !out.Reloaded {
		t.Errorf("a service port: %+v", out)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(meanwhile) > 0 {
		t.Error("the reload did not ask for what was wanted by then")
	}
	r.until("all is applied", func() bool { return app.Running() == fourth })
	if by := answers(); by != "two two two two" {
		t.Errorf("after the reload: %s", by)
	}
}
