package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"signalbox/haproxy"
)

// Whatever somebody does to HAProxy over its socket is found, undone without a reload, counted by kind, and said.
func TestTheAuditRepairsEverythingThatCommandsCanChange(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.real()
	log := logrus.New()
	log.SetOutput(t.Output())
	said := logtest.NewLocal(log)
	s.AuditInterval, s.Log = 150*time.Millisecond, log
	r.start(s)
	shop, cart := service("shop", task(t, "one"), task(t, "two")), service("cart", task(t, "three"))
	c := haproxy.Build(table(shop, cart), r.opts, nil)
	r.apply(c)
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	r.until("the first audit", func() bool { return r.audits() > 0 })
	b, slot := c.Backends[1].Name, c.Backends[1].Slots[0]
	if b != "shop:0" || slot.Task != "shop.0" {
		t.Fatalf("the backend is %s, its first task %s", b, slot.Task)
	}
	hosts, names := r.opts.MapPath(haproxy.HostsMap), r.opts.MapPath(haproxy.NamesMap)
	state := func() string {
		answers, err := rt.Do(t.Context(), "show servers state", "show map "+hosts, "show map "+names)
		if err != nil {
			t.Fatal(err)
		}
		servers, err := ParseServersState(answers[0])
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, s := range servers {
			if s.Admin == haproxy.Maint {
				s.Addr, s.Weight = slot.Addr, slot.Weight // of no matter
			}
			all = append(all, strings.Join([]string{s.Backend, s.Name, s.Addr.String(), string(s.Admin), string(rune('0' + s.Weight))}, " "))
		}
		for _, answer := range answers[1:] {
			lines, err := ParseMap(answer)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				all = append(all, l.Key+" "+l.Value)
			}
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	good := state()
	for name, c := range map[string]struct {
		kind, says string
		commands   []string
	}{
		"an address":                 {"server", "shop:0/s1 is ready 127.0.0.1:9", []string{"set server " + b + "/s1 addr 127.0.0.1 port 9"}},
		"a weight":                   {"server", "weight 7 instead of", []string{"set server " + b + "/s1 weight 7"}},
		"maintenance":                {"server", "shop:0/s1 is maint", []string{"set server " + b + "/s1 state maint"}},
		"a drain":                    {"server", "shop:0/s2 is drain", []string{"set server " + b + "/s2 state drain"}},
		"a free server that is used": {"server", "shop:0/s9 is ready", []string{"set server " + b + "/s9 state ready"}},
		"an entry less":              {"hosts", "shop.local/ is missing", []string{"del map " + hosts + " shop.local/"}},
		"an entry more":              {"hosts", "own.local/ is too many", []string{"add map " + hosts + " own.local/ " + b}},
		"another entry":              {"hosts", "shop.local/ leads to cart:0", []string{"set map " + hosts + " shop.local/ cart:0"}},
		"an entry twice":             {"hosts", "shop.local/ leads to", []string{"add map " + hosts + " shop.local/ cart:0"}},
		"another name":               {"names", "shop:0 leads to /their:0", []string{"set map " + names + " " + b + " /their:0"}},
		"an empty map":               {"names", "is missing", []string{"clear map " + names}},
	} {
		said.Reset()
		before := testutil.ToFloat64(r.app.met.repairs.WithLabelValues(c.kind))
		tamper := func() {
			t.Helper()
			if n, err := rt.Batch(t.Context(), Worker{}, c.commands); err != nil && n == 0 {
				t.Fatalf("%s: %v", name, err)
			}
		}
		tamper()
		r.until(name+" is repaired and counted", func() bool {
			switch {
			case state() != good:
				return false
			case testutil.ToFloat64(r.app.met.repairs.WithLabelValues(c.kind)) > before:
				return true
			}
			tamper() // it was undone when the connection was made anew, on a machine that is too busy
			return false
		})
		if !slices.ContainsFunc(said.AllEntries(), func(e *logrus.Entry) bool {
			return strings.HasPrefix(e.Message, "audit: ") && strings.Contains(e.Message, c.says) && e.Level == logrus.WarnLevel
		}) {
			t.Errorf("%s: nobody says %q", name, c.says)
		}
	}
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads, the last for %q", n, r.app.Status().ReloadReason)
	}
}
