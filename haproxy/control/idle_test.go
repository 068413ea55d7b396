package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"signalbox/haproxy"
)

// A reload closes no idle connection: each goes with the answer to its client's next request, so they part when the clients do and not all
// at once, and no request meets a connection that is just being closed.
// With a close-spread-time this test fails: decision 15.
func TestReloadLeavesIdleConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.supervise()
	r.start(r.real())
	one := task(t, "one")
	c := haproxy.Build(table(service("shop", one)), r.opts, nil)
	r.apply(c)
	r.answers("shop.local", "one")
	type client struct {
		conn net.Conn
		in   *bufio.Reader
	}
	clients := make([]client, 40)
	for i := range clients {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		clients[i] = client{conn, bufio.NewReader(conn)}
	}
	// ask sends a request over each of some connections and returns how many were told to be the last.
	ask := func(some []client) (last int) {
		for _, c := range some {
			_ = c.conn.SetDeadline(time.Now().Add(patience))
			_, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: shop.local\r\n\r\n")
			var resp *http.Response
			if err == nil {
				resp, err = http.ReadResponse(c.in, nil)
			}
			if err != nil {
				t.Errorf("a request failed: %v", err)
				continue
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "one" {
				t.Errorf("answer %q, %v", b, err)
			}
			if resp.Close {
				last++
			}
		}
		return last
	}
	open := func(some []client) (n int) {
		for _, c := range some {
			_ = c.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.in.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
				n++
			}
		}
		return n
	}
	if n := ask(clients); n > 0 {
		t.Fatalf("%d connections are closed before the reload", n)
	}
	r.apply(haproxy.Build(table(service("shop", one), service("cart", one)), r.opts, c))
	if p := r.proc(); len(p.Old) != 1 {
		t.Fatalf("%d old workers", len(p.Old))
	}
	if n := open(clients); n != len(clients) {
		t.Errorf("the reload closed %d of %d idle connections", len(clients)-n, len(clients))
	}
	early, late := clients[:20], clients[20:]
	if n := ask(early); n != len(early) {
		t.Errorf("%d of %d connections part with their next answer", n, len(early))
	}
	if n := open(late); n != len(late) {
		t.Errorf("%d of %d idle connections are closed when others part", len(late)-n, len(late))
	}
	ask(late)
	r.until("the old worker is gone", func() bool { return len(r.proc().Old) == 0 })
}
