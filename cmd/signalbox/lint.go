package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/haproxy"
)

// maxDocument bounds a file of definitions, in bytes.
const maxDocument = 64 << 20

func newLintCommand(p *program) *cobra.Command {
	s := defaults()
	var output, against string
	var warnings bool
	cmd := &cobra.Command{
		Use:   "lint FILE|DIRECTORY|-...",
		Short: "What the labels of apps will do, and what is wrong with them, before they are posted",
		Long: `Reads apps, pods, groups and lists of them as one posts them to Marathon, with the parser of the controller, and says what their
labels will do. It asks nobody, and needs no controller; --against adds conflicts with what runs. It ends with 1 if something is wrong.`,
		Example: `  signalbox lint app.json
  signalbox lint --against running apps/              conflicts with what the controller of this machine routes
  signalbox lint --against http://10.0.0.1:8080 -     the same with what Marathon runs, for apps from standard input`,
		GroupID: groupCheck,
		Args:    arguments(1, math.MaxInt, "files, directories, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			documents, err := p.documents(args)
			if err != nil {
				return err
			}
			around, err := p.surroundings(cmd, &s, against)
			if err != nil {
				return err
			}
			report := lint(documents, around)
			if output == "json" {
				err = printJSON(p.stdout, report)
			} else {
				err = p.folding(func() error { return p.printLint(report) })
			}
			if err == nil && (report.Errors > 0 || warnings && report.Warnings > 0) {
				err = errFindings
			}
			return err
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().Var(textOf(&against), "against", "`what` runs already: \"running\" for the controller's routes, or the URL of a Marathon")
	addSwitch(cmd.Flags(), &warnings, "warnings", "end with 1 for warnings too")
	addSettingsOf(cmd.Flags(), &s, func(row setting) bool { return row.reads() || row.asks() || row.leads() })
	return cmd
}

// reads reports whether the flag says how labels are read.
func (row setting) reads() bool {
	return slices.Contains([]string{"labels", "group", "service-ports", "strict", "raw-templates"}, row.name)
}

// asks reports whether the flag is about how Marathon is asked.
func (row setting) asks() bool {
	return strings.HasPrefix(row.name, "marathon-")
}

// chosen reports whether the command line or the environment sets one of some flags.
func (p *program) chosen(of func(setting) bool) bool {
	return slices.ContainsFunc(settingTable, func(row setting) bool {
		o, known := p.origins[row.name]
		return of(row) && known && o != fromDefault
	})
}

// documents reads files, the *.json files of directories, and for "-" standard input.
func (p *program) documents(names []string) ([]document, error) {
	var out []document
	for _, name := range names {
		if name == "-" {
			text, err := io.ReadAll(io.LimitReader(p.stdin, maxDocument))
			if err != nil {
				return nil, fmt.Errorf("reading standard input: %w", err)
			}
			out = append(out, document{"-", text})
			continue
		}
		files := []string{name}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			files, _ = filepath.Glob(filepath.Join(escapeGlob(name), "*.json"))
			if len(files) == 0 {
				return nil, usageError("%s has no *.json files", name)
			}
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				cause := err
				if path := (*fs.PathError)(nil); errors.As(err, &path) {
					cause = path.Err
				}
				return nil, &exitError{code: exitUsage, err: fmt.Errorf("reading %s: %w", file, cause)}
			}
			out = append(out, document{file, text})
		}
	}
	return out, nil
}

// escapeGlob makes a path mean itself in a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// surroundings returns what apps are held against: nothing but each other, the controller's routes, or what a Marathon runs.
func (p *program) surroundings(cmd *cobra.Command, s *settings, against string) (surroundings, error) {
	around := surroundings{now: time.Now()}
	switch against {
	case "":
	case "running":
		client, err := p.client(s)
		if err != nil {
			return around, err
		}
		state, err := client.State(cmd.Context())
		if err != nil {
			return around, err
		}
		around.running, around.machine = cmp.Or(state.Table, &signalbox.Table{}), true
		around.labels = s.labelOptions()
		if !p.chosen(setting.reads) { // then as the controller reads them
			err = json.Unmarshal(state.Labels, &around.labels)
		}
		err = errors.Join(err, json.Unmarshal(state.Options, &around.options))
		if err != nil {
			err = fmt.Errorf("reading the controller's options: %w", err)
		}
		return around, err
	default:
		s.Marathon, s.AllowLoopback = []string{against}, true // how tasks are reached is nobody's concern here
		var err error
		if around.running, err = askMarathon(cmd.Context(), s); err != nil {
			if failed := (*exitError)(nil); errors.As(err, &failed) {
				failed.try = "--against with the address of one that runs, or running for the controller of this machine"
			}
			return around, err
		}
	}
	if err := s.validate(); err != nil {
		return around, &exitError{code: exitUsage, err: err, try: "signalbox config"}
	}
	around.labels = s.labelOptions()
	around.options = &haproxy.Options{HTTPBind: s.HTTPBind, HTTPSBind: []string{":443"}} // what else it has is not known
	return around, nil
}

func (p *program) printLint(r lintReport) error {
	for _, f := range r.Files {
		if e := f.Error; e != nil {
			fmt.Fprintf(p.stdout, "%s:%d:%d: no JSON: %s\n", clean(f.File), e.Line, e.Column, clean(e.Message))
			if e.Try != "" {
				fmt.Fprintf(p.stdout, "  try: %s\n", e.Try)
			}
		}
		for i := range f.Apps {
			a := &f.Apps[i]
			fmt.Fprintf(p.stdout, "%s:%d: %s\n", clean(f.File), a.Line, clean(cmp.Or(a.App, "(no id)")))
			if err := p.printFindings(a); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(p.stdout, "%s: %s, %s\n", plural(r.Apps, "app"), plural(r.Errors, "error"), plural(r.Warnings, "warning"))
	return nil
}

func (p *program) printFindings(a *lintedApp) error {
	t := newTable(p.stdout)
	for _, f := range a.Findings {
		about := f.Label
		switch {
		case about == "":
			about = f.Value
		case f.Value != "":
			about += "=" + f.Value
		}
		message := f.Message
		if f.Action != "" {
			message += " (" + f.Action + ")"
		}
		t.row("  "+string(f.Severity), f.Code, fmt.Sprintf("line %d", f.Line), ellipsis(clean(about), 60), message)
	}
	if len(a.Findings) == 0 || len(a.Services) > 0 {
		t.row("  ok", a.summary())
	}
	return t.flush()
}

// ellipsis cuts a text to n runes.
func ellipsis(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}
