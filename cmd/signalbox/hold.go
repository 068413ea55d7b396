package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/admin"
)

// holdFlags are what an operator says of a hold.
type holdFlags struct {
	app    string
	span   time.Duration
	reason string
}

func (f *holdFlags) add(cmd *cobra.Command, app string) {
	cmd.Flags().Var(textOf(&f.app), "app", app)
	cmd.Flags().Var(durationOf(&f.span, 0, longestHold), "for", "`time` after which it ends by itself; 0: when it is released")
	cmd.Flags().Var(textOf(&f.reason), "reason", "`text` for whoever finds it")
}

// order returns the order of these flags.
func (f *holdFlags) order() admin.Order {
	o := admin.Order{ForSeconds: f.span.Seconds(), Reason: f.reason}
	if f.app != "" {
		o.App = appOf(f.app)
	}
	return o
}

func newHoldCommand(p *program) *cobra.Command {
	s := defaults()
	var f holdFlags
	var output string
	var all, release, yes bool
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Let definitions stand still while tasks follow, and say what is held",
		Long: `Without flags it says what is held, and what that keeps back. With --app or --all the definitions (names, ports, policies, checks,
modes) of an app or of everything stand still, on this machine, until --release or for the time of --for. Tasks follow as ever: they
come, move, drain and go. An app that comes while everything is held is not routed; one that goes keeps its names, which answer 503.
A hold survives a restart. Health is degraded as soon as it keeps something back.`,
		Example: `  signalbox hold                                          what is held
  signalbox hold --app /shop --for 30m --reason "SHOP-12"
  signalbox hold --all --for 2h
  signalbox hold --release --app /shop                    its definition of now holds again
  signalbox hold --release                                of everything`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case all && f.app != "":
				return usageError("--all and --app exclude each other")
			case !release && !all && f.app == "" && (f.span != 0 || f.reason != ""):
				return usageError("say what to hold: --app ID, or --all")
			case release && (f.span != 0 || f.reason != ""):
				return usageError("--release takes neither --for nor --reason")
			}
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if !release && (all || f.app != "") {
				done, err := client.Hold(ctx, f.order())
				if err != nil {
					return err
				}
				if output == "json" {
					return printJSON(p.stdout, done)
				}
				return p.printDone(done, holdName(f.order().App)+" is held", "tasks follow as ever; "+releaseWith(f.order().App)+" ends it")
			}
			held, err := client.Holds(ctx)
			if err != nil {
				return err
			}
			if output != "json" || release && !yes {
				err = p.folding(func() error { return p.printHolds(held, release) })
			} else if !release {
				err = printJSON(p.stdout, held)
			}
			if err != nil || !release {
				return err
			}
			if len(held.Holds) == 0 {
				return fmt.Errorf("%w: there is nothing to release", admin.ErrConflict)
			}
			name := holdName(f.order().App)
			if err := p.confirm(ctx, yes || len(held.Kept) == 0, "Release "+name+"?", releaseWith(f.order().App)); err != nil {
				return err
			}
			done, err := client.Release(ctx, admin.Order{App: f.order().App})
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(p.stdout, done)
			}
			return p.printDone(done, name+" is released", "")
		},
	}
	addOutput(cmd, &output)
	f.add(cmd, "hold the app with this `id`")
	addSwitch(cmd.Flags(), &all, "all", "hold everything")
	addSwitch(cmd.Flags(), &release, "release", "end the hold of --app, or every hold")
	addYes(cmd, &yes)
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// releaseWith is the command line that ends a hold.
func releaseWith(app string) string {
	if app == "" {
		return "signalbox hold --release"
	}
	return "signalbox hold --release --app " + app
}

// holdSentence says what an operator holds, since when, and why.
func holdSentence(h signalbox.Hold, now time.Time) string {
	text := fmt.Sprintf("%s, since %s, at generation %d", h, admin.Ago(h.Since, now), h.Generation)
	if h.RolledBack {
		text = fmt.Sprintf("%s, rolled back to generation %d %s", h, h.Generation, admin.Ago(h.Since, now))
	}
	text += ", by " + h.By
	if !h.Until.IsZero() {
		text += ", ends in " + admin.Span(h.Until.Sub(now).Seconds())
	}
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}

// printHolds says what is held, and what a release would change.
func (p *program) printHolds(h admin.Holds, lines bool) error {
	if len(h.Holds) == 0 {
		fmt.Fprintln(p.stdout, "nothing is held: every definition is the newest")
		return nil
	}
	t := newTable(p.stdout, "HELD", "SINCE", "ENDS", "AT", "BY", "REASON")
	for _, hold := range h.Holds {
		ends := "by release"
		if !hold.Until.IsZero() {
			ends = "in " + admin.Span(hold.Until.Sub(h.At).Seconds())
		}
		at := fmt.Sprintf("#%d", hold.Generation)
		if hold.RolledBack {
			at += ", rolled back"
		}
		reason := hold.Reason
		if reason == "" {
			reason = "-"
		}
		t.row(hold.String(), admin.Ago(hold.Since, h.At), ends, at, hold.By, reason)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(h.Kept) == 0 {
		fmt.Fprintln(p.stdout, "\nit keeps nothing back: what is asked for is what is routed")
		return nil
	}
	fmt.Fprintf(p.stdout, "\nkept back of %s:\n", plural(len(h.Kept), "app"))
	t = newTable(p.stdout)
	const most = 10
	for _, k := range h.Kept[:min(len(h.Kept), most)] {
		t.row("  "+k.App, map[string]string{
			signalbox.KeptNew: "new, not routed", signalbox.KeptChanged: "changed, its earlier definition holds", signalbox.KeptRemoved: "gone, its names answer 503",
		}[k.How])
	}
	if err := t.flush(); err != nil {
		return err
	}
	if more := len(h.Kept) - most; more > 0 {
		fmt.Fprintf(p.stdout, "  and %d more\n", more)
	}
	if lines {
		p.printLines(h.Lines[:min(len(h.Lines), 2*most)], h.LineCount, "\na release of everything would change:\n")
	}
	return nil
}
