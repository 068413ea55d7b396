package devcluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signalbox/devcluster/agent"
)

// Server is a running dev cluster. It is a prometheus.Collector of its own counters.
type Server struct {
	cfg     Config
	cluster *cluster
	nodes   []*node
	faults  *faults
	leader  atomic.Int32
	elected atomic.Int64 // nobody leads before, in Unix nanoseconds
	slots   chan struct{}
	forward *http.Transport
	serving sync.WaitGroup
	tempDir string
	closing sync.Once
	closed  error
}

// node is one Marathon of the cluster: the leader or a standby.
type node struct {
	s     *Server
	index int32
	url   string
	http  *http.Server
}

// Start starts a dev cluster, which listens when Start returns. It runs until Close, or until ctx ends.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, forward: &http.Transport{DisableCompression: true}}
	if cfg.Dir == "" {
		if s.tempDir, err = os.MkdirTemp("", "signalbox-devcluster-"); err != nil {
			return nil, fmt.Errorf("making the dev cluster's directory: %w", err)
		}
		cfg.Dir = s.tempDir
	} else if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the dev cluster's directory: %w", err)
	}
	s.cfg = cfg
	if cfg.MaxConcurrentRequests > 0 {
		s.slots = make(chan struct{}, cfg.MaxConcurrentRequests)
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	context.AfterFunc(ctx, func() { _ = s.Close() }) // who asks for the error calls Close
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	var kept *store
	if s.cfg.Persist {
		var err error
		if kept, err = openStore(filepath.Join(s.cfg.Dir, "state")); err != nil {
			return err
		}
	}
	c := newCluster(s.cfg, kept)
	s.cluster = c
	s.faults = newFaults(s)
	c.mu.Lock() // the agent's first words wait until all is in place
	if err := s.startAgent(); err != nil {
		c.mu.Unlock()
		return err
	}
	if kept != nil {
		apps, errs := kept.load()
		groups, err := kept.loadGroups()
		for _, e := range append(errs, err) {
			if e != nil {
				s.cfg.Log.WithError(e).Error("some state is lost")
			}
		}
		c.groups = groups
		for _, a := range apps {
			c.holdServicePorts(a.spec)
		}
		c.apps = apps
		for _, id := range sortedKeys(apps) {
			c.touch(apps[id])
		}
	}
	c.mu.Unlock()
	for n, addr := range append([]string{s.cfg.Listen}, s.cfg.StandbyListen...) {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listening for Marathon's API: %w", err)
		}
		nd := &node{s: s, index: int32(n), url: "http://" + l.Addr().String()}
		nd.http = &http.Server{Handler: nd, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second}
		s.nodes = append(s.nodes, nd)
		s.serving.Go(func() {
			if err := nd.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.cfg.Log.WithError(err).Error("Marathon's API is served no more")
			}
		})
	}
	return nil
}

func (s *Server) startAgent() error {
	cfg := agent.Config{Dir: s.cfg.Dir, Linger: s.cfg.Linger, OwnListeners: s.cfg.OwnListeners, Log: s.cfg.Log}
	if s.tempDir != "" {
		cfg.Cleanup = []string{s.tempDir}
	}
	if len(s.cfg.RemoteAgents) > 0 {
		f, err := newFleet(s.cfg, s.cluster)
		if err != nil {
			return err
		}
		s.cluster.agent = f
		return nil
	}
	if s.cfg.Virtual {
		v, err := agent.NewVirtual(cfg, s.cluster.status)
		if err != nil {
			return fmt.Errorf("starting the virtual agent: %w", err)
		}
		s.cluster.agent, s.cluster.placer = v, v
		return nil
	}
	p, err := agent.NewProcesses(cfg, s.cluster.status)
	if err != nil {
		return fmt.Errorf("starting the agent: %w", err)
	}
	s.cluster.agent = p
	return nil
}

// URL is where the cluster's first Marathon listens, "http://127.0.0.1:8080". It leads unless it has abdicated.
func (s *Server) URL() string { return s.nodes[0].url }

// StandbyURLs are where the others listen.
func (s *Server) StandbyURLs() []string {
	var urls []string
	for _, n := range s.nodes[1:] {
		urls = append(urls, n.url)
	}
	return urls
}

// LeaderURL is where the Marathon that leads listens.
func (s *Server) LeaderURL() string { return s.nodes[s.leader.Load()].url }

// Close kills all tasks, waits for their end, and removes everything but kept state. It may be called again.
func (s *Server) Close() error {
	s.closing.Do(func() {
		var errs []error
		if s.cluster != nil {
			s.faults.stop()
			s.cluster.cancel()
		}
		for _, n := range s.nodes {
			errs = append(errs, n.http.Close())
		}
		s.serving.Wait()
		if s.cluster != nil {
			errs = append(errs, s.cluster.close())
		}
		s.forward.CloseIdleConnections()
		if s.tempDir != "" {
			errs = append(errs, os.RemoveAll(s.tempDir))
		}
		if err := errors.Join(errs...); err != nil {
			s.closed = fmt.Errorf("closing the dev cluster: %w", err)
		}
	})
	return s.closed
}

// abdicate makes the next Marathon lead, after a moment in which none does. Event streams end.
func (s *Server) abdicate(gap time.Duration) {
	if gap <= 0 {
		gap = 200 * time.Millisecond
	}
	s.elected.Store(time.Now().Add(gap).UnixNano())
	s.leader.Store((s.leader.Load() + 1) % int32(len(s.nodes)))
	s.cluster.bus.closeAll()
}

func (s *Server) leaderless() bool { return time.Now().UnixNano() < s.elected.Load() }

// ServeHTTP answers as this Marathon: itself when it leads, otherwise with what the leader says.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := n.s
	s.cluster.count.requests.WithLabelValues(method(r.Method)).Inc()
	if s.slots != nil && !strings.HasPrefix(r.URL.Path, "/v2/events") {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			http.Error(w, fmt.Sprintf("Too many concurrent requests! Allowed: %d.", s.cfg.MaxConcurrentRequests), http.StatusServiceUnavailable)
			return
		}
	}
	if !s.authorised(w, r) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/devcluster/") {
		s.faults.serve(w, r)
		return
	}
	if n.index != s.leader.Load() {
		n.standby(w, r)
		return
	}
	if s.leaderless() {
		jettyError(w, http.StatusBadGateway, "Could not determine the current leader")
		return
	}
	h := w.Header()
	h.Set("X-Marathon-Leader", n.url)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-XSS-Protection", "1; mode=block")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "0")
	if s.faults.intercept(w, r) {
		return
	}
	s.route(w, r)
}

func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	default:
		return "other"
	}
}

// authorised answers 401 and is false, unless the request carries what the configuration asks for.
func (s *Server) authorised(w http.ResponseWriter, r *http.Request) bool {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	if s.cfg.Username == "" && s.cfg.Token == "" {
		return true
	}
	if s.cfg.Token != "" {
		given := r.Header.Get("Authorization")
		for _, prefix := range []string{"Bearer ", "token="} {
			if t, ok := strings.CutPrefix(given, prefix); ok && same(t, s.cfg.Token) {
				return true
			}
		}
	}
	if s.cfg.Username != "" {
		if u, p, ok := r.BasicAuth(); ok && same(u, s.cfg.Username) && same(p, s.cfg.Password) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="Mesosphere"`)
		jettyError(w, http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized))
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"message":"Not Authorized to perform this action!"}`)) // a client that went away is its own affair
	return false
}

// jettyError is an error as Marathon's HTTP server itself answers it.
func jettyError(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "text/html;charset=iso-8859-1")
	w.Header().Set("Cache-Control", "must-revalidate,no-cache,no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html>\n<head>\n<meta http-equiv=\"Content-Type\" content=\"text/html;charset=utf-8\"/>\n<title>Error %d %s</title>\n</head>\n"+
		"<body><h2>HTTP ERROR %d</h2>\n<p>Reason:\n<pre>    %s</pre></p>\n</body>\n</html>\n", status, reason, status, reason)
}

// reply sends a whole body, compressed if the client takes that.
func reply(w http.ResponseWriter, r *http.Request, status int, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	if len(body) >= 256 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // a valid level
		_, _ = z.Write(body)                            // to memory
		_ = z.Close()
		h.Set("Content-Encoding", "gzip")
		h.Set("Vary", "Accept-Encoding")
		body = b.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is its own affair
}

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
