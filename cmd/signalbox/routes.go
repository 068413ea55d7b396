package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newRoutesCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	var all bool
	cmd := &cobra.Command{
		Use:   "routes [TEXT]",
		Short: "What is reached under which name, and what is wrong with it",
		Long: `Lists the routes of the running controller; with a text, those with the text in host, path or app. The last hit is that of the service
since the controller started, by whichever way it came; with -o wide, what labels ask for is listed too, and
with --prefer local how many of the tasks are on this machine.`,
		Example: `  signalbox routes
  signalbox routes shop.local -o wide     what answers there, and what its labels ask for`,
		GroupID: groupLook,
		Args:    arguments(0, 1, "one text at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			routes, err := client.Routes(cmd.Context())
			if err != nil {
				return err
			}
			routes = selectRoutes(routes, strings.Join(args, ""), all || output == "json")
			if output == "json" {
				return printJSON(p.stdout, routes)
			}
			return p.folding(func() error { return p.printRoutes(routes, output == "wide") })
		},
	}
	addOutputs(cmd, &output, "table", "wide", "json")
	addSwitch(cmd.Flags(), &all, "all", "services that ask for no name and no port too")
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// selectRoutes keeps the rows and problems with a text in them, and without all those that are reached and ask for something.
func selectRoutes(r admin.Routes, text string, all bool) admin.Routes {
	r.Routes = slices.DeleteFunc(r.Routes, func(row admin.Route) bool {
		return !strings.Contains(row.Host+row.Path+" "+row.App, text) || !all && row.State == admin.RouteUnrouted
	})
	r.Problems = slices.DeleteFunc(r.Problems, func(p admin.Problem) bool {
		return text != "" && !strings.Contains(p.App, text) &&
			!slices.ContainsFunc(r.Routes, func(row admin.Route) bool { return row.App == p.App })
	})
	return r
}

func (p *program) printRoutes(r admin.Routes, wide bool) error {
	colour := wantsColour(p.stdout)
	header := []string{"HOST", "PATH", "APP", "PORT", "TASKS", "WEIGHT", "LAST HIT", "STATE"}
	near := wide && slices.ContainsFunc(r.Routes, func(row admin.Route) bool { return row.Near != nil })
	if near {
		header = slices.Insert(header, slices.Index(header, "TASKS")+1, "NEAR")
	}
	if wide {
		header = slices.Insert(header, len(header)-1, "POLICY")
	}
	t := newTable(p.stdout, header...)
	for _, row := range r.Routes {
		host, path := row.Host, row.Path
		switch {
		case host == "" && row.Listen != 0:
			host, path = ":"+strconv.Itoa(row.Listen), "-"
		case host == "":
			host, path = "-", "-"
		}
		state := string(row.State)
		if row.State != admin.RouteOK && len(row.Reasons) > 0 {
			state += ": " + row.Reasons[0]
			if more := len(row.Reasons) - 1; more > 0 {
				state += fmt.Sprintf(" (and %d more)", more)
			}
		}
		if row.Match != "" {
			path += " (" + row.Match + ")"
		}
		cells := []string{host, path, row.App, strconv.Itoa(row.Port), fmt.Sprintf("%d/%d", row.Up, row.Tasks)}
		if near {
			cells = append(cells, nearText(row))
		}
		cells = append(cells, weightText(row), hitText(row, r.At))
		if wide {
			cells = append(cells, cmp.Or(row.Policy, "-"))
		}
		cells = append(cells, state)
		t.painted(colour, string(row.State), cells...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	p.printProblems(r.Problems)
	return nil
}

// nearText is how many of the tasks are on the machine.
func nearText(row admin.Route) string {
	if row.Near == nil {
		return "-"
	}
	return strconv.Itoa(*row.Near)
}

// weightText is the weight of a service and what it comes to.
func weightText(row admin.Route) string {
	switch {
	case row.Weight == nil:
		return "-"
	case row.Share == 100:
		return strconv.Itoa(*row.Weight)
	}
	return fmt.Sprintf("%d (%d%%)", *row.Weight, row.Share)
}

// hitText says when a service last had a request.
func hitText(row admin.Route, now time.Time) string {
	if row.LastHit.IsZero() {
		return "-"
	}
	return admin.Ago(row.LastHit, now)
}

func (p *program) printProblems(problems []admin.Problem) {
	if len(problems) == 0 {
		return
	}
	fmt.Fprintf(p.stdout, "\n%s:\n", plural(len(problems), "problem"))
	for _, problem := range problems {
		fmt.Fprintf(p.stdout, "  %-7s  %s\n", problem.Severity, clean(problem.String()))
	}
}
