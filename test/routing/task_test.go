package routing

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// seen is what a task says of a request, as its answer.
type seen struct {
	Task, Method, Path, Host, Proto string
	TLS                             bool
	Client                          string // that the PROXY protocol names, or ""
	Header                          http.Header
}

// task is a server at one address that answers with what it saw. It understands plain HTTP/1, HTTP/2 without TLS, both over TLS,
// and the PROXY protocol, version 2, before any of these.
type task struct {
	name     string
	behaves  map[string]string // what to do: to a value
	listener net.Listener
	ready    chan net.Conn

	mu     sync.Mutex
	probed map[string]bool // paths that were asked for without a client
}

// startTask runs a task at an address until the test ends.
func startTask(t *testing.T, name string, at netip.AddrPort, behaves map[string]string) *task {
	t.Helper()
	k := &task{name: name, behaves: behaves, ready: make(chan net.Conn), probed: map[string]bool{}}
	if _, refuses := behaves["refuses"]; refuses {
		return k
	}
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	k.listener = l
	server := &http.Server{Handler: k, ReadHeaderTimeout: patience, ConnContext: withClient}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	var accepting sync.WaitGroup
	accepting.Go(k.accept)
	accepting.Go(func() { _ = server.Serve(k) })
	t.Cleanup(func() {
		_ = server.Close()
		accepting.Wait()
	})
	return k
}

// Accept, Close and Addr make the task a listener of connections whose first bytes have been read.
func (k *task) Accept() (net.Conn, error) {
	c, ok := <-k.ready
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (k *task) Close() error   { return k.listener.Close() }
func (k *task) Addr() net.Addr { return k.listener.Addr() }

func (k *task) accept() {
	var greeting sync.WaitGroup
	defer close(k.ready)
	defer greeting.Wait()
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		greeting.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			conn, err := greet(c)
			if err != nil {
				c.Close()
				return
			}
			_ = c.SetReadDeadline(time.Time{})
			select {
			case k.ready <- conn:
			case <-time.After(time.Second): // nobody accepts any more
				c.Close()
			}
		})
	}
}

// greeted is a connection whose first bytes have been looked at.
type greeted struct {
	net.Conn
	from   *bufio.Reader
	client string
}

func (g *greeted) Read(b []byte) (int, error) { return g.from.Read(b) }

var (
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	taskTLS        = sync.OnceValue(func() *tls.Config {
		s := httptest.NewUnstartedServer(nil)
		s.StartTLS()
		defer s.Close()
		return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	})
)

// greet reads the PROXY protocol's header, and begins TLS, where the client does.
func greet(c net.Conn) (net.Conn, error) {
	g := &greeted{Conn: c, from: bufio.NewReader(c)}
	first, err := g.from.Peek(1)
	if err != nil {
		return nil, err
	}
	if first[0] == proxySignature[0] {
		head, err := g.from.Peek(16)
		if err != nil || !bytes.Equal(head[:12], proxySignature) {
			return nil, fmt.Errorf("no PROXY header: %q", head)
		}
		body := make([]byte, 16+int(head[14])<<8+int(head[15]))
		for n := 0; n < len(body); {
			m, err := g.from.Read(body[n:])
			if err != nil {
				return nil, err
			}
			n += m
		}
		if len(body) >= 20 && body[13]>>4 == 1 {
			g.client = netip.AddrFrom4([4]byte(body[16:20])).String()
		}
		if first, err = g.from.Peek(1); err != nil {
			return nil, err
		}
	}
	if first[0] == 0x16 { // a TLS handshake
		t := tls.Server(g, taskTLS())
		if err := t.Handshake(); err != nil {
			return nil, err
		}
		return &greeted{Conn: t, from: bufio.NewReader(t), client: g.client}, nil
	}
	return g, nil
}

type (
	clientKey struct{}
	tlsKey    struct{}
)

// withClient hands what the connection's beginning said to its requests.
func withClient(ctx context.Context, c net.Conn) context.Context {
	g := c.(*greeted)
	if _, ok := g.Conn.(*tls.Conn); ok {
		ctx = context.WithValue(ctx, tlsKey{}, true)
	}
	return context.WithValue(ctx, clientKey{}, g.client)
}

// ServeHTTP answers with what the task sees.
func (k *task) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Tcp-Client") == "" {
		k.mu.Lock()
		k.probed[r.URL.Path] = true
		k.mu.Unlock()
	}
	if k.behaves["fails"] == r.URL.Path {
		http.Error(w, k.name+" fails", http.StatusInternalServerError)
		return
	}
	if d, err := time.ParseDuration(k.behaves["sleeps"]); err == nil && r.Header.Get("X-Forwarded-For") != "" {
		time.Sleep(d)
	}
	if to := k.behaves["redirects"]; to != "" {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
		return
	}
	client, _ := r.Context().Value(clientKey{}).(string)
	_, tlsConn := r.Context().Value(tlsKey{}).(bool)
	b, err := json.Marshal(seen{
		Task: k.name, Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host, Proto: r.Proto, TLS: tlsConn, Client: client, Header: r.Header,
	})
	if err != nil {
		panic(err)
	}
	if r.Header.Get("Upgrade") == "websocket" {
		echo(w, b)
		return
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(b)
		w.Header().Set("Grpc-Status", "0")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
}

// echo makes the connection a web socket that says what was asked for, and then echoes one message. What it carries are lines, not
// frames: a load balancer looks at neither.
func echo(w http.ResponseWriter, said []byte) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	_, _ = rw.Write(append(said, '\n'))
	_ = rw.Flush()
	if line, err := rw.ReadString('\n'); err == nil {
		_, _ = rw.WriteString(line)
		_ = rw.Flush()
	}
}

// behaviours reads lines "web.1 fails=/health sleeps=1s", by task.
func behaviours(t *testing.T, text string) map[string]map[string]string {
	t.Helper()
	all := make(map[string]map[string]string)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		all[words[0]] = make(map[string]string)
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			if !slices.Contains([]string{"refuses", "fails", "sleeps", "redirects"}, key) {
				t.Fatalf("tasks: %q is no behaviour", w)
			}
			all[words[0]][key] = value
		}
	}
	return all
}
