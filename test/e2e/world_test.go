// Package e2e runs the real program against real parts, as its users would.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signalbox/admin"
)

// patience bounds each wait: ten times and more of what is usual, so that only what hangs exceeds it.
const patience = time.Minute

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "signalbox-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "signalbox")
	if out, err := exec.Command("go", "build", "-o", binary, "signalbox/cmd/signalbox").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is a started program with what it has printed.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	err    error
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

// start starts the program. What still runs at the end of the test is asked to end, and must.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.end(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s printed:\n%s", args[0], tail(p.text(), 8000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// end sends a signal and waits.
func (p *process) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	select {
	case <-p.ended:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Errorf("%v did not end by %v", p.cmd.Args, sig)
	}
}

// node is one machine: a controller with an HAProxy of its own.
type node struct {
	t          *testing.T
	dir        string
	proxy      string
	marathon   string
	controller *process
	admin      *admin.Client
}

func newNode(t *testing.T, marathon string) *node {
	t.Helper()
	dir := shortDir(t)
	n := &node{t: t, dir: dir, proxy: freeAddress(t), marathon: marathon}
	n.admin = admin.NewClient(admin.Address{Socket: filepath.Join(dir, "admin.sock")}, "")
	return n
}

// shortDir returns a temporary directory whose path leaves room for the names of sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sb") //nolint:usetesting // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (n *node) run(args ...string) {
	n.t.Helper()
	n.controller = start(n.t, nil, append([]string{
		"run", "--marathon", n.marathon, "--allow-loopback", "--state-dir", filepath.Join(n.dir, "state"),
		"--http-bind", n.proxy, "--service-bind", "127.0.0.1", "--admin", "unix:" + filepath.Join(n.dir, "admin.sock"), "--log-format", "text",
	}, args...)...)
}

// health returns the controller's own view.
func (n *node) health() admin.Health {
	n.t.Helper()
	h, err := n.admin.Health(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

// get asks a host through HAProxy, over a connection of its own, and returns the status code, or 0 with the error.
func (n *node) get(host, path string) (int, string) {
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+n.proxy+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Host = host
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// answers waits until a host answers with a status code.
func (n *node) answers(host, path string, code int) {
	n.t.Helper()
	var got int
	var body string
	eventually(n.t, fmt.Sprintf("%s%s answers %d", host, path, code), func() bool {
		got, body = n.get(host, path)
		return got == code
	}, func() string { return fmt.Sprintf("%d %s", got, body) })
}

// eventually waits for something to hold.
func eventually(t *testing.T, what string, holds func() bool, last func() string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s it does not hold that %s; the last was %s", patience, what, last())
		}
	}
}

// put gives Marathon something, and returns the answer's body.
func put(t *testing.T, base, path string, body any) string {
	t.Helper()
	return send(t, http.MethodPut, base, path, body)
}

func send(t *testing.T, method, base, path string, body any) string {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return string(answer)
}

// demoApp returns an app that runs demo-service.
func demoApp(id, host string, instances int) map[string]any {
	return map[string]any{
		"id": id, "cmd": "exec '" + binary + "' demo-service --name " + strings.Trim(id, "/"), "instances": instances,
		"cpus": 0.01, "mem": 16, "labels": map[string]string{"signalbox.host": host},
		"taskKillGracePeriodSeconds": 5,
		"healthChecks": []map[string]any{{
			"protocol": "HTTP", "path": "/healthz", "portIndex": 0, "gracePeriodSeconds": 20, "intervalSeconds": 1, "timeoutSeconds": 5, "maxConsecutiveFailures": 5,
		}},
	}
}

// haproxies returns the pids of HAProxy's processes whose configuration is in a directory.
func haproxies(t *testing.T, dir string) (pids []int) {
	t.Helper()
	for pid, args := range processes(t) {
		if strings.Contains(args, "haproxy") && strings.Contains(args, dir) && !strings.Contains(args, "signalbox run") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processes returns the command lines of all processes.
func processes(t *testing.T) map[int]string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]string{}
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		var pid int
		if _, scanErr := fmt.Sscan(filepath.Base(dir), &pid); err == nil && scanErr == nil && len(line) > 0 {
			all[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return all
}
