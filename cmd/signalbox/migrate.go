package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
)

// migratedApp is what becomes of one app. As JSON it is an update that Marathon takes: it replaces labels as a whole, so that all of
// them stand in it, those of others too.
type migratedApp struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels"`

	file    string
	line    int
	changes []labels.LabelChange
	kept    []string
	lost    []signalbox.Problem
	skipped string // why it is left as it is
}

func newMigrateCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	cmd := &cobra.Command{
		Use:   "migrate FILE|DIRECTORY|-...",
		Short: "Native labels in the place of marathon-lb's, as a patch",
		Long: `Reads apps, groups and lists of them as one posts them to Marathon, or as it answers with them, and prints for each what its labels
of marathon-lb become: signalbox does the same for both. It says what cannot be carried over, and ends with 1 if anything could not.
Passwords' hashes are left out of what it prints for people.

With -o json it prints the apps that change as a list for PATCH /v2/apps, each with all of its labels.`,
		Example: `  signalbox migrate app.json
  curl -s http://10.0.0.1:8080/v2/apps | signalbox migrate -
  signalbox migrate -o json apps/ | curl -X PATCH -d @- http://10.0.0.1:8080/v2/apps`,
		GroupID: groupCheck,
		Args:    arguments(1, math.MaxInt, "files, directories, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.validate(); err != nil {
				return &exitError{code: exitUsage, err: err, try: "signalbox config"}
			}
			documents, err := p.documents(args)
			if err != nil {
				return err
			}
			apps, err := migrate(documents, s.labelOptions())
			if err != nil {
				return err
			}
			if output == "json" {
				err = p.printPatch(apps)
			} else {
				p.printMigration(apps)
			}
			if err == nil && slices.ContainsFunc(apps, (*migratedApp).wanting) {
				err = errFindings
			}
			return err
		},
	}
	addOutput(cmd, &output)
	addSettingsOf(cmd.Flags(), &s, func(row setting) bool { return row.name == "raw-templates" })
	return cmd
}

// wanting reports whether something of an app could not be carried over.
func (a *migratedApp) wanting() bool {
	costs := func(p signalbox.Problem) bool { return p.Severity != signalbox.SeverityInfo }
	return a.skipped != "" || len(a.kept) > 0 || slices.ContainsFunc(a.lost, costs)
}

// migrate returns what becomes of the apps in some documents that have labels of marathon-lb.
func migrate(documents []document, o labels.Options) ([]*migratedApp, error) {
	var apps []*migratedApp
	for _, doc := range documents {
		definitions, err := marathon.ReadDefinitions(doc.text)
		if err != nil {
			place := &marathon.SyntaxError{}
			if errors.As(err, &place) {
				err = fmt.Errorf("%s:%d:%d: no JSON: %w", doc.name, place.Line, place.Column, place.Err)
			}
			return nil, &exitError{code: exitUsage, err: err}
		}
		for i := range definitions {
			d := &definitions[i]
			before, m := d.Migrate(o)
			a := &migratedApp{ID: d.ID, Labels: m.Labels, file: doc.name, line: d.Line, changes: m.Changes(before), kept: m.Kept, lost: m.Lost}
			switch {
			case d.Err != nil:
				a.skipped, a.changes = "it cannot be read: "+d.Err.Error(), nil
			case d.Pod != nil && len(a.changes)+len(a.kept) > 0:
				a.skipped, a.changes = "it is a pod, which this patch cannot change", nil
			case len(a.changes)+len(a.kept) == 0:
				continue
			}
			apps = append(apps, a)
		}
	}
	return apps, nil
}

// printPatch prints the apps that change as Marathon takes them.
func (p *program) printPatch(apps []*migratedApp) error {
	patch := []*migratedApp{}
	for _, a := range apps {
		if len(a.changes) > 0 {
			patch = append(patch, a)
		}
		for _, text := range a.shortfalls() {
			fmt.Fprintf(p.stderr, "%s: %s\n", clean(a.ID), text)
		}
	}
	return printJSON(p.stdout, patch)
}

func (p *program) printMigration(apps []*migratedApp) {
	changed, wanting := 0, 0
	for _, a := range apps {
		fmt.Fprintf(p.stdout, "%s:%d: %s\n", clean(a.file), a.line, clean(a.ID))
		for _, c := range a.changes {
			sign := "+"
			if c.Gone {
				sign = "-"
			}
			fmt.Fprintf(p.stdout, "  %s %s=%s\n", sign, clean(c.Name), clean(c.Value))
		}
		for _, text := range a.shortfalls() {
			fmt.Fprintf(p.stdout, "  ! %s\n", text)
		}
		if len(a.changes) > 0 {
			changed++
		}
		if a.wanting() {
			wanting++
		}
	}
	fmt.Fprintf(p.stdout, "%s to change", plural(changed, "app"))
	if wanting > 0 {
		fmt.Fprintf(p.stdout, ", %d with something that cannot be carried over", wanting)
	}
	fmt.Fprintln(p.stdout)
}

// shortfalls says what of an app is not carried over, a line each.
func (a *migratedApp) shortfalls() []string {
	var out []string
	if a.skipped != "" {
		out = append(out, "left as it is: "+clean(a.skipped))
	}
	if len(a.kept) > 0 {
		out = append(out, "stays: "+clean(strings.Join(a.kept, ", ")))
	}
	for _, q := range a.lost {
		out = append(out, clean(fmt.Sprintf("%s %s=%q: %s (%s)", q.Code, q.Label, ellipsis(q.Value, 120), q.Message, q.Action)))
	}
	return out
}
