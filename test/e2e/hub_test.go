package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"signalbox/admin"
)

// startHub runs a hub at an address.
func startHub(t *testing.T, address string, args ...string) *process {
	t.Helper()
	p := start(t, nil, append([]string{"hub", "--listen", address, "--settle", "0s", "--log-format", "text"}, args...)...)
	eventually(t, "the hub answers", func() bool {
		resp, err := http.Get("http://" + address + "/health")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, p.text)
	return p
}

// cluster asks a hub what `signalbox stat --cluster` shows.
func clusterStat(t *testing.T, address, tokenFile, service string) (row admin.ServiceStat, err error) {
	t.Helper()
	out, err := exec.Command(binary, "stat", "--cluster", "--hub", "http://"+address, "--hub-token-file", tokenFile, "-o", "json").CombinedOutput()
	if err != nil {
		return row, fmt.Errorf("%w: %s", err, out)
	}
	var stats admin.Services
	if err := json.Unmarshal(out, &stats); err != nil {
		return row, err
	}
	for _, s := range stats.Services {
		if s.Service == service {
			row = s
		}
	}
	return row, nil
}

// Two machines push to a hub: it has the requests of both, each once, over restarts of the hub and of a machine, and hands out percentiles
// of the cluster to a sink.
func TestHub(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &graphite{seen: map[string]uint64{}}
	g.listen(t, "127.0.0.1:0")
	address := freeAddress(t)
	args := []string{"--token-file", token, "--sink", "graphite://" + g.ln.Addr().String() + "?times=summary", "--sink-interval", "1s"}
	h := startHub(t, address, args...)

	sent := uint64(0)
	ask := func(n *node, times int) {
		t.Helper()
		for range times {
			if code, body := n.get("shop.local", "/"); code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			sent++
		}
	}
	counted := func(want uint64) {
		t.Helper()
		var row admin.ServiceStat
		var err error
		eventually(t, fmt.Sprintf("the hub has %d requests", want), func() bool {
			row, err = clusterStat(t, address, token, "/shop:0")
			return err == nil && row.Requests == want
		}, func() string { return fmt.Sprintf("%+v, %v", row, err) })
		if want > 0 && row.P99 <= 0 {
			t.Errorf("%+v", row)
		}
	}
	var nodes []*node
	for range 2 {
		n := newNode(t, c.URL())
		n.run("--hub", "http://"+address, "--hub-token-file", token, "--hub-interval", "1s", "--metrics-listen", freeAddress(t))
		n.answers("shop.local", "/", 200)
		sent++
		nodes = append(nodes, n)
	}
	ask(nodes[0], 50)
	ask(nodes[1], 30)
	counted(sent)

	page := func(path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("any", "0123456789abcdef0123")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for path, words := range map[string]string{
		"/": "/shop:0", "/api/v1/nodes": `"late":false`, "/api/v1/sd": `"targets":["127.0.0.1:`, "/version": "Version", "/debug/pprof/": "goroutine",
		"/metrics": fmt.Sprintf(`signalbox_service_requests_total{code="200",method="GET",service="/shop:0"} %d`, sent),
	} {
		if code, body := page(path); code != http.StatusOK || !strings.Contains(body, words) {
			t.Errorf("%s: %d, want %s in\n%s", path, code, words, body)
		}
	}
	if resp, err := http.Get("http://" + address + "/metrics"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	eventually(t, "the sink has the cluster's requests, and its p99", func() bool {
		return g.sum("requests") >= sent && g.has("cluster.shop_0.request_duration.p99_ms")
	}, func() string { return fmt.Sprintf("%d of %d: %v", g.sum("requests"), sent, g.seen) })

	// The hub dies: the machines go on, and the next one gets what it has not had.
	_ = h.cmd.Process.Kill()
	<-h.ended
	before := sent
	ask(nodes[0], 20)
	ask(nodes[1], 20)
	startHub(t, address, args...)
	counted(sent - before)
	// A machine ends with its last words.
	ask(nodes[0], 7)
	nodes[0].controller.end(t, syscall.SIGTERM)
	counted(sent - before)
	if out, err := exec.Command(binary, "top", "--cluster", "--hub", "http://"+address, "--hub-token-file", token, "-n", "1").CombinedOutput(); err != nil || !strings.Contains(string(out), "/shop:0") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, s := range nodes[1].health().Sinks {
		if s.Name == "http://"+address && (s.Status != "ok" || s.Sent == 0) {
			t.Errorf("%+v", s)
		}
	}
}

// The hub runs as an app of Marathon, by the definition that is shipped; machines reach it at its service port, whichever machine it runs on, and
// Prometheus finds the machines by it.
func TestHubAsAnApp(t *testing.T) {
	text, err := os.ReadFile("../../task-data/marathon/hub.json")
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	pairs := []string{"exec signalbox hub", "exec '" + binary + "' hub --settle 2s", `"9903"`, strconv.Quote(port)}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			t.Fatalf("hub.json has no %s", pairs[i])
		}
	}
	var app map[string]any
	if err := json.Unmarshal([]byte(strings.NewReplacer(pairs...).Replace(string(text))), &app); err != nil {
		t.Fatal(err)
	}
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	put(t, c.URL(), "/v2/apps//signalbox/hub", app)
	n := newNode(t, c.URL())
	n.run("--hub", "http://"+address, "--hub-interval", "1s", "--metrics-listen", freeAddress(t))
	n.answers("shop.local", "/", 200)
	n.answers("hub.local", "/health", 200)
	n.answers("hub.local", "/debug/pprof/", 404) // nobody is asked for a token
	for range 20 {
		n.get("shop.local", "/")
	}
	var row admin.ServiceStat
	eventually(t, "the hub has the requests", func() bool {
		row, err = clusterStat(t, address, "", "/shop:0")
		return err == nil && row.Requests == 21
	}, func() string { return fmt.Sprintf("%+v, %v", row, err) })
	p := startPrometheus(t, "prometheus-hub.yml", false, "127.0.0.1:9903", address)
	for query, want := range map[string]int{
		`up{job="signalbox"} == 1`: 1, `up{job="signalbox-hub"} == 1`: 1, `signalbox_hub_nodes{state="fresh"} == 1`: 1,
		`signalbox_service_requests_total{service="/shop:0"}`: 1, "service:signalbox_requests:rate5m > 0": 1,
		`signalbox_hub_received_total{result=~"bad|refused"} == 0`: 2, `signalbox_hub_nodes{state="late"} == 0`: 1, // there, for alerts
	} {
		var series int
		eventually(t, query+" is answered", func() bool {
			series, err = p.ask(query)
			return err == nil && series >= want
		}, func() string { return fmt.Sprintf("%d series, %v", series, err) })
	}
	if series, err := p.ask(`count by (job) (signalbox_service_requests_total)`); err != nil || series != 1 {
		t.Errorf("requests are counted by %d jobs, %v", series, err)
	}
}
