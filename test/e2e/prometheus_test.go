package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	prometheusDir = "../../task-data/prometheus"
	dashboardsDir = "../../task-data/grafana/dashboards"
)

// promtool itself finds the configuration and the rules right, and each rule does what its test says.
func TestPromtool(t *testing.T) {
	tests, err := filepath.Glob(prometheusDir + "/tests/*.yml")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests of rules: %v", err)
	}
	tool := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s (apt-get install prometheus): %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tool("check", "config", prometheusDir+"/prometheus.yml")
	tool("check", "config", prometheusDir+"/prometheus-hub.yml")
	tool("check", "rules", prometheusDir+"/rules/services-native.yml")
	tool(append([]string{"test", "rules"}, tests...)...)
}

// rule is a rule of Prometheus.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T, files ...string) (all []rule) {
	t.Helper()
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(prometheusDir, "rules", file))
		if err != nil {
			t.Fatal(err)
		}
		var f struct{ Groups []struct{ Rules []rule } }
		if err := yaml.Unmarshal(b, &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, g := range f.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

// Each alert has a section in the runbook and a test that sees it fire, and the runbook has no section of an alert that is gone.
func TestAlertsHaveARunbook(t *testing.T) {
	book, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(book), -1) {
		sections = append(sections, m[1])
	}
	tests, err := os.ReadFile(prometheusDir + "/tests/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readRules(t, "alerts.yml") {
		at := slices.Index(sections, r.Alert)
		if at < 0 {
			t.Errorf("%s has no section in docs/runbook.md", r.Alert)
			continue
		}
		sections = slices.Delete(sections, at, at+1)
		if !strings.Contains(string(book), "\n## "+r.Alert+"\n\n`"+r.Labels["severity"]+"`: ") {
			t.Errorf("the runbook does not begin with the severity of %s, which is %s", r.Alert, r.Labels["severity"])
		}
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !slices.Contains([]string{"page", "ticket", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks its severity, summary or description", r.Alert)
		}
		if !strings.Contains(string(tests), "- name: "+r.Alert+"\n") {
			t.Errorf("no test sees %s fire", r.Alert)
		}
	}
	if len(sections) > 0 {
		t.Errorf("the runbook has sections without an alert: %v", sections)
	}
}

// dashboard is what a test asks of a dashboard of Grafana.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ RefID, Expr string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

func readDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(dashboardsDir + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	out := map[string]dashboard{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out[filepath.Base(file)] = d
	}
	return out
}

// Panels have ids of their own, and do not lie on each other.
func TestDashboardsAreWhole(t *testing.T) {
	uids := map[string]bool{}
	for file, d := range readDashboards(t) {
		if d.UID == "" || uids[d.UID] || d.Title == "" {
			t.Errorf("%s: uid %q, title %q", file, d.UID, d.Title)
		}
		uids[d.UID] = true
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.Title == "" {
				t.Errorf("%s: panel %d %q", file, p.ID, p.Title)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x > 23 {
						t.Fatalf("%s: %q lies on %q, or beside the page", file, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

// Whatever a rule or a panel asks for is a metric that docs/metrics.md has, or one that a rule records.
func TestQueriesNameMetricsThatExist(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"up": true, "process_resident_memory_bytes": true, "process_cpu_seconds_total": true, "process_start_time_seconds": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(doc), -1) {
		known[m[1]] = true
		if m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_sum"], known[m[1]+"_count"] = true, true, true
		}
	}
	queries := map[string]string{}
	for _, r := range readRules(t, "services-classic.yml", "services-native.yml", "slo.yml", "alerts.yml") {
		known[r.Record] = true
		queries[r.Record+r.Alert+" "+r.Expr] = r.Expr
	}
	for file, d := range readDashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				queries[file+", "+p.Title+", "+target.Expr] = target.Expr
			}
		}
	}
	for where, query := range queries {
		for _, name := range regexp.MustCompile(`(?:\w+:)?(?:signalbox|process)_[\w:]+`).FindAllString(query, -1) {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
}

// selectorPattern finds what a query reads, and in it the metric.
var selectorPattern = regexp.MustCompile(`([\w:]*\b(?:signalbox|process)_[\w:]+)(?:\{[^}]*\})?`)

// unborn are metrics of alerts that have no series in a healthy cluster without a hub, and why.
var unborn = map[string]string{
	"signalbox_problems":                             "nothing is wrong with any app",
	"signalbox_certificate_expiry_timestamp_seconds": "no certificate is shown",
	"signalbox_service_failures_total":               "its rate is asked for, so one failure more or less does not matter",
	"signalbox_hub_nodes":                            "a hub has it: TestHubAsAnApp",
	"signalbox_hub_received_total":                   "a hub has it: TestHubAsAnApp",
}

// prometheus is a Prometheus that runs with the configuration of task-data, sped up.
type prometheus struct {
	t   *testing.T
	url string
}

// file is the configuration, and pairs what of it, and of the targets' file, is something else here.
func startPrometheus(t *testing.T, file string, native bool, pairs ...string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(prometheusDir)); err != nil {
		t.Fatal(err)
	}
	change := func(file string, pairs ...string) {
		t.Helper()
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(pairs); i += 2 {
			if !bytes.Contains(b, []byte(pairs[i])) {
				t.Fatalf("%s has no %q", file, pairs[i])
			}
		}
		if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(b))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if file == "prometheus.yml" {
		change("targets/signalbox.yml", pairs...)
		pairs = nil
	}
	change(file, append(pairs, "scrape_interval: 15s", "scrape_interval: 1s", "evaluation_interval: 15s", "evaluation_interval: 1s")...)
	address := freeAddress(t)
	args := []string{
		"--config.file=" + filepath.Join(dir, file), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address,
	}
	if native {
		change(file, "- rules/services-classic.yml", "- rules/services-native.yml")
		args = append(args, "--enable-feature=native-histograms")
	}
	cmd := exec.Command("prometheus", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("prometheus is needed (apt-get install prometheus): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(tail(said.String(), 20))
		}
	})
	p := &prometheus{t, "http://" + address}
	eventually(t, "Prometheus is ready", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, func() string { return tail(said.String(), 20) })
	return p
}

// ask evaluates a query, and returns the number of series that answer.
func (p *prometheus) ask(query string) (int, error) {
	resp, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s", answer.Error)
	}
	return len(answer.Data.Result), nil
}

// A real Prometheus, with the configuration that is shipped, answers every rule and every panel from a signalbox that runs, with native
// histograms and without; and in a healthy cluster no alert fires.
func TestPrometheusAnswersEveryQuery(t *testing.T) {
	c := cluster(t)
	shop := demoApp("/shop", "shop.local", 2)
	shop["cmd"] = "exec '" + binary + "' demo-service --name shop --errors 50%"
	shop["labels"].(map[string]string)["signalbox.slo"] = "99% < 250ms"
	put(t, c.URL(), "/v2/apps//shop", shop)
	n := newNode(t, c.URL())
	scrape := freeAddress(t)
	g := &graphite{seen: map[string]uint64{}}
	g.listen(t, "127.0.0.1:0")
	n.run("--metrics-listen", scrape, "--statsd", "127.0.0.1:0", "--sink", "graphite://"+g.ln.Addr().String())
	n.answers("shop.local", "/", 200)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				n.get("shop.local", "/users/17")
				n.get("nobody.local", "/")
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	put(t, c.URL(), "/v2/apps//blog", demoApp("/blog", "blog.local", 1)) // a change, once there is somebody to count it
	n.answers("blog.local", "/", 200)

	for _, native := range []bool{false, true} {
		name := map[bool]string{false: "classic", true: "native"}[native]
		t.Run(name, func(t *testing.T) {
			p := startPrometheus(t, "prometheus.yml", native, "127.0.0.1:9902", scrape)
			wait := func(what, query string) {
				t.Helper()
				var series int
				var err error
				eventually(t, what+" is answered: "+query, func() bool {
					series, err = p.ask(query)
					return err == nil && series > 0
				}, func() string { return fmt.Sprintf("%d series, %v", series, err) })
			}
			wait("the target", `up{job="signalbox", node="127.0.0.1"} == 1`)
			for _, r := range readRules(t, "services-"+name+".yml", "slo.yml") {
				wait("the rule "+r.Record, r.Record)
			}
			for file, d := range readDashboards(t) {
				for _, v := range d.Templating.List {
					if v.Type == "query" {
						metric, _, _ := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ",")
						wait(file+", the variable "+v.Name, metric)
					}
				}
				for _, panel := range d.Panels {
					for _, target := range panel.Targets {
						query := strings.NewReplacer("$__rate_interval", "10s", "$service", "/shop:0", "$node", ".*").Replace(target.Expr)
						wait(file+", "+panel.Title, query)
					}
				}
			}
			for _, r := range readRules(t, "alerts.yml") {
				if _, err := p.ask(r.Expr); err != nil {
					t.Errorf("%s: %v", r.Alert, err)
				}
				// An alert on a counter that begins at 1 does not see its first step: what is alerted on is there while nothing is wrong.
				for _, m := range selectorPattern.FindAllStringSubmatch(r.Expr, -1) {
					if unborn[m[1]] == "" {
						wait("the alert "+r.Alert, m[0])
					}
				}
			}
			// The errors of the shop are meant, and those of nobody are no service's.
			if series, err := p.ask(`ALERTS{alertstate="firing", alertname!~"ServiceErrors|ServiceBudgetBurnsFast"}`); err != nil || series > 0 {
				t.Errorf("%d alerts fire in a healthy cluster, %v", series, err)
			}
		})
	}
}
