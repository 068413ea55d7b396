package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"signalbox/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine counts requests of its own, and pushes them.
type machine struct {
	name   string
	counts *metrics.Aggregator
	pusher *Pusher
	seq    int
}

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func newMachine(name string, change func(*PusherConfig), urls ...string) *machine {
	m := &machine{name: name, counts: metrics.NewAggregator(metrics.AggregatorConfig{Node: name})}
	cfg := PusherConfig{URLs: urls, Node: name, Interval: 10 * time.Millisecond, Snapshot: m.counts.Snapshot, Started: time.Now(), Log: quiet()}
	if change != nil {
		change(&cfg)
	}
	m.pusher = NewPusher(cfg)
	return m
}

// serve has requests pass.
func (m *machine) serve(t *testing.T, n int, service string) {
	t.Helper()
	b := &metrics.Batch{Source: 1, At: time.Now(), Records: make([]metrics.Record, n)}
	for i := range b.Records {
		line := fmt.Sprintf(`SB1 H 1 web %d 200 ---- %q be s1 10.0.0.1:31000 127.0.0.1:5 1795230849 278 0 0 0 0 0 %d %d 1795230849279039 %d %d 57 73 0 0 0 - - "GET" "HTTP/1.1" "h" "/"`,
			m.seq, service, m.seq%50, m.seq%50, m.seq%50*1000, m.seq%50*1000)
		m.seq++
		if err := metrics.Parse([]byte(line), &b.Records[i]); err != nil {
			t.Fatal(err)
		}
	}
	m.counts.Consume(b)
}

type hub struct {
	*Server
	counts *metrics.Aggregator
}

func newHub() *hub {
	a := metrics.NewAggregator(metrics.AggregatorConfig{})
	return &hub{New(Config{Aggregator: a}), a}
}

func (h *hub) requests(service string) uint64 {
	if s := h.counts.Snapshot(time.Now()).Service(service); s != nil {
		return s.Requests
	}
	return 0
}

// eventually waits for something to hold.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// run runs a pusher until the function that it returns is called.
func run(t *testing.T, p *Pusher) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	return end
}

// The network loses requests and answers, repeats some, and lets others wait: every request is at the hub exactly once in the end, and the
// times add up to the same bytes as those of one that saw all.
func TestEveryRequestOnce(t *testing.T) {
	h := newHub()
	r := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	chance := func() float64 { mu.Lock(); defer mu.Unlock(); return r.Float64() }
	var bad atomic.Bool
	bad.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		again := func(w http.ResponseWriter) {
			one := req.Clone(req.Context())
			one.Body = io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(w, one)
		}
		if bad.Load() {
			switch c := chance(); {
			case c < 0.2: // the request is lost
				panic(http.ErrAbortHandler)
			case c < 0.4: // the answer is lost
				again(httptest.NewRecorder())
				panic(http.ErrAbortHandler)
			case c < 0.5: // it comes twice
				again(httptest.NewRecorder())
			case c < 0.6: // cut on the way
				body = body[:len(body)/2]
			}
		}
		again(w)
	}))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = nil
	whole := newMachine("whole", nil)
	const machines, rounds = 20, 30
	var ends []func()
	var all []*machine
	for i := range machines {
		m := newMachine(fmt.Sprintf("slave-%d", i), nil, srv.URL)
		all, ends = append(all, m), append(ends, run(t, m.pusher))
	}
	for range rounds {
		for i, m := range all {
			n := 1 + i
			m.serve(t, n, "/shop:0")
			whole.serve(t, n, "/shop:0")
		}
		time.Sleep(3 * time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	bad.Store(false)
	for _, end := range ends {
		end()
	}
	const sent = rounds * machines * (machines + 1) / 2
	if got := h.requests("/shop:0"); got != sent {
		t.Errorf("the hub has %d requests of %d", got, sent)
	}
	if n := testutil.ToFloat64(h.received.WithLabelValues(resultRepeated)); n == 0 {
		t.Error("no push was repeated: the test shows nothing")
	}
	if n := testutil.ToFloat64(h.received.WithLabelValues(resultBad)); n == 0 {
		t.Error("no push was cut: the test shows nothing")
	}
	nodes := h.Nodes(time.Now())
	if len(nodes) != machines || nodes[0].Requests != rounds {
		t.Errorf("%d machines, the first %+v", len(nodes), nodes[0])
	}
	account := h.counts.Loss()
	if account.Counted != sent || account.Lost != 0 {
		t.Errorf("the account is %+v", account)
	}
}

// A hub that is started again, or is away, misses nothing that is counted from then on; two hubs get everything each.
func TestHubsComeAndGo(t *testing.T) {
	first, second := newHub(), newHub()
	var now atomic.Pointer[hub]
	now.Store(first)
	var away atomic.Bool
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		now.Load().ServeHTTP(w, r)
	})
	srv, other := httptest.NewServer(handler), newHub()
	t.Cleanup(srv.Close)
	srv2 := httptest.NewServer(other)
	t.Cleanup(srv2.Close)
	m := newMachine("slave-1", nil, srv.URL, srv2.URL)
	end := run(t, m.pusher)
	m.serve(t, 100, "/a:0")
	eventually(t, "the first hub has all", func() bool { return first.requests("/a:0") == 100 })
	away.Store(true)
	m.serve(t, 50, "/a:0")
	eventually(t, "the outage is seen", func() bool { return !m.pusher.Status()[0].Failing.IsZero() })
	if s := m.pusher.Status()[0]; !strings.Contains(s.Detail, "502") {
		t.Errorf("%+v", s)
	}
	m.serve(t, 25, "/a:0")
	now.Store(second)
	away.Store(false)
	eventually(t, "the second hub has what the first did not get", func() bool { return second.requests("/a:0") == 75 })
	m.serve(t, 5, "/a:0")
	end() // with the last words
	if got := second.requests("/a:0"); got != 80 {
		t.Errorf("the second has %d of 80", got)
	}
	if got := other.requests("/a:0"); got != 180 {
		t.Errorf("the other hub has %d of 180", got)
	}
	if s := m.pusher.Status()[0]; !s.Failing.IsZero() || s.Detail != "" || s.Pushed == 0 {
		t.Errorf("%+v", s)
	}
}

// A machine that is started again begins a new sequence, and both runs count.
func TestMachineStartsAgain(t *testing.T) {
	h := newHub()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	for i := range 3 {
		m := newMachine("slave-1", func(c *PusherConfig) { c.Scrape = "10.0.0.1:9902" }, srv.URL)
		end := run(t, m.pusher)
		m.serve(t, 10+i, "/a:0")
		end()
	}
	if got := h.requests("/a:0"); got != 33 {
		t.Errorf("%d of 33", got)
	}
	nodes := h.Nodes(time.Now())
	if len(nodes) != 1 || nodes[0].Scrape != "10.0.0.1:9902" || nodes[0].Late || nodes[0].Requests != 12 {
		t.Errorf("%+v", nodes)
	}
	if nodes := h.Nodes(time.Now().Add(time.Minute)); !nodes[0].Late {
		t.Errorf("after a minute of silence: %+v", nodes)
	}
	h.Tick(time.Now().Add(25 * time.Hour))
	if nodes := h.Nodes(time.Now()); len(nodes) != 0 {
		t.Errorf("after a day of silence: %+v", nodes)
	}
}

func TestTargetsForPrometheus(t *testing.T) {
	h := newHub()
	for _, c := range []struct{ node, remote, scrape string }{
		{"a", "10.0.0.1:5000", ":9902"}, {"b", "10.0.0.2:5000", "10.1.0.2:9902"}, {"c", "10.0.0.3:5000", ""}, {"d", "10.0.0.4:5000", "0.0.0.0:9903"},
	} {
		if code := push(t, h, c.node, "r", "1", c.scrape, c.remote, (&metrics.Snapshot{}).AppendBinary(nil)); code != http.StatusOK {
			t.Errorf("%+v: %d", c, code)
		}
	}
	w := httptest.NewRecorder()
	h.ServeTargets(w, nil)
	var got []target
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Targets[0] != "10.0.0.1:9902" || got[1].Targets[0] != "10.1.0.2:9902" || got[2].Targets[0] != "10.0.0.4:9903" || got[0].Labels["node"] != "a" {
		t.Errorf("%+v", got)
	}
}

func push(t *testing.T, h http.Handler, node, run, sequence, scrape, remote string, body []byte) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, PushPath, bytes.NewReader(body))
	r.RemoteAddr = remote
	for k, v := range map[string]string{headerNode: node, headerRun: run, headerSequence: sequence, headerScrape: scrape} {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestBadPushes(t *testing.T) {
	h := newHub()
	h.cfg.MaxNodes = 1
	good := (&metrics.Snapshot{Services: []metrics.ServiceTotals{{Service: "/a:0", Requests: 1}}}).AppendBinary(nil)
	for name, c := range map[string]struct {
		node, run, sequence, scrape string
		body                        []byte
		code                        int
	}{
		"good":            {"a", "r", "1", "", good, 200},
		"again":           {"a", "r", "1", "", good, 200},
		"no node":         {"", "r", "2", "", good, 400},
		"long node":       {strings.Repeat("n", 300), "r", "2", "", good, 400},
		"strange node":    {"a\x01b", "r", "2", "", good, 400},
		"no run":          {"a", "", "2", "", good, 400},
		"no sequence":     {"a", "r", "0", "", good, 400},
		"wrong sequence":  {"a", "r", "-1", "", good, 400},
		"scrape a name":   {"a", "r", "2", "evil.example:80", good, 400},
		"scrape no port":  {"a", "r", "2", "10.0.0.1", good, 400},
		"empty":           {"a", "r", "2", "", nil, 400},
		"cut":             {"a", "r", "2", "", good[:len(good)-1], 400},
		"json":            {"a", "r", "2", "", []byte(`{"nodes":[]}`), 400},
		"another machine": {"b", "r", "1", "", good, 503},
	} {
		if name == "another machine" || name == "again" {
			push(t, h, "a", "r", "1", "", "10.0.0.1:1", good)
		}
		if code := push(t, h, c.node, c.run, c.sequence, c.scrape, "10.0.0.1:1", c.body); code != c.code {
			t.Errorf("%s: %d, want %d", name, code, c.code)
		}
	}
	if got := h.requests("/a:0"); got != 1 {
		t.Errorf("%d requests of 1", got)
	}
}

// The token is read at each push: it may be changed while the program runs.
func TestToken(t *testing.T) {
	h := newHub()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer right" {
			reply(w, http.StatusUnauthorized, map[string]string{"error": "the token is wrong"})
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	m := newMachine("a", func(c *PusherConfig) { c.TokenFile = file }, srv.URL)
	run(t, m.pusher)
	m.serve(t, 3, "/a:0")
	eventually(t, "the refusal is said", func() bool { return strings.Contains(m.pusher.Status()[0].Detail, "the token is wrong") })
	write("right")
	eventually(t, "the hub has all", func() bool { return h.requests("/a:0") == 3 })
}

func TestCheckURL(t *testing.T) {
	for text, good := range map[string]bool{
		"http://hub:9903": true, "https://hub.example": true, "http://10.0.0.1:9903/": true,
		"hub:9903": false, "": false, "ftp://hub": false, "http://": false, "http://u:p@hub": false, "http://hub/x": false, "http://hub?x": false,
	} {
		if err := CheckURL(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	if errors.Is(CheckURL("http://u:secret@hub"), nil) || strings.Contains(CheckURL("http://u:secret@hub").Error(), "secret") {
		t.Error("a password is shown")
	}
}
