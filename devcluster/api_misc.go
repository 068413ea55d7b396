package devcluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

func (p *call) miscAPI(at string) error {
	get := p.r.Method == http.MethodGet || p.r.Method == http.MethodHead
	switch {
	case at == "/ping" && get:
		if strings.HasPrefix(p.r.Header.Get("Accept"), "application/json") {
			return p.json(http.StatusOK, []byte(`"pong"`))
		}
		reply(p.w, p.r, http.StatusOK, "text/plain", []byte("pong\n"))
		return nil
	case at == "/v2/info" && get:
		return p.json(http.StatusOK, p.info())
	case at == "/v2/leader":
		return p.leaderAPI()
	case at == "/v2/plugins" && get:
		return p.json(http.StatusOK, []byte(`{"plugins":[]}`))
	case at == "/metrics" && get:
		return p.metrics()
	case at == "/metrics/prometheus" && get:
		return p.prometheus()
	case at == "/logging" && get:
		return p.json(http.StatusOK, []byte("{}"))
	case at == "/config" && get:
		return p.json(http.StatusOK, p.info())
	case at == "/v2/eventSubscriptions" && p.cfg.Emulate == "1.4":
		return p.subscriptions()
	case at == "" && get:
		http.Redirect(p.w, p.r, "/ui/", http.StatusFound)
		return nil
	}
	return errNotFound
}

func (p *call) info() []byte {
	version := "1.11.24"
	if p.cfg.Emulate == "1.4" {
		version = "1.4.14"
	}
	leader := strings.TrimPrefix(p.s.LeaderURL(), "http://")
	_, port, _ := strings.Cut(leader, ":")
	features := []string{}
	if p.cfg.TaskKilling {
		features = append(features, "task_killing")
	}
	f := []field{
		{"name", "marathon"},
		{"version", version},
		{"buildref", "devcluster"},
		{"elected", true},
		{"leader", leader},
		{"frameworkId", p.framework},
		{"marathon_config", map[string]any{
			"master": "zk://127.0.0.1:2181/mesos", "failover_timeout": 604800, "framework_name": "marathon", "ha": true,
			"checkpoint": true, "local_port_min": 10000, "local_port_max": 20000, "executor": "//cmd", "hostname": "127.0.0.1",
			"mesos_user": "root", "features": features, "task_launch_timeout": 300000, "max_instances_per_offer": 1,
			"reconciliation_initial_delay": 15000, "reconciliation_interval": 600000, "mesos_leader_ui_url": "http://127.0.0.1:5050/",
		}},
		{"zookeeper_config", map[string]any{"zk": "zk://127.0.0.1:2181/marathon", "zk_timeout": 10000, "zk_session_timeout": 10000, "zk_max_versions": 25}},
		{"http_config", map[string]any{"http_port": json.RawMessage(port), "https_port": 8443}},
	}
	if p.cfg.Emulate == "1.4" {
		f = append(f, field{"event_subscriber", map[string]any{"type": "http_callback", "http_endpoints": nil}})
	}
	return object(f)
}

func (p *call) leaderAPI() error {
	switch p.r.Method {
	case http.MethodGet, http.MethodHead:
		return p.json(http.StatusOK, encode(map[string]string{"leader": strings.TrimPrefix(p.s.LeaderURL(), "http://")}))
	case http.MethodDelete:
		err := p.json(http.StatusOK, []byte(`{"message":"Leadership abdicated"}`))
		if _, e := p.s.Inject(Fault{Kind: "failover"}); e != nil {
			return e
		}
		return err
	}
	return errMethod
}

// metrics is Dropwizard's form, as far as this server counts.
func (p *call) metrics() error {
	families, err := p.gather()
	if err != nil {
		return err
	}
	counters := map[string]any{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "." + l.GetValue()
			}
			counters[name] = map[string]float64{"count": m.GetCounter().GetValue()}
		}
	}
	p.mu.Lock()
	apps, staged, up := 0, 0, 0
	for _, a := range p.apps {
		if !a.gone {
			apps++
		}
		t := a.tally()
		staged, up = staged+t.staged, up+t.running
	}
	groups := len(p.groups) + 1
	deployments := len(p.deployments)
	p.mu.Unlock()
	gauge := func(n int) any { return map[string]int{"value": n} }
	return p.json(http.StatusOK, encode(map[string]any{
		"version": "3.0.0", "counters": counters, "histograms": map[string]any{}, "meters": map[string]any{}, "timers": map[string]any{},
		"gauges": map[string]any{
			"marathon.apps.active.gauge": gauge(apps), "marathon.groups.active.gauge": gauge(groups),
			"marathon.instances.staged.gauge": gauge(staged), "marathon.instances.running.gauge": gauge(up),
			"marathon.deployments.active.gauge": gauge(deployments),
		},
	}))
}

func (p *call) gather() ([]*metricFamily, error) {
	reg := prometheus.NewRegistry()
	for _, c := range p.count.all() {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("collecting metrics: %w", err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("collecting metrics: %w", err)
	}
	return families, nil
}

func (p *call) prometheus() error {
	families, err := p.gather()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return fmt.Errorf("writing metrics: %w", err)
		}
	}
	reply(p.w, p.r, http.StatusOK, "text/plain; version=0.0.4", b.Bytes())
	return nil
}

// subscriptions keeps the callback URLs of old clients. They are listed, and their events posted to loopback only.
func (p *call) subscriptions() error {
	b := p.bus
	callback := p.q.Get("callbackUrl")
	list := func() []string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Clone(nonNil(b.calls))
	}
	about := func(kind string) []byte {
		return object([]field{
			{"clientIp", clientIP(p.r)},
			{"callbackUrl", callback},
			{"eventType", kind},
			{"timestamp", stamp{time.Now().UTC()}},
		})
	}
	switch p.r.Method {
	case http.MethodGet:
		return p.json(http.StatusOK, encode(map[string][]string{"callbackUrls": list()}))
	case http.MethodPost:
		if callback == "" {
			return failure(http.StatusBadRequest, "callbackUrl is missing")
		}
		p.subscribe(callback)
		return p.json(http.StatusOK, about("subscribe_event"))
	case http.MethodDelete:
		p.unsubscribe(callback)
		return p.json(http.StatusOK, about("unsubscribe_event"))
	}
	return errMethod
}
