package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"signalbox/loadgen"
)

func (r *churnResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "In %.0f s: %d changes (%s), %d runtime commands; %d reloads, %d of them forced (%s); %d rolling deployments.\n",
		r.Seconds, r.Changes, counts(r.Kinds), r.Commands, r.Reloads, r.Forced, counts(r.Reasons), r.Deployments)
	fmt.Fprintf(w, "At most %d old workers, %.0f MB in all of HAProxy, %.0f MB in the controller, which took %.1f %% of a core. %d lines of the log lost.\n\n",
		r.OldWorkers, float64(r.HAProxyRSS)/1e6, float64(r.ControllerRSS)/1e6, 100*r.ControllerCPU, r.Lost)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "load\tsent\ta second\tunsent\tsent again\tms: median\tp99\tmax\tfailed\twhy\t")
	for _, one := range []struct {
		name string
		l    churnLoad
	}{{"new connections", r.New}, {"kept connections", r.Kept}, {"web sockets, their messages", r.Sockets}} {
		h := one.l.Latency
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%d\t%d\t%.2f\t%.1f\t%.0f\t%d\t%s\t\n", one.name, one.l.Sent, one.l.PerSecond, one.l.Unsent, one.l.Reconnects,
			1000*h.Quantile(.5).Seconds(), 1000*h.Quantile(.99).Seconds(), 1000*h.Max().Seconds(), one.l.failures(), counts(one.l.Failed))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, l := range []churnLoad{r.New, r.Kept, r.Sockets} {
		printFailures(w, l.First)
	}
	c := r.Control
	fmt.Fprintf(w, "\nThe control, a haproxy -sf for each change: %d changes and %d reloads in %.0f s, %d of %d requests and web sockets failed (%s).\n",
		c.Changes, c.Reloads, c.Seconds, c.failures(), c.Sent, counts(c.Failed))
	return nil
}

func printFailures(w io.Writer, all []loadgen.Failure) {
	for _, f := range all {
		fmt.Fprintln(w, " ", f)
	}
}

// counts words what was counted by name, the most first.
func counts[K ~string, N int | int64 | uint64](all map[K]N) string {
	names := slices.SortedFunc(maps.Keys(all), func(a, b K) int { return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a, b)) })
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = fmt.Sprintf("%d %s", all[name], name)
	}
	return cmp.Or(strings.Join(words, ", "), "none")
}
