package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
)

// shownLines is how many lines of one file's diff, and how many commands, are printed.
const shownLines = 40

// diffReport is what `signalbox diff -o json` prints.
type diffReport struct {
	APIVersion string          `json:"apiVersion"`
	Apps       []appDiff       `json:"apps"`
	Plan       *plan           `json:"plan,omitempty"`     // with --apps
	Problems   []admin.Problem `json:"problems,omitempty"` // that would come, with --apps
}

// plan is how HAProxy would get there.
type plan struct {
	Reload   []haproxy.Reason `json:"reload"`   // reasons; empty: the commands suffice
	Commands []command        `json:"commands"` // over the runtime socket
}

type command struct {
	Text string `json:"text"`
	Why  string `json:"why"`
}

func newDiffCommand(p *program) *cobra.Command {
	s := defaults()
	var output, apps, app string
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "What the controller would write against what runs, app by app; or what would change if apps were posted",
		Long: `Compares the configuration that the running controller wants with the files that HAProxy runs by, app by app: they differ for as long
as a change waits, or is withheld because HAProxy refused it.

With --apps it says what would change if the apps of a file or a directory were posted: routes, configuration, the commands for HAProxy's
socket, and the reasons for a reload. Nothing is changed. It ends with 1 if something differs.`,
		Example: `  signalbox diff
  signalbox diff --apps app.json`,
		GroupID: groupCheck,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			report := diffReport{APIVersion: admin.APIVersion, Apps: []appDiff{}}
			if apps == "" {
				wanted, werr := client.Render(cmd.Context())
				live, lerr := client.Live(cmd.Context())
				err = errors.Join(werr, lerr)
				report.Apps = append(report.Apps, diffFiles(live.Files, wanted.Files)...)
			} else {
				err = p.diffPosted(cmd, client, apps, &report)
			}
			if err != nil {
				return err
			}
			if app != "" {
				report.Apps = slices.DeleteFunc(report.Apps, func(d appDiff) bool { return d.App != appOf(app) })
			}
			if output == "json" {
				err = printJSON(p.stdout, report)
			} else {
				p.printDiff(report)
			}
			if err == nil && len(report.Apps) > 0 {
				err = errFindings
			}
			return err
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().Var(textOf(&apps), "apps", "as if the apps of this `file` or directory were posted")
	cmd.Flags().Var(textOf(&app), "app", "only what is about this `app`")
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// diffPosted says what would change if apps were posted.
func (p *program) diffPosted(cmd *cobra.Command, client *admin.Client, name string, report *diffReport) error {
	documents, err := p.documents([]string{name})
	if err != nil {
		return err
	}
	state, err := client.State(cmd.Context())
	if err != nil {
		return err
	}
	var how labels.Options
	var options *haproxy.Options
	if err := errors.Join(json.Unmarshal(state.Labels, &how), json.Unmarshal(state.Options, &options)); err != nil {
		return fmt.Errorf("reading the controller's options: %w", err)
	}
	now := cmp.Or(state.Table, &signalbox.Table{})
	then, err := posted(now, documents, how, time.Now())
	if err != nil {
		return err
	}
	return report.simulate(now, then, options)
}

// posted returns the table as it would be. Apps that run keep their tasks; new ones have none yet.
func posted(table *signalbox.Table, documents []document, how labels.Options, at time.Time) (*signalbox.Table, error) {
	replaced := map[string]bool{}
	var services []*signalbox.Service
	problems := slices.Clone(table.Problems)
	for _, d := range documents {
		found, err := marathon.ReadDefinitions(d.text)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("%s:%w", d.name, err), try: "signalbox lint " + d.name}
		}
		for i := range found {
			bare := found[i].Bare()
			replaced[bare.ID] = true
			bare.KeepPorts(announced(table, bare.ID))
			of, bad := bare.Convert(marathon.Options{Labels: how, Now: at, Previous: table.Service})
			for _, s := range of {
				if before := table.Service(s.ID); before != nil {
					s.Endpoints, s.Source = before.Endpoints, before.Source
				}
				if s.Since.IsZero() {
					s.Since = at
				}
				services = append(services, s)
			}
			problems = append(problems, bad...)
		}
	}
	for _, s := range table.Services {
		if !replaced[s.App] {
			services = append(services, s)
		}
	}
	return discovery.Merged(signalbox.NewTable(services, problems)), nil
}

// simulate says what leads from one table to another.
func (r *diffReport) simulate(now, then *signalbox.Table, options *haproxy.Options) error {
	runs := haproxy.Build(now, options, nil)
	want := haproxy.Build(then, options, runs)
	template := haproxy.DefaultTemplate()
	from, err := renderFiles(template, runs)
	if err != nil {
		return err
	}
	to, err := renderFiles(template, want)
	if err != nil {
		return err
	}
	r.Apps = append(r.Apps, diffFiles(from, to)...)
	r.addRoutes(now, then)
	steps := haproxy.Diff(runs, want)
	r.Plan = &plan{Reload: append([]haproxy.Reason{}, steps.Reasons...), Commands: []command{}}
	for _, c := range steps.Whole(runs, want) {
		r.Plan.Commands = append(r.Plan.Commands, command(c))
	}
	known := map[signalbox.Problem]bool{}
	for _, problem := range append(now.AllProblems(), runs.Problems...) {
		known[problem] = true
	}
	for _, problem := range append(then.AllProblems(), want.Problems...) {
		if !known[problem] {
			known[problem] = true
			r.Problems = append(r.Problems, admin.Problem(problem))
		}
	}
	return nil
}

// addRoutes adds the lines of the table that change.
func (r *diffReport) addRoutes(now, then *signalbox.Table) {
	byApp := map[string][2][]*signalbox.Service{}
	for i, t := range []*signalbox.Table{now, then} {
		for _, s := range t.Services {
			both := byApp[s.App]
			both[i] = append(both[i], s)
			byApp[s.App] = both
		}
	}
	for _, app := range slices.Sorted(maps.Keys(byApp)) {
		both := byApp[app]
		lines := signalbox.DiffText(&signalbox.Table{Services: both[0]}, &signalbox.Table{Services: both[1]})
		if len(lines) == 0 {
			continue
		}
		i, ok := slices.BinarySearchFunc(r.Apps, app, func(d appDiff, app string) int { return cmp.Compare(d.App, app) })
		if !ok {
			r.Apps = slices.Insert(r.Apps, i, appDiff{App: app})
		}
		r.Apps[i].Routes = lines
	}
}

func (p *program) printDiff(r diffReport) {
	for i, a := range r.Apps {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		if a.App == "" {
			fmt.Fprintln(p.stdout, "# no single app")
		} else {
			fmt.Fprintf(p.stdout, "# app %s\n", clean(a.App))
		}
		for _, line := range a.Routes {
			fmt.Fprintln(p.stdout, clean(line))
		}
		for _, f := range a.Files {
			fmt.Fprintf(p.stdout, "--- %s\n+++ %s\n", f.Name, f.Name)
			for _, line := range f.Diff[:min(len(f.Diff), shownLines)] {
				fmt.Fprintln(p.stdout, clean(line))
			}
			p.printMore(len(f.Diff), "line")
		}
	}
	if r.Plan == nil {
		if len(r.Apps) == 0 {
			fmt.Fprintln(p.stdout, "no difference")
		}
		return
	}
	if len(r.Apps) > 0 {
		fmt.Fprintln(p.stdout)
	}
	how := "no reload"
	if len(r.Plan.Reload) > 0 {
		how = "a reload: " + reasonText(r.Plan.Reload)
	}
	fmt.Fprintf(p.stdout, "plan: %s over the socket, %s\n", plural(len(r.Plan.Commands), "command"), how)
	for _, c := range r.Plan.Commands[:min(len(r.Plan.Commands), shownLines)] {
		fmt.Fprintf(p.stdout, "  %s  # %s\n", clean(c.Text), clean(strings.TrimSpace(c.Why)))
	}
	p.printMore(len(r.Plan.Commands), "command")
	p.printProblems(r.Problems)
}

// printMore says how many of n things are not shown.
func (p *program) printMore(n int, noun string) {
	if n > shownLines {
		fmt.Fprintf(p.stdout, "… and %s more (-o json has them all)\n", plural(n-shownLines, noun))
	}
}
