package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signalbox"
)

// ScrapeConfig is what a Scrape is made of.
type ScrapeConfig struct {
	Listen    []string // as CheckScrapeAddress reads them
	TokenFile string   // whose content must be shown as a bearer token; "": none is asked for
	Gatherer  prometheus.Gatherer
	Level     func() signalbox.Level
}

// Scrape answers /metrics and, with one word, /health to other machines: what may be read there changes nothing and is no secret of the
// machine's. It is beside the admin listener, which nobody reaches over a network.
type Scrape struct {
	cfg       ScrapeConfig
	token     string
	listeners []net.Listener
}

// CheckScrapeAddress reads ":9902", "10.0.0.5:9902" or "[::1]:9902": a port, and an IP address for one of the machine's alone.
func CheckScrapeAddress(s string) error {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		s = "0.0.0.0:" + port
	}
	if a, err := netip.ParseAddrPort(s); err != nil || a.Addr().Zone() != "" {
		return fmt.Errorf("metrics address %q: want a port, with an IP address of this machine in front of it or not, as in :9902 or 10.0.0.5:9902", s)
	}
	return nil
}

// NewScrape opens the listeners; Run answers on them. Whoever doesn't call Run calls Close.
func NewScrape(cfg ScrapeConfig) (*Scrape, error) {
	s := &Scrape{cfg: cfg}
	if cfg.TokenFile != "" {
		var err error
		if s.token, err = ReadToken(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	for _, address := range cfg.Listen {
		if err := CheckScrapeAddress(address); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening the metrics listener: %w", err), s.Close())
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

// Addresses returns where it listens, in the order of ScrapeConfig.Listen, with the ports that were chosen.
func (s *Scrape) Addresses() []string {
	out := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr().String()
	}
	return out
}

// Close closes the listeners. After Run it does nothing.
func (s *Scrape) Close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run answers until ctx ends, and then gives running requests two seconds.
func (s *Scrape) Run(ctx context.Context) error {
	return serve(ctx, s.listeners, func(net.Listener) http.Handler { return s.handler() })
}

func (s *Scrape) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(s.cfg.Gatherer))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		level := s.cfg.Level()
		w.WriteHeader(statusCode(level))
		_, _ = fmt.Fprintln(w, level) // a client that is gone is nobody's loss
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		if s.token != "" && r.URL.Path != "/health" && !bears(r, s.token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="signalbox"`)
			http.Error(w, "send the content of the file that --metrics-token-file names as \"Authorization: Bearer …\"", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// metricsHandler answers with metrics.
func metricsHandler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 30 * time.Second,
	})
}
