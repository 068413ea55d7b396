package haproxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

func TestHAProxyFollowsCommands(t *testing.T) {
	one, two := task(t, "one"), task(t, "two")
	root := service("/shop", "shop.local/", one)
	l := start(t, tableOf(root, service("/other", "other.local/", two)))
	is := func(host, path string, code int, body string) {
		t.Helper()
		if c, b := l.get(host, path); c != code || !strings.Contains(b, body) {
			t.Errorf("%s%s: %d %s, want %d %s", host, path, c, b, code, body)
		}
	}
	is("shop.local", "/", 200, "one")
	is("new.local", "/", 404, "no route")

	three := task(t, "three")
	l.become(tableOf(service("/shop", "shop.local/ new.local/p", three), service("/other", "other.local/ shop.local/cart", two)))
	is("shop.local", "/", 200, "three")
	is("shop.local", "/cart", 200, "two")
	is("shop.local", "/a%2fb", 400, "")
	is("new.local", "/p/q", 200, "three")
	is("new.local", "/", 404, "no route for this path")

	off := three
	off.State = signalbox.Down
	l.become(tableOf(service("/shop", "shop.local/", off), service("/other", "other.local/", two)))
	is("shop.local", "/", 503, `\/shop:0`)
	l.become(tableOf(service("/shop", "shop.local/", three), service("/other", "other.local/", two)))
	is("shop.local", "/", 200, "three")

	// A task that should drain serves on for as long as it is the last, and no longer.
	off.State = signalbox.Draining
	l.become(tableOf(service("/shop", "shop.local/", off), service("/other", "other.local/", two)))
	is("shop.local", "/", 200, "three")
	l.become(tableOf(service("/shop", "shop.local/", off, one), service("/other", "other.local/", two)))
	for range 10 {
		is("shop.local", "/", 200, "one")
	}
	l.become(tableOf(service("/shop", "shop.local/", three), service("/other", "other.local/", two)))
	is("shop.local", "/", 200, "three")

	// The app goes, and comes back with the same name: its backend waited.
	l.become(tableOf(service("/other", "other.local/", two)))
	is("shop.local", "/", 404, "no route")
	l.become(tableOf(service("/shop", "shop.local/", one), service("/other", "other.local/", two)))
	is("shop.local", "/", 200, "one")

	// A suspect task gets a hundredth of the traffic.
	lost := three
	lost.State = signalbox.Suspect
	l.become(tableOf(service("/shop", "shop.local/", one, lost), service("/other", "other.local/", two)))
	counts := make(map[string]int)
	for range 40 {
		_, body := l.get("shop.local", "/")
		counts[strings.Fields(body)[0]]++
	}
	if counts["three"] > 2 || counts["one"] < 38 {
		t.Errorf("with a suspect task the answers are from %v", counts)
	}
}

// A task of unknown health gets no request before HAProxy's check passes, or the orchestrator says that it is healthy.
func TestHAProxyGatesUnknownTasks(t *testing.T) {
	t.Parallel()
	dead := signalbox.Endpoint{Task: "dead", Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ports.Free(t))), State: signalbox.Unknown}
	fine := task(t, "fine")
	fine.State = signalbox.Unknown
	s := service("/shop", "shop.local/")
	s.Check.Interval = time.Second
	with := func(e ...signalbox.Endpoint) *signalbox.Table {
		c := *s
		c.Endpoints = e
		return tableOf(&c)
	}
	l := start(t, with())
	l.become(with(dead))
	if code, body := l.get("shop.local", "/"); code != 503 || !strings.Contains(body, "no healthy task") {
		t.Errorf("a dead task of unknown health: %d %s, want the 503 of no healthy task", code, body)
	}
	l.become(with(dead, fine))
	eventually(t, "HAProxy's check passes", func() bool {
		code, body := l.get("shop.local", "/")
		if code != 200 && code != 503 || code == 200 && !strings.HasPrefix(body, "fine") {
			t.Fatalf("%d %s", code, body)
		}
		return code == 200
	})
	up := task(t, "up")
	up.State = signalbox.Unknown
	l.become(with(dead, up))
	up.State = signalbox.Up
	l.become(with(dead, up))
	if code, body := l.get("shop.local", "/"); code != 200 || !strings.HasPrefix(body, "up") {
		t.Errorf("after the orchestrator's verdict: %d %s", code, body)
	}
}

// A request that may be sent twice meets no dead task; one that may not is sent once.
func TestHAProxyTriesAgainWhatMayBeTriedAgain(t *testing.T) {
	dead := signalbox.Endpoint{Task: "dead", Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ports.Free(t))), State: signalbox.Up}
	var mu sync.Mutex
	seen := make(map[string]int)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Method]++
		mu.Unlock()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(silent.Close)
	mute := signalbox.Endpoint{Task: "mute", Addr: netip.MustParseAddrPort(silent.Listener.Addr().String()), State: signalbox.Up}
	off := func(s *signalbox.Service) *signalbox.Service {
		s.Check.Kind = signalbox.CheckOff
		return s
	}
	l := start(t, tableOf(
		off(service("/half", "half.local/", task(t, "fine"), dead)),
		off(service("/mute", "mute.local/", task(t, "fine"), mute)),
	))
	send := func(method, host string) (int, string) {
		code, _, body := raw(t, l.entry, method+" / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return code, body
	}
	for range 4 {
		for _, method := range []string{"GET", "POST"} {
			if code, body := send(method, "half.local"); code != 200 {
				t.Errorf("%s with a dead task: %d %s", method, code, body)
			}
		}
		if code, body := send("GET", "mute.local"); code != 200 {
			t.Errorf("GET with a mute task: %d %s", code, body)
		}
	}
	refused := 0
	for range 4 {
		if code, _ := send("POST", "mute.local"); code == 502 {
			refused++
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if refused != seen["POST"] || refused == 0 || seen["GET"] == 0 {
		t.Errorf("%d of 4 POST were answered by 502, the mute task saw %v", refused, seen)
	}
}
