package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/devcluster"
)

// bench is how sizes are measured.
type bench struct {
	tasks, changes, newApps int
	pause                   time.Duration
	binary                  string
	progress                io.Writer
}

// result is what one size took.
type result struct {
	Apps                int     `json:"apps"`
	ColdStart           float64 `json:"coldStartSeconds"` // from the controller's start until every sampled host answers
	Change              spread  `json:"changeSeconds"`
	CPUPerChange        float64 `json:"cpuSecondsPerChange"` // the controller's, its checks of the file included
	CheckCPUPerChange   float64 `json:"checkCPUSecondsPerChange"`
	HAProxyCPUPerChange float64 `json:"haproxyCPUSecondsPerChange"` // the probing requests included
	IdleCPU             float64 `json:"idleCPUShare"`               // of one core, over half a minute without changes
	HAProxyIdleCPU      float64 `json:"haproxyIdleCPUShare"`        // its checks of the servers
	Reloads             int     `json:"reloads"`                    // during the changes
	NewApp              spread  `json:"newAppSeconds"`
	ControllerRSS       int64   `json:"controllerRSSBytes"`
	HAProxyRSS          int64   `json:"haproxyRSSBytes"`
	Burst               float64 `json:"burstSeconds"` // of 100 changes in ten seconds: from the last one until all have answered
	Bare                bare    `json:"haproxyAlone"`
}

// spread sums up several measurements, in seconds.
type spread struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

func spreadOf(all []time.Duration) spread {
	if len(all) == 0 {
		return spread{}
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[int(q*float64(len(all)-1))].Seconds() }
	return spread{N: len(all), Median: at(.5), P95: at(.95), P99: at(.99), Max: at(1)}
}

const (
	deadline     = 2 * time.Minute // for whatever should take seconds
	answerIn     = time.Minute     // for one change
	sampledHosts = 50
	idleSpan     = 30 * time.Second
	burstChanges = 100
	burstSpan    = 10 * time.Second
)

// rig is one Marathon, one controller and the way through its HAProxy.
type rig struct {
	bench
	dir        string
	cluster    *devcluster.Server
	base       string // URL of Marathon
	controller *exec.Cmd
	proxy      string
	marathon   *http.Client
	through    *http.Client
	admin      *admin.Client
}

// rig starts a Marathon.
func (b bench) rig(ctx context.Context, cfg devcluster.Config) (*rig, error) {
	dir, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return nil, err
	}
	g := &rig{bench: b, dir: dir, marathon: &http.Client{Timeout: deadline}, through: &http.Client{Timeout: 10 * time.Second}}
	g.admin = admin.NewClient(admin.Address{Socket: filepath.Join(dir, "admin.sock")}, "")
	cfg.Dir = filepath.Join(dir, "cluster")
	if g.cluster, err = devcluster.Start(ctx, cfg); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	g.base = g.cluster.URL()
	return g, nil
}

// close ends Marathon, and leaves nothing behind.
func (g *rig) close() error { return errors.Join(g.cluster.Close(), os.RemoveAll(g.dir)) }

func (b bench) size(ctx context.Context, apps int) (r result, err error) {
	fmt.Fprintf(b.progress, "%d apps: loading Marathon\n", apps)
	g, err := b.rig(ctx, devcluster.Config{Virtual: true, TaskKilling: true})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.load(ctx, apps); err != nil {
		return r, err
	}

	fmt.Fprintf(b.progress, "%d apps: starting the controller\n", apps)
	began := time.Now()
	if err := g.start(ctx); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	for i := range min(apps, sampledHosts) {
		if _, err := g.answer(ctx, host(i*apps/min(apps, sampledHosts)), deadline, func(string) bool { return true }); err != nil {
			return r, fmt.Errorf("waiting for the first answers: %w", err)
		}
	}
	r.Apps, r.ColdStart = apps, time.Since(began).Seconds()

	pid := g.controller.Process.Pid
	if err := sleep(ctx, 3*time.Second); err != nil { // the background work of the start
		return r, err
	}
	if r.IdleCPU, r.HAProxyIdleCPU, err = g.idle(ctx, pid); err != nil {
		return r, err
	}

	fmt.Fprintf(b.progress, "%d apps: %d changes\n", apps, b.changes)
	if err := g.measureChanges(ctx, apps, pid, &r); err != nil {
		return r, err
	}
	var added []time.Duration
	for i := range b.newApps {
		took, err := g.addApp(ctx, apps+i)
		if err != nil {
			return r, err
		}
		added = append(added, took)
		if err := sleep(ctx, 2*time.Second); err != nil {
			return r, err
		}
	}
	r.NewApp = spreadOf(added)
	fmt.Fprintf(b.progress, "%d apps: a burst, and HAProxy alone\n", apps)
	burst, err := g.burst(ctx, apps, burstChanges, g.tasks+2+b.changes/apps, burstSpan)
	if err != nil {
		return r, err
	}
	r.Burst = burst.Seconds()
	if err := sleep(ctx, 2*time.Second); err != nil { // the file follows
		return r, err
	}
	r.Bare, err = g.bare(ctx)
	return r, err
}

func (g *rig) measureChanges(ctx context.Context, apps, pid int, r *result) error {
	before, err := usageOf(pid)
	if err != nil {
		return err
	}
	proxyBefore := haproxyUsage(pid)
	reloadsBefore, err := g.reloads(ctx)
	if err != nil {
		return err
	}
	var all []time.Duration
	for i := range g.changes {
		took, err := g.change(ctx, i*7919%apps, g.tasks+1+i/apps)
		if err != nil {
			return err
		}
		all = append(all, took)
		if err := sleep(ctx, g.pause); err != nil {
			return err
		}
	}
	if err := sleep(ctx, 2*time.Second); err != nil { // the file follows
		return err
	}
	after, err := usageOf(pid)
	if err != nil {
		return err
	}
	proxyAfter := haproxyUsage(pid)
	reloads, err := g.reloads(ctx)
	if err != nil {
		return err
	}
	n := float64(g.changes)
	r.Change = spreadOf(all)
	r.CPUPerChange = (after.CPU + after.Waited - before.CPU - before.Waited).Seconds() / n
	r.CheckCPUPerChange = (after.Waited - before.Waited).Seconds() / n
	r.HAProxyCPUPerChange = (proxyAfter.CPU - proxyBefore.CPU).Seconds() / n
	r.Reloads = reloads - reloadsBefore
	r.ControllerRSS, r.HAProxyRSS = after.RSS, proxyAfter.RSS
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func host(app int) string { return fmt.Sprintf("app-%d.bench.local", app) }

func id(app int) string { return fmt.Sprintf("/bench/app-%d", app) }

// app returns the definition of one app.
func (g *rig) app(i int) map[string]any {
	return map[string]any{
		"id": id(i), "cmd": "true", "instances": g.tasks, "cpus": 0.01, "mem": 1,
		"labels":          map[string]string{"signalbox.host": host(i)},
		"portDefinitions": []map[string]any{{"port": 20_000 + i, "protocol": "tcp", "name": "http"}}, // Marathon itself has 10,000 to give
	}
}

// load puts all apps, and waits until their tasks run.
func (g *rig) load(ctx context.Context, n int) error {
	const atOnce = 500
	for from := 0; from < n; from += atOnce {
		var apps []map[string]any
		for i := from; i < min(n, from+atOnce); i++ {
			apps = append(apps, g.app(i))
		}
		if err := g.put(ctx, "/v2/apps?force=true", apps); err != nil {
			return err
		}
	}
	for end := time.Now().Add(deadline); ; {
		var got struct {
			Tasks []struct{ State string } `json:"tasks"`
		}
		if err := g.get(ctx, "/v2/tasks?status=running", &got); err != nil {
			return err
		}
		if len(got.Tasks) >= n*g.tasks {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("only %d of %d tasks run after %s", len(got.Tasks), n*g.tasks, deadline)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// put waits while Marathon has as many deployments under way as it takes.
func (g *rig) put(ctx context.Context, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, g.base+path, bytes.NewReader(text))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		if err = g.do(req, nil); !errors.Is(err, errBusy) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// errBusy says that Marathon takes no more deployments for now.
var errBusy = errors.New("as many deployments as Marathon takes")

func (g *rig) get(ctx context.Context, path string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	return g.do(req, to)
}

func (g *rig) do(req *http.Request, to any) error {
	resp, err := g.marathon.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusForbidden && bytes.Contains(body, []byte("running deployments")) {
		return errBusy
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, body)
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(body, to)
}

// start starts the controller, with an HAProxy of its own and further flags.
func (g *rig) start(ctx context.Context, flags ...string) (err error) {
	if g.proxy, err = freeAddress(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(g.dir, "controller.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	g.controller = exec.CommandContext(context.WithoutCancel(ctx), g.binary, append([]string{
		"run", "--marathon", g.cluster.URL(), "--allow-loopback", "--state-dir", filepath.Join(g.dir, "state"), "--http-bind", g.proxy,
		"--admin", "unix:" + filepath.Join(g.dir, "admin.sock"), "--log-level", "warning", "--log-format", "text",
	}, flags...)...)
	g.controller.Stdout, g.controller.Stderr = log, log
	g.controller.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := g.controller.Start(); err != nil {
		return fmt.Errorf("starting the controller: %w (make build makes it)", err)
	}
	return nil
}

// freeAddress returns an address of this machine where nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop ends the controller and its HAProxy.
func (g *rig) stop() error {
	if err := g.controller.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- g.controller.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(g.dir, "controller.log"))
			return fmt.Errorf("the controller ended: %w\n%s", err, log)
		}
		return nil
	case <-time.After(deadline):
		_ = g.controller.Process.Kill()
		return errors.New("the controller does not end")
	}
}

// answer asks a host through HAProxy until a task that is wanted has answered, and returns when that was.
func (g *rig) answer(ctx context.Context, host string, within time.Duration, wanted func(task string) bool) (time.Time, error) {
	return g.answered(ctx, host, within, func(h http.Header) bool {
		task := h.Get("X-Task")
		return task != "" && wanted(task)
	})
}

// answered does the same for answers whose header is wanted.
func (g *rig) answered(ctx context.Context, host string, within time.Duration, wanted func(http.Header) bool) (time.Time, error) {
	var last string
	for end := time.Now().Add(within); time.Now().Before(end); {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.proxy+"/", nil)
		if err != nil {
			return time.Time{}, err
		}
		req.Host = host
		resp, err := g.through.Do(req)
		if err != nil {
			if ctx.Err() != nil {
				return time.Time{}, ctx.Err()
			}
			last = err.Error()
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return time.Time{}, err
			}
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && wanted(resp.Header) {
			return time.Now(), nil
		}
		last = resp.Status + " " + resp.Header.Get("X-Task")
		if resp.StatusCode != http.StatusOK {
			if err := sleep(ctx, time.Millisecond); err != nil {
				return time.Time{}, err
			}
		}
	}
	return time.Time{}, fmt.Errorf("%s has no answer as wanted after %s; the last was %s", host, within, last)
}

// change scales an app to so many tasks, and returns how long it took until the new one answered.
func (g *rig) change(ctx context.Context, i, to int) (time.Duration, error) {
	began, at, err := g.scaled(ctx, i, to)
	return at.Sub(began), err
}

// scaled does the same, and returns when Marathon was asked and when the new one answered.
func (g *rig) scaled(ctx context.Context, i, to int) (began, at time.Time, err error) {
	var before struct {
		App struct {
			Tasks []struct {
				ID string `json:"id"`
			} `json:"tasks"`
		} `json:"app"`
	}
	if err := g.get(ctx, "/v2/apps/"+id(i), &before); err != nil {
		return began, at, err
	}
	known := map[string]bool{}
	for _, t := range before.App.Tasks {
		known[t.ID] = true
	}
	began = time.Now()
	if err := g.put(ctx, "/v2/apps/"+id(i)+"?force=true", map[string]any{"instances": to}); err != nil {
		return began, at, err
	}
	at, err = g.answer(ctx, host(i), answerIn, func(task string) bool { return !known[task] })
	return began, at, err
}

// addApp adds an app, and returns how long it took until a task of it answered.
func (g *rig) addApp(ctx context.Context, i int) (time.Duration, error) {
	began := time.Now()
	if err := g.put(ctx, "/v2/apps/"+id(i), g.app(i)); err != nil {
		return 0, err
	}
	at, err := g.answer(ctx, host(i), answerIn, func(string) bool { return true })
	return at.Sub(began), err
}

func (g *rig) reloads(ctx context.Context) (int, error) {
	h, err := g.admin.Health(ctx)
	if err != nil {
		return 0, err
	}
	if h.HAProxy.Status == signalbox.Failing {
		return 0, fmt.Errorf("HAProxy is failing: %s", h.HAProxy.Detail)
	}
	return int(h.HAProxy.Reloads), nil
}

// idle returns the shares of one core that the controller and HAProxy use when nothing changes.
func (g *rig) idle(ctx context.Context, pid int) (controller, proxy float64, err error) {
	before, err := usageOf(pid)
	if err != nil {
		return 0, 0, err
	}
	proxyBefore := haproxyUsage(pid)
	if err := sleep(ctx, idleSpan); err != nil {
		return 0, 0, err
	}
	after, err := usageOf(pid)
	if err != nil {
		return 0, 0, err
	}
	proxyAfter := haproxyUsage(pid)
	return (after.CPU + after.Waited - before.CPU - before.Waited).Seconds() / idleSpan.Seconds(),
		(proxyAfter.CPU - proxyBefore.CPU).Seconds() / idleSpan.Seconds(), nil
}
