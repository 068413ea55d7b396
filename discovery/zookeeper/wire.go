package zookeeper

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// The bounds of a connection's beginning.
const (
	dialWithin  = 2 * time.Second // TCP and TLS
	greetWithin = 3 * time.Second // until the server has given a session; an ensemble without a leader gives none
)

// line dials one server once: a session that has lost its connection is given up, not carried on elsewhere.
type line struct {
	ctx    context.Context
	server string
	tls    *tls.Config
	max    int
	broken func() // is told when there is no connection

	mu   sync.Mutex
	conn net.Conn
	err  error // why there is none
	used bool
}

var errUsed = errors.New("the session is given up")

// dial is the client library's dialer.
func (l *line) dial(string, string, time.Duration) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used {
		return nil, errUsed
	}
	l.used = true
	conn, err := l.open()
	if err != nil {
		l.err = err
		l.broken()
		return nil, err
	}
	l.conn = &framed{Conn: conn, max: l.max, until: time.Now().Add(greetWithin)}
	return l.conn, nil
}

func (l *line) open() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, dialWithin)
	defer cancel()
	dialer := &net.Dialer{KeepAlive: 15 * time.Second}
	if l.tls == nil {
		return dialer.DialContext(ctx, "tcp", l.server)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: l.tls}).DialContext(ctx, "tcp", l.server)
}

// failure returns why there is no connection, nil if there was one.
func (l *line) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// cut ends the connection without a word to the server.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = true
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// Init, Len, Next and Connected implement zk.HostProvider: there is one server, and no second try.
func (l *line) Init([]string) error { return nil }

// Len implements zk.HostProvider.
func (l *line) Len() int { return 1 }

// Next implements zk.HostProvider. Its true makes the library give back what waits to be sent.
func (l *line) Next() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server, l.used
}

// Connected implements zk.HostProvider.
func (l *line) Connected() {}

// framed looks at the length of each message before the library does, which would take any: 1.2 GB where a web server answers, and an index
// out of range where less than a header comes. It also bounds the session's beginning and each message in time.
type framed struct {
	net.Conn
	max   int
	until time.Time // of the session's beginning

	head    [4]byte
	have    int // bytes of head
	left    int // bytes of the message
	greeted bool
}

const (
	shortest = 16 // of a message: the header of an answer
	greeting = 1024
)

// Read implements net.Conn.
func (f *framed) Read(p []byte) (int, error) {
	if f.left > 0 {
		n, err := f.Conn.Read(p[:min(len(p), f.left)])
		f.left -= n
		f.greeted = f.greeted || f.left == 0
		return n, err
	}
	n, err := f.Conn.Read(p[:min(len(p), len(f.head)-f.have)])
	copy(f.head[f.have:], p[:n])
	if f.have += n; f.have == len(f.head) {
		f.have = 0
		size, most := binary.BigEndian.Uint32(f.head[:]), f.max
		if !f.greeted {
			most = min(most, greeting)
		}
		if size < shortest || size > uint32(most) {
			return 0, fmt.Errorf("a message of %d bytes, which is none of ZooKeeper or too long", size)
		}
		f.left = int(size)
	}
	return n, err
}

// SetReadDeadline implements net.Conn. Taking a deadline away is not heeded: it holds for a message to its end.
func (f *framed) SetReadDeadline(t time.Time) error {
	switch {
	case !f.greeted:
		t = f.until
	case t.IsZero():
		return nil
	}
	return f.Conn.SetReadDeadline(t)
}
