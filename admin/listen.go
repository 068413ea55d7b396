package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Address is where an admin listener stands: the path of a unix socket, or a loopback address and port.
type Address struct {
	Socket string         // absolute path, or ""
	TCP    netip.AddrPort // port 0: any free one
}

// ParseAddress reads "unix:/run/signalbox/admin.sock" or "127.0.0.1:9901". "localhost" stands for 127.0.0.1.
// It refuses what is not loopback: the listener speaks plain HTTP, and a token must not cross a network that way.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return Address{}, fmt.Errorf("admin address %q: the socket's path is not absolute (as in unix:/run/signalbox/admin.sock)", s)
		}
		// sun_path holds 108 bytes on Linux, with the closing zero.
		if len(path) > 107 {
			return Address{}, fmt.Errorf("admin address %q: a socket's path has at most 107 bytes, this one has %d", s, len(path))
		}
		return Address{Socket: filepath.Clean(path)}, nil
	}
	addr := s
	if port, ok := strings.CutPrefix(addr, "localhost:"); ok {
		addr = "127.0.0.1:" + port
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return Address{}, fmt.Errorf("admin address %q: want unix:/path or a loopback address and port, as in 127.0.0.1:9901", s)
	}
	if !ap.Addr().Unmap().IsLoopback() {
		return Address{}, fmt.Errorf("admin address %q: only loopback addresses and unix sockets are allowed; put a proxy with TLS in front to reach it from elsewhere", s)
	}
	return Address{TCP: ap}, nil
}

// String returns the address as ParseAddress reads it.
func (a Address) String() string {
	if a.Socket != "" {
		return "unix:" + a.Socket
	}
	return a.TCP.String()
}

// listen opens the listener. A stale socket file is replaced, one that something answers on is not.
func (a Address) listen(group string) (net.Listener, error) {
	if a.Socket == "" {
		l, err := net.Listen("tcp", a.TCP.String())
		if err != nil {
			return nil, fmt.Errorf("opening the admin listener: %w", err)
		}
		return l, nil
	}
	if err := removeStale(a.Socket); err != nil {
		return nil, fmt.Errorf("opening the admin socket: %w", err)
	}
	l, err := listenSocket(a.Socket, group)
	if err != nil {
		return nil, fmt.Errorf("opening the admin socket: %w", err)
	}
	return l, nil
}

// listenSocket makes the folder if it is missing, binds under a temporary name in a folder that nobody else may enter, so that the socket is never open to more
// than its final mode allows, and then moves it into place.
func listenSocket(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".sb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	temporary := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := own(temporary, group); err != nil {
		l.Close()
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		l.Close()
		return nil, err
	}
	return &socketListener{UnixListener: l, path: path}, nil
}

// own gives a socket its mode, and its group if one is named.
func own(path, group string) error {
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return fmt.Errorf("finding the socket's group: %w", err)
		}
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("finding the socket's group: %w", err)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o660)
}

// removeStale removes a socket that nobody listens on any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s: another process answers there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// socketListener removes its file when it is closed, unless another process has put its own there.
type socketListener struct {
	*net.UnixListener
	path string
}

func (l *socketListener) Close() error {
	err := l.UnixListener.Close()
	_ = removeStale(l.path) // an error: it is somebody else's now
	return err
}
