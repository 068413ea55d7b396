package sink

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"signalbox/metrics"
)

// hang bounds what a test waits for.
const hang = 60 * time.Second

// until waits for something to hold.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come to pass", what)
		}
	}
}

// requests collects what a server was told of the figure requests, by what tells two intervals apart; a figure that is sent again
// replaces itself.
type requests struct {
	mu  sync.Mutex
	got map[string]uint64
}

func (r *requests) put(key string, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.got == nil {
		r.got = map[string]uint64{}
	}
	r.got[key] = n
}

func (r *requests) sum() (n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for one := range maps.Values(r.got) {
		n += one
	}
	return n
}

// load counts requests of a service as fast as it can, in an aggregator as the controller has it.
type load struct {
	aggregator *metrics.Aggregator
	batch      *metrics.Batch
	fed        uint64
	stop       chan struct{}
	stopped    sync.WaitGroup
}

func startLoad(t *testing.T) *load {
	t.Helper()
	l := &load{aggregator: metrics.NewAggregator(metrics.AggregatorConfig{Node: "n"}), stop: make(chan struct{})}
	l.batch = &metrics.Batch{Records: make([]metrics.Record, 16)}
	l.stopped.Go(func() {
		for seq := 0; ; {
			select {
			case <-l.stop:
				return
			default:
			}
			l.batch.At = time.Now()
			for i := range l.batch.Records {
				line := fmt.Sprintf(`SB1 H 7 web %d 200 ---- "/a:0" be s1 10.0.0.1:1 127.0.0.1:5 1795230849 278 0 0 0 0 0 1 1 1795230849279039 900 900 57 73 0 0 0 - - "GET" "HTTP/1.1" "h" "/"`, seq)
				if err := metrics.Parse([]byte(line), &l.batch.Records[i]); err != nil {
					panic(err)
				}
				seq++
			}
			l.aggregator.Consume(l.batch)
			l.fed += uint64(len(l.batch.Records))
			time.Sleep(2 * time.Millisecond)
		}
	})
	return l
}

// end stops the load, and returns how many requests it counted.
func (l *load) end(t *testing.T) uint64 {
	t.Helper()
	close(l.stop)
	l.stopped.Wait()
	if got := l.aggregator.Snapshot(time.Now()).Service("/a:0").Requests; got != l.fed {
		t.Errorf("%d of %d requests were counted", got, l.fed)
	}
	return l.fed
}

// server is a TCP server at one address that can go, come, take connections and read nothing, or break them off.
type server struct {
	address string
	mu      sync.Mutex
	open    []net.Conn
	ln      net.Listener
	running sync.WaitGroup
}

func (s *server) up(t *testing.T, serve func(net.Conn)) {
	t.Helper()
	var err error
	until(t, "an address", func() bool {
		s.ln, err = net.Listen("tcp", s.address)
		return err == nil
	})
	s.address = s.ln.Addr().String()
	ln := s.ln
	s.running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open = append(s.open, conn)
			s.mu.Unlock()
			s.running.Go(func() { serve(conn) })
		}
	})
}

func (s *server) down() {
	s.ln.Close()
	s.mu.Lock()
	for _, c := range s.open {
		c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.running.Wait()
}

func mute(net.Conn) {}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// speakGraphite reads lines until the client has said all.
func speakGraphite(r *requests) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if len(f) == 3 && f[0] == "signalbox.n.a_0.requests" {
				n, _ := strconv.ParseUint(f[1], 10, 64)
				r.put(f[2], n)
			}
		}
	}
}

// speakRiemann answers each message, and notes the time and metric of the figure requests.
func speakRiemann(r *requests) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		for {
			var size [4]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(size[:]))
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			for len(b) > 0 {
				_, _, n := protowire.ConsumeTag(b)
				e, m := protowire.ConsumeBytes(b[n:])
				b = b[n+m:]
				var service string
				var at, metric uint64
				for len(e) > 0 {
					field, kind, n := protowire.ConsumeTag(e)
					e = e[n:]
					switch field {
					case 3:
						service, n = protowire.ConsumeString(e)
					case 10:
						at, n = protowire.ConsumeVarint(e)
					case 13:
						metric, n = protowire.ConsumeVarint(e)
					default:
						n = protowire.ConsumeFieldValue(field, kind, e)
					}
					e = e[n:]
				}
				if service == "/a:0 requests" {
					r.put(fmt.Sprint(at), uint64(protowire.DecodeZigZag(metric)))
				}
			}
			if _, err := c.Write([]byte{0, 0, 0, 2, 2 << 3, 1}); err != nil {
				return
			}
		}
	}
}

// Under load a server goes, breaks off what it accepts, accepts and reads nothing, and comes back. Every request arrives all the same,
// and none is held up: the counts in the end are those of the load.
func TestOutages(t *testing.T) {
	for kind, speak := range map[string]func(*requests) func(net.Conn){"graphite": speakGraphite, "riemann": speakRiemann} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, got := &server{address: "127.0.0.1:0"}, &requests{}
			s.up(t, speak(got))
			in := Context{Node: "n", Interval: time.Second}
			target, err := Parse(kind+"://"+s.address, in)
			if err != nil {
				t.Fatal(err)
			}
			l := startLoad(t)
			p := New(Config{Targets: []*Target{target}, Context: in, Snapshot: l.aggregator.Snapshot, Started: time.Now(), Log: quiet()})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()

			until(t, "the first interval", func() bool { return got.sum() > 0 })
			seen := map[string]uint64{}
			fails := func(what string, reasons ...string) {
				t.Helper()
				until(t, what, func() bool {
					for _, reason := range reasons {
						if n := p.Status()[0].Errors[reason]; n > seen[reason] {
							maps.Copy(seen, p.Status()[0].Errors)
							return true
						}
					}
					return false
				})
			}
			s.down()
			fails("a refused connection", "connect")
			s.up(t, reset)
			fails("a broken connection", "write", "answer")
			s.down()
			maps.Copy(seen, p.Status()[0].Errors)
			s.up(t, mute)
			fails("a timeout", "timeout")
			s.down()
			s.up(t, speak(got))
			until(t, "the end of the outage", func() bool {
				s := p.Status()[0]
				return s.Waiting == 0 && s.Failing.IsZero() && s.LastSent.After(time.Now().Add(-time.Second))
			})
			fed := l.end(t)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			s.down()
			status := p.Status()[0]
			if n := status.Lost(); n != 0 || got.sum() != fed {
				t.Errorf("%d requests were counted, %d arrived, %d points were dropped: %+v", fed, got.sum(), n, status)
			}
		})
	}
}

// A server that takes nothing for long costs the oldest figures, each of which is counted, and no memory beyond the queue's bound.
func TestLongOutageIsBounded(t *testing.T) {
	for _, way := range []struct {
		name  string
		serve func(net.Conn)
	}{{"slow", mute}, {"rejecting", reset}} {
		for _, kind := range []string{"graphite", "riemann"} {
			t.Run(kind+", "+way.name, func(t *testing.T) {
				t.Parallel()
				s := &server{address: "127.0.0.1:0"}
				s.up(t, way.serve)
				in := Context{Node: "n", Interval: time.Second}
				target, err := Parse(kind+"://"+s.address+"?queue=1&times=summary", in)
				if err != nil {
					t.Fatal(err)
				}
				o := newOutlet(target, quiet())
				ctx, cancel := context.WithCancel(t.Context())
				closing, done := make(chan struct{}), make(chan struct{})
				go func() { defer close(done); o.run(ctx, closing) }()

				iv, encoded := wide(200), 0
				frames, _ := target.protocol.encode(iv)
				for _, f := range frames {
					encoded += f.points
				}
				const rounds = 40
				var most int
				for range rounds {
					o.push(iv)
					_, bytes := o.queue.length()
					most = max(most, bytes)
				}
				until(t, "a failure", func() bool { return o.current().Detail != "" })
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				status := o.current()
				if most > 2<<20 || m.HeapAlloc > 64<<20 { // what is on its way stays beyond the bound: at most as much again
					t.Errorf("%d bytes in the queue, %d in the heap", most, m.HeapAlloc)
				}
				if n := status.Dropped["queue_full"]; n == 0 || n+uint64(status.Waiting) != uint64(rounds*encoded) {
					t.Errorf("%d points in, %d dropped, %d wait", rounds*encoded, n, status.Waiting)
				}
				cancel()
				<-done
				s.down()
				if status := o.current(); status.Lost() != uint64(rounds*encoded) {
					t.Errorf("%d of %d are counted as dropped at the end", status.Lost(), rounds*encoded)
				}
			})
		}
	}
}

// wide is an interval of n services.
func wide(n int) *Interval {
	iv := sample()
	iv.Delta.Services = nil
	for i := range n {
		s := sample().Delta.Services[0]
		s.Service = fmt.Sprintf("/group/service-%04d:0", i)
		iv.Delta.Services = append(iv.Delta.Services, s)
	}
	return iv
}

// A StatsD server on this machine that is restarted gets everything, by UDP and by a unix socket.
func TestStatsDOutages(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "statsd.sock")
	f := func(network, address, target string) {
		t.Run(network, func(t *testing.T) {
			listen := func() (conn net.PacketConn) {
				until(t, "an address", func() (ok bool) {
					c, err := net.ListenPacket(network, address)
					conn = c
					return err == nil
				})
				return conn
			}
			conn := listen()
			if network == "udp" {
				address = conn.LocalAddr().String()
				target = "statsd://" + address
			}
			iv := wide(200)
			tgt, err := Parse(target, Context{Node: "n", Interval: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			frames, _ := tgt.protocol.encode(iv)
			want := map[string]int{}
			for _, f := range frames {
				for line := range strings.SplitSeq(string(f.data), "\n") {
					want[line] += 2
				}
			}
			conn.Close() // nobody listens
			if network == "unixgram" {
				_ = os.Remove(address)
			}
			o := newOutlet(tgt, quiet())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			closing, done := make(chan struct{}), make(chan struct{})
			go func() { defer close(done); o.run(ctx, closing) }()
			o.push(iv)
			until(t, "a failure", func() bool { return o.current().Detail != "" })
			if s := o.current(); s.Errors["refused"]+s.Errors["connect"] == 0 || s.Sent+s.Lost() != 0 {
				t.Errorf("while nobody listens: %+v", s)
			}
			conn = listen()
			if network == "unixgram" { // it hangs: its queue fills up
				until(t, "a timeout", func() bool {
					o.push(&Interval{Delta: &metrics.Snapshot{}})
					return o.current().Errors["timeout"] > 0 || o.current().Waiting == 0
				})
			}
			o.push(iv)
			got := map[string]int{}
			b := make([]byte, 1<<16)
			for lines := 0; lines < 2*len(want); {
				_ = conn.SetReadDeadline(time.Now().Add(hang))
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					t.Fatalf("%d lines of %d: %v", lines, 2*len(want), err)
				}
				for line := range strings.SplitSeq(string(b[:n]), "\n") {
					got[line]++
					lines++
				}
			}
			close(closing)
			<-done
			conn.Close()
			if !maps.Equal(want, got) {
				t.Errorf("%d lines were sent twice each, these arrived: %v", len(want), slices.Sorted(maps.Keys(got)))
			}
			if s := o.current(); s.Lost() != 0 || s.Waiting != 0 || s.Detail != "" {
				t.Errorf("in the end: %+v", s)
			}
		})
	}
	f("udp", "127.0.0.1:0", "")
	f("unixgram", socket, "statsd://"+socket)
}

// What a hostile server answers ends the attempt, not the program.
func TestHostileAnswers(t *testing.T) {
	f := func(kind, answer, want string) {
		t.Helper()
		s := &server{address: "127.0.0.1:0"}
		s.up(t, func(c net.Conn) {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, answer)
			_, _ = io.Copy(io.Discard, c)
		})
		defer s.down()
		target := parse(t, kind+"://"+s.address)
		frames, _ := target.protocol.encode(sample())
		var settled []string
		err := target.protocol.send(t.Context(), frames, func(reason string) { settled = append(settled, reason) })
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s, %.20q: %v", kind, answer, err)
		}
		rejected := slices.Equal(settled, []string{"rejected"})
		if rejected != strings.Contains(want, "the server says") || want != "" && !rejected && len(settled) > 0 {
			t.Errorf("%s, %.20q: settled %q", kind, answer, settled)
		}
	}
	f("graphite", "hello", "")
	f("graphite", strings.Repeat("x", 1<<17), "the server talks")
	f("riemann", "\xff\xff\xff\xff", "an answer of 4294967295 bytes")
	f("riemann", "\x00\x00\x00\x03\xff\xff\xff", "no message of Riemann's")
	f("riemann", "\x00\x00\x00\x02\x10\x00", "the server says")
	f("riemann", "\x00\x00\x00\x07\x10\x00\x1a\x03no!", `the server says: "no!"`)
	f("riemann", "\x00\x00\x00\x00", "the server says")
	f("riemann", "\x00\x00\x00\x02\x10\x01", "")
}
