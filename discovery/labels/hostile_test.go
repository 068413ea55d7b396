package labels

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// seeds are values that a configuration, a map file, a socket command, a shell, a terminal or a page could take for something else
// than a value.
var seeds = func() []string {
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
		"а.local", "раураl.local", "ⅼocal", "ｌocal", "a․b", "a／b", "1‚2", "１0", "ₐ", "𝐚.local", "e\u0301", "\u0301", "Ⅷ", "ǆ", "ſ.local", "K.local", "\u1e9e", "\u0131", "\u00df.local", "\u03c2.local",
		"ssl verify none", "check port 1", "cookie x", "track a/b", "on-marked-down shutdown-sessions", "agent-check", "source 1.2.3.4", "socks4 1.2.3.4:1", "redir http://evil", "ws h1", "namespace x", "proto h2", "resolvers x", "init-addr last", "crt /etc/x", "ca-file @system-ca", "crl-file x", "alpn h2", "tfo", "uid 0", "user root",
		"http-request deny", "http-response lua.x", "tcp-request content accept", "errorfile 503 /etc/shadow", "stats enable", "log 127.0.0.1 local0", "option httpchk", "default_backend x", "acl x always_true", "filter spoe engine x", "program x", "peers x", "userlist x", "ring x", ".if defined(X)", ".alert x", "quote'in", "presetenv A b", "unsetenv", "setenv A b",
		"%[lua.x]", "%[var(txn.x)]", "%[req.hdr(Cookie)]", "%%[src]", "%[", "%]", "%]]", "%{+Q}o", "%ci", "%n", "%s%s%s", "${A-b}", "${A[*]}", "$(", "${", "$}", "\"${A}\"", "'${A}'", "\\$", "\\ ", "a\\", "\\x41", "\\0", "\\r\\n",
		"(a+)+$", "(a|a)*b", "(.*)*", "[", "(", ")", "a{1,", "a{99999}", "(?i)a", "(?=a)", "(?<!a)", "(?R)", "(*UTF)", "\\1", "\\pL", "\\b", "[[:alpha:]]", "a**", "a*?", "a++", "^$", ".{0,200}.{0,200}.{0,200}",
		"1/0", "1/-1", "1/1e3", "NaN%", "Inf%", "1e400%", "0x1p-2%", "-0%", "100.0%", "1h1h1h", "1e3s", "9999999999h", "-1s", "1ns", "1µs", ".s", "1 s", "0.0000001ms",
		"0.0.0.0/0/0", "10/8", "010.0.0.1", "0x7f.1", "127.1", "::/129", "::ffff:1.2.3.4", "::1%lo", "[::]:80", "1.2.3.4-1.2.3.5", "1.2.3.4/255.0.0.0", "not 1.2.3.4", "!1.2.3.4",
		"Host: evil", "X:", ": x", "X\r\nY: z", "Transfer-Encoding: chunked", "X-Forwarded-For: ::1", "data:text/html,x", "file:///etc/passwd", "http://", "https://@x", "https://x:y@z", "//x", "http:x", "https://[::1", "https://x:99999",
		"true\nfalse", "TRUE", "nope", "tcp\nlog global", "httpx", "health",
	}
	for c := range 0x21 {
		seeds = append(seeds, "a"+string(rune(c))+"b")
	}
	for _, c := range "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f\u0085\u00a0\u00ad\u061c\u115f\u1680\u180e\u200b\u200d\u200e\u2028\u202a\u202e\u2060\u2066\u3000\u3164\ufe0f\ufeff\uff0c\uff1a\uff0e\ufffd\U000e0041" {
		seeds = append(seeds, string(c), "a"+string(c)+"b")
	}
	slices.Sort(seeds)
	return slices.Compact(seeds)
}()

// hostile are the seeds alone, and with something harmless at their sides.
var hostile = func() []string {
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
	names = append(names, "HAPROXY_GROUP", "HAPROXY_0_BACKEND_HEAD", "signalbox.unknown", "signalbox..x")
	return names
}

var twoPorts = []Port{{Index: 0, Name: "http", Service: 10001}, {Index: 1, Service: 10002}}

// fieldsOf holds, for each key, values with a place for something hostile in each of their fields, beside the whole value.
var fieldsOf = map[string][]string{
	"enable": nil, "mode": nil, "port": {"80?"}, "accept-proxy": nil, "port-tls": nil, "strip-prefix": {"/a?", "/?"}, "http2": nil, "send-proxy": nil, "hsts": nil,
	"https-redirect": nil, "priority": {"1?"}, "weight": {"1?"}, "maxconn": {"1?"}, "retries": {"1?"}, "balance": {"uri?"}, "path-match": {"regex?"},
	"backend-tls": {"verify?"}, "slow-start": {"1?s"}, "timeout": {"1?s"}, "connect-timeout": {"1?s"}, "health-interval": {"1?s"},
	"host": {"shop.?.local", "*.?", "~?", "~[?]", "~x{?}", "a.local, ?", "~a? b.local"}, "path": {"/a/?/b", "/ok, ?", "/a%?"},
	"bind-address": {"127.0.0.?", "::?"}, "group": {"edge, ?", "a?"}, "sticky": {"S?"}, "health": {"GET /?", "GET /x?a=?", "? /x"},
	"health-port": {"web?", "1?"}, "task-port": {"8?"}, "tls": {"shop?", "passthrough?"}, "allow": {"10.0.0.0/8, ?", "10.0.0.?/8", "10.0.0.0/?", "all ?"},
	"auth": {
		"?:ann:" + someHash, "shop:?:" + someHash, "shop:ann:?", "shop:ann:" + someHash + "?", "shop:ann:$6$?$x", "staff?",
		"shop:ann:$1$abcdefgh$0123456789012345678901?", "shop:ann:$2y$05$01234567890123456789012345678901234567890123456789012?",
		"shop:ann:$y$j9T$abc$0123456789012345678901234567890123456789012?", "shop:ann:0123456789012?", "shop:ann:?0123456789012",
	},
	"rate-limit": {"?/s", "100/?", "100/1?s"}, "rewrite-path": {"/v2/?"}, "rewrite-host": {"a?.local"}, "rewrite-location": {"/v2?"}, "redirect-root": {"/app/?", "/app?x=?"},
	"request-header": {"X-?: a", "X-A: ?", "X-A: a ? b", "X-A: a\n?"}, "response-header": {"X-?: a", "X-A: ?", "X-A: a ? b", "X-A: a\n?"},
	"cors": {"https://?", "https://a.local:?", "?://a.local", "https://[::?]", "https://a.local, ?"}, "error-page": {"503=?", "?=sorry", "503=sorry, ?"},
	"routes": {"/users/?", "/users/{?}", "/a, ?"}, "slo": {"?% < 1s", "99% < ?", "99% ? 1s"}, "log": {"1/?"}, "log-headers": {"x-?", "a, ?", "?=?"}, "trace": {"1/?"}, "owner": {"team ?"},
	"docs": {"https://?/", "https://a/?", "?://a/", "https://a/?x#?"},
}

const someHash = "$6$abcdefgh$0123456789012345678901234567890123456789012345678901234567890123456789012345678901234."

// Whatever stands in a field of a label, in each of its forms and in each dialect, what comes out is of its type, and nothing of it
// reaches another port.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	if len(seeds) < 300 {
		t.Fatalf("only %d hostile strings", len(seeds))
	}
	last := Port{Index: 4, Service: 10005, Labels: map[string]string{"signalbox.host": "good.local", "signalbox.enable": "true", "signalbox.mode": "http"}}
	alone := Parse("/app", nil, []Port{last}, Options{}).Ports[0]
	for _, l := range Table() {
		fields, listed := fieldsOf[l.Key]
		if !listed {
			t.Errorf("the fields of %s are not listed", l.Key)
		}
		t.Run(l.Key, func(t *testing.T) {
			t.Parallel()
			check := func(value string, meta map[string]string, ports ...Port) *Result {
				r := Parse("/app", meta, ports, Options{})
				if why := unsafe(r); why != "" {
					t.Errorf("%s=%.80q: %s", l.Key, value, why)
				}
				return &r
			}
			beside := func(value string, meta map[string]string, ports ...Port) {
				got := check(value, meta, append(ports, last)...).Ports[len(ports)]
				if !slices.Equal(alone.Routes, got.Routes) || !l.EveryPort && (!got.Policy.Equal(&alone.Policy) || got.Enabled != alone.Enabled || got.Mode != alone.Mode) {
					t.Errorf("%s=%.80q changes the other port: %+v", l.Key, value, got)
				}
			}
			if l.Key == "host" || l.Key == "path" { // their items are separated in several ways
				for _, h := range hostile {
					check(h, map[string]string{"signalbox.host": "a.local", "signalbox." + l.Key: h}, Port{Service: 10001})
				}
			}
			for _, h := range seeds {
				meta := map[string]string{
					"signalbox.host": "a.local", "signalbox.1.host": "b.local", "signalbox.web.host": "c.local", "signalbox.1.path": "/x", "signalbox.web.path": "/x",
					"signalbox." + l.Key: h, "signalbox.1." + l.Key: h, "signalbox.web." + l.Key: h, "HAPROXY_3_VHOST": "d.local",
				}
				if l.Twin != "" {
					meta["HAPROXY_3_"+l.Twin] = h
				}
				beside(h, meta, Port{Index: 0, Service: 10001}, Port{Index: 1, Service: 10002}, Port{Index: 2, Name: "web", Service: 10003},
					Port{Index: 3, Service: 10004, Labels: map[string]string{"signalbox." + l.Key: h}})
			}
			for _, field := range fields {
				for _, h := range seeds {
					value := strings.ReplaceAll(field, "?", h)
					check(value, map[string]string{"signalbox.0.host": "a.local", "signalbox.0.path": "/x", "signalbox.0." + l.Key: value}, Port{Index: 0, Service: 10001})
				}
			}
		})
	}
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	for at, s := range hostile {
		if len(s) > 4000 {
			s = s[:4000]
		}
		alone := at%7 == 0 // every seed is, by the order of hostile
		for i, name := range []string{s, "signalbox." + s, "signalbox." + s + ".host", "signalbox." + s + ".hots", "signalbox.0." + s, "HAPROXY_" + s, "HAPROXY_0_" + s, "HAPROXY_" + s + "_VHOST", s + "signalbox.host"} {
			if !alone && (at+i)%9 != 0 {
				continue
			}
			if why := unsafe(Parse("/app", map[string]string{name: "shop.local"}, twoPorts, Options{})); why != "" {
				t.Errorf("%.80q: %s", name, why)
			}
		}
	}
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

// FuzzParse reads one label beside good ones, alone and after a good value of each kind.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		if len(s) < 500 {
			f.Add("signalbox.host", s)
			f.Add("HAPROXY_0_PATH", s)
		}
	}
	for key, fields := range fieldsOf {
		for i, field := range append([]string{"?"}, fields...) {
			f.Add("signalbox."+key, strings.ReplaceAll(field, "?", seeds[(len(key)+31*i)%len(seeds)]))
			f.Add("signalbox.0."+key, strings.ReplaceAll(field, "?", "1"))
		}
	}
	before := map[string]string{"signalbox.host": "a.local ~b[0-9]+", "signalbox.path": "/x", "signalbox.port": "80"}
	for _, l := range Table() {
		if _, set := before["signalbox."+l.Key]; !set && l.Key != "mode" && l.Key != "path-match" {
			before["signalbox."+l.Key] = l.Example
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if len(value) > 64<<10 {
			return
		}
		meta := map[string]string{"signalbox.host": "a.local", "signalbox.path": "/x", "signalbox.port": "80", name: value}
		r := Parse("/app", meta, twoPorts, Options{})
		if why := unsafe(r); why != "" {
			t.Error(why)
		}
		if diff := cmp.Diff(text(r), text(Parse("/app", meta, twoPorts, Options{}))); diff != "" {
			t.Errorf("reading twice differs:\n%s", diff)
		}
		keepAll(r, Parse("/app", before, twoPorts, Options{}))
		if why := unsafe(r); why != "" {
			t.Errorf("kept: %s", why)
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
