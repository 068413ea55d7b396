package hub

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"signalbox/metrics"
)

// Config is what a Server works with. The zero value of a field takes its default.
type Config struct {
	Aggregator *metrics.Aggregator // that everything is added to; must be set
	Late       time.Duration       // after which a machine that sent nothing counts as late; 0: 30 s
	Forget     time.Duration       // after which it is forgotten; 0: 24 h
	MaxNodes   int                 // 0: 10,000
	Log        logrus.FieldLogger  // nil: discard
}

// Server takes the pushes of machines. It is safe for concurrent use, and a prometheus.Collector. It keeps nothing over a restart: the next
// Server begins with what the machines send next, of which none is lost.
type Server struct {
	cfg      Config
	received *prometheus.CounterVec
	nodes    *prometheus.Desc

	mu    sync.Mutex
	known map[[2]string]*Node // by name and run
}

// Node is a machine that pushes.
type Node struct {
	Name     string    `json:"node"`
	Run      string    `json:"run"`
	Sequence uint64    `json:"sequence"`
	Scrape   string    `json:"scrape,omitempty"` // where Prometheus reads its own metrics
	Last     time.Time `json:"last"`             // when a push came last
	Late     bool      `json:"late"`
	Requests uint64    `json:"requests"` // that it has brought, since this hub began
}

// The results of a push.
const (
	resultAdded    = "added"
	resultRepeated = "repeated" // it had been added before, and its answer was lost
	resultBad      = "bad"
	resultRefused  = "refused" // there are too many machines
)

// New returns a server of a hub.
func New(cfg Config) *Server {
	cfg.Late = cmp.Or(cfg.Late, 30*time.Second)
	cfg.Forget = cmp.Or(cfg.Forget, 24*time.Hour)
	cfg.MaxNodes = cmp.Or(cfg.MaxNodes, 10_000)
	if cfg.Log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		cfg.Log = discard
	}
	s := &Server{
		cfg: cfg, known: map[[2]string]*Node{},
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_hub_received_total",
			Help: "Pushes of machines by result: added, repeated (they had been added before), bad (they can't be read), refused (there are too many machines).",
		}, []string{"result"}),
		nodes: prometheus.NewDesc("signalbox_hub_nodes", "Machines that push to the hub, by state: fresh or late.", []string{"state"}, nil),
	}
	for _, result := range []string{resultAdded, resultRepeated, resultBad, resultRefused} {
		s.received.WithLabelValues(result)
	}
	return s
}

// ServeHTTP takes one push.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, err := readHeader(r.Header, r.RemoteAddr)
	if err != nil {
		s.refuse(w, resultBad, http.StatusBadRequest, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, metrics.MaxBinary))
	if err != nil {
		s.refuse(w, resultBad, http.StatusBadRequest, fmt.Errorf("reading a push: %w", err))
		return
	}
	inc, err := metrics.DecodeSnapshot(body)
	if err != nil {
		s.refuse(w, resultBad, http.StatusBadRequest, fmt.Errorf("reading a push: %w", err))
		return
	}
	result := s.add(&h, inc, time.Now())
	if result == resultRefused {
		s.refuse(w, result, http.StatusServiceUnavailable, fmt.Errorf("%d machines push to this hub already", s.cfg.MaxNodes))
		return
	}
	s.received.WithLabelValues(result).Inc()
	reply(w, http.StatusOK, map[string]string{"result": result})
}

func (s *Server) refuse(w http.ResponseWriter, result string, code int, err error) {
	s.received.WithLabelValues(result).Inc()
	s.cfg.Log.WithError(err).Debug("a push was not taken")
	reply(w, code, map[string]string{"error": err.Error()})
}

// reply answers in JSON.
func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone asks again
}

// add adds a push once, however often it comes.
func (s *Server) add(h *header, inc *metrics.Snapshot, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{h.node, h.run}
	n := s.known[key]
	if n == nil {
		if len(s.known) >= s.cfg.MaxNodes {
			return resultRefused
		}
		n = &Node{Name: h.node, Run: h.run}
		s.known[key] = n
		s.cfg.Log.WithFields(logrus.Fields{"node": h.node, "run": h.run}).Info("a machine pushes")
	}
	n.Last, n.Scrape = now, h.scrape
	if h.sequence <= n.Sequence {
		return resultRepeated
	}
	n.Sequence = h.sequence
	for i := range inc.Services {
		n.Requests += inc.Services[i].Requests
	}
	s.cfg.Aggregator.Add(inc, now)
	return resultAdded
}

// Tick forgets machines that sent nothing for long. It is called about once a second.
func (s *Server) Tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, n := range s.known {
		if now.Sub(n.Last) > s.cfg.Forget {
			delete(s.known, key)
		}
	}
}

// Nodes returns the machines that push, sorted by name: of each the process that did so last.
func (s *Server) Nodes(now time.Time) []Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := map[string]Node{}
	for _, n := range s.known {
		if was, ok := latest[n.Name]; !ok || was.Last.Before(n.Last) {
			one := *n
			one.Late = now.Sub(n.Last) > s.cfg.Late
			latest[n.Name] = one
		}
	}
	out := make([]Node, 0, len(latest))
	for _, n := range latest {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// ServeNodes answers with the machines that push.
func (s *Server) ServeNodes(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"nodes": s.Nodes(time.Now())})
}

// target is one group of targets, as Prometheus' HTTP service discovery reads them.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// ServeTargets answers with the machines whose own metrics can be read, for Prometheus' http_sd_configs.
func (s *Server) ServeTargets(w http.ResponseWriter, _ *http.Request) {
	out := []target{}
	for _, n := range s.Nodes(time.Now()) {
		if n.Scrape != "" {
			out = append(out, target{[]string{n.Scrape}, map[string]string{"node": n.Name}})
		}
	}
	reply(w, http.StatusOK, out)
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	s.received.Describe(ch)
	ch <- s.nodes
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.received.Collect(ch)
	fresh, late := 0, 0
	for _, n := range s.Nodes(time.Now()) {
		if n.Late {
			late++
		} else {
			fresh++
		}
	}
	ch <- prometheus.MustNewConstMetric(s.nodes, prometheus.GaugeValue, float64(fresh), "fresh")
	ch <- prometheus.MustNewConstMetric(s.nodes, prometheus.GaugeValue, float64(late), "late")
}
