package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"signalbox/admin"
	"signalbox/devcluster"
	"signalbox/loadgen"
)

// churnBench looks for a request that fails while everything changes: tasks come, go and move, hosts and weights change, apps are
// deployed, HAProxy reloads. After it the same load, of at least controlRate, meets a naive controller, which must fail some, or nothing is
// proven.
type churnBench struct {
	bench
	changes, reloads, deployments int
	perSecond                     float64 // changes; the reloads and deployments spread over the time that gives
	rate                          float64 // requests a second, each over a connection of its own
	kept                          float64 // requests a second over kept connections
	sockets                       int     // web sockets open at a time
	life                          time.Duration
	linger                        time.Duration // for how long a task answers that was told to end
	naiveReloads                  int           // at most, of the control
	log                           string        // file that gets the controller's log of a run in which something failed
}

// churnResults is what a run writes as JSON.
type churnResults struct {
	Machine machine  `json:"machine"`
	Command []string `json:"command"`
	At      string   `json:"at"`
	churnResult
	Control churnControl `json:"control"`
}

// churnResult is what became of the load while signalbox applied the changes.
type churnResult struct {
	Seconds       float64          `json:"seconds"`
	Changes       int              `json:"changes"`
	Kinds         map[string]int64 `json:"changesByKind"`
	Commands      uint64           `json:"runtimeCommands"`
	Reloads       int              `json:"reloads"`
	Forced        int              `json:"reloadsForced"`
	Reasons       map[string]int   `json:"reloadReasons"`
	Deployments   int              `json:"rollingDeployments"`
	New           churnLoad        `json:"newConnections"`
	Kept          churnLoad        `json:"keptConnections"`
	Sockets       churnLoad        `json:"webSockets"`
	Failed        uint64           `json:"failed"`
	OldWorkers    int              `json:"mostOldWorkers"`
	HAProxyRSS    int64            `json:"mostHAProxyRSSBytes"` // of all its processes
	ControllerRSS int64            `json:"mostControllerRSSBytes"`
	ControllerCPU float64          `json:"controllerCPUShare"` // of one core, its checks included
	Lost          uint64           `json:"logLinesLost"`
}

// churnLoad is what became of one kind of load.
type churnLoad struct {
	Sent       uint64                   `json:"sent"` // requests, or web sockets opened
	PerSecond  float64                  `json:"perSecond"`
	Unsent     uint64                   `json:"unsent"`     // for want of room in the client
	Reconnects uint64                   `json:"reconnects"` // sent again as the kept connection was closed
	Messages   uint64                   `json:"messages,omitempty"`
	Failed     map[loadgen.Class]uint64 `json:"failed"`
	Latency    loadgen.Histogram        `json:"latency"`
	First      []loadgen.Failure        `json:"firstFailures,omitempty"`
}

func (l *churnLoad) failures() (n uint64) {
	for _, c := range l.Failed {
		n += c
	}
	return n
}

// The apps of a run, and how many tasks each has to begin with.
const (
	scaledApps, rolledApps = 12, 5
	tasksBefore            = 4
	tasksLeast, tasksMost  = 3, 7
	appHeader              = "X-App"
)

// world is the cluster of a run, and what the load asks of it.
type world struct {
	*rig
	b      churnBench
	static *staticServices
	lever  [2]int // service ports
	pulled int
	kinds  map[string]*atomic.Int64
	done   atomic.Int64   // changes
	rolled atomic.Int64   // deployments
	size   map[string]int // instances
}

func (b churnBench) world(ctx context.Context, own bool) (w *world, err error) {
	g, err := b.rig(ctx, devcluster.Config{Virtual: true, OwnListeners: true, TaskKilling: true, Linger: b.linger})
	if err != nil {
		return nil, err
	}
	w = &world{rig: g, b: b, size: map[string]int{}, kinds: map[string]*atomic.Int64{}}
	for _, kind := range []string{"scale", "move", "host", "weight", "drain"} {
		w.kinds[kind] = new(atomic.Int64)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.end())
		}
	}()
	var apps []map[string]any
	for _, id := range w.ids() {
		w.size[id] = tasksBefore
		apps = append(apps, w.definition(id))
	}
	if own {
		if w.static, err = newStaticServices(g.dir); err != nil {
			return w, err
		}
		for i := range w.lever {
			if w.lever[i], err = lowPort(w.lever[0]); err != nil {
				return w, err
			}
		}
		apps = append(apps, w.leverApp())
	}
	if err := g.put(ctx, "/v2/apps?force=true", apps); err != nil {
		return w, err
	}
	return w, w.deployed(ctx, "")
}

func (w *world) end() error {
	err := w.rig.close()
	if w.static != nil {
		err = errors.Join(err, w.static.close())
	}
	return err
}

func (w *world) ids() (all []string) {
	for i := range scaledApps {
		all = append(all, fmt.Sprintf("/churn/scaled-%d", i))
	}
	for i := range rolledApps {
		all = append(all, fmt.Sprintf("/churn/rolled-%d", i))
	}
	return all
}

func hostOf(id string) string {
	return strings.TrimPrefix(id, "/churn/") + ".churn.local"
}

// definition returns an app whose tasks outlive their web sockets, as those of people who care for them do.
func (w *world) definition(id string) map[string]any {
	return map[string]any{
		"id": id, "cmd": "true", "instances": w.size[id], "cpus": 0.01, "mem": 1,
		"labels":                     map[string]string{"signalbox.host": hostOf(id)},
		"portDefinitions":            []map[string]any{{"port": 0, "protocol": "tcp", "name": "http"}},
		"taskKillGracePeriodSeconds": int((w.b.life+w.b.linger)/time.Second) + 30,
		"upgradeStrategy":            map[string]any{"minimumHealthCapacity": 1, "maximumOverCapacity": 0.5},
		"healthChecks":               []map[string]any{{"protocol": "HTTP", "path": "/", "portIndex": 0, "gracePeriodSeconds": 20, "intervalSeconds": 1, "timeoutSeconds": 5}},
	}
}

// leverApp has no tasks. A service port that nobody has bound can't be had without a reload.
func (w *world) leverApp() map[string]any {
	return map[string]any{
		"id": "/churn/lever", "cmd": "true", "instances": 0, "cpus": 0.01, "mem": 1,
		"labels":          map[string]string{"signalbox.port": strconv.Itoa(w.lever[w.pulled%2])},
		"portDefinitions": []map[string]any{{"port": 0, "protocol": "tcp", "name": "http"}},
	}
}

// lowPort returns a port but one where nobody listens, below those that clients get.
func lowPort(but int) (int, error) {
	for port := 20_000; port < 32_000; port++ {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil && port != but {
			return port, l.Close()
		} else if err == nil {
			l.Close()
		}
	}
	return 0, errors.New("no port from 20000 to 32000 is free")
}

// targets returns what requests ask for: one in ten is a POST, which nobody may send twice.
func (w *world) targets(proxy string) (all []loadgen.Target) {
	for _, id := range w.ids() {
		t := loadgen.Target{Name: id, URL: "http://" + proxy, Host: hostOf(id), Path: "/some/path?x=1", Expect: id, Weight: 9}
		all = append(all, t)
		t.Method, t.Body, t.Weight = http.MethodPost, "a=b&c=d", 1
		all = append(all, t)
	}
	return all
}

// load is all that asks.
type load struct {
	fresh, kept *loadgen.Generator
	sockets     *loadgen.Sockets
	running     errgroup.Group
	stop        context.CancelFunc
}

func (w *world) startLoad(ctx context.Context, proxy string) (*load, error) {
	l := &load{}
	plain := w.targets(proxy)
	all := plain
	if w.static != nil {
		all = append(all, w.static.targets(proxy)...)
	}
	c := loadgen.Config{Targets: all, Rate: w.b.rate, Poisson: true, MaxInFlight: 4096, AppHeader: appHeader}
	var err, keptErr, socketErr error
	l.fresh, err = loadgen.New(c)
	c.Rate, c.KeepAlive, c.IdleTimeout, c.Seed = w.b.kept, true, 5*time.Second, 1
	l.kept, keptErr = loadgen.New(c)
	l.sockets, socketErr = loadgen.NewSockets(loadgen.SocketConfig{
		Targets: plain, Count: w.b.sockets, Lifetime: w.b.life, Every: time.Second, AppHeader: appHeader,
	})
	if err := errors.Join(err, keptErr, socketErr); err != nil {
		return nil, err
	}
	var loadCtx context.Context
	loadCtx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.running.Go(func() error { return l.fresh.Run(loadCtx) })
	l.running.Go(func() error { return l.kept.Run(loadCtx) })
	l.running.Go(func() error { return l.sockets.Run(loadCtx) })
	return l, nil
}

func (l *load) setTargets(all []loadgen.Target) error {
	return errors.Join(l.fresh.SetTargets(all), l.kept.SetTargets(all))
}

// end stops the load and waits for the last answers.
func (l *load) end() error {
	l.stop()
	return l.running.Wait()
}

// failed returns how much has failed so far.
func (l *load) failed() (n uint64) {
	for _, g := range []*loadgen.Generator{l.fresh, l.kept} {
		for _, c := range g.Report().Total().Failures() {
			n += c
		}
	}
	return n + l.sockets.Report().Failed()
}

func requestsOf(g *loadgen.Generator) churnLoad {
	r := g.Report()
	t := r.Total()
	return churnLoad{
		Sent: t.Scheduled - t.Overflow, PerSecond: float64(t.Answered()) / r.Elapsed.Seconds(), Unsent: t.Overflow, Reconnects: t.Reconnects,
		Failed: t.Failures(), Latency: t.Latency, First: r.Failures,
	}
}

func socketsOf(s *loadgen.Sockets, seconds float64) churnLoad {
	r := s.Report()
	l := churnLoad{Sent: r.Opened, PerSecond: float64(r.Messages) / seconds, Messages: r.Messages, Failed: map[loadgen.Class]uint64{}, Latency: r.Echo, First: r.Failures}
	for _, e := range r.Errors {
		l.Failed[e.Class] = e.Count
	}
	return l
}

// run is a whole run with its control.
func (b churnBench) run(ctx context.Context) (r churnResult, control churnControl, err error) {
	if r, err = b.signalbox(ctx); err != nil {
		return r, control, err
	}
	if control, err = b.naive(ctx); err != nil {
		return r, control, fmt.Errorf("the control: %w", err)
	}
	return r, control, nil
}

func (b churnBench) signalbox(ctx context.Context) (r churnResult, err error) {
	fmt.Fprintf(b.progress, "churn: %d apps, %d changes, %d reloads, %d deployments\n", scaledApps+rolledApps, b.changes, b.reloads, b.deployments)
	w, err := b.world(ctx, true)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	if err := w.start(ctx, "--service-bind", "127.0.0.1", "--static", w.static.path, "--reload-interval", "10ms", "--reload-burst", "10000",
		"--reload-refill", "1ms", "--max-reloads", "1000", "--hard-stop-after", (b.life + time.Minute).String(), "--log-level", "info"); err != nil {
		return r, err
	}
	defer func() {
		if err = errors.Join(err, w.stop()); b.log != "" && (err != nil || r.Failed > 0) {
			err = errors.Join(err, keepLog(filepath.Join(w.dir, "controller.log"), b.log))
		}
	}()
	for _, t := range append(w.targets(w.proxy), w.static.targets(w.proxy)...) {
		if _, err := w.answered(ctx, t.Host, deadline, func(http.Header) bool { return true }); err != nil {
			return r, fmt.Errorf("waiting for the first answers: %w", err)
		}
	}
	before, err := w.started(ctx)
	if err != nil {
		return r, err
	}
	reasonsBefore, err := w.reasons(ctx)
	if err != nil {
		return r, err
	}
	pid := w.controller.Process.Pid
	usedBefore, err := usageOf(pid)
	if err != nil {
		return r, err
	}
	l, err := w.startLoad(ctx, w.proxy)
	if err != nil {
		return r, err
	}
	began := time.Now()
	watching, unwatch := context.WithCancel(ctx)
	var watch errgroup.Group
	watch.Go(func() error { return w.watch(watching, l, &r) })
	err = w.churn(ctx, l)
	if err == nil {
		err = sleep(ctx, 2*time.Second) // what the last change leaves behind
	}
	unwatch()
	err = errors.Join(err, watch.Wait(), l.end())
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(began).Seconds()
	after, err := w.admin.Health(ctx)
	if err != nil {
		return r, err
	}
	used, err := usageOf(pid)
	if err != nil {
		return r, err
	}
	if r.Reasons, err = w.reasons(ctx); err != nil {
		return r, err
	}
	for reason, n := range reasonsBefore {
		r.Reasons[reason] -= n
	}
	maps.DeleteFunc(r.Reasons, func(_ string, n int) bool { return n == 0 })
	r.Kinds = map[string]int64{}
	for kind, n := range w.kinds {
		r.Kinds[kind] = n.Load()
	}
	r.Changes, r.Forced, r.Deployments = int(w.done.Load()), w.pulled, int(w.rolled.Load())
	r.Commands, r.Reloads = after.HAProxy.Updates-before.HAProxy.Updates, int(after.HAProxy.Reloads-before.HAProxy.Reloads)
	r.ControllerCPU = (used.CPU + used.Waited - usedBefore.CPU - usedBefore.Waited).Seconds() / r.Seconds
	r.Lost = after.Log.Lost - before.Log.Lost
	r.New, r.Kept, r.Sockets = requestsOf(l.fresh), requestsOf(l.kept), socketsOf(l.sockets, r.Seconds)
	r.Failed = r.New.failures() + r.Kept.failures() + r.Sockets.failures()
	return r, nil
}

// started waits until HAProxy's start is over and counted.
func (w *world) started(ctx context.Context) (h admin.Health, err error) {
	for end := time.Now().Add(deadline); ; {
		if h, err = w.admin.Health(ctx); err != nil || h.HAProxy.Reloads > 0 {
			return h, err
		}
		if time.Now().After(end) {
			return h, errors.New("HAProxy's start is not counted")
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return h, err
		}
	}
}

// keepLog copies a log to where it stays.
func keepLog(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

// churn does all changes, reloads and deployments, beside each other.
func (w *world) churn(ctx context.Context, l *load) error {
	span := time.Duration(float64(w.b.changes) / w.b.perSecond * float64(time.Second))
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		return w.scale(ctx, time.Duration(float64(time.Second)/w.b.perSecond), func() error { return nil })
	})
	all.Go(func() error { return w.rewrite(ctx, l) })
	all.Go(func() error { return w.pull(ctx, span) })
	for i := range rolledApps {
		mine := w.b.deployments/rolledApps + min(1, max(0, w.b.deployments%rolledApps-i))
		all.Go(func() error { return w.roll(ctx, fmt.Sprintf("/churn/rolled-%d", i), mine, span) })
	}
	return all.Wait()
}

// watch notes the most of what grows, says how far it is, and what has failed as soon as it has.
func (w *world) watch(ctx context.Context, l *load, r *churnResult) error {
	said := [3]int{}
	for n := 1; sleep(ctx, time.Second) == nil; n++ {
		h, err := w.admin.Health(ctx)
		switch {
		case ctx.Err() != nil: // it is over
			return nil //nolint:nilerr // so the question was cut off
		case err != nil:
			return err
		}
		r.OldWorkers = max(r.OldWorkers, len(haproxies(w.controller.Process.Pid))-2)
		r.HAProxyRSS = max(r.HAProxyRSS, haproxyUsage(w.controller.Process.Pid).RSS)
		if u, err := usageOf(w.controller.Process.Pid); err == nil {
			r.ControllerRSS = max(r.ControllerRSS, u.RSS)
		}
		for i, failures := range [...][]loadgen.Failure{l.fresh.Report().Failures, l.kept.Report().Failures, l.sockets.Report().Failures} {
			for _, f := range failures[said[i]:] {
				fmt.Fprintln(w.progress, "churn:", f)
			}
			said[i] = len(failures)
		}
		if n%10 == 0 {
			fmt.Fprintf(w.progress, "churn: after %ds %d changes, %d deployments, %d reloads, %d old workers: %d of %d requests and %d web sockets failed\n",
				n, w.done.Load(), w.rolled.Load(), h.HAProxy.Reloads, h.HAProxy.OldWorkers, l.failed(),
				l.fresh.Report().Total().Scheduled+l.kept.Report().Total().Scheduled, l.sockets.Report().Failed())
		}
	}
	return nil
}

// reasons returns how often HAProxy was reloaded for each reason.
func (g *rig) reasons(ctx context.Context) (map[string]int, error) {
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", g.admin.Address().Socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := map[string]int{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), `signalbox_haproxy_reloads_total{reason="`)
		if !ok {
			continue
		}
		reason, rest, _ := strings.Cut(rest, `",result="`)
		result, count, _ := strings.Cut(rest, `"} `)
		n, err := strconv.ParseFloat(count, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the reasons of reloads: %w", err)
		}
		if result != "done" {
			reason += ", " + result
		}
		out[reason] += int(n)
	}
	return out, nil
}
