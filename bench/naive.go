package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/loadgen"
	"signalbox/templates"
)

// churnControl is what became of the same load with a naive controller.
type churnControl struct {
	Seconds float64                  `json:"seconds"`
	Changes int                      `json:"changes"`
	Reloads int                      `json:"reloads"`
	Sent    uint64                   `json:"sent"`
	Failed  map[loadgen.Class]uint64 `json:"failed"`
	First   []loadgen.Failure        `json:"firstFailures,omitempty"`
}

func (c *churnControl) failures() (n uint64) {
	for _, k := range c.Failed {
		n += k
	}
	return n
}

// enoughFailures is when the control has shown what it is there for.
const enoughFailures = 10

// errControl says that a run proves nothing.
var errControl = errors.New("the naive controller failed no request either: this load can't tell a good controller from a bad one")

// naiveController does what many do: after each change it writes the whole configuration, as signalbox itself would, and starts
// another HAProxy with -sf, which takes over no sockets from the one before. It drains nothing.
type naiveController struct {
	w       *world
	dir     string
	tmpl    *haproxy.Template
	options *haproxy.Options
	procs   []*exec.Cmd
	said    *os.File
	reloads int
}

// controlRate is the least rate of requests over new connections that a naive controller meets: with few of them, on a machine that has
// nothing else to do, none may be on its way when a listener closes.
const controlRate = 2000

// naive loads a naive controller until it has failed enough requests, or has reloaded as often as it may.
func (b churnBench) naive(ctx context.Context) (r churnControl, err error) {
	b.rate, b.changes = max(b.rate, controlRate), max(b.changes, b.naiveReloads)
	fmt.Fprintln(b.progress, "churn: the control, a naive reload for each change")
	w, err := b.world(ctx, false)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	c := &naiveController{w: w, dir: filepath.Join(w.dir, "naive")}
	defer c.end()
	if c.tmpl, err = haproxy.ParseTemplate("bench", templates.HAProxy); err != nil {
		return r, err
	}
	if w.proxy, err = freeAddress(); err != nil {
		return r, err
	}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return r, err
	}
	if c.said, err = os.Create(filepath.Join(c.dir, "haproxy.log")); err != nil {
		return r, err
	}
	defer c.said.Close()
	c.options = &haproxy.Options{Dir: c.dir, HTTPBind: []string{w.proxy}, StatsSocket: filepath.Join(c.dir, "stats.sock")}
	if err := c.reload(ctx); err != nil {
		return r, err
	}
	l, err := w.startLoad(ctx, w.proxy)
	if err != nil {
		return r, err
	}
	began := time.Now()
	enough := errors.New("enough")
	err = w.scale(ctx, 0, func() error {
		if l.failed() >= enoughFailures || c.reloads >= b.naiveReloads {
			return enough
		}
		return c.reload(ctx)
	})
	if errors.Is(err, enough) {
		err = nil
	}
	if err = errors.Join(err, l.end()); err != nil {
		return r, err
	}
	fresh, kept, sockets := requestsOf(l.fresh), requestsOf(l.kept), socketsOf(l.sockets, 1)
	r = churnControl{Seconds: time.Since(began).Seconds(), Changes: int(w.done.Load()), Reloads: c.reloads, Failed: map[loadgen.Class]uint64{}}
	for _, one := range []churnLoad{fresh, kept, sockets} {
		r.Sent += one.Sent
		r.First = append(r.First, one.First...)
		for class, n := range one.Failed {
			r.Failed[class] += n
		}
	}
	if r.failures() == 0 {
		return r, fmt.Errorf("%w (%d reloads, %d requests)", errControl, r.Reloads, r.Sent)
	}
	return r, nil
}

// reload writes what Marathon says and starts another HAProxy, which tells the one before to finish.
func (c *naiveController) reload(ctx context.Context) error {
	table, err := c.table(ctx)
	if err != nil {
		return err
	}
	files, err := haproxy.Render(c.tmpl, haproxy.Build(table, c.options, nil))
	if err != nil {
		return err
	}
	config := filepath.Join(c.dir, "haproxy.cfg")
	for _, m := range append(files.Maps, haproxy.File{Name: "haproxy.cfg", Data: files.Config}) {
		if err := os.WriteFile(filepath.Join(c.dir, m.Name), m.Data, 0o644); err != nil {
			return err
		}
	}
	args := []string{"-db", "-f", config}
	if n := len(c.procs); n > 0 {
		args = append(args, "-sf", strconv.Itoa(c.procs[n-1].Process.Pid))
	}
	p := exec.CommandContext(context.WithoutCancel(ctx), "haproxy", args...)
	p.Stdout, p.Stderr = c.said, c.said
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		return fmt.Errorf("starting HAProxy: %w", err)
	}
	c.procs = append(c.procs, p)
	c.reloads++
	for end := time.Now().Add(deadline); ; {
		rt := control.NewRuntime(c.options.StatsSocket)
		info, err := rt.Connect(ctx)
		rt.Close()
		if err == nil && info.PID == p.Process.Pid {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			said, _ := os.ReadFile(c.said.Name())
			return fmt.Errorf("the naive HAProxy does not come up: %w\n%s", errors.Join(err, ctx.Err()), said)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// table returns a service for each app with the tasks that Marathon calls running.
func (c *naiveController) table(ctx context.Context) (*signalbox.Table, error) {
	var got struct {
		Tasks []struct {
			ID, AppID, Host, State string
			Ports                  []uint16
		} `json:"tasks"`
	}
	if err := c.w.get(ctx, "/v2/tasks?status=running", &got); err != nil {
		return nil, err
	}
	services := map[string]*signalbox.Service{}
	var all []*signalbox.Service
	for _, id := range c.w.ids() {
		s := &signalbox.Service{
			ID: signalbox.NewServiceID(id, 0), App: id, Mode: signalbox.HTTP, Check: signalbox.Check{Kind: signalbox.CheckOff},
			Routes: []signalbox.Route{{Host: hostOf(id), Path: "/"}},
		}
		services[id], all = s, append(all, s)
	}
	for _, t := range got.Tasks {
		addr, err := netip.ParseAddr(t.Host)
		if err != nil || len(t.Ports) == 0 || services[t.AppID] == nil {
			return nil, fmt.Errorf("the task %s is at %s %v", t.ID, t.Host, t.Ports)
		}
		s := services[t.AppID]
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{Task: t.ID, Addr: netip.AddrPortFrom(addr, t.Ports[0]), State: signalbox.Up})
	}
	return signalbox.NewTable(all, nil), nil
}

func (c *naiveController) end() {
	for _, p := range c.procs {
		_ = p.Process.Kill() // most have ended
		_ = p.Wait()
	}
}
