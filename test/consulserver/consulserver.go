// Package consulserver starts real Consul servers for tests.
package consulserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"signalbox/test/ports"
	"signalbox/test/process"
)

// patience bounds each wait: ten times and more of what is usual, so that only what hangs exceeds it.
const patience = time.Minute

var build = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	out := filepath.Join(root, "bin", "tools", "consul")
	cmd := exec.Command("go", "-C", filepath.Join(root, "test", "consul"), "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/hashicorp/consul")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Consul (minutes the first time, cached afterwards): %w\n%s", err, text)
	}
	return out, nil
})

// Server is one Consul server on 127.0.0.1.
type Server struct {
	*process.Process

	URL  string
	Name string

	tb     testing.TB
	dir    string
	config map[string]any
}

// New returns a cluster of n servers that are not started yet.
func New(tb testing.TB, n int) []*Server {
	tb.Helper()
	var all []*Server
	var join []string
	for i := range n {
		http, rpc, lan := ports.Free(tb), ports.Free(tb), ports.Free(tb)
		s := &Server{URL: fmt.Sprintf("http://127.0.0.1:%d", http), Name: fmt.Sprintf("c%d", i+1), tb: tb, dir: tb.TempDir()}
		s.Process = process.New(tb, s.Name)
		s.config = map[string]any{
			"server": true, "bootstrap_expect": n, "node_name": s.Name, "datacenter": "dc1", "data_dir": filepath.Join(s.dir, "data"),
			"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "disable_update_check": true, "disable_host_node_id": true,
			"ports":       map[string]int{"http": http, "server": rpc, "serf_lan": lan, "serf_wan": -1, "dns": -1, "grpc": -1},
			"performance": map[string]int{"raft_multiplier": 1}, "leave_on_terminate": false, "log_level": "warn",
			"autopilot": map[string]bool{"cleanup_dead_servers": false}, // it would deregister what is registered at a dead server
		}
		join = append(join, fmt.Sprintf("127.0.0.1:%d", lan))
		all = append(all, s)
	}
	for _, s := range all {
		if n > 1 {
			s.config["retry_join"], s.config["retry_interval"] = join, "1s"
		}
	}
	return all
}

// Start starts a single server, and waits until it leads.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := New(tb, 1)[0]
	s.Start()
	s.Ready()
	return s
}

// Start starts the server until the end of the test.
func (s *Server) Start() {
	s.tb.Helper()
	bin, err := build()
	if err != nil {
		s.tb.Fatal(err)
	}
	text, err := json.Marshal(s.config)
	if err != nil {
		s.tb.Fatal(err)
	}
	config := filepath.Join(s.dir, "consul.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		s.tb.Fatal(err)
	}
	s.Run(bin, "agent", "-config-file", config)
}

// Wipe removes all that a dead server knew.
func (s *Server) Wipe() {
	s.tb.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.tb.Fatal(err)
	}
}

// Ready waits until the server knows a leader that answers for the catalog and has registered itself.
func (s *Server) Ready() {
	s.tb.Helper()
	s.until("lists itself", func() bool {
		var all map[string][]string
		return s.Ask("/v1/catalog/services?consistent", &all) == nil && all["consul"] != nil
	})
}

// Up waits until the server answers at all.
func (s *Server) Up() {
	s.tb.Helper()
	s.until("answers", func() bool {
		var leader string
		return s.Ask("/v1/status/leader", &leader) == nil
	})
}

// Leads reports whether the server is the leader.
func (s *Server) Leads() bool {
	var self struct {
		Stats struct{ Consul map[string]string }
	}
	return s.Runs() && s.Ask("/v1/agent/self", &self) == nil && self.Stats.Consul["leader"] == "true"
}

func (s *Server) until(what string, holds func() bool) {
	s.tb.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.tb.Fatalf("after %s it does not hold that the server %s", patience, what)
		}
	}
}

// Service is a registration.
type Service struct {
	Name    string            `json:"Name"`
	ID      string            `json:"ID,omitempty"`
	Address string            `json:"Address,omitempty"`
	Port    int               `json:"Port,omitempty"`
	Tags    []string          `json:"Tags,omitempty"`
	Meta    map[string]string `json:"Meta,omitempty"`
	Kind    string            `json:"Kind,omitempty"`
	Proxy   map[string]string `json:"Proxy,omitempty"`
	Check   map[string]string `json:"Check,omitempty"`
}

// Register registers a service at the server's own agent, in place of one with its id.
func (s *Server) Register(v Service) {
	s.tb.Helper()
	s.Put("/v1/agent/service/register?replace-existing-checks=true", v)
}

// Deregister removes a service from the server's own agent.
func (s *Server) Deregister(id string) {
	s.tb.Helper()
	s.Put("/v1/agent/service/deregister/"+id, nil)
}

// Put asks the server to do something.
func (s *Server) Put(path string, body any) {
	s.tb.Helper()
	var last error
	s.until("does "+path, func() bool {
		b, err := json.Marshal(body)
		if err != nil {
			s.tb.Fatal(err)
		}
		last = s.send(http.MethodPut, path, b, nil)
		return last == nil
	})
}

// Ask asks the server.
func (s *Server) Ask(path string, into any) error { return s.send(http.MethodGet, path, nil, into) }

func (s *Server) send(method, path string, body []byte, into any) error {
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
