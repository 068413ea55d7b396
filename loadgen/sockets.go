package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// SocketConfig is what Sockets do. Targets, Count, Lifetime and Every are needed.
type SocketConfig struct {
	Targets  []Target // each web socket goes to one, at random by Weight; Method and Body are not used
	Count    int      // how many are open at a time
	Lifetime time.Duration
	Every    time.Duration // between two messages, each of which must come back
	Timeout  time.Duration // of opening, and of a message; 0 means 10 s
	// AppHeader and IDHeader are as Config's.
	AppHeader, IDHeader string
	KeepFailures        int // as Config's
}

// SocketReport is what has happened up to a moment. It closes: Opened = Open + Lived + Stopped + those of Errors that were open.
type SocketReport struct {
	Opened   uint64 `json:"opened"`
	Open     uint64 `json:"open"`
	Lived    uint64 `json:"lived"`   // ended by the client after Lifetime, whole to the last message
	Stopped  uint64 `json:"stopped"` // ended by the client before, because Run ended; whole as well
	Messages uint64 `json:"messages"`
	// Errors counts web sockets that did not open, or ended before the client wanted it; those above 0 only.
	Errors   []ErrorCount `json:"errors"`
	Failures []Failure    `json:"failures,omitempty"`
	Echo     Histogram    `json:"echo"` // from a message to its echo
}

// Failed returns how many web sockets failed.
func (r SocketReport) Failed() (n uint64) {
	for _, e := range r.Errors {
		n += e.Count
	}
	return n
}

// Sockets keeps a number of web sockets open: each sends messages that must come back until its lifetime is over, and is then replaced by
// another. Its methods may be called at the same time, Run once.
type Sockets struct {
	cfg    SocketConfig
	run    string
	plain  Config // for what is the same as for requests
	mix    atomic.Pointer[mix]
	number atomic.Uint64
	failed failures

	mu     sync.Mutex
	report SocketReport
	errors map[Class]uint64
}

// NewSockets returns web sockets that are not opened yet.
func NewSockets(cfg SocketConfig) (*Sockets, error) {
	if cfg.Count < 1 || cfg.Lifetime <= 0 || cfg.Every <= 0 {
		return nil, fmt.Errorf("%d web sockets that live %s with a message every %s: none of these can be 0", cfg.Count, cfg.Lifetime, cfg.Every)
	}
	plain, err := Config{
		Rate: 1, KeepAlive: true, Timeout: cfg.Timeout, AppHeader: cfg.AppHeader, IDHeader: cfg.IDHeader, KeepFailures: cfg.KeepFailures,
	}.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sockets{
		cfg: cfg, plain: plain, run: strconv.FormatUint(mathrand.Uint64(), 36), failed: failures{room: plain.KeepFailures}, errors: make(map[Class]uint64),
	}
	return s, s.SetTargets(cfg.Targets)
}

// SetTargets replaces the targets for every web socket that is opened from now on. On an error all stays as it was.
func (s *Sockets) SetTargets(targets []Target) error {
	m := &mix{}
	sum := 0
	for _, t := range targets {
		t.Method, t.Body = "", ""
		head := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Origin": "http://" + t.Host}
		for name, value := range t.Header {
			head[name] = value
		}
		t.Header = head
		r, err := prepare(s.plain, t)
		if err != nil {
			return fmt.Errorf("setting targets: %w", err)
		}
		if r.tls {
			return fmt.Errorf("target %q: web sockets over TLS are not known here", t.Name)
		}
		sum += r.weight
		m.requests, m.upTo = append(m.requests, r), append(m.upTo, sum)
	}
	if len(m.requests) == 0 {
		return errors.New("web sockets without a target")
	}
	s.mix.Store(m)
	return nil
}

// Run keeps web sockets open until ctx is done, then ends each with a last message. That ctx is done is no error.
func (s *Sockets) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for i := range s.cfg.Count {
		all.Go(func() {
			rng := mathrand.New(mathrand.NewPCG(uint64(i), 0x50c)) //nolint:gosec // a choice of targets
			// The first ones live shorter, so that ends and beginnings spread.
			life := s.cfg.Lifetime * time.Duration(i+1) / time.Duration(s.cfg.Count)
			for ctx.Err() == nil {
				if !s.live(ctx, s.mix.Load().pick(rng), life) {
					select { // what does not open is not tried in a hot loop
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond):
					}
				}
				life = s.cfg.Lifetime
			}
		})
	}
	all.Wait()
	return nil
}

// Report returns what has happened so far.
func (s *Sockets) Report() SocketReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	r.Echo = r.Echo.Clone()
	r.Failures = s.failed.list()
	for _, class := range classes {
		if n := s.errors[class]; n > 0 {
			r.Errors = append(r.Errors, ErrorCount{Class: class, Count: n})
		}
	}
	return r
}

// live is the life of one web socket; false when it failed.
func (s *Sockets) live(ctx context.Context, r *request, life time.Duration) bool {
	id := s.run + "-ws" + strconv.FormatUint(s.number.Add(1), 10)
	begun := time.Now()
	fail := func(o outcome) bool {
		s.mu.Lock()
		s.errors[o.failure()]++
		s.mu.Unlock()
		s.failed.add(r, id, o, time.Since(begun))
		return false
	}
	c, o := s.open(ctx, r, id)
	if c != nil {
		defer c.Close()
	}
	if o.failure() != "" {
		return fail(o)
	}
	if c == nil {
		return true // the run has ended
	}
	s.count(func(p *SocketReport) { p.Opened++; p.Open++ })
	defer s.count(func(p *SocketReport) { p.Open-- })
	end := time.Now().Add(life)
	next := time.NewTimer(min(s.cfg.Every, life))
	defer next.Stop()
	for n := 0; ; n++ {
		stopped := false
		select {
		case <-ctx.Done():
			stopped = true
		case <-next.C:
		}
		sent := time.Now()
		if class, err := c.echo(id+" "+strconv.Itoa(n), sent.Add(s.plain.Timeout)); err != nil {
			return fail(outcome{class: class, err: fmt.Errorf("message %d: %w", n, err), local: c.LocalAddr().String(), received: string(c.last)})
		}
		took := time.Since(sent)
		s.count(func(p *SocketReport) { p.Messages++; p.Echo.Add(took) })
		left := time.Until(end)
		if stopped || left <= 0 {
			c.farewell(s.plain.Timeout)
			s.count(func(p *SocketReport) {
				if left <= 0 {
					p.Lived++
				} else {
					p.Stopped++
				}
			})
			return true
		}
		next.Reset(min(s.cfg.Every, left))
	}
}

func (s *Sockets) count(f func(*SocketReport)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.report)
}

// socket is one open web socket.
type socket struct {
	net.Conn
	r    *bufio.Reader
	last []byte // what the last read frame began with
}

// open connects and shakes hands. Without a socket and without a failure, ctx was done before.
func (s *Sockets) open(ctx context.Context, r *request, id string) (*socket, outcome) {
	deadline := time.Now().Add(s.plain.Timeout)
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", r.address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, outcome{}
		}
		return nil, outcome{class: classify(err, false), err: fmt.Errorf("connecting: %w", err)}
	}
	c := &socket{Conn: conn, r: bufio.NewReaderSize(conn, 1024)}
	local := conn.LocalAddr().String()
	fail := func(err error, class Class) (*socket, outcome) {
		return c, outcome{class: class, err: err, local: local}
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	ask := slices.Concat(r.head, []byte(id+"\r\nSec-WebSocket-Key: "+key), r.tail)
	if err := conn.SetDeadline(deadline); err != nil {
		return fail(err, Other)
	}
	if _, err := conn.Write(ask); err != nil {
		return fail(fmt.Errorf("asking for a web socket: %w", err), classify(err, false))
	}
	resp, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return fail(fmt.Errorf("waiting for a web socket: %w", err), classify(err, false))
	}
	resp.Body.Close()
	who := resp.Header.Get(s.plain.AppHeader)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		o := outcome{code: resp.StatusCode, byApp: who != "", local: local, received: fmt.Sprint(resp.Status, resp.Header)}
		if o.failure() == "" {
			o.class, o.err = Other, fmt.Errorf("no web socket: %s", resp.Status)
		}
		return c, o
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		return fail(fmt.Errorf("no web socket: the key %q does not answer %q", got, key), Mangled)
	}
	return c, outcome{code: resp.StatusCode, byApp: who != "", misrouted: r.expect != "" && who != r.expect, local: local}
}

// The opcodes of RFC 6455 that occur here.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// send writes one masked frame, as a client must. The text has up to 125 bytes.
func (c *socket) send(op byte, text string) error {
	mask := [4]byte{0x5e, 0xed, 0xca, 0xfe}
	frame := append([]byte{0x80 | op, 0x80 | byte(len(text))}, mask[:]...)
	for i := range len(text) {
		frame = append(frame, text[i]^mask[i%4])
	}
	_, err := c.Write(frame)
	return err
}

// receive reads one frame of a server, which are short here.
func (c *socket) receive() (op byte, text []byte, err error) {
	head, err := c.r.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	op, size := head[0]&0x0f, int(head[1])
	if size > 125 || head[0]&0x80 == 0 {
		return 0, nil, fmt.Errorf("a frame that begins with %x", head)
	}
	if _, err := c.r.Discard(2); err != nil {
		return 0, nil, err
	}
	text, err = c.r.Peek(size)
	c.last = append(c.last[:0], text...)
	if err != nil {
		return 0, nil, err
	}
	_, err = c.r.Discard(size)
	return op, c.last, err
}

// echo sends a message and waits until it is back.
func (c *socket) echo(text string, deadline time.Time) (Class, error) {
	early := func(err error) (Class, error) {
		class := classify(err, false)
		if class == Reset || class == Refused {
			class = ClosedEarly
		}
		return class, err
	}
	if err := c.SetDeadline(deadline); err != nil {
		return early(err)
	}
	if err := c.send(opText, text); err != nil {
		return early(err)
	}
	for {
		op, got, err := c.receive()
		switch {
		case err != nil:
			return early(err)
		case op == opPing:
			if err := c.send(opPong, string(got)); err != nil {
				return early(err)
			}
		case op == opClose:
			return ClosedEarly, fmt.Errorf("the server says goodbye with %x", got)
		case op == opText && bytes.Equal(got, []byte(text)):
			return "", nil
		default:
			return Mangled, fmt.Errorf("of %q came back %q", text, got)
		}
	}
}

// farewell ends a web socket as both sides should, and leaves it at that if the other doesn't.
func (c *socket) farewell(patience time.Duration) {
	_ = c.SetDeadline(time.Now().Add(patience)) // what fails here, fails below
	if c.send(opClose, "\x03\xe8") != nil {     // 1000: done
		return
	}
	for {
		if op, _, err := c.receive(); err != nil || op == opClose {
			return
		}
	}
}
