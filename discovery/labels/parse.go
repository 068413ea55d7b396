package labels

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"signalbox"
)

// Options say how labels are read. The zero value reads every dialect and binds service ports for those who ask.
type Options struct {
	Dialects     []string     // names of Dialects; nil is all of them
	ServicePorts ServicePorts // "" is Labelled
	Reserved     []string     // host names, lower case, that no app may have
	Strict       bool         // only a port whose label enable is true is a service
	Groups       []string     // the groups that this load balancer serves; nil, or one of them "*", is every app
	// RawTemplates are the ids of apps and groups whose templates of marathon-lb may put lines that no label can say into their own
	// backends, as they stand. Whoever may deploy there can make HAProxy read files and run anything that it can.
	RawTemplates []string
}

// reads reports whether a dialect is on.
func (o *Options) reads(d dialect) bool { return o.Reads(d.name) }

// Reads reports whether the dialect of a name is on.
func (o Options) Reads(name string) bool {
	return o.Dialects == nil || slices.Contains(o.Dialects, name)
}

// Recognises reports whether a name is that of a label, or nearly, in a dialect that is on.
func (o Options) Recognises(name string) bool {
	name, _ = clean(name)
	return slices.ContainsFunc(dialects, func(d dialect) bool {
		if !o.reads(d) {
			return false
		}
		_, _, mine := d.read(name, "")
		return mine
	})
}

// AsksForWay reports whether labels ask for a way in: a host, a path or a port.
func (o Options) AsksForWay(meta map[string]string) bool {
	var problems []signalbox.Problem
	return slices.ContainsFunc(readAll(meta, &o, &problems), func(c claim) bool {
		return slices.Contains(waysIn, c.key) || c.twin == "VHOST" || c.twin == "PATH" || c.twin == "PORT"
	})
}

// ServicePorts says which services are bound to a port of their own on every slave.
type ServicePorts string

// The choices of ServicePorts.
const (
	All      ServicePorts = "all"      // every service whose app has a service port
	Labelled ServicePorts = "labelled" // those that ask by a label, and those of apps with marathon-lb's labels
	Off      ServicePorts = "off"      // none
)

// Port is one port of an app, as its source describes it.
type Port struct {
	Index   int    // its place among all ports of the app
	Name    string // "" if it has none
	Service int    // the service port that the source knows, or 0
	Check   string // protocol of the health check that asks this port, as Marathon names it: "HTTP", "MESOS_HTTPS"; "" for none
	Labels  map[string]string
	// NoService says that the definition has no service port here, where others may have one; it matters to marathon-lb's labels.
	NoService bool
	// Unroutable says why the port cannot be a service ("it is a UDP port"), or is "".
	Unroutable string
}

// Result is what the labels of one app say.
type Result struct {
	Ports    []PortResult        // of the routable ports, in the order given
	Problems []signalbox.Problem // that belong to no routable port, sorted
}

// PortResult is what the labels of one app say about one port.
type PortResult struct {
	Index    int
	Name     string
	Enabled  bool // whether the port is a service: it asks for a way in, even if what it asks for was refused
	Mode     signalbox.Mode
	Routes   []signalbox.Route // sorted
	Listen   int               // as in signalbox.Service
	Groups   []string          // sorted
	Policy   signalbox.Policy
	Problems []signalbox.Problem // sorted
	// CheckPortOf is the index of the port that is probed in the place of this one, nil for this one.
	CheckPortOf *int
	// Deployment is what the labels say of a deployment group, nil for none. Its source adds Instances and ScaledAt.
	Deployment *signalbox.Deployment

	app     string
	port    Port
	ports   []Port // all of the app
	options *Options
	room    room // for its routes
	foreign bool // the app has labels of marathon-lb
	values  values
	claims  []claim          // the strongest to each key first
	asked   map[string]claim // by key: the label that sets it
	refused []refusal        // labels whose values have flaws
	fixed   []signalbox.Problem
	lb      []string // the names of its labels of marathon-lb
}

// refusal is a label whose value is wrong, in parts or as a whole.
type refusal struct {
	row   *Label
	claim claim
	flaws []flaw // none for what a text gave that cannot be read any more, and is told of elsewhere
	whole bool   // nothing of the value could be used
	kept  string // the last good value that stays in force instead, or beside what could be used
}

// Parse reads the labels of one app. Labels of others are passed over.
func Parse(app string, meta map[string]string, ports []Port, o Options) Result {
	r := Result{}
	for _, p := range ports {
		if p.Unroutable == "" {
			r.Ports = append(r.Ports, PortResult{Index: p.Index, Name: p.Name, app: app, port: p, ports: ports, options: &o})
		}
	}
	claims := make([][]claim, len(r.Ports))
	foreign := false
	for _, c := range readAll(meta, &o, &r.Problems) {
		foreign = foreign || c.foreign
		if c.key == "" && c.twin == "" {
			continue
		}
		r.assign(ports, c, claims)
	}
	var member *signalbox.Deployment
	if o.reads(marathonLB) {
		member = deployment(meta, &r.Problems)
	}
	left := room{maxRoutes, maxExpressions}
	for i := range r.Ports {
		p := &r.Ports[i]
		p.foreign, p.Deployment, p.room = foreign, member, left
		for _, c := range readAll(p.port.Labels, &o, &p.fixed) {
			if c.rank != rankApp {
				left, action := stray(c.native()), "it is ignored"
				if len(left) > 0 {
					action = closes
					claims[i] = append(claims[i], left...)
				}
				p.fixed = append(p.fixed, c.problem("SB103", signalbox.SeverityError, "stands beside a port and must name none", action))
				continue
			}
			c.rank = rankOwn
			claims[i] = append(claims[i], c)
		}
		p.settle(claims[i])
		left = left.less(p.Routes)
	}
	for i := range r.Problems {
		r.Problems[i].App = app
	}
	slices.SortFunc(r.Problems, signalbox.Problem.Compare)
	return r
}

// readAll reads the names of labels in every dialect that is on. What is wrong with a name goes to problems.
func readAll(meta map[string]string, o *Options, problems *[]signalbox.Problem) []claim {
	if len(meta) == 0 {
		return nil
	}
	names := make([]string, 0, len(meta))
	for n := range meta {
		names = append(names, n)
	}
	slices.Sort(names)
	var claims []claim
	for _, raw := range names {
		name, odd := clean(raw)
		if _, exact := meta[name]; name != raw && exact {
			continue // the one that is written well counts
		}
		value, oddValue := clean(meta[raw])
		for _, d := range dialects {
			if !o.reads(d) {
				continue
			}
			read, bad, mine := d.read(name, value)
			if !mine {
				continue
			}
			if bad != nil {
				c := claim{label: raw, value: meta[raw]}
				action := "it is ignored"
				if i := slices.IndexFunc(read, func(c claim) bool { return c.stray }); i >= 0 {
					c.secret, action = row(read[i].key).Secret, closes
				}
				*problems = append(*problems, c.problem(bad.code, severity(bad.warn), bad.text, action))
			}
			for _, c := range read {
				if bad != nil && !c.stray {
					c = claim{foreign: c.foreign}
				}
				c.label, c.odd = raw, odd || oddValue
				claims = append(claims, c)
			}
			break
		}
	}
	return claims
}

// closes is what a label does that restricts access, and does not say what to.
const closes = "nobody may enter a port that has no such label of its own"

// waysIn are keys that ask for a way in.
var waysIn = []string{"host", "path", "port"}

// assign puts a claim to the ports that it is about.
func (r *Result) assign(ports []Port, c claim, claims [][]claim) {
	everywhere := func(c claim) {
		for i := range claims {
			claims[i] = append(claims[i], c)
		}
	}
	fail := func(code, text string) {
		left, action := stray(c.native()), "it is ignored"
		if len(left) > 0 {
			action = closes
			everywhere(left[0])
		}
		if !c.stray { // else its name is complained of
			r.Problems = append(r.Problems, c.problem(code, signalbox.SeverityError, text, action))
		}
	}
	if c.port == "" {
		for i := range claims {
			if i == 0 || row(c.key).EveryPort {
				claims[i] = append(claims[i], c)
			}
		}
		if len(claims) == 0 && slices.Contains(waysIn, c.key) {
			fail("SB105", "asks for a way in, and the app has no port that can be routed to")
		}
		return
	}
	i := slices.IndexFunc(ports, func(p Port) bool {
		return strconv.Itoa(p.Index) == strings.TrimLeft(c.port[:len(c.port)-1], "0")+c.port[len(c.port)-1:]
	})
	if i < 0 {
		i = slices.IndexFunc(ports, func(p Port) bool { return p.Name == c.port && p.Unroutable == "" })
	}
	if i < 0 {
		i = slices.IndexFunc(ports, func(p Port) bool { return p.Name == c.port })
	}
	switch {
	case i < 0 && strings.Trim(c.port, "0123456789") == "":
		fail("SB103", fmt.Sprintf("is for port %s, and the app has %s", cut(c.port, 20), count(len(ports), "port")))
	case i < 0:
		text := fmt.Sprintf("is for a port named %q, and the app has none of that name", cut(c.port, 60))
		var names []string
		for _, p := range ports {
			names = append(names, p.Name)
		}
		if best := nearest(c.port, names); best != "" {
			text += fmt.Sprintf("; did you mean %q?", best)
		}
		fail("SB103", text)
	case ports[i].Unroutable != "":
		fail("SB104", "is for port "+strconv.Itoa(ports[i].Index)+", which cannot be routed to: "+ports[i].Unroutable)
	default:
		at := slices.IndexFunc(r.Ports, func(p PortResult) bool { return p.Index == ports[i].Index })
		claims[at] = append(claims[at], c)
	}
}

// settle chooses the strongest claim to each key, reads its value, and derives what follows.
func (p *PortResult) settle(claims []claim) {
	byRank := func(a, b claim) int { // of equal ones what is about the port for certain
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(order(!a.stray), order(!b.stray)))
	}
	slices.SortStableFunc(claims, byRank)
	if slices.ContainsFunc(claims, func(c claim) bool { return c.twin != "" }) {
		claims = p.translate(claims)
		slices.SortStableFunc(claims, byRank)
	}
	p.claims = claims
	chosen := map[string]claim{}
	for _, c := range claims {
		if _, taken := chosen[c.key]; !taken {
			chosen[c.key] = c
		}
	}
	p.asked = chosen
	for i := range table {
		l := &table[i]
		c, ok := chosen[l.Key]
		if !ok {
			continue
		}
		if c.odd {
			p.fixed = append(p.fixed, c.problem("SB101", signalbox.SeverityInfo, "holds characters that cannot be seen", "they are left out"))
		}
		read := l.set
		if c.reader != nil {
			read = c.reader
		}
		if flaws, whole := read(&p.values, c.value, p.options); len(flaws) > 0 || whole {
			p.refused = append(p.refused, refusal{row: l, claim: c, flaws: flaws, whole: whole})
		}
	}
	p.derive()
}

// served reports whether the port is for a group that this load balancer serves. The group * of a native label is every one, that of
// marathon-lb's is one of its own.
func (p *PortResult) served() bool {
	if len(p.options.Groups) == 0 || slices.Contains(p.options.Groups, "*") || !p.asks("group") && !p.foreign {
		return true
	}
	all := !p.asked["group"].foreign
	return slices.ContainsFunc(p.values.groups, func(g string) bool { return all && g == "*" || slices.Contains(p.options.Groups, g) })
}

// Keep returns current with the last good values in the place of those that its labels no longer give: a label that became
// invalid leaves in force what prev, the same service as it was before, shows of it, and each problem says so. A nil prev
// changes nothing.
func Keep(prev *signalbox.Service, current PortResult) PortResult {
	if prev == nil || len(current.refused) == 0 || prev.PortName != current.Name {
		return current
	}
	current.refused = slices.Clone(current.refused)
	for i := range current.refused {
		if r := &current.refused[i]; r.loses() {
			r.kept = r.row.keep(&current.values, prev)
		}
	}
	current.derive()
	return current
}

// loses reports whether the label gives less than it asks for.
func (r *refusal) loses() bool {
	return r.whole || slices.ContainsFunc(r.flaws, func(f flaw) bool { return !f.used })
}

func (r *refusal) problem(f flaw) signalbox.Problem {
	action := "it is left out"
	switch {
	case f.used:
		action = cmp.Or(f.done, "the rest is used")
	case r.kept != "":
		action = "the last good value " + cut(r.kept, maxShown) + " stays"
	case r.whole:
		action = cmp.Or(r.row.lost, r.row.Invalid)
	}
	c := r.claim
	if f.value != "" {
		c.value = f.value
	}
	return c.problem(f.code, severity(f.warn), f.text, action)
}

func (c claim) problem(code string, s signalbox.Severity, text, action string) signalbox.Problem {
	switch {
	case c.hidden():
		c.value = ""
	case isTemplate(c.twin):
		c.value = publicText(c.value)
	case c.headers(), c.key == "docs":
		c.value = c.shown()
	}
	return signalbox.Problem{
		Code: code, Severity: s, Label: printable(cut(c.label, maxShown)), Value: cut(c.value, maxShown),
		Message: printable(cut(text, maxMessage)), Action: printable(cut(action, maxMessage)),
	}
}

func severity(warn bool) signalbox.Severity {
	if warn {
		return signalbox.SeverityWarning
	}
	return signalbox.SeverityError
}

// Bounds of what a problem shows, in bytes.
const (
	maxShown   = 200 // of a label and its value
	maxMessage = 400
)

// cut returns at most n bytes of s, as valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n-len("…")] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// printable replaces what could forge lines or control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

func count(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
