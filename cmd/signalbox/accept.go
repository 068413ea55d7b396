package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newAcceptCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	var yes bool
	cmd := &cobra.Command{
		Use:   "accept [SOURCE]",
		Short: "Let a suspicious state of a source pass that is held back",
		Long: `A state that lacks many apps or tasks without explanation is held back until several reads confirm it. This prints what is held back and
what would change, asks, and lets it pass at once: for somebody who knows that it is real.`,
		Example: `  signalbox accept
  signalbox accept marathon --yes`,
		GroupID: groupOperate,
		Args:    arguments(0, 1, "one source at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			all, err := client.Quarantine(ctx)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				all.Sources = slices.DeleteFunc(all.Sources, func(q admin.Quarantine) bool { return q.Source != args[0] })
			}
			switch {
			case len(all.Sources) == 0 && len(args) == 1:
				return fmt.Errorf("%w: nothing of a source %q is held back", admin.ErrConflict, args[0])
			case len(all.Sources) == 0:
				return fmt.Errorf("%w: nothing is held back", admin.ErrConflict)
			case output != "json":
				err = p.folding(func() error { return p.printQuarantines(all) })
			case !yes || len(all.Sources) > 1:
				err = printJSON(p.stdout, all)
			}
			if err != nil {
				return err
			}
			if len(all.Sources) > 1 {
				return usageError("several sources are held back: say which one to accept")
			}
			q := all.Sources[0]
			if err := p.confirm(ctx, yes, "Let this state of "+clean(q.Source)+" pass?", "signalbox accept "+q.Source); err != nil {
				return err
			}
			done, err := client.Accept(ctx, admin.Order{Source: q.Source, Since: q.Since})
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(p.stdout, done)
			}
			fmt.Fprintf(p.stdout, "\naccepted: %s has %s and %s now\n", clean(q.Source), plural(q.AppsAfter, "app"), plural(q.TasksAfter, "task"))
			return nil
		},
	}
	addOutput(cmd, &output)
	addYes(cmd, &yes)
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// printQuarantines says what is held back, and what would change.
func (p *program) printQuarantines(all admin.Quarantines) error {
	for i, q := range all.Sources {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		fmt.Fprintf(p.stdout, "%s: a state is held back since %s\n", clean(q.Source), admin.Ago(q.Since, all.At))
		p.printLines(q.Lines[:min(len(q.Lines), previewLines)], q.LineCount, "\nwould change:\n")
		if q.MissingApps > 0 {
			text := joined(q.Missing...)
			if more := q.MissingApps - len(q.Missing); more > 0 {
				text += fmt.Sprintf(" and %d more", more)
			}
			fmt.Fprintf(p.stdout, "\nmissing: %s\n", clean(text))
		}
		fmt.Fprintln(p.stdout) // what is decided by stands above the question, which the lines may push out of sight
		t := newTable(p.stdout)
		t.row("  apps", fmt.Sprintf("%d now, %d then", q.AppsBefore, q.AppsAfter), fmt.Sprintf("%d missing without explanation", q.MissingApps))
		t.row("  tasks", fmt.Sprintf("%d now, %d then", q.TasksBefore, q.TasksAfter), fmt.Sprintf("%d missing without explanation", q.MissingTasks))
		t.row("  confirmed", fmt.Sprintf("by %d of %s", q.Reads, plural(q.Needed, "read")), "over "+admin.Span(q.SpanSeconds)+" at least: then it passes by itself")
		if err := t.flush(); err != nil {
			return err
		}
	}
	return nil
}
