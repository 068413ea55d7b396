package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newStatCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	cmd := &cobra.Command{
		Use:   "stat [TEXT]",
		Short: "Requests, latencies and errors of each service",
		Long:  "Lists what the running controller has counted since it started; with a text, for services with the text in their name.",
		Example: `  signalbox stat
  signalbox stat shop -o json`,
		GroupID: groupLook,
		Args:    arguments(0, 1, "one text at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			stats, err := client.Services(cmd.Context())
			if err != nil {
				return err
			}
			stats.Services = slices.DeleteFunc(stats.Services, func(row admin.ServiceStat) bool {
				return !strings.Contains(row.Service, strings.Join(args, ""))
			})
			if output == "json" {
				return printJSON(p.stdout, stats)
			}
			return p.printStat(stats)
		},
	}
	addOutput(cmd, &output)
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

func (p *program) printStat(stats admin.Services) error {
	t := newTable(p.stdout, "SERVICE", "REQ", "REQ/S", "AVG", "P50", "P90", "P99", "5XX", "ERR%")
	for _, row := range stats.Services {
		if row.Requests == 0 {
			t.row(row.Service, "0", "0", "-", "-", "-", "-", "0", "-")
			continue
		}
		t.row(row.Service, strconv.FormatUint(row.Requests, 10), digits(row.PerSecond), span(row.Average), span(row.P50),
			span(row.P90), span(row.P99), strconv.FormatUint(row.Errors, 10), digits(100*row.ErrorRatio))
	}
	return t.flush()
}
