package sink

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"signalbox/metrics"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden holds text against a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

var here = Context{Node: "node-1.example", Interval: 10 * time.Second}

// parse reads a target that must be right.
func parse(t *testing.T, text string) *Target {
	t.Helper()
	target, err := Parse(text, here)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func lasted(us ...uint64) (h metrics.Histogram) {
	for _, one := range us {
		h.Observe(one)
	}
	return h
}

// sample is an interval of ten seconds with two busy services and a silent one.
func sample() *Interval {
	end := time.Unix(1795230850, 0).UTC()
	cart := metrics.ServiceTotals{
		Service: "/shop/cart.v2:0", Requests: 8,
		Codes:        []metrics.CodeCount{{Method: "GET", Code: "200", Count: 5}, {Method: "GET", Code: "503", Count: 1}, {Method: "POST", Code: "201", Count: 2}},
		Terminations: []metrics.TerminationCount{{Cause: "normal", Phase: "end", Count: 7}, {Cause: "server_closed", Phase: "headers", Count: 1}},
		Failures:     []metrics.FailureCount{{Reason: "no_server", Count: 1}, {Reason: "server_closed", State: "draining", Count: 1}},
		TLS:          []metrics.TLSCount{{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", Count: 3}},
		BytesIn:      1000, BytesOut: 20000, Retries: 1, Redispatches: 1, Local: 6, Remote: 2,
		Duration: lasted(0, 1000, 1000, 1000, 2000, 4000, 250000, 1000000), Response: lasted(900, 900, 900),
		Routes: []metrics.Part{{Name: "/cart/{id}", Classes: []metrics.ClassCount{{Method: "GET", Class: "2xx", Count: 7}}, Duration: lasted(1000)}},
		Callers: []metrics.Part{{
			Name: "/shop/web", Classes: []metrics.ClassCount{{Method: "GET", Class: "2xx", Count: 2}}, Failures: []metrics.ReasonCount{{Reason: "connect", Count: 1}},
			BytesIn: 100, BytesOut: 200, Duration: lasted(1000),
		}},
		Tasks: []metrics.Part{{Name: "shop_cart.8d3c-11ee", Classes: []metrics.ClassCount{{Method: "GET", Class: "2xx", Count: 7}, {Method: "GET", Class: "5xx", Count: 1}}, Duration: lasted(1000)}},
		SLO:   &metrics.SLOTotals{Share: 0.99, Judged: 8, Good: 7},
	}
	return &Interval{From: end.Add(-10 * time.Second), To: end, Delta: &metrics.Snapshot{
		Nodes: []string{here.Node}, At: end, Loss: metrics.Loss{Sent: 12, Counted: 10, Lost: 1, Bad: 1},
		Services: []metrics.ServiceTotals{
			cart,
			{Service: "/silent:0"},
			{Service: "none", Requests: 2, Codes: []metrics.CodeCount{{Method: "GET", Code: "404", Count: 2}}, Duration: lasted(100, 100)},
		},
	}}
}
