package admin

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/metrics"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// sample is a status in which each part has something to say.
func sample() signalbox.Status {
	badPath := signalbox.Problem{
		Code: "SB110", Severity: signalbox.SeverityError, App: "/shop/web", Label: "signalbox.path", Value: "ca\nrt",
		Message: "must start with /", Action: "the route is not published",
	}
	table := signalbox.NewTable([]*signalbox.Service{
		{
			ID: "/shop/cart:0", App: "/shop/cart", Source: "marathon", Mode: signalbox.HTTP,
			Routes: []signalbox.Route{{Host: "shop.local", Path: "/cart"}, {Host: "*.shop.local", Path: "/"}},
			Endpoints: []signalbox.Endpoint{
				{Task: "cart.1", Addr: netip.MustParseAddrPort("10.0.0.5:31002"), State: signalbox.Up},
				{Task: "cart.2", Addr: netip.MustParseAddrPort("10.0.0.7:31544"), State: signalbox.Down, Why: "health check failing"},
			},
		},
		{
			ID: "/shop/web:0", App: "/shop/web", Source: "marathon", Mode: signalbox.HTTP,
			Routes:    []signalbox.Route{{Path: "/"}},
			Endpoints: []signalbox.Endpoint{{Task: "web.1", Addr: netip.MustParseAddrPort("10.0.0.5:31003"), State: signalbox.Up}},
			Problems:  []signalbox.Problem{badPath},
		},
		{ID: "/db:0", App: "/db", Source: "marathon", Mode: signalbox.TCP, Listen: 10001},
		{
			ID: "/batch:0", App: "/batch", Source: "marathon", Mode: signalbox.TCP,
			Endpoints: []signalbox.Endpoint{{Task: "b.1", Addr: netip.MustParseAddrPort("10.0.0.5:31004"), State: signalbox.Up}},
		},
	}, nil)
	s := signalbox.Status{
		Version: "0.1.ab41cde", Started: noon.Add(-90 * time.Minute), At: noon,
		Sources: []signalbox.SourceStatus{{
			Name: "marathon", Level: signalbox.Degraded, Detail: "unreachable: connection refused", LastRead: noon.Add(-3 * time.Minute),
			LastGood: noon.Add(-192 * time.Second), LastEvent: noon.Add(-4 * time.Minute), Endpoint: "http://10.0.0.1:8080",
			Apps: 4, Endpoints: 4, Quarantined: "40 of 41 apps are gone",
		}},
		HAProxy: signalbox.HAProxyStatus{
			Level: signalbox.OK, Version: "2.6.12", PID: 4711, OldWorkers: 1, Generation: 118, AppliedAt: noon.Add(-42 * time.Second),
			LastReload: noon.Add(-time.Hour), ReloadReason: "new listener", Reloads: 2, Updates: 97, FileBehind: 250 * time.Millisecond,
		},
		Log: signalbox.LogStatus{Level: signalbox.OK, Counted: 1000, Last: noon.Add(-time.Second)},
		Sinks: []signalbox.SinkStatus{{
			Name: "graphite://g:2003", Level: signalbox.Degraded, Detail: "it has taken nothing for 1m0s: connect: refused", Sent: 120, Dropped: 7, Waiting: 40,
			LastSent: noon.Add(-time.Minute),
		}},
		StatsD: &signalbox.StatsDStatus{
			Level: signalbox.OK, Addresses: []string{"127.0.0.1:8125", "unix:/run/s.sock"}, Samples: 120, Bad: 3, Overflow: 2, Lost: 1, Series: 17,
		},
		Table: table, Problems: []signalbox.Problem{badPath},
		Logs: []signalbox.LogEntry{{Time: noon.Add(-time.Minute), Level: "info", Message: "<b>routes</b> changed", Fields: map[string]string{"app": "/shop/cart"}}},
		Metrics: []signalbox.MetricPoint{
			{Time: noon, Name: "signalbox_reloads_total", Labels: `reason="new listener"`, Value: 2},
			{Time: noon, Name: "signalbox_broken", Value: math.NaN()},
		},
	}
	return s
}

func TestVerdict(t *testing.T) {
	src := func(levels ...signalbox.Level) (s signalbox.Status) {
		for _, l := range levels {
			s.Sources = append(s.Sources, signalbox.SourceStatus{Level: l})
		}
		return s
	}
	f := func(want signalbox.Level, s signalbox.Status) {
		t.Helper()
		if got := Verdict(s); got != want {
			t.Errorf("Verdict(%+v) = %s, want %s", s, got, want)
		}
	}
	f(signalbox.OK, signalbox.Status{})
	f(signalbox.OK, src(signalbox.OK, signalbox.OK))
	f(signalbox.Degraded, src(signalbox.OK, signalbox.Degraded))
	f(signalbox.Degraded, src(signalbox.OK, signalbox.Failing))
	f(signalbox.Failing, src(signalbox.Failing, signalbox.Failing))
	f(signalbox.Failing, signalbox.Status{HAProxy: signalbox.HAProxyStatus{Level: signalbox.Failing}})
	f(signalbox.Degraded, signalbox.Status{HAProxy: signalbox.HAProxyStatus{Level: signalbox.Degraded}})
	// Without its log this machine still routes.
	f(signalbox.Degraded, signalbox.Status{Log: signalbox.LogStatus{Level: signalbox.Failing}})
	// Nor does it wait for a sink.
	f(signalbox.OK, signalbox.Status{Sinks: []signalbox.SinkStatus{{Level: signalbox.OK}}})
	f(signalbox.Degraded, signalbox.Status{Sinks: []signalbox.SinkStatus{{Level: signalbox.OK}, {Level: signalbox.Degraded}}})
	f(signalbox.OK, signalbox.Status{StatsD: &signalbox.StatsDStatus{Level: signalbox.OK, Lost: 7}})
	f(signalbox.Degraded, signalbox.Status{StatsD: &signalbox.StatsDStatus{Level: signalbox.Degraded}})
	// One app's mistake is not the machine's.
	f(signalbox.OK, signalbox.Status{Problems: []signalbox.Problem{{Severity: signalbox.SeverityError}}})
}

func TestParts(t *testing.T) {
	s := signalbox.Status{
		Sources: []signalbox.SourceStatus{{Name: "marathon", Level: signalbox.Failing}, {Name: "file", Level: signalbox.OK}},
		HAProxy: signalbox.HAProxyStatus{Level: signalbox.OK}, Log: signalbox.LogStatus{Level: signalbox.OK},
		Sinks: []signalbox.SinkStatus{{Name: "graphite://g:2003", Level: signalbox.Degraded}},
	}
	want := []Part{
		{"all", "", signalbox.Degraded},
		{"haproxy", "", signalbox.OK},
		{"log", "", signalbox.OK},
		{"source", "marathon", signalbox.Failing},
		{"source", "file", signalbox.OK},
		{"sink", "graphite://g:2003", signalbox.Degraded},
		{"held", "", signalbox.OK},
	}
	if diff := cmp.Diff(want, Parts(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s = signalbox.Status{StatsD: &signalbox.StatsDStatus{Level: signalbox.Degraded}, Kept: map[string]string{"/shop": signalbox.KeptNew}}
	want = []Part{
		{"all", "", signalbox.Degraded}, {"haproxy", "", ""}, {"log", "", ""}, {"statsd", "", signalbox.Degraded}, {"held", "", signalbox.Degraded},
	}
	if diff := cmp.Diff(want, Parts(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHealthOf(t *testing.T) {
	s := sample()
	for i := range 20 {
		s.Logs = append(s.Logs, signalbox.LogEntry{Time: noon.Add(time.Duration(i) * time.Second), Message: "later"})
		s.Metrics = append(s.Metrics, signalbox.MetricPoint{Time: noon.Add(time.Duration(i) * time.Second), Name: "m"})
	}
	h := HealthOf(s)
	if len(h.Logs) != 10 || !h.Logs[0].Time.Equal(noon.Add(19*time.Second)) {
		t.Errorf("logs: %d, the first of %s; want the 10 newest, newest first", len(h.Logs), h.Logs[0].Time)
	}
	if len(h.Metrics) != 10 || !h.Metrics[0].Time.Equal(noon.Add(19*time.Second)) {
		t.Errorf("metrics: %d, the first of %s; want the 10 newest, newest first", len(h.Metrics), h.Metrics[0].Time)
	}
	if h.LastGoodAgeSeconds != 192 || h.UptimeSeconds != 5400 {
		t.Errorf("ages %v and %v, want 192 and 5400", h.LastGoodAgeSeconds, h.UptimeSeconds)
	}
	if h.Apps != 4 || h.Services != 4 || h.Endpoints != 4 {
		t.Errorf("%d apps, %d services, %d endpoints, want 4 of each", h.Apps, h.Services, h.Endpoints)
	}
	want := []Sink{{
		Name: "graphite://g:2003", Status: signalbox.Degraded, Detail: "it has taken nothing for 1m0s: connect: refused", Sent: 120, Dropped: 7, Waiting: 40,
		LastSent: noon.Add(-time.Minute),
	}}
	if diff := cmp.Diff(want, h.Sinks); diff != "" {
		t.Errorf("sinks (-want +got)\n%s", diff)
	}
	statsd := &StatsD{Status: signalbox.OK, Addresses: []string{"127.0.0.1:8125", "unix:/run/s.sock"}, Samples: 120, Bad: 3, Overflow: 2, Lost: 1, Series: 17}
	if diff := cmp.Diff(statsd, h.StatsD); diff != "" {
		t.Errorf("StatsD (-want +got)\n%s", diff)
	}
	if len(h.Problems) != 1 {
		t.Errorf("%d problems, want the one that table and status share, once", len(h.Problems))
	}
}

// A source that has never read anything has no good state, and that of the others doesn't hide it.
func TestLastGoodIsTheOldest(t *testing.T) {
	s := signalbox.Status{At: noon, Sources: []signalbox.SourceStatus{{LastGood: noon.Add(-time.Second)}, {}}}
	if h := HealthOf(s); !h.LastGood.IsZero() {
		t.Errorf("LastGood = %s, want none", h.LastGood)
	}
}

func TestRoutesOf(t *testing.T) {
	s := sample()
	s.Problems = append(s.Problems, signalbox.Problem{
		Code: "SB401", Severity: signalbox.SeverityWarning, App: "/db", Message: "HAProxy refuses it", Action: "withheld",
	})
	got := RoutesOf(s)
	bad := `SB110 /shop/web signalbox.path="ca\nrt": must start with / (the route is not published)`
	cart := Route{
		Path: "/", Service: "/shop/cart:0", App: "/shop/cart", Mode: "http", Up: 1, Tasks: 2,
		Share: 100, State: RouteDegraded, Reasons: []string{"10.0.0.7:31544 is down: health check failing"},
	}
	wild, named := cart, cart
	wild.Host = "*.shop.local"
	named.Host, named.Path = "shop.local", "/cart"
	want := []Route{
		{Host: "*", Path: "/", Service: "/shop/web:0", App: "/shop/web", Mode: "http", Up: 1, Tasks: 1, Share: 100, State: RouteProblem, Reasons: []string{bad}},
		wild,
		named,
		{Listen: 10001, Service: "/db:0", App: "/db", Mode: "tcp", Share: 100, State: RouteEmpty, Reasons: []string{"no task runs", "SB401 /db: HAProxy refuses it (withheld)"}},
		{Service: "/batch:0", App: "/batch", Mode: "tcp", Up: 1, Tasks: 1, State: RouteUnrouted, Reasons: []string{"no host and no port is asked for"}},
	}
	if diff := cmp.Diff(want, got.Routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if len(got.Problems) != 2 {
		t.Errorf("%d problems, want 2", len(got.Problems))
	}
}

// A suspect task keeps its service up as far as the table knows: HAProxy decides.
func TestRouteStates(t *testing.T) {
	f := func(want RouteState, states ...signalbox.State) {
		t.Helper()
		svc := &signalbox.Service{ID: "/a:0", App: "/a", Routes: []signalbox.Route{{Host: "a", Path: "/"}}}
		for _, s := range states {
			svc.Endpoints = append(svc.Endpoints, signalbox.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:1"), State: s})
		}
		rows := RoutesOf(signalbox.Status{Table: signalbox.NewTable([]*signalbox.Service{svc}, nil)}).Routes
		if len(rows) != 1 || rows[0].State != want {
			t.Errorf("%v: %+v, want one row that is %s", states, rows, want)
		}
	}
	f(RouteEmpty)
	f(RouteOK, signalbox.Up)
	f(RouteDegraded, signalbox.Up, signalbox.Draining)
	f(RouteDegraded, signalbox.Suspect)
	f(RouteDegraded, signalbox.Unknown, signalbox.Down)
	f(RouteDown, signalbox.Down, signalbox.Draining)
}

func TestStatsOf(t *testing.T) {
	busy := metrics.ServiceTotals{
		Service: "/a:0", Requests: 4, Codes: []metrics.CodeCount{{Method: "GET", Code: "200", Count: 3}, {Method: "GET", Code: "503", Count: 1}},
	}
	busy.Recent[1] = metrics.Recent{Requests: 20, Span: 10_000}
	for range 4 {
		busy.Duration.Observe(10_000)
	}
	rows := StatsOf(&metrics.Snapshot{Services: []metrics.ServiceTotals{busy, {Service: "/b:0"}}})
	if len(rows) != 2 || rows[1] != (ServiceStat{Service: "/b:0"}) {
		t.Fatalf("%+v", rows)
	}
	a := rows[0]
	if a.Requests != 4 || a.Errors != 1 || a.ErrorRatio != 0.25 || a.PerSecond != 2 || math.Abs(a.Average-0.01) > 0.0002 || math.Abs(a.P99-0.01) > 0.0002 {
		t.Errorf("%+v", a)
	}
	if StatsOf(nil) != nil {
		t.Error("nothing counted has rows")
	}
}

// A route that another service has is lost, whatever its tasks do; one that is shared says how.
func TestRoutesSayHowClaimsFare(t *testing.T) {
	seen := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	weight := 30
	route, other := signalbox.Route{Host: "a.local", Path: "/"}, signalbox.Route{Host: "a.local", Path: "/x", Match: signalbox.Exact}
	table := signalbox.NewTable([]*signalbox.Service{{
		ID: "/a:0", App: "/a", Mode: signalbox.HTTP, Routes: []signalbox.Route{route, other}, Policy: signalbox.Policy{Weight: &weight},
		Endpoints: []signalbox.Endpoint{{Task: "a.1", State: signalbox.Up}},
	}}, nil)
	contested := signalbox.Problem{
		Code: "SB203", Severity: signalbox.SeverityError, App: "/a", Value: other.String(), Message: other.String() + " belongs to /b:0, which is older",
	}
	got := RoutesOf(signalbox.Status{
		Table: table, LastHits: map[signalbox.ServiceID]time.Time{"/a:0": seen}, Problems: []signalbox.Problem{contested},
		Standings: []signalbox.Standing{
			{Service: "/a:0", Route: route, Owner: "/a:0", Share: 75}, {Service: "/a:0", Route: other, Owner: "/b:0", Why: "is older"},
		},
	}).Routes
	want := []Route{
		{Host: "a.local", Path: "/", Share: 75, State: RouteProblem, Reasons: []string{contested.String()}},
		{Host: "a.local", Path: "/x", Match: "exact", State: RouteLost, Reasons: []string{"/b:0 has it, which is older"}},
	}
	for i := range want {
		w := &want[i]
		w.Service, w.App, w.Mode, w.Up, w.Tasks, w.Weight, w.LastHit, w.Policy = "/a:0", "/a", signalbox.HTTP, 1, 1, &weight, seen, "weight=30"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}
