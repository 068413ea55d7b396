package main

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/admin"
)

func newWhyCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	cmd := &cobra.Command{
		Use:   "why APP",
		Short: "Why an app is routed as it is: its labels, tasks, problems and history",
		Long: `Prints what the running controller knows of an app: what became of each label, by which ways the app is reached and to whom it lost
others, which tasks take traffic, what is wrong, and what happened lately.`,
		Example: "  signalbox why /shop/cart",
		GroupID: groupLook,
		Args:    arguments(1, 1, "one app"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			answer, err := client.Why(cmd.Context(), appOf(args[0]))
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(p.stdout, answer)
			}
			return p.folding(func() error { return p.printWhy(answer) })
		},
	}
	addOutput(cmd, &output)
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// appOf returns the id of an app that is named loosely: "shop/cart", or one of its services, "/shop/cart:0".
func appOf(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > 0 && strings.Trim(name[i+1:], "0123456789") == "" {
		name = name[:i]
	}
	return path.Join("/", name)
}

func (p *program) printWhy(w admin.Why) error {
	fmt.Fprintf(p.stdout, "%s\n", clean(w.App))
	for _, s := range w.Services {
		if err := p.printWhyService(s, w.At); err != nil {
			return err
		}
	}
	switch {
	case len(w.Services) > 0:
	case w.Kept == signalbox.KeptNew:
		fmt.Fprint(p.stdout, "\nnot routed: it came during a hold\n")
	default:
		fmt.Fprint(p.stdout, "\nnot routed: no port of it is a service\n")
	}
	if h := w.Hold; h != nil {
		kept := map[string]string{
			"": "it keeps nothing back", signalbox.KeptChanged: "the newest definition is kept back", signalbox.KeptRemoved: "it is gone, and keeps its names",
			signalbox.KeptNew: "the app is kept back",
		}[w.Kept]
		fmt.Fprintln(p.stdout, "\n"+clean("held: "+holdSentence(*h, w.At)+"; "+kept))
	}
	switch {
	case !w.LabelsRead && len(w.Members) > 0:
		fmt.Fprintf(p.stdout, "\nlabels: those of the apps that make it up, %s\n", clean(strings.Join(w.Members, " and ")))
	case !w.LabelsRead:
		fmt.Fprint(p.stdout, "\nlabels: not read since the controller started; what is routed comes from its last good state\n")
	case len(w.Labels) == 0:
		fmt.Fprint(p.stdout, "\nlabels: none is about routing\n")
	default:
		fmt.Fprint(p.stdout, "\nlabels:\n")
		t := newTable(p.stdout, "  PORT", "LABEL", "VALUE", "STATE")
		for _, l := range w.Labels {
			state := l.State
			switch {
			case l.By != "":
				state += " by " + l.By
			case l.Key != "" && strings.HasPrefix(l.Form, "HAPROXY"):
				state += ", as " + l.Key
			}
			port := "-"
			if l.Port >= 0 {
				port = strconv.Itoa(l.Port)
			}
			t.row("  "+port, l.Label, ellipsis(clean(l.Value), 60), state)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	p.printProblems(w.Problems)
	if len(w.History) > 0 {
		fmt.Fprint(p.stdout, "\nhistory:\n")
		t := newTable(p.stdout)
		for _, m := range w.History {
			t.row("  "+m.Time.UTC().Format("2006-01-02 15:04:05Z"), m.What, m.Text)
		}
		return t.flush()
	}
	return nil
}

func (p *program) printWhyService(s admin.WhyService, now time.Time) error {
	head := fmt.Sprintf("port %d", s.Port)
	if s.PortName != "" {
		head += " " + s.PortName
	}
	head += ": " + string(s.Mode) + ", " + s.Check
	if s.Policy != "" {
		head += ", " + s.Policy
	}
	if len(s.Groups) > 0 {
		head += ", for " + strings.Join(s.Groups, ", ")
	}
	if !s.Since.IsZero() {
		head += ", claims from " + admin.Ago(s.Since, now)
	}
	if !s.LastHit.IsZero() {
		head += ", last request " + admin.Ago(s.LastHit, now)
	}
	fmt.Fprintln(p.stdout, "\n"+clean(head))
	t := newTable(p.stdout)
	for _, w := range s.Ways {
		t.row("  way", w.Way, wayText(w))
	}
	if len(s.Ways) == 0 {
		t.row("  way", "-", "no name and no port is asked for")
	}
	tasks := slices.Clone(s.Tasks)
	slices.SortStableFunc(tasks, func(a, b admin.WhyTask) int { return cmp.Compare(taskRank(a), taskRank(b)) })
	for _, task := range tasks {
		text := string(task.State)
		if !task.Routed {
			text = "left out, " + text
		}
		if task.Reason != "" {
			text += ": " + task.Reason
		}
		t.row("  task", task.Addr, text, task.Task)
	}
	if len(tasks) == 0 {
		t.row("  task", "-", "none runs")
	}
	return t.flush()
}

// taskRank puts tasks that take traffic first.
func taskRank(t admin.WhyTask) int {
	if t.Routed {
		return 0
	}
	return 1
}

// wayText says how a name or a port is held.
func wayText(w admin.Way) string {
	switch {
	case w.Held && w.Share < 100:
		return fmt.Sprintf("shared with %s, %d%% of the requests", strings.Join(w.Rivals, ", "), w.Share)
	case w.Held && len(w.Rivals) > 0:
		return "held; " + strings.Join(w.Rivals, ", ") + " asks for it too"
	case w.Held:
		return "held"
	case w.Owner != "":
		return joined("lost to "+w.Owner, w.Reason)
	}
	return joined("not held", w.Reason)
}

// joined joins what is known, by commas.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}
