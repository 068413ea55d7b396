package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
)

func newStatCommand(p *program) *cobra.Command {
	s := defaults()
	var output string
	var over time.Duration
	var cluster bool
	cmd := &cobra.Command{
		Use:   "stat [TEXT]",
		Short: "Requests, latencies and errors of each service",
		Long:  "Lists what the running controller has counted since it started, or with --span in the time before now; with a text, for services with the text in their name.",
		Example: `  signalbox stat
  signalbox stat --span 5m
  signalbox stat shop -o json
  signalbox stat --cluster --hub http://hub.example:9903`,
		GroupID: groupLook,
		Args:    arguments(0, 1, "one text at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.clusterClient(&s, cluster)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("span") && (over < time.Second || over > admin.MaxSpan) {
				return usageError("--span: %s is not between 1s and %s", over, admin.MaxSpan)
			}
			get := client.Services
			if over > 0 {
				get = func(ctx context.Context) (admin.Services, error) { return client.ServicesOver(ctx, over) }
			}
			stats, err := get(cmd.Context())
			if err != nil {
				return ofHub(err, cluster)
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
	cmd.Flags().DurationVar(&over, "span", 0, "count only this much time before now, up to 1h; 0: all since the start")
	addOutput(cmd, &output)
	addClientSettings(cmd.Flags(), &s)
	addClusterSettings(cmd.Flags(), &s, &cluster)
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
