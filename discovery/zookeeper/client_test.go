package zookeeper

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	server "signalbox/test/zookeeper"
)

func TestURLs(t *testing.T) {
	for text, want := range map[string][]string{
		"zk://h1,h2:2182,h3/marathon": {"h1:2181", "h2:2182", "h3:2181", "/marathon"},
		"zk://h1":                     {"h1:2181", "/"},
		"zk://[::1]:2181/a/b/":        {"[::1]:2181", "/a/b"},
	} {
		servers, path, err := ParseURL(text)
		if got := slices.Concat(servers, []string{path}); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"http://h1", "zk://", "zk://h1,,h2/m", "zk://u:p@h1/m", "zk://h1:x/m", "zk://h1:0/m", "zk://h1/a//b", "zk://h1/a?b", "zk://h1/../m"} {
		if servers, path, err := ParseURL(text); err == nil {
			t.Errorf("%s: %v %s", text, servers, path)
		}
	}
}

// run runs a client, and returns its sessions.
func run(t *testing.T, cfg Config) (*Client, <-chan *zk.Conn) {
	t.Helper()
	c, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(chan *zk.Conn, 100)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Run(ctx, func(ctx context.Context, conn *zk.Conn) {
			sessions <- conn
			<-ctx.Done()
		})
	})
	t.Cleanup(func() { stop(); wg.Wait() })
	return c, sessions
}

func next(t *testing.T, sessions <-chan *zk.Conn) *zk.Conn {
	t.Helper()
	select {
	case conn := <-sessions:
		return conn
	case <-time.After(time.Minute):
		t.Fatal("no session")
		return nil
	}
}

// An ensemble whose data was wiped refuses a client that remembers more than there is; a session with it begins all the same.
func TestSessionAfterWipe(t *testing.T) {
	e := server.Start(t, 1)
	_, sessions := run(t, Config{Servers: e.Servers()})
	conn := next(t, sessions)
	for range 50 {
		if _, err := conn.Create("/x-", nil, zk.FlagSequence, zk.WorldACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
	}
	e[0].Kill()
	e[0].Wipe()
	e.StartAll()
	if all, _, err := next(t, sessions).Children("/"); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
}

func TestDigest(t *testing.T) {
	e := server.Start(t, 1)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, sessions := run(t, Config{Servers: e.Servers(), User: "box", PasswordFile: password})
	conn := next(t, sessions)
	if _, err := conn.Create("/m", []byte("x"), 0, zk.DigestACL(zk.PermAll, "box", "s3cret")); err != nil {
		t.Fatal(err)
	}
	if b, _, err := conn.Get("/m"); string(b) != "x" || err != nil {
		t.Errorf("%s %v", b, err)
	}
	_, others := run(t, Config{Servers: e.Servers()})
	if _, _, err := next(t, others).Get("/m"); err == nil {
		t.Error("without credentials it is read too")
	}
}

// What answers and is no ZooKeeper does no harm, whatever it answers.
func TestForeignServer(t *testing.T) {
	e := server.Start(t, 1)
	for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "\x00\x00\x00\x03abc", "", "\x00\x00\x00\x14aaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
		}()
		_, sessions := run(t, Config{Servers: []string{l.Addr().String(), l.Addr().String(), e[0].Address}})
		next(t, sessions)
	}
}
