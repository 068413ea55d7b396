package labels

import (
	"slices"
	"strings"
)

// pattern is one side of a rule: which hosts, or which paths, it holds for, in the words of native labels.
type pattern struct {
	value string // "shop.local", "~.+\.shop\.local"; "/api"; an expression
	match string // of a path: prefix, exact, regex
}

// routeRule is what one use_backend line makes of its terms.
type routeRule struct {
	hosts, paths []pattern
}

// aclRules reads the lines of frontend templates: which names and paths lead to the service. A line that is none of acl, use_backend
// and what goes with them is no rule. narrows says that what cannot be said keeps requests out.
func (t *translation) aclRules(lines []line) (rules []routeRule, why string, narrows bool) {
	named := map[string][][]string{}
	for _, l := range lines {
		w := l.words
		switch {
		case l.err != nil:
			return nil, l.err.Error(), restrictive.MatchString(l.text)
		case w[0] == "acl" && len(w) > 2:
			named[w[1]] = append(named[w[1]], w[2:])
		case w[0] == "use_backend" && len(w) > 3 && w[1] == "{backend}" && w[2] == "if":
			more, trouble := t.rulesOf(w[3:], named)
			if trouble != "" {
				return nil, trouble, true
			}
			rules = append(rules, more...)
		case w[0] == "http-request" && len(w) > 1 && w[1] == "auth" && t.labels["AUTH"].twin != "":
			// the label AUTH holds on every way in
		case w[0] == "redirect" && slices.Contains(w, "scheme"):
			t.ask(t.at, "https-redirect", "true")
		default:
			return nil, "has the line " + publicText(l.text) + ", and frontends are shared", restrictive.MatchString(l.text)
		}
	}
	return rules, "", false
}

// rulesOf reads the terms of a condition: alternatives of names of acl lines and of anonymous ones.
func (t *translation) rulesOf(terms []string, named map[string][][]string) (rules []routeRule, why string) {
	var r routeRule
	end := func() {
		rules = append(rules, r)
		r = routeRule{}
	}
	for i := 0; i < len(terms); i++ {
		criteria := named[terms[i]]
		switch term := terms[i]; {
		case term == "||" || term == "or":
			end()
			continue
		case strings.HasPrefix(term, "!"):
			return nil, "has a condition that is negated"
		case term == "{":
			closed := slices.Index(terms[i:], "}")
			if closed < 2 {
				return nil, "has a brace that is not closed"
			}
			criteria = [][]string{terms[i+1 : i+closed]}
			i += closed
		case criteria == nil:
			return nil, "has the condition " + printable(cut(term, 60)) + ", which nothing defines"
		}
		if why = t.take(&r, criteria); why != "" {
			return nil, why
		}
	}
	end()
	return rules, ""
}

// take narrows a rule to what one of some criteria holds for.
func (t *translation) take(r *routeRule, criteria [][]string) (why string) {
	var hosts, paths []pattern
	for _, c := range criteria {
		if strings.HasPrefix(c[0], "http_auth(") && t.labels["AUTH"].twin != "" {
			continue // who may enter is the label's
		}
		h, p, trouble := t.criterion(c)
		if trouble != "" {
			return trouble
		}
		hosts, paths = append(hosts, h...), append(paths, p...)
	}
	if len(hosts) > 0 && len(paths) > 0 || len(hosts) > 0 && len(r.hosts) > 0 || len(paths) > 0 && len(r.paths) > 0 {
		return "asks for two things of one host or path at once"
	}
	r.hosts, r.paths = append(r.hosts, hosts...), append(r.paths, paths...)
	return ""
}

// criterion reads what an acl compares: a fetch, flags, and patterns.
func (t *translation) criterion(w []string) (hosts, paths []pattern, why string) {
	fetch, lowered, _ := strings.Cut(w[0], ",")
	method, fold, i := "", lowered == "lower", 1
flags:
	for ; i < len(w); i++ {
		switch {
		case w[i] == "-i":
			fold = true
		case w[i] == "-m" && i+1 < len(w):
			i++
			method = w[i]
		case w[i] == "--":
			i++
			break flags
		case strings.HasPrefix(w[i], "-"):
			return nil, nil, "reads patterns from elsewhere"
		default:
			break flags
		}
	}
	var values []string
	for _, v := range w[i:] {
		for _, one := range strings.Fields(t.value(v)) {
			if one != "-i" {
				values = append(values, one)
				continue
			}
			fold = true // of {path}, which is the words after path_beg
		}
	}
	if len(values) == 0 {
		return nil, nil, "compares with nothing"
	}
	for _, suffix := range []string{"_beg", "_dir", "_dom", "_end", "_reg", "_sub"} {
		if base, rest, ok := cutFetch(fetch, suffix); ok && method == "" {
			fetch, method = base+rest, suffix[1:]
		}
	}
	switch strings.ToLower(fetch) {
	case "hdr(host)", "req.hdr(host)", "hdr(host,1)", "req.fhdr(host)", "ssl_fc_sni", "req_ssl_sni", "req.ssl_sni":
		for _, v := range values {
			p, trouble := hostPattern(v, method)
			if trouble != "" {
				return nil, nil, trouble
			}
			hosts = append(hosts, p)
		}
	case "path", "url":
		for _, v := range values {
			p, trouble := pathPattern(v, method, fold)
			if trouble != "" {
				return nil, nil, trouble
			}
			paths = append(paths, p)
		}
	default:
		return nil, nil, "compares " + printable(cut(fetch, 40)) + ", which no label can name"
	}
	return hosts, paths, ""
}

// cutFetch splits hdr_end(host) into hdr and (host).
func cutFetch(fetch, suffix string) (base, rest string, ok bool) {
	name, args, _ := strings.Cut(fetch, "(")
	base, ok = strings.CutSuffix(name, suffix)
	if args != "" {
		rest = "(" + args
	}
	return base, rest, ok
}

// hostPattern says a comparison of hosts in the words of the label host. Hosts are compared in lower case, without a port.
func hostPattern(value, method string) (pattern, string) {
	value = strings.ToLower(value)
	q := quoteRegex(value)
	switch method {
	case "", "str":
		return pattern{value: value}, ""
	case "end":
		if strings.HasPrefix(value, ".") {
			return pattern{value: "~.+" + q}, ""
		}
		return pattern{value: "~.*" + q}, ""
	case "beg":
		return pattern{value: "~" + q + ".*"}, ""
	case "sub":
		return pattern{value: "~.*" + q + ".*"}, ""
	case "dom":
		return pattern{value: `~(.*\.)?` + quoteRegex(strings.Trim(value, ".")) + `(\..*)?`}, ""
	case "reg":
		expr, ok := whole(value)
		if !ok {
			return pattern{}, "has an expression whose alternatives have anchors of their own"
		}
		return pattern{value: "~" + expr}, ""
	}
	return pattern{}, "compares hosts in a way that no label can"
}

// pathPattern says a comparison of paths in the words of the labels path and path-match. fold says that case means nothing.
func pathPattern(value, method string, fold bool) (pattern, string) {
	q := quoteRegex(value)
	if fold && method != "reg" {
		if q = foldRegex(value); q == quoteRegex(value) {
			fold = false // it has no letters
		}
	}
	trimmed := strings.TrimSuffix(q, "/")
	switch method {
	case "beg", "dir":
		switch {
		case method == "dir" && !strings.HasPrefix(value, "/"):
			return pattern{value: "(/.*)?/" + trimmed + "(/.*)?", match: "regex"}, ""
		case fold:
			return pattern{value: trimmed + "(/.*)?", match: "regex"}, ""
		}
		return pattern{value: value, match: "prefix"}, ""
	case "", "str":
		if fold {
			return pattern{value: q, match: "regex"}, ""
		}
		return pattern{value: value, match: "exact"}, ""
	case "end":
		return pattern{value: ".*" + q, match: "regex"}, ""
	case "sub":
		return pattern{value: ".*" + q + ".*", match: "regex"}, ""
	case "reg":
		if fold {
			value = foldExpression(value)
		}
		expr, ok := whole(value)
		if !ok {
			return pattern{}, "has an expression whose alternatives have anchors of their own"
		}
		return pattern{value: expr, match: "regex"}, ""
	}
	return pattern{}, "compares paths in a way that no label can"
}

// whole turns an expression that is found anywhere into one of the whole string.
func whole(re string) (string, bool) {
	begin, end, anchored := ".*", ".*", false
	if rest, ok := strings.CutPrefix(re, "^"); ok {
		begin, re, anchored = "", rest, true
	}
	if rest, ok := strings.CutSuffix(re, "$"); ok && !strings.HasSuffix(rest, `\`) {
		end, re, anchored = "", rest, true
	}
	if strings.Contains(re, "|") {
		if anchored && alternates(re) {
			return "", false
		}
		re = "(" + re + ")"
	}
	// What begins or ends with anything needs no more of it: two in a row would only cost time.
	if strings.HasPrefix(re, ".*") {
		begin = ""
	}
	if strings.HasSuffix(re, ".*") && !strings.HasSuffix(re, `\.*`) {
		end = ""
	}
	return begin + re + end, true
}

// alternates reports whether an expression has alternatives outside of all groups.
func alternates(re string) bool {
	depth := 0
	for i := 0; i < len(re); i++ {
		switch re[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth--
		case '|':
			if depth == 0 {
				return true
			}
		}
	}
	return false
}

// quoteRegex returns an expression of a text itself.
func quoteRegex(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`\.+*?()|[]{}^$`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// foldRegex returns an expression of a text in either case.
func foldRegex(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if lower, upper := s[i]|0x20, s[i]&^0x20; 'a' <= lower && lower <= 'z' {
			b.Write([]byte{'[', lower, upper, ']'})
			continue
		}
		b.WriteString(quoteRegex(s[i : i+1]))
	}
	return b.String()
}

// foldExpression lets an expression hold for either case, letter by letter; sets of characters stay as they are, and so does what
// a backslash stands before.
func foldExpression(re string) string {
	var b strings.Builder
	inSet := false
	for i := 0; i < len(re); i++ {
		c := re[i]
		switch {
		case c == '\\' && i+1 < len(re):
			b.WriteString(re[i : i+2])
			i++
		case c == '[':
			inSet = true
			b.WriteByte(c)
		case c == ']':
			inSet = false
			b.WriteByte(c)
		case !inSet && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'):
			b.WriteString(foldRegex(re[i : i+1]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
