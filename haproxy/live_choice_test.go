package haproxy

import (
	"fmt"
	"net"
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

// cookieOf asks without a cookie until a task answers, and returns the cookie that leads back to it.
func (l *live) cookieOf(host, name string) string {
	l.t.Helper()
	for range 50 {
		_, header, body := l.ask("GET", host, "/")
		if strings.HasPrefix(body, name+" ") {
			cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
			return cookie
		}
	}
	l.t.Fatalf("%s never answers", name)
	return ""
}

// A client keeps its task: on every machine, in whichever slot it is, and for as long as it takes requests at all.
func TestStickyClientsKeepTheirTask(t *testing.T) {
	t.Parallel()
	one, two, three := task(t, "one"), task(t, "two"), task(t, "three")
	sticky := func(endpoints ...signalbox.Endpoint) *signalbox.Table {
		return tableOf(with(service("/shop", "shop.local/", endpoints...), signalbox.Policy{Sticky: "SIGNALBOX_TASK"}))
	}
	l := start(t, sticky(one, two))
	other := start(t, sticky(three, two, one))
	cookie := l.cookieOf("shop.local", "two")
	if header := l.cookieHeader("shop.local"); !strings.HasPrefix(header, "SIGNALBOX_TASK=") || !strings.Contains(header, "HttpOnly") {
		t.Fatalf("the cookie is %q", header)
	}
	keeps := func(l *live, name, when string) {
		t.Helper()
		for range 6 {
			code, header, body := l.ask("GET", "shop.local", "/", "Cookie: a=b; "+cookie)
			if code != 200 || !strings.HasPrefix(body, name+" ") || header.Get("Set-Cookie") != "" {
				t.Errorf("%s: %d %s, want %s; the cookie %q", when, code, body, name, header.Get("Set-Cookie"))
			}
		}
	}
	keeps(l, "two", "at first")
	keeps(other, "two", "on another machine")

	// Its task drains: the client may finish, others go elsewhere.
	leaving := two
	leaving.State = signalbox.Draining
	l.become(sticky(one, leaving))
	keeps(l, "two", "while it drains")
	for range 6 {
		if _, body := l.get("shop.local", "/"); !strings.HasPrefix(body, "one ") {
			t.Errorf("while two drains, a new client gets %s", body)
		}
	}
	// It is gone, and its slot is another task's: the client is led on.
	l.become(sticky(one, three))
	_, header, body := l.ask("GET", "shop.local", "/", "Cookie: "+cookie)
	if strings.HasPrefix(body, "two") || header.Get("Set-Cookie") == "" {
		t.Errorf("after it has gone: %s, the cookie %q", body, header.Get("Set-Cookie"))
	}
	// It comes back, in another slot, with what it had on the other machine all the time.
	l.become(sticky(one, three, two))
	keeps(l, "two", "in another slot")
	cookie = l.cookieOf("shop.local", "three")
	keeps(l, "three", "in the slot that two had")
	keeps(other, "three", "in the slot that two had, on another machine")
}

func (l *live) cookieHeader(host string) string {
	_, header, _ := l.ask("GET", host, "/")
	return header.Get("Set-Cookie")
}

// Each way of choosing a task is one that HAProxy knows, and lets weights change while it runs.
func TestBalances(t *testing.T) {
	t.Parallel()
	var services, suspects []*signalbox.Service
	for _, balance := range append([]string{""}, signalbox.Balances...) {
		for mode, name := range map[signalbox.Mode]string{signalbox.HTTP: "/http", signalbox.TCP: "/tcp"} {
			s := with(service(name+balance, ""), signalbox.Policy{Balance: balance})
			s.Mode = mode
			if mode == signalbox.HTTP {
				s.Routes = []signalbox.Route{{Host: "x" + balance + ".local", Path: "/"}}
			}
			s.Endpoints = []signalbox.Endpoint{task(t, "one"), task(t, "two")}
			services = append(services, s)
			c := *s
			c.Endpoints = []signalbox.Endpoint{s.Endpoints[0], s.Endpoints[1]}
			c.Endpoints[1].State = signalbox.Suspect
			suspects = append(suspects, &c)
		}
	}
	l := start(t, tableOf(services...))
	l.become(tableOf(suspects...))
	for _, balance := range append([]string{""}, signalbox.Balances...) {
		if code, body := l.get("x"+balance+".local", "/"); code != 200 {
			t.Errorf("%s: %d %s", balance, code, body)
		}
	}
	// The same client, or the same path, gets the same task.
	for _, host := range []string{"xsource.local", "xuri.local"} {
		_, first := l.get(host, "/a")
		for range 10 {
			if _, body := l.get(host, "/a"); body != first {
				t.Errorf("%s: %s after %s", host, body, first)
			}
		}
	}
}

// busy is a real server that answers with its name after a while, or once it may.
type busy struct {
	signalbox.Endpoint
	hold chan struct{} // requests for /hold wait for it
}

func newBusy(t *testing.T, name, ip, host string) *busy {
	t.Helper()
	b := &busy{hold: make(chan struct{})}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			select {
			case <-b.hold:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, name)
	}))
	s.Listener.Close()
	var err error
	if s.Listener, err = net.Listen("tcp", ip+":0"); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Close)
	b.Endpoint = signalbox.Endpoint{Task: name, Host: host, Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), State: signalbox.Up}
	return b
}

// Tasks on this machine come first; the others help when they are busy or down. Which tasks these are changes without a reload.
func TestTasksNearbyComeFirst(t *testing.T) {
	t.Parallel()
	near, near2 := newBusy(t, "near", "127.0.0.1", "agent-1"), newBusy(t, "near2", "127.0.0.5", "")
	far, far2 := newBusy(t, "far", "127.0.0.2", "agent-2"), newBusy(t, "far2", "127.0.0.3", "agent-3")
	shop := func(endpoints ...signalbox.Endpoint) *signalbox.Table {
		s := service("/shop", "shop.local/", endpoints...)
		s.Check = signalbox.Check{Interval: time.Second, Fall: 1}
		small := with(service("/small", "small.local/", endpoints...), signalbox.Policy{MaxConn: 3})
		hashed := with(service("/hashed", "hashed.local/", endpoints...), signalbox.Policy{Balance: "uri"})
		sticky := with(service("/sticky", "sticky.local/", endpoints...), signalbox.Policy{Sticky: "C"})
		return tableOf(s, small, hashed, sticky)
	}
	l := startWith(t, shop(far.Endpoint, near.Endpoint, far2.Endpoint), func(o *Options) {
		o.Prefer, o.Node = PreferLocal, []string{"AGENT-1", "127.0.0.5"}
	})
	counts := func(host string, n int) map[string]int {
		out := make(map[string]int)
		for i := range n {
			code, body := l.get(host, fmt.Sprintf("/%d", i))
			if code != 200 {
				t.Errorf("%d %s", code, body)
			}
			out[body]++
		}
		return out
	}
	if got := counts("shop.local", 40); got["near"] != 40 {
		t.Errorf("with time to spare the answers are from %v", got)
	}
	if got := counts("sticky.local", 40); got["near"] < 26 {
		t.Errorf("where cookies lead clients, new ones go to %v", got)
	}
	if got := counts("hashed.local", 40); got["far"] < 5 || got["far2"] < 5 {
		t.Errorf("where the path decides, the answers are from %v", got)
	}

	// It is busy: the next ones go to others, until it has time again.
	var wg sync.WaitGroup
	for _, load := range []struct {
		host string
		n    int
		more int // that the nearby task may get all the same
	}{{"shop.local", localInFlight, 5}, {"small.local", 3, 0}} {
		for range load.n {
			wg.Go(func() {
				if code, body := l.get(load.host, "/hold"); code != 200 || body != "near" {
					t.Errorf("one of those that fill the nearby task: %d %s", code, body)
				}
			})
		}
		eventually(t, "the nearby task is full", func() bool {
			return l.inFlight(strings.TrimSuffix(load.host, ".local")+":0") == load.n
		})
		if got := counts(load.host, 20); got["near"] > load.more || got["far"] < 4 || got["far2"] < 4 {
			t.Errorf("%s: while the nearby task is busy the answers are from %v", load.host, got)
		}
	}
	close(near.hold)
	wg.Wait()
	if got := counts("shop.local", 20); got["near"] != 20 {
		t.Errorf("with time again the answers are from %v", got)
	}

	// Another one comes, known by its address; the first drains, and takes none.
	leaving, lost := near.Endpoint, near.Endpoint
	leaving.State, lost.State = signalbox.Draining, signalbox.Suspect
	l.become(shop(far.Endpoint, leaving, far2.Endpoint, near2.Endpoint))
	if got := counts("shop.local", 20); got["near2"] != 20 {
		t.Errorf("while one drains the answers are from %v", got)
	}
	l.become(shop(far.Endpoint, lost, far2.Endpoint, near2.Endpoint))
	if got := counts("shop.local", 20); got["near2"] != 20 {
		t.Errorf("while one is suspect the answers are from %v", got)
	}
	// A suspect one is no nearer than the others.
	l.become(shop(far.Endpoint, lost, far2.Endpoint))
	if got := counts("shop.local", 20); got["near"] > 10 {
		t.Errorf("with a suspect task nearby the answers are from %v", got)
	}
	elsewhere := far2.Endpoint
	elsewhere.State = signalbox.Suspect
	l.become(shop(far.Endpoint, elsewhere))
	if got := counts("shop.local", 40); got["far2"] > 8 {
		t.Errorf("with a suspect task elsewhere the answers are from %v", got)
	}
	// HAProxy's own check finds it down.
	dead := near.Endpoint
	dead.Task, dead.Addr = "dead", netip.AddrPortFrom(near.Addr.Addr(), uint16(ports.Free(t)))
	l.become(shop(far.Endpoint, dead, far2.Endpoint))
	eventually(t, "all go to the others", func() bool {
		got := counts("shop.local", 10)
		return got["far"]+got["far2"] == 10
	})
}

// inFlight returns how many requests the servers of a backend have.
func (l *live) inFlight(backend string) int {
	n := 0
	for line := range strings.Lines(l.command("show stat")) {
		f := strings.Split(line, ",")
		if f[0] == backend && strings.HasPrefix(f[1], "s") {
			var scur int
			fmt.Sscan(f[4], &scur)
			n += scur
		}
	}
	return n
}
