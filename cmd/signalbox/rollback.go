package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

// previewLines is how many lines of what would change are shown before a question.
const previewLines = 20

func newRollbackCommand(p *program) *cobra.Command {
	s := defaults()
	var f holdFlags
	var output string
	var yes bool
	cmd := &cobra.Command{
		Use:   "rollback [GENERATION]",
		Short: "Go back to earlier definitions, with the tasks of now, and hold them",
		Long: `Goes back to the definitions (names, ports, policies, checks, modes) that a generation had, of one app with --app, else of all; without
a generation to those before the last change of definitions. Tasks are those of now. It prints what would change, and asks. What it
went back to is held, on this machine, until "signalbox hold --release": put the app right in Marathon before that.`,
		Example: `  signalbox rollback --app /shop          its definition before the last change
  signalbox rollback --app /shop 118      its definition in generation 118
  signalbox rollback 118 --yes --for 1h --reason "bad templates"`,
		GroupID: groupOperate,
		Args:    arguments(0, 1, "one generation at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			generation, err := generationOf(args)
			if err != nil {
				return err
			}
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			order := f.order()
			would, err := client.Preview(ctx, order.App, generation)
			if err != nil {
				return err
			}
			order.App, order.Generation = would.App, would.To
			name := holdName(would.App)
			switch {
			case output != "json":
				if err := p.folding(func() error { return p.printRollback(would) }); err != nil {
					return err
				}
			case !yes:
				if err := printJSON(p.stdout, would); err != nil {
					return err
				}
			}
			verb := fmt.Sprintf("signalbox rollback %d", would.To)
			if would.App != "" {
				verb += " --app " + would.App
			}
			if err := p.confirm(ctx, yes, fmt.Sprintf("Roll %s back to generation %d, and hold it there?", name, would.To), verb); err != nil {
				return err
			}
			done, err := client.Rollback(ctx, order)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(p.stdout, done)
			}
			fmt.Fprintln(p.stdout)
			return p.printDone(done, fmt.Sprintf("%s has the definitions of generation %d", name, would.To), "they are held; "+releaseWith(would.App)+" lets the newest ones in again")
		},
	}
	addOutput(cmd, &output)
	f.add(cmd, "roll back the app with this `id` alone")
	addYes(cmd, &yes)
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// printRollback says what a rollback would change.
func (p *program) printRollback(r admin.Rollback) error {
	head := fmt.Sprintf("%s, back to the definitions of generation %d", holdName(r.App), r.To)
	if !r.ToAt.IsZero() {
		head += ", which came at " + r.ToAt.UTC().Format("2006-01-02 15:04:05Z")
	}
	fmt.Fprintf(p.stdout, "%s; generation %d runs\n", clean(head), r.Generation)
	if len(r.Undone) > 0 {
		fmt.Fprint(p.stdout, "\nundone:\n")
		t := newTable(p.stdout)
		const most = 5
		for _, c := range r.Undone[max(0, len(r.Undone)-most):] {
			t.row(fmt.Sprintf("  #%d", c.Generation), c.At.UTC().Format("2006-01-02 15:04:05Z"), appsText(c.Apps, c.AppCount), c.Cause)
		}
		if err := t.flush(); err != nil {
			return err
		}
		if more := len(r.Undone) - most; more > 0 {
			fmt.Fprintf(p.stdout, "  and %d earlier ones\n", more)
		}
	}
	if len(r.Unrouted) > 0 {
		fmt.Fprintf(p.stdout, "\nnot routed any more, because generation %d does not have them: %s\n", r.To, clean(someOf(r.Unrouted, len(r.Unrouted))))
	}
	if r.LineCount == 0 {
		fmt.Fprint(p.stdout, "\nno line changes: what is routed now has these definitions\n")
		return nil
	}
	p.printLines(r.Lines[:min(len(r.Lines), previewLines)], r.LineCount, fmt.Sprintf("\nwould change %s:\n", plural(len(r.Apps), "app")))
	return nil
}
