package labels

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"signalbox"
)

// samples holds the good and the bad values of each key, from the goldens.
func samples(t *testing.T) (good, bad map[string][]string) {
	t.Helper()
	good, bad = map[string][]string{}, map[string][]string{}
	for _, l := range Table() {
		ar, err := txtar.ParseFile(filepath.Join("testdata", "keys", l.Key+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		good[l.Key], bad[l.Key] = valuesIn(t, ar.Files[1].Data), valuesIn(t, ar.Files[2].Data)
	}
	return good, bad
}

// said is what a source takes over from a result, for comparisons.
type said struct {
	Enabled bool
	Service *signalbox.Service
}

func saidBy(p PortResult) said {
	p.Problems = nil
	return said{p.Enabled, service(p)}
}

// A label that becomes invalid changes nothing of what was in force, whichever label it is and whatever stands beside it.
func TestOneSpoiltLabelChangesNothing(t *testing.T) {
	good, bad := samples(t)
	spoilt := 0
	rapid.Check(t, func(t *rapid.T) {
		meta := map[string]string{"signalbox.host": "a.local"}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(good))), 1, 12, rapid.ID).Draw(t, "keys") {
			meta["signalbox."+key] = rapid.SampledFrom(good[key]).Draw(t, key)
		}
		ports := []Port{{Service: 10001}}
		before := Parse("/app", meta, ports, Options{}).Ports[0]
		if !before.Enabled {
			return
		}
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(meta))).Draw(t, "spoilt")
		key := strings.TrimPrefix(name, "signalbox.")
		meta[name] = rapid.SampledFrom(bad[key]).Draw(t, "with")
		after := Parse("/app", meta, ports, Options{})
		if !slices.ContainsFunc(after.Ports[0].refused, func(r refusal) bool { return r.row.Key == key && r.whole }) {
			return // some of it is good
		}
		spoilt++
		if why := unsafe(after); why != "" {
			t.Fatal(why)
		}
		if (key == "allow" || key == "auth") && after.Ports[0].Policy.Refused == "" {
			t.Fatalf("%s=%q without an earlier value lets everybody in", name, meta[name])
		}
		kept := Keep(service(before), after.Ports[0])
		was := before
		if key == "allow" && before.Policy.Allow == nil || key == "auth" && before.Policy.Auth == nil {
			if kept.Policy.Refused == "" {
				t.Fatalf("%s=%q lets everybody in", name, meta[name])
			}
			was.Policy.Refused = kept.Policy.Refused // there was no restriction that could stay
		}
		if diff := cmp.Diff(saidBy(was), saidBy(kept), cmp.Comparer((*signalbox.Service).Equal)); diff != "" {
			t.Fatalf("%s=%q (-before +kept):\n%s\n%s\n%s", name, meta[name], diff, before.Policy.String(), kept.Policy.String())
		}
		if diff := cmp.Diff(text(Result{Ports: []PortResult{kept}}), text(Result{Ports: []PortResult{Keep(service(kept), after.Ports[0])}})); diff != "" {
			t.Fatalf("keeping twice differs (-once +twice):\n%s", diff)
		}
	})
	if spoilt == 0 {
		t.Error("no label was spoilt")
	}
}

// What labels say of one port does not depend on other ports, nor on labels of other ports, nor on those of others.
func TestPortsDoNotDependOnOthers(t *testing.T) {
	good, bad := samples(t)
	delete(good, "health-port") // it names another port
	keys := slices.Sorted(maps.Keys(good))
	rapid.Check(t, func(t *rapid.T) {
		ports := []Port{{Index: 0, Name: "web", Service: 10001}, {Index: 1, Name: "admin", Service: 10002}, {Index: 2, Service: 10003}}
		meta := map[string]string{}
		about := map[string]int{} // the port of a label, -1 for the app
		for range rapid.IntRange(0, 12).Draw(t, "labels") {
			key := rapid.SampledFrom(keys).Draw(t, "key")
			value := rapid.SampledFrom(slices.Concat(good[key], bad[key])).Draw(t, "value")
			port := rapid.IntRange(-1, 2).Draw(t, "port")
			name := "signalbox." + key
			switch {
			case port >= 0 && ports[port].Name != "" && rapid.Bool().Draw(t, "by name"):
				name = "signalbox." + ports[port].Name + "." + key
			case port >= 0:
				name = "signalbox." + strconv.Itoa(port) + "." + key
			}
			meta[name], about[name] = value, port
		}
		whole := Parse("/app", meta, ports, Options{})
		for i := range ports {
			only := map[string]string{"team": "x", "traefik.enable": "true"}
			for name, port := range about {
				if port == i || port == -1 {
					only[name] = meta[name]
				}
			}
			if diff := cmp.Diff(text(Result{Ports: whole.Ports[i : i+1]}), text(Result{Ports: Parse("/app", only, ports, Options{}).Ports[i : i+1]})); diff != "" {
				t.Fatalf("port %d without the labels of the others (-with +without):\n%s", i, diff)
			}
			if i == 0 {
				continue // the first port has labels of the app to itself
			}
			if diff := cmp.Diff(text(Result{Ports: whole.Ports[i : i+1]}), text(Result{Ports: Parse("/app", only, []Port{ports[0], ports[i]}, Options{}).Ports[1:]})); diff != "" {
				t.Fatalf("port %d without the other ports (-with +without):\n%s", i, diff)
			}
		}
	})
}
