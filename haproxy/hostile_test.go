package haproxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

// hostile are texts that would do harm as configuration, map lines, runtime commands or patterns.
var hostile = []string{
	"", " ", "a b", "a\nglobal\n  lua-load /tmp/x.lua", "a\r\nb", "a\x00b", "\t", "'", "''", `"`, `\`, "a'b", `"${HOME}"`, "$HOME", "%[src]", "%{+Q}o",
	"#", "a#b", "a;b", "a; shutdown sessions server x/y", "x } or { always_true", "-f /etc/passwd", "-m reg .*", "unix@/var/run/haproxy.sock",
	"../../etc/passwd", "é", "\xff\xfe", "日本", strings.Repeat("a", 300), strings.Repeat("/a", 2000), "*.*", "*", "*.", ".", "..", "-", "A.B", "a..b", "[::1",
	"shop.local no_route", "/shop:0", "/a/../b", "/%00", "/a//b", "no_path", "http", "ring@access", "<script>", "\u2028", "\x1b[2J", "@1", "//",
}

// shape returns the keyword of each line and the number of its words, as HAProxy splits them, sorted: a name may change the order
// of backends.
func shape(t interface{ Fatalf(string, ...any) }, cfg string) []string {
	var out []string
	for line := range strings.SplitSeq(cfg, "\n") {
		if strings.HasPrefix(line, "  server ") {
			line = strings.TrimSuffix(line, " disabled") // a task's state decides this
		}
		words, quoted, escaped, word := []string{}, false, false, ""
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, r := range line {
			switch {
			case escaped:
				word, escaped = word+string(r), false
			case !quoted && r == '\\':
				escaped = true
			case r == '\'':
				quoted = !quoted
			case !quoted && (r == ' ' || r == '\t'):
				if word != "" {
					words = append(words, word)
				}
				word = ""
			case !quoted && (r == '#' || r == '"'):
				t.Fatalf("a bare %c amid the line %q", r, line)
			default:
				word += string(r)
			}
		}
		if quoted || escaped {
			t.Fatalf("an open quote in %q", line)
		}
		if word != "" {
			words = append(words, word)
		}
		if len(words) > 0 {
			out = append(out, words[0]+strings.Repeat(" .", len(words)-1))
		}
	}
	slices.Sort(out)
	return out
}

// Whatever stands in a table's fields, past the labels' own checks: the configuration keeps the shape that plain values give
// it, each map line is one key and one value, and each command is one line of plain words.
func TestHostileTextStaysText(t *testing.T) {
	tmpl := DefaultTemplate()
	o := testOptions("/d")
	victim := func() *signalbox.Service {
		return &signalbox.Service{
			ID: "/victim:0", App: "/victim", Mode: signalbox.HTTP, Routes: []signalbox.Route{{Host: "victim.local", Path: "/"}},
			Endpoints: []signalbox.Endpoint{{Task: "v.1", Addr: netip.MustParseAddrPort("10.0.0.9:80"), State: signalbox.Up}},
		}
	}
	text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		bad := func(name, plain string) string {
			if rapid.Bool().Draw(t, name+" is hostile") {
				return text.Draw(t, name)
			}
			return plain
		}
		attack := func(bad func(string, string) string) *signalbox.Service {
			return &signalbox.Service{
				ID: signalbox.ServiceID(bad("id", "/attacker:0")), Source: bad("source", "x"), App: bad("app", "/attacker"), PortName: bad("port", "x"),
				Version: bad("version", "x"), Mode: signalbox.Mode(bad("mode", "http")), Listen: 10000,
				Routes:    []signalbox.Route{{Host: bad("host", "attacker.local"), Path: bad("path", "/x")}},
				Groups:    []string{bad("group", "x")},
				Check:     signalbox.Check{Kind: signalbox.CheckKind(bad("check", "http")), Path: bad("check path", "/health")},
				Endpoints: []signalbox.Endpoint{{Task: bad("task", "a.1"), Addr: netip.MustParseAddrPort("10.0.0.8:80"), State: signalbox.State(bad("state", "up"))}},
			}
		}
		hurt := attack(bad)
		plain := func(_, s string) string { return s }
		calm := attack(plain)
		// What only chooses between known shapes is taken over.
		if hurt.Mode == signalbox.TCP {
			calm.Mode = hurt.Mode
		}
		calm.Check.Kind = hurt.Check.Kind
		c := Build(signalbox.NewTable([]*signalbox.Service{victim(), hurt}, nil), o, nil)
		if checkOf(c, hurt.ID) != signalbox.CheckHTTP && calm.Check.Kind == signalbox.CheckHTTP {
			calm.Check.Kind = signalbox.CheckTCP
		}
		if len(c.Backends) == 1 {
			calm = nil // refused as a whole
		}
		services := []*signalbox.Service{victim()}
		if calm != nil {
			services = append(services, calm)
		}
		d := Build(signalbox.NewTable(services, nil), o, nil)
		got, err := Render(tmpl, c)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Render(DefaultTemplate(), d)
		if err != nil {
			t.Fatal(err)
		}
		g, w := shape(t, string(got.Config)), shape(t, string(want.Config))
		if diff := cmp.Diff(w, g); diff != "" {
			t.Fatalf("the shape changed (-want +got):\n%s\n%s", diff, got.Config)
		}
		for _, m := range got.Maps {
			for line := range strings.Lines(string(m.Data)) {
				if f := strings.Fields(line); len(f) != 2 || f[0]+" "+f[1]+"\n" != line {
					t.Fatalf("%s has the line %q", m.Name, line)
				}
			}
		}
		for _, cmd := range append(Diff(d, c).Commands, Diff(c, d).Commands...) {
			if strings.ContainsAny(cmd.Text, ";\n\r\x00\\\"'<") {
				t.Fatalf("the command %q", cmd.Text)
			}
		}
	})
}

// checkOf returns the kind of a service's check.
func checkOf(c *Config, id signalbox.ServiceID) signalbox.CheckKind {
	for _, b := range c.Backends {
		if b.Service == id {
			return b.Check.Kind
		}
	}
	return ""
}

// The real HAProxy loads what hostile tables give.
func TestHAProxyLoadsHostileTables(t *testing.T) {
	var services []*signalbox.Service
	for i, h := range hostile {
		for _, s := range []*signalbox.Service{
			{App: h, Port: i},
			{App: "/x" + h, Port: i},
			{App: "/hosts", Port: i, Routes: []signalbox.Route{{Host: h, Path: "/"}, {Host: "x.local", Path: h}, {Host: "y.local", Path: "/" + h}}},
			{App: "/checks", Port: i, Check: signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/" + h}},
		} {
			s.ID, s.Mode = signalbox.NewServiceID(s.App, s.Port), signalbox.HTTP
			services = append(services, s)
		}
	}
	dir := shortDir(t)
	o := testOptions(dir)
	o.LogPulled = !sendsRings(t)
	c := Build(signalbox.NewTable(services, nil), o, nil)
	f, err := Render(DefaultTemplate(), c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, f)
	if err := check(t, dir); err != nil {
		t.Error(err)
	}
	if len(c.Problems) < len(hostile) {
		t.Errorf("only %d problems", len(c.Problems))
	}
}
