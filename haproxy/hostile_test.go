package haproxy

import (
	"fmt"
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

// outline returns the keyword of each line and the number of its words, as HAProxy splits them, sorted: a name may change the order
// of backends.
func outline(t interface{ Fatalf(string, ...any) }, cfg string) []string {
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

// attacker returns a service of which bad gives each text, by the name of its field and a plain value.
func attacker(bad func(field, plain string) string) *signalbox.Service {
	return &signalbox.Service{
		ID: signalbox.ServiceID(bad("id", "/attacker:0")), Source: bad("source", "x"), App: bad("app", "/attacker"), PortName: bad("port", "x"),
		Version: bad("version", "x"), Mode: signalbox.Mode(bad("mode", "http")), Listen: 10000,
		Routes: []signalbox.Route{{Host: bad("host", "attacker.local"), Path: bad("path", "/x"), Match: signalbox.Match(bad("match", ""))}},
		Groups: []string{bad("group", "x")},
		Check:  signalbox.Check{Kind: signalbox.CheckKind(bad("check", "http")), Path: bad("check path", "/health")},
		Endpoints: []signalbox.Endpoint{{
			Task: bad("task", "a.1"), App: bad("member", ""), Host: bad("agent", "agent-1"), Version: bad("task's version", "x"),
			Addr: netip.MustParseAddrPort("10.0.0.8:80"), State: signalbox.State(bad("state", "up")), Why: bad("why", ""),
		}},
	}
}

func victim() *signalbox.Service {
	return &signalbox.Service{
		ID: "/victim:0", App: "/victim", Mode: signalbox.HTTP, Routes: []signalbox.Route{{Host: "victim.local", Path: "/"}},
		Endpoints: []signalbox.Endpoint{{Task: "v.1", Addr: netip.MustParseAddrPort("10.0.0.9:80"), State: signalbox.Up}},
	}
}

// Whatever stands in a table's fields, past the labels' own checks: the configuration keeps the shape that plain values give
// it, each map line is one key and one value, and each command is one line of plain words.
func TestHostileTextStaysText(t *testing.T) {
	tmpl := DefaultTemplate()
	o := testOptions("/d")
	text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		hurt := attacker(func(field, plain string) string {
			if rapid.Bool().Draw(t, field+" is hostile") {
				return text.Draw(t, field)
			}
			return plain
		})
		calm := attacker(func(_, plain string) string { return plain })
		// What only chooses between known shapes is taken over.
		if hurt.Mode == signalbox.TCP {
			calm.Mode = hurt.Mode
		}
		calm.Check.Kind = hurt.Check.Kind
		c := Build(signalbox.NewTable([]*signalbox.Service{victim(), hurt}, nil), o, nil)
		if checkOf(c, hurt.ID) != signalbox.CheckHTTP && calm.Check.Kind == signalbox.CheckHTTP {
			calm.Check.Kind = signalbox.CheckTCP
		}
		services := []*signalbox.Service{victim()}
		if len(c.Backends) > 1 { // it is not refused as a whole
			services = append(services, calm)
		}
		d := Build(signalbox.NewTable(services, nil), o, nil)
		want, err := Render(tmpl, d)
		if err != nil {
			t.Fatal(err)
		}
		config := stayText(t, d, c)
		if diff := cmp.Diff(outline(t, string(want.Config)), outline(t, config)); diff != "" {
			t.Fatalf("the shape changed (-want +got):\n%s\n%s", diff, config)
		}
	})
}

// stayText returns the text of a configuration, of which each map line has to be one key and one value, and each command from another
// one to it and back one line of plain words.
func stayText(t interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}, other, c *Config,
) string {
	got, err := Render(DefaultTemplate(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got.Maps {
		for line := range strings.Lines(string(m.Data)) {
			if f := strings.Fields(line); len(f) != 2 || f[0]+" "+f[1]+"\n" != line {
				t.Fatalf("%s has the line %q", m.Name, line)
			}
		}
	}
	for _, cmd := range append(Diff(other, c).Commands, Diff(c, other).Commands...) {
		if strings.ContainsAny(cmd.Text, ";\n\r\x00\\\"'<") {
			t.Fatalf("the command %q", cmd.Text)
		}
	}
	return string(got.Config)
}

// Hundreds of texts in each single field, side by side: each section has a shape that plain values give one, and there are as many as
// services that were not refused.
func TestEveryFieldHoldsHostileTexts(t *testing.T) {
	texts := hostileTexts()
	if len(texts) < 300 {
		t.Fatalf("only %d texts", len(texts))
	}
	o := testOptions("/d")
	alone := Build(signalbox.NewTable([]*signalbox.Service{victim()}, nil), o, nil)
	known, others := map[string]bool{}, 0
	var fields []string
	for _, mode := range []signalbox.Mode{signalbox.HTTP, signalbox.TCP} {
		for _, kind := range []signalbox.CheckKind{signalbox.CheckHTTP, signalbox.CheckTCP, signalbox.CheckOff} {
			fields = nil
			s := attacker(func(field, plain string) string { fields = append(fields, field); return plain })
			s.Mode, s.Check.Kind = mode, kind
			c := Build(signalbox.NewTable([]*signalbox.Service{victim(), s}, nil), o, nil)
			sections := shapesOfSections(t, stayText(t, alone, c))
			for _, section := range sections {
				known[section] = true
			}
			others = len(sections) - len(c.Backends) - len(c.Listeners)
		}
	}
	for _, field := range fields {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			services := []*signalbox.Service{victim()}
			for i, text := range texts {
				s := attacker(func(of, plain string) string {
					switch of {
					case field:
						return text
					case "id":
						return fmt.Sprintf("/attacker%d:0", i)
					case "host":
						return fmt.Sprintf("attacker%d.local", i)
					}
					return plain
				})
				s.Listen = 20000 + i
				services = append(services, s)
			}
			c := Build(signalbox.NewTable(services, nil), o, nil)
			sections := shapesOfSections(t, stayText(t, alone, c))
			for _, section := range sections {
				if !known[section] {
					t.Errorf("a section has another shape:\n%s", section)
				}
			}
			if want := others + len(c.Backends) + len(c.Listeners); len(sections) != want {
				t.Errorf("%d sections, of %d backends and %d listeners; want %d", len(sections), len(c.Backends), len(c.Listeners), want)
			}
		})
	}
}

// shapesOfSections returns the shape of each section of a configuration.
func shapesOfSections(t *testing.T, config string) []string {
	t.Helper()
	var out []string
	var section strings.Builder
	end := func() {
		if words := outline(t, section.String()); len(words) > 0 {
			out = append(out, strings.Join(words, "\n"))
		}
		section.Reset()
	}
	for line := range strings.Lines(config) {
		if line[0] != ' ' && line[0] != '\t' && line[0] != '#' && line[0] != '\n' {
			end()
		}
		section.WriteString(line)
	}
	end()
	return out
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
