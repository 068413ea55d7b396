package marathon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"signalbox"
	"signalbox/discovery/labels"
)

// Definition is one app or pod as people write it: in a file, to be posted; or as Marathon wrote it there, with its tasks.
type Definition struct {
	ID  string // with the groups around it: "/shop/cart"; "" if it has none
	App *App   // nil: it is a pod, or Err says why it is neither
	Pod *Pod
	Err error

	Line     int                 // where it begins, from 1
	Problems []signalbox.Problem // of the text itself
	labels   map[string]int      // lines of its labels, by name
}

// LineOf returns the line of a label, or that of the definition where it is no label of it.
func (d *Definition) LineOf(label string) int {
	if line, ok := d.labels[label]; ok {
		return line
	}
	return d.Line
}

// Convert returns what the definition means, as the functions Convert and ConvertPod do for what Marathon says.
func (d *Definition) Convert(o Options) ([]*signalbox.Service, []signalbox.Problem) {
	switch {
	case d.App != nil:
		return Convert(d.App, o)
	case d.Pod != nil:
		return ConvertPod(d.Pod, o)
	}
	return nil, []signalbox.Problem{{
		Code: "SB300", Severity: signalbox.SeverityError, App: d.ID, Message: "it cannot be read: " + shown(d.Err.Error()), Action: "it is not routed",
	}}
}

// Bare returns the definition without its tasks.
func (d *Definition) Bare() Definition {
	bare := *d
	switch {
	case d.App != nil:
		bare.App = d.App.wording().App
	case d.Pod != nil:
		bare.Pod = d.Pod.wording().Pod
	}
	return bare
}

// KeepPorts gives ports without a service port the one that assigned knows for their index, 0 for none: an app that is posted again
// keeps those that Marathon has assigned.
func (d *Definition) KeepPorts(assigned func(index int) int) {
	if d.App == nil {
		return
	}
	keep := func(i int, port *number) {
		if *port == 0 {
			*port = number(assigned(i))
		}
	}
	for i := range d.App.Ports {
		keep(i, &d.App.Ports[i])
	}
	for i := range d.App.PortDefinitions {
		keep(i, &d.App.PortDefinitions[i].Port)
	}
	mappings := d.App.mappings()
	for i := range mappings {
		if mappings[i].ServicePort != nil {
			keep(i, mappings[i].ServicePort)
		}
	}
}

// Read returns what becomes of each label, by port.
func (d *Definition) Read(o labels.Options) []labels.Reading {
	meta, ports := d.described()
	return labels.Read(d.ID, meta, ports, o)
}

// Migrate returns the labels of an app with native ones in the place of marathon-lb's, and those that it has now.
func (d *Definition) Migrate(o labels.Options) (before map[string]string, m labels.Migration) {
	meta, ports := d.described()
	return meta, labels.Migrate(d.ID, meta, ports, o)
}

// described returns the labels and the ports as the label vocabulary sees them.
func (d *Definition) described() (meta map[string]string, ports []labels.Port) {
	switch {
	case d.App != nil:
		meta = d.App.Labels.byName
		specs := d.App.ports()
		for i := range specs {
			ports = append(ports, specs[i].labelPort())
		}
	case d.Pod != nil:
		specs := d.Pod.ports()
		meta = d.Pod.Spec.Labels.byName
		for i := range specs {
			ports = append(ports, specs[i].labelPort())
		}
	}
	return meta, ports
}

// SyntaxError says where a text is no JSON. Line and Column count from 1, the latter in bytes.
type SyntaxError struct {
	Line, Column int
	Err          error
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%d:%d: %v", e.Line, e.Column, e.Err) }

// Unwrap returns what is wrong there.
func (e *SyntaxError) Unwrap() error { return e.Err }

// ReadDefinitions reads what can be posted to Marathon, and what it answers with: an app, a pod, a group with whatever is in it,
// or a list of these. Definitions are in the order of the text. The only error is a *SyntaxError.
func ReadDefinitions(text []byte) ([]Definition, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		offset := 0
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			offset = max(int(syntax.Offset)-1, 0)
		}
		line, column := position(text, offset)
		return nil, &SyntaxError{Line: line, Column: column, Err: err}
	}
	r := definitionReader{text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	for i, c := range text {
		if c == '\n' {
			r.breaks = append(r.breaks, i)
		}
	}
	r.dec.UseNumber()
	r.walk(r.node(), "/")
	return r.found, nil
}

// position returns the line and the column of an offset.
func position(text []byte, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// jsonNode is one JSON value and where it stands.
type jsonNode struct {
	from, to int
	kind     byte // '{', '[', '"', or 0 for the rest
	text     string
	members  []jsonMember
	items    []*jsonNode
}

type jsonMember struct {
	name string
	at   int // end of its name
	node *jsonNode
}

// member returns the value that counts of those with a name: the last one. Nil: there is none.
func (n *jsonNode) member(name string) *jsonNode {
	var last *jsonNode
	for _, m := range n.members {
		if m.name == name {
			last = m.node
		}
	}
	return last
}

func (n *jsonNode) is(kind byte) bool { return n != nil && n.kind == kind }

type definitionReader struct {
	text   []byte
	dec    *json.Decoder
	breaks []int // where lines end
	found  []Definition
}

// line returns the line of an offset, from 1.
func (r *definitionReader) line(offset int) int {
	before, _ := slices.BinarySearch(r.breaks, offset)
	return before + 1
}

// node reads the next value. The text is known to be JSON.
func (r *definitionReader) node() *jsonNode {
	token, _ := r.dec.Token()
	n := &jsonNode{from: int(r.dec.InputOffset()) - 1}
	switch t := token.(type) {
	case string:
		n.kind, n.text = '"', t
	case json.Delim:
		n.kind = byte(t)
		for r.dec.More() {
			if n.kind == '[' {
				n.items = append(n.items, r.node())
				continue
			}
			name, _ := r.dec.Token()
			m := jsonMember{name: fmt.Sprint(name), at: int(r.dec.InputOffset())}
			m.node = r.node()
			n.members = append(n.members, m)
		}
		_, _ = r.dec.Token() // the closing bracket
	}
	n.to = int(r.dec.InputOffset())
	return n
}

// walk finds the definitions in a value, whose ids are relative to a group's.
func (r *definitionReader) walk(n *jsonNode, group string) {
	if n.is('[') {
		for _, item := range n.items {
			r.walk(item, group)
		}
		return
	}
	id := group
	if given := n.member("id"); given.is('"') {
		id = path.Join(group, given.text)
		if path.IsAbs(given.text) {
			id = path.Clean(given.text)
		}
	}
	inside := false
	for _, m := range n.members {
		if slices.Contains([]string{"apps", "pods", "groups"}, m.name) && m.node.is('[') {
			inside = true
			r.walk(m.node, id)
		}
	}
	switch app := n.member("app"); {
	case inside:
	case app.is('{') && n.member("id") == nil:
		r.walk(app, group)
	default:
		r.define(n, id)
	}
}

func (r *definitionReader) define(n *jsonNode, id string) {
	d := Definition{ID: id, labels: map[string]int{}}
	d.Line = r.line(n.from)
	switch spec := n.member("spec"); {
	case !n.is('{'):
		d.ID, d.Err = "", errors.New("it is no object")
	case !n.member("id").is('"'):
		d.ID, d.Err = "", errors.New("it has no id")
	case n.member("containers").is('['):
		p := &Pod{}
		d.Pod, d.Err = p.read(r.text[n.from:n.to], &p.Spec, id)
	case spec.is('{') && spec.member("containers").is('['):
		p := &Pod{}
		d.Pod, d.Err = p.read(r.text[n.from:n.to], p, id)
	default:
		d.App, d.Err = readDefinition(r.text[n.from:n.to], id)
		if d.Err == nil && n.member("ports") == nil && n.member("portDefinitions") == nil {
			d.App.addDefaultPort()
		}
		if d.Err == nil && d.App.networking() == onBridge {
			d.App.addServicePorts()
		}
	}
	r.labels(&d, n)
	r.found = append(r.found, d)
}

// labels notes where labels stand, those of the app before those of its ports, and those that stand twice.
func (r *definitionReader) labels(d *Definition, n *jsonNode) {
	var inner []*jsonNode
	for _, m := range n.members {
		if m.name != "labels" || !m.node.is('{') {
			inner = append(inner, m.node)
			continue
		}
		seen := map[string]bool{}
		for _, label := range m.node.members {
			line := r.line(label.at)
			if seen[label.name] {
				d.Problems = append(d.Problems, signalbox.Problem{
					Code: "SB329", Severity: signalbox.SeverityWarning, App: d.ID, Label: shown(label.name), Value: shown(label.node.text),
					Message: "the label stands there twice", Action: "the last one counts",
				})
			}
			if _, outer := d.labels[label.name]; !outer || seen[label.name] {
				d.labels[label.name] = line
			}
			seen[label.name] = true
		}
	}
	for _, n := range append(inner, n.items...) {
		r.labels(d, n)
	}
}

// readDefinition reads an app as somebody wrote it, under its whole id.
func readDefinition(raw []byte, id string) (*App, error) {
	c := cursor{b: raw}
	a := &App{}
	c.app(a)
	a.ID = id
	switch err := a.check(); {
	case c.broken:
		return nil, errors.New("it is nested too deeply")
	case c.wrong != "":
		return nil, errors.New(c.wrong)
	case err != nil:
		return nil, err
	}
	return a, nil
}

// addDefaultPort gives an app that says nothing about ports the one that Marathon gives it. A network of its own has none.
func (a *App) addDefaultPort() {
	if len(a.mappings()) > 0 {
		return
	}
	switch a.networking() {
	case onHost:
		a.PortDefinitions = []portDefinition{{Name: "default"}}
	case onBridge:
		if a.Container == nil {
			a.Container = &container{}
		}
		a.Container.PortMappings = []portMapping{{Name: "default"}}
	case onContainer:
	}
}

// addServicePorts says of the ports on a bridge that Marathon assigns each a service port.
func (a *App) addServicePorts() {
	mappings := a.mappings()
	for i := range mappings {
		if mappings[i].ServicePort == nil {
			mappings[i].ServicePort = new(number)
		}
	}
}

// read is readDefinition for a pod, of which raw is the part that into is.
func (p *Pod) read(raw []byte, into any, id string) (*Pod, error) {
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, badApp(id, err).Err
	}
	p.ID = id
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}
