package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Intake is an address at which HAProxies that are not ours may send their logs.
type Intake struct {
	Network string // "udp", "tcp" or "unixgram"
	Address string // "127.0.0.1:5140", or the absolute path of a socket
}

// ParseIntake reads "udp://127.0.0.1:5140", "tcp://127.0.0.1:5140" or "unixgram:///run/signalbox/foreign.sock".
func ParseIntake(text string) (Intake, error) {
	wrong := fmt.Errorf("%q is no address for logs: want udp://IP:PORT, tcp://IP:PORT or unixgram:///PATH", text)
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Intake{}, wrong
	}
	switch u.Scheme {
	case "udp", "tcp":
		a, err := netip.ParseAddrPort(u.Host)
		if err != nil || u.Path != "" || a.Addr().Zone() != "" {
			return Intake{}, wrong
		}
		return Intake{u.Scheme, a.String()}, nil
	case "unixgram":
		if u.Host != "" || !filepath.IsAbs(u.Path) || len(u.Path) > 100 {
			return Intake{}, wrong
		}
		return Intake{u.Scheme, filepath.Clean(u.Path)}, nil
	}
	return Intake{}, wrong
}

// String returns the address as ParseIntake reads it.
func (i Intake) String() string { return i.Network + "://" + i.Address }

const (
	// intakeBuffer is the room that is asked of the kernel for datagrams, in bytes: half a second of 100,000 lines a second.
	intakeBuffer = 32 << 20
	// intakeQueue is how many datagrams a unix socket should hold. The kernel's default, 10, loses a third of 35,000 lines a second.
	intakeQueue = 4096
	// intakeBatch is how many datagrams are read at once.
	intakeBatch = 64
	// foreignSources is where the numbers of foreign connections begin.
	foreignSources = 1 << 40
)

// datagramQueue is the kernel's limit of waiting datagrams of a unix socket.
const datagramQueue = "/proc/sys/net/unix/max_dgram_qlen"

// intake is one open address.
type intake struct {
	Intake
	stream  *net.TCPListener
	packets net.PacketConn // of udp and unixgram
	drops   uint32         // that the kernel has said, up to now
	short   string         // what the kernel did not grant, for people; "" if all is well
	inode   uint64
}

// listenForeign opens the addresses of ReceiverConfig.Foreign.
func (r *Receiver) listenForeign() error {
	for _, address := range r.cfg.Foreign {
		in := &intake{Intake: address}
		var err error
		switch address.Network {
		case "tcp":
			in.stream, err = listenTCP(address.Address)
		case "udp":
			in.packets, err = net.ListenPacket("udp", address.Address)
		default:
			err = in.listenUnix(r.cfg.Mode, r.cfg.GID)
		}
		if err != nil {
			return fmt.Errorf("listening for logs at %s: %w", address, err)
		}
		r.foreign = append(r.foreign, in)
		if in.packets != nil {
			in.enlarge()
		}
		if in.short != "" {
			r.cfg.Logger.Warn(in.short)
		}
	}
	return nil
}

func listenTCP(address string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// listenUnix opens a datagram socket. Its queue is as long as the kernel's limit at this moment, which is raised first if that is allowed.
func (in *intake) listenUnix(mode fs.FileMode, gid int) error {
	if b, err := os.ReadFile(datagramQueue); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n < intakeQueue {
			if os.WriteFile(datagramQueue, []byte(strconv.Itoa(intakeQueue)), 0) != nil {
				in.short = fmt.Sprintf("the kernel holds %d datagrams for %s: a busy HAProxy will lose lines; sysctl -w net.unix.max_dgram_qlen=%d, and start again", n, in.Address, intakeQueue)
			}
		}
	}
	if err := vacantDatagram(in.Address); err != nil {
		return err
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: in.Address, Net: "unixgram"})
	if err != nil {
		return err
	}
	in.packets, in.inode = c, inode(in.Address)
	err = os.Chmod(in.Address, mode)
	if err == nil && gid > 0 {
		err = os.Chown(in.Address, -1, gid)
	}
	if err != nil {
		return errors.Join(err, c.Close(), os.Remove(in.Address))
	}
	return nil
}

// vacantDatagram removes a socket that nobody reads, and reports an error if somebody does.
func vacantDatagram(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is not a socket")
	}
	c, err := net.Dial("unixgram", path)
	if err == nil {
		return errors.Join(ErrInUse, c.Close())
	}
	return os.Remove(path)
}

// enlarge asks for room for datagrams, beyond the limit for users if that is allowed.
func (in *intake) enlarge() {
	raw, err := in.raw()
	if err != nil {
		return
	}
	has := 0
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, intakeBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, intakeBuffer) // what is granted is read below
		}
		has, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	if err == nil && has < intakeBuffer && in.short == "" && in.Network == "udp" {
		in.short = fmt.Sprintf("the kernel grants %d KiB for %s instead of %d: a burst may be lost; CAP_NET_ADMIN or net.core.rmem_max lets it have more", has>>10, in, intakeBuffer>>10)
	}
}

// Shortages says what the kernel did not grant to the addresses of foreign logs, for people.
func (r *Receiver) Shortages() (out []string) {
	for _, in := range r.foreign {
		if in.short != "" {
			out = append(out, in.short)
		}
	}
	return out
}

// Intakes returns where foreign logs are taken, with the ports that were chosen.
func (r *Receiver) Intakes() (out []Intake) {
	for _, in := range r.foreign {
		one := in.Intake
		if in.stream != nil {
			one.Address = in.stream.Addr().String()
		} else if in.Network == "udp" {
			one.Address = in.packets.LocalAddr().String()
		}
		out = append(out, one)
	}
	return out
}

// runForeign takes foreign logs until ctx ends, and then what has arrived.
func (r *Receiver) runForeign(ctx context.Context) {
	var running sync.WaitGroup
	for _, in := range r.foreign {
		running.Go(func() {
			if in.stream != nil {
				r.takeStreams(ctx, in)
			} else {
				r.takeDatagrams(ctx, in)
			}
		})
	}
	running.Wait()
}

// lines yields the lines of a message; the last one need not end.
func lines(m []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(m) > 0 {
			line := m
			if i := indexNewline(m); i >= 0 {
				line, m = m[:i:i], m[i+1:]
			} else {
				m = nil
			}
			if len(line) > 0 && !yield(line) {
				return
			}
		}
	}
}

// take parses a line into the batch, and hands that on when it is full.
func (r *Receiver) take(line []byte, batch *Batch, results *[int(reasons)]int) {
	batch.Records = batch.Records[:len(batch.Records)+1]
	rec := &batch.Records[len(batch.Records)-1]
	_ = Parse(line, rec)
	results[rec.Reason]++
	if len(batch.Records) == batchSize {
		r.hand(batch, results)
	}
}

// countDrops tells the consumer what the kernel has dropped since it was asked last.
func (r *Receiver) countDrops(in *intake) {
	now, ok := in.dropped()
	if !ok || now == in.drops {
		return
	}
	n := now - in.drops // the kernel's counter wraps as this does
	in.drops = now
	r.cfg.Consumer.Consume(&Batch{Foreign: true, At: time.Now(), Dropped: uint64(n)})
}

// takeStreams accepts connections, each of which brings lines: behind their lengths, or each ended by a line feed.
func (r *Receiver) takeStreams(ctx context.Context, in *intake) {
	var serving sync.WaitGroup
	defer serving.Wait()
	stop := context.AfterFunc(ctx, func() { _ = in.stream.Close() })
	defer stop()
	for {
		c, err := in.stream.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			r.cfg.Logger.WithError(err).Warn("accepting a log connection failed")
			time.Sleep(100 * time.Millisecond)
			continue
		}
		id, ok := r.admitForeign(c)
		if !ok {
			r.stats.refused.Inc()
			_ = c.Close()
			continue
		}
		serving.Go(func() { r.serveForeign(ctx, c, id) })
	}
}

func (r *Receiver) source() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return foreignSources + r.next
}

// admitForeign counts a connection, unless there are too many.
func (r *Receiver) admitForeign(net.Conn) (id uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.foreignConns >= r.cfg.MaxConns {
		return 0, false
	}
	r.foreignConns++
	r.next++
	return foreignSources + r.next, true
}

// serveForeign reads one connection to its end.
func (r *Receiver) serveForeign(ctx context.Context, c *net.TCPConn, id uint64) {
	stop := context.AfterFunc(ctx, func() {
		_ = c.CloseRead() // what has arrived is read, and the peer's ring keeps the rest
		_ = c.SetReadDeadline(time.Now().Add(r.cfg.Drain))
	})
	defer func() {
		stop()
		_ = c.Close()
		r.mu.Lock()
		r.foreignConns--
		r.mu.Unlock()
	}()
	batch := Batch{Source: id, Foreign: true, Records: make([]Record, 0, batchSize)}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		batch.Sender = a.AddrPort().Addr().Unmap().String()
	}
	var results [int(reasons)]int
	buf := make([]byte, readSize)
	held, counted, known := 0, false, false
	for {
		n, err := c.Read(buf[held:])
		batch.At = time.Now()
		r.stats.bytes.Add(float64(max(n, 0)))
		have := buf[:held+max(n, 0)]
		if !known && len(have) > 0 {
			counted, known = octetCounted(have)
		}
		used := 0
		if known {
			used = r.messages(have, counted, &batch, &results)
		}
		if used < 0 {
			r.stats.framing.Inc()
			r.cfg.Logger.WithField("address", c.RemoteAddr().String()).Warn("a log stream is neither octet-counted nor in lines of at most 64 KiB; its connection is closed")
			return
		}
		held = copy(buf, have[used:])
		if err != nil {
			if held > 0 {
				r.stats.unfinished.Inc()
			}
			return
		}
		if n < smallRead {
			time.Sleep(readPause)
		}
	}
}

// octetCounted reports how a stream is framed, by its beginning: "58 <134>…" or "<134>…\n". known is false while that is too short to tell.
func octetCounted(have []byte) (yes, known bool) {
	i := 0
	for i < len(have) && i < 6 && digit(have[i]) {
		i++
	}
	if i == len(have) && i < 6 {
		return false, false
	}
	return i > 0 && i < 6 && have[i] == ' ', true
}

// messages hands on the whole messages of a stream, and returns how many bytes they take; -1 if it can't be framed.
func (r *Receiver) messages(have []byte, counted bool, batch *Batch, results *[int(reasons)]int) (used int) {
	for used < len(have) {
		var line []byte
		if counted {
			msg, n, err := Frame(have[used:])
			if err != nil {
				r.hand(batch, results)
				return -1
			}
			if n == 0 {
				break
			}
			line, used = msg, used+n
		} else {
			i := indexNewline(have[used:])
			if i < 0 {
				if len(have)-used > maxParse {
					r.hand(batch, results)
					return -1
				}
				break
			}
			line, used = have[used:used+i:used+i], used+i+1
		}
		if n := len(line); n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			r.take(line, batch, results)
		}
	}
	r.hand(batch, results)
	return used
}

func (in *intake) close() {
	if in.packets == nil {
		return
	}
	_ = in.packets.Close()
	if in.inode != 0 && inode(in.Address) == in.inode {
		_ = os.Remove(in.Address)
	}
}
