package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
)

// document is a text with definitions of apps, and where it comes from.
type document struct {
	name string
	text []byte
}

// surroundings are what apps are held against.
type surroundings struct {
	labels  labels.Options
	options *haproxy.Options
	running *signalbox.Table // nil: only the documents themselves
	// machine says that options are those of the load balancer that the apps are for: what it has is known.
	machine bool
	now     time.Time // when what has no date of its own would be posted
}

// lintReport is what `signalbox lint -o json` prints.
type lintReport struct {
	APIVersion string     `json:"apiVersion"`
	Files      []lintFile `json:"files"`
	Apps       int        `json:"apps"`
	Errors     int        `json:"errors"`
	Warnings   int        `json:"warnings"`
}

// lintFile is what is to be said about one document.
type lintFile struct {
	File  string      `json:"file"`
	Error *notJSON    `json:"error,omitempty"` // nothing of it could be read
	Apps  []lintedApp `json:"apps,omitempty"`
}

// notJSON says where a document is no JSON.
type notJSON struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Try     string `json:"try,omitempty"`
}

// lintedApp is what is to be said about one app or pod.
type lintedApp struct {
	App      string        `json:"app"`
	Line     int           `json:"line"`
	Labels   int           `json:"labels"` // that are about routing
	Findings []finding     `json:"findings"`
	Services []lintService `json:"services"`

	inForce map[string]string // labels, by key
}

// finding is a problem and the line that it is about.
type finding struct {
	Line int `json:"line"`
	admin.Problem
}

// lintService is what a port of an app will be, once it is posted.
type lintService struct {
	Service string         `json:"service"`
	Port    int            `json:"port"`
	Mode    signalbox.Mode `json:"mode"`
	Routes  []string       `json:"routes"`
	Listen  int            `json:"listen,omitempty"`
	Check   string         `json:"check"`
	Policy  string         `json:"policy,omitempty"`
}

// lint says what the labels in documents mean, and what is wrong with them: by themselves, beside each other, and beside what runs.
func lint(documents []document, around surroundings) lintReport {
	report := lintReport{APIVersion: admin.APIVersion}
	posted := posting{around: around, apps: map[string]*lintedApp{}}
	for _, d := range documents {
		report.Files = append(report.Files, posted.read(d))
	}
	posted.clash()
	for i := range report.Files {
		f := &report.Files[i]
		if f.Error != nil {
			report.Errors++
		}
		for j := range f.Apps {
			a := &f.Apps[j]
			slices.SortStableFunc(a.Findings, func(x, y finding) int {
				return cmp.Or(cmp.Compare(x.Line, y.Line), signalbox.Problem(x.Problem).Compare(signalbox.Problem(y.Problem)))
			})
			a.Findings = slices.Compact(a.Findings)
			report.Apps++
			for _, finding := range a.Findings {
				switch finding.Severity {
				case signalbox.SeverityError:
					report.Errors++
				case signalbox.SeverityWarning:
					report.Warnings++
				}
			}
		}
	}
	return report
}

// posting is what would be there if documents were posted.
type posting struct {
	around      surroundings
	apps        map[string]*lintedApp // by id; of two with one id the first
	definitions map[string]*marathon.Definition
	services    []*signalbox.Service
}

// read reads one document, and says what is wrong with each of its apps by itself.
func (p *posting) read(d document) lintFile {
	out := lintFile{File: d.name}
	found, err := marathon.ReadDefinitions(d.text)
	if syntax := (*marathon.SyntaxError)(nil); errors.As(err, &syntax) {
		out.Error = &notJSON{Line: syntax.Line, Column: syntax.Column, Message: syntax.Err.Error(), Try: remedy(syntax.Err.Error())}
		return out
	}
	out.Apps = make([]lintedApp, len(found))
	for i := range found {
		p.add(&out.Apps[i], &found[i], d.name)
	}
	return out
}

// add takes an app in.
func (p *posting) add(a *lintedApp, d *marathon.Definition, file string) {
	*a = lintedApp{App: d.ID, Line: d.Line, Findings: []finding{}, Services: []lintService{}}
	a.read(d.Read(p.around.labels))
	bare := d.Bare()
	bare.KeepPorts(announced(p.around.running, d.ID))
	services, problems := bare.Convert(marathon.Options{Source: file, Labels: p.around.labels, Now: p.around.now})
	for _, s := range services {
		problems = append(problems, s.Problems...)
		if s.Since.IsZero() {
			s.Since = p.around.now
		}
		p.services = append(p.services, s)
		a.Services = append(a.Services, describe(s))
	}
	a.note(d, append(problems, d.Problems...))
	if p.apps[d.ID] == nil && d.ID != "" {
		if p.definitions == nil {
			p.definitions = map[string]*marathon.Definition{}
		}
		p.apps[d.ID], p.definitions[d.ID] = a, d
	}
}

// announced returns the service ports that an app has in a table, by index of the port; 0 for none.
func announced(t *signalbox.Table, app string) func(index int) int {
	return func(index int) int {
		if s := t.Service(signalbox.NewServiceID(app, index)); s != nil {
			return s.Announced
		}
		return 0
	}
}

// read takes in what became of the app's labels.
func (a *lintedApp) read(readings []labels.Reading) {
	distinct := map[string]bool{}
	a.inForce = map[string]string{}
	for _, r := range readings {
		distinct[r.Label] = true
		if _, known := a.inForce[r.Key]; r.State == labels.InForce && !known {
			a.inForce[r.Key] = r.Label
		}
	}
	a.Labels = len(distinct)
}

// note adds problems at the lines that they are about. One that names no label is about a name or a port that is asked for.
func (a *lintedApp) note(d *marathon.Definition, problems []signalbox.Problem) {
	for _, problem := range problems {
		label := problem.Label
		if label == "" {
			label = a.inForce["host"]
			if strings.Trim(problem.Value, "0123456789") == "" {
				label = a.inForce["port"]
			}
		} else if whole := a.inForce[label]; whole != "" { // it names the key alone
			label = whole
		}
		a.Findings = append(a.Findings, finding{Line: d.LineOf(label), Problem: admin.Problem(problem)})
	}
}

// ofMachine are the codes of problems with what the operator of a load balancer gives it: lists of users, pages, certificates, an
// HTTPS entry.
var ofMachine = []string{"SB220", "SB222", "SB230", "SB233", "SB236"}

// clash adds what only shows once all of it stands together: one host and path, or one port, claimed twice.
func (p *posting) clash() {
	services := slices.Clone(p.services)
	if p.around.running != nil {
		for _, s := range p.around.running.Services {
			if p.apps[s.App] == nil { // the others are replaced
				services = append(services, s)
			}
		}
	}
	known := map[signalbox.Problem]bool{}
	for _, s := range services {
		for _, problem := range s.Problems {
			known[problem] = true
		}
	}
	table := discovery.Merged(signalbox.NewTable(services, nil))
	for _, problem := range append(table.AllProblems(), haproxy.Build(table, p.around.options, nil).Problems...) {
		if a := p.apps[problem.App]; a != nil && !known[problem] {
			known[problem] = true
			if !p.around.machine && slices.Contains(ofMachine, problem.Code) {
				problem.Severity, problem.Action = signalbox.SeverityInfo, "--against running knows what the load balancer has"
			}
			a.note(p.definitions[problem.App], []signalbox.Problem{problem})
		}
	}
}

// describe says what a service is.
func describe(s *signalbox.Service) lintService {
	out := lintService{
		Service: string(s.ID), Port: s.Port, Mode: s.Mode, Routes: []string{}, Listen: s.Listen, Check: checkText(s.Check), Policy: s.Policy.String(),
	}
	for _, r := range s.Routes {
		out.Routes = append(out.Routes, r.String())
	}
	return out
}

// checkText says how the tasks of a service are probed.
func checkText(c signalbox.Check) string {
	switch c.Kind {
	case signalbox.CheckHTTP:
		return "health check GET " + c.Path
	case signalbox.CheckOff:
		return "no health check"
	}
	return "health check by connecting"
}

// remedy says what to do about an error of encoding/json, as far as that can be told.
func remedy(message string) string {
	for _, r := range []struct{ words, remedy string }{
		{"'}' looking for beginning of object key", "remove the comma before the }"},
		{"']' looking for beginning of value", "remove the comma before the ]"},
		{"'\\'' looking for beginning", "put names and strings in double quotes"},
		{"'/' looking for beginning", "remove the comment: JSON has none"},
		{"'#' looking for beginning", "remove the comment: JSON has none"},
		{"looking for beginning of object key", "put the name in double quotes"},
		{"after object key:value pair", "put a comma between two members, or close the object with }"},
		{"after object key", "put a colon between the name and the value"},
		{"after array element", "put a comma between two elements, or close the list with ]"},
		{"after top-level value", "put several apps into one list: [ … , … ]"},
		{"in string literal", "write line breaks and tabs within strings as \\n and \\t"},
		{"in string escape code", "write a backslash within a string as \\\\"},
		{"unexpected end", "look for the bracket or the quote that is not closed"},
	} {
		if strings.Contains(message, r.words) {
			return r.remedy
		}
	}
	return ""
}

// summary says on one line what an app will be.
func (a *lintedApp) summary() string {
	text := plural(a.Labels, "label") + ", "
	if len(a.Services) == 0 {
		return text + "nothing is routed"
	}
	var parts []string
	for _, s := range a.Services {
		ways := slices.Clone(s.Routes)
		if s.Listen != 0 {
			ways = append(ways, fmt.Sprintf("service port %d", s.Listen))
		}
		part := fmt.Sprintf("port %d: ", s.Port)
		if len(ways) == 0 {
			part += "no way in"
		} else {
			part += strings.Join(ways, ", ")
		}
		part += ", " + s.Check
		if s.Policy != "" {
			part += ", " + s.Policy
		}
		parts = append(parts, part)
	}
	return text + strings.Join(parts, "; ")
}
