package machine

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy/control"
)

// What long runs have found, as short as it got.
func TestRegressions(t *testing.T) {
	serveTasks(t)
	for name, story := range map[string]func(*machine){
		// The audit passed over servers in maintenance, and the next task's address was believed to be there already.
		"a free slot's address is changed by somebody": func(m *machine) {
			m.turn(m.apps.apps["shop"], 0, signalbox.Down)
			m.tamper("set server shop:0/s1 addr 127.0.0.1 port 9")
			m.check()
			m.turn(m.apps.apps["shop"], 0, signalbox.Up)
			m.check()
		},
		// While a reload was due there was no audit.
		"somebody adds a host while nothing can be loaded": func(m *machine) {
			m.options(rejectedMaxConn)
			m.tamper("add map " + m.c.dir + "/hosts.map evil.test/ shop:0")
			m.check()
		},
		// Its deletion explained the absence of the app that came after it.
		"an empty answer after an app was made again": func(m *machine) {
			m.add("pay", m.fresh("pay", "plain", "off", 1, 0), 2)
			m.remove("pay")
			m.add("pay", m.fresh("pay", "plain", "off", 1, 0), 2)
			m.sourceFails(true)
			m.check()
		},
		// Random histories pass over whoever waits for a check.
		"tasks whose health nobody knows answer once they are checked": func(m *machine) {
			pay := m.fresh("pay", "plain", "http", 1, 0)
			m.add("pay", pay, 0)
			m.scale(pay, 3, signalbox.Unknown)
			m.answers("b.test", "pay")
			m.check()
			m.scale(pay, 5, signalbox.Up)
			m.restart(true, false)
			m.answersAtOnce("b.test", "pay") // whoever has served needs no other check
			m.check()
		},
		"tasks whose health nobody knows join those that serve": func(m *machine) {
			pay := m.fresh("pay", "plain", "http", 1, 0)
			m.add("pay", pay, 1)
			m.scale(pay, 4, signalbox.Unknown)
			m.answersAtOnce("b.test", "pay")
			m.turn(pay, 0, signalbox.Draining)
			m.answersAtOnce("b.test", "pay")
			m.scale(pay, 3, signalbox.Unknown)
			m.answers("b.test", "pay")
			m.check()
		},
		// What an earlier run had written down was taken for all that HAProxy should have: a new certificate was gone until the first table.
		"the controller is killed right after it gave HAProxy a certificate": func(m *machine) {
			for i := range 10 {
				m.certificate(fmt.Sprintf("c%d", i), fmt.Sprintf("c%d.test", i))
				m.check()
				m.c.crash()
				m.c.start()
				m.keepsCertificates(i + 1)
				m.settle()
				m.cert = true
				m.check()
			}
		},
		// Random histories have one death of HAProxy at most.
		"HAProxy dies twice of what it has just loaded": func(m *machine) {
			shop := m.apps.apps["shop"]
			good := shop.policy
			m.change(shop, "policy", func(a *app) { a.policy.Raw = []string{"timeout queue 5s"} })
			m.check()
			m.die(true)
			m.die(true)
			if !wait(func() bool {
				p := m.c.applier.Problems()
				return len(p) == 1 && p[0].App == "/shop" && p[0].Code == "SB401"
			}) {
				m.t.Fatalf("after two deaths nobody is blamed: %v\n%s", m.c.applier.Problems(), m.c.said)
			}
			shop.spoiled, shop.good = true, &good // that app alone stays as it was
			m.check()
			m.answers("a.test", "shop")
			m.mend(shop)
			m.check()
		},
		// HAProxy puts a certificate that is renewed behind the others of its name.
		"the first of two certificates for a name is renewed": func(m *machine) {
			for _, name := range []string{"two", "one", "one", "two"} {
				m.certificate(name, "a.test")
				for range 6 { // until each question has been asked
					m.check()
				}
			}
		},
		// The timeouts in the map were those of the rejected definition.
		"an app with settings in maps is spoiled": func(m *machine) {
			shop := m.apps.apps["shop"]
			m.change(shop, "policy", func(a *app) { a.policy = policies["timeout"] })
			m.spoil(shop)
			m.check()
			m.scale(shop, 40, signalbox.Up)
			m.check()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, false)
			defer m.close()
			m.check()
			story(m)
			if m.failing {
				m.options(500)
				m.check()
			}
			m.files()
		})
	}
}

// answers waits until an app answers for a host.
func (m *machine) answers(host, name string) {
	m.t.Helper()
	if !wait(func() bool { return m.answer(host, name) == "" }) {
		m.t.Fatalf("after %q: %s\n%s", m.last, m.answer(host, name), m.c.said)
	}
}

// answersAtOnce holds that an app answers for a host, whenever it is asked.
func (m *machine) answersAtOnce(host, name string) {
	m.t.Helper()
	for range 10 {
		if wrong := m.answer(host, name); wrong != "" {
			m.t.Fatalf("after %q: %s\n%s", m.last, wrong, m.c.said)
		}
	}
}

// answer returns what is wrong with the answer to one request, "" for nothing.
func (m *machine) answer(host, name string) string {
	owner := map[netip.AddrPort]signalbox.ServiceID{}
	for _, t := range m.apps.apps[name].tasks {
		owner[t.at] = idOf(name)
	}
	got := ask(m.c.addr, question{port: httpPort, host: host, path: "/"}, owner)
	if got.Status != http.StatusOK || got.Service != idOf(name) {
		return fmt.Sprintf("%s answers %+v, want %s", host, got, idOf(name))
	}
	return ""
}

// keepsCertificates looks for a few audits whether HAProxy goes on having so many certificates beside the default one, before anything is wanted.
func (m *machine) keepsCertificates(n int) {
	m.t.Helper()
	rt := control.NewRuntime(m.c.options.StatsSocket)
	defer rt.Close()
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		answers, err := rt.Do(context.Background(), "show ssl cert")
		if err != nil {
			m.t.Fatalf("%v", err)
		}
		held, _, err := control.ParseCertificateFiles(answers[0])
		if err != nil {
			m.t.Fatalf("%v", err)
		}
		if len(held) != n+1 {
			m.t.Fatalf("HAProxy has %v, want %d beside the default\n%s", held, n, m.c.said)
		}
	}
}
