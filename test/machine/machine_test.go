package machine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"signalbox"
	"signalbox/discovery"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// appNames are what apps can be called.
var appNames = []string{"shop", "cart", "pay", "team/api", "web"}

// machine is the state machine: each of its methods is something that happens.
type machine struct {
	t      failer
	apps   *cluster
	c      *controller
	shadow *shadow

	failing bool   // what is wanted cannot be loaded
	deaths  int    // of HAProxy, by our hand
	late    bool   // HAProxy was changed behind the controller's back: it will take a moment
	cert    bool   // a certificate was renewed: it will take a moment
	n       int    // comparisons so far
	last    string // what happened last
}

func newMachine(t failer, slow bool) *machine {
	c := newController(t, slow)
	m := &machine{t: t, apps: &cluster{apps: map[string]*app{}}, c: c, shadow: newShadow(t, strings.Replace(c.addr, ".2.", ".3.", 1))}
	m.add("shop", m.fresh("shop", "plain", "off", 0, 0), 2)
	return m
}

func (m *machine) close() {
	m.shadow.close()
	m.c.close()
}

// settle brings HAProxy to what the cluster says now.
func (m *machine) settle() {
	m.t.Helper()
	if m.failing { // what can be done without a reload is done all the same
		m.c.tell(m.apps.table())
		_ = m.c.submit()
		m.late = true
		return
	}
	m.c.follow(m.apps.table())
}

// check holds that HAProxy does what a fresh one does: at once after a change, in a moment after what nobody told the controller of.
func (m *machine) check() {
	m.t.Helper()
	m.n++
	m.late = m.late || m.failing // each further try has HAProxy pause what it listens on, until it finds that it can't load it
	diff := ""
	var err error
	compare := func(loose bool) bool {
		diff, err = m.shadow.compare(m.c, m.apps, m.n, loose)
		return diff == "" || err != nil
	}
	ok := compare(m.cert)
	if err == nil && (!ok && m.late || m.cert) {
		ok = wait(func() bool { return compare(false) })
	}
	if err != nil {
		m.t.Fatalf("after %q: %v\n%s", m.last, err, m.c.said)
	}
	if !ok {
		m.t.Fatalf("after %q: HAProxy does not do what is wanted\n%s\n%s", m.last, diff, m.c.said)
	}
	m.late, m.cert = false, false
}

func (m *machine) happens(format string, args ...any) { m.last = fmt.Sprintf(format, args...) }

func (m *machine) fresh(name, policy, check string, host, path int) *app {
	route := paths[path]
	route.Host = hosts[host]
	return &app{name: name, since: m.apps.born, mode: signalbox.HTTP, policy: policies[policy], check: checks[check], routes: []signalbox.Route{route}}
}

func (m *machine) add(name string, a *app, tasks int) {
	m.t.Helper()
	m.happens("add %s %+v with %d tasks", name, *a, tasks)
	m.apps.apps[name] = a
	for range tasks {
		m.apps.grow(a, signalbox.Up)
	}
	m.settle()
}

func (m *machine) remove(name string) {
	m.t.Helper()
	m.happens("remove %s", name)
	delete(m.apps.apps, name)
	m.settle()
}

// scale gives an app n tasks: those that it lacks come in a state, and the oldest go.
func (m *machine) scale(a *app, n int, state signalbox.State) {
	m.t.Helper()
	m.happens("scale %s to %d, %s", a.name, n, state)
	for len(a.tasks) < n && m.apps.grow(a, state) {
	}
	a.tasks = slices.Clone(a.tasks[max(0, len(a.tasks)-n):])
	m.settle()
}

// turn changes the state of a task.
func (m *machine) turn(a *app, i int, state signalbox.State) {
	m.t.Helper()
	m.happens("task %s becomes %s", a.tasks[i].id, state)
	a.tasks = slices.Clone(a.tasks)
	a.tasks[i].state = state
	m.settle()
}

// roll replaces every task of an app, one after the other: the new one comes, the old one drains, and goes.
func (m *machine) roll(a *app) {
	m.t.Helper()
	for range len(a.tasks) {
		old := a.tasks[0].id
		m.apps.grow(a, signalbox.Up)
		m.happens("roll %s: a task comes", a.name)
		m.settle()
		a.tasks = slices.Clone(a.tasks)
		a.tasks[0].state = signalbox.Draining
		m.happens("roll %s: %s drains", a.name, old)
		m.settle()
		m.check()
		a.tasks = slices.Clone(a.tasks[1:])
		m.happens("roll %s: %s is gone", a.name, old)
		m.settle()
	}
}

// change changes what an app asks for.
func (m *machine) change(a *app, what string, change func(*app)) {
	m.t.Helper()
	change(a)
	m.happens("%s %s: %+v", what, a.name, *a)
	m.settle()
}

// spoil gives an app a definition that HAProxy does not take: that app alone stays as it was.
func (m *machine) spoil(a *app) {
	m.t.Helper()
	good := a.policy
	m.change(a, "spoil", func(a *app) {
		a.spoiled, a.good = true, &good
		a.policy.Raw = []string{"frobnicate yes"}
	})
}

func (m *machine) mend(a *app) {
	m.t.Helper()
	m.change(a, "mend", func(a *app) { a.spoiled, a.policy, a.good = false, *a.good, nil })
}

// options changes what cannot be changed without a reload.
func (m *machine) options(maxConn int) {
	m.t.Helper()
	m.happens("at most %d connections", maxConn)
	o := *m.c.options
	o.MaxConn = maxConn
	m.c.options = &o
	bad := maxConn == rejectedMaxConn || maxConn == deadlyMaxConn
	if !bad {
		healed := m.failing
		m.failing = false
		if healed {
			m.late = true // the next try comes when it is due
			_ = m.c.submit()
			return
		}
		m.settle()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := m.c.submit()(ctx); err == nil || ctx.Err() != nil {
		m.t.Fatalf("a configuration that HAProxy can't load: %+v, %v\n%s", out, err, m.c.said)
	}
	m.failing = true
}

// sourceFails has the source lose its origin, or see nothing there: nothing may change.
func (m *machine) sourceFails(empty bool) {
	m.t.Helper()
	m.happens("the source fails, empty %t", empty)
	before := m.c.latest.Load()
	u := discovery.Update{Health: discovery.Health{Err: "connection refused"}}
	if empty {
		u = discovery.Update{State: []*signalbox.Service{}, Whole: true, At: time.Now(), Cause: "an empty answer"}
	}
	m.c.source.say(u)
	if after := m.c.latest.Load(); after != before {
		m.t.Fatalf("a source that fails made a table: %+v\n%s", after.Table.Services, m.c.said)
	}
	m.check()
	if empty {
		m.c.source.say(discovery.Update{State: append([]*signalbox.Service{}, m.c.table.Services...), Whole: true, At: time.Now(), Cause: "all is back"})
	}
}

// restart ends the controller, cleanly or as kill -9 does, and starts another one. With away the source is not there, and what was stored
// has to do.
func (m *machine) restart(crash, away bool) {
	m.t.Helper()
	m.happens("the controller restarts, crash %t, away %t", crash, away)
	before, running := m.c.proc()
	if crash {
		m.c.crash()
	} else {
		m.c.stop()
	}
	m.c.start()
	m.cert = true // names for certificates follow in a moment
	if away {
		m.c.doWithout()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := m.c.submit()(ctx); err != nil && !m.failing {
			m.t.Fatalf("applying what was stored: %v\n%s", err, m.c.said)
		}
		m.check()
	}
	m.settle()
	if after, ok := m.c.proc(); running && (!ok || after.Master != before.Master) {
		m.t.Fatalf("a restart of the controller restarted HAProxy: %+v became %+v\n%s", before, after, m.c.said)
	}
}

// die kills HAProxy's worker, or all of it.
func (m *machine) die(all bool) {
	m.t.Helper()
	m.happens("HAProxy dies, all %t", all)
	p, ok := m.c.proc()
	if !ok {
		m.t.Fatalf("HAProxy does not run\n%s", m.c.said)
	}
	pid := p.Workers[0].PID
	if all {
		pid = p.Master
	}
	if err := kill(pid); err != nil {
		m.t.Fatalf("%v", err)
	}
	if !wait(func() bool {
		now, ok := m.c.proc()
		return ok && now.Workers[0].PID != p.Workers[0].PID && m.c.applier.Running() != nil
	}) {
		m.t.Fatalf("HAProxy does not come back\n%s", m.c.said)
	}
	m.deaths++
	m.late = true
}

// tamper has somebody else command HAProxy.
func (m *machine) tamper(commands ...string) {
	m.t.Helper()
	m.happens("somebody commands %q", commands)
	rt := control.NewRuntime(m.c.options.StatsSocket)
	defer rt.Close()
	if _, err := rt.Do(context.Background(), commands...); err != nil {
		m.t.Fatalf("%v", err)
	}
	// What nobody sees, like the address of a free slot, only an audit can tell. One may have begun before.
	if before := m.c.audits(); !wait(func() bool { return m.c.audits() >= before+2 }) {
		m.t.Fatalf("there is no audit\n%s", m.c.said)
	}
	m.late = true
}

// certificate puts a certificate for some hosts into the operator's directory.
func (m *machine) certificate(name string, hosts ...string) {
	m.t.Helper()
	m.happens("a certificate %s for %v", name, hosts)
	data, err := selfSigned(hosts)
	if err != nil {
		m.t.Fatalf("%v", err)
	}
	path := filepath.Join(m.c.dir, "certificates", name+".pem")
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		m.t.Fatalf("%v", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatalf("%v", err)
	}
	if err := m.c.certs.Read(time.Now()); err != nil {
		m.t.Fatalf("%v", err)
	}
	m.cert = true
	m.c.readCertificates()
	m.settle()
}

func selfSigned(hosts []string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// files holds that what is on disk is what runs, once the controller has ended.
func (m *machine) files() {
	m.t.Helper()
	var running *haproxy.Config
	wait(func() bool { // HAProxy may have died last, and answers before the controller has found it
		running = m.c.applier.Running()
		return running != nil
	})
	m.c.stop()
	if running == nil {
		m.t.Fatalf("what runs is not known at the end\n%s", m.c.said)
	}
	want, err := haproxy.Render(haproxy.DefaultTemplate(), running)
	if err != nil {
		m.t.Fatalf("%v", err)
	}
	for _, f := range append(want.Maps, haproxy.File{Name: "haproxy.cfg", Data: want.Config}) {
		got, err := os.ReadFile(filepath.Join(m.c.dir, f.Name))
		if err != nil || string(got) != string(f.Data) {
			m.t.Fatalf("after %q: the file %s does not say what runs (%v)\n%s", m.last, f.Name, err, m.c.said)
		}
	}
	if _, err := control.NewPublisher(m.c.dir, -1).Load(); err != nil {
		m.t.Fatalf("after %q: %v", m.last, err)
	}
}

func TestRunningStateIsAFreshRender(t *testing.T) {
	serveTasks(t)
	for i := range 4 { // what takes time is HAProxy's starts: several sequences at once
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				m := newMachine(rt, rapid.Bool().Draw(rt, "the file follows late"))
				defer m.close()
				rt.Repeat(m.actions())
				m.t, m.c.t = rt, rt
				if m.failing {
					m.options(500)
					m.check()
				}
				m.files()
			})
		})
	}
}

// actions are what can happen, with rapid's choice of the details. Those that cannot happen now change nothing.
func (m *machine) actions() map[string]func(*rapid.T) {
	state := rapid.SampledFrom([]signalbox.State{signalbox.Up, signalbox.Up, signalbox.Unknown, signalbox.Suspect, signalbox.Down, signalbox.Draining})
	pick := func(t *rapid.T) *app { // one that is as it should be
		names := slices.DeleteFunc(m.apps.names(), func(n string) bool { return m.apps.apps[n].spoiled })
		if len(names) == 0 {
			return m.fresh("nobody", "plain", "off", 0, 0) // the cluster does not have it: what happens to it changes nothing
		}
		return m.apps.apps[rapid.SampledFrom(names).Draw(t, "app")]
	}
	sound := func(do func(*rapid.T)) func(*rapid.T) {
		return func(t *rapid.T) {
			if m.failing {
				return
			}
			do(t)
		}
	}
	index := func(t *rapid.T, what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) }
	name := func(t *rapid.T, what string, all []string) string { return rapid.SampledFrom(all).Draw(t, what) }
	scale := func(t *rapid.T) {
		a := pick(t)
		m.scale(a, rapid.IntRange(0, 8).Draw(t, "tasks"), state.Draw(t, "state"))
	}
	turn := func(t *rapid.T) {
		a := pick(t)
		if len(a.tasks) == 0 {
			return
		}
		m.turn(a, index(t, "task", len(a.tasks)), state.Draw(t, "state"))
	}
	actions := map[string]func(*rapid.T){
		"scale": scale, "scale more": scale, "task turns": turn, "task turns again": turn,
		"add": sound(func(t *rapid.T) {
			var free []string
			for _, n := range appNames {
				if m.apps.apps[n] == nil {
					free = append(free, n)
				}
			}
			if len(free) == 0 {
				return
			}
			n := name(t, "name", free)
			a := m.fresh(n, name(t, "policy", keys(policies)), name(t, "check", keys(checks)), index(t, "host", len(hosts)), index(t, "path", len(paths)))
			m.add(n, a, rapid.IntRange(0, 5).Draw(t, "tasks"))
		}),
		"remove": sound(func(t *rapid.T) { m.remove(pick(t).name) }),
		"roll":   sound(func(t *rapid.T) { m.roll(pick(t)) }),
		"host": sound(func(t *rapid.T) {
			a, h := pick(t), index(t, "host", len(hosts))
			m.change(a, "host", func(a *app) { a.routes = slices.Clone(a.routes); a.routes[0].Host = hosts[h] })
		}),
		"second host": sound(func(t *rapid.T) {
			a, h, p := pick(t), index(t, "host", len(hosts)), index(t, "path", len(paths))
			m.change(a, "second host", func(a *app) { r := paths[p]; r.Host = hosts[h]; a.routes = append(slices.Clone(a.routes[:1]), r) })
		}),
		"path": sound(func(t *rapid.T) {
			a, p := pick(t), index(t, "path", len(paths))
			m.change(a, "path", func(a *app) {
				r := paths[p]
				r.Host = a.routes[0].Host
				a.routes = append([]signalbox.Route{r}, a.routes[1:]...)
			})
		}),
		"policy": sound(func(t *rapid.T) {
			a, p := pick(t), name(t, "policy", keys(policies))
			m.change(a, "policy", func(a *app) { a.policy = policies[p] })
		}),
		"check": sound(func(t *rapid.T) {
			a, p := pick(t), name(t, "check", keys(checks))
			m.change(a, "check", func(a *app) { a.check = checks[p] })
		}),
		"share": sound(func(t *rapid.T) {
			a, w := pick(t), rapid.IntRange(0, 4).Draw(t, "weight")
			m.change(a, "share", func(a *app) { a.policy.Weight = &w; a.routes = []signalbox.Route{{Host: hosts[0], Path: "/"}} })
		}),
		"service port": sound(func(t *rapid.T) {
			a, p, tcp := pick(t), rapid.SampledFrom(append(append([]int{0}, rangePorts...), otherPorts...)).Draw(t, "port"), rapid.Bool().Draw(t, "tcp")
			m.change(a, "service port", func(a *app) {
				a.listen, a.mode = p, signalbox.HTTP
				if tcp && p != 0 {
					a.mode = signalbox.TCP
				}
			})
		}),
		"spoil": sound(func(t *rapid.T) { m.spoil(pick(t)) }),
		"mend": sound(func(t *rapid.T) {
			for _, n := range m.apps.names() {
				if a := m.apps.apps[n]; a.spoiled {
					m.mend(a)
					return
				}
			}
		}),
		"options":      sound(func(*rapid.T) { m.options(500 + 501 - m.c.options.MaxConn) }),
		"reload fails": sound(func(t *rapid.T) { m.options(rapid.SampledFrom([]int{rejectedMaxConn, deadlyMaxConn}).Draw(t, "how")) }),
		"reload heals": func(t *rapid.T) {
			if !m.failing {
				return
			}
			m.options(500)
		},
		"source fails":        func(t *rapid.T) { m.sourceFails(rapid.Bool().Draw(t, "empty")) },
		"controller restarts": func(t *rapid.T) { m.restart(rapid.Bool().Draw(t, "crash"), rapid.Bool().Draw(t, "away")) },
		"HAProxy dies": sound(func(t *rapid.T) {
			if m.deaths > 0 {
				return
			}
			m.die(rapid.Bool().Draw(t, "all"))
		}),
		"tamper": func(t *rapid.T) {
			if commands := m.mischief(t); commands != nil {
				m.tamper(commands...)
			}
		},
		"certificate": sound(func(t *rapid.T) {
			if m.c.slow {
				return
			}
			m.certificate(name(t, "name", []string{"one", "two"}), rapid.SampledFrom([]string{"a.test", "d.test", "*.wild.test"}).Draw(t, "host"))
		}),
		"": func(t *rapid.T) { m.t, m.c.t = t, t; m.check() },
	}
	for what, do := range actions {
		if what != "" {
			actions[what] = func(t *rapid.T) { m.t, m.c.t = t, t; do(t) }
		}
	}
	return actions
}

// mischief draws what somebody else might do at the runtime socket.
func (m *machine) mischief(t *rapid.T) []string {
	running := m.c.applier.Running()
	if running == nil || len(running.Backends) == 0 {
		return nil
	}
	b := running.Backends[rapid.IntRange(0, len(running.Backends)-1).Draw(t, "backend")]
	s := b.Slots[rapid.IntRange(0, min(3, len(b.Slots)-1)).Draw(t, "slot")]
	server := "set server " + b.Name + "/" + s.Name
	entries := []string{"add map " + m.c.dir + "/hosts.map evil.test/ " + b.Name}
	for _, e := range running.Hosts {
		entries = append(entries, "del map "+m.c.dir+"/hosts.map "+e.Key, "set map "+m.c.dir+"/hosts.map "+e.Key+" no_path")
	}
	return []string{rapid.SampledFrom(append(entries,
		server+" state maint", server+" state drain", server+" state ready", server+" weight 7",
		server+" addr 127.0.0.1 port 9", "clear map "+m.c.dir+"/hosts.map", "clear map "+m.c.dir+"/names.map",
	)).Draw(t, "command")}
}
