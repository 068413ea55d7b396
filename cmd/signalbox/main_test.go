package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery/labels"
	"signalbox/haproxy"
	"signalbox/templates"
)

var update = flag.Bool("update", false, "write what the program prints into the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeController answers on a unix socket with a status in which each part has something to say.
func fakeController(t *testing.T) (socket string, status *signalbox.Status) {
	t.Helper()
	dir := t.TempDir()
	status = sampleStatus()
	s, err := admin.New(admin.Config{
		Listen: []admin.Address{{Socket: filepath.Join(dir, "admin.sock")}},
		Status: func() signalbox.Status { return *status },
		Services: func() []admin.ServiceStat {
			return []admin.ServiceStat{
				{Service: "/shop/cart:0", Requests: 12345, PerSecond: 12.44, Average: 0.0081, P50: 0.0071234, P90: 0.012, P99: 1.25, Errors: 3, ErrorRatio: 3.0 / 12345},
				{Service: "/idle:0"},
				{Service: "/fast\x1b[31m:0", Requests: 1, Average: 0.00004, P50: 0.00004, P90: 0.00004, P99: 0.00004, Errors: 1, ErrorRatio: 1},
			}
		},
		Windows: func(span time.Duration) []admin.ServiceStat {
			return []admin.ServiceStat{{Service: "/shop/cart:0", Requests: 12, PerSecond: 12 / span.Seconds(), Average: 0.008, P50: 0.007, P90: 0.012, P99: 1.25, Span: span.Seconds()}}
		},
		Render: func() ([]admin.File, error) {
			return []admin.File{{Name: "haproxy.cfg", Content: "global\n    daemon\n\n# app /shop\nbackend b1 from http\n  server s1 10.0.0.1:31000\n"}, {Name: "hosts.map", Content: "shop.local/ b1\n"}}, nil
		},
		Live: func() ([]admin.File, error) {
			return []admin.File{{Name: "haproxy.cfg", Content: "global\n    daemon\n\n# app /shop\nbackend b1 from http\n  server s1 10.0.0.1:30999\n"}}, nil
		},
		State:    func() (admin.State, error) { return sampleState(status.Table) },
		Why:      func(app string) (admin.Why, error) { return sampleWhy(status, app) },
		Explain:  func(q admin.Question) (admin.Explanation, error) { return sampleExplanation(status, q) },
		Operate:  sampleOperate(),
		Watch:    sampleWatch(t),
		Gatherer: prometheus.NewRegistry(),
		Web:      templates.Web,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addresses()[0], status
}

func sampleState(table *signalbox.Table) (admin.State, error) {
	dialects, err := json.Marshal(labels.Options{})
	if err != nil {
		return admin.State{}, err
	}
	options, err := json.Marshal(haproxy.Options{Dir: "/run/sb", HTTPBind: []string{":80"}, StatsSocket: "/run/sb/stats.sock", MinSlots: 4})
	return admin.State{APIVersion: admin.APIVersion, Table: table, Labels: dialects, Options: options}, err
}

func sampleStatus() *signalbox.Status {
	ninety := 90
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	up := func(addr string) signalbox.Endpoint {
		return signalbox.Endpoint{Task: addr, Addr: netip.MustParseAddrPort(addr), State: signalbox.Up}
	}
	down := up("10.0.0.7:31544")
	down.State, down.Why = signalbox.Down, `Marathon health check "/healthz" failing for 18 s`
	bad := signalbox.Problem{
		Code: "SB110", Severity: signalbox.SeverityError, App: "/shop/web", Label: "signalbox.path", Value: "ca\nrt\x1b[2J",
		Message: "must start with /", Action: "the route is not published",
	}
	odd := signalbox.Problem{Code: "SB203", Severity: signalbox.SeverityWarning, App: "/legacy", Message: "shop.local/cart is also claimed by /shop/cart"}
	table := signalbox.NewTable([]*signalbox.Service{
		{
			ID: "/shop/cart:0", App: "/shop/cart", Mode: signalbox.HTTP, Endpoints: []signalbox.Endpoint{up("10.0.0.5:31002"), up("10.0.0.6:31877"), down},
			Routes: []signalbox.Route{{Host: "shop.local", Path: "/cart"}}, Policy: signalbox.Policy{Weight: &ninety, Balance: "leastconn"},
		},
		{ID: "/shop/web:0", App: "/shop/web", Mode: signalbox.HTTP, Endpoints: []signalbox.Endpoint{up("10.0.0.5:31003")}, Routes: []signalbox.Route{{Host: "shop.local", Path: "/"}}, Problems: []signalbox.Problem{bad}},
		{ID: "/api:0", App: "/api", Mode: signalbox.HTTP, Endpoints: []signalbox.Endpoint{up("10.0.0.5:31004")}, Routes: []signalbox.Route{{Host: "api.local", Path: "/"}, {Host: "*.api.local", Path: "/"}}},
		{ID: "/db:0", App: "/db", Mode: signalbox.TCP, Listen: 10001, Announced: 10001},
		{ID: "/batch:0", App: "/batch", Mode: signalbox.TCP, Endpoints: []signalbox.Endpoint{up("10.0.0.5:31009")}},
	}, []signalbox.Problem{odd})
	return &signalbox.Status{
		Standings: []signalbox.Standing{
			{Service: "/shop/cart:0", Route: signalbox.Route{Host: "shop.local", Path: "/cart"}, Owner: "/shop/cart:0", Share: 90},
			{Service: "/api:0", Route: signalbox.Route{Host: "api.local", Path: "/"}, Owner: "/old/api:0", Why: "is older"},
		},
		Nearby:   map[signalbox.ServiceID]int{"/shop/cart:0": 2, "/shop/legacy:0": 1},
		LastHits: map[signalbox.ServiceID]time.Time{"/shop/cart:0": noon.Add(-2 * time.Second), "/api:0": noon.Add(-26 * time.Hour)},
		Version:  "0.1.ab41cde", Started: noon.Add(-90 * time.Minute), At: noon,
		Sources: []signalbox.SourceStatus{{
			Name: "marathon", Level: signalbox.Degraded, Detail: "unreachable: connection refused", LastRead: noon.Add(-3 * time.Minute),
			LastGood: noon.Add(-192 * time.Second), Endpoint: "http://10.0.0.1:8080", Apps: 5, Endpoints: 6, Quarantined: "40 of 41 apps are gone",
		}},
		HAProxy: signalbox.HAProxyStatus{
			Level: signalbox.OK, Version: "2.6.12", PID: 4711, OldWorkers: 1, Generation: 118, AppliedAt: noon.Add(-42 * time.Second),
			LastReload: noon.Add(-time.Hour), ReloadReason: "listener added", Reloads: 2, Updates: 97,
		},
		Log:     signalbox.LogStatus{Level: signalbox.OK, Counted: 1000, Lost: 2, Unsure: 1, Last: noon.Add(-time.Second)},
		StatsD:  &signalbox.StatsDStatus{Level: signalbox.OK, Addresses: []string{"127.0.0.1:8125"}, Samples: 500, Bad: 2, Overflow: 1, Series: 12},
		Table:   table,
		Logs:    []signalbox.LogEntry{{Time: noon.Add(-time.Minute), Level: "info", Message: "routes changed", Fields: map[string]string{"app": "/shop/cart", "added": "1"}}},
		Metrics: []signalbox.MetricPoint{{Time: noon, Name: "signalbox_reloads_total", Labels: `reason="listener added"`, Value: 2}},
	}
}

// clearEnvironment takes away what the machine's own environment would say.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for name := range readEnvironment(os.Environ()) {
		t.Setenv(name, "")
	}
}

// invoke runs the program in this process.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return invokeWith(t, "", args...)
}

// invokeWith is invoke with something on standard input.
func invokeWith(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// fakeMarathon answers that a cluster has these apps.
func fakeMarathon(t *testing.T, apps string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/v2/apps" {
			http.Error(w, `{"message":"it does not exist"}`, http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, apps)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Each file is one command line: what it prints, and how it ends. $ADMIN stands for the fake controller's address, $MARATHON for that of
// a Marathon with the apps of the part "marathon"; what is called in/x is a file x of the directory in which it runs.
func TestVerbs(t *testing.T) {
	files, err := filepath.Glob("testdata/verbs/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			clearEnvironment(t)
			socket, _ := fakeController(t)
			names := []string{"$ADMIN", socket}
			file, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			input := map[string]string{}
			for _, f := range a.Files {
				if f.Name == "marathon" {
					names = append(names, "$MARATHON", fakeMarathon(t, string(f.Data)))
				}
			}
			for _, f := range a.Files {
				input[f.Name] = strings.NewReplacer(names...).Replace(string(f.Data))
				if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
					if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, f.Data, 0o644)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for line := range strings.Lines(input["env"]) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				t.Setenv(name, value)
			}
			code, stdout, stderr := invokeWith(t, input["stdin"], strings.Split(strings.TrimSpace(input["args"]), "\n")...)
			got := map[string]string{"stdout": stdout, "stderr": stderr, "code": strconv.Itoa(code) + "\n"}
			if *update {
				a.Files = a.Files[:len(a.Files)-len(a.Files[inputs(a):])]
				for _, name := range []string{"code", "stdout", "stderr"} {
					a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(strings.NewReplacer(backwards(names)...).Replace(got[name]))})
				}
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, name := range []string{"code", "stdout", "stderr"} {
				if diff := cmp.Diff(input[name], got[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// backwards returns pairs with their sides exchanged.
func backwards(pairs []string) []string {
	out := slices.Clone(pairs)
	slices.Reverse(out)
	return out
}

// inputs returns how many files of a golden are its input.
func inputs(a *txtar.Archive) int {
	n := 0
	for n < len(a.Files) && !slices.Contains([]string{"code", "stdout", "stderr"}, a.Files[n].Name) {
		n++
	}
	return n
}

func TestExitCodes(t *testing.T) {
	clearEnvironment(t)
	socket, status := fakeController(t)
	f := func(want int, words string, args ...string) {
		t.Helper()
		code, stdout, stderr := invoke(t, args...)
		if code != want || !strings.Contains(stdout+stderr, words) {
			t.Errorf("signalbox %q ends with %d, want %d and %q:\n%s%s", args, code, want, words, stdout, stderr)
		}
	}
	f(exitOK, "Exit codes:", "--help")
	f(exitOK, "Exit codes:", "-h")
	f(exitOK, `{"Version":"`, "-v")
	f(exitOK, `{"Version":"`, "-version")
	f(exitOK, `{"Version":"`, "--version")
	f(exitOK, `{"Version":"`, "version")
	f(exitOK, "[Service]", "-init")
	f(exitOK, "respawn", "-init", "--type", "upstart")
	f(exitUsage, "Usage:")
	f(exitUsage, "try: signalbox routes --help", "routes", "--nonsense")
	f(exitUsage, "Did you mean this?", "rotes")
	f(exitUsage, "want a number from 1 to 1000", "config", "--quarantine-reads", "0")
	f(exitUsage, "only loopback addresses", "routes", "--admin", "10.0.0.1:80")
	f(exitUnreachable, "can't be reached", "routes", "--admin", "unix:/nowhere/admin.sock")
	f(exitFindings, "degraded", "health", "--admin", socket)
	f(exitOK, "degraded", "health", "--admin", socket, "--fail-on", "failing")
	status.HAProxy.Level = signalbox.Failing
	f(exitFindings, "failing", "health", "--admin", socket, "--fail-on=failing")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"routes", "--admin", socket}, nil, &out, &errs); code != exitInterrupted {
		t.Errorf("interrupted: %d, want 130: %s", code, errs.String())
	}
}

// A defect of the program has an exit code of its own, and so has an error that nobody gave one.
func TestDefects(t *testing.T) {
	clearEnvironment(t)
	verb := func(f func() error) func(*program) *cobra.Command {
		return func(*program) *cobra.Command {
			return &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return f() }}
		}
	}
	for name, f := range map[string]func() error{
		"panic": func() error { panic("broken") },
		"error": func() error { return errors.New("broken") },
	} {
		var out, errs bytes.Buffer
		p := &program{stdout: &out, stderr: &errs, verbs: []func(*program) *cobra.Command{verb(f)}}
		if code := p.run(t.Context(), []string{"x"}); code != exitInternal || !strings.Contains(errs.String(), "broken") {
			t.Errorf("%s: %d: %s", name, code, errs.String())
		}
	}
}

// The token is asked over TCP: whoever lacks it is told where it is.
func TestVerbsOverTCP(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	address, err := admin.ParseAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := admin.New(admin.Config{
		Listen: []admin.Address{address}, TokenFile: filepath.Join(dir, "admin-token"),
		Status: func() signalbox.Status { return *sampleStatus() }, Web: templates.Web,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if code, stdout, stderr := invoke(t, "routes", "--admin", s.Addresses()[0], "--state-dir", dir); code != exitOK || !strings.Contains(stdout, "shop.local") {
		t.Errorf("with the token: %d\n%s%s", code, stdout, stderr)
	}
	code, _, stderr := invoke(t, "routes", "--admin", s.Addresses()[0], "--admin-token-file", filepath.Join(dir, "other"))
	if code != exitUsage || !strings.Contains(stderr, filepath.Join(dir, "other")) || !strings.Contains(stderr, "--admin-token-file") {
		t.Errorf("without the token: %d\n%s", code, stderr)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"shop.local": "shop.local", "Grüße, 世界": "Grüße, 世界", "a\x1b[31mb": `a\x1b[31mb`, "a\nb\tc": `a\nb\tc`, `"q"` + "\r": `"q"\r`,
		"a\u202eb": `a\u202eb`, "a\xffb": `a\xffb`, "a\u009bb": `a\u009bb`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for in, want := range map[float64]string{
		0: "0µs", 0.00004: "40µs", 0.00045: "450µs", 0.0081: "8.1ms", 0.0071234: "7.12ms", 0.0123: "12.3ms", 0.5: "500ms", 1.25: "1.25s", 125: "125s",
	} {
		if got := span(in); got != want {
			t.Errorf("span(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	if wantsColour(&bytes.Buffer{}) {
		t.Error("a buffer gets colours")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if wantsColour(null) {
		t.Error("/dev/null gets colours")
	}
	if paint(false, "ok", "ok") != "ok" || paint(true, "ok", "ok") == "ok" {
		t.Error("paint doesn't do what it is told")
	}
	if got := fmt.Sprint(paint(true, "unheard of", "x")); got != "x" {
		t.Errorf("an unknown word is painted: %q", got)
	}
}

// Whoever asks a verb for help sees how it is used.
func TestEveryVerbHasAnExample(t *testing.T) {
	p := &program{verbs: allVerbs(), stdout: io.Discard, stderr: io.Discard}
	for _, cmd := range p.command().Commands() {
		if cmd.Example == "" && !cmd.Hidden && cmd.Name() != "help" {
			t.Errorf("%s has none", cmd.Name())
		}
	}
}
