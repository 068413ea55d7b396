package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/loadgen"
	"signalbox/metrics"
)

//go:embed demo/*.json
var demoFiles embed.FS

// demoInner are the demo's services that only other services call.
var demoInner = []string{"/cart", "/api", "/db"}

// devFile is one file with apps. In the demo's, {{binary}} stands for this program and {{proxy}} for the URL of HAProxy.
type devFile struct {
	name    string
	content []byte
}

// devApp is what dev needs to know of an app that it posted.
type devApp struct {
	ID        string `json:"id"`
	Instances int    `json:"instances"`
	docker    bool
}

// appFiles returns what is to be posted.
func (d *dev) appFiles() ([]devFile, error) {
	var tree fs.FS = demoFiles
	glob := "demo/*.json"
	if d.apps != "" {
		tree, glob = os.DirFS(d.apps), "*.json"
	}
	names, err := fs.Glob(tree, glob)
	if err != nil || len(names) == 0 {
		return nil, usageError("--apps: %s holds no *.json file", d.apps)
	}
	var out []devFile
	for _, name := range names {
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("reading an app: %w", err)}
		}
		out = append(out, devFile{filepath.Base(name), content})
	}
	return out, nil
}

// post gives the apps of every file to Marathon, and returns them.
func (d *dev) post(ctx context.Context, files []devFile) ([]devApp, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	replace := strings.NewReplacer("{{binary}}", shellWord(self), "{{proxy}}", "http://"+d.httpAddr)
	var posted []devApp
	for _, f := range files {
		content := f.content
		if d.apps == "" {
			content = []byte(replace.Replace(string(content)))
		}
		path, apps, err := target(content)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("reading %s: %w", f.name, err)}
		}
		if err := d.put(ctx, path, content); err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("posting %s: %w", f.name, err)}
		}
		posted = append(posted, apps...)
	}
	return posted, nil
}

// target returns the path of Marathon's API where a file's content is put, and the apps in it.
func target(content []byte) (path string, apps []devApp, err error) {
	type app struct {
		devApp
		Container *struct {
			Docker *struct {
				Image string `json:"image"`
			} `json:"docker"`
		} `json:"container"`
		Apps   []json.RawMessage `json:"apps"`
		Groups []json.RawMessage `json:"groups"`
	}
	trimmed := bytes.TrimSpace(content)
	read := func(raw []byte) (a app, err error) {
		a.Instances = 1
		err = json.Unmarshal(raw, &a)
		a.docker = a.Container != nil && a.Container.Docker != nil
		if !strings.HasPrefix(a.ID, "/") {
			a.ID = "/" + a.ID
		}
		return a, err
	}
	var list []json.RawMessage
	if bytes.HasPrefix(trimmed, []byte("[")) {
		if err := json.Unmarshal(trimmed, &list); err != nil {
			return "", nil, err
		}
		path = "/v2/apps"
	} else {
		a, err := read(trimmed)
		if err != nil {
			return "", nil, err
		}
		if len(a.Apps)+len(a.Groups) > 0 {
			return "/v2/groups", nil, nil
		}
		if a.ID == "/" {
			return "", nil, errors.New("the app has no id")
		}
		list = []json.RawMessage{trimmed}
		path = "/v2/apps/" + a.ID
	}
	for _, raw := range list {
		a, err := read(raw)
		if err != nil {
			return "", nil, err
		}
		apps = append(apps, a.devApp)
	}
	return path, apps, nil
}

func (d *dev) put(ctx context.Context, path string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, d.cluster.URL()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("marathon answers %s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	return err
}

// shellWord quotes a word for the shell.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// targets returns what the load is sent to: every route of every HTTP service, the demo's inner ones aside, which others call.
func (d *dev) targets() []loadgen.Target {
	var out []loadgen.Target
	for _, s := range d.controller.table().Services {
		if s.Mode != signalbox.HTTP || d.apps == "" && slices.Contains(demoInner, s.App) {
			continue
		}
		for _, r := range s.Routes {
			host := r.Host
			if rest, ok := strings.CutPrefix(host, "*."); ok {
				host = "load." + rest
			}
			if host == "" {
				host = "load.local"
			}
			out = append(out, loadgen.Target{Name: string(s.ID), URL: "http://" + d.httpAddr, Host: host, Path: r.Path})
		}
	}
	return out
}

// traffic sends the load until it is time to end, and prints what was counted by whom.
func (d *dev) traffic(ctx, running context.Context) error {
	targets := d.targets()
	worker := d.controller.applier.Status().PID // another one at the end has counters of its own
	if d.rate <= 0 || len(targets) == 0 {
		d.wait(ctx, running, nil)
		return d.totals(ctx, nil, worker)
	}
	load, err := loadgen.New(loadgen.Config{Targets: targets, Rate: d.rate, MaxInFlight: 4096, KeepAlive: true})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { ended <- load.Run(sending) }()
	d.wait(ctx, running, load)
	stop()
	if err := <-ended; err != nil {
		return err
	}
	return d.totals(ctx, load, worker)
}

// wait returns when it is time to end. On a terminal it shows a line that moves.
func (d *dev) wait(ctx, running context.Context, load *loadgen.Generator) {
	var end <-chan time.Time
	if d.span > 0 {
		end = time.After(d.span)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	moving := onTerminal(d.stdout)
	for {
		select {
		case <-ctx.Done():
		case <-running.Done():
		case <-end:
		case <-tick.C:
			if moving {
				fmt.Fprintf(d.stdout, "\r\x1b[K  %s", d.line(load))
			}
			continue
		}
		if moving {
			fmt.Fprint(d.stdout, "\r\x1b[K")
		}
		return
	}
}

// line says in one line how it goes.
func (d *dev) line(load *loadgen.Generator) string {
	snapshot := d.controller.aggregator.Snapshot(time.Now())
	total := snapshot.Total()
	status := d.controller.applier.Status()
	text := fmt.Sprintf("%.0f req/s  p50 %s  p99 %s  lost %d  reloads %d  updates %d", total.Recent[1].Rate(),
		short(total.Duration.Quantile(.5)), short(total.Duration.Quantile(.99)), snapshot.Loss.Lost, status.Reloads, status.Updates)
	if load != nil {
		text += fmt.Sprintf("  failed %d", load.Report().Total().Failed())
	}
	return text
}

// totals prints what the load generator, HAProxy and the log pipeline have counted, each on its own.
func (d *dev) totals(ctx context.Context, load *loadgen.Generator, worker int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), devSettle)
	defer cancel()
	var report loadgen.Report
	if load != nil {
		report = load.Report()
	}
	var c counts
	var loss metrics.Loss
	for {
		d.controller.reconcile(ctx)
		var own map[string]responses
		if d.controller.applier.Status().PID == worker {
			own = d.backendCounts(ctx)
		}
		if ctx.Err() != nil && len(c.rows) > 0 {
			break
		}
		snapshot := d.controller.aggregator.Snapshot(time.Now())
		loss, c = snapshot.Loss, compare(report, snapshot, own)
		if c.missing <= loss.Lost+loss.Unsure && c.differ == 0 && loss.Sent == loss.Counted+loss.Lost+loss.Bad {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	t := newTable(d.stdout, "", "SERVICE", "CODE", "LOAD", "HAPROXY", "LOG")
	for _, r := range c.rows {
		t.row("", r.service, r.code, r.load, r.haproxy, fmt.Sprint(r.log))
	}
	if err := t.flush(); err != nil {
		return err
	}
	total := report.Total()
	unsure := ""
	if loss.Unsure > 0 {
		unsure = fmt.Sprintf(" (and up to %d of workers that ended)", loss.Unsure)
	}
	fmt.Fprintf(d.stdout, "  stopped   %d requests counted, %d lost%s; load %d sent, %d failed\n", loss.Counted, loss.Lost, unsure, total.Scheduled, total.Failed())
	if c.missing > loss.Lost+loss.Unsure || c.differ > 0 || loss.Lost > 0 || loss.Bad > 0 {
		return &exitError{code: exitFindings, err: fmt.Errorf("the counts differ: %d answers are missing in the log, HAProxy's own counters are %d apart from it, %d records were lost, %d unreadable",
			c.missing, c.differ, loss.Lost, loss.Bad)}
	}
	return nil
}

// backendCounts returns what HAProxy's worker has counted itself, by service id and class of status codes; nil if it cannot be asked.
func (d *dev) backendCounts(ctx context.Context) map[string]responses {
	pid, counted := d.counted(ctx)
	if pid == 0 {
		return nil
	}
	return d.tenants.counts(pid, counted)
}

// take notes whose the backends are about to be.
func (d *dev) take(ctx context.Context, next *haproxy.Config) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pid, counted := d.counted(ctx)
	d.tenants.take(next, pid, counted)
}

// counted returns what the backends of HAProxy's worker have counted by name, and its pid; 0 if it cannot be asked.
func (d *dev) counted(ctx context.Context) (pid int, by map[string]responses) {
	pid, stats := d.stats(ctx)
	by = make(map[string]responses)
	for _, s := range stats {
		if s.Server == "BACKEND" {
			by[s.Proxy] = s.Responses
		}
	}
	return pid, by
}

// stats returns the counters of HAProxy's worker, and its pid; 0 if it cannot be asked.
func (d *dev) stats(ctx context.Context) (pid int, stats []control.Stat) {
	runtime := control.NewRuntime(d.controller.options.StatsSocket)
	defer runtime.Close()
	info, err := runtime.Connect(ctx)
	if err != nil {
		return 0, nil
	}
	if stats, err = runtime.Stat(ctx); err != nil {
		return 0, nil
	}
	return info.PID, stats
}
