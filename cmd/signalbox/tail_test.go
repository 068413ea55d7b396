package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox/admin"
	"signalbox/metrics"
)

// sampleWatch returns watches of an aggregator through which the same requests pass again and again.
func sampleWatch(t *testing.T) func(metrics.Interest) (*metrics.Watch, error) {
	t.Helper()
	h := metrics.NewHistory(time.Hour)
	at := time.UnixMicro(1795230849279039)
	h.Set(at.Add(-time.Hour), "/shop/cart:0", []metrics.Placement{
		{Addr: "10.0.0.5:31002", Task: "shop_cart.5a1f0c1e-9a1b-11ee-8c90-0242ac120002", State: "up"},
		{Addr: "10.0.0.6:31877", Task: "shop_cart.instance-77aa0c1e-9a1b-11ee-8c90-0242ac120002._app.1", State: "draining"},
	})
	a := metrics.NewAggregator(metrics.AggregatorConfig{Directory: h})
	lines := []string{
		`SB1 H 1 web 0 200 ---- "/shop/cart:0" b1 s1 10.0.0.5:31002 127.0.0.1:5 1795230849 279 0 0 0 0 0 8 8 1795230849279039 8120 8130 57 73 0 0 0 - - "GET" "HTTP/1.1" "shop.local" "/cart/17"`,
		`SB1 H 1 web 1 502 SH-- "/shop/cart:0" b1 s2 10.0.0.6:31877 127.0.0.1:6 1795230849 280 0 0 0 0 0 900 900 1795230849280039 900120 900130 57 73 2 0 0 - - "POST" "HTTP/1.1" "shop.local" "/cart"`,
		`SB1 H 1 web 2 404 PR-- "" web -:- -:- 127.0.0.1:7 1795230849 281 0 0 0 -1 -1 -1 0 1795230849281039 -1 30 57 73 0 0 0 - - "GET" "HTTP/1.1" "nobody.local" "/"`,
	}
	records := make([]metrics.Record, len(lines))
	for i, line := range lines {
		if err := metrics.Parse([]byte(line), &records[i]); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				a.Consume(&metrics.Batch{Records: records, Source: 1, At: time.Now()})
			}
		}
	}()
	t.Cleanup(func() { close(ended); <-done })
	return a.Watch
}

func TestTailLines(t *testing.T) {
	t.Setenv("TZ", "UTC")
	var out, notes bytes.Buffer
	p := tailPrinter{out: &out, notes: &notes}
	p.print = p.printLine
	at := time.Date(2026, 3, 2, 12, 0, 0, 123e6, time.Local)
	requests := []metrics.Seen{
		{At: at, Service: "/shop/cart:0", Task: "shop_cart.5a1f0c1e-9a1b-11ee-8c90-0242ac120002", State: "up", Method: "GET", Host: "shop.local", Path: "/cart/17", Status: 200, Duration: 8120, Ended: "----"},
		{At: at, Service: "/api:0", Task: "10.0.0.7:31001", Method: "GET", Host: "api.local", Path: "/\x1b[2J", Status: 404, Duration: 450, Ended: "----"},
		{At: at, Service: "/db:0", Server: "10.0.0.7:31001", Client: "10.0.0.9:51234", Duration: 61_000_000, BytesIn: 1234, BytesOut: 98_765_432, Ended: "cD--", Reason: "client_timeout", Words: "client was silent for too long while the answer was sent"},
		{At: at, Service: "none", Method: "GET", Host: "nobody.local", Path: "/", Status: 404, Duration: 30, Ended: "PR--", Reason: "no_route", Words: "no service has this name and path"},
		{At: at, Service: "/shop/cart:0", Task: "shop_cart.instance-77aa0c1e-9a1b-11ee-8c90-0242ac120002._app.1", State: "draining", Method: "POST", Host: "shop.local", Path: "/cart", Duration: 1200, Retries: 2, Ended: "SC--", Reason: "connect", Words: "server refused the connection", During: "change"},
	}
	if err := p.part(admin.Tail{Seconds: 0.5, Requests: requests, Tally: metrics.Tally{Matched: 2345, Withheld: 40}}); err != nil {
		t.Fatal(err)
	}
	if err := p.part(admin.Tail{Seconds: 0.5}); err != nil {
		t.Fatal(err)
	}
	want := `12:00:00.123 200  8.12ms  /shop/cart:0 shop_cart.5a1f0c1e  GET shop.local/cart/17
12:00:00.123 404   450µs  /api:0       10.0.0.7:31001  GET api.local/\x1b[2J
12:00:00.123 tcp     61s  /db:0        10.0.0.7:31001  10.0.0.9:51234 1.23 kB in, 98.8 MB out  client was silent for too long while the answer was sent (cD--)
12:00:00.123 404    30µs  none         -  GET nobody.local/  no service has this name and path (PR--)
12:00:00.123   -   1.2ms  /shop/cart:0 shop_cart.77aa0c1e (draining)  POST shop.local/cart  after 2 retries  server refused the connection (SC--), while tasks changed
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff("showing 5 of 2,345 req/s; 40 are kept out of sight by the label signalbox.log\n", notes.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// tail shows what passes, filtered by the controller, and ends after as many as were asked for.
func TestTail(t *testing.T) {
	clearEnvironment(t)
	socket, _ := fakeController(t)
	for _, c := range []struct {
		args  []string
		lines int
		want  string // in every line
	}{
		{[]string{"-n", "7"}, 7, " "},
		{[]string{"cart", "-n", "3"}, 3, "/shop/cart:0"},
		{[]string{"--failed", "--status", "5xx", "-n", "2"}, 2, "server closed before sending headers (SH--)"},
		{[]string{"--path", "/cart/{id}", "-n", "2"}, 2, "GET shop.local/cart/17"},
		{[]string{"--slower", "500ms", "--method", "post", "-n", "2"}, 2, "POST shop.local/cart  after 2 retries"},
		{[]string{"none", "-n", "2", "-o", "json"}, 2, `"reason":"no_route"`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := invoke(t, append([]string{"tail", "--admin", socket}, c.args...)...)
			if code != exitOK {
				t.Fatalf("ends with %d: %s", code, stderr)
			}
			n := 0
			for line := range strings.Lines(stdout) {
				n++
				if !strings.Contains(line, c.want) {
					t.Errorf("not asked for: %s", line)
				}
			}
			if n != c.lines {
				t.Errorf("%d lines, want %d", n, c.lines)
			}
		})
	}
	code, _, stderr := invoke(t, "tail", "--admin", socket, "--rate", "1", "-n", "3")
	if code != exitOK || !strings.Contains(stderr, "showing ") {
		t.Errorf("of more than are asked for: %d, %q", code, stderr)
	}
	for _, args := range [][]string{{"--status", "6xx"}, {"--path", "cart"}, {"--slower", "-1s"}, {"--rate", "0"}} {
		code, _, stderr := invoke(t, append([]string{"tail", "--admin", socket}, args...)...)
		if code != exitUsage {
			t.Errorf("%q ends with %d: %s", args, code, stderr)
		}
	}
}
