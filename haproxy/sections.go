package haproxy

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Section is the part of a configuration's files that is about one app.
type Section struct {
	App   string // "": what is about no single one
	Files []File // in the order of the whole; without those that say nothing of the app
}

// Sections divides the files of a configuration by app: the blocks of haproxy.cfg by their comments, the lines of maps by the backends
// that they lead to. The sum at the end of haproxy.cfg is left out. Sections are sorted by app.
func Sections(files []File) []Section {
	d := divider{apps: map[string]string{}, at: map[string]int{}}
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".cfg") {
			d.config(f)
		}
	}
	for _, f := range files { // the splits say whose the splits in other maps are
		if f.Name == SplitsMap {
			d.splits(f)
		}
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".cfg") {
			d.entries(f)
		}
	}
	order := map[string]int{}
	for i, f := range files {
		order[f.Name] = i
	}
	for i := range d.sections {
		slices.SortFunc(d.sections[i].Files, func(a, b File) int { return cmp.Compare(order[a.Name], order[b.Name]) })
	}
	slices.SortFunc(d.sections, func(a, b Section) int { return cmp.Compare(a.App, b.App) })
	return d.sections
}

type divider struct {
	apps     map[string]string // by backend or split; "" for a split of several apps
	at       map[string]int    // place of an app's section
	sections []Section
}

// add adds a line to an app's part of a file.
func (d *divider) add(app, file string, line []byte) {
	i, ok := d.at[app]
	if !ok {
		i = len(d.sections)
		d.at[app] = i
		d.sections = append(d.sections, Section{App: app})
	}
	s := &d.sections[i]
	if len(s.Files) == 0 || s.Files[len(s.Files)-1].Name != file {
		s.Files = append(s.Files, File{Name: file})
	}
	f := &s.Files[len(s.Files)-1]
	f.Data = append(f.Data, line...)
}

func (d *divider) config(f File) {
	app := ""
	for line := range bytes.Lines(f.Data) {
		text := string(bytes.TrimSuffix(line, []byte("\n")))
		if strings.HasPrefix(text, trailer) {
			continue
		}
		app = appFrom(app, text)
		if name, ok := strings.CutPrefix(text, "backend "); ok {
			name, _, _ = strings.Cut(name, " ")
			d.apps[strings.Trim(name, "'")] = app
		}
		d.add(app, f.Name, line)
	}
}

// appFrom returns the app that a line of haproxy.cfg belongs to, where the one before belongs to app.
func appFrom(app, line string) string {
	switch {
	case strings.HasPrefix(line, appPrefix):
		app = strings.TrimPrefix(line, appPrefix)
		if plain, err := strconv.Unquote(app); err == nil {
			return plain
		}
		return app
	case strings.HasPrefix(line, trailer), line == spareComment, line == "backend no_route from http-base":
		return ""
	}
	return app
}

func (d *divider) splits(f File) {
	for line := range bytes.Lines(f.Data) {
		e := entryOf(line)
		split, app := splitIn(e), d.apps[e.Value]
		if known, ok := d.apps[split]; ok && known != app {
			app = ""
		}
		d.apps[split] = app
	}
}

func (d *divider) entries(f File) {
	for line := range bytes.Lines(f.Data) {
		e := entryOf(line)
		backend := e.Value
		switch f.Name {
		case NamesMap, ChecksMap, TimeoutsMap, HTTPSMap:
			backend = e.Key
		}
		d.add(d.apps[backend], f.Name, line)
	}
}

// entryOf reads a line of a map.
func entryOf(line []byte) MapEntry {
	key, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
	return MapEntry{key, value}
}
