package labels

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// translation turns what marathon-lb's labels say of one port into native labels. Nothing of a template is pasted: each line is
// read, and what it asks for becomes the value of a label, which the row of that label checks like any other.
type translation struct {
	port   Port
	labels map[string]claim // marathon-lb's, by what follows HAPROXY_N_
	asked  []wish           // at most one of a key
	acls   map[string][][]string
	values map[string]string // of placeholders
	named  bool              // a native label gives the port names
	at     claim             // the label that is being read

	raws     []string // lines that go into the backend as they stand
	allowRaw bool
	checkOf  *int // index of the port whose health check tells of this one
	problems []signalbox.Problem
}

// wish is one native label that marathon-lb's ask for.
type wish struct {
	key, value string
	from       claim
	template   bool
	fault      *flaw // the value cannot even be said: the label counts as set and unreadable
}

// translate returns the claims to native keys that claims of marathon-lb's labels come to, in the place of these.
func (p *PortResult) translate(claims []claim) []claim {
	t := &translation{
		port: p.port, labels: map[string]claim{}, acls: map[string][][]string{}, values: map[string]string{},
		allowRaw: p.options.allowsRaw(p.app),
	}
	var out []claim
	for _, c := range claims {
		if c.twin == "" {
			t.named = t.named || c.key == "host"
			out = append(out, c)
		} else if _, twice := t.labels[c.twin]; !twice {
			t.labels[c.twin] = c
		}
	}
	if len(t.labels) == 0 {
		return out
	}
	for i := range marathonLBLabels {
		if l := &marathonLBLabels[i]; l.read != nil {
			if c, ok := t.labels[l.Name]; ok {
				t.at = c
				l.read(t, c)
			}
		}
	}
	if c, ok := t.labels["BACKEND_HEALTHCHECK_PORT_INDEX"]; ok {
		t.checkPort(c, len(p.ports))
	}
	t.routes()
	for _, name := range deadTemplates {
		if c, ok := t.labels[name]; ok {
			t.idle(c, "is a label that marathon-lb itself never reads")
		}
	}
	for _, w := range t.asked {
		c := w.from
		c.key, c.twin, c.value, c.secret = w.key, "", w.value, c.hidden()
		if w.fault != nil {
			c.reader = func(*values, string, *Options) ([]flaw, bool) { return []flaw{*w.fault}, true }
		}
		out = append(out, c)
	}
	p.fixed = append(p.fixed, t.problems...)
	p.CheckPortOf = t.checkOf
	p.values.policy.Raw = t.raws
	return out
}

// allowsRaw reports whether the operator lets templates of an app into the configuration.
func (o *Options) allowsRaw(app string) bool {
	return slices.ContainsFunc(o.RawTemplates, func(prefix string) bool {
		prefix = "/" + strings.Trim(prefix, "/")
		return prefix == "/" || app == prefix || strings.HasPrefix(app, prefix+"/")
	})
}

func (t *translation) find(key string) *wish {
	for i := range t.asked {
		if t.asked[i].key == key {
			return &t.asked[i]
		}
	}
	return nil
}

// ask asks for a native label. A later one replaces an earlier one, as templates do in HAProxy's file.
func (t *translation) ask(c claim, key, value string) {
	w := wish{key: key, value: value, from: c, template: isTemplate(c.twin)}
	if at := t.find(key); at != nil {
		if at.fault == nil { // what restricts access in a way that cannot be read is not undone
			*at = w
		}
		return
	}
	t.asked = append(t.asked, w)
}

// add adds an item to a native label that holds several.
func (t *translation) add(c claim, key, value string) {
	sep := "\n"
	if key == "error-page" {
		sep = ", "
	}
	if at := t.find(key); at != nil {
		at.value += sep + value
		return
	}
	t.ask(c, key, value)
}

// close lets nobody in: what restricts access cannot be carried out.
func (t *translation) close(c claim, text string) {
	w := wish{key: "allow", value: c.value, from: c, fault: &flaw{code: "SB143", text: text}}
	if at := t.find("allow"); at != nil {
		*at = w
		return
	}
	t.asked = append(t.asked, w)
}

func (t *translation) problem(c claim, code string, s signalbox.Severity, text, action string) {
	t.problems = append(t.problems, c.problem(code, s, text, action))
}

// value fills in the placeholders of a word.
func (t *translation) value(word string) string {
	if !strings.Contains(word, "{") {
		return word
	}
	for name, v := range t.values {
		word = strings.ReplaceAll(word, "{"+name+"}", v)
	}
	return word
}

// on reports whether a boolean label of marathon-lb is set and true.
func (t *translation) on(name string) bool {
	c, ok := t.labels[name]
	b, _ := parseBool(c.value)
	return ok && b
}

// hosts returns the names of HAPROXY_N_VHOST.
func (t *translation) hosts() []string {
	return splitList(strings.ToLower(t.labels["VHOST"].value))
}

// mode is what marathon-lb makes of the labels: the label's, else http for a port that has a name or an HTTP check.
func (t *translation) mode() signalbox.Mode {
	if c, ok := t.labels["MODE"]; ok {
		return signalbox.Mode(strings.ToLower(c.value))
	}
	if _, named := t.labels["VHOST"]; named || t.port.HTTP {
		return signalbox.HTTP
	}
	return signalbox.TCP
}

// lines reads the lines of a template and reports whether there are any to go on with.
func (t *translation) lines(c claim, known []string) []line {
	text := c.value
	fail := func(why string) []line {
		t.problem(c, "SB142", signalbox.SeverityError, why, "it is ignored")
		if restrictive.MatchString(c.value) {
			t.close(c, "cannot be read, and may restrict who enters")
		}
		return nil
	}
	if len(text) > maxTemplate {
		return fail(fmt.Sprintf("is longer than %d bytes", maxTemplate))
	}
	if known != nil {
		var trouble string
		if text, trouble = fill(text, known); trouble != "" {
			return fail(trouble)
		}
	}
	lines := splitLines(text)
	if len(lines) > maxLines {
		return fail(fmt.Sprintf("has more than %d lines", maxLines))
	}
	return lines
}

// template reads each line of a template with read. heads are words that begin lines which are part of the frame.
func (t *translation) template(c claim, known []string, read func(claim, line) (outcome, string), heads ...string) {
	raw := t.allowRaw && isBackendTemplate(c.twin)
	lines, told := t.lines(c, known), len(t.problems)
	for i, l := range lines {
		if l.err == nil && slices.Contains(heads, l.words[0]) && slices.Contains(l.words[1:], "{backend}") && len(l.words) == 2 {
			continue
		}
		result, why := unsaid, ""
		if l.err != nil {
			why = l.err.Error()
			if restrictive.MatchString(l.text) {
				result = restricting
			}
		} else {
			result, why = read(c, l)
		}
		if raw && l.err == nil && l.words[0] == "acl" || raw && l.err == nil && (result == unsaid || result == restricting) {
			if t.pasted(l) {
				continue
			}
		}
		if len(t.problems) < told+maxFlaws || result == restricting {
			t.report(c, l, result, why)
		}
		if result == leaving {
			if slices.ContainsFunc(lines[i:], func(l line) bool { return restrictive.MatchString(l.text) }) {
				t.close(c, why+", and lines that may restrict who enters follow")
			}
			return
		}
	}
}

// pasted lets a line into the backend as it stands, unless it says what marathon-lb would have filled in.
func (t *translation) pasted(l line) bool {
	if len(l.text) > maxRawLine || strings.Contains(l.text, "{") && placeholder(l.text) {
		return false
	}
	t.raws = append(t.raws, l.text)
	return true
}

// maxRawLine bounds a line that goes into the configuration as it stands, in bytes.
const maxRawLine = 1024

// placeholder reports whether a text holds {name}.
func placeholder(s string) bool {
	for {
		i := strings.IndexByte(s, '{')
		if i < 0 {
			return false
		}
		s = s[i+1:]
		if end := strings.IndexByte(s, '}'); end > 0 && strings.IndexFunc(s[:end], func(r rune) bool {
			return r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		}) < 0 && strings.Trim(s[:end], "0123456789") != "" {
			return true
		}
	}
}

// report tells people what became of a line.
func (t *translation) report(c claim, l line, result outcome, why string) {
	c.value = withoutSecret(l)
	switch result {
	case approximate:
		t.problem(c, "SB141", signalbox.SeverityInfo, "is carried out nearly: "+why, "the rest is used")
	case unsaid:
		t.problem(c, "SB140", signalbox.SeverityError, why, "the line is left out")
	case leaving:
		t.problem(c, "SB150", signalbox.SeverityError, why, "the rest of the template is left out")
	case restricting:
		t.close(c, why)
	}
}

// restrictive finds the words of HAProxy that restrict who may enter, in lines that cannot be read any better.
var restrictive = regexp.MustCompile(`(?i)deny|reject|tarpit|auth|block|drop|allow`)

var secretWord = regexp.MustCompile(`(?i)auth|passw|secret|token|cookie|api-?key`)

// withoutSecret returns a line for people: of one that may hold a password no more than its first words.
func withoutSecret(l line) string {
	first := strings.Fields(l.text)
	if len(first) > 3 && first[0] != "server" && first[0] != "cookie" && secretWord.MatchString(l.text) {
		return strings.Join(first[:3], " ") + " …"
	}
	return l.text
}

// idle says that a label does nothing, and why.
func (t *translation) idle(c claim, why string) {
	t.problem(c, "SB108", signalbox.SeverityInfo, why, "it is ignored")
}

// routes says under which names and paths the service answers.
func (t *translation) routes() {
	vhost, named := t.labels["VHOST"]
	path, hasPath := t.labels["PATH"]
	if hasPath && t.named && !named {
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
		if p, _ := pathPattern(w, "beg", true); p.match == "regex" && len(p.value) <= maxRegex {
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
	_, path := t.labels["PATH"]
	used := frontendRules(len(hosts) > 1, path, auth)
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
				if c, ok := t.labels[name]; ok {
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

// priority reads BACKEND_WEIGHT, which orders rules. A port with a path has weight 1 unless the label says otherwise.
func (t *translation) priority(c claim) {
	value := c.value
	if _, path := t.labels["PATH"]; path {
		if n, err := strconv.Atoi(value); err == nil && n == 1 {
			value = "0"
		}
	}
	t.ask(c, "priority", value)
}

// servicePort is the service port that is bound where no label names another. To marathon-lb's labels it is the one at the port's
// place among those that are there.
func (p *PortResult) servicePort() int {
	if !p.foreign {
		return p.port.Service
	}
	at := p.Index
	for _, other := range p.ports {
		if other.NoService {
			continue
		}
		if at == 0 {
			return other.Service
		}
		at--
	}
	return 0
}

// stickyName is the cookie that marathon-lb sets.
const stickyName = "mesosphere_server_id"

func (t *translation) sticky(c claim) {
	b, ok := parseBool(c.value)
	switch {
	case ok && b:
		t.ask(c, "sticky", stickyName)
	case ok:
		t.ask(c, "sticky", "false")
	default:
		t.ask(c, "sticky", "")
		t.find("sticky").fault = &flaw{code: "SB114", value: c.value, text: "is not one of true, false, on, off, yes, no, 1, 0", warn: true}
	}
}

// checkPort reads BACKEND_HEALTHCHECK_PORT_INDEX.
func (t *translation) checkPort(c claim, ports int) {
	n, err := strconv.Atoi(c.value)
	if err != nil || n < 0 || n >= ports {
		t.problem(c, "SB147", signalbox.SeverityWarning, fmt.Sprintf("is not the index of a port; the app has %s", count(ports, "port")),
			"the service's own port is probed")
		return
	}
	t.checkOf = &n
}

// proxyPass reads HTTP_BACKEND_PROXYPASS_PATH: the prefix goes, and tasks see the first name of the service.
func (t *translation) proxyPass(c claim) {
	t.values["proxypath"] = strings.TrimSuffix(c.value, "/")
	if hosts := t.hosts(); len(hosts) > 0 {
		t.values["hostname"] = hosts[0]
	}
	if glue, ok := t.labels["HTTP_BACKEND_PROXYPASS_GLUE"]; ok {
		t.template(glue, []string{"hostname", "proxypath"}, t.backendLine)
		return
	}
	if host := t.values["hostname"]; host != "" {
		t.ask(c, "rewrite-host", host)
	}
	if result, why := t.stripped(c, cmp.Or(t.values["proxypath"], "/"), ""); result == unsaid {
		t.problem(c, "SB148", signalbox.SeverityError, why, "paths stay as they are")
	}
}

// revProxy reads HTTP_BACKEND_REVPROXY_PATH.
func (t *translation) revProxy(c claim) {
	t.values["rootpath"] = c.value
	if glue, ok := t.labels["HTTP_BACKEND_REVPROXY_GLUE"]; ok {
		t.template(glue, []string{"hostname", "rootpath"}, t.backendLine)
		return
	}
	t.ask(c, "rewrite-location", c.value)
}
