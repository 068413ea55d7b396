package routing

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"signalbox"
	"signalbox/discovery/labels"
	"signalbox/haproxy"
)

// hostile are pieces that a configuration could take for something else than a part of a value.
var hostile = []string{
	"\n", "\r", "\x00", "\t", " ", "  ", "'", `"`, `\`, "`", "#", ";", ",", "$", "${HOME}", "%", "%[env(HOME)]", "%[src]", "%%", "{", "}", "} or { always_true", " -f /etc/passwd",
	" -m reg .*", " if TRUE", " unix@/x", "\nglobal\n  lua-load /tmp/x.lua\n", "../", "//", "*", "?", "+", "(", ")", "[", "]", "|", "^", "~", "=", ":", "@", "!", "<", ">", "&",
	"é", "\u00a0", "\u200b", "\u202e", "\uff0e", "\u2028", "\xff", "\xc3", strings.Repeat("a", 300), strings.Repeat("a,", 300), strings.Repeat("9", 30), "-1", "0x10", "1e9",
}

// written returns the values of each native label that its goldens have, and of marathon-lb's those that mean the same.
func written(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, l := range labels.Table() {
		ar, err := txtar.ParseFile(filepath.Join("..", "..", "discovery", "labels", "testdata", "keys", l.Key+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range ar.Files[1:3] {
			for line := range strings.Lines(string(part.Data)) {
				var value string
				if err := json.Unmarshal([]byte(line), &value); err != nil {
					t.Fatal(err)
				}
				all["signalbox."+l.Key] = append(all["signalbox."+l.Key], value)
				if l.Twin != "" {
					all["HAPROXY_0_"+l.Twin] = append(all["HAPROXY_0_"+l.Twin], value)
				}
			}
		}
	}
	return all
}

// Whatever apps say in their labels, HAProxy takes the configuration that comes of it without a warning, and nothing that the labels'
// parser lets through has to be held back on the way.
func TestWhatLabelsLetThroughIsAccepted(t *testing.T) {
	values := written(t)
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	label := rapid.Custom(func(t *rapid.T) [2]string {
		name := rapid.SampledFrom(names).Draw(t, "label")
		value := rapid.SampledFrom(values[name]).Draw(t, "value")
		if rapid.IntRange(0, 2).Draw(t, "spoilt") == 0 {
			at := rapid.IntRange(0, len(value)).Draw(t, "at")
			value = value[:at] + rapid.SampledFrom(hostile).Draw(t, "with") + value[at:]
		}
		return [2]string{name, value}
	})
	convert, options := settings(t, "", newAddresses())
	apps := rapid.SliceOfN(rapid.SliceOfN(label, 1, 12), 100, 100)
	seed := int(time.Now().UnixNano() % 1_000_000)
	t.Log("the first seed is", seed)
	for i := range 8 {
		table := &signalbox.Table{}
		for n, app := range apps.Example(seed + i) {
			meta := map[string]string{}
			for _, l := range app {
				meta[l[0]] = l[1]
			}
			if n%2 == 0 {
				meta["signalbox.host"] = fmt.Sprintf("app%d.local", n)
			}
			id := fmt.Sprintf("/app%d", n)
			for _, p := range labels.Parse(id, meta, []labels.Port{{Service: 10000 + n}}, convert.Labels).Ports {
				if !p.Enabled {
					continue
				}
				table.Services = append(table.Services, &signalbox.Service{
					ID: signalbox.NewServiceID(id, 0), App: id, Mode: p.Mode, Routes: p.Routes, Listen: p.Listen, Groups: p.Groups,
					Check: p.Check(signalbox.Check{}), Policy: p.Policy,
					Endpoints: []signalbox.Endpoint{{Task: id + ".1", Addr: netip.MustParseAddrPort("10.0.0.1:31000"), State: signalbox.Up}},
				})
			}
		}
		config := haproxy.Build(table, options, nil)
		for _, p := range config.Problems {
			if p.Code == "SB223" || p.Code == "SB206" {
				t.Errorf("the parser let through what cannot be written: %s", p)
			}
		}
		write(t, config)
	}
}
