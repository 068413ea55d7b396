package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"signalbox/devcluster"
	"signalbox/haproxy"
)

// dayBench is a day of an ordinary cluster, compressed in time: apps are scaled, deployed, added and removed, while some requests come.
type dayBench struct {
	bench
	apps, events int
	every        time.Duration // between two events
	rate         int           // requests a second
	linger       time.Duration // for how long a task answers that was told to end
	seed         uint64
}

// dayResults is what a run writes as JSON. Durations are in seconds, memory in bytes.
type dayResults struct {
	Machine machine        `json:"machine"`
	Command []string       `json:"command"`
	At      string         `json:"at"`
	Apps    int            `json:"appsAtTheBeginning"`
	AppsEnd int            `json:"appsAtTheEnd"`
	Events  map[string]int `json:"events"` // by kind
	Took    float64        `json:"seconds"`

	Reloads  map[string]int    `json:"reloads"` // by reason, and result where that is not done; without the first one
	Commands uint64            `json:"commands"`
	Effect   map[string]spread `json:"effectSeconds"` // from before the request to Marathon to the first answer of a new task, by kind; of one at a time
	Requests int               `json:"requests"`
	Failures map[string]int    `json:"failures"` // of requests, by what came of them
	Failed   []failedRequest   `json:"failed"`   // the first of them

	Slots [2]pool `json:"slots"` // at the beginning and the end

	ControllerRSS [2]int64 `json:"controllerRSSBytes"` // at the beginning and the end
	HAProxyRSS    [2]int64 `json:"haproxyRSSBytes"`
}

// failedRequest is one that was not answered as it should be.
type failedRequest struct {
	At    string  `json:"at"`
	App   int     `json:"app"`
	What  string  `json:"what"`
	Took  float64 `json:"seconds"`
	Event string  `json:"event"` // the last one of this app
	Since float64 `json:"since"` // seconds from that event to the request
}

// waits marks the measurements of apps whose tasks wait for the verdict of a check.
const waits = ", checked"

// keptFailures is how many failed requests are kept.
const keptFailures = 20

// pool is what HAProxy has for tasks.
type pool struct {
	Backends   int `json:"backends"`
	Slots      int `json:"slots"`
	Spares     int `json:"spareBackends"` // of the backends
	FreeSpares int `json:"freeSpareBackends"`
	SpareSlots int `json:"spareSlots"` // of the slots
}

// pool counts in the files that HAProxy would load next.
func (g *rig) pool() (p pool, err error) {
	dir := filepath.Join(g.dir, "state", "haproxy")
	config, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	if err != nil {
		return p, err
	}
	names, err := os.ReadFile(filepath.Join(dir, haproxy.NamesMap))
	if err != nil {
		return p, err
	}
	named := map[string]bool{}
	for line := range strings.Lines(string(names)) {
		name, _, _ := strings.Cut(line, " ")
		named[name] = true
	}
	spare := false
	for line := range strings.Lines(string(config)) {
		name, backend := strings.CutPrefix(strings.TrimSpace(line), "backend ")
		name, _, _ = strings.Cut(name, " ")
		switch {
		case backend:
			p.Backends++
			if spare = strings.HasPrefix(name, "spare-"); spare {
				p.Spares++
				if !named[name] {
					p.FreeSpares++
				}
			}
		case strings.HasPrefix(strings.TrimSpace(line), "server "):
			p.Slots++
			if spare {
				p.SpareSlots++
			}
		}
	}
	return p, nil
}

// eventLog says what happened last to each app.
type eventLog struct {
	mu   sync.Mutex
	last map[int]event
}

type event struct {
	kind string
	at   time.Time
}

func (l *eventLog) note(n int, kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[n] = event{kind, time.Now()}
}

func (l *eventLog) of(n int) event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[n]
}

// ordinary returns the definition of the n-th app: one in ten is sticky, one in ten redirects to HTTPS, two in five are checked by Marathon,
// and one in thirty has a TCP port of the range and no host.
func ordinary(n, instances, version int) map[string]any {
	labels := map[string]string{"signalbox.host": host(n)}
	switch n % 10 {
	case 3:
		labels["signalbox.sticky"] = "lb"
	case 7:
		labels["signalbox.https-redirect"] = "true"
	}
	port := 0
	if n%30 == 11 {
		labels["signalbox.mode"], port = "tcp", 23000+n/30%100
		labels["signalbox.port"] = fmt.Sprint(port)
		delete(labels, "signalbox.host")
	}
	app := map[string]any{
		"healthChecks": []map[string]any{},
		"id":           id(n), "cmd": "true", "instances": instances, "cpus": 0.01, "mem": 1, "labels": labels,
		"env":             map[string]string{"VERSION": fmt.Sprint(version)},
		"portDefinitions": []map[string]any{{"port": port, "protocol": "tcp", "name": "http"}},
		"upgradeStrategy": map[string]any{"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
	}
	if checked(n) {
		app["healthChecks"] = []map[string]any{{
			"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0, "gracePeriodSeconds": 10, "intervalSeconds": 5, "timeoutSeconds": 5, "maxConsecutiveFailures": 3,
		}}
	}
	return app
}

// checked reports whether Marathon checks the n-th app: a new task of such a one waits for a verdict, of Marathon's or of HAProxy's.
func checked(n int) bool { return n%5 < 2 && n%30 != 11 }

// plain reports whether the n-th app answers plain requests by its name.
func plain(n int) bool { return n%30 != 11 && n%10 != 7 }

func (b dayBench) run(ctx context.Context) (r dayResults, err error) {
	g, err := b.rig(ctx, devcluster.Config{Virtual: true, TaskKilling: true, Linger: b.linger})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	random := rand.New(rand.NewPCG(b.seed, 4)) //nolint:gosec // the same day each time
	size := map[int]int{}
	for n := range b.apps {
		size[n] = 1 + random.IntN(10)
		if err := g.put(ctx, "/v2/apps/"+id(n), ordinary(n, size[n], 0)); err != nil {
			return r, err
		}
	}
	fmt.Fprintf(b.progress, "day: starting the controller over %d apps\n", b.apps)
	secure, err := freeAddress()
	if err != nil {
		return r, err
	}
	// An address of its own: another run has the same ports.
	own := fmt.Sprintf("127.77.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)
	if err := g.start(ctx, "--service-bind", own, "--service-port-range", "23000-23099", "--https-bind", secure); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	for n := range b.apps {
		if plain(n) && n%7 == 0 {
			if _, err := g.answer(ctx, host(n), deadline, func(string) bool { return true }); err != nil {
				return r, err
			}
		}
	}
	if err := sleep(ctx, 3*time.Second); err != nil {
		return r, err
	}
	pid := g.controller.Process.Pid
	usage, err := usageOf(pid)
	if err != nil {
		return r, err
	}
	r.Apps, r.ControllerRSS[0], r.HAProxyRSS[0] = b.apps, usage.RSS, haproxyUsage(pid).RSS
	before, err := g.reasons(ctx)
	if err != nil {
		return r, err
	}
	health, err := g.admin.Health(ctx)
	if err != nil {
		return r, err
	}
	commands := health.HAProxy.Updates

	if r.Slots[0], err = g.pool(); err != nil {
		return r, err
	}

	log := &eventLog{last: map[int]event{}}
	light, end := context.WithCancel(ctx)
	defer end()
	var loading sync.WaitGroup
	loading.Go(func() { r.Requests, r.Failures, r.Failed = g.light(light, b.rate, b.apps, log) })
	began := time.Now()
	effects, events, err := b.pass(ctx, g, random, size, log)
	r.Took, r.Events = time.Since(began).Seconds(), events
	end()
	loading.Wait()
	if err != nil {
		return r, err
	}
	if err := sleep(ctx, 3*time.Second); err != nil { // what is still due
		return r, err
	}
	r.Effect = map[string]spread{}
	for kind, all := range effects {
		r.Effect[kind] = spreadOf(all)
	}
	if r.Reloads, err = g.reasons(ctx); err != nil {
		return r, err
	}
	for reason, n := range before {
		if r.Reloads[reason] -= n; r.Reloads[reason] == 0 {
			delete(r.Reloads, reason)
		}
	}
	if r.Slots[1], err = g.pool(); err != nil {
		return r, err
	}
	if health, err = g.admin.Health(ctx); err != nil {
		return r, err
	}
	if usage, err = usageOf(pid); err != nil {
		return r, err
	}
	r.Commands, r.AppsEnd = health.HAProxy.Updates-commands, len(size)
	r.ControllerRSS[1], r.HAProxyRSS[1] = usage.RSS, haproxyUsage(pid).RSS
	return r, nil
}

// pass lets the day pass, in which as many apps leave as come. The first third of the apps are never removed: those are asked meanwhile.
func (b dayBench) pass(ctx context.Context, g *rig, random *rand.Rand, size map[int]int, log *eventLog) (map[string][]time.Duration, map[string]int, error) {
	effects, events, next := map[string][]time.Duration{}, map[string]int{}, b.apps
	for i := range b.events {
		alive := make([]int, 0, len(size))
		for n := range size {
			alive = append(alive, n)
		}
		slices.Sort(alive)
		n := alive[random.IntN(len(alive))]
		kind, watch := "", i%20 == 0
		var err error
		var took time.Duration
		switch dice := random.IntN(100); {
		case dice < 60:
			kind = "scale"
			to := 1 + random.IntN(10)
			log.note(n, fmt.Sprintf("scale %d to %d", size[n], to))
			if watch && plain(n) && to > size[n] {
				took, err = g.change(ctx, n, to)
			} else {
				err = g.put(ctx, "/v2/apps/"+id(n)+"?force=true", map[string]any{"instances": to})
			}
			size[n] = to
		case dice < 85:
			kind = "deploy"
			log.note(n, fmt.Sprintf("deploy of %d", size[n]))
			err = g.put(ctx, "/v2/apps/"+id(n)+"?force=true", ordinary(n, size[n], i+1))
		case len(size) <= b.apps:
			kind, n = "new app", next
			next++
			size[n] = 1 + random.IntN(10)
			start := time.Now()
			err = g.put(ctx, "/v2/apps/"+id(n), ordinary(n, size[n], 0))
			if err == nil && plain(n) {
				var at time.Time
				at, err = g.answer(ctx, host(n), answerIn, func(string) bool { return true })
				took = at.Sub(start)
			}
		default:
			kind, n = "remove app", alive[b.apps/3+random.IntN(len(alive)-b.apps/3)]
			delete(size, n)
			err = g.remove(ctx, n)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("event %d, %s of app %d: %w", i, kind, n, err)
		}
		events[kind]++
		if took > 0 {
			if checked(n) {
				kind += waits
			}
			effects[kind] = append(effects[kind], took)
		}
		if i%500 == 499 {
			fmt.Fprintf(b.progress, "day: %d of %d events\n", i+1, b.events)
		}
		if err := sleep(ctx, b.every); err != nil {
			return nil, nil, err
		}
	}
	return effects, events, nil
}

func (g *rig) remove(ctx context.Context, n int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, g.cluster.URL()+"/v2/apps/"+id(n)+"?force=true", http.NoBody)
	if err != nil {
		return err
	}
	return g.do(req, nil)
}

// light asks the first third of the apps in turn, each over a connection of its own, and sorts what comes of it.
func (g *rig) light(ctx context.Context, rate, apps int, log *eventLog) (requests int, failures map[string]int, first []failedRequest) {
	failures = map[string]int{}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			asking.Wait()
			return requests, failures, first
		case <-tick.C:
		}
		n := i % max(apps/3, 1)
		if !plain(n) {
			continue
		}
		requests++
		asking.Go(func() {
			began := time.Now()
			what := ask(client, g.proxy, n)
			if what == "" {
				return
			}
			last := log.of(n)
			f := failedRequest{At: began.UTC().Format("15:04:05.000"), App: n, What: what, Took: time.Since(began).Seconds(), Event: last.kind}
			if !last.at.IsZero() {
				f.Since = began.Sub(last.at).Seconds()
			}
			mu.Lock()
			defer mu.Unlock()
			failures[what]++
			if len(first) < keptFailures {
				first = append(first, f)
			}
		})
	}
}

// ask returns what was wrong with the answer to one request, "" for nothing.
func ask(client *http.Client, proxy string, n int) string {
	req, err := http.NewRequest(http.MethodGet, "http://"+proxy+"/", http.NoBody) //nolint:noctx // the client has a timeout
	if err != nil {
		return err.Error()
	}
	req.Host = host(n)
	resp, err := client.Do(req)
	if err != nil {
		return "no answer"
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "short answer"
	}
	switch task := resp.Header.Get("X-Task"); {
	case resp.StatusCode != http.StatusOK:
		return fmt.Sprint(resp.StatusCode)
	case !strings.HasPrefix(task, fmt.Sprintf("bench_app-%d.", n)):
		return "another app's answer"
	}
	return ""
}

func (r *dayResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "A day in %.0f s: %v over %d apps at first and %d in the end, %d requests meanwhile.\n\n", r.Took, r.Events, r.Apps, r.AppsEnd, r.Requests)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "reloads by reason\t%v\n", r.Reloads)
	fmt.Fprintf(t, "commands\t%d\n", r.Commands)
	fmt.Fprintf(t, "failed requests\t%v\n", r.Failures)
	for _, f := range r.Failed {
		fmt.Fprintf(t, "\tat %s app %d: %s after %.3f s\t%.3f s after its last event, %s\n", f.At, f.App, f.What, f.Took, f.Since, cmp.Or(f.Event, "none"))
	}
	for _, kind := range []string{"scale", "scale" + waits, "new app", "new app" + waits} {
		if s, ok := r.Effect[kind]; ok {
			fmt.Fprintf(t, "%s, to the first answer, ms\tmedian %.1f\tp95 %.1f\tp99 %.1f\tmax %.1f\tof %d\n", kind, 1000*s.Median, 1000*s.P95, 1000*s.P99, 1000*s.Max, s.N)
		}
	}
	for i, when := range []string{"beginning", "end"} {
		p := r.Slots[i]
		fmt.Fprintf(t, "HAProxy's slots, %s\t%d in %d backends\tof these %d in %d spare ones\t%d spare ones free\n", when, p.Slots, p.Backends, p.SpareSlots, p.Spares, p.FreeSpares)
	}
	fmt.Fprintf(t, "controller MB\t%.0f → %.0f\n", float64(r.ControllerRSS[0])/1e6, float64(r.ControllerRSS[1])/1e6)
	fmt.Fprintf(t, "HAProxy MB\t%.0f → %.0f\n", float64(r.HAProxyRSS[0])/1e6, float64(r.HAProxyRSS[1])/1e6)
	return t.Flush()
}
