package labels

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of what one label may hold.
const (
	maxValue = 32 << 10 // bytes
	maxItems = 256      // of a list
	maxFlaws = 8        // reported for one label
	maxHost  = 253      // bytes
	maxPath  = 1024     // bytes
	maxName  = 64       // bytes
)

// flaw is what is wrong with a value, or with one item of it.
type flaw struct {
	code  string
	value string
	text  string // completes "the value …"
	warn  bool   // it is used nevertheless, or the default does no harm
	used  bool   // the item is used all the same
	done  string // what is done where it is used; "" is "the rest is used"
}

// clean removes what people cannot see: zero-width characters anywhere, and white space at the ends; a no-break space counts as
// a space. odd reports whether it found any that an editor would not show.
func clean(s string) (cleaned string, odd bool) {
	ascii := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if !ascii && utf8.ValidString(s) {
		s = strings.Map(func(r rune) rune {
			switch r {
			case '\u200b', '\u200c', '\u200d', '\u2060', '\ufeff', '\u00ad':
				odd = true
				return -1
			case '\u00a0', '\u202f', '\u2007', '\u3000':
				odd = true
				return ' '
			}
			return r
		}, s)
	}
	return strings.Trim(s, " \t\r\n"), odd
}

// parseList reads a list whose items are separated by commas or spaces. Each item comes out once, sorted.
func parseList(raw string, item func(string) (string, *flaw)) (items []string, flaws []flaw) {
	items, flaws = parseItems(raw, splitList, item)
	return merged(nil, items), flaws
}

// splitList splits at commas and spaces. An item that begins with "~" is a regular expression: it ends at a space only.
func splitList(raw string) []string {
	var items []string
	for {
		raw = strings.TrimLeft(raw, ", \t")
		if raw == "" {
			return items
		}
		ends := ", \t"
		if raw[0] == '~' {
			ends = " \t"
		}
		end := strings.IndexAny(raw, ends)
		if end < 0 {
			end = len(raw)
		}
		items, raw = append(items, raw[:end]), raw[end:]
	}
}

// splitSpaces splits at spaces only.
func splitSpaces(raw string) []string {
	return strings.FieldsFunc(raw, func(r rune) bool { return r == ' ' || r == '\t' })
}

// parseItems reads the items of a list in their order.
func parseItems[T any](raw string, split func(string) []string, item func(string) (T, *flaw)) (items []T, flaws []flaw) {
	if len(raw) > maxValue {
		return nil, []flaw{{code: "SB106", value: raw, text: fmt.Sprintf("is longer than %d bytes", maxValue)}}
	}
	fields := split(raw)
	if len(fields) == 0 {
		return nil, []flaw{{code: "SB107", value: raw, text: "is empty"}}
	}
	if len(fields) > maxItems {
		flaws = append(flaws, flaw{code: "SB106", value: raw, text: fmt.Sprintf("holds more than %d items", maxItems)})
		fields = fields[:maxItems]
	}
	more, lost := 0, 0
	for _, f := range fields {
		v, bad := item(f)
		switch {
		case bad == nil:
		case len(flaws) < maxFlaws:
			flaws = append(flaws, *bad)
		default:
			more++
			if !bad.used {
				lost++
			}
		}
		if bad == nil || bad.used {
			items = append(items, v)
		}
	}
	if more > 0 {
		flaws = append(flaws, flaw{code: "SB106", value: raw, text: fmt.Sprintf("has %d more items with problems", more), warn: lost == 0, used: lost == 0})
	}
	return items, flaws
}

// parseHost returns a host name as requests carry it: lower case, A-labels, neither trailing dot nor port; "" for "*"; and
// regular expressions of hosts with their "~".
func parseHost(s string, o *Options) (string, *flaw) {
	bad := func(text string) (string, *flaw) { return "", &flaw{code: "SB111", value: s, text: text} }
	if s == "*" {
		return "", nil
	}
	if expr, ok := strings.CutPrefix(s, "~"); ok {
		return parseHostRegex(expr, o)
	}
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort {
		if _, ok := parsePort(port); !ok {
			return bad("is not a host name")
		}
	}
	wild := ""
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		wild, host = "*.", rest
	}
	host = strings.TrimSuffix(host, ".")
	host, ok := toASCII(host)
	if !ok || !isHostName(host) {
		return bad("is not a host name")
	}
	host = wild + host
	if len(host) > maxHost {
		return bad(fmt.Sprintf("is longer than %d bytes", maxHost))
	}
	for _, r := range o.Reserved {
		if host == r {
			return "", &flaw{code: "SB116", value: s, text: "is reserved on this load balancer"}
		}
	}
	if hasPort {
		return host, &flaw{code: "SB119", value: s, text: "has a port, which routing by name does not look at", warn: true, used: true}
	}
	return host, nil
}

// isHostName reports whether s is made of lower-case letters, digits, inner hyphens and underscores, in labels of 1 to 63.
func isHostName(s string) bool {
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_':
			label++
		case c == '-':
			if label == 0 || i+1 == len(s) || s[i+1] == '.' {
				return false
			}
			label++
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0
}

// toASCII lower-cases a name and turns its international labels into A-labels, as browsers do.
func toASCII(host string) (string, bool) {
	ascii := true
	for i := range len(host) {
		if host[i] >= utf8.RuneSelf {
			ascii = false
		}
	}
	if ascii {
		return strings.ToLower(host), true
	}
	if !utf8.ValidString(host) || len(host) > 4*maxHost {
		return "", false
	}
	name, err := idna.Lookup.ToASCII(host)
	return name, err == nil
}

// parsePath returns a path prefix without a trailing slash, "/" for all.
func parsePath(s string) (string, *flaw) {
	s, bad := parseExactPath(s)
	if bad != nil || s == "/" {
		return s, bad
	}
	return strings.TrimSuffix(s, "/"), nil
}

// parseExactPath returns a path as it stands. What it lets through is one reading only: no dot segments, no empty segments, no
// encoded slashes or controls, and none of the characters that a configuration could understand.
func parseExactPath(s string) (string, *flaw) {
	if text := notPath(s); text != "" {
		return "", &flaw{code: "SB110", value: s, text: text}
	}
	return s, nil
}

// parseTarget returns what a request asks for: a path, with a query or without.
func parseTarget(s string) (string, *flaw) {
	path, query, _ := strings.Cut(s, "?")
	text := notPath(path)
	for i := 0; i < len(query) && text == ""; i++ {
		if c := query[i]; !isPathByte(c) && c != '?' && c != ',' && c != ';' && c != '%' {
			text = fmt.Sprintf("has the character %q in its query", c)
		}
	}
	if text == "" && len(s) > maxPath {
		text = fmt.Sprintf("is longer than %d bytes", maxPath)
	}
	if text != "" {
		return "", &flaw{code: "SB110", value: s, text: text}
	}
	return s, nil
}

// parseRedirect returns where requests for "/" are sent.
func parseRedirect(s string) (string, *flaw) {
	s, bad := parseTarget(s)
	if path, _, _ := strings.Cut(s, "?"); bad == nil && path == "/" {
		return "", &flaw{code: "SB110", value: s, text: "leads back to itself"}
	}
	return s, bad
}

// notPath says why s is no path, or "".
func notPath(s string) string {
	if !strings.HasPrefix(s, "/") {
		return `must start with "/"`
	}
	if len(s) > maxPath {
		return fmt.Sprintf("is longer than %d bytes", maxPath)
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isPathByte(c):
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "has a % that two hexadecimal digits do not follow"
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil || n < 0x20 || n == 0x7f || n == '/' || n == '\\' || n == '.' || n == '%' {
				return fmt.Sprintf("has the encoded character %s, which may be read in two ways", s[i:i+3])
			}
			i += 2
		case c == '*':
			return `has a "*"; a path holds for everything below it without one`
		case c == '?' || c == '#':
			return "has a query or a fragment"
		case c >= utf8.RuneSelf:
			return "has characters that must be percent-encoded"
		default:
			return fmt.Sprintf("has the character %q", c)
		}
	}
	if s == "/" {
		return ""
	}
	for seg := range strings.SplitSeq(strings.TrimSuffix(s[1:], "/"), "/") {
		switch seg {
		case "":
			return "has an empty segment"
		case ".", "..":
			return "has a dot segment"
		}
	}
	return ""
}

// isPathByte reports whether c may stand in a path as it is: RFC 3986's pchar and the slash, less quotes, $ and *, the comma that
// separates items, and the semicolon that separates commands on HAProxy's socket.
func isPathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("/-._~!&()+=:@", c) >= 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func parsePort(s string) (int, bool) {
	if len(s) == 0 || len(s) > 5 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && 1 <= n && n <= 65535
}

func parseBool(s string) (b, ok bool) {
	switch strings.ToLower(s) {
	case "true", "t", "on", "yes", "y", "1":
		return true, true
	case "false", "f", "off", "no", "n", "0":
		return false, true
	}
	return false, false
}

// parseName reads the name of a group.
func parseName(s string) (string, *flaw) {
	if len(s) > maxName {
		return "", &flaw{code: "SB115", value: s, text: fmt.Sprintf("is longer than %d bytes", maxName)}
	}
	if s == "*" {
		return s, nil
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || strings.IndexByte("-._/:", c) < 0) {
			return "", &flaw{code: "SB115", value: s, text: "is not a name of letters, digits and - . _ / :"}
		}
	}
	return s, nil
}
