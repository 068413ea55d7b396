package statsd

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// receiving opens a receiver and runs it until the test ends, or until stop is called.
func receiving(t *testing.T, cfg Config) (r *Receiver, stop func()) {
	t.Helper()
	r, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r, run(t, r)
}

func run(t *testing.T, r *Receiver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func local(t *testing.T, text string) Address {
	t.Helper()
	a, err := ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	network := "udp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unixgram", path
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// until waits for what must come.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Many senders are spread over several readers, and each sender's order holds: the last gauge is the one that stands.
func TestManySenders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	r, _ := receiving(t, Config{Addresses: []Address{local(t, "127.0.0.1:0"), {Path: path}, local(t, "[::1]:0")}, Readers: 3})
	if len(r.sockets) != 7 || len(r.Addresses()) != 3 {
		t.Fatalf("%d sockets at %v", len(r.sockets), r.Addresses())
	}
	const senders, each = 12, 50
	for _, address := range r.Addresses() {
		conns := make([]net.Conn, senders)
		for i := range conns {
			conns[i] = dial(t, address)
		}
		before := total(r.decoder.stats.datagrams)
		for n := range each {
			for i, c := range conns {
				send(t, c, fmt.Sprintf("sent:1|c\nlast:%d|g|#sender:%d", n+1, i))
			}
		}
		until(t, "all has arrived at "+address, func() bool { return total(r.decoder.stats.datagrams) == before+senders*each })
	}
	text := exposition(t, r, time.Now())
	if !strings.Contains(text, fmt.Sprintf("sent %d\n", 3*senders*each)) || strings.Count(text, fmt.Sprintf("} %d\n", each)) != senders {
		t.Errorf("%s", text)
	}
}

// What the kernel drops is counted exactly: sent = received + lost.
func TestKernelDropsAreCounted(t *testing.T) {
	r, err := Listen(Config{Addresses: []Address{local(t, "127.0.0.1:0")}, Readers: 2})
	if err != nil {
		t.Fatal(err)
	}
	const sent = 3000
	c := dial(t, r.Addresses()[0])
	datagram := "a:1|c" + strings.Repeat("\n", 60_000)
	for range sent {
		send(t, c, datagram)
	}
	lost := r.Status().Lost
	if lost == 0 || lost >= sent {
		t.Errorf("%d of %d are lost", lost, sent)
	}
	stop := run(t, r)
	until(t, "the rest is read", func() bool { return total(r.decoder.stats.datagrams) == sent-lost })
	stop()
	if s := r.Status(); s.Lost != lost || s.Bad != 0 {
		t.Errorf("at the end: %+v", s)
	}
}

// A receiver that begins anew shows of the same lines what the one before has shown.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	once := func() string { // eighths of a second add up exactly, in any order
		r, stop := receiving(t, Config{Addresses: []Address{{Path: path}, local(t, "127.0.0.1:0")}, Mapping: "testdata/mapping.yml"})
		defer stop()
		for _, address := range r.Addresses() {
			c := dial(t, address)
			for i := range 200 {
				send(t, c, fmt.Sprintf("shop.s%d.orders.paid:1|c\nwait:%d|ms|#a:%d\nshop.s%d.basket:%d|g", i%7, 125*i, i%3, i%5, i))
			}
		}
		until(t, "all has arrived", func() bool { return total(r.decoder.stats.datagrams) == 400 })
		return exposition(t, r, time.Now())
	}
	first := once()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left behind")
	}
	same(t, first, once())
	if strings.Count(first, "\n") < 20 {
		t.Errorf("only\n%s", first)
	}
}

func TestAddressesInUse(t *testing.T) {
	dir := t.TempDir()
	path, file := filepath.Join(dir, "s.sock"), filepath.Join(dir, "file")
	r, stop := receiving(t, Config{Addresses: []Address{local(t, "127.0.0.1:0"), {Path: path}}})
	f := func(a Address, want string) {
		t.Helper()
		if _, err := Listen(Config{Addresses: []Address{a}}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), a.String()) {
			t.Errorf("%s: %v", a, err)
		}
	}
	f(local(t, r.Addresses()[0]), "address already in use")
	f(Address{Path: path}, "another process listens there")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f(Address{Path: file}, "not a socket")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := r.Status().Gone; got != path {
		t.Errorf("%q is gone", got)
	}
	stop()

	// A socket that somebody left is replaced.
	left, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	r, _ = receiving(t, Config{Addresses: []Address{{Path: path}}})
	send(t, dial(t, "unix:"+path), "a:1|c")
	until(t, "it arrives", func() bool { return r.Status().Samples == 1 })
}

func TestParseAddresses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		a, err := ParseAddresses([]string{text})
		if want == "" && (err != nil || a[0].String() != text) {
			t.Errorf("%s: %v, %v", text, a, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
	f("127.0.0.1:8125", "")
	f("[::1]:8125", "")
	f("172.17.0.1:8125", "")
	f("unix:/run/statsd.sock", "")
	f("unix:statsd.sock", "not absolute")
	f("unix:/"+strings.Repeat("a", 107), "at most 107 bytes")
	f("0.0.0.0:8125", "name one address")
	f(":8125", "neither")
	f("8125", "neither")
	f("localhost:8125", "neither")
	if _, err := ParseAddresses([]string{"127.0.0.1:1", "127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
}
