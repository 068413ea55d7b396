package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// all returns what a worker says of everything that commands can change: what is free, and numbers that only tell of the past, aside.
func (r *rig) all(rt *Runtime) []string {
	commands := []string{"show servers state", "show ssl crt-list -n " + r.opts.CertificateListPath()}
	maps := (&haproxy.Config{}).Maps()
	for _, m := range maps {
		commands = append(commands, "show map "+r.opts.MapPath(m.Name))
	}
	answers, err := rt.Do(r.t.Context(), commands...)
	if err != nil {
		return []string{err.Error()}
	}
	servers, err := ParseServersState(answers[0])
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, s := range servers {
		if s.Admin == haproxy.Maint {
			s.Addr, s.Weight = haproxy.Server{}.Addr, 0
		}
		out = append(out, fmt.Sprintf("%s/%s %s %s %d %d", s.Backend, s.Name, s.Addr, s.Admin, s.Weight, s.CheckPort))
	}
	lines, err := ParseCertificateList(answers[1])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, l := range lines {
		out = append(out, l.Text)
	}
	for i, m := range maps {
		entries, err := ParseMap(answers[i+2])
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, m.Name+" "+e.Key+" "+e.Value)
		}
	}
	slices.Sort(out)
	return out
}

// All of HAProxy dies right after a burst of changes of which no file says anything yet: scaling beyond the slots, drains, preferences,
// hosts, paths. Whoever starts it again, it comes up with the same state, without a reload.
func TestABurstSurvivesTheDeathOfHAProxy(t *testing.T) {
	for _, supervised := range []bool{true, false} {
		t.Run(fmt.Sprintf("supervised %v", supervised), func(t *testing.T) {
			r := newTLSRig(t)
			put(t, r.source, "shop", pemFor(t, "shop.local", time.Hour))
			r.read()
			r.opts.AddServers, r.opts.MinSlots = true, 2
			s := r.real()
			s.Certificates, s.FileInterval = r.certs, time.Hour
			if !supervised {
				s.Supervisor = nil // somebody else's
				if err := os.WriteFile(filepath.Join(r.dir, configName), []byte("global\n  stats socket "+r.opts.StatsSocket+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				r.sup.Allow()
				r.until("HAProxy runs", func() bool { _, err := NewMaster(s.MasterSocket).Proc(t.Context()); return err == nil })
			}
			r.start(s)
			var tasks addrs
			for i := range 12 {
				tasks = append(tasks, task(t, fmt.Sprintf("t%d", i)))
			}
			c := haproxy.Build(table(service("cart", tasks[0]), service("shop", tasks[0])), r.listed(), nil)
			r.apply(c)
			first := r.app.Status().Reloads
			file := func() string {
				b, _ := os.ReadFile(filepath.Join(r.dir, configName))
				return string(b)
			}
			time.Sleep(1100 * time.Millisecond) // a worker's start is known to the second
			before := file()
			rt := NewRuntime(r.opts.StatsSocket)
			defer rt.Close()
			for n := 1; n <= 12; n++ {
				shop, cart := service("shop", tasks[:n]...), service("cart", tasks[n-1])
				for i := range n {
					shop.Endpoints[i].State = []signalbox.State{signalbox.Up, signalbox.Up, signalbox.Suspect, signalbox.Draining}[i%4]
					shop.Routes = append(shop.Routes, signalbox.Route{Host: fmt.Sprintf("h%d.local", i), Path: fmt.Sprintf("/p%d", n)})
				}
				c = haproxy.Build(table(cart, shop), r.listed(), c)
				if out := r.apply(c); out.Reloaded {
					t.Fatalf("%+v", out)
				}
			}
			want := r.all(rt)
			if file() != before || len(want) < 30 {
				t.Fatalf("the file follows at once, or too little has changed: %s", strings.Join(want, "\n"))
			}
			p := r.proc()
			kill9(t, p.Master)
			kill9(t, p.Workers[0].PID)
			r.until("a new worker has the same state", func() bool {
				st := r.app.Status()
				return st.Level == signalbox.OK && st.PID != p.Workers[0].PID && slices.Equal(r.all(rt), want)
			})
			if st := r.app.Status(); st.Reloads != first {
				t.Errorf("%d reloads instead of %d, the last for %q", st.Reloads, first, st.ReloadReason)
			}
		})
	}
}
