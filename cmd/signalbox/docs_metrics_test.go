package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"signalbox/discovery/labels"
	"signalbox/metrics"
)

// silent are metrics without a series until there is something to say, and whose type nothing else tells.
var silent = map[string]dto.MetricType{
	"signalbox_problems":                              dto.MetricType_GAUGE,
	"signalbox_certificate_expiry_timestamp_seconds":  dto.MetricType_GAUGE,
	"signalbox_discovery_problems":                    dto.MetricType_GAUGE,
	"signalbox_discovery_last_good_timestamp_seconds": dto.MetricType_GAUGE,
	"signalbox_discovery_last_read_timestamp_seconds": dto.MetricType_GAUGE,
	"signalbox_sink_last_success_timestamp_seconds":   dto.MetricType_GAUGE,
	"signalbox_sink_queue_bytes":                      dto.MetricType_GAUGE,
	"signalbox_sink_queue_points":                     dto.MetricType_GAUGE,
	"signalbox_hub_last_success_timestamp_seconds":    dto.MetricType_GAUGE,
	"signalbox_relay_head_age_seconds":                dto.MetricType_GAUGE,
}

// documented is one metric as it registers itself.
type documented struct {
	family *dto.MetricFamily // name, help and type; no series
	labels []string
}

var (
	descPattern  = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	labelPattern = regexp.MustCompile(`([a-z_]+)="`)
)

// registered returns every metric of a real controller and of a hub, sorted by name; those of the Go runtime and the process aside.
func registered(t *testing.T) []documented {
	t.Helper()
	s := defaults()
	s.StateDir, s.Admin, s.HTTPBind = t.TempDir(), []string{"unix:" + filepath.Join(t.TempDir(), "admin.sock")}, []string{"127.0.0.1:8000"}
	s.Marathon = []string{"zk://127.0.0.1:2181/marathon"}
	s.Consul, s.Relay = []string{"http://127.0.0.1:8500"}, "consul://127.0.0.1:8500/signalbox"
	j, err := newJournal(io.Discard, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(&s, j, lifetime{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()

	types := map[string]dto.MetricType{}
	for _, m := range metrics.Metrics() {
		types[m.Name] = dto.MetricType(dto.MetricType_value[strings.ToUpper(m.Type)])
	}
	h, err := newHub(&hubSettings{listen: []string{"127.0.0.1:0"}, settings: defaults()}, j)
	if err != nil {
		t.Fatal(err)
	}
	defer h.remote.Close()
	families, err := c.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	ofHub, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families = append(families, ofHub...)
	for _, f := range families {
		if declared, ok := types[f.GetName()]; ok && declared != f.GetType() {
			t.Errorf("%s is declared as a %s and is a %s", f.GetName(), declared, f.GetType())
		}
		types[f.GetName()] = f.GetType()
	}

	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.registry.Describe(descs)
		h.server.Describe(descs)
	}()
	var out []documented
	for d := range descs {
		m := descPattern.FindStringSubmatch(d.String())
		if m == nil {
			t.Errorf("a description cannot be read: %s", d)
			continue
		}
		name, help := m[1], strings.ReplaceAll(m[2], `\"`, `"`)
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		if !strings.HasPrefix(name, "signalbox_") {
			t.Errorf("%s does not begin with signalbox_", name)
		}
		kind, known := types[name]
		if guess, quiet := silent[name]; quiet {
			if known && kind != guess {
				t.Errorf("%s is a %s, not a %s", name, kind, guess)
			}
			kind, known = guess, true
		}
		if !known && strings.HasSuffix(name, "_total") {
			kind, known = dto.MetricType_COUNTER, true
		}
		if !known {
			t.Errorf("nothing tells the type of %s: give it its first series when it is made", name)
		}
		var labels []string
		if m[4] != "" {
			labels = strings.Split(m[4], ",")
		}
		for _, l := range labelPattern.FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		out = append(out, documented{&dto.MetricFamily{Name: &name, Help: &help, Type: &kind}, labels})
	}
	slices.SortFunc(out, func(a, b documented) int { return strings.Compare(a.family.GetName(), b.family.GetName()) })
	return out
}

// docs/metrics.md is written from what a real controller registers.
func TestMetricsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Metrics

What ` + "`/metrics`" + ` of the admin listener answers, in Prometheus' text format. The histograms of services and
tasks are classic and native at once. Services, tasks, routes, methods and codes are bounded: what exceeds a limit counts as ` + "`other`" + `, and in
` + "`signalbox_series_overflow_total`" + `. Series of an app that is gone end five minutes after its last request.

A metric of one's own is one variable, with conditions that a request must all meet (` + "`app`, `path`, `method`, `status`, `latency`" + `);
in ` + "`app` and `path` `{x}` stands for one part, and `*` at the end for any rest. `signalbox config`" + ` shows them:

` + "```sh\nSIGNALBOX_METRIC_slow_checkout='app=/shop/* path=/checkout/* method=POST,PUT status=2xx latency>500ms'\n```" + `

Services report figures of their own by StatsD, which stand beside these under their own names: [statsd.md](statsd.md).

Beside these there are the Go runtime's and the process' own, ` + "`go_…` and `process_…`" + `.

| name | type | labels | what it counts |
| --- | --- | --- | --- |
`)
	all := registered(t)
	for _, m := range all {
		labels := ""
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.family.GetName(), strings.ToLower(m.family.GetType().String()), labels, cell(m.family.GetHelp()))
	}
	compareDocs(t, "metrics.md", b.String())
}

func TestMetricsAreNamedByConvention(t *testing.T) {
	var families []*dto.MetricFamily
	for _, m := range registered(t) {
		families = append(families, m.family)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// What the documents name exists.
func TestDocumentsNameRealMetrics(t *testing.T) {
	known := map[string]bool{}
	for _, m := range registered(t) {
		name := m.family.GetName()
		known[name] = true
		if m.family.GetType() == dto.MetricType_HISTOGRAM {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		}
	}
	for _, l := range labels.Table() { // keys of a service's meta in Consul
		known["signalbox_"+l.Key] = true
	}
	word := regexp.MustCompile(`\bsignalbox_[a-z0-9_]+\b`)
	for _, file := range documents(t) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range word.FindAllString(string(content), -1) {
			if !known[name] {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
	}
}

// documents returns what is written for readers.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{"../../README.md", "../../CHANGELOG.md", "../../CONTRIBUTING.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no documents in %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	return files
}
