package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newRoutesCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	var all bool
	cmd := &cobra.Command{
		Use:     "routes [TEXT]",
		Short:   "What is reached under which name, and what is wrong with it",
		Long:    "Lists the routes of the running controller; with a text, those with the text in host, path or app.",
		GroupID: groupLook,
		Args:    cobra.MaximumNArgs(1),
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
			return p.printRoutes(routes)
		},
	}
	addOutput(cmd, &output)
	cmd.Flags().Var(boolOf(&all), "all", "services that ask for no name and no port too")
	cmd.Flags().Lookup("all").NoOptDefVal = "true"
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

func (p *program) printRoutes(r admin.Routes) error {
	colour := wantsColour(p.stdout)
	t := newTable(p.stdout, "HOST", "PATH", "APP", "PORT", "TASKS", "STATE")
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
		t.painted(colour, string(row.State), host, path, row.App, strconv.Itoa(row.Port),
			fmt.Sprintf("%d/%d", row.Up, row.Tasks), state)
	}
	if err := t.flush(); err != nil {
		return err
	}
	p.printProblems(r.Problems)
	return nil
}

func (p *program) printProblems(problems []admin.Problem) {
	if len(problems) == 0 {
		return
	}
	fmt.Fprintf(p.stdout, "\n%s:\n", plural(len(problems), "problem"))
	for _, problem := range problems {
		fmt.Fprintf(p.stdout, "  %-7s %s\n", problem.Severity, clean(problem.String()))
	}
}
