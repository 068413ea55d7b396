package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

const (
	demoHeader      = "X-Signalbox-Demo"       // in every answer: no proxy gave it
	demoDepthHeader = "X-Signalbox-Demo-Depth" // how many services a request has come through
	demoMaxDepth    = 8                        // services that call each other in a ring stop here
	demoCallTimeout = 5 * time.Second
)

// demoTraceHeaders go on to the services that are called, which is all that tracing asks of an app.
var demoTraceHeaders = []string{
	"Traceparent", "Tracestate", "Baggage", "B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags",
	"X-Request-Id",
}

// demoService is an app for demonstrations and tests: it answers over HTTP, after a while, having called others.
type demoService struct {
	name, task, version string
	calls               []string // hosts, with or without a path
	via                 *url.URL
	latency             time.Duration // the mean; an answer takes between half of it and half more
	errors              demoShare
	status              int
	drain, grace        time.Duration

	self     string // the address it listens on
	client   *http.Client
	failing  atomic.Bool // /healthz fails because somebody asked for it
	draining atomic.Bool
}

// newDemoServiceCommand returns the hidden verb that runs one task of a demo app.
func newDemoServiceCommand(*program) *cobra.Command {
	d := &demoService{}
	var calls []string
	var domain, via string
	cmd := &cobra.Command{
		Use:    "demo-service",
		Short:  "One task of a demo app: an HTTP service that calls others",
		Hidden: true,
		Long: `demo-service is what the apps of "signalbox dev" run. It listens on $PORT0 (or $PORT) of $HOST (or 127.0.0.1), and answers
every path with its name, its task and what the services that it called said: as a page for a browser, else as JSON.

/healthz answers 200, and 503 after a POST to /-/fail on the service's own address, until one to /-/heal. On SIGTERM /healthz
fails, and requests are answered for --drain longer, before what is still running may end within --grace.`,
		Example: `  PORT0=9000 signalbox demo-service --name shop --calls api,db --via http://127.0.0.1:8000`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.prepare(calls, domain, via, os.Getenv); err != nil {
				return err
			}
			l, err := net.Listen("tcp", d.self)
			if err != nil {
				return &exitError{code: exitUsage, err: fmt.Errorf("listening for requests: %w", err)}
			}
			return d.run(cmd.Context(), l, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.name, "name", "", "the name in answers (default: the last part of $MARATHON_APP_ID, or demo)")
	f.StringSliceVar(&calls, "calls", nil, "the services to call, one after the other: api is the host api.local; shop.local/cart is taken as it is")
	f.StringVar(&domain, "domain", "local", "the domain of the services that are called by a bare name")
	f.StringVar(&via, "via", "http://127.0.0.1:8000", "the HAProxy through which services are called")
	f.DurationVar(&d.latency, "latency", 0, "the mean time that an answer takes of its own")
	f.Var(&d.errors, "errors", "the share of answers that are 500, such as 0.5%")
	f.IntVar(&d.status, "status", http.StatusOK, "the status code of all other answers")
	f.DurationVar(&d.drain, "drain", time.Second, "for how long new requests are answered after SIGTERM")
	f.DurationVar(&d.grace, "grace", 2*time.Second, "how long running requests may take after that")
	return cmd
}

// demoShare is a part of a whole, from 0 to 1. As a flag it is written "0.5%" or "0.005".
type demoShare float64

// String implements pflag.Value.
func (s *demoShare) String() string { return strconv.FormatFloat(float64(*s)*100, 'g', -1, 64) + "%" }

// Type implements pflag.Value.
func (s *demoShare) Type() string { return "share" }

// Set implements pflag.Value.
func (s *demoShare) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("%q is no share: write 0%% to 100%%, or 0 to 1", text)
	}
	*s = demoShare(v)
	return nil
}

// prepare completes the service from its flags and its environment.
func (d *demoService) prepare(calls []string, domain, via string, getenv func(string) string) error {
	port := cmp.Or(getenv("PORT0"), getenv("PORT"))
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return usageError("demo-service: $PORT0 says %q: set it to the port to listen on, as Marathon does", port)
	}
	d.self = net.JoinHostPort(cmp.Or(getenv("HOST"), "127.0.0.1"), port)
	if d.status < 200 || d.status > 599 {
		return usageError("demo-service: --status is %d, and no status code of an answer (200 to 599)", d.status)
	}
	u, err := url.Parse(via)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return usageError("demo-service: --via is %q: write http://host:port", via)
	}
	d.via = u
	if d.name == "" {
		d.name = "demo"
		if app := getenv("MARATHON_APP_ID"); app != "" {
			d.name = path.Base(app)
		}
	}
	d.task, d.version = getenv("MESOS_TASK_ID"), getenv("MARATHON_APP_VERSION")
	for _, c := range calls {
		if c = strings.TrimSpace(c); c == "" {
			continue
		}
		if !strings.ContainsAny(c, "./") {
			c += "." + domain
		}
		d.calls = append(d.calls, c)
	}
	return nil
}

// run serves until ctx is done, then drains. It returns nil after an orderly end.
func (d *demoService) run(ctx context.Context, l net.Listener, log io.Writer) error {
	d.self = l.Addr().String()
	d.client = &http.Client{Timeout: demoCallTimeout, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second,
	}}
	defer d.client.CloseIdleConnections()
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Fprintf(log, "%s: answering on http://%s\n", d.name, d.self)
	select {
	case err := <-served:
		return fmt.Errorf("serving requests: %w", err)
	case <-ctx.Done():
	}
	fmt.Fprintf(log, "%s: draining for %s\n", d.name, d.drain)
	d.draining.Store(true)
	drained := time.NewTimer(d.drain)
	defer drained.Stop()
	select {
	case err := <-served:
		return fmt.Errorf("serving requests: %w", err)
	case <-drained.C:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.grace)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		fmt.Fprintf(log, "%s: requests were cut off after %s\n", d.name, d.grace)
		_ = server.Close() // what it could say is said above
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving requests: %w", err)
	}
	fmt.Fprintf(log, "%s: ended\n", d.name)
	return nil
}

func (d *demoService) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", d.health)
	mux.HandleFunc("POST /-/fail", d.own(func() { d.failing.Store(true) }))
	mux.HandleFunc("POST /-/heal", d.own(func() { d.failing.Store(false) }))
	mux.HandleFunc("/", d.answer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(demoHeader, d.name)
		if d.task != "" {
			w.Header().Set("X-Task", d.task)
		}
		// Idle connections stay open while it drains: closed under a proxy that is just about to use one, they would fail
		// a request. Each ends with the next answer instead.
		if d.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		mux.ServeHTTP(w, r)
	})
}

func (d *demoService) health(w http.ResponseWriter, _ *http.Request) {
	switch {
	case d.draining.Load():
		http.Error(w, "draining", http.StatusServiceUnavailable)
	case d.failing.Load():
		http.Error(w, "failing, as asked", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok")
	}
}

// own guards what only somebody on this machine may do, who asks the service itself: what comes through a proxy, or from a
// page that a browser shows, names another host.
func (d *demoService) own(do func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(from); err != nil || !ip.IsLoopback() || r.Host != d.self {
			http.Error(w, "only on this machine, and on http://"+d.self, http.StatusForbidden)
			return
		}
		do()
		w.WriteHeader(http.StatusNoContent)
	}
}

// demoAnswer is what a demo service says.
type demoAnswer struct {
	Service string     `json:"service"`
	Task    string     `json:"task"`
	Version string     `json:"version"`
	Error   string     `json:"error,omitempty"`
	Calls   []demoCall `json:"calls"`
}

// demoCall is what came of one call.
type demoCall struct {
	Host         string      `json:"host"`
	Status       int         `json:"status"` // 0: no answer
	Milliseconds float64     `json:"ms"`
	ByProxy      bool        `json:"byProxy,omitempty"` // the proxy answered, not the service
	Error        string      `json:"error,omitempty"`
	Answer       *demoAnswer `json:"answer,omitempty"`
}

func (d *demoService) answer(w http.ResponseWriter, r *http.Request) {
	a := demoAnswer{Service: d.name, Task: d.task, Version: d.version, Calls: []demoCall{}}
	status := d.status
	if d.latency > 0 {
		wait := time.NewTimer(time.Duration((0.5 + rand.Float64()) * float64(d.latency))) //nolint:gosec // it is for show
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.Context().Done():
			return
		}
	}
	depth, _ := strconv.Atoi(r.Header.Get(demoDepthHeader))
	switch {
	case d.errors > 0 && rand.Float64() < float64(d.errors): //nolint:gosec // it is for show
		status, a.Error = http.StatusInternalServerError, "an error, as asked by --errors"
	case depth >= demoMaxDepth && len(d.calls) > 0:
		status, a.Error = http.StatusLoopDetected, fmt.Sprintf("called through %d services", depth)
	default:
		for _, host := range d.calls {
			c := d.call(r, host, depth+1)
			a.Calls = append(a.Calls, c)
			if c.Status == 0 || c.Status >= 500 {
				status, a.Error = http.StatusBadGateway, host+" failed"
			}
		}
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		w.WriteHeader(status)
		_ = demoPage.Execute(w, a) // a browser that went away is its own affair
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // as above
}

// call asks another service through the proxy, handing on what a trace needs.
func (d *demoService) call(r *http.Request, host string, depth int) demoCall {
	c := demoCall{Host: host}
	begun := time.Now()
	name, rest, _ := strings.Cut(host, "/")
	target := d.via.JoinPath("/" + rest)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	req.Host = name
	req.Header.Set(demoDepthHeader, strconv.Itoa(depth))
	req.Header.Set(callerHeader, d.name)
	for _, h := range demoTraceHeaders {
		if v := r.Header.Values(h); len(v) > 0 {
			req.Header[h] = v
		}
	}
	resp, err := d.client.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		c.Error = err.Error()
		c.Milliseconds = demoMilliseconds(begun)
		return c
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	c.Milliseconds = demoMilliseconds(begun)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	c.Status = resp.StatusCode
	c.ByProxy = resp.Header.Get(demoHeader) == ""
	var a demoAnswer
	if json.Unmarshal(body, &a) == nil && a.Service != "" {
		c.Answer = &a
	}
	return c
}

func demoMilliseconds(since time.Time) float64 {
	return float64(time.Since(since).Microseconds()) / 1000
}

var demoPage = template.Must(template.New("demo").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Service}}</title>
<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}</style>
<h1>{{.Service}}</h1>{{template "answer" .}}
{{define "answer"}}{{if .Error}}<p><strong>{{.Error}}</strong></p>{{end}}<p>task {{.Task}}, version {{.Version}}</p>
{{if .Calls}}<ul>{{range .Calls}}<li>{{.Host}}: {{if .Status}}{{.Status}}{{else}}{{.Error}}{{end}} in {{printf "%.1f" .Milliseconds}} ms
{{if .Answer}}{{template "answer" .Answer}}{{end}}</li>{{end}}</ul>{{end}}{{end}}`))
