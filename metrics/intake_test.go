package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/test/ports"
)

func TestParseIntake(t *testing.T) {
	for text, good := range map[string]bool{
		"udp://127.0.0.1:5140": true, "tcp://0.0.0.0:5140": true, "udp://[::1]:5140": true, "unixgram:///run/sb/foreign.sock": true,
		"127.0.0.1:5140": false, "udp://localhost:5140": false, "udp://127.0.0.1": false, "udp://127.0.0.1:5140/x": false, "unixgram://x/y": false,
		"unixgram:///" + strings.Repeat("x", 200): false, "http://127.0.0.1:80": false, "": false, "tcp://u:p@127.0.0.1:1": false,
	} {
		in, err := ParseIntake(text)
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if good && in.String() != text {
			t.Errorf("%q became %q", text, in)
		}
	}
}

// foreignPipeline takes foreign logs at addresses.
type foreignPipeline struct {
	agg      *Aggregator
	receiver *Receiver
	stop     func()
}

func takeForeign(t *testing.T, agg *Aggregator, addresses ...string) *foreignPipeline {
	t.Helper()
	var intakes []Intake
	for _, text := range addresses {
		in, err := ParseIntake(text)
		if err != nil {
			t.Fatal(err)
		}
		intakes = append(intakes, in)
	}
	r, err := Listen(ReceiverConfig{Path: filepath.Join(t.TempDir(), "own.sock"), Consumer: agg, Foreign: intakes})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	p := &foreignPipeline{agg: agg, receiver: r}
	ended := false
	p.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(p.stop)
	return p
}

// foreignHAProxy runs an HAProxy that knows nothing of us and logs to a target, and returns where it listens.
func foreignHAProxy(t *testing.T, global, extra string) string {
	t.Helper()
	return foreignHAProxyWriting(t, "option httplog", global, extra)
}

// foreignHAProxyWriting is foreignHAProxy with a format of its own.
func foreignHAProxyWriting(t *testing.T, format, global, extra string) string {
	t.Helper()
	address, server := ports.Address(t), origin(t)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`global
  %s
%s
defaults
  mode http
  log global
  %s
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen shop_cart_10000
  bind %s
  server task1 %s
`, global, extra, format, address, server.Listener.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("haproxy", "-db", "-f", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatalf("this test needs HAProxy (apt-get install haproxy): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "HAProxy listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return address
}

// An HAProxy that is not ours is pointed at us, over each of its transports, and every request counts.
func TestForeignHAProxyOnEachTransport(t *testing.T) {
	dir := t.TempDir()
	udp, tcp := ports.Address(t), ports.Address(t)
	for _, c := range []struct{ name, at, global, extra string }{
		{"udp", "udp://" + udp, "log " + udp + " local0", ""},
		{"unix datagram", "unixgram://" + dir + "/foreign.sock", "log " + dir + "/foreign.sock local0", ""},
		{"udp, rfc5424", "udp://" + udp, "log " + udp + " format rfc5424 local0", ""},
		{"tcp, octets counted", "tcp://" + tcp, "log ring@r local0", "ring r\n  format rfc5424\n  maxlen 2000\n  size 1048576\n  timeout connect 5s\n  timeout server 5s\n  server s " + tcp + " log-proto octet-count\n"},
		{"tcp, lines", "tcp://" + tcp, "log ring@r local0", "ring r\n  format rfc3164\n  maxlen 2000\n  size 1048576\n  timeout connect 5s\n  timeout server 5s\n  server s " + tcp + "\n"},
		{"tcp, bare lines", "tcp://" + tcp, "log ring@r format raw local0", "ring r\n  format raw\n  maxlen 2000\n  size 1048576\n  timeout connect 5s\n  timeout server 5s\n  server s " + tcp + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			agg := NewAggregator(AggregatorConfig{})
			p := takeForeign(t, agg, c.at)
			address := foreignHAProxy(t, c.global, c.extra)
			const sent = 200
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for i := range sent {
				resp, err := client.Get(fmt.Sprintf("http://%s/x/%d", address, 200+i%2*304))
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			eventually(t, "every request is counted", func() bool {
				s := agg.Snapshot(time.Now()).Service("/shop/cart:0")
				if s == nil {
					s = agg.Snapshot(time.Now()).Service("shop_cart_10000")
				}
				return s != nil && s.Requests >= sent && s.Code("504") == sent/2 && s.Code("200") == sent/2
			})
			p.stop()
			if l := agg.Loss(); l.Lost != 0 || l.Bad != 0 || l.Counted < sent || l.Sent != l.Counted {
				t.Errorf("the account is %+v", l)
			}
		})
	}
}

// What the kernel has no room for while the reader stands still is counted as lost: with it, the sum is what was sent.
func TestDatagramsThatTheKernelDrops(t *testing.T) {
	address := ports.Address(t)
	in, err := ParseIntake("udp://" + address)
	if err != nil {
		t.Fatal(err)
	}
	agg := NewAggregator(AggregatorConfig{})
	r, err := Listen(ReceiverConfig{Path: filepath.Join(t.TempDir(), "own.sock"), Consumer: agg, Foreign: []Intake{in}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.foreign[0].raw()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) }); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const sent = 5000
	line := []byte(`<134>Nov 21 03:10:49 haproxy[7]: 127.0.0.1:40000 [21/Nov/2026:03:10:49.100] web shop_cart_10000/task1 0/0/1/2/3 200 150 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`)
	for range sent { // nobody reads yet
		if _, err := c.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	eventually(t, "all is counted or known to be lost", func() bool { return agg.Loss().Sent == sent })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l := agg.Loss()
	if l.Counted+l.Lost != sent || l.Kernel == 0 || l.Kernel != l.Lost {
		t.Errorf("of %d sent: %+v", sent, l)
	}
}

// Streams that are no logs cost a connection, and no more.
func TestForeignStreams(t *testing.T) {
	address := ports.Address(t)
	agg := NewAggregator(AggregatorConfig{})
	p := takeForeign(t, agg, "tcp://"+address)
	send := func(text string) {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for part := range strings.SplitSeq(text, "¦") { // in several writes
			if _, err := c.Write([]byte(part)); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	line := `127.0.0.1:40000 [21/Nov/2026:03:10:49.100] web shop/task1 0/0/1/2/3 200 150 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`
	send(line[:40] + "¦" + line[40:] + "\n" + line + "\r\n")
	send(fmt.Sprintf("1¦%s %s%d %s", fmt.Sprint(len(line))[1:], line, len(line), line))
	send(strings.Repeat("x", 70<<10))
	send("99999 " + strings.Repeat("y", 100))
	send(fmt.Sprintf("%d %s¦nonsense", len(line), line))
	send("<133>1 2026-11-21T03:10:49+00:00 h haproxy 7 - - 12 events dropped\n")
	eventually(t, "five lines are counted, and twelve are lost", func() bool {
		l := agg.Loss()
		return l.Counted == 5 && l.Ring == 12 && l.Lost == 12
	})
	p.stop()
}

// Another program's socket stays, and a stale one is replaced.
func TestForeignSocketInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	agg := NewAggregator(AggregatorConfig{})
	p := takeForeign(t, agg, "unixgram://"+path)
	in, _ := ParseIntake("unixgram://" + path)
	if _, err := Listen(ReceiverConfig{Path: filepath.Join(t.TempDir(), "own.sock"), Consumer: agg, Foreign: []Intake{in}}); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	p.stop()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	stale, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	stale.Close()
	takeForeign(t, agg, "unixgram://"+path)
}
