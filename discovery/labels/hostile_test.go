package labels

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

// hostile are values that a configuration, a map file, a socket command, a shell, a terminal or a page could take for something
// else than a value.
var hostile = func() []string {
	seeds := []string{
		"\n", "\r\n", "\r", "\t", "\v", "\f", "\x00", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\u2029", "\xff\xfe", "\xc3\x28", "\xed\xa0\x80",
		"'", `"`, "`", `\`, `\n`, `\\`, "''", `""`, "#", ";", "|", "&&", "$", "$HOME", "${HOME}", `"${HOME}"`, "$(id)", "`id`", "%[src]", "%[env(HOME)]", "%00", "%0a", "%2e%2e",
		"{", "}", "{{.}}", "{{define}}", "{ always_true }", "x } or { always_true", "} or { always_true }", "!", "-f", "-f /etc/passwd", "-m reg .*", "-i", "-n", "--", "!{ src 0.0.0.0/0 }",
		"unix@/var/run/haproxy.sock", "abns@x", "fd@3", "ipv4@1.2.3.4", "udp@1.2.3.4", "sockpair@3", "quic4@:443",
		"global\n  lua-load /tmp/x.lua", "\nglobal\n\tinsecure-fork-wanted\n", "x\nbackend evil\n  server s 1.2.3.4:80", "x\n  use_backend evil if { always_true }", "x if TRUE", "if { path / }",
		"set server a/b state maint", "add map #0 a b; shutdown sessions", ";show env", "<script>alert(1)</script>", "\"><img src=x onerror=1>", "javascript:alert(1)", "../../etc/passwd", "/../../etc/passwd", "//evil", "/%2f..%2f", "/a/./b",
		"http-request return file /etc/shadow", "lf-file /etc/shadow", "external-check command /bin/sh", "0x1f90", "1e4", "+80", "-1", "65536", "99999999999999999999", "080", "８０", "٣", "0", " 80 ", "80 80", "80\n81",
		"..", ".", "a..b", ".a", "a.", "-a", "a-", "a-.b", "*", "**", "*.*", "a.*", "*a.b", "*.", "*.a.", "_", "xn--", "xn--\u00fc", "\u202eevil", "a\u200bb", "ａ.ｂ", "a。b", "\u2100.com", "ﬀ.com", "İ.com", "ß", "💩.la", "localhost", "127.0.0.1", "[::1]", "::1", "a:80:90", "user@host", "user:pw@host", "http://a/", "a/b", "a?b", "a#b", "a b", "a,b", ",", ",,", "  ", "",
		strings.Repeat("a", 64), strings.Repeat("a.", 130) + "b", "/" + strings.Repeat("x", 2000), strings.Repeat("a,", 40000), strings.Repeat("A", 64<<10), strings.Repeat("\u00fc", 5000), strings.Repeat("*.", 300) + "a",
		"true\nfalse", "TRUE", "nope", "tcp\nlog global", "httpx", "health",
	}
	var all []string
	for _, s := range seeds {
		all = append(all, s, "shop.local"+s, s+"shop.local", "/ok"+s, "/"+s+"/x", "shop.local,"+s, s+" /y")
	}
	return all
}()

// everyLabel holds a name for each label of each dialect, in each form.
func everyLabel() []string {
	var names []string
	for _, l := range Table() {
		names = append(names, "signalbox."+l.Key, "signalbox.0."+l.Key, "signalbox.http."+l.Key)
		if l.Twin != "" {
			names = append(names, "HAPROXY_0_"+l.Twin)
		}
	}
	names = append(names, "HAPROXY_GROUP", "HAPROXY_0_AUTH", "HAPROXY_0_BACKEND_HEAD", "signalbox.unknown", "signalbox..x")
	return names
}

var twoPorts = []Port{{Index: 0, Name: "http", Service: 10001}, {Index: 1, Service: 10002}}

func TestHostileValues(t *testing.T) {
	if len(hostile) < 300 {
		t.Fatalf("only %d hostile strings", len(hostile))
	}
	alone := Parse("/app", map[string]string{"signalbox.1.host": "good.local"}, twoPorts, Options{}).Ports[1]
	for _, name := range everyLabel() {
		for _, value := range hostile {
			r := Parse("/app", map[string]string{name: value, "signalbox.1.host": "good.local"}, twoPorts, Options{})
			if why := unsafe(r); why != "" {
				t.Errorf("%s=%.80q: %s", name, value, why)
			}
			if diff := cmp.Diff(alone.Routes, r.Ports[1].Routes); diff != "" && !slices.Contains([]string{"mode", "enable", "allow"}, name[strings.LastIndexByte(name, '.')+1:]) {
				t.Errorf("%s=%.80q changes the other port (-want +got):\n%s", name, value, diff)
			}
		}
	}
}

func TestHostileNames(t *testing.T) {
	for _, s := range hostile {
		if len(s) > 4000 {
			s = s[:4000]
		}
		for _, name := range []string{s, "signalbox." + s, "signalbox." + s + ".host", "signalbox." + s + ".hots", "signalbox.0." + s, "HAPROXY_" + s, "HAPROXY_0_" + s, "HAPROXY_" + s + "_VHOST", s + "signalbox.host"} {
			if why := unsafe(Parse("/app", map[string]string{name: "shop.local"}, twoPorts, Options{})); why != "" {
				t.Errorf("%.80q: %s", name, why)
			}
		}
	}
}

var (
	safeHost  = regexp.MustCompile(`^(|(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)$`)
	safePath  = regexp.MustCompile(`^(/|(/([A-Za-z0-9._~!&()+;=:@-]|%[0-9A-Fa-f]{2})+)+)$`)
	safeGroup = regexp.MustCompile(`^(\*|[A-Za-z0-9][A-Za-z0-9._/:-]*)$`)
)

// unsafe says what in a result is not of its type, or "".
func unsafe(r Result) string {
	problems := slices.Clone(r.Problems)
	for _, p := range r.Ports {
		problems = append(problems, p.Problems...)
		for _, route := range p.Routes {
			if !safeHost.MatchString(route.Host) || len(route.Host) > 253 {
				return fmt.Sprintf("host %q", route.Host)
			}
			if !safePath.MatchString(route.Path) || len(route.Path) > 1024 || strings.Contains(route.Path, "/../") || strings.HasSuffix(route.Path, "/..") {
				return fmt.Sprintf("path %q", route.Path)
			}
		}
		if !slices.IsSortedFunc(p.Routes, signalbox.Route.Compare) || len(slices.Compact(slices.Clone(p.Routes))) != len(p.Routes) {
			return fmt.Sprintf("routes %v are not sorted, each once", p.Routes)
		}
		if p.Listen < 0 || p.Listen > 65535 {
			return fmt.Sprintf("listen %d", p.Listen)
		}
		if p.Mode != signalbox.HTTP && p.Mode != signalbox.TCP {
			return fmt.Sprintf("mode %q", p.Mode)
		}
		for _, g := range p.Groups {
			if !safeGroup.MatchString(g) || len(g) > 64 {
				return fmt.Sprintf("group %q", g)
			}
		}
	}
	if len(problems) > 40 {
		return fmt.Sprintf("%d problems", len(problems))
	}
	for _, p := range problems {
		if s := p.String(); !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || len(s) > 2000 {
			return fmt.Sprintf("problem %.200q", s)
		}
		if p.Code == "" || p.Severity == "" || p.App == "" || p.Message == "" || p.Action == "" {
			return fmt.Sprintf("problem with gaps: %+v", p)
		}
	}
	return ""
}

// someLabels draws labels of which most are of the vocabulary and many are good.
func someLabels(t *rapid.T, name string) map[string]string {
	return rapid.MapOfN(rapid.SampledFrom(everyLabel()), rapid.OneOf(
		rapid.SampledFrom([]string{"a.local", "b.local, *.c.local", "/x", "/x /y/", "8080", "tcp", "http", "edge, internal", "true", "off", "*"}),
		rapid.SampledFrom(hostile),
		rapid.String(),
	), 0, 8).Draw(t, name)
}

// Whatever the labels, what comes out is typed, the same each time, and the same whichever labels of others stand beside them.
func TestParseIsTypedAndStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		meta := someLabels(t, "labels")
		r := Parse("/app", meta, twoPorts, Options{})
		if why := unsafe(r); why != "" {
			t.Fatal(why)
		}
		meta["traefik.frontend.rule"], meta["team"] = "Host:x", "\n"
		if diff := cmp.Diff(text(r), text(Parse("/app", meta, twoPorts, Options{}))); diff != "" {
			t.Fatalf("labels of others count (-without +with):\n%s", diff)
		}
	})
}

// An invalid label never takes away what the labels before it gave, nor is what it keeps other than that.
func TestKeepNeverShrinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		good := map[string]string{}
		for key, values := range map[string][]string{
			"host": {"", "a.local", "a.local,b.local"}, "path": {"", "/x", "/x,/y"}, "mode": {"", "http", "tcp"}, "port": {"", "8080"}, "group": {"", "edge"},
		} {
			if v := rapid.SampledFrom(values).Draw(t, key); v != "" {
				good["signalbox."+key] = v
			}
		}
		before := Parse("/app", good, twoPorts, Options{}).Ports[0]
		bad := map[string]string{}
		for k, v := range good {
			bad[k] = v
		}
		key := rapid.SampledFrom([]string{"host", "path", "mode", "port", "group"}).Draw(t, "spoilt")
		bad["signalbox."+key] = rapid.SampledFrom([]string{"!", "a!b", "\n!", "!,!"}).Draw(t, "value")

		kept := Keep(service(before), Parse("/app", bad, twoPorts, Options{}).Ports[0])
		if _, had := good["signalbox."+key]; had && before.Enabled {
			want, got := before, kept
			if diff := cmp.Diff(want.Routes, got.Routes); diff != "" {
				t.Fatalf("%s=%q (-before +kept):\n%s", key, bad["signalbox."+key], diff)
			}
			if want.Listen != got.Listen || want.Mode != got.Mode || !slices.Equal(want.Groups, got.Groups) {
				t.Fatalf("before %+v, kept %+v", want, got)
			}
		}
		again := Keep(service(kept), Parse("/app", bad, twoPorts, Options{}).Ports[0])
		if diff := cmp.Diff(fmt.Sprint(kept.Routes, kept.Mode, kept.Listen, kept.Groups, kept.Problems), fmt.Sprint(again.Routes, again.Mode, again.Listen, again.Groups, again.Problems)); diff != "" {
			t.Fatalf("keeping twice differs (-once +twice):\n%s", diff)
		}
		if why := unsafe(Result{Ports: []PortResult{kept}}); why != "" {
			t.Fatal(why)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range hostile {
		if len(s) < 500 {
			f.Add("signalbox.host", s)
			f.Add("HAPROXY_0_PATH", s)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		r := Parse("/app", map[string]string{name: value}, twoPorts, Options{})
		if why := unsafe(r); why != "" {
			t.Error(why)
		}
		prev := Parse("/app", map[string]string{"signalbox.host": "a.local", "signalbox.port": "80"}, twoPorts, Options{})
		keepAll(r, prev)
		if why := unsafe(r); why != "" {
			t.Error(why)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	meta := map[string]string{"signalbox.host": "shop.local", "signalbox.path": "/cart", "owner": "team"}
	b.ReportAllocs()
	for b.Loop() {
		if r := Parse("/app", meta, twoPorts, Options{}); len(r.Ports[0].Routes) != 1 {
			b.Fatal(r)
		}
	}
}
