package admin

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox"
)

func startScrape(t *testing.T, level *signalbox.Level, tokenFile string) (url string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "seen_total", Help: "For a test."}))
	s, err := NewRemote(RemoteConfig{
		Listen: []string{"127.0.0.1:0"}, TokenFile: tokenFile, Open: []string{"/health"}, Handler: ForScrapes(registry, func() signalbox.Level { return *level }),
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
	return "http://" + s.Addresses()[0]
}

// Other machines read the metrics, and one word of the health, and nothing else.
func TestScrape(t *testing.T) {
	level := signalbox.OK
	url := startScrape(t, &level, "")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, q := range []struct {
		method, path string
		code         int
		words        string
	}{
		{"GET", "/metrics", 200, "seen_total 0"},
		{"GET", "/health", 200, "ok\n"},
		{"POST", "/metrics", 405, ""},
		{"GET", "/", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
		{"GET", "/api/v1/state", 404, ""},
		{"GET", "/api/v1/tail", 404, ""},
		{"POST", "/api/v1/hold", 404, ""},
	} {
		if code, _, body := do(t, c, q.method, url+q.path, "Host: slave-1.example.com"); code != q.code || !strings.Contains(body, q.words) {
			t.Errorf("%s %s: %d %s", q.method, q.path, code, body)
		}
	}
	level = signalbox.Failing
	if code, _, body := do(t, c, "GET", url+"/health"); code != 503 || body != "failing\n" {
		t.Errorf("%d %s", code, body)
	}
}

func TestScrapeWithToken(t *testing.T) {
	level := signalbox.OK
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := startScrape(t, &level, file)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for header, want := range map[string]int{
		"Authorization: Bearer 0123456789abcdef0123": 200, "Authorization: Bearer 0123456789abcdef012": 401, "Authorization: Basic 0123456789abcdef0123": 401,
		"X: y": 401, "Authorization: Basic YW55OjAxMjM0NTY3ODlhYmNkZWYwMTIz": 200, "Authorization: Basic YW55OnNvbWV0aGluZw==": 401,
	} {
		if code, _, body := do(t, c, "GET", url+"/metrics", header); code != want {
			t.Errorf("%s: %d %s", header, code, body)
		}
	}
	if code, _, _ := do(t, c, "GET", url+"/health"); code != 200 {
		t.Errorf("one word of health asks for a token: %d", code)
	}
}

func TestScrapeAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		":9902": true, "0.0.0.0:9902": true, "10.0.0.5:9902": true, "[::]:9902": true, "[fe80::1%eth0]:9902": false,
		"": false, "9902": false, ":": false, ":99999": false, "localhost:9902": false, "slave-1:9902": false,
	} {
		if err := CheckRemoteAddress(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := NewRemote(RemoteConfig{Listen: []string{"127.0.0.1:0"}, TokenFile: "/nowhere"}); err == nil {
		t.Error("a token file that is missing is no error")
	}
}
