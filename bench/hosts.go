package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/templates"
)

// hostsBench measures whether many hosts cost more than few: a HAProxy for each number of hosts and way of telling them apart, all at
// once, loaded in turns, so that what else the machine does meets all of them.
type hostsBench struct {
	counts   []int
	rounds   int
	span     time.Duration // of load for each in a round
	progress io.Writer
}

// hostsResults is what a run writes as JSON.
type hostsResults struct {
	Machine machine       `json:"machine"`
	Command []string      `json:"command"`
	At      string        `json:"at"`
	Rounds  int           `json:"rounds"`
	Span    float64       `json:"secondsEach"`
	Results []hostsResult `json:"results"`
}

// hostsResult is what one HAProxy did. The ratio is of its requests in a second to those of the first way and number, round by round.
type hostsResult struct {
	Way           string  `json:"way"` // "maps": signalbox's; "ACLs": a line for each host
	Hosts         int     `json:"hosts"`
	Apps          int     `json:"apps"`  // that the hosts lead to
	Asked         int     `json:"asked"` // how many of the hosts are asked for, at random
	Requests      int     `json:"requests"`
	PerSecond     float64 `json:"requestsPerSecond"` // median of the rounds
	Ratio         float64 `json:"ratio"`             // median of the rounds
	RatioLow      float64 `json:"ratioLow"`          // of 95 % confidence in the median
	RatioHigh     float64 `json:"ratioHigh"`
	CPUPerRequest float64 `json:"cpuMicrosecondsPerRequest"`
}

// noRoute takes signalbox's way of finding a backend away.
const noRoute = `{{define "route"}}{{end}}`

const (
	chosenByMap = "  use_backend %[var(txn.backend)] if { var(txn.backend) -m found }\n"
	connections = 16 // each with one request at a time
)

// origin is what every task is: a HAProxy that answers each request alike.
const origin = `defaults
  mode http
  timeout client 1h
  timeout http-keep-alive 1h
frontend origin
  bind %s
  http-request return status 200 content-type text/plain string ok
`

// contestant is one HAProxy under load.
type contestant struct {
	result hostsResult
	addr   string
	proc   *exec.Cmd
	rates  []float64
	ratios []float64
	cpu    time.Duration
}

// field returns what is compared. By maps: each number of hosts, of as many apps as the first number, asked for as many hosts as that;
// then the others asked for all of their hosts, which is more than the processor's caches hold; then with an app for each host. By ACLs:
// each number.
func (b hostsBench) field() (all []hostsResult) {
	few := b.counts[0]
	for _, n := range b.counts {
		all = append(all, hostsResult{Way: "maps", Hosts: n, Apps: min(n, few), Asked: min(n, few)})
	}
	for _, n := range b.counts {
		if n > few {
			all = append(all, hostsResult{Way: "maps", Hosts: n, Apps: n, Asked: few}, hostsResult{Way: "maps", Hosts: n, Apps: few, Asked: n})
		}
	}
	for _, n := range b.counts {
		all = append(all, hostsResult{Way: "ACLs", Hosts: n, Apps: min(n, few), Asked: min(n, few)})
	}
	return all
}

func (b hostsBench) run(ctx context.Context) (all []hostsResult, err error) {
	dir, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	task, err := startOrigin(ctx, filepath.Join(dir, "origin"))
	if err != nil {
		return nil, err
	}
	field := []*contestant{}
	defer func() {
		for _, c := range append(field, task) {
			_ = c.proc.Process.Kill()
			_ = c.proc.Wait()
		}
	}()
	for _, r := range b.field() {
		fmt.Fprintf(b.progress, "%d hosts of %d apps by %s, asked for %d: starting HAProxy\n", r.Hosts, r.Apps, r.Way, r.Asked)
		c, err := startContestant(ctx, filepath.Join(dir, fmt.Sprint(len(field))), task.addr, r)
		if err != nil {
			return nil, err
		}
		field = append(field, c)
	}
	for round := range b.rounds + 1 {
		if round%10 == 0 {
			fmt.Fprintf(b.progress, "round %d of %d\n", round, b.rounds)
		}
		rates := make([]float64, len(field))
		for _, i := range rand.Perm(len(field)) {
			if rates[i], err = field[i].load(ctx, b.span); err != nil {
				return nil, fmt.Errorf("%d hosts by %s: %w", field[i].result.Hosts, field[i].result.Way, err)
			}
		}
		for i, c := range field {
			if round == 0 { // to warm up
				c.result.Requests, c.cpu = 0, 0
				continue
			}
			c.rates, c.ratios = append(c.rates, rates[i]), append(c.ratios, rates[i]/rates[0])
		}
	}
	for _, c := range field {
		r := c.result
		r.PerSecond, _, _ = median(c.rates)
		r.Ratio, r.RatioLow, r.RatioHigh = median(c.ratios)
		r.CPUPerRequest = float64(c.cpu.Microseconds()) / float64(r.Requests)
		all = append(all, r)
	}
	return all, nil
}

// median returns the median, and the bounds in which the true one is with a confidence of 95 %, by the order of the values alone.
func median(values []float64) (mid, low, high float64) {
	v := slices.Sorted(slices.Values(values))
	n := float64(len(v))
	half := 0.98 * math.Sqrt(n)
	at := func(x float64) float64 { return v[max(0, min(len(v)-1, int(x)))] }
	return at(n / 2), at(n/2 - half), at(n/2 + half)
}

// startOrigin runs what answers as every task.
func startOrigin(ctx context.Context, dir string) (*contestant, error) {
	return startHAProxy(ctx, dir, func(c *contestant) error {
		return os.WriteFile(filepath.Join(dir, "haproxy.cfg"), fmt.Appendf(nil, origin, c.addr), 0o644)
	})
}

// startContestant runs a HAProxy of one thread for so many hosts and apps, whose tasks are all at one address.
func startContestant(ctx context.Context, dir, task string, r hostsResult) (*contestant, error) {
	return startHAProxy(ctx, dir, func(c *contestant) error {
		c.result = r
		return c.write(dir, task, haproxy.Options{})
	})
}

// startHAProxy runs the configuration that write writes.
func startHAProxy(ctx context.Context, dir string, write func(*contestant) error) (*contestant, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	c := &contestant{addr: addr}
	if err := write(c); err != nil {
		return nil, err
	}
	c.proc = exec.CommandContext(context.WithoutCancel(ctx), "haproxy", "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	var said bytes.Buffer
	c.proc.Stdout, c.proc.Stderr = &said, &said
	c.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.proc.Start(); err != nil {
		return nil, fmt.Errorf("starting HAProxy: %w", err)
	}
	for end := time.Now().Add(deadline); ; {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			return c, conn.Close()
		}
		if time.Now().After(end) || ctx.Err() != nil {
			_ = c.proc.Process.Kill()
			_ = c.proc.Wait()
			return nil, fmt.Errorf("HAProxy does not answer: %w\n%s", err, &said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func benchHost(i int) string { return fmt.Sprintf("app-%06d.bench.local", i) }

func benchBackend(i int) string { return fmt.Sprintf("bench_app-%06d:0", i) }

// write renders the configuration as signalbox does, with the routes of so many apps. options are those that are special.
func (c *contestant) write(dir, task string, options haproxy.Options) error {
	addr, err := netip.ParseAddrPort(task)
	if err != nil {
		return err
	}
	var services []*signalbox.Service
	for i := range c.result.Apps {
		app := fmt.Sprintf("/bench/app-%06d", i)
		s := &signalbox.Service{ID: signalbox.NewServiceID(app, 0), App: app, Mode: signalbox.HTTP, Check: signalbox.Check{Kind: signalbox.CheckOff}}
		s.Endpoints = []signalbox.Endpoint{{Task: "task", Addr: addr, State: signalbox.Up}}
		for h := i; h < c.result.Hosts; h += c.result.Apps {
			s.Routes = append(s.Routes, signalbox.Route{Host: benchHost(h), Path: "/"})
		}
		services = append(services, s)
	}
	text := templates.HAProxy
	if c.result.Way == "ACLs" {
		text += noRoute
	}
	tmpl, err := haproxy.ParseTemplate("bench", text)
	if err != nil {
		return err
	}
	options.Dir, options.HTTPBind, options.StatsSocket, options.Threads, options.MinSlots = dir, []string{c.addr}, filepath.Join(dir, "stats.sock"), 1, 1
	files, err := haproxy.Render(tmpl, haproxy.Build(signalbox.NewTable(services, nil), &options, nil))
	if err != nil {
		return err
	}
	config := files.Config
	if c.result.Way == "ACLs" {
		var lines strings.Builder
		for i := range c.result.Hosts {
			fmt.Fprintf(&lines, "  acl host_%d req.hdr(host) -i %s\n  use_backend %s if host_%d\n", i, benchHost(i), benchBackend(i%c.result.Apps), i)
		}
		before := len(config)
		if config = bytes.Replace(config, []byte(chosenByMap), []byte(lines.String()), 1); len(config) == before {
			return errors.New("the template chooses its backend in another way than this benchmark knows")
		}
	}
	for _, m := range files.Maps {
		if err := os.WriteFile(filepath.Join(dir, m.Name), m.Data, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "haproxy.cfg"), config, 0o644)
}

// load sends requests for random hosts for a while, as many as are answered, and returns how many in a second.
func (c *contestant) load(ctx context.Context, span time.Duration) (float64, error) {
	before, err := usageOf(c.proc.Process.Pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	type outcome struct {
		n   int
		err error
	}
	done := make(chan outcome, connections)
	for range connections {
		go func() {
			n, err := c.drive(ctx, began.Add(span))
			done <- outcome{n, err}
		}()
	}
	sum := 0
	for range connections {
		o := <-done
		sum += o.n
		err = errors.Join(err, o.err)
	}
	took := time.Since(began)
	after, cpuErr := usageOf(c.proc.Process.Pid)
	if err := errors.Join(err, cpuErr); err != nil {
		return 0, err
	}
	c.result.Requests += sum
	c.cpu += after.CPU - before.CPU
	return float64(sum) / took.Seconds(), nil
}

// drive sends requests on one connection, one after the other, and checks every answer.
func (c *contestant) drive(ctx context.Context, until time.Time) (sent int, err error) {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(until.Add(30 * time.Second))
	in := bufio.NewReader(conn)
	var request []byte
	for time.Now().Before(until) && ctx.Err() == nil {
		request = append(request[:0], "GET /cart/7 HTTP/1.1\r\nHost: "...)
		request = append(append(request, benchHost(rand.IntN(c.result.Asked)*(c.result.Hosts/c.result.Asked))...), "\r\n\r\n"...)
		if _, err := conn.Write(request); err != nil {
			return sent, err
		}
		if err := readAnswer(in); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, ctx.Err()
}

// readAnswer reads one answer of the origin.
func readAnswer(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("the answer is %q", status)
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
	}
	_, err = in.Discard(len("ok"))
	return err
}

func (r *hostsResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "Requests for random ones of the hosts asked for through a HAProxy of one thread, %d rounds in which each of these is loaded for %gs.\n"+
		"The ratio is of the requests in a second to those of the first line in the same round, with the bounds of 95 %% confidence.\n\n", r.Rounds, r.Span)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way\thosts\tof apps\tasked\trequests/s\tratio\tlow\thigh\tCPU µs per request\trequests\t")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.0f\t%.3f\t%.3f\t%.3f\t%.2f\t%d\t\n", x.Way, x.Hosts, x.Apps, x.Asked, x.PerSecond, x.Ratio, x.RatioLow, x.RatioHigh, x.CPUPerRequest, x.Requests)
	}
	return t.Flush()
}
