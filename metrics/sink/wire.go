package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// failure is an attempt to send that went wrong; its word is the label of a metric.
type failure struct {
	reason string // connect, write, refused, answer, timeout
	err    error
}

// Error implements error.
func (f *failure) Error() string { return f.reason + ": " + f.err.Error() }

// Unwrap returns what went wrong.
func (f *failure) Unwrap() error { return f.err }

// failed returns a failure. Whatever took too long is a timeout.
func failed(reason string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		reason = "timeout"
	}
	return &failure{reason, err}
}

// reasons are all words that failed makes.
var reasons = []string{"answer", "connect", "refused", "timeout", "write"}

// dial connects. Each step that is done with the connection has its deadline, and all ends with ctx.
func (a address) dial(ctx context.Context, network string) (*guarded, error) {
	d := net.Dialer{Timeout: a.patience}
	conn, err := d.DialContext(ctx, network, a.text)
	if err != nil {
		return nil, failed("connect", err)
	}
	return &guarded{conn, a.patience, context.AfterFunc(ctx, func() { conn.Close() })}, nil
}

// guarded is a connection of which each step has a deadline, and that ends with a context.
type guarded struct {
	net.Conn
	patience time.Duration
	stop     func() bool
}

func (g *guarded) extend() error { return g.SetDeadline(time.Now().Add(g.patience)) }

// Write writes all of b.
func (g *guarded) Write(b []byte) (int, error) {
	if err := g.extend(); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

// Read reads what there is.
func (g *guarded) Read(b []byte) (int, error) {
	if err := g.extend(); err != nil {
		return 0, err
	}
	return g.Conn.Read(b)
}

// Close implements net.Conn.
func (g *guarded) Close() error {
	g.stop()
	return g.Conn.Close()
}

// refusal returns what the system has learnt of datagrams that it took earlier: that nobody listens.
func refusal(conn *guarded) error {
	c, ok := conn.Conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var number int
	if ctlErr := raw.Control(func(fd uintptr) {
		number, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
	}); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return fmt.Errorf("asking for a socket's errors: %w", err)
	}
	if number != 0 {
		return syscall.Errno(number)
	}
	return nil
}

// wait waits, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
