package labels

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// The words of a server line that take no effect here, without and with a value: names and numbers that the load balancer gives
// itself, what all servers of a backend have alike, and the cipher suites and versions of TLS, which the operator chooses.
var (
	idleServerWords = []string{
		"allow-0rtt", "check", "enabled", "force-tlsv12", "force-tlsv13", "no-sslv3", "no-tls-tickets", "no-tlsv10",
		"no-tlsv11", "non-stick", "ssl-reuse", "no-ssl-reuse", "tfo", "stick", "no-send-proxy", "no-send-proxy-v2", "no-check-ssl", "no-ssl",
	}
	idleServerPairs = []string{
		"addr", "check-sni", "ciphers", "ciphersuites", "cookie", "id", "init-addr", "max-reuse", "pool-max-conn", "pool-purge-delay",
		"resolvers", "resolve-net", "resolve-opts", "resolve-prefer", "sni", "ssl-max-ver", "ssl-min-ver", "weight",
	}
	// ownServerPairs are done by the load balancer in its own way.
	ownServerPairs = []string{
		"agent-addr", "agent-inter", "agent-port", "downinter", "error-limit", "fall", "fastinter", "maxqueue", "minconn", "observe",
		"on-error", "on-marked-down", "on-marked-up", "pool-low-conn", "rise", "verifyhost", "ca-file", "crl-file", "log-proto", "proxy-v2-options",
	}
)

// serverLine reads the line that every server of a backend gets.
func (t *translation) serverLine(c claim, l line) (outcome, string) {
	w := l.words
	switch {
	case w[0] == "default-server":
		return t.serverWords(c, w[1:])
	case w[0] != "server":
		return t.backendLine(c, l)
	case len(w) < 3:
		return unsaid, "has no address"
	}
	if at := w[2]; at != "{host_ipv4}:{port}" && at != "{host}:{port}" {
		host, port, _ := strings.Cut(at, ":")
		number, ok := parsePort(port)
		if !ok || host != "{host_ipv4}" && host != "{host}" {
			return unsaid, "sends to an address that is not the task's"
		}
		t.ask(c, "task-port", strconv.Itoa(number))
	}
	return t.serverWords(c, w[3:])
}

// serverWords reads the parameters of a server.
func (t *translation) serverWords(c claim, w []string) (result outcome, why string) {
	worse := func(o outcome, text string) {
		if o > result {
			result, why = o, text
		}
	}
	tls, verify, checkTLS := false, "", false
	for i := 0; i < len(w); i++ {
		word := w[i]
		value, has := "", i+1 < len(w)
		if has {
			value = w[i+1]
		}
		pair := func() string { i++; return value }
		switch {
		case word == "":
		case strings.HasPrefix(word, "{") && strings.HasSuffix(word, "}") && !strings.Contains(word, "{port}"):
			// what marathon-lb fills in: the load balancer does
		case word == "ssl":
			tls = true
		case word == "check-ssl":
			checkTLS = true
		case word == "verify" && has:
			verify = pair()
		case word == "inter" && has:
			if pair() != "{healthCheckIntervalSeconds}s" {
				if d, ok := haproxyTime(value); ok {
					t.ask(c, "health-interval", short(d))
				} else {
					worse(unsaid, "has no time that can be read")
				}
			}
		case word == "fall" && has && value == "{healthCheckFalls}", word == "port" && has && strings.HasPrefix(value, "{"):
			i++
		case word == "port" && has:
			i++
			worse(unsaid, "probes a port by its number; HAPROXY_N_BACKEND_HEALTHCHECK_PORT_INDEX names one of the app's")
		case word == "maxconn" && has:
			t.ask(c, "maxconn", pair())
		case word == "slowstart" && has:
			if d, ok := haproxyTime(pair()); ok {
				t.ask(c, "slow-start", short(d))
			} else {
				worse(unsaid, "has no time that can be read")
			}
		case word == "proto" && has && value == "h2", word == "alpn" && has && slices.Contains(strings.Split(value, ","), "h2"):
			i++
			t.ask(c, "http2", "true")
		case word == "proto" && has, word == "alpn" && has, word == "check-alpn" && has, word == "check-proto" && has:
			i++
		case word == "send-proxy":
			t.ask(c, "send-proxy", "true")
			worse(approximate, "the PROXY protocol's version is 2")
		case word == "send-proxy-v2", word == "send-proxy-v2-ssl", word == "send-proxy-v2-ssl-cn":
			t.ask(c, "send-proxy", "true")
		case word == "check-send-proxy":
		case word == "no-check":
			t.ask(c, "health", "off")
		case slices.Contains(idleServerPairs, word) && has:
			i++
		case slices.Contains(ownServerPairs, word) && has:
			i++
			worse(approximate, word+" is as the load balancer has it")
		case slices.Contains(idleServerWords, word):
		default:
			worse(unsaid, "has the parameter "+strconv.Quote(printable(cut(word, 40)))+", which no label can give")
		}
	}
	switch {
	case tls && verify == "none":
		t.ask(c, "backend-tls", "insecure")
	case tls:
		t.ask(c, "backend-tls", "verify") // as HAProxy does by default
	case checkTLS:
		worse(unsaid, "probes over TLS what is not spoken to over TLS")
	}
	return result, why
}

// bind reads the options of a frontend's bind line.
func (t *translation) bind(c claim, w []string) (result outcome, why string) {
	worse := func(o outcome, text string) {
		if o > result {
			result, why = o, text
		}
	}
	for i := 0; i < len(w); i++ {
		word := w[i]
		value, has := "", i+1 < len(w)
		if has {
			value = w[i+1]
		}
		switch {
		case word == "", word == "{sslCert}", word == "{bindOptions}", word == "ssl":
		case word == "accept-proxy":
			t.ask(c, "accept-proxy", "true")
		case word == "crt" && has:
			i++
			t.certificate(c, value)
		case slices.Contains([]string{"ca-file", "ca-verify-file", "crl-file", "verify"}, word) && has && (word != "verify" || value != "none"):
			i++
			worse(restricting, "asks clients for certificates")
		case slices.Contains([]string{"accept-netscaler-cip", "uid", "gid", "user", "group", "mode", "level", "namespace", "severity-output"}, word) && has:
			i++
			worse(unsaid, "has the option "+word+", which no label can give")
		case slices.Contains(idleBindPairs, word) && has:
			i++
		case slices.Contains(idleBindWords, word):
		default:
			worse(unsaid, "has the option "+strconv.Quote(printable(cut(word, 40)))+", which no label can give")
		}
	}
	return result, why
}

// The options of a bind line that take no effect here: the operator chooses how TLS is spoken with clients.
var (
	idleBindPairs = []string{
		"alpn", "backlog", "ca-ignore-err", "ciphers", "ciphersuites", "crt-ignore-err", "curves", "ecdhe", "id", "maxconn", "name", "nice", "npn",
		"process", "proto", "ssl-max-ver", "ssl-min-ver", "tcp-ut", "thread", "tls-ticket-keys", "verify",
	}
	idleBindWords = []string{
		"allow-0rtt", "defer-accept", "force-tlsv10", "force-tlsv11", "force-tlsv12", "force-tlsv13", "generate-certificates", "no-ca-names",
		"no-sslv3", "no-tls-tickets", "no-tlsv10", "no-tlsv11", "no-tlsv12", "no-tlsv13", "prefer-client-ciphers", "strict-sni", "tfo", "v4v6", "v6only",
	}
)

// certificate asks for a certificate of the operator's, by the name of its file without what says its kind, on the service port.
func (t *translation) certificate(c claim, file string) {
	name := path.Base(file)
	if kind := path.Ext(name); kind == ".pem" || kind == ".crt" || kind == ".cert" {
		name = strings.TrimSuffix(name, kind)
	}
	t.ask(c, "tls", name)
	t.ask(c, "port-tls", "true")
}

// frontendLine reads one line of the frontend of a service port.
func (t *translation) frontendLine(c claim, l line) (outcome, string) {
	w := l.words
	switch w[0] {
	case "bind":
		if len(w) < 2 {
			return unsaid, "has no address"
		}
		host, port, ok := cutLast(w[1], ':')
		switch number, isPort := parsePort(port); {
		case !ok:
			return unsaid, "has no address that can be read"
		case isPort:
			t.ask(c, "port", strconv.Itoa(number))
		case port != "{servicePort}":
			return unsaid, "has no port that can be read"
		}
		if host != "{bindAddr}" && host != "*" && host != "" && host != "0.0.0.0" {
			t.ask(c, "bind-address", host)
		}
		return t.bind(c, w[2:])
	case "mode":
		return t.modeLine(c, w)
	case "timeout":
		return t.timeout(c, w)
	case "option":
		if len(w) > 1 && slices.Contains(idleOptions, w[1]) {
			return understood, ""
		}
	case "no", "log", "log-format", "log-tag", "description", "id", "capture":
		if w[0] != "no" || len(w) > 1 && (w[1] == "log" || w[1] == "option") {
			return understood, ""
		}
	case "reqadd", "http-request", "http-response", "rspadd":
		// What a frontend of its own did to every request of the service, its backend does.
		return t.backendLine(c, l)
	case "use_backend", "default_backend":
		if len(w) == 2 && w[1] == "{backend}" {
			return understood, ""
		}
	case "tcp-request":
		if slices.Contains(w, "reject") {
			return t.deny(c, w)
		}
	case "errorfile":
		return t.backendLine(c, l)
	}
	return unsaid, "is nothing that a label can say; frontends are shared"
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}
