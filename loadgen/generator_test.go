package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// expectClosed holds a report against what it promises of its sums.
func expectClosed(t testing.TB, r Report) {
	t.Helper()
	for _, s := range append([]TargetReport{r.Total()}, r.Targets...) {
		if s.Scheduled != s.Overflow+s.InFlight+s.Answered()+s.Errored() {
			t.Errorf("%s does not close: %+v", s.Name, s)
		}
		if s.Latency.Count() != s.Answered() {
			t.Errorf("%s: %d latencies of %d answers", s.Name, s.Latency.Count(), s.Answered())
		}
	}
}

// piped makes a generator speak to serve over pipes, which a synctest bubble can follow.
func piped(t *testing.T, cfg Config, serve func(net.Conn)) *Generator {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.coarse = true
	g.dialer = func(context.Context, string, string) (net.Conn, error) {
		mine, yours := net.Pipe()
		go func() {
			defer yours.Close()
			serve(yours)
		}()
		return mine, nil
	}
	return g
}

// answers serves requests on a connection until it ends; what decides the code, or is the time to stop.
func answers(what func(*http.Request) int) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			code := what(req)
			fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok", code)
		}
	}
}

var one = []Target{{Name: "a", URL: "http://server:80/"}}

func TestTheScheduleIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begun := time.Now()
		g := piped(t, Config{Targets: one, Rate: 4, Requests: 5, KeepAlive: true}, answers(func(*http.Request) int {
			at = append(at, time.Since(begun))
			return 200
		}))
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{0, 250e6, 500e6, 750e6, 1000e6}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if r := g.Report(); r.Elapsed != time.Second || r.Total().Code(200) != 5 {
			t.Errorf("%+v", r)
		}
	})
}

func TestAStallHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := piped(t, Config{Targets: one, Rate: 100, Duration: 2 * time.Second, KeepAlive: true}, answers(func(*http.Request) int {
			// From 500 ms to 1500 ms the server stands still.
			if now := time.Since(begun); now >= 500*time.Millisecond {
				time.Sleep(1500*time.Millisecond - now)
			}
			return 200
		}))
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := g.Report()
		expectClosed(t, r)
		all := r.Total()
		if all.Code(200) != 200 {
			t.Errorf("%d answers, want 200", all.Code(200))
		}
		// Half of the requests were due in the stall, and waited for 1000, 990, … 10 ms: a quarter of all for 500 ms or more.
		if got := all.Latency.Max(); got != time.Second {
			t.Errorf("the longest wait is %s, want 1s", got)
		}
		if got := all.Latency.Sum(); got != 50500*time.Millisecond {
			t.Errorf("all waits are %s, want 50.5s", got)
		}
		if got := all.Latency.Quantile(.75); got < 500*time.Millisecond || got > 520*time.Millisecond {
			t.Errorf("p75 is %s, want about 500ms", got)
		}
	})
}

func TestLatencyCountsFromTheIntendedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := piped(t, Config{Targets: one, Rate: 1}, answers(func(*http.Request) int { return 200 }))
		jobs := make(chan job)
		close(jobs)
		r := g.mix.Load().requests[0]
		r.tally.due()
		g.work(t.Context(), job{request: r, due: time.Now().Add(-time.Second)}, jobs)
		if got := g.Report().Total().Latency.Max(); got != time.Second {
			t.Errorf("a request that is sent one second late has a latency of %s", got)
		}
	})
}

func TestNoRoomIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Targets: one, Rate: 10, Duration: time.Second, MaxInFlight: 2, Timeout: 350 * time.Millisecond}
		g := piped(t, cfg, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := g.Report()
		expectClosed(t, r)
		// Of ten, those due at 0, 100, 400, 500, 800 and 900 ms find room, and time out.
		all := r.Total()
		if all.Scheduled != 10 || all.Overflow != 4 || len(all.Errors) != 1 || all.Errors[0] != (ErrorCount{Timeout, 6}) {
			t.Errorf("%+v", all)
		}
	})
}

func TestRunWaitsForWhatIsOutstanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := piped(t, Config{Targets: one, Rate: 10}, answers(func(*http.Request) int {
			time.Sleep(time.Second)
			return 204
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 550*time.Millisecond)
		defer cancel()
		time.AfterFunc(500*time.Millisecond, func() {
			r := g.Report()
			expectClosed(t, r)
			if n := r.Total().InFlight; n < 5 {
				t.Errorf("%d are in flight", n)
			}
		})
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
		r := g.Report()
		expectClosed(t, r)
		if all := r.Total(); all.Scheduled != 6 || all.Code(204) != 6 || all.Failed() != 0 {
			t.Errorf("%+v", all)
		}
		if g.Run(t.Context()) == nil {
			t.Error("it ran twice")
		}
	})
}

func TestWeightsAndTargetsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		targets := []Target{
			{Name: "shop", URL: "http://server/", Host: "shop.local", Weight: 3},
			{Name: "cart", URL: "http://server/", Host: "cart.local", Path: "/cart?x=1"},
		}
		var mu sync.Mutex
		asked := make(map[string]int)
		g := piped(t, Config{Targets: targets, Rate: 1000, Requests: 5000, KeepAlive: true}, answers(func(r *http.Request) int {
			mu.Lock()
			defer mu.Unlock()
			asked[r.Host+r.RequestURI]++
			return 200
		}))
		time.AfterFunc(3999500*time.Microsecond, func() {
			if err := g.SetTargets([]Target{{Name: "new", URL: "http://server/", Host: "new.local"}}); err != nil {
				t.Error(err)
			}
			if g.SetTargets([]Target{{Name: "bad", URL: "ftp://server/"}}) == nil {
				t.Error("a target that makes no sense was taken")
			}
		})
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := g.Report()
		expectClosed(t, r)
		shop, cart, fresh := r.Target("shop").Answered(), r.Target("cart").Answered(), r.Target("new").Answered()
		if shop+cart != 4000 || fresh != 1000 || shop < 2800 || shop > 3200 || r.Target("bad").Scheduled != 0 {
			t.Errorf("shop %d, cart %d, new %d", shop, cart, fresh)
		}
		want := map[string]int{"shop.local/": int(shop), "cart.local/cart?x=1": int(cart), "new.local/": int(fresh)}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("what the server saw (-want +got):\n%s", diff)
		}
	})
}

func TestPoissonSpacingHasTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := piped(t, Config{Targets: one, Rate: 500, Duration: 10 * time.Second, Poisson: true, Seed: 7, KeepAlive: true},
			answers(func(*http.Request) int { return 200 }))
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := g.Report().Total().Scheduled; n < 4700 || n > 5300 {
			t.Errorf("%d requests in 10 s, want about 5000", n)
		}
	})
}

// Whatever the server does, every scheduled request is counted once.
func TestCountsClose(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{
			Targets: one, Rate: 1000, Requests: uint64(rapid.IntRange(1, 60).Draw(rt, "requests")),
			MaxInFlight: rapid.IntRange(1, 8).Draw(rt, "room"), Timeout: 20 * time.Millisecond,
			KeepAlive: rapid.Bool().Draw(rt, "keep-alive"),
		}
		deeds := rapid.SliceOfN(rapid.SampledFrom([]string{"200", "app 503", "503", "close", "short", "stall", "noise"}), 1, 10).Draw(rt, "deeds")
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Uint64
			g := piped(t, cfg, func(c net.Conn) {
				r := bufio.NewReader(c)
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					switch deeds[n.Add(1)%uint64(len(deeds))] {
					case "200":
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					case "app 503":
						io.WriteString(c, "HTTP/1.1 503 No\r\nX-Signalbox-Demo: a\r\nContent-Length: 0\r\n\r\n")
					case "503":
						io.WriteString(c, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
					case "short":
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")
						return
					case "stall":
						time.Sleep(5 * time.Millisecond)
						return
					case "noise":
						io.WriteString(c, "\x00\x01\r\n\r\n")
						return
					case "close":
						return
					}
				}
			})
			if err := g.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := g.Report()
			expectClosed(t, r)
			if all := r.Total(); all.Scheduled != cfg.Requests || all.InFlight != 0 {
				t.Errorf("%d scheduled, want %d; %d in flight", all.Scheduled, cfg.Requests, all.InFlight)
			}
		})
	})
}

func runOne(t *testing.T, cfg Config) TargetReport {
	t.Helper()
	if cfg.Rate == 0 {
		cfg.Rate = 200
	}
	if cfg.Requests == 0 {
		cfg.Requests = 1
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := g.Report()
	expectClosed(t, r)
	return r.Total()
}

func TestErrorsAreTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(*net.TCPConn)
		want  Class
	}{
		{"closed at once", func(*net.TCPConn) {}, Reset},
		{"reset", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.SetLinger(0)
		}, Reset},
		{"half a head", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
		}, Reset},
		{"half a body", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		}, ShortBody},
		{"half a chunk", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf")
		}, ShortBody},
		{"silence", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, Timeout},
		{"noise", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "220 mail.local ESMTP\r\n\r\n")
		}, Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			served.Go(func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				c.serve(conn.(*net.TCPConn))
			})
			timeout := 10 * time.Second
			if c.want == Timeout {
				timeout = 50 * time.Millisecond
			}
			got := runOne(t, Config{Targets: []Target{{Name: "a", URL: "http://" + l.Addr().String()}}, Timeout: timeout})
			l.Close()
			served.Wait()
			if diff := cmp.Diff([]ErrorCount{{c.want, 1}}, got.Errors); diff != "" {
				t.Errorf("(-want +got):\n%s%s", diff, got.LastError)
			}
			if got.Failed() != 1 {
				t.Errorf("%d failed", got.Failed())
			}
		})
	}
}

func TestRefusedIsTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	got := runOne(t, Config{Targets: []Target{{Name: "a", URL: "http://" + l.Addr().String()}}})
	if diff := cmp.Diff([]ErrorCount{{Refused, 1}}, got.Errors); diff != "" {
		t.Errorf("(-want +got):\n%s%s", diff, got.LastError)
	}
}

func TestWhoAnsweredIsTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who := r.Header.Get("X-As"); who != "" {
			w.Header().Set("X-App", who)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	target := func(who string) Target {
		return Target{Name: "a", URL: server.URL, Header: map[string]string{"X-As": who}, Expect: "shop"}
	}
	for _, c := range []struct {
		who               string
		byApp, byProxy    uint64
		misrouted, failed uint64
	}{
		{"shop", 1, 0, 0, 0},
		{"cart", 1, 0, 1, 1},
		{"", 0, 1, 0, 1},
	} {
		got := runOne(t, Config{Targets: []Target{target(c.who)}, AppHeader: "X-App"})
		want := []CodeCount{{Code: 503, ByApp: c.byApp, ByProxy: c.byProxy}}
		if diff := cmp.Diff(want, got.Codes); diff != "" || got.Misrouted != c.misrouted || got.Failed() != c.failed {
			t.Errorf("%q: misrouted %d, failed %d, codes (-want +got):\n%s", c.who, got.Misrouted, got.Failed(), diff)
		}
	}
}

func TestEveryRequestHasAnIDAndItsOwnConnection(t *testing.T) {
	for _, keep := range []bool{false, true} {
		var mu sync.Mutex
		ids, conns := make(map[string]int), make(map[string]int)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			ids[r.Header.Get(DefaultIDHeader)]++
			conns[r.RemoteAddr]++
			if b, _ := io.ReadAll(r.Body); r.Method != http.MethodPost || string(b) != "hello" {
				t.Errorf("the server got %s %q", r.Method, b)
			}
			fmt.Fprint(w, "fine")
		}))
		cfg := Config{Rate: 500, Requests: 100, KeepAlive: keep, MaxInFlight: 5}
		cfg.Targets = []Target{{Name: "a", URL: server.URL, Method: "POST", Body: "hello"}}
		got := runOne(t, cfg)
		server.Close()
		if got.Code(200)+got.Overflow != 100 || len(ids) != int(got.Code(200)) || got.Failed() != 0 {
			t.Errorf("keep-alive %v: %d ids, %+v", keep, len(ids), got)
		}
		if !keep && len(conns) != len(ids) || keep && len(conns) > cfg.MaxInFlight {
			t.Errorf("keep-alive %v: %d connections", keep, len(conns))
		}
	}
}

func TestAClosedIdleConnectionIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []string
		serve := func(c net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			ids = append(ids, req.Header.Get(DefaultIDHeader))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // and closes, unannounced
		}
		g := piped(t, Config{Targets: one, Rate: 1, Requests: 3, KeepAlive: true}, serve)
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := g.Report().Total()
		if all.Code(200) != 3 || all.Reconnects != 2 || all.Failed() != 0 {
			t.Errorf("%+v", all)
		}
		want := []string{g.run + "-1", g.run + "-2+", g.run + "-3+"}
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
	})
}

func TestOnlyWhatIsSafeIsSentAgain(t *testing.T) {
	for _, c := range []struct {
		name, method, second string
	}{
		{"an answer had begun", "GET", "HTTP/1.1 200 OK\r\nContent-"},
		{"it is no question", "POST", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			g := piped(t, Config{
				Targets: []Target{{Name: "a", URL: "http://server/", Method: c.method}},
				Rate:    1, Requests: 2, KeepAlive: true,
			}, func(conn net.Conn) {
				r := bufio.NewReader(conn)
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					if asked++; asked == 2 {
						_, _ = io.WriteString(conn, c.second)
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			if err := g.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			all := g.Report().Total()
			want := []ErrorCount{{Reset, 1}}
			if diff := cmp.Diff(want, all.Errors); diff != "" || asked != 2 || all.Reconnects != 0 {
				t.Errorf("%s: asked %d times, %+v", c.name, asked, all)
			}
		})
	}
}

func TestHTTPS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.ServerName != "shop.local" {
			t.Errorf("asked for %q", r.TLS.ServerName)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	got := runOne(t, Config{Targets: []Target{{Name: "a", URL: server.URL, Host: "shop.local:443"}}, KeepAlive: true, Requests: 3})
	if got.Code(204) != 3 {
		t.Errorf("%+v", got)
	}
}

func TestConfigsThatMakeNoSense(t *testing.T) {
	fine := Target{Name: "a", URL: "http://127.0.0.1:1"}
	for _, c := range []Config{
		{},
		{Rate: -1},
		{Rate: math.NaN()},
		{Rate: 1, Timeout: -1},
		{Rate: 1, AppHeader: "a b"},
		{Rate: 1, Targets: []Target{{URL: "127.0.0.1:80"}}},
		{Rate: 1, Targets: []Target{{URL: "http://127.0.0.1", Path: "no-slash"}}},
		{Rate: 1, Targets: []Target{{URL: "http://127.0.0.1", Host: "a\r\nX: y"}}},
		{Rate: 1, Targets: []Target{{URL: "http://127.0.0.1", Header: map[string]string{"a": "b\nc"}}}},
		{Rate: 1, Targets: []Target{fine, {URL: "http://127.0.0.1", Weight: -1}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestReportIsJSON(t *testing.T) {
	r := Report{Targets: []TargetReport{{Name: "a", Codes: []CodeCount{{200, 1, 2}}}}}
	r.Targets[0].Latency.Add(time.Second)
	b, err := json.Marshal(r.Total())
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Name    string
		Codes   []CodeCount
		Latency struct{ Count, P50 float64 }
	}
	if err := json.Unmarshal(b, &back); err != nil || back.Name != "total" || back.Latency.P50 != 1 || back.Codes[0].ByProxy != 2 {
		t.Errorf("%s: %v", b, err)
	}
}

func TestDeadlinesAreTimeouts(t *testing.T) {
	for _, err := range []error{os.ErrDeadlineExceeded, context.DeadlineExceeded, fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded})} {
		if got := classify(err, true); got != Timeout {
			t.Errorf("%v is %s", err, got)
		}
	}
	if got := classify(errors.New("odd"), false); got != Other {
		t.Errorf("got %s", got)
	}
}
