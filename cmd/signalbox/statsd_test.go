package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signalbox"
	"signalbox/admin"
)

// What services send stands on /metrics beside what is ours, whatever name they take.
func TestServicesReportByStatsD(t *testing.T) {
	s := defaults()
	dir := t.TempDir()
	adminSocket, socket := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "statsd.sock")
	s.StateDir, s.Admin, s.HTTPBind = t.TempDir(), []string{"unix:" + adminSocket}, []string{"127.0.0.1:8000"}
	s.StatsD, s.StatsDMapping = []string{"127.0.0.1:0", "unix:" + socket}, "testdata/statsd.yml"
	if err := s.validate(); err != nil {
		t.Fatal(err)
	}
	j, err := newJournal(io.Discard, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(&s, j, lifetime{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	ctx, stop := context.WithCancel(t.Context())
	taken, answered := stage(ctx, c.statsd.Run, "statsd"), stage(ctx, c.admin.Run, "admin")
	defer func() {
		stop()
		if err := taken.end(); err != nil {
			t.Error(err)
		}
		if err := answered.end(); err != nil {
			t.Error(err)
		}
	}()
	for _, address := range c.statsd.Addresses() {
		network := "udp"
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, address = "unixgram", path
		}
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("checkout.slow.north:2|c\ncart.items:3|g|#shop:north\nsignalbox_log_counted_total:7|c\ngo_goroutines:1|c")); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for c.statsd.Status().Samples < 8 {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", c.statsd.Status())
		}
		time.Sleep(time.Millisecond)
	}
	text := scrape(t, adminSocket)
	for _, line := range []string{
		`checkout_slow_total{region="north"} 4`, `cart_items{shop="north"} 3`, "signalbox_log_counted_total 0", "# TYPE go_goroutines gauge",
		`signalbox_statsd_bad_total{reason="name_reserved"} 4`, "signalbox_statsd_series 2",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the scrape has no %s", line)
		}
	}
	status := c.statsdStatus()
	if status.Level != signalbox.OK || status.Samples != 8 || status.Bad != 4 || status.Series != 2 {
		t.Errorf("%+v", status)
	}
	if h := admin.HealthOf(signalbox.Status{StatsD: status}); h.StatsD.Samples != 8 || len(h.StatsD.Addresses) != 2 {
		t.Errorf("%+v", h.StatsD)
	}
}

func scrape(t *testing.T, socket string) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("http://signalbox/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return string(text)
}

func TestWrongStatsD(t *testing.T) {
	f := func(address, mapping, want string) {
		t.Helper()
		s := defaults()
		s.StatsDMapping = mapping
		if address != "" {
			s.StatsD = []string{address}
		}
		if err := s.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %q: %v", address, mapping, err)
		}
	}
	f("0.0.0.0:8125", "", "--statsd: ")
	f("", "/m.yml", "--statsd-mapping: goes together with --statsd")
}
