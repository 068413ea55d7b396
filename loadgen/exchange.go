package loadgen

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// outcome is what came of one request.
type outcome struct {
	code        int
	byApp       bool
	misrouted   bool
	reconnected bool
	class       Class // when err is not nil
	err         error
	local       string // the client's end of the connection; of failures only, as what follows
	received    string // the beginning of the answer
}

// failure says why a request counts as failed for those who want to see it; "" that it does not.
func (o *outcome) failure() Class {
	switch {
	case o.err != nil:
		return o.class
	case o.code >= 400 && o.byApp:
		return CodeOfApp
	case o.code >= 400:
		return CodeOfProxy
	case o.misrouted:
		return WrongApp
	}
	return ""
}

// link is a connection that can carry requests.
type link struct {
	net.Conn
	r    *bufio.Reader
	used bool      // it has carried a request before
	idle time.Time // since when, if it waits for a request
	seen [512]byte // the beginning of the answer
	n    int       // of seen
	err  error     // of the last Read: what a parser makes of half an answer does not say that it was half
}

// Read implements net.Conn.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.err = err
	l.n += copy(l.seen[l.n:], b[:n])
	return n, err
}

// links keeps idle connections by address, the last used first. The standard library's transport would send a request again
// in silence; here every attempt is known.
type links struct {
	timeout time.Duration // of an idle connection; 0: none

	mu   sync.Mutex
	idle map[string][]*link
	done bool
}

func (l *links) take(key string) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.idle[key]
	if len(s) == 0 {
		return nil
	}
	c := s[len(s)-1]
	l.idle[key] = s[:len(s)-1]
	if l.timeout > 0 && time.Since(c.idle) > l.timeout {
		for _, old := range s { // the others have waited longer
			old.end()
		}
		l.idle[key] = nil
		return nil
	}
	return c
}

func (l *links) put(key string, c *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		c.Close()
		return
	}
	c.used, c.idle = true, time.Now()
	l.idle[key] = append(l.idle[key], c)
}

func (l *links) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	for _, s := range l.idle {
		for _, c := range s {
			c.Close()
		}
	}
	l.idle = nil
}

// readers are reused: with a connection for each request they would be most of the garbage.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

func (g *Generator) dial(ctx context.Context, r *request, deadline time.Time) (*link, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := g.dialer(ctx, "tcp", r.address)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if r.tls {
		t := tls.Client(c, &tls.Config{ServerName: r.server, InsecureSkipVerify: true}) //nolint:gosec // it measures, and trusts nothing
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, fmt.Errorf("connecting: %w", err)
		}
		c = t
	}
	l := &link{Conn: c, r: readers.Get().(*bufio.Reader)}
	l.r.Reset(l)
	return l, nil
}

func (l *link) end() {
	l.Close()
	l.r.Reset(nil)
	readers.Put(l.r)
	l.r = nil
}

// exchange sends one request and reads its whole answer.
func (g *Generator) exchange(ctx context.Context, r *request, id string) outcome {
	deadline := time.Now().Add(g.cfg.Timeout)
	key := r.address
	if r.tls {
		key += "/" + r.server
	}
	var c *link
	if g.cfg.KeepAlive {
		c = g.links.take(key)
	}
	var reconnected bool
	for {
		if c == nil {
			var err error
			if c, err = g.dial(ctx, r, deadline); err != nil {
				return outcome{class: classify(err, false), err: err, reconnected: reconnected}
			}
		}
		o, began, keep := g.over(c, r, id, deadline)
		if o.failure() != "" {
			o.local, o.received = c.LocalAddr().String(), string(c.seen[:c.n])
		}
		if o.err != nil && c.used && !began && o.class == Reset && r.replays {
			c.end()
			c, reconnected, id = nil, true, id+"+"
			continue
		}
		if keep && g.cfg.KeepAlive {
			g.links.put(key, c)
		} else {
			c.end()
		}
		o.reconnected = reconnected
		return o
	}
}

// over sends a request over one connection. It reports whether an answer began and whether the connection can be kept.
func (g *Generator) over(c *link, r *request, id string, deadline time.Time) (o outcome, began, keep bool) {
	fail := func(doing string, err error, head bool) outcome {
		return outcome{class: classify(err, head), err: fmt.Errorf("%s: %w", doing, err)}
	}
	if err := c.SetDeadline(deadline); err != nil {
		return fail("setting the deadline", err, false), false, false
	}
	c.n = 0
	b := make([]byte, 0, len(r.head)+len(id)+len(r.tail))
	b = append(append(append(b, r.head...), id...), r.tail...)
	if _, err := c.Write(b); err != nil {
		return fail("sending", err, false), false, false
	}
	if _, err := c.r.Peek(1); err != nil {
		return fail("waiting for the answer", err, false), false, false
	}
	req := &http.Request{Method: r.method}
	resp, err := http.ReadResponse(c.r, req)
	for err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp, err = http.ReadResponse(c.r, req)
	}
	if err != nil {
		return fail("reading the answer's head", cmp.Or(c.err, err), false), true, false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil {
		err = resp.Body.Close()
	}
	if err != nil {
		return fail("reading the answer's body", err, true), true, false
	}
	who := resp.Header.Get(g.cfg.AppHeader)
	o = outcome{code: resp.StatusCode, byApp: who != ""}
	o.misrouted = o.byApp && r.expect != "" && who != r.expect
	return o, true, !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols && c.r.Buffered() == 0
}

// classify says why there is no whole answer; head: its head had come.
func classify(err error, head bool) Class {
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) &&
		!errors.Is(err, syscall.EPIPE) && !errors.Is(err, io.ErrClosedPipe):
		return Other
	case head:
		return ShortBody
	default:
		return Reset
	}
}
