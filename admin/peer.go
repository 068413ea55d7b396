package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peer is the process at the other end of a unix socket, as the kernel knows it.
type peer struct {
	uid uint32
	pid int32
}

// Network implements net.Addr.
func (p peer) Network() string { return "unix" }

// String implements net.Addr.
func (p peer) String() string {
	name := fmt.Sprintf("uid %d", p.uid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(p.uid), 10)); err == nil {
		name = fmt.Sprintf("%s (uid %d)", u.Username, p.uid)
	}
	return name
}

// peerConn is a connection that says who is at its other end.
type peerConn struct {
	net.Conn
	peer peer
}

// RemoteAddr implements net.Conn.
func (c *peerConn) RemoteAddr() net.Addr { return c.peer }

// Accept implements net.Listener.
func (l *socketListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return conn, nil //nolint:nilerr // who it is stays unknown; the socket's mode has let it in
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil {
		return conn, nil //nolint:nilerr // as above
	}
	return &peerConn{conn, peer{cred.Uid, cred.Pid}}, nil
}

type peerKey struct{}

// withPeer keeps who is at the other end of a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, c.RemoteAddr())
}

// who says who sent a request: a user of the machine, or whoever has the token.
func who(r *http.Request) string {
	switch p := r.Context().Value(peerKey{}).(type) {
	case peer:
		return fmt.Sprintf("%s, pid %d", p, p.pid)
	case *net.TCPAddr:
		return "the admin token, from " + p.String()
	}
	return "somebody at the admin socket"
}
