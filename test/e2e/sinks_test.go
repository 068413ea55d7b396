package e2e

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// graphite takes lines as Graphite's carbon does. Another can follow it at its address.
type graphite struct {
	ln   net.Listener
	mu   sync.Mutex
	seen map[string]uint64 // by name and time; what is sent twice replaces itself
}

func (g *graphite) listen(t *testing.T, address string) {
	t.Helper()
	eventually(t, "an address is free", func() bool {
		ln, err := net.Listen("tcp", address)
		g.ln = ln
		return err == nil
	}, func() string { return address })
	ln := g.ln
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if f := strings.Fields(lines.Text()); len(f) == 3 {
						n, _ := strconv.ParseUint(f[1], 10, 64)
						g.mu.Lock()
						g.seen[f[0]+" "+f[2]] = n
						g.mu.Unlock()
					}
				}
			}()
		}
	}()
}

// sum adds a figure up over all times.
func (g *graphite) sum(figure string) (n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, one := range g.seen {
		if strings.Contains(key, "."+figure+" ") {
			n += one
		}
	}
	return n
}

// has reports whether a figure has arrived.
func (g *graphite) has(figure string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.seen {
		if strings.Contains(key, "."+figure+" ") {
			return true
		}
	}
	return false
}

// What passes through HAProxy arrives at a sink, to the last request before the end, across an outage of the sink, which health shows.
func TestRequestsArriveAtASink(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	g := &graphite{seen: map[string]uint64{}}
	g.listen(t, "127.0.0.1:0")
	address := g.ln.Addr().String()
	n := newNode(t, c.URL())
	n.run("--sink", "graphite://"+address+"?times=summary", "--sink-interval", "1s")
	n.answers("shop.local", "/", 200)
	sent := uint64(1)
	ask := func(times int) {
		t.Helper()
		for range times {
			if code, body := n.get("shop.local", "/"); code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			sent++
		}
	}
	ask(50)
	eventually(t, "requests arrive", func() bool { return g.sum("shop_0.responses.200.GET") >= 50 }, n.controller.text)

	g.ln.Close()
	ask(50)
	eventually(t, "health shows that the sink is down", func() bool { return strings.Contains(n.verb("health"), "it has taken nothing for") }, func() string { return n.verb("health") })
	if text := n.verb("health"); !strings.Contains(text, "degraded") || !strings.Contains(text, "sink graphite://"+address) {
		t.Errorf("health says\n%s", text)
	}
	g.listen(t, address)
	eventually(t, "the sink is well", func() bool {
		h := n.health()
		return len(h.Sinks) == 1 && h.Sinks[0].Status == "ok" && h.Sinks[0].Waiting == 0 && h.Sinks[0].LastSent.After(time.Now().Add(-5*time.Second))
	}, func() string { return n.verb("health") })
	if text := n.metrics(); !strings.Contains(text, `signalbox_sink_dropped_total{reason="queue_full",sink="graphite://`+address+`"} 0`) {
		t.Error("/metrics says nothing of what was dropped")
	}

	ask(50)
	n.controller.end(t, syscall.SIGTERM)
	if got := g.sum("shop_0.responses.200.GET"); got != sent {
		t.Errorf("%d requests were answered, %d arrived at the sink", sent, got)
	}
}
