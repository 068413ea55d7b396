package labels

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

// foul returns a text of a policy that could end a line or a word of a configuration, or "".
func foul(p *signalbox.Policy) string {
	var found string
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if s := v.String(); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(s) || len(s) > 2048 {
				found = s
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		}
	}
	walk(reflect.ValueOf(*p))
	return found
}

// frames are templates with a hole for what somebody writes.
var frames = []struct{ label, text string }{
	{"BACKEND_HEAD", "backend {backend}\n  balance %s\n"},
	{"BACKEND_HEAD", "backend {backend}\n  errorfile 503 %s\n"},
	{"BACKEND_HEAD", "backend {backend}\n  timeout server %s\n  retries %s\n"},
	{"BACKEND_HTTP_OPTIONS", "  http-request set-header X-A %s\n"},
	{"BACKEND_HTTP_OPTIONS", "  http-request set-header \"%s\" x\n"},
	{"BACKEND_HTTP_OPTIONS", "  http-response set-header X-A '%s'\n"},
	{"BACKEND_HTTP_OPTIONS", "  reqadd X-A:\\ %s\n  rspadd %s\n"},
	{"BACKEND_HTTP_OPTIONS", "  http-request replace-path /x/(.*) %s\\1\n  http-request set-header Host %s\n"},
	{"BACKEND_HTTP_OPTIONS", "  option httpchk GET %s\n  cookie %s\n  redirect location %s if { path / }\n"},
	{"BACKEND_HTTP_OPTIONS", "  http-request deny unless { src %s }\n"},
	{"BACKEND_SERVER_OPTIONS", "  server {serverName} {host_ipv4}:{port} maxconn %s slowstart %s inter %s\n"},
	{"HTTP_FRONTEND_ACL_WITH_PATH", "  acl h hdr_end(host) -i %s\n  use_backend {backend} if h\n"},
	{"HTTP_FRONTEND_ACL_WITH_PATH", "  acl h hdr_reg(host) %s\n  acl p path_beg -i %s\n  use_backend {backend} if h p\n"},
	{"FRONTEND_HEAD", "frontend {backend}\n  bind %s:{servicePort} ssl crt %s\n"},
	{"BIND_OPTIONS", "ssl crt %s"},
	{"PATH", "-i %s"},
	{"HTTP_BACKEND_PROXYPASS_PATH", "%s"},
	{"HTTP_BACKEND_REVPROXY_PATH", "%s"},
	{"HTTP_BACKEND_PROXYPASS_GLUE", "  reqirep \"^([^ :]*)\\ {proxypath}/?(.*)\" \"\\1\\ %s/\\2\"\n"},
}

// whatEver says what of a result of marathon-lb's labels is not as it has to be, or "".
func whatEver(r Result) string {
	problems := slices.Clone(r.Problems)
	for i := range r.Ports {
		p := &r.Ports[i]
		if s := foul(&p.Policy); s != "" {
			return fmt.Sprintf("the policy holds %.200q", s)
		}
		if len(p.Policy.Raw) > 0 {
			return fmt.Sprintf("raw lines %q", p.Policy.Raw)
		}
		for _, route := range p.Routes {
			if strings.ContainsAny(route.Host+route.Path, " \t\r\n'\"\x00#") {
				return fmt.Sprintf("the route %q", route)
			}
		}
		problems = append(problems, p.Problems...)
	}
	if len(problems) > 60 {
		return fmt.Sprintf("%d problems", len(problems))
	}
	for _, p := range problems {
		if p.App == "" || p.Message == "" || p.Action == "" {
			return fmt.Sprintf("a problem with gaps: %+v", p)
		}
	}
	return ""
}

func TestHostileTemplates(t *testing.T) {
	t.Parallel()
	names := slices.Concat(behaviours, allTemplates, deploymentLabels)
	for at, value := range hostile {
		check := func(label, text string) {
			t.Helper()
			meta := map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_PATH": "/x", "HAPROXY_0_HTTP_BACKEND_PROXYPASS_PATH": "/x", "HAPROXY_0_STICKY": "true", label: text}
			if why := whatEver(Parse("/app", meta, twoPorts, Options{})); why != "" {
				t.Errorf("%s=%.100q: %s", label, text, why)
			}
		}
		if len(value) > 5000 && at%7 != 0 {
			continue // one of each length will do
		}
		for i, f := range frames {
			if (at+i)%9 == 0 { // hundreds of values each
				check("HAPROXY_0_"+f.label, strings.ReplaceAll(f.text, "%s", value))
			}
		}
		for i := range 3 { // every name gets dozens of values
			check("HAPROXY_0_"+names[(3*at+i)%len(names)], value)
		}
		check("HAPROXY_"+names[at%len(names)], value)
	}
}

func FuzzTemplates(f *testing.F) {
	for _, frame := range frames {
		f.Add(frame.label, strings.ReplaceAll(frame.text, "%s", "x"))
	}
	f.Fuzz(func(t *testing.T, label, text string) {
		meta := map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_PATH": "/x", "HAPROXY_0_STICKY": "true", "HAPROXY_0_" + label: text}
		if why := whatEver(Parse("/app", meta, twoPorts, Options{})); why != "" {
			t.Error(why)
		}
		if diff := cmp.Diff(meaning(meta, twoPorts, Options{}), meaning(Migrate("/app", meta, twoPorts, Options{}).Labels, twoPorts, Options{})); diff != "" {
			t.Errorf("migrated (-before +after):\n%s", diff)
		}
	})
}

// Whatever stands in a template, nothing that restricts access is lost without closing the service.
func TestNothingThatRestrictsIsLost(t *testing.T) {
	words := []string{
		"http-request", "deny", "auth", "tarpit", "reject", "tcp-request", "content", "connection", "block", "if", "unless", "{", "}", "!{", "src", "10.0.0.0/8", "path_beg", "/x", "!ok",
		"ok", "acl", "set-header", "X-A", "b", "\"", "'", "\\", "$HOME", "#", "realm", "deny_status", "403", "http_auth(x)", "allow", "silent-drop", "return", "hdr(x)", "|| ", "&&",
	}
	rapid.Check(t, func(t *rapid.T) {
		line := "http-request deny " + strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 8).Draw(t, "words"), " ")
		before := rapid.SampledFrom([]string{"", "option forwardfor\n", "acl ok src 10.0.0.0/8\n", "acl ok path /x\n"}).Draw(t, "before")
		p := Parse("/app", map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_BACKEND_HTTP_OPTIONS": before + line}, twoPorts, Options{}).Ports[0]
		if p.Policy.Refused == "" && len(p.Policy.Allow) == 0 {
			t.Fatalf("%q leaves the service open: %s", before+line, p.Policy.String())
		}
	})
}

// Lines that go into the configuration as they stand are lines of their section, whoever wrote them.
func TestRawLinesStayInTheirSection(t *testing.T) {
	t.Parallel()
	o := Options{RawTemplates: []string{"/app"}}
	for _, value := range seeds {
		if len(value) > 300 {
			continue
		}
		for _, text := range []string{value, "\"" + value + "\"", "'backend' " + value, "back\"end\" " + value, "\\x62ackend x", "  no-such " + value, "x\rbackend y", ".if 1\nx", "if x\n.endif"} {
			p := Parse("/app", map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_BACKEND_HTTP_OPTIONS": text}, twoPorts, o).Ports[0]
			for _, raw := range p.Policy.Raw {
				words, err := splitWords(raw)
				if err != nil || len(words) == 0 || leaves(words) || strings.ContainsAny(raw, "\r\n\x00") || len(raw) > maxRawLine {
					t.Errorf("%.100q lets %q through", text, raw)
				}
			}
		}
	}
	p := Parse("/app/x", map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_BACKEND_HTTP_OPTIONS": "unique-id-format x"}, twoPorts, o).Ports[0]
	if len(p.Policy.Raw) != 1 {
		t.Errorf("an app of the group has no raw lines: %v", p.Problems)
	}
	if (&Options{RawTemplates: []string{"/app"}}).AllowsRaw("/apple") {
		t.Error("a name that begins alike is taken for one of the group")
	}
}
