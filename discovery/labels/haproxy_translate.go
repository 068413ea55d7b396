package labels

import (
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// translation turns what marathon-lb's labels say of one port into native labels. Nothing of a template is pasted: each line is
// read, and what it asks for becomes the value of a label, which the row of that label checks like any other.
type translation struct {
	port   Port
	ports  []Port           // of the app
	labels map[string]claim // marathon-lb's, by what follows HAPROXY_N_
	asked  []wish           // at most one of a key
	acls   map[string][][]string
	values map[string]string // of placeholders
	native map[string]string // values of native labels, by key
	at     claim             // the label that is being read

	raws     []string // lines that go into the backend as they stand
	allowRaw bool
	problems []signalbox.Problem
	broken   []claim // templates that cannot be read, in parts or as a whole
}

// wish is one native label that marathon-lb's ask for.
type wish struct {
	key, value string
	from       claim
	template   bool
	fault      *flaw // the value cannot even be said: the label counts as set and unreadable
	unread     bool  // it may stand in a text that cannot be read: what it was before holds
}

// translate returns the claims to native keys that claims of marathon-lb's labels come to, in the place of these.
func (p *PortResult) translate(claims []claim) []claim {
	t := &translation{
		port: p.port, ports: p.ports, labels: map[string]claim{}, acls: map[string][][]string{}, values: map[string]string{}, native: map[string]string{},
		allowRaw: p.options.AllowsRaw(p.app),
	}
	var out []claim
	for _, c := range claims {
		if c.twin == "" {
			if _, stronger := t.native[c.key]; !stronger && !c.stray {
				t.native[c.key] = c.value
			}
			out = append(out, c)
			continue
		}
		p.lb = append(p.lb, c.label)
		if c.value == "" && mayBeEmpty(c.twin) {
			t.idle(c, "is empty, which is as good as not set")
			continue
		}
		if _, twice := t.labels[c.twin]; !twice {
			t.labels[c.twin] = c
		}
	}
	for i := range marathonLBLabels {
		if l := &marathonLBLabels[i]; l.read != nil {
			if c, ok := t.labels[l.Name]; ok {
				t.at = c
				l.read(t, c)
			}
		}
	}
	t.routes()
	t.unread()
	for _, name := range deadTemplates {
		if c, ok := t.labels[name]; ok {
			t.idle(c, "is a label that marathon-lb itself never reads")
		}
	}
	for _, w := range t.asked {
		c := w.from
		c.key, c.twin, c.value, c.secret = w.key, "", w.value, c.hidden()
		switch {
		case w.unread:
			c.reader = func(*values, string, *Options) ([]flaw, bool) { return nil, true }
		case w.fault != nil:
			c.reader = func(*values, string, *Options) ([]flaw, bool) { return []flaw{*w.fault}, true }
		}
		out = append(out, c)
	}
	p.fixed = append(p.fixed, t.problems...)
	p.values.policy.Raw = t.raws
	return out
}

// unread asks for what templates that cannot be read may say, and nothing else does, to stay as it was.
func (t *translation) unread() {
	for i := range marathonLBLabels {
		l := &marathonLBLabels[i]
		at := slices.IndexFunc(t.broken, func(c claim) bool { return c.twin == l.Name })
		if at < 0 {
			continue
		}
		for _, key := range l.Native {
			elsewhere := slices.Contains([]string{"host", "path", "path-match", "port", "mode", "health", "allow", "auth"}, key)
			if t.find(key) == nil && !elsewhere {
				t.asked = append(t.asked, wish{key: key, value: "…", from: t.broken[at], template: true, unread: true})
			}
		}
	}
}

// AllowsRaw reports whether the operator lets templates of an app into the configuration.
func (o *Options) AllowsRaw(app string) bool {
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
	w := wish{key: "allow", value: publicText(c.value), from: c, fault: &flaw{code: "SB143", text: text}}
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

// has reports whether a native label sets a key.
func (t *translation) has(key string) bool {
	_, ok := t.native[key]
	return ok
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
	if mode, ok := t.native["mode"]; ok {
		return signalbox.Mode(strings.ToLower(mode))
	}
	if w := t.find("mode"); w != nil {
		return signalbox.Mode(strings.ToLower(w.value))
	}
	if c, ok := t.labels["MODE"]; ok {
		return signalbox.Mode(strings.ToLower(c.value))
	}
	_, named := t.labels["VHOST"]
	if named || t.has("host") || t.has("path") || t.port.Check == "HTTP" {
		return signalbox.HTTP
	}
	return signalbox.TCP
}

// idle says that a label does nothing, and why.
func (t *translation) idle(c claim, why string) {
	t.problem(c, "SB108", signalbox.SeverityInfo, why, "it is ignored")
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

// checkPort reads BACKEND_HEALTHCHECK_PORT_INDEX. A port without a check of its own is of mode http if the other's is one of HTTP.
func (t *translation) checkPort(c claim) {
	t.ask(c, "health-port", c.value)
	for _, p := range t.ports {
		if strconv.Itoa(p.Index) == c.value && t.port.Check == "" && strings.Contains(p.Check, "HTTP") {
			t.ask(c, "mode", "http")
		}
	}
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
	if t.values["proxypath"] != "" { // there is nothing to take off "/"
		t.stripped(c, t.values["proxypath"], "")
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
