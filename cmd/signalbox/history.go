package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newHistoryCommand(p *program) *cobra.Command {
	s := defaults()
	var output, app string
	var definitions bool
	cmd := &cobra.Command{
		Use:   "history [GENERATION]",
		Short: "The last changes of what HAProxy does, with their causes",
		Long: `Lists the last 50 changes that were applied, the newest last, with what led to each and what it took; with a generation, what led to
that one, in full. It survives a restart. Of what changes definitions (names, policies, checks, modes) 50 more are kept, because
"signalbox rollback" goes back to them.`,
		Example: `  signalbox history
  signalbox history 118
  signalbox history --app /shop --definitions    what of /shop can be rolled back`,
		GroupID: groupLook,
		Args:    arguments(0, 1, "one generation at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := admin.HistoryQuestion{Definitions: definitions}
			if app != "" {
				q.App = appOf(app)
			}
			var err error
			if q.Generation, err = generationOf(args); err != nil {
				return err
			}
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			h, err := client.History(cmd.Context(), q)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(p.stdout, h)
			}
			return p.folding(func() error {
				if q.Generation != 0 {
					return p.printChanges(h)
				}
				return p.printHistory(h.Changes, h.At)
			})
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().Var(textOf(&app), "app", "only changes of the app with this `id`")
	addSwitch(cmd.Flags(), &definitions, "definitions", "only changes of definitions, not those of tasks alone")
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// generationOf reads the generation that a verb is given; 0: none.
func generationOf(args []string) (uint64, error) {
	if len(args) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(args[0], "#"), 10, 64)
	if err != nil || n == 0 {
		return 0, &exitError{code: exitUsage, err: fmt.Errorf("%q is no generation: want a number, as signalbox history lists them", args[0]), try: "signalbox history"}
	}
	return n, nil
}

// printHistory prints one line for each change.
func (p *program) printHistory(changes []admin.Change, now time.Time) error {
	if len(changes) == 0 {
		fmt.Fprintln(p.stdout, "no such change is kept")
		return nil
	}
	t := newTable(p.stdout, "GEN", "AT", "TOOK", "APPS", "HOW", "CAUSE")
	for _, c := range changes {
		by, took := "", "-"
		if c.By != "" {
			by = "by " + c.By
		}
		if c.TookSeconds > 0 {
			took = span(c.TookSeconds)
		}
		reasons := ""
		if c.Reloaded {
			reasons = "reload: " + joined(c.Reasons...)
		}
		t.row(strconv.FormatUint(c.Generation, 10), clock(c.At, now), took, appsText(c.Apps, c.AppCount), howWord(c), sentence(c.Cause, by, reasons, c.Error))
	}
	return t.flush()
}

// printChanges prints changes in full.
func (p *program) printChanges(h admin.History) error {
	for i, c := range h.Changes {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		t := newTable(p.stdout)
		t.row("generation", strconv.FormatUint(c.Generation, 10))
		at := c.At.UTC().Format("2006-01-02 15:04:05.000Z") + ", " + admin.Ago(c.At, h.At)
		if c.Event.IsZero() {
			at += fmt.Sprintf("; took %s", span(c.TookSeconds))
		} else {
			at += fmt.Sprintf("; %s after the event", span(c.TookSeconds))
		}
		t.row("at", at)
		t.row("cause", c.Cause)
		if c.By != "" {
			t.row("by", c.By)
		}
		t.row("how", howText(c))
		for _, why := range c.Withheld {
			t.row("withheld", why)
		}
		if c.AppCount > 0 {
			text := joined(c.Apps[:min(len(c.Apps), 10*namedTasks)]...)
			if more := c.AppCount - min(len(c.Apps), 10*namedTasks); more > 0 {
				text += fmt.Sprintf(" and %d more", more)
			}
			t.row("apps", text)
		}
		if c.LineCount > 0 {
			what := "tasks alone"
			if c.Definitions {
				what = "definitions too"
			}
			t.row("changed", plural(c.LineCount, "line")+", "+what)
		}
		if err := t.flush(); err != nil {
			return err
		}
		p.printLines(c.Lines, c.LineCount, "\n")
	}
	return nil
}

// printLines prints the lines of a difference, after a text if there are some.
func (p *program) printLines(lines []string, n int, before string) {
	if n == 0 {
		return
	}
	fmt.Fprint(p.stdout, before)
	for _, line := range lines {
		fmt.Fprintln(p.stdout, "  "+clean(line))
	}
	if more := n - len(lines); more > 0 {
		fmt.Fprintf(p.stdout, "  … and %s\n", plural(more, "more line"))
	}
}

// clock prints a moment: the time of day, and the date of what is older than a day.
func clock(t, now time.Time) string {
	if now.Sub(t) < 24*time.Hour {
		return t.UTC().Format("15:04:05Z")
	}
	return t.UTC().Format("01-02 15:04Z")
}

// appsText names the apps of a change in a cell.
func appsText(apps []string, n int) string {
	switch {
	case n == 0 || len(apps) == 0:
		return "-"
	case n == 1:
		return apps[0]
	}
	return fmt.Sprintf("%s +%d", apps[0], n-1)
}

// howWord is howText in a few words.
func howWord(c admin.Change) string {
	var parts []string
	if c.Error != "" {
		parts = append(parts, "failed")
	}
	if c.Commands > 0 {
		parts = append(parts, plural(c.Commands, "command"))
	}
	if c.Reloaded {
		parts = append(parts, "reload")
	}
	if len(c.Certificates) > 0 {
		parts = append(parts, plural(len(c.Certificates), "certificate"))
	}
	if len(c.Withheld) > 0 {
		parts = append(parts, fmt.Sprintf("%d withheld", len(c.Withheld)))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return joined(parts...)
}

// howText says how a change was applied.
func howText(c admin.Change) string {
	var parts []string
	if c.Commands > 0 {
		parts = append(parts, plural(c.Commands, "command"))
	}
	if c.Reloaded {
		parts = append(parts, "reload: "+joined(c.Reasons...))
	}
	if len(c.Certificates) > 0 {
		parts = append(parts, plural(len(c.Certificates), "certificate")+" put in")
	}
	if len(c.Withheld) > 0 {
		parts = append(parts, fmt.Sprintf("%d withheld", len(c.Withheld)))
	}
	if c.Error != "" {
		parts = append(parts, "failed: "+c.Error)
	}
	if len(parts) == 0 {
		return "nothing to do"
	}
	return sentence(parts...)
}
