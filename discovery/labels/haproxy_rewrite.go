package labels

import (
	"fmt"
	"strings"
)

// rewrite reads a regular expression on paths and what takes its place, where together they take a prefix off or put another in
// its place: groups counts those of the expression before its tail.
func (t *translation) rewrite(c claim, re, to string, groups int, terms []string, negated bool) (outcome, string) {
	from, target, ok := prefixRewrite(t.value(re), t.value(to), groups)
	if !ok {
		return unsaid, "rewrites paths in a way that no label can ask for"
	}
	if len(terms) > 0 && (negated || !t.holdsBelow(terms, from)) {
		return unsaid, "rewrites paths under a condition"
	}
	return t.stripped(c, from, target)
}

// holdsBelow reports whether terms hold for every path below a prefix.
func (t *translation) holdsBelow(terms []string, prefix string) bool {
	words := terms
	switch {
	case len(terms) == 1:
		if len(t.acls[terms[0]]) != 1 {
			return false
		}
		words = t.acls[terms[0]][0]
	case terms[0] == "{" && terms[len(terms)-1] == "}":
		words = terms[1 : len(terms)-1]
	}
	return len(words) == 2 && words[0] == "path_beg" && strings.TrimSuffix(t.value(words[1]), "/") == prefix
}

// stripped asks for a prefix to be taken off, or replaced, which labels do for the path of the route only.
func (t *translation) stripped(c claim, from, target string) (outcome, string) {
	paths := t.routePaths()
	_, match := pathBeg(t.labels["PATH"].value)
	ofRoute := match == "prefix" && len(paths) == 1 && paths[0] == from
	switch {
	case target != "/" && target != "" && !ofRoute:
		return unsaid, fmt.Sprintf("replaces %s; only the path of the route can be replaced, and that is %s", from, strings.Join(paths, " "))
	case target != "/" && target != "":
		t.ask(c, "rewrite-path", target)
	case ofRoute:
		t.ask(c, "strip-prefix", "true")
	default:
		t.ask(c, "strip-prefix", from)
	}
	return understood, ""
}

// routePaths returns the paths of the route as HAPROXY_N_PATH has them.
func (t *translation) routePaths() []string {
	var paths []string
	if c, ok := t.labels["PATH"]; ok {
		for _, p := range strings.Fields(c.value) {
			if p = strings.TrimSuffix(p, "/"); strings.HasPrefix(p, "/") {
				paths = append(paths, p)
			}
		}
	}
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	return paths
}

// tails are the ways in which expressions go on after a prefix, each with the references to the groups that hold what follows
// the slash; the first group of a tail is number 1.
var tails = map[string]string{
	`/?(.*)`: `/\1`, `/?(.*)$`: `/\1`, `/(.*)`: `/\1`, `/(.*)$`: `/\1`, `(/)?(.*)`: `/\2`, `(/)?(.*)$`: `/\2`, `(/|)(.*)`: `/\2`, `(?:/)?(.*)`: `/\1`,
	`(/.*)?`: `\1`, `(/.*)?$`: `\1`, `(/.*)`: `\1`, `(/.*)$`: `\1`, `(.*)`: `\1`, `(.*)$`: `\1`, `/`: `/`, `/?`: `/`, ``: ``,
}

// prefixRewrite takes an expression apart that matches a prefix and all below it, and what replaces it: ^/api/?(.*) and /\1.
func prefixRewrite(re, to string, groups int) (from, target string, ok bool) {
	re = strings.TrimPrefix(re, "^")
	from, tail := literalPrefix(re)
	trimmed := strings.TrimRight(from, "/")
	tail = from[len(trimmed):] + tail
	if trimmed == "" || trimmed[0] != '/' {
		return "", "", false
	}
	ref, known := tails[tail]
	if !known {
		return "", "", false
	}
	if groups == 2 { // as reqrep has it: the method is group 1
		ref = strings.NewReplacer(`\1`, `\2`, `\2`, `\3`).Replace(ref)
	}
	rest, found := strings.CutSuffix(to, ref)
	if !found || strings.ContainsAny(rest, `\%`) || rest != "" && rest[0] != '/' {
		return "", "", false
	}
	return trimmed, strings.TrimSuffix(rest, "/"), true
}

// literalPrefix splits an expression after what matches itself only. What a quantifier follows belongs to the rest.
func literalPrefix(re string) (literal, rest string) {
	var b strings.Builder
	i := 0
	for i < len(re) {
		c, n := re[i], 1
		if c == '\\' && i+1 < len(re) && strings.IndexByte(`./-_`, re[i+1]) >= 0 {
			c, n = re[i+1], 2
		} else if strings.IndexByte(`\.[](){}?*+^$|`, c) >= 0 {
			break
		}
		if i+n < len(re) && strings.IndexByte("?*+{", re[i+n]) >= 0 {
			break
		}
		b.WriteByte(c)
		i += n
	}
	return b.String(), re[i:]
}

// regsub reads %[path,regsub(RE,TO)], and the same of url.
func regsub(format string) (re, to string, ok bool) {
	for _, start := range []string{"%[path,regsub(", "%[url,regsub(", "%[capture.req.uri,regsub("} {
		if rest, cut := strings.CutPrefix(format, start); cut {
			rest, closed := strings.CutSuffix(rest, ")]")
			parts := strings.Split(rest, ",")
			if !closed || len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && strings.Trim(parts[2], "gi") != "" {
				return "", "", false
			}
			unquote := func(s string) string { return strings.Trim(s, `"'`) }
			return unquote(parts[0]), unquote(parts[1]), true
		}
	}
	return "", "", false
}

// replacedRequest reads reqrep and reqirep, which HAProxy has no more: they edit the request line and headers as text.
func (t *translation) replacedRequest(c claim, w []string) (outcome, string) {
	main, terms, negated := condition(w[1:])
	if len(main) != 2 {
		return unsaid, "is no expression and its replacement"
	}
	re, to := main[0], main[1]
	if rest, ok := strings.CutPrefix(re, "^"); ok {
		if method, tail, cut := strings.Cut(rest, " /"); cut && strings.HasPrefix(method, "(") && strings.HasSuffix(method, ")") {
			if to, ok = strings.CutPrefix(to, `\1 `); ok {
				return t.rewrite(c, "/"+tail, to, 2, terms, negated)
			}
		}
		if method, tail, cut := strings.Cut(rest, ` {proxypath}`); cut && strings.HasPrefix(method, "(") {
			if to, ok = strings.CutPrefix(to, `\1 `); ok {
				return t.rewrite(c, "{proxypath}"+tail, to, 2, terms, negated)
			}
		}
	}
	if strings.HasPrefix(strings.ToLower(re), "^host:") && len(terms) == 0 {
		if name, host, ok := strings.Cut(to, ":"); ok && strings.EqualFold(name, "Host") && !strings.Contains(host, `\`) {
			return t.requestHeader(c, []string{"Host", strings.TrimSpace(host)}, nil)
		}
	}
	return unsaid, "edits requests in a way that no label can ask for"
}

// replacedAnswer reads rsprep and rspirep, which HAProxy has no more, where they put a path before that of a Location.
func (t *translation) replacedAnswer(c claim, w []string) (outcome, string) {
	main, _, _ := condition(w[1:])
	if len(main) == 2 && strings.HasPrefix(strings.ToLower(main[0]), "^location:") {
		if name, value, ok := strings.Cut(main[1], ":"); ok && strings.EqualFold(name, "Location") {
			value = t.value(strings.TrimSpace(value))
			root := strings.TrimRight(value, `\0123456789`)
			if strings.HasPrefix(root, "/") && !strings.ContainsAny(root, `\%`) {
				t.ask(c, "rewrite-location", root)
				return differs(root == value, "the path of the redirect stays behind the prefix")
			}
		}
	}
	return unsaid, "edits answers in a way that no label can ask for"
}
