package statsd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/statsd_exporter/pkg/line"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Config says where StatsD is taken, and what is made of it.
type Config struct {
	Addresses []Address
	Mapping   string // path of a mapping file of statsd_exporter; "": names stay
	Limits    Limits
	Readers   int // sockets of one UDP address; 0: one for each core, at most 4
	Log       logrus.FieldLogger
}

// Receiver takes StatsD from the services of this machine, and collects what they count.
type Receiver struct {
	cfg     Config
	decoder *decoder
	sockets []*socket

	mu    sync.Mutex
	drops map[*socket]uint32 // as last read
	named map[string]bool    // what has been said
}

// socket is one socket that one goroutine reads.
type socket struct {
	net.Conn
	raw   syscall.RawConn
	path  string // of a unix socket
	inode uint64
}

// rcvbuf is the size of a socket's buffer that is asked for, in bytes: half a second at 100,000 datagrams a second.
const rcvbuf = 16 << 20

// saidMost is how many names are said, in the log, not to be taken.
const saidMost = 200

// errInUse says that somebody else takes StatsD at an address.
var errInUse = errors.New("another process listens there")

// Listen reads the mapping file and opens the sockets. Whoever does not call Run calls Close.
func Listen(cfg Config) (*Receiver, error) {
	if cfg.Readers == 0 {
		cfg.Readers = min(runtime.GOMAXPROCS(0), 4)
	}
	if cfg.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		cfg.Log = l
	}
	mapping, err := loadMapping(cfg.Mapping)
	if err != nil {
		return nil, err
	}
	parser := line.NewParser()
	parser.EnableDogstatsdParsing()
	parser.EnableInfluxdbParsing()
	parser.EnableLibratoParsing()
	parser.EnableSignalFXParsing()
	r := &Receiver{cfg: cfg, drops: map[*socket]uint32{}, named: map[string]bool{}}
	r.decoder = &decoder{
		parser: parser, mapper: mapping, store: newStore(cfg.Limits), stats: newStats(), said: r.say, silent: slog.New(slog.DiscardHandler),
	}
	for _, a := range cfg.Addresses {
		if err := r.open(a); err != nil {
			return nil, errors.Join(fmt.Errorf("listening for StatsD on %s: %w", a, err), r.Close())
		}
	}
	return r, nil
}

// Addresses returns where StatsD is taken, with the ports that the system chose.
func (r *Receiver) Addresses() []string {
	var out []string
	for _, s := range r.sockets {
		text := s.LocalAddr().String()
		if s.path != "" {
			text = "unix:" + s.path
		}
		if len(out) == 0 || out[len(out)-1] != text {
			out = append(out, text)
		}
	}
	return out
}

func (r *Receiver) open(a Address) error {
	if a.Path != "" {
		return r.openUnix(a.Path)
	}
	// Sockets that share a port would share it with another signalbox too: one alone must find it free.
	alone, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a.UDP))
	if err != nil {
		return err
	}
	address := alone.LocalAddr().String()
	if err := alone.Close(); err != nil {
		return err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(err, failed)
	}}
	for range r.cfg.Readers {
		c, err := config.ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return err
		}
		if err := r.take(c.(*net.UDPConn), "", 0); err != nil {
			return err
		}
	}
	return nil
}

func (r *Receiver) openUnix(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is not a socket")
	default:
		c, err := net.Dial("unixgram", path)
		if err == nil {
			return errors.Join(errInUse, c.Close())
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%w: %w", errInUse, err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	// Tasks run as any user; who may reach the socket is a matter of its directory.
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // as said
		return errors.Join(err, c.Close())
	}
	return r.take(c, path, inode(path))
}

// take keeps a socket, with a large buffer where the kernel lets it be.
func (r *Receiver) take(c interface {
	net.Conn
	syscall.Conn
}, path string, inode uint64,
) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	r.sockets = append(r.sockets, &socket{Conn: c, raw: raw, path: path, inode: inode})
	if path != "" {
		return nil // its queue is counted in datagrams: net.unix.max_dgram_qlen
	}
	has := 0
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf)
		}
		has, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	if err == nil && has < rcvbuf {
		r.cfg.Log.Warnf("the buffer for StatsD on %s has %d bytes: without CAP_NET_ADMIN, sysctl net.core.rmem_max bounds it", c.LocalAddr(), has)
	}
	return err
}

func inode(path string) uint64 {
	if info, err := os.Lstat(path); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return st.Ino
		}
	}
	return 0
}

// Run takes StatsD until ctx ends. It is called once.
func (r *Receiver) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	var wg sync.WaitGroup
	for _, s := range r.sockets {
		wg.Go(func() { r.read(ctx, s) })
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}

// read takes datagrams from one socket, in the order in which each sender sent them: a gauge depends on it.
func (r *Receiver) read(ctx context.Context, s *socket) {
	buf := make([]byte, maxDatagram+1)
	for ctx.Err() == nil {
		n, err := s.Read(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			r.cfg.Log.WithError(err).Warn("reading StatsD failed")
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		r.decoder.datagram(buf[:n], time.Now())
	}
}

// Close closes the sockets, and removes those files that are still theirs.
func (r *Receiver) Close() error {
	r.countDrops()
	var errs []error
	for _, s := range r.sockets {
		if s.path != "" && inode(s.path) == s.inode {
			_ = os.Remove(s.path)
		}
		if err := s.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// say logs a name that is not taken: once, and not for ever.
func (r *Receiver) say(reason, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := reason + " " + name
	if r.named[key] || len(r.named) >= saidMost {
		return
	}
	r.named[key] = true
	r.cfg.Log.WithField("reason", reason).WithField("name", name).Warn("StatsD: a metric is not taken")
}
