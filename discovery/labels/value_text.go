package labels

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"signalbox"
)

// Limits of texts.
const (
	maxHeaders     = 32
	maxHeaderValue = 1024 // bytes
	maxText        = 200  // bytes, of what people read
	maxURL         = 1024 // bytes
)

var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// parsePlain reads the name of something that the operator has given, or of a cookie.
func parsePlain(s string) (string, *flaw) {
	if !plainName.MatchString(s) {
		return "", &flaw{code: "SB131", value: s, text: "is not a name of 1 to 64 letters, digits and - . _"}
	}
	return s, nil
}

// parseOneHost reads a host name without wildcard.
func parseOneHost(s string) (string, *flaw) {
	if strings.HasPrefix(s, "*") || strings.HasPrefix(s, "~") {
		return "", &flaw{code: "SB111", value: s, text: "is not one host name"}
	}
	return parseHost(s, &Options{})
}

// takenHeaders are those that HTTP itself or the load balancer decides on, in lower case.
var takenHeaders = []string{
	"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect",
	"proxy-authenticate", "proxy-authorization", "forwarded", "traceparent", "tracestate", "b3", "x-request-id",
}

// takenAnswers are further ones in answers.
var takenAnswers = []string{"set-cookie", "strict-transport-security", "www-authenticate", "server-timing"}

// parseHeaders reads header fields, one a line.
func parseHeaders(raw string, answer bool) ([]signalbox.Header, []flaw) {
	named := map[string]bool{}
	return parseItems(raw, func(s string) []string {
		var lines []string
		for line := range strings.SplitSeq(s, "\n") {
			if line = strings.Trim(line, " \t\r"); line != "" {
				lines = append(lines, line)
			}
		}
		return lines
	}, func(line string) (signalbox.Header, *flaw) {
		h, text := parseHeader(line, answer)
		key := strings.ToLower(h.Name)
		switch {
		case text != "":
		case named[key]:
			text = "sets " + h.Name + " a second time"
		case len(named) == maxHeaders:
			text = fmt.Sprintf("is more than the %d header fields there may be", maxHeaders)
		default:
			named[key] = true
			return h, nil
		}
		return signalbox.Header{}, &flaw{code: "SB128", value: line, text: text}
	})
}

// parseHeader reads "Name: value", or says what is wrong with it.
func parseHeader(line string, answer bool) (signalbox.Header, string) {
	name, value, ok := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	key := strings.ToLower(name)
	switch {
	case !ok:
		return signalbox.Header{}, "is not Name: value"
	case !isToken(name):
		return signalbox.Header{}, "has a name that is not made of letters, digits and - . _"
	case slices.Contains(takenHeaders, key) || strings.HasPrefix(key, "x-forwarded-") || strings.HasPrefix(key, "x-b3-"):
		return signalbox.Header{}, "sets a header field that the load balancer decides on"
	case answer && slices.Contains(takenAnswers, key):
		return signalbox.Header{}, "sets a header field that tasks or other labels decide on"
	case value == "":
		return signalbox.Header{}, "has no value"
	case len(value) > maxHeaderValue:
		return signalbox.Header{}, fmt.Sprintf("has a value longer than %d bytes", maxHeaderValue)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' {
			return signalbox.Header{}, "has characters in its value that are not printable ASCII"
		}
	}
	return signalbox.Header{Name: name, Value: value}, ""
}

// secretHeaders are those whose values belong in no log, in lower case.
var secretHeaders = []string{"authorization", "cookie", "proxy-authorization"}

// parseLogHeaders reads the names of header fields that are logged, in lower case and sorted.
func parseLogHeaders(raw string) ([]string, []flaw) {
	named := map[string]bool{}
	return parseList(raw, func(name string) (string, *flaw) {
		key, text := strings.ToLower(name), ""
		switch {
		case !isToken(name):
			text = "has a name that is not made of letters, digits and - . _"
		case slices.Contains(secretHeaders, key):
			text = "is a secret, which belongs in no log"
		case !named[key] && len(named) == signalbox.MaxLogHeaders:
			text = fmt.Sprintf("is more than the %d header fields that a line has room for", signalbox.MaxLogHeaders)
		}
		if text != "" {
			return "", &flaw{code: "SB128", value: name, text: text}
		}
		named[key] = true
		return key, nil
	})
}

// isToken reports whether s is the name of a header field: RFC 7230's token, less the signs that a configuration could
// understand, and at most 64 bytes.
func isToken(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'; !alnum && strings.IndexByte("-._", c) < 0 {
			return false
		}
	}
	return true
}

// parseOrigin reads an origin as browsers send it: scheme, host, and a port that is not the scheme's own.
func parseOrigin(s string) (string, *flaw) {
	if s == "*" {
		return s, nil
	}
	bad := func(text string) (string, *flaw) { return "", &flaw{code: "SB129", value: s, text: text} }
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return bad("is not an origin such as https://app.example.com")
	}
	if strings.HasPrefix(rest, "*") {
		return bad("has a wildcard; name each origin, or * alone for all")
	}
	if strings.HasSuffix(rest, "/") {
		return bad("has a path; an origin ends before it")
	}
	host, port := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		host, port = rest[:i], rest[i+1:]
		if n, ok := parsePort(port); !ok {
			return bad("has something that is no port after its colon")
		} else if port = strconv.Itoa(n); scheme == "http" && port == "80" || scheme == "https" && port == "443" {
			port = ""
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return bad("has no host name")
		}
		host = "[" + addr.String() + "]"
	} else if host, ok = toASCII(host); !ok || !isHostName(host) || len(host) > maxHost {
		return bad("has no host name")
	}
	if port != "" {
		port = ":" + port
	}
	return scheme + "://" + host + port, nil
}

// ownStatuses are those that HAProxy answers by itself.
var ownStatuses = []int{400, 401, 403, 404, 405, 407, 408, 410, 413, 425, 429, 500, 501, 502, 503, 504}

// errorPageItems returns a reader of the pages of one label: status=name.
func errorPageItems() func(string) (signalbox.ErrorPage, *flaw) {
	seen := map[int]bool{}
	return func(s string) (signalbox.ErrorPage, *flaw) {
		bad := func(text string) (signalbox.ErrorPage, *flaw) {
			return signalbox.ErrorPage{}, &flaw{code: "SB130", value: s, text: text}
		}
		status, name, ok := strings.Cut(s, "=")
		if !ok {
			return bad("is not status=name, such as 503=sorry")
		}
		n, wrong := number(400, 599)(status)
		if wrong != nil || !slices.Contains(ownStatuses, n) {
			return bad("does not begin with a status that HAProxy answers by itself, such as 503")
		}
		if _, wrong := parsePlain(name); wrong != nil {
			return bad("has a name that is not 1 to 64 letters, digits and - . _")
		}
		if seen[n] {
			return bad("gives a second page for one status")
		}
		seen[n] = true
		return signalbox.ErrorPage{Status: n, Name: name}, nil
	}
}

func sortPages(pages []signalbox.ErrorPage) {
	slices.SortFunc(pages, func(a, b signalbox.ErrorPage) int { return cmp.Compare(a.Status, b.Status) })
}

var variable = regexp.MustCompile(`^\{[A-Za-z_][A-Za-z0-9_]{0,63}\}$`)

// parseTemplate reads a template of paths: /users/{id}.
func parseTemplate(s string) (string, *flaw) {
	var plain []string
	for seg := range strings.SplitSeq(s, "/") {
		if variable.MatchString(seg) {
			seg = "x"
		} else if strings.ContainsAny(seg, "{}") {
			return "", &flaw{code: "SB110", value: s, text: "has a variable that is not a whole segment such as {id}"}
		}
		plain = append(plain, seg)
	}
	if text := notPath(strings.Join(plain, "/")); text != "" {
		return "", &flaw{code: "SB110", value: s, text: text}
	}
	if len(s) > maxPath {
		return "", &flaw{code: "SB110", value: s, text: fmt.Sprintf("is longer than %d bytes", maxPath)}
	}
	return s, nil
}

// parseText reads what people read.
func parseText(s string) (string, *flaw) {
	bad := func(text string) (string, *flaw) { return "", &flaw{code: "SB132", value: s, text: text} }
	switch {
	case s == "":
		return "", &flaw{code: "SB107", value: s, text: "is empty"}
	case len(s) > maxText:
		return bad(fmt.Sprintf("is longer than %d bytes", maxText))
	case !utf8.ValidString(s):
		return bad("is not UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return bad("has characters that cannot be shown")
	}
	return s, nil
}

// parseURL reads an address that a browser may be sent to.
func parseURL(s string) (string, *flaw) {
	bad := func(text string) (string, *flaw) { return "", &flaw{code: "SB132", value: s, text: text} }
	if len(s) > maxURL {
		return bad(fmt.Sprintf("is longer than %d bytes", maxURL))
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte("\"'<>`\\{}|^", c) >= 0 {
			return bad("has characters that must be percent-encoded")
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return bad("is not an http or https URL")
	}
	return s, nil
}
