package metrics

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFrame(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		msg  string
		used int
		bad  bool
	}{
		"whole":              {"3 abc4 defg", "abc", 5, false},
		"empty message":      {"0 5 abcde", "", 2, false},
		"part of the length": {"12", "", 0, false},
		"no message yet":     {"12 ", "", 0, false},
		"half a message":     {"12 abc", "", 0, false},
		"nothing":            {"", "", 0, false},
		"not a length":       {"<6>SB1", "", 0, true},
		"a space first":      {" 3 abc", "", 0, true},
		"too long":           {"65537 a", "", 0, true},
		"many digits":        {"00000000003 abc", "", 0, true},
		"no space":           {"3abc", "", 0, true},
	} {
		msg, used, err := Frame([]byte(c.in))
		if string(msg) != c.msg || used != c.used || (err != nil) != c.bad {
			t.Errorf("%s: %q, %d, %v", name, msg, used, err)
		}
	}
}

// However a stream is cut into reads, the same messages come out of it.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("3 abc4 defg0 5 abcde"), 3)
	f.Add([]byte("65536 x"), 1)
	f.Add([]byte("3 abcgarbage"), 4)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		if cut < 0 || cut > len(stream) {
			return
		}
		collect := func(parts ...[]byte) (out [][]byte) {
			var held []byte
			for _, p := range parts {
				held = append(held, p...)
				for {
					msg, used, err := Frame(held)
					if err != nil {
						return out
					}
					if used == 0 {
						break
					}
					out = append(out, bytes.Clone(msg))
					held = held[used:]
				}
			}
			return out
		}
		whole, split := collect(stream), collect(stream[:cut], stream[cut:])
		if fmt.Sprintf("%q", whole) != fmt.Sprintf("%q", split) {
			t.Fatalf("whole %q, split %q", whole, split)
		}
	})
}

// A stream that is not octet-counted costs its connection, is counted, and leaves the others alone.
func TestGarbageCostsItsConnection(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log.sock")
	agg := NewAggregator(AggregatorConfig{})
	p := &pipeline{t: t, agg: agg, socket: socket}
	r, err := Listen(ReceiverConfig{Path: socket, Consumer: agg, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	run(t, r)
	good, bad := dial(t, socket), dial(t, socket)
	send := func(seq int) {
		l := line(1, "web", seq, "/a:0", "10.0.0.1:1", 200, 1)
		if _, err := fmt.Fprintf(good, "%d %s", len(l), l); err != nil {
			t.Fatal(err)
		}
	}
	send(0)
	eventually(t, "a line is counted", func() bool { return p.agg.Loss().Counted == 1 })
	third := dial(t, socket)
	_ = third.SetReadDeadline(time.Now().Add(patience))
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was not refused")
	}
	_, _ = bad.Write([]byte("4 SB1 <134>garbage\n"))
	_ = bad.SetReadDeadline(time.Now().Add(patience))
	if _, err := bad.Read(make([]byte, 1)); err == nil {
		t.Error("the connection with garbage stays open")
	}
	send(1)
	eventually(t, "the other connection goes on", func() bool { return p.agg.Loss().Counted == 2 })
	for reason, want := range map[string]float64{"framing": 1, "refused": 1, "unfinished": 0} {
		if got := testutil.ToFloat64(r.stats.brokenVec.WithLabelValues(reason)); got != want {
			t.Errorf("%v streams given up for %s, want %v", got, reason, want)
		}
	}
	if got := testutil.ToFloat64(r.stats.linesVec.WithLabelValues("truncated")); got != 1 {
		t.Errorf("%v lines cut", got)
	}
}

func run(t *testing.T, r *Receiver) {
	t.Helper()
	p := &pipeline{t: t}
	p.run(r)
	t.Cleanup(p.stop)
}

func dial(t testing.TB, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkSocket sends lines over the socket as fast as they are taken; a line costs the sender's and the receiver's time.
func BenchmarkSocket(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "log.sock")
	agg := NewAggregator(AggregatorConfig{})
	r, err := Listen(ReceiverConfig{Path: socket, Consumer: agg})
	if err != nil {
		b.Fatal(err)
	}
	p := &pipeline{}
	p.run(r)
	defer p.stop()
	c := dial(b, socket)
	var chunk []byte
	lines := benchLines()
	for _, l := range lines {
		chunk = append(append(strconv.AppendInt(chunk, int64(len(l)), 10), ' '), l...)
	}
	b.SetBytes(int64(len(chunk) / len(lines)))
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += len(lines) {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	want := uint64((b.N + len(lines) - 1) / len(lines) * len(lines))
	for agg.Loss().Counted < want {
		time.Sleep(100 * time.Microsecond)
	}
}
