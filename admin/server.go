package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"signalbox"
	"signalbox/metrics"
)

// maxConns bounds the connections of each listener; more wait.
const maxConns = 64

// Config is what a Server is made of. Its functions are called at the same time by several requests.
type Config struct {
	Listen      []Address
	TokenFile   string // made if it is missing; asked for as soon as an address is TCP
	SocketGroup string // the group of the unix sockets, "" for the process' own

	Status   func() signalbox.Status
	Services func() []ServiceStat // nil: none are counted
	// Windows returns what was counted over a span up to now; nil: nothing is.
	Windows func(span time.Duration) []ServiceStat
	Render  func() ([]File, error)              // nil: nothing is rendered
	Live    func() ([]File, error)              // as they stand on disk, where HAProxy reads them
	State   func() (State, error)               // nil: nothing is known
	Why     func(app string) (Why, error)       // an app that nobody knows is ErrUnknown
	Explain func(Question) (Explanation, error) // one that cannot be read is ErrQuestion
	Operate *Operate                            // nil: nobody orders anything
	// Watch begins to watch the requests that pass; nil: none are seen.
	Watch    func(metrics.Interest) (*metrics.Watch, error)
	Gatherer prometheus.Gatherer
	Web      fs.FS // templates.Web

	Log logrus.FieldLogger // nil: discard
}

// Server answers on the admin listeners. It is a prometheus.Collector.
type Server struct {
	cfg       Config
	log       logrus.FieldLogger
	token     string
	made      bool
	pages     *pages
	listeners []net.Listener
	mux       *http.ServeMux
	orders    map[string]bool // paths that take POST
	sessions  sessions
	ending    chan struct{} // closed when Run ends: answers without an end of their own end
	requests  *prometheus.CounterVec
	refused   *prometheus.CounterVec
}

// New opens the listeners; Run answers on them. Whoever doesn't call Run calls Close.
func New(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg,
		log: cfg.Log, ending: make(chan struct{}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_admin_requests_total", Help: "Requests to the admin listener, by status code.",
		}, []string{"code"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_admin_refused_total",
			Help: "Requests that the admin listener refused, by reason: host, method, site, token.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"host", "method", "site", "token"} {
		s.refused.WithLabelValues(reason)
	}
	if s.log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		s.log = discard
	}
	var err error
	if s.pages, err = newPages(cfg.Web); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(cfg.Listen, func(a Address) bool { return a.Socket == "" }) {
		if s.token, s.made, err = ensureToken(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	for _, a := range cfg.Listen {
		l, err := a.listen(cfg.SocketGroup)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.listeners = append(s.listeners, l)
	}
	s.routes()
	return s, nil
}

// Addresses returns where the server listens, in the order of Config.Listen, with the ports that were chosen.
func (s *Server) Addresses() []string {
	var out []string
	for _, l := range s.listeners {
		switch l := l.(type) {
		case *socketListener:
			out = append(out, "unix:"+l.path)
		default:
			out = append(out, l.Addr().String())
		}
	}
	return out
}

// TokenMade returns the path of the token file if New has made it, else "".
func (s *Server) TokenMade() string {
	if s.made {
		return s.cfg.TokenFile
	}
	return ""
}

// LoginURL returns the address of the health page with the token in it, or "" without a TCP listener. It is for the terminal of
// the person who started the program, never for a log.
func (s *Server) LoginURL() string {
	for _, l := range s.listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			u := url.URL{Scheme: "http", Host: a.String(), Path: "/health", RawQuery: url.Values{"token": {s.token}}.Encode()}
			return u.String()
		}
	}
	return ""
}

// Close closes the listeners. After Run it does nothing.
func (s *Server) Close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run answers until ctx ends, and then gives running requests two seconds.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { close(s.ending) })
	return serve(ctx, s.listeners, func(l net.Listener) http.Handler {
		_, socket := l.(*socketListener)
		return s.handler(!socket)
	})
}

// serve answers on each listener until ctx ends or one fails, and then gives running requests two seconds.
func serve(ctx context.Context, listeners []net.Listener, handler func(net.Listener) http.Handler) error {
	var group errgroup.Group
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, l := range listeners {
		srv := &http.Server{
			Handler:           handler(l),
			ConnContext:       withPeer,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      2 * time.Minute, // a CPU profile takes as long as it was asked to
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          nil,
		}
		group.Go(func() error {
			defer cancel() // one listener's failure ends the others
			if err := srv.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving the listener %s: %w", l.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := srv.Shutdown(stop); err != nil {
				return errors.Join(srv.Close())
			}
			return nil
		})
	}
	return group.Wait()
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	s.requests.Describe(ch)
	s.refused.Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.requests.Collect(ch)
	s.refused.Collect(ch)
}

// routes fills the mux with what is behind the token.
func (s *Server) routes() {
	s.mux, s.orders = http.NewServeMux(), map[string]bool{}
	get := func(path string, h http.HandlerFunc) { s.mux.HandleFunc("GET "+path, h) }
	get("/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/health", http.StatusFound) })
	get("/health", s.health)
	get("/routes", func(w http.ResponseWriter, _ *http.Request) { s.pages.routes(w, RoutesOf(s.cfg.Status())) })
	get("/api/v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, HealthOf(s.cfg.Status())) })
	get("/api/v1/routes", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, RoutesOf(s.cfg.Status())) })
	get("/api/v1/services", s.services)
	get("/api/v1/render", func(w http.ResponseWriter, _ *http.Request) { answer(w, filesOf(s.cfg.Render)) })
	get("/api/v1/live", func(w http.ResponseWriter, _ *http.Request) { answer(w, filesOf(s.cfg.Live)) })
	get("/api/v1/state", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.cfg.State) })
	if s.cfg.Explain != nil {
		get("/api/v1/explain", func(w http.ResponseWriter, r *http.Request) {
			answer(w, func() (Explanation, error) { return s.cfg.Explain(questionOf(r.URL.Query())) })
		})
	}
	if s.cfg.Why != nil {
		get("/api/v1/why", func(w http.ResponseWriter, r *http.Request) {
			answer(w, func() (Why, error) { return s.cfg.Why(r.URL.Query().Get("app")) })
		})
	}
	if s.cfg.Watch != nil {
		get("/api/v1/tail", s.tail)
	}
	s.operate(s.cfg.Operate)
	if s.cfg.Gatherer != nil {
		s.mux.Handle("GET /metrics", metricsHandler(s.cfg.Gatherer))
	}
	get("/debug/pprof/", pprof.Index)
	get("/debug/pprof/cmdline", pprof.Cmdline)
	get("/debug/pprof/profile", pprof.Profile)
	get("/debug/pprof/symbol", pprof.Symbol)
	get("/debug/pprof/trace", pprof.Trace)
}

// handler is what stands before the mux: which hosts, which methods, and over TCP the token.
func (s *Server) handler(guarded bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cw := &codeWriter{ResponseWriter: w}
		defer func() { s.requests.WithLabelValues(fmt.Sprint(cw.Code())).Inc() }()
		secure(cw.Header())
		switch {
		case guarded && !hostAllowed(r.Host):
			s.refuse(cw, r, "host", http.StatusMisdirectedRequest, "this listener answers to localhost and loopback addresses only")
			return
		case r.Method == http.MethodPost && s.orders[r.URL.Path]:
			// A session reads; an order shows the token itself.
			if guarded && !s.bearer(r) {
				s.refuse(cw, r, "token", http.StatusUnauthorized,
					"send the content of the token file ("+s.cfg.TokenFile+") as \"Authorization: Bearer …\" with an order")
				return
			}
			s.mux.ServeHTTP(cw, r)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			cw.Header().Set("Allow", "GET, HEAD")
			s.refuse(cw, r, "method", http.StatusMethodNotAllowed, "here one only reads: use GET")
			return
		case r.URL.Path == "/version":
			s.version(cw)
			return
		}
		if query := r.URL.Query(); guarded && query.Has("token") {
			s.login(cw, r, query)
			return
		}
		if !guarded || s.authorized(r) {
			s.mux.ServeHTTP(cw, r)
			return
		}
		switch {
		case r.URL.Path == "/health" && r.Header.Get("Authorization") == "":
			s.bareHealth(cw, r)
		case crossSite(r):
			s.refuse(cw, r, "site", http.StatusForbidden, "a page from elsewhere asks for this")
		default:
			s.refuse(cw, r, "token", http.StatusUnauthorized,
				"send the content of the token file ("+s.cfg.TokenFile+") as \"Authorization: Bearer …\", or open /health?token=… in a browser")
		}
	})
}

// secure sets the headers of every answer.
func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, reason string, code int, message string) {
	s.refused.WithLabelValues(reason).Inc()
	s.log.WithFields(logrus.Fields{"reason": reason, "path": r.URL.Path}).Debug("refused an admin request")
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="signalbox"`)
	}
	if wantsPage(r) {
		s.pages.refusal(w, code, message)
		return
	}
	writeJSON(w, code, map[string]string{"apiVersion": APIVersion, "error": message})
}

func (s *Server) version(w http.ResponseWriter) {
	writeJSON(w, http.StatusOK, struct{ Version string }{s.cfg.Status().Version})
}

// bareHealth says one word to whoever asks, and shows a browser where the token goes.
func (s *Server) bareHealth(w http.ResponseWriter, r *http.Request) {
	level := Verdict(s.cfg.Status())
	if wantsPage(r) {
		s.pages.bare(w, statusCode(level), level)
		return
	}
	writeJSON(w, statusCode(level), struct {
		APIVersion string          `json:"apiVersion"`
		Status     signalbox.Level `json:"status"`
	}{APIVersion, level})
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	status := s.cfg.Status()
	h := HealthOf(status)
	if wantsPage(r) {
		s.pages.health(w, statusCode(h.Status), h)
		return
	}
	writeJSON(w, statusCode(h.Status), h)
}

func (s *Server) services(w http.ResponseWriter, r *http.Request) {
	serveServices(w, r, s.cfg.Services, s.cfg.Windows)
}

// serveServices answers with what was counted for each service, in all or over a span; either function may be nil.
func serveServices(w http.ResponseWriter, r *http.Request, services func() []ServiceStat, windows func(time.Duration) []ServiceStat) {
	rows := []ServiceStat{}
	text := r.URL.Query().Get("span")
	switch {
	case text != "":
		span, err := time.ParseDuration(text)
		if err != nil || span < time.Second || span > MaxSpan {
			writeJSON(w, http.StatusBadRequest, map[string]string{"apiVersion": APIVersion, "error": "span must be a duration from 1s to 1h, such as 5m"})
			return
		}
		if windows != nil {
			rows = append(rows, windows(span)...)
		}
	case services != nil:
		rows = append(rows, services()...)
	}
	slices.SortFunc(rows, func(a, b ServiceStat) int { return strings.Compare(a.Service, b.Service) })
	writeJSON(w, http.StatusOK, Services{APIVersion: APIVersion, Services: rows})
}

// answer writes what f returns, or why it returns nothing.
func answer[T any](w http.ResponseWriter, f func() (T, error)) {
	if f == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"apiVersion": APIVersion, "error": "nothing is known about that here"})
		return
	}
	v, err := f()
	switch {
	case errors.Is(err, ErrUnknown):
		writeJSON(w, http.StatusNotFound, map[string]string{"apiVersion": APIVersion, "error": err.Error()})
	case errors.Is(err, ErrConflict):
		writeJSON(w, http.StatusConflict, map[string]string{"apiVersion": APIVersion, "error": err.Error()})
	case errors.Is(err, ErrQuestion):
		writeJSON(w, http.StatusBadRequest, map[string]string{"apiVersion": APIVersion, "error": err.Error()})
	case err != nil:
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"apiVersion": APIVersion, "error": err.Error()})
	default:
		writeJSON(w, http.StatusOK, v)
	}
}

// filesOf returns what answers with the files that f returns; nil for nil.
func filesOf(f func() ([]File, error)) func() (Render, error) {
	if f == nil {
		return nil
	}
	return func() (Render, error) {
		files, err := f()
		return Render{APIVersion: APIVersion, Files: files}, err
	}
}

// statusCode is what /health answers with: whatever serves is alive to a load balancer.
func statusCode(l signalbox.Level) int {
	if l == signalbox.Failing {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// wantsPage reports whether a browser asks.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html") && r.URL.Query().Get("format") != "json"
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		code, b = http.StatusInternalServerError, []byte(`{"error":"this answer has no JSON form"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // a client that is gone is nobody's loss
}

// codeWriter remembers the status code that was written.
type codeWriter struct {
	http.ResponseWriter
	code int
}

func (w *codeWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Code returns the status code, 200 if none was set.
func (w *codeWriter) Code() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// Unwrap lets http.ResponseController reach the connection.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
