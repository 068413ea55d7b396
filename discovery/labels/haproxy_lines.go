package labels

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox"
)

// outcome says what became of a line of a template.
type outcome int

const (
	understood  outcome = iota // labels say it, or the load balancer does it anyway
	approximate                // labels say nearly the same
	unsaid                     // no label says it
	restricting                // no label says it, and it restricts who may enter
	leaving                    // it begins another section of the configuration, or a directive that reaches beyond it
)

// sections are the words that begin a section of HAProxy's configuration.
var sections = []string{
	"acme", "backend", "cache", "crt-store", "defaults", "fcgi-app", "frontend", "global", "http-errors", "listen", "log-forward",
	"log-profile", "mailers", "peers", "program", "resolvers", "ring", "traces", "userlist",
}

// leaves reports whether a line, as it stands, would end the section that it is in.
func leaves(words []string) bool {
	return slices.Contains(sections, words[0]) || strings.HasPrefix(words[0], ".")
}

// idleOptions are HAProxy's options of a proxy that change nothing for those who route, or that hold here anyway.
var idleOptions = []string{
	"abortonclose", "accept-invalid-http-response", "allbackups", "clitcpka", "contstats", "disable-h2-upgrade",
	"dontlog-normal", "dontlognull", "forceclose", "forwardfor", "http-buffer-request", "http-keep-alive", "http-no-delay",
	"http-pretend-keepalive", "http-server-close", "http-tunnel", "http-use-htx", "httpclose", "httplog", "log-health-checks",
	"log-separate-errors", "logasap", "nolinger", "originalto", "prefer-last-server", "redispatch", "socket-stats", "splice-auto",
	"splice-request", "splice-response", "srvtcpka", "tcp-smart-accept", "tcp-smart-connect", "tcpka", "tcplog", "transparent",
}

// idleWords begin lines that say how a proxy reports, connects or tunes itself, which the load balancer does in its own way.
var idleWords = []string{"acl", "description", "fullconn", "hash-type", "http-reuse", "id", "log", "log-format", "log-tag", "tcp-check", "email-alert"}

// backendLine reads one line of a backend's section.
func (t *translation) backendLine(c claim, l line) (outcome, string) {
	w := l.words
	if leaves(w) {
		return leaving, "begins another section"
	}
	switch w[0] {
	case "no":
		return t.noLine(c, w)
	case "acl":
		if len(w) > 2 {
			t.acls[w[1]] = append(t.acls[w[1]], w[2:])
		}
		return understood, ""
	case "balance":
		return t.balance(c, w)
	case "mode":
		return t.modeLine(c, w)
	case "timeout":
		return t.timeout(c, w)
	case "retries":
		if len(w) == 2 {
			t.ask(c, "retries", w[1])
			return understood, ""
		}
	case "option":
		return t.option(c, w)
	case "cookie":
		if len(w) > 1 {
			if !slices.Contains(w[2:], "insert") { // the cookie is the app's own, which must come through as it is
				t.ask(c, "sticky", stickyName)
				return approximate, "the cookie " + printable(cut(w[1], 40)) + " is left alone, and one of the load balancer's keeps a client at its task"
			}
			t.ask(c, "sticky", w[1])
			return differs(!slices.Equal(w[2:], []string{"insert", "indirect", "nocache"}), "the cookie is inserted, indirect and not cached")
		}
	case "errorfile":
		if len(w) == 3 {
			t.add(c, "error-page", w[1]+"="+path.Base(w[2]))
			return understood, ""
		}
	case "http-request":
		return t.httpRequest(c, w)
	case "http-response":
		return t.httpResponse(c, w)
	case "redirect":
		return t.redirect(c, w[1:])
	case "reqadd", "rspadd":
		return t.addedLine(c, w)
	case "reqrep", "reqirep":
		return t.replacedRequest(c, w)
	case "rspirep", "rsprep":
		return t.replacedAnswer(c, w)
	case "default-server":
		return t.serverWords(c, w[1:])
	case "block", "reqdeny", "reqideny", "reqtarpit", "reqitarpit", "rspdeny", "rspideny":
		return restricting, "denies requests"
	case "tcp-request", "tcp-response":
		if slices.Contains(w, "reject") {
			return t.deny(c, w)
		}
		if len(w) > 1 && w[1] == "inspect-delay" {
			return understood, ""
		}
	case "http-check":
		return approximate, "a check is good when the answer's status is 2xx or 3xx"
	default:
		if slices.Contains(idleWords, w[0]) {
			return understood, ""
		}
	}
	return unsaid, "is nothing that a label can say"
}

func differs(it bool, how string) (outcome, string) {
	if it {
		return approximate, how
	}
	return understood, ""
}

func (t *translation) noLine(c claim, w []string) (outcome, string) {
	switch {
	case len(w) == 2 && w[1] == "log":
		t.ask(c, "log", "off")
		return understood, ""
	case len(w) >= 3 && w[1] == "option" && (slices.Contains(idleOptions, w[2]) || w[2] == "httpchk"):
		return understood, ""
	}
	return unsaid, "is nothing that a label can say"
}

func (t *translation) balance(c claim, w []string) (outcome, string) {
	switch {
	case len(w) == 1 || w[1] == "{balance}":
		return understood, ""
	case slices.Contains(signalbox.Balances, w[1]):
		t.ask(c, "balance", w[1])
		return differs(len(w) > 2, "the algorithm takes no arguments")
	}
	return unsaid, "asks for an algorithm that no label can ask for"
}

// modeLine reads what the service speaks; "{mode}" is what it speaks anyway.
func (t *translation) modeLine(c claim, w []string) (outcome, string) {
	if len(w) == 2 && w[1] != "{mode}" {
		t.ask(c, "mode", w[1])
	}
	return understood, ""
}

// timeout reads the bounds of time. Of those that a service has one of, the longest holds, so that nothing is cut off earlier
// than before.
func (t *translation) timeout(c claim, w []string) (outcome, string) {
	if len(w) < 3 {
		return unsaid, "has no time"
	}
	if w[2] == "{healthCheckTimeoutSeconds}s" {
		return understood, ""
	}
	key := map[string]string{"server": "timeout", "tunnel": "timeout", "client": "timeout", "connect": "connect-timeout"}[w[1]]
	if key == "" {
		if slices.Contains([]string{"queue", "check", "http-request", "http-keep-alive", "client-fin", "server-fin", "tarpit"}, w[1]) {
			return approximate, "the load balancer's own time holds"
		}
		return unsaid, "is no time that a label can give"
	}
	d, ok := haproxyTime(w[2])
	if !ok {
		return unsaid, "has no time that can be read"
	}
	if at := t.find(key); at != nil && at.template {
		if before, err := time.ParseDuration(at.value); err == nil && before >= d {
			return understood, ""
		}
	}
	t.ask(c, key, short(d))
	return understood, ""
}

// haproxyTime reads a time as HAProxy writes it, in milliseconds unless it has a unit.
func haproxyTime(s string) (time.Duration, bool) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	n, err := strconv.ParseInt(s[:digits], 10, 32)
	if err != nil {
		return 0, false
	}
	unit, ok := map[string]time.Duration{
		"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[s[digits:]]
	return time.Duration(n) * unit, ok
}

func (t *translation) option(c claim, w []string) (outcome, string) {
	switch {
	case len(w) < 2:
	case w[1] == "httpchk":
		return t.check(c, w[2:])
	case slices.Contains(idleOptions, w[1]), w[1] == "tcp-check" && len(w) == 2:
		return understood, ""
	}
	return unsaid, "is an option that no label can ask for"
}

// check reads the words after "option httpchk": [METHOD] PATH [VERSION].
func (t *translation) check(c claim, w []string) (outcome, string) {
	method, uri := "OPTIONS", "/"
	switch len(w) {
	case 0:
	case 1:
		uri = w[0]
	default:
		method, uri = w[0], w[1]
	}
	if uri == "{healthCheckPath}" {
		return differs(method != "GET", "checks are GET requests")
	}
	t.ask(c, "health", "GET "+uri)
	return differs(method != "GET" || len(w) > 2, "checks are GET requests of HTTP/1.1 to localhost")
}

// condition splits a line before its condition. negated says that the line holds where the terms do not.
func condition(w []string) (main, terms []string, negated bool) {
	i := slices.IndexFunc(w, func(s string) bool { return s == "if" || s == "unless" })
	if i < 0 {
		return w, nil, false
	}
	return w[:i], w[i+1:], w[i] == "unless"
}

// overTLS reports whether terms hold for requests over TLS and no others; unencrypted reports the reverse.
func overTLS(terms []string) bool {
	text := strings.Join(terms, " ")
	return text == "{ ssl_fc }" || text == "{ ssl_fc 1 }" || text == "{ dst_port 443 }"
}

func unencrypted(terms []string) bool {
	text := strings.Join(terms, " ")
	return text == "!{ ssl_fc }" || text == "! { ssl_fc }" || text == "{ ssl_fc 0 }" || text == "{ dst_port 80 }"
}

func (t *translation) httpRequest(c claim, w []string) (outcome, string) {
	if len(w) < 2 {
		return unsaid, "has no action"
	}
	main, terms, negated := condition(w[2:])
	switch w[1] {
	case "set-header", "add-header":
		return t.requestHeader(c, main, terms)
	case "replace-path", "replace-uri":
		if len(main) == 2 {
			return t.rewrite(c, main[0], main[1], 1, terms, negated)
		}
	case "set-path", "set-uri":
		if len(main) == 1 {
			if re, to, ok := regsub(main[0]); ok {
				return t.rewrite(c, re, to, 0, terms, negated)
			}
		}
	case "redirect":
		return t.redirect(c, w[2:])
	case "deny", "tarpit", "reject", "silent-drop", "auth":
		return t.deny(c, w)
	case "allow":
		return restricting, "allows some requests before others are denied"
	}
	return unsaid, "is an action that no label can ask for"
}

// forwarded are the headers that the load balancer sets on every request.
var forwarded = []string{"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"}

func (t *translation) requestHeader(c claim, main, terms []string) (outcome, string) {
	if len(main) != 2 {
		return unsaid, "is no header and its value"
	}
	name, value := main[0], main[1]
	known := slices.Contains(forwarded, strings.ToLower(name))
	switch {
	case known && strings.Contains(value, "%["), known && strings.EqualFold(name, "X-Forwarded-Proto") && len(terms) > 0 && (overTLS(terms) || unencrypted(terms)):
		return understood, "" // it is set anyway, by what the connection is
	case len(terms) > 0:
		return unsaid, "sets a header under a condition"
	case strings.EqualFold(name, "Host"):
		if value = t.value(value); strings.Contains(value, "%") {
			return unsaid, "makes up the Host of each request"
		}
		t.ask(c, "rewrite-host", value)
		return understood, ""
	}
	return t.header(c, "request-header", name, value)
}

// header asks for a header with a value that is the same for every message.
func (t *translation) header(c claim, key, name, value string) (outcome, string) {
	literal := strings.ReplaceAll(t.value(value), "%%", "\x00")
	if strings.Contains(literal, "%") {
		return unsaid, "makes up the value of a header for each message"
	}
	literal = strings.ReplaceAll(literal, "\x00", "%")
	if strings.ContainsFunc(name+literal, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return unsaid, "has a header with control characters"
	}
	t.add(c, key, name+": "+literal)
	return understood, ""
}

func (t *translation) httpResponse(c claim, w []string) (outcome, string) {
	if len(w) < 2 {
		return unsaid, "has no action"
	}
	main, terms, _ := condition(w[2:])
	switch w[1] {
	case "set-header", "add-header":
		if len(main) == 2 {
			return t.responseHeader(c, main[0], main[1], terms)
		}
	case "deny":
		return restricting, "denies answers"
	}
	return unsaid, "is an action that no label can ask for"
}

func (t *translation) responseHeader(c claim, name, value string, terms []string) (outcome, string) {
	if strings.EqualFold(name, "Strict-Transport-Security") && (len(terms) == 0 || overTLS(terms)) {
		t.ask(c, "hsts", "true")
		return differs(strings.ReplaceAll(value, " ", "") != "max-age="+hstsAge, "the age is "+hstsAge+" seconds")
	}
	if len(terms) > 0 {
		return unsaid, "sets a header under a condition"
	}
	return t.header(c, "response-header", name, value)
}

// hstsAge is the age that marathon-lb gives Strict-Transport-Security, in seconds.
const hstsAge = "15768000"

// addedLine reads reqadd and rspadd, which HAProxy has no more: one word, "Name: value".
func (t *translation) addedLine(c claim, w []string) (outcome, string) {
	main, terms, _ := condition(w[1:])
	if len(main) != 1 {
		return unsaid, "is no header"
	}
	name, value, ok := strings.Cut(main[0], ":")
	if !ok {
		return unsaid, "is no header"
	}
	value = strings.ReplaceAll(strings.TrimSpace(value), "%", "%%") // they knew no formats
	if w[0] == "rspadd" {
		return t.responseHeader(c, name, value, terms)
	}
	return t.requestHeader(c, []string{name, value}, terms)
}

// deny reads what refuses requests. It can be said by a label where it refuses all addresses but some.
func (t *translation) deny(c claim, w []string) (outcome, string) {
	_, terms, negated := condition(w)
	text := strings.Join(terms, " ")
	if !negated {
		rest, ok := strings.CutPrefix(text, "!")
		if !ok {
			return t.denied(text)
		}
		text = strings.TrimSpace(rest)
	}
	var nets []string
	if inner, ok := strings.CutPrefix(text, "{ "); ok {
		inner, closed := strings.CutSuffix(inner, " }")
		words := strings.Fields(inner)
		if !closed || len(words) < 2 || words[0] != "src" {
			return t.denied(text)
		}
		nets = words[1:]
	} else {
		for _, criterion := range t.acls[text] {
			if criterion[0] != "src" {
				return t.denied(text)
			}
			nets = append(nets, criterion[1:]...)
		}
	}
	if len(nets) == 0 || !slices.Contains(w, "deny") && !slices.Contains(w, "reject") {
		return t.denied(text)
	}
	t.ask(c, "allow", strings.Join(nets, " "))
	return understood, ""
}

// denied tells bounds of rates, whose loss lets nobody in, from restrictions.
func (t *translation) denied(terms string) (outcome, string) {
	if strings.Contains(terms, "sc_") || strings.Contains(terms, "sc0_") || strings.Contains(terms, "src_") {
		return unsaid, "bounds a rate; signalbox.rate-limit does"
	}
	return restricting, "denies requests"
}

// redirect reads the words after "redirect".
func (t *translation) redirect(c claim, w []string) (outcome, string) {
	main, terms, negated := condition(w)
	value := func(key string) string {
		if i := slices.Index(main, key); i >= 0 && i+1 < len(main) {
			return main[i+1]
		}
		return ""
	}
	text := strings.Join(terms, " ")
	switch {
	case value("scheme") == "https" && (len(terms) == 0 || !negated && unencrypted(terms) || negated && overTLS(terms)):
		t.ask(c, "https-redirect", "true")
		return differs(value("code") != "301", "the status is 301")
	case value("location") != "" && !negated && (text == "{ path / }" || text == "{ path -i / }" || text == "{ path -m str / }"):
		t.ask(c, "redirect-root", value("location"))
		return differs(value("code") != "301" && value("code") != "302", "the status is the load balancer's")
	}
	return unsaid, "redirects in a way that no label can ask for"
}
