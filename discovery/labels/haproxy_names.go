package labels

import (
	"slices"
	"strings"

	"signalbox"
)

// routes says under which names and paths the service answers.
func (t *translation) routes() {
	vhost, named := t.labels["VHOST"]
	path, hasPath := t.labels["PATH"]
	if hasPath && t.has("host") && !named {
		t.path(path)
		return
	}
	if hasPath && !named {
		t.problem(path, "SB117", signalbox.SeverityWarning, "needs a VHOST beside it, as with marathon-lb", "it is ignored")
	}
	if !named {
		for _, name := range frontendTemplates {
			if c, ok := t.labels[name]; ok {
				t.idle(c, "needs a VHOST beside it, as with marathon-lb")
			}
		}
		return
	}
	if t.aclTemplates() {
		return
	}
	t.ask(vhost, "host", vhost.value)
	if hasPath {
		t.path(path)
	}
}

func (t *translation) path(c claim) {
	text, match := pathBeg(c.value)
	t.ask(c, "path", text)
	if strings.HasPrefix(text, "-") {
		t.find("path").fault = &flaw{code: "SB110", text: "has a flag before the paths that no label can give; -i is known"}
		return
	}
	if match != "prefix" {
		t.ask(c, "path-match", match)
	}
}

// pathBeg reads the arguments of path_beg: paths, after flags.
func pathBeg(value string) (text, match string) {
	words := strings.Fields(value)
	fold := false
	for len(words) > 0 && (words[0] == "-i" || words[0] == "--") {
		fold = fold || words[0] == "-i"
		last := words[0] == "--"
		if words = words[1:]; last {
			break
		}
	}
	if !fold {
		return strings.Join(words, " "), "prefix"
	}
	folded := make([]string, len(words))
	for i, w := range words {
		folded[i] = w
		if p, _ := pathPattern(w, "beg", true); p.match == "regex" && len(p.value) <= signalbox.MaxRegex {
			folded[i] = p.value
			continue
		}
		if w == "/" || strings.ToLower(w) == strings.ToUpper(w) {
			folded[i] = quoteRegex(strings.TrimSuffix(w, "/")) + "(/.*)?"
			continue
		}
		return strings.Join(words, " "), "prefix" // too long to be said: as they are written
	}
	return strings.Join(folded, " "), "regex"
}

// aclTemplates reads the templates that stand for the rules of the shared frontends, and reports whether they say what the service
// answers to instead of VHOST and PATH.
func (t *translation) aclTemplates() bool {
	hosts := t.hosts()
	_, auth := t.labels["AUTH"]
	under, path := t.labels["PATH"]
	t.values["path"] = under.value
	used := frontendRules(len(hosts) > 1, path, auth, t.on("REDIRECT_TO_HTTPS"))
	var given []claim
	for _, name := range frontendTemplates {
		c, ok := t.labels[name]
		switch {
		case !ok:
		case !slices.Contains(used.http, name) && !slices.Contains(used.https, name):
			t.idle(c, "is a template that marathon-lb does not use beside the other labels of the port")
		default:
			given = append(given, c)
		}
	}
	if len(given) == 0 {
		return false
	}
	rules := map[routeKey]bool{}
	for _, side := range [][]string{used.http, used.https} {
		for _, host := range hosts {
			t.values["hostname"] = host
			var lines []line
			for _, name := range side {
				if c, ok := t.labels[name]; ok && slices.Contains(frontendTemplates, name) {
					t.at = c
					lines = append(lines, t.lines(c, frontendPlaceholders)...)
				} else {
					lines = append(lines, splitLines(defaultRules[name])...)
				}
			}
			found, why, narrows := t.aclRules(lines)
			if narrows {
				t.close(given[0], "is a template for the shared frontends that "+why)
				return false
			}
			if why != "" {
				t.problem(given[0], "SB144", signalbox.SeverityError, "is a template for the shared frontends that "+why, "VHOST and PATH hold as they are")
				return false
			}
			for _, r := range found {
				r.each(func(k routeKey) { rules[k] = true })
			}
		}
	}
	return t.product(given[0], rules)
}

// routeKey is one name and one path to which a service answers.
type routeKey struct{ host, path, match string }

// each calls f for all combinations of the rule's hosts and paths.
func (r routeRule) each(f func(routeKey)) {
	hosts, paths := r.hosts, r.paths
	if len(hosts) == 0 {
		hosts = []pattern{{value: "*"}}
	}
	if len(paths) == 0 {
		paths = []pattern{{value: "/", match: "prefix"}}
	}
	for _, h := range hosts {
		for _, p := range paths {
			f(routeKey{h.value, p.value, p.match})
		}
	}
}

// product asks for the rules as labels do: each of some names with each of some paths, which are all compared in one way.
func (t *translation) product(c claim, rules map[routeKey]bool) bool {
	var hosts, paths, matches []string
	for k := range rules {
		hosts, paths, matches = append(hosts, k.host), append(paths, k.path), append(matches, k.match)
	}
	hosts, paths, matches = merged(nil, hosts), merged(nil, paths), merged(nil, matches)
	if len(rules) == 0 || len(rules) != len(hosts)*len(paths) || len(matches) != 1 {
		t.problem(c, "SB144", signalbox.SeverityError, "is a template for the shared frontends whose rules no labels can say", "VHOST and PATH hold as they are")
		return false
	}
	t.ask(c, "host", strings.Join(hosts, " "))
	if matches[0] != "prefix" || len(paths) > 1 || paths[0] != "/" {
		t.ask(c, "path", strings.Join(paths, " "))
	}
	if matches[0] != "prefix" {
		t.ask(c, "path-match", matches[0])
	}
	return true
}
