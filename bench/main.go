// Command bench measures the whole program on this machine: a Marathon with many apps, the controller as its own process, a real
// HAProxy, and requests through it. It prints a table, and writes the same as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// results is what a run writes as JSON. Durations are in seconds, memory in bytes.
type results struct {
	Machine machine  `json:"machine"`
	Command []string `json:"command"`
	At      string   `json:"at"`
	Tasks   int      `json:"tasksPerApp"`
	Changes int      `json:"changes"`
	Pause   float64  `json:"pauseSeconds"`
	Sizes   []result `json:"sizes"`
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	sizes := flags.String("sizes", "100,1000,5000", "numbers of apps, by comma")
	b := bench{progress: stderr}
	flags.IntVar(&b.tasks, "tasks", 3, "tasks of each app")
	flags.IntVar(&b.changes, "changes", 100, "how many apps are scaled by one task, one after the other")
	flags.IntVar(&b.newApps, "new-apps", 5, "how many apps are added, one after the other")
	flags.DurationVar(&b.pause, "pause", 200*time.Millisecond, "time between two changes")
	flags.StringVar(&b.binary, "binary", "bin/signalbox", "the program")
	out := flags.String("out", "bench/results/scale.json", "where the figures go as JSON")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 2
	}
	r := results{Machine: thisMachine(ctx), Command: append([]string{"bench"}, args...), At: time.Now().UTC().Format(time.RFC3339), Tasks: b.tasks, Changes: b.changes, Pause: b.pause.Seconds()}
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(size))
		if err != nil || n < 1 {
			fmt.Fprintf(stderr, "error: --sizes: %q is no number of apps\n", size)
			return 2
		}
		one, err := b.size(ctx, n)
		if err != nil {
			fmt.Fprintf(stderr, "error: with %d apps: %v\n", n, err)
			return 4
		}
		r.Sizes = append(r.Sizes, one)
	}
	if err := r.print(stdout); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 4
	}
	if err := r.write(*out); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 4
	}
	fmt.Fprintf(stdout, "\nthe same as JSON: %s\n", *out)
	return 0
}

func (r *results) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

func (r *results) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, HAProxy %s, %s\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.HAProxy, r.Machine.Go)
	fmt.Fprintf(w, "%d changes of one task each, %gs apart; a change runs from before the request to Marathon until the new task has answered through\n"+
		"HAProxy. CPU time is all that was used during the changes, between them too.\n\n", r.Changes, r.Pause)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "apps\tcold start s\tchange ms: median\tp95\tmax\tCPU-s per change\tof that checks\tHAProxy's\treloads\tnew app ms: median\tcontroller MB\tHAProxy MB\tidle % of a core\tHAProxy's\t")
	for _, s := range r.Sizes {
		fmt.Fprintf(t, "%d\t%.2f\t%.1f\t%.1f\t%.1f\t%.4f\t%.4f\t%.4f\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t\n",
			s.Apps, s.ColdStart, 1000*s.Change.Median, 1000*s.Change.P95, 1000*s.Change.Max, s.CPUPerChange, s.CheckCPUPerChange, s.HAProxyCPUPerChange,
			s.Reloads, 1000*s.NewApp.Median, float64(s.ControllerRSS)/1e6, float64(s.HAProxyRSS)/1e6, 100*s.IdleCPU, 100*s.HAProxyIdleCPU)
	}
	return t.Flush()
}
