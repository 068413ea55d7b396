package haproxy

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

// serve runs a real server until the test ends and returns its address.
func serve(t *testing.T, h http.HandlerFunc, change func(*httptest.Server)) signalbox.Endpoint {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail here as they should
	change(s)
	if s.TLS == nil {
		s.Start()
	} else {
		s.StartTLS()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	addr := netip.MustParseAddrPort(s.Listener.Addr().String())
	return signalbox.Endpoint{Task: addr.String(), Addr: addr, State: signalbox.Up}
}

// serveTLS is serve with a certificate made out to hosts, which is returned too.
func serveTLS(t *testing.T, h http.HandlerFunc, protos []string, hosts ...string) (signalbox.Endpoint, []byte) {
	t.Helper()
	pair := keyPair(t, hosts...)
	cert, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair)
	return serve(t, h, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos}
		s.EnableHTTP2 = slices.Contains(protos, "h2")
	}), pem.EncodeToMemory(block)
}

// trusting returns a policy of verified TLS, with an authority of the operator's instead of the system's, which no test can add to.
func trusting(t *testing.T, certificate []byte, p signalbox.Policy) signalbox.Policy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	p.BackendTLS, p.Raw = signalbox.BackendVerified, []string{"default-server ca-file " + path}
	return p
}

func TestTasksThatSpeakTLS(t *testing.T) {
	t.Parallel()
	var checks atomic.Int32
	says := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			checks.Add(1)
		}
		fmt.Fprintf(w, "%s by TLS for %s", r.Host, r.TLS.ServerName)
	}
	good, cert := serveTLS(t, says, nil, "good.local", "inner.local")
	stranger, _ := serveTLS(t, says, nil, "good.local")
	verified := func(p signalbox.Policy) signalbox.Policy { return trusting(t, cert, p) }
	checked := func(s *signalbox.Service) *signalbox.Service {
		s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", Interval: time.Second, Fall: 1}
		return s
	}
	tcp := with(service("/tcp", "", good), verified(signalbox.Policy{RewriteHost: "inner.local"}))
	tcp.Mode, tcp.Listen = signalbox.TCP, ports.Free(t)
	plain := service("/plain", "plain.local/", good)
	plain.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", TLS: true, Interval: time.Second}
	l := start(t, tableOf(
		checked(with(service("/any", "any.local/", stranger), signalbox.Policy{BackendTLS: signalbox.BackendUnverified})),
		checked(with(service("/good", "good.local/", good), verified(signalbox.Policy{}))),
		with(service("/name", "other.local/", good), verified(signalbox.Policy{})),
		with(service("/stranger", "good.local/stranger", stranger), verified(signalbox.Policy{})),
		with(service("/rewritten", "rewritten.local/", good), verified(signalbox.Policy{RewriteHost: "inner.local"})),
		with(service("/system", "good.local/system", good), signalbox.Policy{BackendTLS: signalbox.BackendVerified}),
		with(service("/odd", "odd.local/", stranger), signalbox.Policy{BackendTLS: "whatever"}),
		tcp, plain,
	))
	for _, c := range []struct {
		host, path string
		code       int
		body       string
	}{
		{"any.local", "/", 200, "any.local by TLS for any.local"},
		{"good.local", "/", 200, "good.local by TLS for good.local"},
		{"GOOD.local:80", "/", 200, "GOOD.local:80 by TLS for good.local"},
		{"other.local", "/", 503, ""},
		{"good.local", "/stranger", 503, ""},
		{"rewritten.local", "/", 200, "inner.local by TLS for inner.local"},
		{"good.local", "/system", 503, ""},
		{"odd.local", "/", 503, ""},
	} {
		if code, _, body := l.ask("GET", c.host, c.path); code != c.code || c.body != "" && !strings.EqualFold(body, c.body) {
			t.Errorf("%s%s: %d %s, want %d %s", c.host, c.path, code, body, c.code, c.body)
		}
	}
	if code, _, body := raw(t, fmt.Sprintf("127.0.0.1:%d", tcp.Listen), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); code != 200 || body != "x by TLS for inner.local" {
		t.Errorf("tcp: %d %s", code, body)
	}
	eventually(t, "the checks speak TLS", func() bool { return checks.Load() >= 4 })
	time.Sleep(1200 * time.Millisecond) // another check of each, which would take it down
	for _, host := range []string{"any.local", "good.local"} {
		if code, _, body := l.ask("GET", host, "/"); code != 200 {
			t.Errorf("%s after checks: %d %s", host, code, body)
		}
	}
	if status := l.command("show servers state plain:0"); !strings.Contains(status, " 2 0 100 ") { // up
		t.Errorf("a task whose check speaks TLS is not up: %s", status)
	}
}

// gRPC asks for HTTP/2 from end to end, with trailers, and is asked for its health in HTTP/2 as well. Web sockets come by HTTP/1.1.
func TestTasksThatSpeakHTTP2(t *testing.T) {
	t.Parallel()
	var checks atomic.Int32
	grpc := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/health":
			if r.ProtoMajor == 2 {
				checks.Add(1)
			}
			return
		case r.Header.Get("Upgrade") == "websocket":
			websocket(w, r)
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprintf(w, "%s %s", r.Proto, b)
		w.Header().Set("Grpc-Status", "7")
	}
	clear := serve(t, grpc, func(s *httptest.Server) {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Config.Protocols.SetHTTP1(true) // for web sockets; what HAProxy speaks is up to it
	})
	only := serve(t, grpc, func(s *httptest.Server) {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
	})
	sealed, _ := serveTLS(t, grpc, []string{"h2", "http/1.1"}, "sealed.local")
	checked := func(s *signalbox.Service, p signalbox.Policy) *signalbox.Service {
		s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", Interval: time.Second, Fall: 1}
		return with(s, p)
	}
	l := startWith(t, tableOf(
		checked(service("/clear", "clear.local/", clear), signalbox.Policy{HTTP2: true}),
		checked(service("/only", "only.local/", only), signalbox.Policy{HTTP2: true}),
		checked(service("/sealed", "sealed.local/", sealed), signalbox.Policy{HTTP2: true, BackendTLS: signalbox.BackendUnverified}),
		service("/old", "old.local/", clear),
	), certify(t, nil))
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: dialer(l.options.HTTPSBind[0]), //nolint:gosec // whose it is, is no question here
	}
	t.Cleanup(transport.CloseIdleConnections)
	eventually(t, "the checks speak HTTP/2", func() bool { return checks.Load() >= 6 })
	for host, want := range map[string]string{"clear.local": "HTTP/2.0 ping", "only.local": "HTTP/2.0 ping", "sealed.local": "HTTP/2.0 ping", "old.local": "HTTP/1.1 ping"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+"/pkg.Service/Method", strings.NewReader("ping"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Te", "trailers")
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.ProtoMajor != 2 || string(body) != want || res.Trailer.Get("Grpc-Status") != "7" {
			t.Errorf("%s: %v %s %s with the trailers %v", host, err, res.Proto, body, res.Trailer)
		}
	}
	for _, host := range []string{"clear.local", "old.local", "sealed.local"} {
		if said := upgraded(t, l.entry, host); said != "echo: hello\n" {
			t.Errorf("a web socket to %s says %q", host, said)
		}
	}
}

// websocket answers as a web socket does, and then with what it is told.
func websocket(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, r.Proto+": "+err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	_ = rw.Flush()
	line, _ := rw.ReadString('\n')
	_, _ = rw.WriteString("echo: " + line)
	_ = rw.Flush()
}

// upgraded opens a web socket, says hello some time later, and returns the answer.
func upgraded(t *testing.T, addr, host string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("a web socket to %s: %v %v", host, res, err)
		return ""
	}
	time.Sleep(100 * time.Millisecond)
	fmt.Fprint(c, "hello\n")
	line, err := r.ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	return line
}

func TestTasksAreToldByTheProxyProtocol(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var heads []string
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				head := make([]byte, 16)
				if _, err := io.ReadFull(c, head); err != nil {
					return
				}
				addresses := make([]byte, int(head[14])<<8|int(head[15]))
				if _, err := io.ReadFull(c, addresses); err != nil {
					return
				}
				mu.Lock()
				heads = append(heads, string(head[:12]))
				mu.Unlock()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfrom %v", addresses[:min(4, len(addresses))])
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	s := with(service("/proxied", "proxied.local/", signalbox.Endpoint{Task: "x", Addr: netip.MustParseAddrPort(ln.Addr().String()), State: signalbox.Up}), signalbox.Policy{SendProxy: true})
	s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/", Interval: time.Second}
	l := start(t, tableOf(s))
	if code, _, body := l.ask("GET", "proxied.local", "/"); code != 200 || body != "from [127 0 0 1]" {
		t.Errorf("%d %s", code, body)
	}
	eventually(t, "checks say who they are too", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heads) >= 3
	})
	mu.Lock()
	defer mu.Unlock()
	for _, h := range heads {
		if h != "\r\n\r\n\x00\r\nQUIT\n" {
			t.Errorf("a connection begins with %q", h)
		}
	}
}

// Another port of a task than that of its requests may be probed, and which one changes without a reload.
func TestCheckPorts(t *testing.T) {
	t.Parallel()
	probed := make(map[string]*atomic.Int32)
	prober := func(name string, code int) uint16 {
		n := &atomic.Int32{}
		probed[name] = n
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			n.Add(1)
			w.WriteHeader(code)
		}, func(*httptest.Server) {}).Addr.Port()
	}
	first, second, broken := prober("first", 200), prober("second", 200), prober("broken", 500)
	at := func(name string, port uint16) *signalbox.Service {
		e := task(t, name)
		e.CheckPort = port
		s := service("/shop", "shop.local/", e)
		s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", Interval: time.Second, Fall: 1}
		return s
	}
	one := at("one", first)
	unprobed := service("/off", "", task(t, "off"))
	unprobed.Check.Kind = signalbox.CheckOff
	unprobed.Endpoints[0].CheckPort = broken
	l := start(t, tableOf(one, unprobed))
	if answer := l.command("set server off:0/s1 check-port 7"); strings.TrimSpace(answer) == "" {
		t.Error("HAProxy takes the port of a check that is off")
	}
	eventually(t, "the first port is probed", func() bool { return probed["first"].Load() > 0 })
	two := at("two", second)
	l.become(tableOf(two, unprobed))
	eventually(t, "the second port is probed", func() bool { return probed["second"].Load() > 0 })
	is := func(code int) func() bool {
		return func() bool {
			got, _ := l.get("shop.local", "/")
			return got == code
		}
	}
	eventually(t, "the task is up", is(200))
	down := *two
	down.Endpoints = slices.Clone(two.Endpoints)
	down.Endpoints[0].CheckPort = broken
	l.become(tableOf(&down, unprobed))
	eventually(t, "the broken port takes the task down", is(503))
	own := *two
	own.Endpoints = slices.Clone(two.Endpoints)
	own.Endpoints[0].CheckPort = 0
	l.become(tableOf(&own, unprobed))
	eventually(t, "its own port takes it up", is(200))
}

// What a task may take, and for how long, is bounded.
func TestBoundsOfTasks(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	var now, most atomic.Int32
	slow := func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if r.URL.Path == "/never" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		time.Sleep(30 * time.Millisecond)
		fmt.Fprint(w, "done")
	}
	ten := 10
	l := start(t, tableOf(
		with(service("/few", "few.local/", serve(t, slow, func(*httptest.Server) {})), signalbox.Policy{MaxConn: 2, SlowStart: 20 * time.Second, Balance: "leastconn"}),
		with(service("/quick", "quick.local/", serve(t, slow, func(*httptest.Server) {})), signalbox.Policy{Timeout: time.Second, ConnectTimeout: time.Second, Retries: &ten}),
	))
	eventually(t, "two at a time reach a task that takes two", func() bool {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if code, body := l.get("few.local", "/"); code != 200 {
					t.Errorf("one of many at a time: %d %s", code, body)
				}
			})
		}
		wg.Wait()
		return most.Load() >= 2
	})
	if most.Load() != 2 {
		t.Errorf("%d requests at a time reached a task that takes two", most.Load())
	}
	if code, _ := l.get("quick.local", "/"); code != 200 {
		t.Errorf("in time: %d", code)
	}
	if code, _ := l.get("quick.local", "/never"); code != 504 {
		t.Errorf("too late: %d", code)
	}
}
