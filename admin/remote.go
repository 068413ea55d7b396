package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signalbox"
)

// RemoteConfig is what a Remote is made of.
type RemoteConfig struct {
	Listen    []string // as CheckRemoteAddress reads them
	TokenFile string   // whose content must be shown, as a bearer token or as the password of basic authentication; "": none is asked for
	Handler   http.Handler
	Open      []string // paths for which no token is asked
}

// Remote answers other machines over plain HTTP: what it is given must be no secret of the machine's, and change nothing on it. It is beside
// the admin listener, which nobody reaches over a network.
type Remote struct {
	cfg       RemoteConfig
	token     string
	listeners []net.Listener
}

// CheckRemoteAddress reads ":9902", "10.0.0.5:9902" or "[::1]:9902": a port, and an IP address for one of the machine's alone.
func CheckRemoteAddress(s string) error {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		s = "0.0.0.0:" + port
	}
	if a, err := netip.ParseAddrPort(s); err != nil || a.Addr().Zone() != "" {
		return fmt.Errorf("address %q: want a port, with an IP address of this machine in front of it or not, as in :9902 or 10.0.0.5:9902", s)
	}
	return nil
}

// NewRemote opens the listeners; Run answers on them. Whoever doesn't call Run calls Close.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	r := &Remote{cfg: cfg}
	if cfg.TokenFile != "" {
		var err error
		if r.token, err = ReadToken(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	for _, address := range cfg.Listen {
		if err := CheckRemoteAddress(address); err != nil {
			return nil, errors.Join(err, r.Close())
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening a listener for other machines: %w", err), r.Close())
		}
		r.listeners = append(r.listeners, l)
	}
	return r, nil
}

// Addresses returns where it listens, in the order of RemoteConfig.Listen, with the ports that were chosen.
func (r *Remote) Addresses() []string {
	out := make([]string, len(r.listeners))
	for i, l := range r.listeners {
		out[i] = l.Addr().String()
	}
	return out
}

// Close closes the listeners. After Run it does nothing.
func (r *Remote) Close() error {
	var errs []error
	for _, l := range r.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run answers until ctx ends, and then gives running requests two seconds.
func (r *Remote) Run(ctx context.Context) error {
	return serve(ctx, r.listeners, func(net.Listener) http.Handler { return r.guard() })
}

// guard asks for the token before anything else.
func (r *Remote) guard() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		secure(w.Header())
		if r.token == "" || slices.Contains(r.cfg.Open, req.URL.Path) || bears(req, r.token) {
			r.cfg.Handler.ServeHTTP(w, req)
			return
		}
		if _, password, ok := req.BasicAuth(); ok && sameSecret(password, r.token) && !crossSite(req) {
			r.cfg.Handler.ServeHTTP(w, req)
			return
		}
		w.Header().Add("WWW-Authenticate", `Bearer realm="signalbox"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="signalbox"`)
		writeJSON(w, http.StatusUnauthorized, map[string]string{
			"apiVersion": APIVersion, "error": `send the token as "Authorization: Bearer …", or as the password of any user`,
		})
	})
}

// ForScrapes answers /metrics and, with one word, /health.
func ForScrapes(g prometheus.Gatherer, level func() signalbox.Level) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(g))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { oneWord(w, level()) })
	return mux
}

func oneWord(w http.ResponseWriter, level signalbox.Level) {
	w.WriteHeader(statusCode(level))
	_, _ = fmt.Fprintln(w, level) // a client that is gone is nobody's loss
}

// metricsHandler answers with metrics.
func metricsHandler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 30 * time.Second,
	})
}
