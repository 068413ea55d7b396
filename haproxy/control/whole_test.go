package control

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/haproxy"
)

// real are the settings with haproxy's own template and decisions.
func (r *rig) real() Settings {
	r.opts.HTTPBind = []string{fmt.Sprintf("127.0.0.1:%d", r.port)}
	r.opts.HardStopAfter = 20 * time.Second
	s := r.settings()
	s.Template, s.Render, s.Diff, s.AppAt = haproxy.DefaultTemplate(), nil, nil, nil
	s.Supervisor = r.sup
	return s
}

func service(name string, tasks ...netip.AddrPort) *signalbox.Service {
	s := &signalbox.Service{
		ID: signalbox.NewServiceID("/"+name, 0), App: "/" + name, Mode: signalbox.HTTP, Source: "test",
		Routes: []signalbox.Route{{Host: name + ".local", Path: "/"}}, Check: signalbox.Check{Kind: signalbox.CheckOff},
	}
	for i, a := range tasks {
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{Task: fmt.Sprintf("%s.%d", name, i), Addr: a, State: signalbox.Up})
	}
	return s
}

func table(services ...*signalbox.Service) *signalbox.Table { return signalbox.NewTable(services, nil) }

// The whole way with the template that is shipped: first configuration, scaling without a reload, a new app, a drain that
// survives the reload, a restart of the controller.
func TestWithTheShippedTemplate(t *testing.T) {
	r := newRig(t)
	r.supervise()
	_, stop := r.start(r.real())
	one, two, three := task(t, "one"), task(t, "two"), task(t, "three")
	c := haproxy.Build(table(service("shop", one)), r.opts, nil)
	if out := r.apply(c); !out.Reloaded {
		t.Errorf("outcome %+v", out)
	}
	r.answers("shop.local", "one")

	c = haproxy.Build(table(service("shop", one, two, three)), r.opts, c)
	if out := r.apply(c); out.Reloaded || out.Commands == 0 {
		t.Errorf("scaling: %+v", out)
	}
	r.answers("shop.local", "three")

	shop := service("shop", one, two, three)
	shop.Endpoints[0].State, shop.Endpoints[1].State = signalbox.Draining, signalbox.Draining
	c = haproxy.Build(table(shop, service("cart", two)), r.opts, c)
	if out := r.apply(c); !out.Reloaded {
		t.Errorf("a new app: %+v", out)
	}
	r.answers("cart.local", "two")
	for range 10 {
		if _, got := r.get("shop.local"); got != "three" {
			t.Errorf("shop answers %q, want the one that does not drain", got)
		}
	}
	servers, err := NewRuntime(r.opts.StatsSocket).Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drained := 0
	for _, s := range servers {
		if s.Admin == haproxy.Drain {
			drained++
		}
	}
	if drained != 2 {
		t.Errorf("%d servers drain after the reload, want 2", drained)
	}
	if err := haproxyVerify(r.dir); err != nil {
		t.Error(err)
	}
	before := r.proc()
	stop()

	s := r.real()
	second := New(s)
	r.app = second
	prev, err := second.Recover(t.Context())
	if err != nil || prev == nil {
		t.Fatalf("recovered %v, %v", prev, err)
	}
	r.background(second.Run)
	c = haproxy.Build(table(shop, service("cart", two)), r.opts, prev)
	if out := r.apply(c); out.Reloaded {
		t.Errorf("a restart with nothing new: %+v", out)
	}
	if after := r.proc(); after.Workers[0] != before.Workers[0] {
		t.Errorf("processes %+v became %+v", before, after)
	}
	if problems, err := testutil.CollectAndLint(second); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if err := prometheus.NewRegistry().Register(second); err != nil {
		t.Error(err)
	}
}

func haproxyVerify(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return err
	}
	return haproxy.Verify(b)
}

// BenchmarkFleet measures one change among 5,000 apps with 3 tasks each, and the reload of such a configuration.
func BenchmarkFleet(b *testing.B) {
	dir, err := os.MkdirTemp("", "sb") //nolint:usetesting // a socket path has at most 107 bytes
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	log := logrus.New()
	log.SetOutput(io.Discard)
	opts := &haproxy.Options{Dir: dir, StatsSocket: filepath.Join(dir, "stats.sock"), MaxConn: 1000, ServiceBind: "*", HTTPBind: []string{"127.0.0.1:18437"}}
	sup := &Supervisor{Dir: dir, MasterSocket: filepath.Join(dir, "master.sock"), DieWithParent: true, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { sup.Run(ctx); ended <- struct{}{} }()
	a := New(Settings{
		Dir: dir, StatsSocket: opts.StatsSocket, MasterSocket: sup.MasterSocket, Template: haproxy.DefaultTemplate(),
		Supervisor: sup, Log: log, ReloadInterval: time.Millisecond, ReloadBurst: 1000,
	})
	go func() { a.Run(ctx); ended <- struct{}{} }()
	b.Cleanup(func() { cancel(); <-ended; <-ended })
	services := make([]*signalbox.Service, 5000)
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)
	}
	for i := range services {
		services[i] = service(fmt.Sprintf("app%04d", i), addr(i), addr(i+1), addr(i+2))
	}
	began := time.Now()
	c := haproxy.Build(table(append([]*signalbox.Service(nil), services...)...), opts, nil)
	if _, err := a.Apply(ctx, c); err != nil {
		b.Fatal(err)
	}
	b.Logf("cold start %s", time.Since(began))
	n := 0
	b.Run("change", func(b *testing.B) {
		for b.Loop() {
			n++
			s := service("app2500", addr(n%60000+1), addr(n%60000+2), addr(n%60000+3))
			services[2500] = s
			c = haproxy.Build(table(append([]*signalbox.Service(nil), services...)...), opts, c)
			if out, err := a.Apply(ctx, c); err != nil || out.Reloaded {
				b.Fatalf("%+v %v", out, err)
			}
		}
	})
	b.Run("file", func(b *testing.B) {
		tmpl, pub := haproxy.DefaultTemplate(), NewPublisher(b.TempDir(), -1)
		for b.Loop() {
			n++
			services[2500] = service("app2500", addr(n%60000+1))
			next := haproxy.Build(table(append([]*signalbox.Service(nil), services...)...), opts, c)
			files, err := render(tmpl, next)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := pub.Publish(files); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("state", func(b *testing.B) {
		for b.Loop() {
			if _, err := encodeState(persisted{Config: c}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("audit", func(b *testing.B) {
		rt := NewRuntime(opts.StatsSocket)
		defer rt.Close()
		for b.Loop() {
			if _, err := rt.Servers(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reload", func(b *testing.B) {
		for b.Loop() {
			n++
			more := append(append([]*signalbox.Service(nil), services...), service(fmt.Sprintf("new%06d", n), addr(n)))
			services = more
			c = haproxy.Build(table(append([]*signalbox.Service(nil), more...)...), opts, c)
			if out, err := a.Apply(ctx, c); err != nil || !out.Reloaded {
				b.Fatalf("%+v %v", out, err)
			}
		}
	})
}
