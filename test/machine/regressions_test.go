package machine

import (
	"testing"

	"signalbox"
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
