package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/admin"
)

func newHealthCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	failOn := "degraded"
	cmd := &cobra.Command{
		Use:   "health",
		Short: "How the controller and what it depends on fare",
		Long: `Prints the health of the running controller. It ends with 1 if that is degraded or failing, with --fail-on failing only if it
is failing, and with 3 if no controller answers.`,
		Example: `  signalbox health
  signalbox health --fail-on failing      for a health check: it ends with 1 when nothing is served`,
		GroupID: groupLook,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			h, err := client.Health(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				err = printJSON(p.stdout, h)
			} else {
				err = p.folding(func() error { return p.printHealth(h) })
			}
			if err != nil {
				return err
			}
			if h.Status == signalbox.Failing || h.Status == signalbox.Degraded && failOn == "degraded" {
				return errFindings
			}
			return nil
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().Var(oneOf(&failOn, "degraded", "failing"), "fail-on", "the least bad state that ends with 1: `degraded|failing`")
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

func (p *program) printHealth(h admin.Health) error {
	colour := wantsColour(p.stdout)
	fmt.Fprintf(p.stdout, "%s  signalbox %s, up %s, %d apps, %d services, %d tasks\n\n", paint(colour, string(h.Status), string(h.Status)),
		clean(h.Version), admin.Span(h.UptimeSeconds), h.Apps, h.Services, h.Endpoints)
	t := newTable(p.stdout, "PART", "STATE", "DETAIL")
	for _, src := range h.Sources {
		stream := "stream down"
		if src.Connected {
			stream = "stream stands"
		}
		held := ""
		if src.Quarantined != "" {
			held = "held back: " + src.Quarantined
		}
		t.row(src.Name, string(src.Status), sentence(src.Detail, held, stream, "last good state "+admin.Ago(src.LastGood, h.At),
			fmt.Sprintf("%d apps, %d tasks", src.Apps, src.Endpoints)))
	}
	ha := h.HAProxy
	worker := "no worker"
	if ha.PID != 0 {
		worker = fmt.Sprintf("worker %d", ha.PID)
	}
	if ha.OldWorkers > 0 {
		worker += fmt.Sprintf(" and %d old", ha.OldWorkers)
	}
	reload := plural(int(ha.Reloads), "reload")
	if !ha.LastReload.IsZero() {
		reload += ", the last " + admin.Ago(ha.LastReload, h.At)
		if ha.ReloadReason != "" {
			reload += ": " + ha.ReloadReason
		}
	}
	t.row("haproxy", string(ha.Status), sentence(ha.Detail, ha.Version, worker,
		fmt.Sprintf("configuration #%d, %s", ha.Generation, admin.Ago(ha.AppliedAt, h.At)), plural(int(ha.Updates), "update"), reload))
	lost := fmt.Sprintf("%d lost", h.Log.Lost)
	if h.Log.Unsure > 0 {
		lost += fmt.Sprintf(" and at most %d more", h.Log.Unsure)
	}
	t.row("log", string(h.Log.Status), sentence(h.Log.Detail, fmt.Sprintf("%d counted", h.Log.Counted), lost,
		fmt.Sprintf("%d unreadable", h.Log.Bad), "last record "+admin.Ago(h.Log.Last, h.At)))
	for _, sink := range h.Sinks {
		t.row("sink "+sink.Name, string(sink.Status), sentence(sink.Detail, fmt.Sprintf("%d points sent", sink.Sent),
			fmt.Sprintf("%d waiting", sink.Waiting), fmt.Sprintf("%d dropped", sink.Dropped), "last sent "+admin.Ago(sink.LastSent, h.At)))
	}
	if d := h.StatsD; d != nil {
		t.row("statsd", string(d.Status), sentence(d.Detail, "at "+strings.Join(d.Addresses, ", "), fmt.Sprintf("%d values, %d series", d.Samples, d.Series),
			fmt.Sprintf("%d not taken", d.Bad), fmt.Sprintf("%d too many", d.Overflow), fmt.Sprintf("%d datagrams lost", d.Lost)))
	}
	if len(h.Held.Holds) > 0 {
		parts := []string{h.Held.Detail}
		for _, hold := range h.Held.Holds {
			parts = append(parts, holdSentence(hold, h.At))
		}
		t.row("held", string(h.Held.Status), sentence(parts...))
	}
	if err := t.flush(); err != nil {
		return err
	}
	p.printProblems(h.Problems)
	if len(h.Logs) > 0 {
		fmt.Fprint(p.stdout, "\nlast log entries:\n")
		for _, e := range h.Logs {
			line := fmt.Sprintf("%s %-7s %s", e.Time.UTC().Format("15:04:05Z"), e.Level, e.Message)
			for _, k := range slices.Sorted(maps.Keys(e.Fields)) {
				line += fmt.Sprintf(" %s=%q", k, e.Fields[k])
			}
			fmt.Fprintln(p.stdout, "  "+clean(line))
		}
	}
	if len(h.Metrics) > 0 {
		fmt.Fprint(p.stdout, "\nlast metrics:\n")
		for _, m := range h.Metrics {
			labels := ""
			if m.Labels != "" {
				labels = "{" + m.Labels + "}"
			}
			fmt.Fprintf(p.stdout, "  %s %s\n", m.Time.UTC().Format("15:04:05Z"), clean(fmt.Sprintf("%s%s %g", m.Name, labels, m.Value)))
		}
	}
	return nil
}

// sentence joins what is known.
func sentence(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
