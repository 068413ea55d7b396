package labels

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signalbox"
)

// meaning is what a source makes of labels, less the problems.
func meaning(meta map[string]string, ports []Port, o Options) string {
	var b strings.Builder
	for _, p := range Parse("/app", meta, ports, o).Ports {
		if !p.Enabled {
			fmt.Fprintf(&b, "%d disabled\n", p.Index)
			continue
		}
		at := "own"
		if p.CheckPortOf != nil {
			at = fmt.Sprint(*p.CheckPortOf)
		}
		fmt.Fprintf(&b, "%d %s %v listen %d groups %v check %v at %s policy %s deployment %v\n", p.Index, p.Mode, p.Routes, p.Listen, p.Groups,
			p.Check(signalbox.Check{}), at, p.Policy.String(), p.Deployment)
		if p.Policy.Auth != nil {
			b.WriteString(p.Policy.Auth.Hash + "\n")
		}
	}
	return b.String()
}

// foreignValues are values of marathon-lb's labels, good and bad.
var foreignValues = map[string][]string{
	"VHOST":             {"a.com", "a.com, b.com", "*.c.com", "A.com,!", ""},
	"PATH":              {"/x", "/x /y/", "-i /x", "-f /x", "no"},
	"MODE":              {"http", "tcp", "HTTP", "udp"},
	"PORT":              {"9000", "70000"},
	"ENABLED":           {"true", "false", "t", "maybe"},
	"GROUP":             {"edge", "edge, inner", "!"},
	"STICKY":            {"true", "false", "maybe"},
	"BALANCE":           {"leastconn", "nonsense"},
	"BACKEND_WEIGHT":    {"5", "1", "-1", "high"},
	"REDIRECT_TO_HTTPS": {"true", "false"},
	"USE_HSTS":          {"true"},
	"AUTH":              {"shop:ann:" + someHash, "ann:x"},
	"SSL_CERT":          {"/etc/ssl/shop.pem", "!"},
	"BIND_ADDR":         {"10.0.0.1", "*", "eth0"},
	"BIND_OPTIONS":      {"accept-proxy", "ssl crt /x.pem", "interface eth0", "verify required ca-file x"},
	"USERLIST_HEAD":     {"userlist user_{backend}\n  user {user} insecure-password {passwd}\n"},
	"BACKEND_HEAD": {
		"backend {backend}\n  balance source\n  timeout server 5m\n  retries 4\n  errorfile 503 /e/sorry.http\n", "backend {backend}\n  mode tcp\n", "backend {backend}\n  no-such\n",
		"backend {backend}\n  http-request deny if {{ path /x }}\n",
	},
	"BACKEND_HTTP_OPTIONS": {
		"  http-request set-header X-A b\n  reqadd X-B:\\ c\n  rspadd X-C:\\ d\n", "  http-request replace-path /x/(.*) /\\1\n", "  http-request deny unless { src 10.0.0.0/8 }\n", "  http-request deny if { path /x }\n",
		"  http-request set-var(txn.x) path\n",
	},
	"BACKEND_SERVER_OPTIONS":          {"  server {serverName} {host_ipv4}:{port} ssl verify none maxconn 5 inter 3s proto h2\n", "  server {serverName} {host_ipv4}:{port} send-proxy slowstart 9s\n"},
	"HTTP_FRONTEND_ACL":               {"  acl h hdr_end(host) -i .a.com\n  use_backend {backend} if h\n", "  acl h method POST\n  use_backend {backend} if h\n"},
	"HTTP_BACKEND_PROXYPASS_PATH":     {"/x", "/z"},
	"HTTP_BACKEND_REVPROXY_PATH":      {"/r"},
	"HTTP_BACKEND_REDIR":              {"/home"},
	"BACKEND_NETWORK_ALLOWED_ACL":     {"10.0.0.0/8 192.168.0.1", "10.0.0.0/8 nonsense"},
	"BACKEND_HEALTHCHECK_PORT_INDEX":  {"0", "1", "7"},
	"BACKEND_STICKY_OPTIONS":          {"  cookie MINE insert\n"},
	"BACKEND_TCP_HEALTHCHECK_OPTIONS": {"  option httpchk GET /ok\n"},
}

// What labels do stays the same when native ones take the place of marathon-lb's, and then there is nothing left to migrate.
func TestMigrationChangesNothing(t *testing.T) {
	names := slices.Sorted(maps.Keys(foreignValues))
	rapid.Check(t, func(t *rapid.T) {
		ports := rapid.SampledFrom([][]Port{
			{{Service: 10001}},
			{{Service: 10001, Check: "HTTP"}},
			{{}},
			{{Index: 0, Service: 10001, Name: "web"}, {Index: 1, Service: 10002, Check: "MESOS_HTTP"}},
			{{Index: 0, Service: 10001}, {Index: 1, NoService: true}, {Index: 2, Service: 10003}},
			{{Index: 0, Service: 10001, Unroutable: "it is a UDP port"}, {Index: 1, Service: 10002}},
		}).Draw(t, "ports")
		meta := map[string]string{"team": "x"}
		for range rapid.IntRange(1, 8).Draw(t, "labels") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			meta[fmt.Sprintf("HAPROXY_%d_%s", rapid.IntRange(0, len(ports)-1).Draw(t, "port"), name)] = rapid.SampledFrom(foreignValues[name]).Draw(t, "value")
		}
		others := map[string][]string{
			"HAPROXY_GROUP": {"", "external, internal"}, "HAPROXY_DEPLOYMENT_GROUP": {"", "shop"}, "HAPROXY_TYPO": {"", "", "", "x"}, "signalbox.host": {"", "", "n.com"},
			"signalbox.0.mode": {"", "", "", "http"}, "signalbox.timeout": {"", "", "3s"}, "HAPROXY_0_VHOST": {"", "a.com", "d.com,e.com"},
		}
		for _, name := range slices.Sorted(maps.Keys(others)) {
			if v := rapid.SampledFrom(others[name]).Draw(t, name); v != "" {
				meta[name] = v
			}
		}
		o := Options{RawTemplates: rapid.SampledFrom([][]string{nil, {"/"}}).Draw(t, "raw")}
		m := Migrate("/app", meta, ports, o)
		if diff := cmp.Diff(meaning(meta, ports, o), meaning(m.Labels, ports, o)); diff != "" {
			t.Fatalf("%q becomes %q (-before +after):\n%s", meta, m.Labels, diff)
		}
		again := Migrate("/app", m.Labels, ports, o)
		if diff := cmp.Diff(m.Labels, again.Labels); diff != "" {
			t.Fatalf("%q is not done with (-once +twice):\n%s", meta, diff)
		}
		for name := range m.Labels {
			if strings.HasPrefix(name, "HAPROXY_") != slices.Contains(slices.Concat(m.Kept, m.ForTools), name) {
				t.Fatalf("%s of %q is not told of: %q", name, m.Labels, m.Kept)
			}
		}
	})
}

// Nobody sees a password's hash in what migrate tells people.
func TestMigrationShowsNoSecrets(t *testing.T) {
	meta := map[string]string{"HAPROXY_0_VHOST": "a.com", "HAPROXY_0_AUTH": "shop:ann:" + someHash, "HAPROXY_0_BACKEND_HTTP_OPTIONS": "  http-request set-header Authorization Basic\\ c2VjcmV0\n"}
	m := Migrate("/app", meta, twoPorts[:1], Options{})
	text := fmt.Sprint(m.Changes(meta), m.Lost)
	if strings.Contains(text, "abcdefgh") || strings.Contains(text, "c2VjcmV0") || !strings.Contains(text, "shop:ann:…") {
		t.Errorf("it shows %s", text)
	}
	if m.Labels["signalbox.auth"] != "shop:ann:"+someHash {
		t.Errorf("the labels are %q", m.Labels)
	}
}
