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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"
)

// fleetBench measures what a fleet asks of one Marathon, and how soon its last controller knows of a change: with a relay, without, and
// where each controller fetches everything on each event. Controllers are their discovery alone, all in this process; Marathon and Consul
// are processes of their own.
type fleetBench struct {
	controllers, apps, tasks, events int
	span                             time.Duration
	ways                             string // by comma
	binary, consul                   string
	progress                         io.Writer
}

// fleetResults is what it found.
type fleetResults struct {
	Machine     machine   `json:"machine"`
	Command     []string  `json:"command"`
	At          string    `json:"at"`
	Controllers int       `json:"controllers"`
	Apps        int       `json:"apps"`
	Tasks       int       `json:"tasksPerApp"`
	Events      int       `json:"events"` // apps that were scaled by one task, each once
	Ways        []fleetOf `json:"ways"`
}

// fleetOf is one way of following Marathon. Rates are over the time of the changes.
type fleetOf struct {
	Way         string  `json:"way"`
	Controllers int     `json:"controllers"`
	Start       float64 `json:"startSeconds"` // until all controllers had all apps
	Span        float64 `json:"spanSeconds"`
	Requests    float64 `json:"requestsPerSecond"`
	Peak        float64 `json:"peakRequestsPerSecond"` // of one second
	Bytes       float64 `json:"bytesPerSecond"`        // decompressed, without the event streams
	Failed      float64 `json:"failedRequests"`
	Streams     int     `json:"eventStreams"`
	MarathonCPU float64 `json:"marathonCPUShare"` // of one core
	ConsulCPU   float64 `json:"consulCPUShare"`
	OwnCPU      float64 `json:"controllersCPUShare"` // of all controllers together
	First       spread  `json:"firstTableSeconds"`   // from the request that scales an app to the first table that has it
	Last        spread  `json:"lastTableSeconds"`    // to the last controller's
	Alone       int     `json:"alone"`               // controllers that read for themselves in the end, despite a relay
	Missing     int     `json:"missingTables"`       // tables without a change, a minute after the last one
}

// follower is a fleet that follows one Marathon.
type follower interface {
	// start begins, and returns when every controller has everything.
	start(ctx context.Context) error
	// asked returns how many requests were sent to Marathon, how many of them failed, and how many bytes came.
	asked() (requests, failed, bytes float64)
	stop()
}

func (b *fleetBench) run(ctx context.Context) (*fleetResults, error) {
	r := &fleetResults{Controllers: b.controllers, Apps: b.apps, Tasks: b.tasks, Events: b.events}
	if b.events > b.apps {
		return nil, errors.New("--fleet-events: each app is scaled once, so there are at most as many events as apps")
	}
	for way := range strings.SplitSeq(b.ways, ",") {
		fmt.Fprintf(b.progress, "fleet: %d controllers, %s\n", b.controllers, way)
		one, err := b.way(ctx, way)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way, err)
		}
		r.Ways = append(r.Ways, one)
	}
	return r, nil
}

func (b *fleetBench) way(ctx context.Context, way string) (r fleetOf, err error) {
	dir, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	address, err := freeAddress()
	if err != nil {
		return r, err
	}
	marathon, err := b.process(dir, "marathon", b.binary, "devcluster", "--tasks", "virtual", "--listen", address, "--dir", filepath.Join(dir, "cluster"))
	if err != nil {
		return r, err
	}
	defer end(marathon)
	url := "http://" + address
	if err := b.load(ctx, url); err != nil {
		return r, err
	}
	var consul *exec.Cmd
	var f follower
	arrivals := newArrivals(b.apps, b.controllers, b.tasks+1)
	switch way {
	case "naive":
		f = newNaiveFleet(b.controllers, b.apps, url, arrivals)
	case "direct":
		f, err = newFleet(b.controllers, b.apps, url, "", arrivals)
	case "relay":
		var at string
		if consul, at, err = b.startConsul(ctx, dir); err != nil {
			return r, err
		}
		defer end(consul)
		f, err = newFleet(b.controllers, b.apps, url, at, arrivals)
	default:
		err = fmt.Errorf("--fleet-ways: there is no way %q", way)
	}
	if err != nil {
		return r, err
	}
	defer f.stop()
	began := time.Now()
	if err := f.start(ctx); err != nil {
		return r, err
	}
	r = fleetOf{Way: way, Controllers: b.controllers, Start: time.Since(began).Seconds(), Streams: b.controllers}
	if way == "relay" {
		r.Streams = 1
	}
	if err := sleep(ctx, 10*time.Second); err != nil { // what the start has left to do
		return r, err
	}
	if c, ok := f.(*fleet); ok && way == "relay" {
		if n := c.alone(); n > 0 {
			return r, fmt.Errorf("%d controllers are on their own", n)
		}
		defer func() { r.Alone = c.alone() }()
	}
	err = b.measure(ctx, &r, f, url, marathon, consul, arrivals)
	return r, err
}

// measure scales apps, one after the other.
func (b *fleetBench) measure(ctx context.Context, r *fleetOf, f follower, url string, marathon, consul *exec.Cmd, arrivals *arrivals) error {
	spent := func() (own, of, at time.Duration) {
		if u, err := usageOf(os.Getpid()); err == nil {
			own = u.CPU
		}
		if u, err := usageOf(marathon.Process.Pid); err == nil {
			of = u.CPU
		}
		if consul != nil {
			if u, err := usageOf(consul.Process.Pid); err == nil {
				at = u.CPU
			}
		}
		return own, of, at
	}
	own, of, at := spent()
	requests, failed, bytes := f.asked()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	peak := make(chan float64, 1)
	go func() {
		most, last := 0.0, requests
		for sleep(watching, time.Second) == nil {
			now, _, _ := f.asked()
			most, last = max(most, now-last), now
		}
		peak <- most
	}()
	began := time.Now()
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range b.events {
		if err := sleep(ctx, time.Until(began.Add(time.Duration(i)*b.span/time.Duration(b.events)))); err != nil {
			return err
		}
		wg.Go(func() {
			arrivals.begin(i)
			if err := send(ctx, http.MethodPut, url+"/v2/apps"+id(i)+"?force=true", map[string]any{"instances": b.tasks + 1}); err != nil {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n > 0 {
		fmt.Fprintf(b.progress, "fleet: Marathon took %d of %d changes only\n", b.events-int(n), b.events)
	}
	now, nowFailed, nowBytes := f.asked()
	span := time.Since(began)
	ownNow, ofNow, atNow := spent()
	stopWatching()
	r.Span, r.Peak = span.Seconds(), <-peak
	r.Requests, r.Failed, r.Bytes = (now-requests)/span.Seconds(), nowFailed-failed, (nowBytes-bytes)/span.Seconds()
	r.OwnCPU, r.MarathonCPU, r.ConsulCPU = (ownNow-own).Seconds()/span.Seconds(), (ofNow-of).Seconds()/span.Seconds(), (atNow-at).Seconds()/span.Seconds()
	for end := time.Now().Add(time.Minute); arrivals.missing(b.events) > 0 && time.Now().Before(end); {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	r.Missing = arrivals.missing(b.events)
	r.First, r.Last = arrivals.spreads(b.events)
	return nil
}

// process starts a program.
func (b *fleetBench) process(dir, name, program string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return cmd, nil
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// load waits for a Marathon, puts the apps there, and waits until their tasks run.
func (b *fleetBench) load(ctx context.Context, url string) error {
	g := &rig{bench: bench{tasks: b.tasks}, base: url, marathon: &http.Client{Timeout: deadline}}
	for end := time.Now().Add(deadline); ; {
		err := g.get(ctx, "/v2/apps", nil)
		if err == nil {
			return g.load(ctx, b.apps)
		}
		if time.Now().After(end) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func send(ctx context.Context, method, url string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s answers %s", method, url, resp.Status)
	}
	return nil
}

// startConsul starts a Consul that keeps nothing, and returns its address.
func (b *fleetBench) startConsul(ctx context.Context, dir string) (*exec.Cmd, string, error) {
	var ports []int
	for range 3 {
		a, err := freeAddress()
		if err != nil {
			return nil, "", err
		}
		_, port, _ := net.SplitHostPort(a)
		n, _ := strconv.Atoi(port)
		ports = append(ports, n)
	}
	config := filepath.Join(dir, "consul.json")
	text := fmt.Sprintf(`{"ports":{"http":%d,"server":%d,"serf_lan":%d,"serf_wan":-1,"dns":-1,"grpc":-1},"limits":{"http_max_conns_per_client":4000},"log_level":"warn"}`, ports[0], ports[1], ports[2])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	cmd, err := b.process(dir, "consul", b.consul, "agent", "-dev", "-config-file", config)
	if err != nil {
		return nil, "", fmt.Errorf("%w (go test ./discovery/relay builds it)", err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", ports[0])
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if send(ctx, http.MethodPut, "http://"+at+"/v1/kv/ready", "yes") == nil {
			return cmd, at, nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			break
		}
	}
	end(cmd)
	return nil, "", errors.New("Consul does not answer")
}

func (r *fleetResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "%d controllers, %d apps of %d tasks, %d of which are scaled by one task, one after the other. Bytes are decompressed, without event\n"+
		"streams. Times are from the request that scales an app to the first and to the last of the controllers' tables that has its new task.\n\n",
		r.Controllers, r.Apps, r.Tasks, r.Events)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way\tcontrollers\tstart s\tspan s\tMarathon: requests/s\tpeak\tfailed\tkB/s\tstreams\tCPU % of a core\tConsul's\tcontrollers'\tfirst table ms: median\tlast: median\tp99\tmax\tmissing\talone\t")
	for _, one := range r.Ways {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%d\t\n",
			one.Way, one.Controllers, one.Start, one.Span, one.Requests, one.Peak, one.Failed, one.Bytes/1e3, one.Streams, 100*one.MarathonCPU, 100*one.ConsulCPU,
			100*one.OwnCPU, 1000*one.First.Median, 1000*one.Last.Median, 1000*one.Last.P99, 1000*one.Last.Max, one.Missing, one.Alone)
	}
	return t.Flush()
}
