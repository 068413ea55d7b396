package metrics

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait in these tests. It is only ever used up by a failure.
const patience = 20 * time.Second

// balancer is a real HAProxy with testdata/haproxy.cfg.
type balancer struct {
	t      *testing.T
	dir    string
	master *exec.Cmd
	done   chan struct{}
	output bytes.Buffer
	shop   [2]*httptest.Server
	pay    *httptest.Server
}

type balancerOptions struct {
	logSocket string
	ringBytes int
}

// origin answers with the status code that the path ends in.
func origin(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		code, err := strconv.Atoi(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
		if err != nil {
			code = http.StatusOK
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(s.Close)
	return s
}

// haproxyVersion returns the version of the HAProxy in PATH, as 206 for 2.6.
func haproxyVersion(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("haproxy", "-v").Output()
	var major, minor int
	if _, scanErr := fmt.Sscanf(string(out), "HAProxy version %d.%d", &major, &minor); err != nil || scanErr != nil {
		t.Fatalf("haproxy -v: %v %v\n%s", err, scanErr, out)
	}
	return 100*major + minor
}

func startBalancer(t *testing.T, o balancerOptions) *balancer {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Fatal("this test needs HAProxy: apt-get install haproxy")
	}
	if haproxyVersion(t) >= 303 {
		t.Fatal("this test needs an HAProxy before 3.3, which sends its ring to a unix socket; cmd/signalbox tests the ring that is read")
	}
	b := &balancer{t: t, dir: filepath.Dir(o.logSocket), done: make(chan struct{})}
	b.shop[0], b.shop[1], b.pay = origin(t), origin(t), origin(t)
	text, err := os.ReadFile("testdata/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	if o.ringBytes == 0 {
		o.ringBytes = RingBytes
	}
	cfg := strings.NewReplacer("LOGSOCKET", o.logSocket, "LOGFORMATHTTP", LogFormat, "LOGFORMATTCP", LogFormatTCP,
		"RINGFORMAT", RingFormat, "MAXLINE", strconv.Itoa(MaxLine), "RINGBYTES", strconv.Itoa(o.ringBytes), "DIR", b.dir,
		"SHOP1", b.shop[0].Listener.Addr().String(), "SHOP2", b.shop[1].Listener.Addr().String(),
		"PAY1", b.pay.Listener.Addr().String()).Replace(string(text))
	b.write("names.map", "shop.local /shop/cart:0\npay.local /pay:0\n")
	b.write("backends.map", "shop.local shop\npay.local pay\n")
	b.write("haproxy.cfg", cfg)
	b.master = exec.Command("haproxy", "-W", "-db", "-S", b.path("master.sock"), "-f", b.path("haproxy.cfg"))
	b.master.Stdout, b.master.Stderr = &b.output, &b.output
	b.master.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := b.master.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.master.Wait()
		close(b.done)
	}()
	t.Cleanup(b.stop)
	eventually(t, "HAProxy's worker answers", func() bool { return len(b.workers()) == 1 })
	return b
}

func (b *balancer) path(name string) string { return filepath.Join(b.dir, name) }

func (b *balancer) write(name, text string) {
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *balancer) stop() {
	_ = b.master.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
	case <-time.After(patience):
		_ = b.master.Process.Kill()
		<-b.done
	}
	if b.t.Failed() {
		b.t.Logf("HAProxy said:\n%s", b.output.String())
	}
}

// ask sends a command to a socket and returns the whole answer. The master closes connections while it starts and while it
// reloads, so that is tried again.
func (b *balancer) ask(socket, command string) string {
	b.t.Helper()
	var answer []byte
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if answer, err = b.tryAsk(socket, command); err == nil && len(answer) > 0 {
			return string(answer)
		}
	}
	b.t.Fatalf("asking HAProxy %q: %v", command, err)
	return ""
}

func (b *balancer) tryAsk(socket, command string) ([]byte, error) {
	c, err := net.Dial("unix", b.path(socket))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		return nil, err
	}
	// The master keeps a connection open for further commands until its reading half ends.
	_ = c.(*net.UnixConn).CloseWrite()
	return io.ReadAll(c)
}

// workers returns the statistics of every worker, the old ones too, as cmd takes them from the master.
func (b *balancer) workers() []WorkerStat {
	var list []WorkerStat
	old := false
	for line := range strings.Lines(b.ask("master.sock", "show proc")) {
		if strings.HasPrefix(line, "# old workers") {
			old = true
		}
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != "worker" {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil {
			b.t.Fatalf("show proc: %q", line)
		}
		list = append(list, WorkerStat{PID: pid, Stopping: old})
	}
	out := list[:0]
	for _, w := range list {
		text := b.ask("master.sock", fmt.Sprintf("@!%d show stat", w.PID))
		if !strings.HasPrefix(text, "# ") {
			continue // gone in the meantime
		}
		rows, err := csv.NewReader(strings.NewReader(text[2:])).ReadAll()
		if err != nil {
			b.t.Fatalf("show stat: %v in %q", err, text)
		}
		column := map[string]int{}
		for i, name := range rows[0] {
			column[name] = i
		}
		for _, row := range rows[1:] {
			get := func(name string) uint64 { n, _ := strconv.ParseUint(row[column[name]], 10, 64); return n }
			switch row[1] {
			case "FRONTEND":
				f := FrontendStat{Name: row[0], TCP: row[column["mode"]] == "tcp", Total: get("req_tot"), Current: get("scur")}
				if f.TCP {
					f.Total = get("stot")
				}
				w.Frontends = append(w.Frontends, f)
			case "BACKEND":
				w.InFlight += get("scur")
			}
		}
		out = append(out, w)
	}
	return out
}

// client returns a client that reaches HAProxy's web frontend whatever the URL says.
func (b *balancer) client() *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", b.path("web.sock"))
		},
		MaxIdleConnsPerHost: 32,
	}
	b.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// raw sends bytes to a frontend on a connection of their own and returns the first line of the answer.
func (b *balancer) raw(socket, text string) string {
	c, err := net.Dial("unix", b.path(socket))
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		b.t.Fatal(err)
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line
}

// sent is the client's own count: how many requests ended with each code, per service.
type sent struct {
	mu     sync.Mutex
	counts map[string]uint64 // "service method code"
	failed int
}

func (s *sent) add(service, method string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[fmt.Sprint(service, " ", method, " ", code)]++
}

func (s *sent) total() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(0)
	for _, c := range s.counts {
		n += c
	}
	return n
}

// load sends n requests from each of 4 connections at once, over two services, an unknown host, and several codes.
func (b *balancer) load(s *sent, n int) {
	var wg sync.WaitGroup
	for worker := range 4 {
		client := b.client()
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for i := range n {
				host, service := "shop.local", "/shop/cart:0"
				switch (i + worker) % 5 {
				case 3:
					host, service = "pay.local", "/pay:0"
				case 4:
					host, service = "unknown.local", NoService
				}
				method := []string{"GET", "POST", "BREW"}[i%3]
				code := []int{200, 201, 404, 500, 503}[i%5]
				req, _ := http.NewRequest(method, fmt.Sprintf("http://%s/x/%d", host, code), nil)
				res, err := client.Do(req)
				if err != nil {
					s.mu.Lock()
					s.failed++
					s.mu.Unlock()
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if method == "BREW" {
					method = Other
				}
				s.add(service, method, res.StatusCode)
			}
		})
	}
	wg.Wait()
}

// counted is the pipeline's count in the form of sent.
func counted(s *Snapshot) map[string]uint64 {
	got := map[string]uint64{}
	for _, t := range s.Services {
		for _, c := range t.Codes {
			got[t.Service+" "+c.Method+" "+c.Code] += c.Count
		}
	}
	return got
}

// pipeline is an Aggregator behind a Receiver that can be stopped and started again.
type pipeline struct {
	t      testing.TB
	agg    *Aggregator
	socket string
	cancel context.CancelFunc
	done   chan error
}

func newPipeline(t *testing.T, socket string, cfg AggregatorConfig) *pipeline {
	t.Helper()
	p := &pipeline{t: t, agg: NewAggregator(cfg), socket: socket}
	p.start()
	t.Cleanup(p.stop)
	return p
}

func (p *pipeline) start() {
	p.t.Helper()
	r, err := Listen(ReceiverConfig{Path: p.socket, Consumer: p.agg})
	if err != nil {
		p.t.Fatal(err)
	}
	p.run(r)
}

func (p *pipeline) run(r *Receiver) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan error, 1)
	go func() { p.done <- r.Run(ctx) }()
}

func (p *pipeline) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.cancel = nil
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Error(err)
		}
	case <-time.After(patience):
		p.t.Error("the receiver does not end")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
