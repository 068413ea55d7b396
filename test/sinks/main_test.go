// Package sinks holds that the servers to which figures are pushed have, in the end, the values that were counted: StatsD, statsd_exporter and
// Graphite's carbon themselves, and Riemann's protocol as its own message types read it.
package sinks

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds each wait: ten times and more of what is usual, so that only what hangs exceeds it.
const patience = 2 * time.Minute

// servers is where what is built and fetched lies: riemannd, statsd_exporter, node_modules.
var servers string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "signalbox-sinks-")
	if err != nil {
		panic(err)
	}
	servers = dir
	code := 1
	if err := prepare(); err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// prepare builds the servers that are written in Go, and installs the one that is not.
func prepare() error {
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join("..", "servers", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(servers, name), b, 0o600); err != nil {
			return err
		}
	}
	for what, cmd := range map[string]*exec.Cmd{
		"building statsd_exporter and riemannd":            exec.Command("go", "-C", "../servers", "build", "-o", servers+"/", "tool", "./riemannd"),
		"installing statsd (npm is missing? test/install)": exec.Command("npm", "--prefix", servers, "ci", "--omit=optional", "--no-audit", "--no-fund", "--prefer-offline"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", what, err, out)
		}
	}
	return nil
}

// process is a started server with what it has printed.
type process struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	output bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// start runs a server until the end of the test.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...)}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = p, p, servers
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%v: run test/install test", err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			text := p.text()
			t.Logf("%s printed:\n%s", filepath.Base(name), text[max(0, len(text)-3000):])
		}
	})
	return p
}

// eventually waits for something to hold; last says what was seen last.
func eventually(t *testing.T, what string, holds func() bool, last func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s it does not hold that %s: %s", patience, what, last())
		}
	}
}

// accepts waits until a TCP port takes connections.
func accepts(t *testing.T, port int, p *process) {
	t.Helper()
	eventually(t, fmt.Sprintf("port %d takes connections", port), func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	}, p.text)
}
