// Package zookeeper starts real ZooKeeper ensembles for tests.
package zookeeper

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signalbox/test/ports"
	"signalbox/test/process"
)

// patience bounds each wait: ten times and more of what is usual, so that only what hangs exceeds it.
const patience = time.Minute

// Server is one ZooKeeper server on 127.0.0.1.
type Server struct {
	*process.Process

	Address string // host:port for clients

	tb  testing.TB
	id  int
	dir string
}

// Ensemble is a number of servers that elect a leader.
type Ensemble []*Server

// Start starts an ensemble of n servers until the end of the test, and waits for its leader.
func Start(tb testing.TB, n int) Ensemble {
	tb.Helper()
	var e Ensemble
	var peers strings.Builder
	for i := range n {
		s := &Server{Address: ports.Address(tb), tb: tb, id: i + 1, dir: tb.TempDir()}
		s.Process = process.New(tb, fmt.Sprintf("server %d", s.id))
		fmt.Fprintf(&peers, "server.%d=127.0.0.1:%d:%d\n", s.id, ports.Free(tb), ports.Free(tb))
		e = append(e, s)
	}
	for _, s := range e {
		_, port, _ := net.SplitHostPort(s.Address)
		config := fmt.Sprintf("tickTime=200\ninitLimit=50\nsyncLimit=10\nminSessionTimeout=400\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n"+
			"dataDir=%s/data\nclientPort=%s\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\nforceSync=no\n", s.dir, port)
		if n > 1 {
			config += peers.String()
		}
		s.write("zoo.cfg", config)
		s.write("log4j.properties", "log4j.rootLogger=WARN,out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\nlog4j.appender.out.layout=org.apache.log4j.SimpleLayout\n")
	}
	e.StartAll()
	return e
}

// URL returns zk://host:port,host:port with a path.
func (e Ensemble) URL(path string) string { return "zk://" + strings.Join(e.Servers(), ",") + path }

// Servers returns the addresses for clients.
func (e Ensemble) Servers() (all []string) {
	for _, s := range e {
		all = append(all, s.Address)
	}
	return all
}

// StartAll starts the servers that are down, and waits for a leader.
func (e Ensemble) StartAll() {
	for _, s := range e {
		if !s.Runs() {
			s.Start()
		}
	}
	for _, s := range e {
		s.Ready()
	}
}

// Leader returns the server that leads, or is alone.
func (e Ensemble) Leader() *Server {
	e[0].tb.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, s := range e {
			if mode := s.mode(); mode == "leader" || mode == "standalone" {
				return s
			}
		}
	}
	e[0].tb.Fatal("no server leads")
	return nil
}

// Start starts the server.
func (s *Server) Start() {
	s.tb.Helper()
	s.write("data/myid", fmt.Sprintln(s.id))
	s.Run("java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
		"-cp", s.dir+":/usr/share/java/zookeeper.jar", "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
}

// Ready waits until the server serves.
func (s *Server) Ready() {
	s.tb.Helper()
	for end := time.Now().Add(patience); s.mode() == ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.tb.Fatalf("server %d does not serve after %s", s.id, patience)
		}
	}
}

// Wipe removes all that a dead server knew.
func (s *Server) Wipe() {
	s.tb.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.tb.Fatal(err)
	}
}

// Ask sends one of ZooKeeper's words of four letters, and returns the answer; "" if there is none.
func (s *Server) Ask(word string) string {
	conn, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.WriteString(conn, word)
	b, _ := io.ReadAll(conn)
	return string(b)
}

// mode returns leader, follower or standalone, "" while the server does not serve.
func (s *Server) mode() string {
	_, rest, _ := strings.Cut(s.Ask("srvr"), "Mode: ")
	mode, _, _ := strings.Cut(rest, "\n")
	return mode
}

func (s *Server) write(name, content string) {
	s.tb.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		s.tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.tb.Fatal(err)
	}
}
