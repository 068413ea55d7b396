package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/devcluster"
	"signalbox/loadgen"
)

func cluster(t *testing.T) *devcluster.Server {
	t.Helper()
	c, err := devcluster.Start(t.Context(), devcluster.Config{Dir: shortDir(t), TaskKilling: true, Agents: []string{"127.0.0.2", "127.0.0.3"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A newcomer types one command. The three counts agree, and nothing is left behind.
func TestDevCountsAgreeAndNothingIsLeft(t *testing.T) {
	runtime := shortDir(t)
	p := start(t, []string{"XDG_RUNTIME_DIR=" + runtime}, "dev", "--for", "10s", "--load", "100")
	select {
	case <-p.ended:
	case <-time.After(3 * patience):
		t.Fatal("dev --for 10s does not end")
	}
	if p.err != nil {
		t.Fatalf("%v\n%s", p.err, p.text())
	}
	for _, want := range []string{"marathon", "haproxy", "admin", "try:", " 0 lost", " 0 failed", "nothing is left"} {
		if !strings.Contains(p.text(), want) {
			t.Errorf("dev does not print %q:\n%s", want, p.text())
		}
	}
	for _, service := range []string{"/api:0", "/blog:0", "/cart:0", "/db:0", "/search:0", "/shop:0"} {
		row := regexp.MustCompile(`(?m)^  ` + service + ` +200 +\S+ +(\S+) +(\S+)$`).FindStringSubmatch(p.text())
		if row == nil || row[1] != row[2] {
			t.Errorf("HAProxy's count and the log's of %s: %q\n%s", service, row, p.text())
		}
	}
	for pid, args := range processes(t) {
		if strings.Contains(args, runtime) {
			t.Errorf("process %d is left: %s", pid, args)
		}
	}
	if left, _ := os.ReadDir(runtime); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// What kill -9 of the whole leaves is ended by those who notice.
func TestKilledDevLeavesNoProcess(t *testing.T) {
	runtime := shortDir(t)
	p := start(t, []string{"XDG_RUNTIME_DIR=" + runtime}, "dev", "--load", "0")
	eventually(t, "dev is up", func() bool { return strings.Contains(p.text(), "try:") }, p.text)
	p.end(t, syscall.SIGKILL)
	var left []string
	eventually(t, "no process is left", func() bool {
		left = nil
		for pid, args := range processes(t) {
			if strings.Contains(args, runtime) || strings.Contains(args, binary+" demo-service") {
				left = append(left, fmt.Sprint(pid, " ", args))
			}
		}
		return len(left) == 0
	}, func() string { return strings.Join(left, "\n") })
}

// Scaling up and down and a rolling restart, under load, cost no request; scaling costs no reload either.
func TestScalingAndRestartFailNoRequest(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 2))
	n := newNode(t, c.URL())
	n.run()
	n.answers("shop.local", "/", 200)
	tasks := func(want int) {
		t.Helper()
		got := 0
		eventually(t, fmt.Sprintf("%d tasks are routed", want), func() bool {
			got = n.health().Endpoints
			return got == want && deployments(t, c.URL()) == 0
		}, func() string { return fmt.Sprint(got) })
	}
	tasks(2)

	load, err := loadgen.New(loadgen.Config{
		Targets: []loadgen.Target{{Name: "shop", URL: "http://" + n.proxy, Host: "shop.local", Expect: "shop"}}, Rate: 300, MaxInFlight: 4096, Timeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, load)
	reloads := n.health().HAProxy.Reloads
	for _, size := range []int{10, 1} {
		put(t, c.URL(), "/v2/apps//shop", map[string]any{"instances": size})
		tasks(size)
		time.Sleep(time.Second) // traffic in the new state
	}
	if got := n.health().HAProxy.Reloads; got != reloads {
		t.Errorf("scaling 2 → 10 → 1 made %d reloads", got-reloads)
	}
	put(t, c.URL(), "/v2/apps//shop", map[string]any{"instances": 3})
	tasks(3)
	send(t, http.MethodPost, c.URL(), "/v2/apps//shop/restart", nil)
	tasks(3)
	time.Sleep(time.Second)
	stop()
	total := load.Report().Total()
	if total.Failed() != 0 || total.Misrouted != 0 || total.Scheduled == 0 {
		t.Errorf("of %d requests %d failed: %+v %+v; last error: %s", total.Scheduled, total.Failed(), total.Codes, total.Errors, total.LastError)
	}
	t.Logf("%d requests, %d failed, %d reloads for scaling", total.Scheduled, total.Failed(), n.health().HAProxy.Reloads-reloads)
}

func deployments(t *testing.T, marathon string) int {
	t.Helper()
	body := send(t, http.MethodGet, marathon, "/v2/deployments", nil)
	return strings.Count(body, `"currentStep"`)
}

// run runs the load until the returned function is called.
func run(t *testing.T, g *loadgen.Generator) (stop func()) {
	t.Helper()
	ctx, cancel := contextOf(t)
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// kill -9 of HAProxy, master and workers, is mended without anybody's help, and the routes are those of before.
func TestKilledHAProxyComesBack(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 2))
	n := newNode(t, c.URL())
	n.run()
	n.answers("shop.local", "/", 200)
	for range 2 {
		pids := haproxies(t, n.dir)
		if len(pids) == 0 {
			t.Fatal("no process of HAProxy is found")
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		n.answers("shop.local", "/", 200)
	}
}

// A worker that is there and does nothing is told as failing, and as ok once it goes on.
func TestHealthTellsOfAMuteWorker(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	n := newNode(t, c.URL())
	n.run()
	n.answers("shop.local", "/", 200)
	level := func(want signalbox.Level) {
		t.Helper()
		var got signalbox.Level
		eventually(t, "HAProxy is "+string(want), func() bool {
			got = n.health().HAProxy.Status
			return got == want
		}, func() string { return string(got) })
	}
	level(signalbox.OK)
	worker := n.health().HAProxy.PID
	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(worker, syscall.SIGCONT) }()
	level(signalbox.Failing)
	if err := syscall.Kill(worker, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	level(signalbox.OK)
}

// The tasks of this test are servers of the test itself, so that they outlive Marathon as real tasks do.
func TestRoutesOutliveMarathonAndController(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") }), ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	port := l.Addr().(*net.TCPAddr).Port

	listen, state := freeAddress(t), shortDir(t)
	marathon := func() *process {
		return start(t, nil, "devcluster", "--listen", listen, "--agents", "127.0.0.2", "--dir", state, "--persist")
	}
	m := marathon()
	base := "http://" + listen
	up := func() {
		t.Helper()
		eventually(t, "Marathon answers", func() bool {
			resp, err := http.Get(base + "/ping")
			if err == nil {
				resp.Body.Close()
			}
			return err == nil
		}, m.text)
	}
	up()
	put(t, base, "/v2/apps//old", map[string]any{
		"id": "/old", "cmd": "exec sleep 1000", "instances": 1, "cpus": 0.01, "mem": 16, "requirePorts": true,
		"portDefinitions": []map[string]any{{"port": port, "protocol": "tcp"}}, "labels": map[string]string{"signalbox.host": "old.local"},
	})
	n := newNode(t, base)
	n.run()
	n.answers("old.local", "/", 200)

	m.end(t, syscall.SIGKILL)
	steady := func(what string) {
		t.Helper()
		for range 20 {
			if code, body := n.get("old.local", "/"); code != 200 {
				t.Fatalf("%s: %d %s", what, code, body)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	steady("Marathon is dead")

	n.controller.end(t, syscall.SIGKILL)
	steady("Marathon and the controller are dead")
	n.run()
	eventually(t, "the controller is back", func() bool {
		_, err := n.admin.Health(t.Context())
		return err == nil
	}, n.controller.text)
	steady("the controller has restarted without Marathon")
	n.controller.end(t, syscall.SIGTERM)
	n.run()
	n.answers("old.local", "/", 200)

	m = marathon()
	up()
	// While the whole cluster was away its tasks were started anew; the port is the same.
	put(t, base, "/v2/apps//new", demoApp("/new", "new.local", 1))
	n.answers("new.local", "/", 200)
	n.answers("old.local", "/", 200)
}

// A malformed label costs that label, and is visible wherever somebody may look.
func TestMalformedLabelCostsItsAppAlone(t *testing.T) {
	c := cluster(t)
	for i := range 4 {
		put(t, c.URL(), fmt.Sprintf("/v2/apps//app%d", i), demoApp(fmt.Sprintf("/app%d", i), fmt.Sprintf("app%d.local", i), 1))
	}
	n := newNode(t, c.URL())
	n.run()
	for i := range 4 {
		n.answers(fmt.Sprintf("app%d.local", i), "/", 200)
	}
	// A newcomer moves to a slot of its own pace when Marathon's verdict comes.
	eventually(t, "Marathon's checks pass", func() bool {
		return strings.Count(n.verb("routes", "-o", "json"), fmt.Sprintf("%q: %q", "state", admin.RouteOK)) == 4
	}, func() string { return n.verb("routes", "-o", "json") })
	before := n.blocks()

	bad := demoApp("/bad", "bad host\nglobal", 1)
	bad["labels"].(map[string]string)["signalbox.hots"] = "bad.local"
	put(t, c.URL(), "/v2/apps//bad", bad)
	routes := ""
	eventually(t, "signalbox routes names the problem", func() bool {
		routes = n.verb("routes")
		return strings.Contains(routes, "SB102") && strings.Contains(routes, "/bad")
	}, func() string { return routes })
	after := n.blocks()
	for app, block := range before {
		if after[app] != block {
			t.Errorf("the block of %s has changed from\n%s\nto\n%s", app, block, after[app])
		}
	}
	if health := n.verb("health", "-o", "json"); !strings.Contains(health, "SB102") {
		t.Errorf("health does not name the problem:\n%s", health)
	}
	if metrics := n.metrics(); !strings.Contains(metrics, `signalbox_problems{app="/bad",code="SB102"`) {
		t.Errorf("/metrics does not name the problem:\n%s", metrics)
	}
	eventually(t, "the log names the problem", func() bool { return strings.Contains(n.controller.text(), "SB102 /bad") }, n.controller.text)
	for i := range 4 {
		n.answers(fmt.Sprintf("app%d.local", i), "/", 200)
	}
}

// blocks returns the text of each app in haproxy.cfg.
func (n *node) blocks() map[string]string {
	n.t.Helper()
	config := n.verb("render", "--file", "haproxy.cfg")
	out := map[string]string{}
	for i, part := range strings.Split(config, "# app ") {
		if i == 0 {
			continue
		}
		app, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "\n# ")
		out[app] += strings.TrimSpace(text)
	}
	if len(out) == 0 {
		n.t.Fatalf("haproxy.cfg names no app:\n%s", config)
	}
	return out
}

// verb runs a verb against this node and returns what it prints.
func (n *node) verb(args ...string) string {
	n.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "SIGNALBOX_ADMIN=unix:"+filepath.Join(n.dir, "admin.sock"))
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() > 1 {
		n.t.Fatalf("signalbox %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *node) metrics() string {
	n.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: n.dialAdmin}}
	resp, err := client.Get("http://localhost/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	return readAll(n.t, resp.Body)
}

// Failures say that HAProxy had just been reloaded, or that tasks had just come.
func TestFailuresSayWhatWasGoingOn(t *testing.T) {
	c := cluster(t)
	shop := demoApp("/shop", "shop.local", 1)
	shop["cmd"] = "exec '" + binary + "' demo-service --name shop --errors 100%"
	put(t, c.URL(), "/v2/apps//shop", shop)
	n := newNode(t, c.URL())
	scrape := freeAddress(t)
	n.run("--metrics-listen", scrape)
	counted := func(during string) func() bool {
		return func() bool {
			n.get("shop.local", "/")
			resp, err := http.Get("http://" + scrape + "/metrics")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return strings.Contains(string(body), `signalbox_service_failures_total{during="`+during+`",reason="server_error",service="/shop:0",task_state="up"}`)
		}
	}
	nothing := func() string { return n.controller.text() }
	eventually(t, "a failure after HAProxy's start says so", counted("reload"), nothing)
	eventually(t, "later ones do not", counted(""), nothing)
	shop["instances"] = 2
	put(t, c.URL(), "/v2/apps//shop", shop)
	eventually(t, "a failure while Marathon deploys says so", counted("deployment"), nothing)
}

// The trace that a request brings stands in tail, and beside the bucket of its time on /metrics; what is no trace does not.
func TestTracesOfRequests(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	n := newNode(t, c.URL())
	scrape := freeAddress(t)
	n.run("--metrics-listen", scrape)
	n.answers("shop.local", "/", 200)
	ask := func(headers ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.proxy+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.local"
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	const w3c, b3 = "4bf92f3577b34da6a3ce929d0e0e4736", "80f198ee56343ba864fe8b2a57d3eff7"
	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = n.admin.Tail(ctx, admin.TailQuestion{}, func(part admin.Tail) error {
			for _, r := range part.Requests {
				seen <- r.Trace
			}
			return nil
		})
	}()
	got := map[string]bool{}
	eventually(t, "tail shows both traces, and nothing that is none", func() bool {
		ask("traceparent", "00-"+w3c+"-00f067aa0ba902b7-01")
		ask("X-B3-TraceId", strings.ToUpper(b3))
		ask("traceparent", `00-"; DROP-00f067aa0ba902b7-01`, "X-B3-TraceId", "no-trace")
		for {
			select {
			case id := <-seen:
				got[id] = true
			default:
				return got[w3c] && got[b3] && got[""]
			}
		}
	}, func() string { return fmt.Sprint(got) })
	if len(got) != 3 {
		t.Errorf("traces %v", got)
	}
	ask("traceparent", "00-"+w3c+"-00f067aa0ba902b7-01")
	eventually(t, "a trace stands on /metrics", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+scrape+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(body), `# {trace_id="`+w3c+`"}`)
	}, func() string { return n.controller.text() })
}
