package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const demoPatience = 20 * time.Second // until a test that waits has hung

// demoRun is a demo service that runs as its verb does.
type demoRun struct {
	url  string
	stop context.CancelFunc
	done chan error
}

var demoClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: demoPatience}

func startDemo(t *testing.T, args ...string) *demoRun {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	t.Setenv("HOST", "127.0.0.1")
	t.Setenv("PORT0", strconv.Itoa(addr.Port))
	t.Setenv("MESOS_TASK_ID", "task."+strconv.Itoa(addr.Port))
	t.Setenv("MARATHON_APP_VERSION", "2026-01-01T00:00:00.000Z")
	t.Setenv("MARATHON_APP_ID", "/demo/from-env")
	ctx, stop := context.WithCancel(t.Context())
	cmd := newDemoServiceCommand(nil)
	cmd.SetArgs(append([]string{"--drain", "1ms"}, args...)) // a later flag counts
	heard, out := io.Pipe()
	cmd.SetOut(out)
	d := &demoRun{url: "http://" + addr.String(), stop: stop, done: make(chan error, 1)}
	go func() {
		d.done <- cmd.ExecuteContext(ctx)
		out.Close()
	}()
	first := make([]byte, 1)
	if _, err := heard.Read(first); err != nil {
		t.Fatalf("the service ended: %v", <-d.done)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, heard)
	}()
	t.Cleanup(func() {
		stop()
		<-drained
	})
	return d
}

func (d *demoRun) get(t *testing.T, path string, header ...string) (*http.Response, string) {
	t.Helper()
	return d.do(t, http.MethodGet, path, header...)
}

func (d *demoRun) do(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := demoClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// router forwards by host, as HAProxy does for the services of a demo, and answers 503 for a host that it does not know.
func router(t *testing.T) (at string, routes *sync.Map, seen *[]http.Header) {
	t.Helper()
	routes, seen = new(sync.Map), new([]http.Header)
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		*seen = append(*seen, r.Header.Clone())
		mu.Unlock()
		to, ok := routes.Load(r.Host)
		if !ok {
			http.Error(w, "no such host", http.StatusServiceUnavailable)
			return
		}
		u, _ := url.Parse(to.(string))
		proxy := httputil.NewSingleHostReverseProxy(u)
		proxy.Transport = demoClient.Transport
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, routes, seen
}

func TestDemoServicesCallEachOther(t *testing.T) {
	via, routes, seen := router(t)
	db := startDemo(t, "--name", "db", "--latency", "2ms")
	api := startDemo(t, "--name", "api", "--calls", "db", "--via", via)
	shop := startDemo(t, "--calls", "api,other.example/x/y", "--via", via)
	routes.Store("db.local", db.url)
	routes.Store("api.local", api.url)
	routes.Store("other.example", db.url)

	resp, body := shop.get(t, "/", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "B3", "1")
	var got demoAnswer
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	at := func(d *demoRun) string { return "task." + d.url[strings.LastIndex(d.url, ":")+1:] }
	version := "2026-01-01T00:00:00.000Z"
	fromDB := &demoAnswer{Service: "db", Task: at(db), Version: version, Calls: []demoCall{}}
	want := demoAnswer{Service: "from-env", Task: at(shop), Version: version, Calls: []demoCall{
		{Host: "api.local", Status: 200, Answer: &demoAnswer{
			Service: "api", Task: at(api), Version: version,
			Calls: []demoCall{{Host: "db.local", Status: 200, Answer: fromDB}},
		}},
		{Host: "other.example/x/y", Status: 200, Answer: fromDB},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(demoCall{}, "Milliseconds")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if resp.Header.Get(demoHeader) != "from-env" || resp.Header.Get("X-Task") != at(shop) {
		t.Errorf("headers %v", resp.Header)
	}
	if len(*seen) != 3 {
		t.Errorf("%d calls, want 3", len(*seen))
	}
	for _, h := range *seen {
		if h.Get("Traceparent") == "" || h.Get("B3") != "1" {
			t.Errorf("a call lost its trace: %v", h)
		}
	}

	// What the proxy answers is told from what a service does.
	routes.Delete("api.local")
	resp, body = shop.get(t, "/")
	got = demoAnswer{}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusBadGateway || got.Error != "api.local failed" || !got.Calls[0].ByProxy || got.Calls[0].Status != 503 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestDemoServicesInARingStop(t *testing.T) {
	via, routes, seen := router(t)
	shop := startDemo(t, "--name", "shop", "--calls", "shop", "--via", via)
	routes.Store("shop.local", shop.url)
	if resp, body := shop.get(t, "/"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if len(*seen) != demoMaxDepth {
		t.Errorf("%d calls, want %d", len(*seen), demoMaxDepth)
	}
}

func TestDemoServiceAnswersAsAsked(t *testing.T) {
	all := startDemo(t, "--errors", "100%")
	if resp, _ := all.get(t, "/"); resp.StatusCode != http.StatusInternalServerError || resp.Header.Get(demoHeader) == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	teapot := startDemo(t, "--status", "418", "--name", "<pot>")
	resp, body := teapot.get(t, "/any/path", "Accept", "text/html,*/*;q=0.8")
	if resp.StatusCode != http.StatusTeapot || !strings.Contains(body, "<h1>&lt;pot&gt;</h1>") ||
		resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

func TestDemoServiceFailsAndHealsWhenAskedHere(t *testing.T) {
	d := startDemo(t)
	health := func() int {
		resp, _ := d.get(t, "/healthz")
		return resp.StatusCode
	}
	if got := health(); got != 200 {
		t.Errorf("healthy: %d", got)
	}
	if resp, _ := d.do(t, http.MethodPost, "/-/fail", "Host", "shop.local"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("through a proxy: %d", resp.StatusCode)
	}
	if resp, _ := d.do(t, http.MethodPost, "/-/fail"); resp.StatusCode != http.StatusNoContent || health() != http.StatusServiceUnavailable {
		t.Errorf("failing: %d, then %d", resp.StatusCode, health())
	}
	if resp, _ := d.get(t, "/"); resp.StatusCode != http.StatusOK {
		t.Errorf("a failing check changes other answers: %d", resp.StatusCode)
	}
	if resp, _ := d.do(t, http.MethodPost, "/-/heal"); resp.StatusCode != http.StatusNoContent || health() != http.StatusOK {
		t.Errorf("healed: %d, then %d", resp.StatusCode, health())
	}
}

func TestDemoServiceDrains(t *testing.T) {
	d := startDemo(t, "--drain", "3s", "--grace", "10s")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	kept := &http.Client{Transport: transport, Timeout: demoPatience}
	ask := func(path string) (*http.Response, error) {
		resp, err := kept.Get(d.url + path)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := ask("/"); err != nil || resp.Close {
		t.Fatalf("before: %v, %v", resp, err)
	}
	d.stop()
	// The check fails and requests, over old connections and new ones, are answered, until there is nobody any more.
	var failed, answered bool
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if time.Since(begun) > demoPatience {
			t.Fatal("it never ends")
		}
		resp, err := ask("/healthz")
		if err != nil {
			break
		}
		if resp.StatusCode == http.StatusOK {
			continue // not told yet
		}
		failed = true
		if resp, err := ask("/"); err == nil && resp.StatusCode == http.StatusOK && resp.Close {
			answered = true
		}
	}
	if !failed || !answered {
		t.Errorf("while draining, the check failed: %v; requests were answered: %v", failed, answered)
	}
	select {
	case err := <-d.done:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(demoPatience):
		t.Fatal("it never ends")
	}
}

func TestDemoServiceLetsRunningRequestsEnd(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	defer slow.Close()
	d := startDemo(t, "--drain", "1ms", "--grace", "20s", "--calls", "slow", "--via", slow.URL)
	codes := make(chan int, 1)
	go func() {
		resp, err := demoClient.Get(d.url)
		if err != nil {
			codes <- 0
			return
		}
		resp.Body.Close()
		codes <- resp.StatusCode
	}()
	<-arrived
	d.stop()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
		if err != nil {
			break // it takes no more
		}
		c.Close()
		if time.Since(begun) > demoPatience {
			t.Fatal("it never ends")
		}
	}
	close(release)
	if got := <-codes; got != 200 {
		t.Errorf("the running request got %d", got)
	}
	if err := <-d.done; err != nil {
		t.Error(err)
	}
}

func TestDemoServiceRefuses(t *testing.T) {
	for _, c := range []struct {
		port string
		args []string
		want string
	}{
		{"", nil, "$PORT0"},
		{"70000", nil, "$PORT0"},
		{"9000", []string{"--status", "99"}, "--status"},
		{"9000", []string{"--via", "127.0.0.1:8000"}, "--via"},
		{"9000", []string{"--errors", "101%"}, "share"},
		{"9000", []string{"--errors", "NaN"}, "share"},
	} {
		t.Setenv("PORT", "")
		t.Setenv("PORT0", c.port)
		cmd := newDemoServiceCommand(nil)
		cmd.SetArgs(c.args)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c, err)
		}
	}
}
