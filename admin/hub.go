package admin

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/pprof"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox"
)

// HubConfig is what a hub answers with. Its functions are called at the same time by several requests.
type HubConfig struct {
	Services func() []ServiceStat
	Windows  func(span time.Duration) []ServiceStat
	Nodes    func() []HubNode
	Gatherer prometheus.Gatherer
	// Settled reports whether every machine has had the time to push since the hub began. Before that, sums are of some, and Prometheus would
	// take the arrival of the others for a rush of requests.
	Settled func() bool
	Version string
	// Profiles answers /debug/pprof/: not where nobody is asked for a token.
	Profiles bool
	Push     http.Handler            // takes POST requests
	PushTo   string                  // the path of Push
	More     map[string]http.Handler // by path, for GET
	Web      fs.FS                   // templates.Web
}

// HubNode is a machine that pushes to a hub.
type HubNode struct {
	Name     string
	Last     time.Time // when it did so last
	Late     bool
	Requests uint64 // that it has brought
}

// NewHub returns the answers of a hub: /metrics, a page, and what `signalbox stat` asks for, of the whole cluster.
func NewHub(cfg HubConfig) (http.Handler, error) {
	pages, err := newPages(cfg.Web)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+cfg.PushTo, cfg.Push)
	for path, h := range cfg.More {
		mux.Handle("GET "+path, h)
	}
	mux.HandleFunc("GET /api/v1/services", func(w http.ResponseWriter, r *http.Request) {
		serveServices(w, r, cfg.Services, cfg.Windows)
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { oneWord(w, signalbox.OK) })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, struct{ Version string }{cfg.Version})
	})
	metrics := metricsHandler(cfg.Gatherer)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !cfg.Settled() {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"apiVersion": APIVersion, "error": "the hub has just begun: not every machine has pushed yet"})
			return
		}
		metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		pages.write(w, http.StatusOK, "hub.html", view{Title: "cluster", Hub: hubView{Recent: cfg.Windows(time.Minute), Nodes: cfg.Nodes(), Settled: cfg.Settled()}, At: time.Now()})
	})
	if cfg.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux, nil
}

// hubView is what the page of a hub shows.
type hubView struct {
	Recent  []ServiceStat // of the last minute
	Nodes   []HubNode
	Settled bool
}

// Late counts the machines that are late.
func (v hubView) Late() (n int) {
	for _, node := range v.Nodes {
		if node.Late {
			n++
		}
	}
	return n
}

// NewHubClient returns a client of a hub at a URL, "http://hub.example:9903". The token file, "" for none, is read with each request.
func NewHubClient(base, tokenFile string) (*Client, error) {
	c, err := newRemoteClient(base, tokenFile)
	if err != nil {
		return nil, fmt.Errorf("%q is no URL of a hub: want http://HOST:PORT", base)
	}
	return c, nil
}

// newRemoteClient returns a client of what answers at a URL on another machine.
func newRemoteClient(base, tokenFile string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, ErrQuestion
	}
	return &Client{
		base: u.Scheme + "://" + u.Host, place: u.Host, tokenFile: tokenFile, asksToken: tokenFile != "",
		http: &http.Client{CheckRedirect: noRedirect},
	}, nil
}
