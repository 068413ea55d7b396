package main

import (
	"slices"
	"strings"

	"signalbox/admin"
	"signalbox/haproxy"
)

// appFiles is what the files of a configuration say about one app.
type appFiles struct {
	App   string       `json:"app"` // "": what is about no single one
	Files []admin.File `json:"files"`
}

// filesByApp divides the files of a configuration by app.
func filesByApp(files []admin.File) []appFiles {
	in := make([]haproxy.File, len(files))
	for i, f := range files {
		in[i] = haproxy.File{Name: f.Name, Data: []byte(f.Content)}
	}
	var out []appFiles
	for _, s := range haproxy.Sections(in) {
		a := appFiles{App: s.App}
		for _, f := range s.Files {
			a.Files = append(a.Files, admin.File{Name: f.Name, Content: string(f.Data)})
		}
		out = append(out, a)
	}
	return out
}

// appDiff is what changes for one app.
type appDiff struct {
	App    string     `json:"app"`              // "": what is about no single one
	Routes []string   `json:"routes,omitempty"` // lines of the table that go, after "- ", and that come, after "+ "
	Files  []fileDiff `json:"files,omitempty"`
}

// fileDiff is what changes of one file, as a unified diff.
type fileDiff struct {
	Name string   `json:"name"`
	Diff []string `json:"diff"`
}

// diffFiles compares two configurations, app by app.
func diffFiles(from, to []admin.File) []appDiff {
	was, is := filesByApp(from), filesByApp(to)
	var out []appDiff
	for len(was) > 0 || len(is) > 0 {
		var a, b appFiles
		switch {
		case len(is) == 0 || len(was) > 0 && was[0].App < is[0].App:
			a, was = was[0], was[1:]
			b.App = a.App
		case len(was) == 0 || is[0].App < was[0].App:
			b, is = is[0], is[1:]
		default:
			a, b = was[0], is[0]
			was, is = was[1:], is[1:]
		}
		if d := diffApp(a, b); len(d.Files) > 0 {
			out = append(out, d)
		}
	}
	return out
}

func diffApp(from, to appFiles) appDiff {
	d := appDiff{App: to.App}
	var names []string
	for _, f := range slices.Concat(from.Files, to.Files) {
		if slices.Contains(names, f.Name) {
			continue
		}
		names = append(names, f.Name)
		if lines := unified(content(from.Files, f.Name), content(to.Files, f.Name)); lines != nil {
			d.Files = append(d.Files, fileDiff{f.Name, lines})
		}
	}
	return d
}

func content(files []admin.File, name string) string {
	for _, f := range files {
		if f.Name == name {
			return strings.TrimRight(f.Content, "\n") // blocks are set off by empty lines
		}
	}
	return ""
}
