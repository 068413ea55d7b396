package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// Consumer takes records: it is the receiver's contract for whoever counts, traces or forwards them.
//
// Consume is called from one goroutine per connection. The batch and all that its records point to are valid only during
// the call. It must not wait for anything slow: HAProxy's ring overflows meanwhile.
type Consumer interface {
	Consume(*Batch)
}

// Batch is what one read from one connection brought, in the order in which it arrived.
type Batch struct {
	Records []Record // the unreadable ones too, with their Reason
	Source  uint64   // the connection: a worker's ring keeps one
	At      time.Time
	// Closed says that the connection has ended, and nothing more will come from Source. Last is the last whole line that came.
	Closed bool
	Last   []byte

	// Foreign says that a HAProxy that is not ours sends it: nobody can ask its counters. Dropped are the datagrams that the kernel dropped.
	// Sender is the machine that it comes from, "" for this one.
	Foreign bool
	Sender  string
	Dropped uint64

	late *worker // the lines come from the ring of this worker, not over a connection
}

// ReceiverConfig says where and for whom a Receiver listens. Path and Consumer must be set.
type ReceiverConfig struct {
	Path     string      // of the unix stream socket
	Mode     fs.FileMode // of the socket; 0: 0660
	GID      int         // group of the socket; 0 or less: unchanged
	Consumer Consumer
	Drain    time.Duration // how long Run goes on reading what has arrived when its context ends; 0: 2 s
	MaxConns int           // connections at once, and as many foreign ones; 0: 256
	Foreign  []Intake      // where HAProxies that are not ours may send their logs
	Logger   logrus.FieldLogger
}

// Receiver takes the access log from the rings of any number of HAProxy workers, over a unix stream socket, each message
// preceded by its length ("octet counting").
type Receiver struct {
	cfg      ReceiverConfig
	listener *net.UnixListener
	inode    uint64

	mu    sync.Mutex
	conns map[*net.UnixConn]bool // nil once the receiver drains
	next  uint64

	foreign      []*intake
	foreignConns int

	stats receiverStats
}

// ErrInUse says that another process listens on the socket.
var ErrInUse = errors.New("another process listens there")

// Listen binds the socket. A socket file that nobody listens on is replaced without a moment in which there is none; one
// that somebody listens on stays, and the error wraps ErrInUse. HAProxy may connect from now on; Run takes what it sends.
func Listen(cfg ReceiverConfig) (*Receiver, error) {
	if cfg.Mode == 0 {
		cfg.Mode = 0o660
	}
	if cfg.Drain == 0 {
		cfg.Drain = 2 * time.Second
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 256
	}
	if cfg.Logger == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		cfg.Logger = l
	}
	r := &Receiver{cfg: cfg, conns: map[*net.UnixConn]bool{}, stats: newReceiverStats()}
	if err := r.bind(); err != nil {
		return nil, fmt.Errorf("listening for the access log on %s: %w", cfg.Path, err)
	}
	if err := r.listenForeign(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close closes what Listen has opened. After Run it does nothing.
func (r *Receiver) Close() error {
	r.drain()
	for _, in := range r.foreign {
		in.close()
		if in.stream != nil {
			_ = in.stream.Close()
		}
	}
	return nil
}

func (r *Receiver) bind() error {
	path := r.cfg.Path
	if err := vacant(path); err != nil {
		return err
	}
	// The socket gets its mode and its group under another name, then takes the place of the old one in one step.
	tmp := path + ".new"
	if err := vacant(tmp); err != nil {
		return err
	}
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, r.cfg.Mode)
	if err == nil && r.cfg.GID > 0 {
		err = os.Chown(tmp, -1, r.cfg.GID)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, l.Close(), os.Remove(tmp))
	}
	r.listener, r.inode = l, inode(path)
	return nil
}

// vacant reports an error unless path is free or a socket that nobody listens on.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(ErrInUse, c.Close())
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInUse, err)
}

func inode(path string) uint64 {
	if info, err := os.Lstat(path); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return st.Ino
		}
	}
	return 0
}

// Run takes log lines until ctx ends. Then it accepts no more, hands on what has arrived, and returns nil once that is done
// or the drain time is over. It is called once. The socket file is removed if it is still this receiver's.
func (r *Receiver) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.drain)
	defer stop()
	var wg sync.WaitGroup
	taking, end := context.WithCancel(ctx)
	defer end()
	wg.Go(func() { r.runForeign(taking) })
	var failed error
	for {
		c, err := r.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			if errors.Is(err, net.ErrClosed) {
				failed = fmt.Errorf("accepting log connections: %w", err)
				break
			}
			// Out of descriptors, most likely: nothing is lost while the rings have room.
			r.cfg.Logger.WithError(err).Warn("accepting a log connection failed")
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		id, ok := r.admit(c)
		if !ok {
			r.stats.refused.Inc()
			_ = c.Close()
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.serve(c, id)
		}()
	}
	r.drain()
	end()
	wg.Wait()
	return failed
}

func (r *Receiver) admit(c *net.UnixConn) (id uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil || len(r.conns) >= r.cfg.MaxConns {
		return 0, false
	}
	r.conns[c] = true
	r.next++
	return r.next, true
}

// drain closes the listener, and tells every peer that nothing more is read than what is on the way: a stream socket whose
// reading half is shut down still gives out what it holds, and the peer's next write fails, so its ring keeps the rest.
func (r *Receiver) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return
	}
	if inode(r.cfg.Path) == r.inode {
		_ = os.Remove(r.cfg.Path)
	}
	_ = r.listener.Close()
	deadline := time.Now().Add(r.cfg.Drain)
	for c := range r.conns {
		_ = c.CloseRead()
		_ = c.SetReadDeadline(deadline)
	}
	r.conns = nil
}

// readSize is how much one read may bring, and so the bound of a batch; a frame is at most maxParse and a few digits.
const readSize = 256 << 10

// A read that brings less than smallRead is followed by readPause: a wake-up for every few lines costs more than the lines, and
// the socket and the ring behind it hold far more than arrives in that time.
const (
	smallRead = 16 << 10
	readPause = 10 * time.Millisecond
)

// serve reads one connection to its end.
func (r *Receiver) serve(c *net.UnixConn, id uint64) {
	log := r.cfg.Logger.WithField("connection", id)
	log.Debug("log connection opened")
	r.stats.connections.Inc()
	batch := Batch{Source: id}
	var last []byte
	defer func() {
		_ = c.Close()
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
		r.stats.connections.Dec()
		batch.Records, batch.At, batch.Closed, batch.Last = nil, time.Now(), true, last
		r.cfg.Consumer.Consume(&batch)
	}()
	buf := make([]byte, readSize)
	held := 0 // bytes of an incomplete frame at the start of buf
	for {
		n, err := c.Read(buf[held:])
		if n > 0 {
			r.stats.bytes.Add(float64(n))
			batch.At = time.Now()
			used, msg, bad := r.frames(buf[:held+n], &batch)
			if len(msg) > 0 {
				last = append(last[:0], msg...)
			}
			if bad != nil {
				// HAProxy reconnects and starts with a whole message: that is the surest way back to a boundary.
				r.stats.framing.Inc()
				log.WithError(bad).Warn("the log stream is not octet-counted; its connection is closed")
				return
			}
			held = copy(buf, buf[used:held+n])
		}
		if err != nil {
			if held > 0 {
				r.stats.unfinished.Inc()
			}
			if !errors.Is(err, io.EOF) {
				log.WithError(err).Debug("log connection ended")
			}
			return
		}
		if n < smallRead {
			time.Sleep(readPause)
		}
	}
}

// batchSize is how many records are handed on at once: enough to share the price of a lock, few enough to stay in the cache.
const batchSize = 128

// frames parses the whole frames of buf and hands them on. It returns how many bytes they take, and the last message.
func (r *Receiver) frames(buf []byte, batch *Batch) (used int, last []byte, err error) {
	if cap(batch.Records) < batchSize {
		batch.Records = make([]Record, 0, batchSize)
	}
	batch.Records = batch.Records[:0]
	var results [int(reasons)]int
	for used < len(buf) {
		msg, n, err := Frame(buf[used:])
		if err != nil {
			r.hand(batch, &results)
			return used, last, err
		}
		if n == 0 {
			break
		}
		used, last = used+n, msg
		batch.Records = batch.Records[:len(batch.Records)+1]
		rec := &batch.Records[len(batch.Records)-1]
		_ = Parse(msg, rec)
		results[rec.Reason]++
		if len(batch.Records) == batchSize {
			r.hand(batch, &results)
		}
	}
	r.hand(batch, &results)
	return used, last, nil
}

func (r *Receiver) hand(batch *Batch, results *[int(reasons)]int) {
	if len(batch.Records) == 0 {
		return
	}
	for i, n := range results {
		if n > 0 {
			r.stats.lines[i].Add(float64(n))
		}
	}
	*results = [int(reasons)]int{}
	r.cfg.Consumer.Consume(batch)
	batch.Records = batch.Records[:0]
}

// errFraming says that a stream is not octet-counted.
var errFraming = errors.New("expected a length of at most 65536 and a space")

// Frame takes the first message from buf, in the form "LENGTH SPACE MESSAGE". It returns the message, a part of buf, and how
// many bytes the frame takes; 0 says that the frame is not complete yet.
func Frame(buf []byte) (msg []byte, used int, err error) {
	n, i := 0, 0
	for i < len(buf) && digit(buf[i]) {
		n = n*10 + int(buf[i]-'0')
		if i++; n > maxParse {
			return nil, 0, errFraming
		}
	}
	if i == len(buf) && i <= 5 {
		return nil, 0, nil
	}
	if i == 0 || i > 5 || buf[i] != ' ' {
		return nil, 0, errFraming
	}
	i++
	if len(buf)-i < n {
		return nil, 0, nil
	}
	return buf[i : i+n : i+n], i + n, nil
}

// receiverStats are the receiver's own counters: one for each way of losing something, and what arrived.
type receiverStats struct {
	connections prometheus.Gauge
	bytes       prometheus.Counter
	lines       [reasons]prometheus.Counter
	framing     prometheus.Counter
	unfinished  prometheus.Counter
	refused     prometheus.Counter
	linesVec    *prometheus.CounterVec
	brokenVec   *prometheus.CounterVec
}

func newReceiverStats() receiverStats {
	s := receiverStats{
		connections: prometheus.NewGauge(prometheus.GaugeOpts(opts("signalbox_log_connections"))),
		bytes:       prometheus.NewCounter(prometheus.CounterOpts(opts("signalbox_log_received_bytes_total"))),
		linesVec:    prometheus.NewCounterVec(prometheus.CounterOpts(opts("signalbox_log_lines_total")), []string{"result"}),
		brokenVec:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("signalbox_log_streams_broken_total")), []string{"reason"}),
	}
	for i := range s.lines {
		s.lines[i] = s.linesVec.WithLabelValues(Reason(i).String())
	}
	s.framing = s.brokenVec.WithLabelValues("framing")
	s.unfinished = s.brokenVec.WithLabelValues("unfinished")
	s.refused = s.brokenVec.WithLabelValues("refused")
	return s
}

// Describe implements prometheus.Collector.
func (r *Receiver) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range r.stats.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (r *Receiver) Collect(ch chan<- prometheus.Metric) {
	for _, c := range r.stats.collectors() {
		c.Collect(ch)
	}
}

func (s *receiverStats) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.connections, s.bytes, s.linesVec, s.brokenVec}
}
