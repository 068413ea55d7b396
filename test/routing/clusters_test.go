package routing

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
)

var clusters = flag.Int("clusters", 6, "how many random clusters HAProxy is asked about; each has up to 60 apps")

// odd are values that nobody should write, and that somebody writes.
var odd = []string{
	"", " ", "\t", "\n", "a\nb", "a\r\nX: y", "\x00", "a b", "'", `"`, `'"'`, `\`, "#", "# x", "%", "%[src]", "%[env(HOME)]", "${HOME}", "$HOME", "{", "}", "{ }",
	"-f", "-f /etc/passwd", "-m reg .*", "-i x", "--", "unix@/tmp/x", "fd@1", "/../", "//", "/%2f", "*", "**", "*.", "*.*", ".", "..", "~", "~(", "~.*", "~(a+)+",
	"é", "\u202e", "\ufeff", "\u00a0", "xn--", "xn--a", strings.Repeat("a", 300), strings.Repeat("a.", 200), strings.Repeat("x ", 80), "default", "no_route",
	"0", "-1", "1e9", "65536", "99999999999999999999", "NaN", "0x10", "1d", "true", "TRUE", "null", "[]", "a:b:c:d", "::", "::/0", "0.0.0.0/0", "10.0.0.0/33",
	"100/s", "1/0s", "0/s", "100/100h", "GET", "GET /x y", "GET /\r\nX", "OPTIONS *", "off", "on", "!", "|", "||", "<", ">", ";", ",", ",,", "=", "a=b", "503=sorry", "503=nothere",
	"X-A: b", "X-A:", ": b", "Host: x", "Content-Length: 5", "X A: b", "X-A: %[src]", "X-A: " + strings.Repeat("y", 5000),
}

// good are values that mean something, by what the label's name ends with.
var good = map[string][]string{
	"host": {"a.local", "b.local, c.local", "*.d.local", "~e[0-9]+\\.local", "*", "bücher.local"}, "path": {"/", "/a", "/a /b/c", "/x, /y"},
	"path-match": {"prefix", "exact", "regex"}, "mode": {"http", "tcp"}, "port": {"12000", "on", "off", "12001"}, "enable": {"true", "false"}, "group": {"a", "a, b", "*"},
	"balance": signalbox.Balances, "sticky": {"true", "MINE"}, "weight": {"0", "50", "256"}, "priority": {"-5", "7"}, "health": {"off", "tcp", "GET /h"},
	"health-interval": {"500ms", "2s"}, "slow-start": {"10s"}, "maxconn": {"1", "100"}, "timeout": {"300ms", "24h"}, "connect-timeout": {"1s"}, "retries": {"0", "10"},
	"https-redirect": {"true"}, "tls": {"own", "shop", "passthrough", "nothere"}, "hsts": {"true"}, "allow": {"10.0.0.0/8", "all", "::1, 1.2.3.4"},
	"auth": {"staff", "nobody", "r:joe:" + secretHash, "off"}, "rate-limit": {"100/s", "30/10s", "1/1h"}, "request-header": {"X-A: b", "X-A: it's \"x\" %[src]"},
	"response-header": {"Cache-Control: no-store"}, "cors": {"*", "https://a.example.com, https://b.example.com:8443"}, "error-page": {"503=sorry", "403=sorry 504=sorry"},
	"strip-prefix": {"true"}, "rewrite-path": {"/z", "/"}, "rewrite-host": {"z.local"}, "rewrite-location": {"/z"}, "redirect-root": {"/z/", "/z?a=b"},
	"backend-tls": {"insecure", "verify", "off"}, "http2": {"true"}, "send-proxy": {"true"}, "task-port": {"8080"}, "accept-proxy": {"true"}, "port-tls": {"true"}, "bind-address": {"127.0.0.1", "::1"},
	"routes": {"/users/{id}"}, "slo": {"99.9% < 250ms"}, "log": {"errors"}, "trace": {"1/10"}, "owner": {"it's me"}, "docs": {"https://x.example.com/a b"},
	"VHOST": {"a.local", "b.local,B.local, c.local"}, "PATH": {"/a", "/a /b", "-i /C"}, "GROUP": {"external"}, "ENABLED": {"true", "f"}, "MODE": {"http", "tcp"}, "PORT": {"12002"},
	"BALANCE": {"leastconn", "source"}, "STICKY": {"true"}, "AUTH": {"r:joe:" + secretHash, "r:joe"}, "REDIRECT_TO_HTTPS": {"true"}, "USE_HSTS": {"yes"}, "SSL_CERT": {"/etc/ssl/own.pem"},
	"BIND_ADDR": {"*", "127.0.0.1"}, "BIND_OPTIONS": {"accept-proxy", "ssl crt x"}, "BACKEND_WEIGHT": {"-1", "5"}, "BACKEND_NETWORK_ALLOWED_ACL": {"10.0.0.0/8 127.0.0.1"},
	"BACKEND_HEALTHCHECK_PORT_INDEX": {"0", "1", "9"}, "HTTP_BACKEND_PROXYPASS_PATH": {"/a"}, "HTTP_BACKEND_REVPROXY_PATH": {"/a"}, "HTTP_BACKEND_REDIR": {"/a/"},
	"BACKEND_HEAD": {"backend {backend}\n  balance {balance}\n  mode {mode}\n  timeout server 5m\n", "  errorfile 503 /x\n"}, "BACKEND_SERVER_OPTIONS": {"  server {serverName} {host_ipv4}:{port} ssl verify none maxconn 5\n"},
	"BACKEND_HTTP_OPTIONS": {"  http-request set-header X-A b\n  timeout tunnel 1h\n"}, "HTTP_FRONTEND_ACL": {"  acl x hdr_end(host) -i {hostname}\n  use_backend {backend} if x\n"}, "FRONTEND_HEAD": {"  http-request deny\n"},
}

// cluster draws the body of an answer of Marathon's.
func cluster(t *rapid.T) []byte {
	var keys []string
	for _, row := range labels.Table() {
		keys = append(keys, row.Key)
	}
	foreign := []string{
		"VHOST", "PATH", "GROUP", "ENABLED", "MODE", "PORT", "BALANCE", "STICKY", "AUTH", "REDIRECT_TO_HTTPS", "USE_HSTS", "SSL_CERT", "BIND_ADDR", "BIND_OPTIONS", "BACKEND_WEIGHT",
		"BACKEND_NETWORK_ALLOWED_ACL", "BACKEND_HEALTHCHECK_PORT_INDEX", "HTTP_BACKEND_PROXYPASS_PATH", "HTTP_BACKEND_REVPROXY_PATH", "HTTP_BACKEND_REDIR", "BACKEND_HEAD",
		"BACKEND_SERVER_OPTIONS", "BACKEND_HTTP_OPTIONS", "HTTP_FRONTEND_ACL", "FRONTEND_HEAD", "HTTPS_FRONTEND_ACL", "BACKEND_STICKY_OPTIONS", "TCP_HEALTHCHECK_OPTIONS",
	}
	value := func(key string) string {
		switch n := rapid.IntRange(0, 9).Draw(t, "kind"); {
		case n < 7 && good[key] != nil:
			return rapid.SampledFrom(good[key]).Draw(t, key)
		case n < 9:
			return rapid.SampledFrom(odd).Draw(t, key)
		}
		return rapid.StringN(0, 40, 200).Draw(t, key)
	}
	var apps []map[string]any
	for n := range rapid.IntRange(1, 60).Draw(t, "apps") {
		set := map[string]string{}
		if rapid.Bool().Draw(t, "native") {
			set["signalbox.host"] = fmt.Sprintf("app%d.local", n)
		}
		for range rapid.IntRange(0, 8).Draw(t, "labels") {
			if rapid.Bool().Draw(t, "foreign") {
				key := rapid.SampledFrom(foreign).Draw(t, "key")
				set[fmt.Sprintf("HAPROXY_%d_%s", rapid.IntRange(0, 1).Draw(t, "port"), key)] = value(key)
				set["HAPROXY_GROUP"] = "external"
				continue
			}
			key := rapid.SampledFrom(keys).Draw(t, "key")
			set["signalbox."+rapid.SampledFrom([]string{"", "0.", "1.", "web."}).Draw(t, "form")+key] = value(key)
		}
		tasks := []map[string]any{}
		for i := range rapid.IntRange(0, 2).Draw(t, "tasks") {
			tasks = append(tasks, map[string]any{
				"id": fmt.Sprintf("app%d.%d", n, i), "host": "10.0.0.1", "ports": []int{31000 + n, 32000 + n}, "state": "TASK_RUNNING",
			})
		}
		apps = append(apps, map[string]any{
			"id": fmt.Sprintf("/app%d", n), "labels": set, "tasks": tasks,
			"versionInfo":     map[string]any{"lastConfigChangeAt": fmt.Sprintf("2024-01-%02dT00:00:00.000Z", 1+n%28)},
			"portDefinitions": []map[string]any{{"port": 10000 + 2*n, "name": "web"}, {"port": 10001 + 2*n}},
			"healthChecks": []map[string]any{{
				"protocol": rapid.SampledFrom([]string{"HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "x"}).Draw(t, "check"),
				"path":     rapid.SampledFrom(append([]string{"/", "/health?a=b"}, odd...)).Draw(t, "path"), "portIndex": rapid.IntRange(-1, 3).Draw(t, "index"),
				"intervalSeconds": rapid.IntRange(-1, 100000).Draw(t, "interval"), "timeoutSeconds": rapid.IntRange(-1, 100000).Draw(t, "timeout"),
			}},
		})
	}
	body, err := json.Marshal(map[string]any{"apps": apps})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Whatever labels say, in either dialect: HAProxy loads what comes of them, and has nothing to warn of.
func TestRandomClustersAreAccepted(t *testing.T) {
	t.Parallel()
	own := newAddresses()
	convert, options := settings(t, "--raw-templates=/none", own)
	example := rapid.Custom(cluster)
	for n := range *clusters {
		body := example.Example(int(rapid.Uint16().Example(n)) + n)
		write(t, haproxy.Build(tableOf(t, body, convert), options, nil))
		if t.Failed() {
			t.Fatalf("of the apps:\n%s", body)
		}
	}
}

// tableOf is what a controller makes of apps, without asking anybody.
func tableOf(t *testing.T, body []byte, convert marathon.Options) *signalbox.Table {
	t.Helper()
	apps, bad, err := marathon.DecodeApps(bytes.NewReader(body), 64<<20)
	if err != nil || len(bad) > 0 {
		t.Fatalf("%v %v", err, bad)
	}
	var services []*signalbox.Service
	var problems []signalbox.Problem
	for _, app := range apps {
		s, p := marathon.Convert(app, convert)
		services, problems = append(services, s...), append(problems, p...)
	}
	return discovery.Merged(signalbox.NewTable(services, problems))
}
