package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"signalbox/test/zookeeper"
)

// A Marathon is found by its election in ZooKeeper, followed when another member leads, and still known when ZooKeeper is gone.
func TestMarathonByZooKeeper(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	e := zookeeper.Start(t, 1)
	conn, events, err := zk.Connect(e.Servers(), 30*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		conn.Close()
		for range events {
		}
	})
	t.Cleanup(stop)
	stand := func(number int, host string) {
		t.Helper()
		eventually(t, "a candidate stands", func() bool {
			for _, dir := range []string{"/marathon", "/marathon/leader-curator"} {
				_, _ = conn.Create(dir, nil, 0, zk.WorldACL(zk.PermAll)) // unless it is there
			}
			_, err = conn.Create(fmt.Sprintf("/marathon/leader-curator/_c_6f2e-latch-%010d", number), []byte(host), 0, zk.WorldACL(zk.PermAll))
			return err == nil
		}, func() string { return fmt.Sprint(err) })
	}
	at := strings.TrimPrefix(c.URL(), "http://")
	first, cut := forward(t, at)
	stand(1, first)

	n := newNode(t, e.URL("/marathon"))
	n.run()
	n.answers("shop.local", "/", 200)

	cut()
	if err := conn.Delete("/marathon/leader-curator/_c_6f2e-latch-0000000001", -1); err != nil {
		t.Fatal(err)
	}
	stand(2, at)
	put(t, c.URL(), "/v2/apps//blog", demoApp("/blog", "blog.local", 1))
	n.answers("blog.local", "/", 200)
	n.answers("shop.local", "/", 200)

	stop()
	e[0].Kill()
	n.controller.end(t, syscall.SIGTERM)
	n.run()
	put(t, c.URL(), "/v2/apps//late", demoApp("/late", "late.local", 1))
	n.answers("late.local", "/", 200)
	eventually(t, "health says that ZooKeeper is gone", func() bool {
		return strings.Contains(fmt.Sprint(n.health()), "ZooKeeper")
	}, func() string { return fmt.Sprintf("%+v", n.health()) })
}

// forward carries connections to an address until cut is called, or the test ends.
func forward(t *testing.T, to string) (address string, cut func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					way[0].Close()
				})
			}
		}
	})
	cut = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	t.Cleanup(cut)
	return l.Addr().String(), cut
}
