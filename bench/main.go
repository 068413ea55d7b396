// Command bench measures the whole program on this machine: a Marathon with many apps, the controller as its own process, a real
// HAProxy, and requests through it; whether many hosts are routed as fast as few; how much a line of a log costs; how often a fleet asks
// a task for its health; and whether any request fails while all changes. It prints tables, and writes the same as JSON.
package main

import (
	"cmp"
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
	receiveIfAsked()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "one of the benchmarks: scale, hosts, replay, socket, churn, oldworkers, probes, fleet or day; all of them without")
	sizes := flags.String("sizes", "100,1000,5000,10000", "scale: numbers of apps, by comma")
	b := bench{progress: stderr}
	flags.IntVar(&b.tasks, "tasks", 3, "scale: tasks of each app")
	changes := flags.Int("changes", 0, "scale: how many apps are scaled by one task, one after the other (default 100); churn: how many changes (default 10000)")
	flags.IntVar(&b.newApps, "new-apps", 5, "scale: how many apps are added, one after the other")
	flags.DurationVar(&b.pause, "pause", 200*time.Millisecond, "scale: time between two changes")
	flags.StringVar(&b.binary, "binary", "bin/signalbox", "scale, replay, churn: the program")
	h := hostsBench{progress: stderr}
	counts := flags.String("hosts", "10,10000", "hosts: numbers of hosts, by comma; ratios are to the first")
	flags.IntVar(&h.rounds, "rounds", 40, "hosts: how often each number of hosts is loaded")
	flags.DurationVar(&h.span, "span", 500*time.Millisecond, "hosts: how long each time")
	l := replayBench{progress: stderr}
	flags.IntVar(&l.lines, "lines", 5_000_000, "replay: lines of the log, of about 316 bytes")
	flags.IntVar(&l.rounds, "log-rounds", 9, "replay: how often each program reads it")
	k := socketBench{progress: stderr}
	flags.IntVar(&k.rate, "socket-rate", 30_000, "socket: lines a second")
	flags.DurationVar(&k.span, "socket-span", 8*time.Second, "socket: how long each time")
	flags.IntVar(&k.rounds, "socket-rounds", 5, "socket: how often each")
	c := churnBench{}
	flags.IntVar(&c.reloads, "reloads", 1000, "churn: how many reloads are forced meanwhile")
	flags.IntVar(&c.deployments, "deployments", 100, "churn: how many rolling deployments happen meanwhile")
	flags.Float64Var(&c.perSecond, "per-second", 6, "churn: changes a second; reloads and deployments spread over the time that gives")
	flags.Float64Var(&c.rate, "rate", 2000, "churn: requests a second over connections of their own")
	flags.Float64Var(&c.kept, "kept", 300, "churn: requests a second over kept connections, beside those")
	flags.IntVar(&c.sockets, "sockets", 200, "churn: web sockets open at a time")
	flags.DurationVar(&c.life, "life", 20*time.Second, "churn: how long a web socket lives")
	flags.DurationVar(&c.linger, "linger", 2*time.Second, "churn: for how long a task answers that was told to end")
	flags.IntVar(&c.naiveReloads, "naive-reloads", 500, "churn: how often the naive controller may reload before it has to have failed a request")
	o := oldWorkersBench{progress: stderr}
	flags.IntVar(&o.apps, "old-apps", 1000, "oldworkers: number of apps")
	flags.IntVar(&o.reloads, "old-reloads", 50, "oldworkers: how many reloads, each with one more stream open")
	flags.DurationVar(&o.every, "old-every", time.Second, "oldworkers: time between two reloads")
	flags.DurationVar(&o.hardStop, "old-hard-stop", 20*time.Second, "oldworkers: hard-stop-after")
	flags.IntVar(&o.maxReloads, "old-max-reloads", 5, "oldworkers: mworker-max-reloads")
	p := probesBench{progress: stderr}
	flags.IntVar(&p.machines, "machines", 20, "probes: how many machines of the fleet run")
	flags.IntVar(&p.fleet, "fleet", 500, "probes: how many machines the fleet has")
	flags.DurationVar(&p.span, "probes-span", 0, "probes: how long is counted (default: two intervals of tasks on other machines)")
	f := fleetBench{progress: stderr}
	flags.IntVar(&f.controllers, "fleet-controllers", 500, "fleet: number of controllers")
	flags.IntVar(&f.apps, "fleet-apps", 1000, "fleet: number of apps")
	flags.IntVar(&f.tasks, "fleet-tasks", 10, "fleet: tasks of each app")
	flags.IntVar(&f.events, "fleet-events", 1000, "fleet: how many apps are scaled by one task")
	flags.DurationVar(&f.span, "fleet-span", time.Minute, "fleet: over which time")
	flags.StringVar(&f.ways, "fleet-ways", "relay,direct,naive", "fleet: how Marathon is followed, by comma")
	flags.StringVar(&f.consul, "consul", "bin/tools/consul", "fleet: the program")
	d := dayBench{seed: 4}
	flags.IntVar(&d.apps, "day-apps", 300, "day: number of apps in the beginning")
	flags.IntVar(&d.events, "day-events", 10_000, "day: how many apps are scaled, deployed, added and removed")
	flags.DurationVar(&d.every, "day-every", 50*time.Millisecond, "day: time between two of these")
	flags.IntVar(&d.rate, "day-rate", 100, "day: requests a second")
	flags.DurationVar(&d.linger, "day-linger", 2*time.Second, "day: for how long a task answers that was told to end; 0 for tasks that end at once")
	out := flags.String("out", "bench/results", "folder for the figures as JSON")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	fail := func(status int, err error) int {
		fmt.Fprintln(stderr, "error:", err)
		return status
	}
	var err error
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return fail(2, err)
	}
	b.changes, c.changes = cmp.Or(*changes, 100), cmp.Or(*changes, 10_000)
	c.bench = b
	apps, err := numbers("sizes", *sizes)
	if err != nil {
		return fail(2, err)
	}
	if h.counts, err = numbers("hosts", *counts); err != nil {
		return fail(2, err)
	}
	here, command, at := thisMachine(ctx), append([]string{"bench"}, args...), time.Now().UTC().Format(time.RFC3339)
	switch *only {
	case "", "scale", "hosts", "replay", "socket", "churn", "oldworkers", "probes", "fleet", "day":
	default:
		return fail(2, fmt.Errorf("--only: there is no benchmark %q", *only))
	}
	if *only == "" || *only == "scale" {
		r := results{Machine: here, Command: command, At: at, Tasks: b.tasks, Changes: b.changes, Pause: b.pause.Seconds()}
		for _, n := range apps {
			one, err := b.size(ctx, n)
			if err != nil {
				return fail(4, fmt.Errorf("with %d apps: %w", n, err))
			}
			r.Sizes = append(r.Sizes, one)
		}
		if err := report(stdout, filepath.Join(*out, "scale.json"), &r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "hosts" {
		r := hostsResults{Machine: here, Command: command, At: at, Rounds: h.rounds, Span: h.span.Seconds()}
		if r.Results, err = h.run(ctx); err != nil {
			return fail(4, err)
		}
		if err := report(stdout, filepath.Join(*out, "hosts.json"), &r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "replay" {
		l.binary = b.binary
		r, err := l.run(ctx)
		if err != nil {
			return fail(4, err)
		}
		r.Machine, r.Command, r.At = here, command, at
		if err := report(stdout, filepath.Join(*out, "replay.json"), &r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "socket" {
		r, err := k.run(ctx)
		if err != nil {
			return fail(4, err)
		}
		r.Machine, r.Command, r.At = here, command, at
		if err := report(stdout, filepath.Join(*out, "socket.json"), &r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "churn" {
		c.log = filepath.Join(*out, "churn-controller.log")
		r := churnResults{Machine: here, Command: command, At: at}
		if r.churnResult, r.Control, err = c.run(ctx); err != nil {
			return fail(4, err)
		}
		if err := report(stdout, filepath.Join(*out, "churn.json"), &r); err != nil {
			return fail(4, err)
		}
		if r.Failed > 0 {
			return fail(1, fmt.Errorf("%d requests and web sockets failed", r.Failed))
		}
	}
	if *only == "" || *only == "oldworkers" {
		r := oldWorkersResults{Machine: here, Command: command, At: at, Apps: o.apps, Reloads: o.reloads, Every: o.every.Seconds()}
		if r.Ways, err = o.run(ctx); err != nil {
			return fail(4, err)
		}
		if err := report(stdout, filepath.Join(*out, "oldworkers.json"), &r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "probes" {
		r, err := p.run(ctx)
		if err != nil {
			return fail(4, err)
		}
		r.Machine, r.Command, r.At = here, command, at
		if err := report(stdout, filepath.Join(*out, "probes.json"), r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "fleet" {
		f.binary = b.binary
		r, err := f.run(ctx)
		if err != nil {
			return fail(4, err)
		}
		r.Machine, r.Command, r.At = here, command, at
		if err := report(stdout, filepath.Join(*out, "fleet.json"), r); err != nil {
			return fail(4, err)
		}
	}
	if *only == "" || *only == "day" {
		d.bench = b
		r, err := d.run(ctx)
		if err != nil {
			return fail(4, err)
		}
		r.Machine, r.Command, r.At = here, command, at
		if err := report(stdout, filepath.Join(*out, "day.json"), &r); err != nil {
			return fail(4, err)
		}
	}
	return 0
}

// numbers reads positive numbers by comma.
func numbers(flag, text string) (all []int, err error) {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("--%s: %q is no number", flag, word)
		}
		all = append(all, n)
	}
	return all, nil
}

// report prints results, and writes them as JSON.
func report(w io.Writer, path string, r interface{ print(w io.Writer) error }) error {
	if err := r.print(w); err != nil {
		return err
	}
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
	fmt.Fprintf(w, "\nthe same as JSON: %s\n\n", path)
	return nil
}

func (r *results) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "%d changes of one task each, %gs apart; a change runs from before the request to Marathon until the new task has answered through\n"+
		"HAProxy. CPU time is all that was used during the changes, between them too.\n"+
		"A burst is 100 changes in 10 s, and its time that from the last one until a new task of each has answered. Alone, HAProxy checks and reloads\n"+
		"the same configuration without a controller, up to the answer of its new worker.\n\n", r.Changes, r.Pause)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "apps\tcold start s\tchange ms: median\tp95\tmax\tCPU-s per change\tof that checks\tHAProxy's\treloads\tnew app ms: median\tcontroller MB\tHAProxy MB\tidle % of a core\tHAProxy's\tburst ms\talone: check ms\tits CPU ms\treload ms\t")
	for _, s := range r.Sizes {
		fmt.Fprintf(t, "%d\t%.2f\t%.1f\t%.1f\t%.1f\t%.4f\t%.4f\t%.4f\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t\n",
			s.Apps, s.ColdStart, 1000*s.Change.Median, 1000*s.Change.P95, 1000*s.Change.Max, s.CPUPerChange, s.CheckCPUPerChange, s.HAProxyCPUPerChange,
			s.Reloads, 1000*s.NewApp.Median, float64(s.ControllerRSS)/1e6, float64(s.HAProxyRSS)/1e6, 100*s.IdleCPU, 100*s.HAProxyIdleCPU,
			1000*s.Burst, 1000*s.Bare.Check, 1000*s.Bare.CheckCPU, 1000*s.Bare.Reload)
	}
	return t.Flush()
}
