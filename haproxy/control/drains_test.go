package control

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"signalbox"
	"signalbox/haproxy"
)

// streaming starts a task whose answer to /stream lasts until its client or the task goes.
func streaming(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			io.WriteString(w, name)
			return
		}
		w.WriteHeader(http.StatusOK)
		io.WriteString(w, name+"\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// stream opens one, with a cookie or "", and returns what ends it, whose end is told, and the cookie that was given.
func (r *rig) stream(host, cookie string) (ended <-chan struct{}, from, given string) {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /stream HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, cookie)
	in := bufio.NewReader(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		r.t.Fatalf("a stream: %v %v", answer, err)
	}
	body := bufio.NewReader(answer.Body)
	line, err := body.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, body)
	}()
	for _, k := range answer.Cookies() {
		given = "Cookie: " + k.Name + "=" + k.Value + "\r\n"
	}
	return done, strings.TrimSpace(line), given
}

func (r *rig) getWith(host, header string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n", host, header)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return string(b)
}

func open(done <-chan struct{}) bool {
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// A drain in its whole length: what runs goes on, a cookie leads on to the task, across a reload and a restart of the controller; then
// everything is cut, in the old worker too, and counted, and the cookie leads elsewhere.
func TestADrainEnds(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.real()
	s.Drain = time.Hour // for as long as this test says
	_, stop := r.start(s)
	shop := service("shop", streaming(t, "one"), streaming(t, "two"))
	shop.Policy = signalbox.Policy{Sticky: "C"}
	c := haproxy.Build(table(shop), r.opts, nil)
	r.apply(c)
	ended, from, cookie := r.stream("shop.local", "")
	other := map[string]string{"one": "two", "two": "one"}[from]
	if got := r.getWith("shop.local", cookie); got != from {
		t.Fatalf("the cookie leads to %q, not to %q", got, from)
	}
	leaving := *shop
	leaving.Endpoints = append([]signalbox.Endpoint(nil), shop.Endpoints...)
	leaving.Endpoints[map[string]int{"one": 0, "two": 1}[from]].State = signalbox.Draining
	c = haproxy.Build(table(&leaving), r.opts, c)
	r.apply(c)
	for range 4 {
		if got := r.getWith("shop.local", ""); got != other {
			t.Errorf("while a task drains a new client gets %q", got)
		}
		if got := r.getWith("shop.local", cookie); got != from {
			t.Errorf("while it drains its sticky client gets %q", got)
		}
	}

	// A reload in the middle: an old worker has the stream now.
	c = haproxy.Build(table(&leaving, service("new", task(t, "new"))), r.opts, c)
	if out := r.apply(c); !out.Reloaded {
		t.Fatal("a new app did not reload")
	}
	later, from2, _ := r.stream("shop.local", cookie)
	if !open(ended) || from2 != from {
		t.Fatalf("after a reload the stream goes on: %v; the sticky client gets %q", open(ended), from2)
	}
	stop()

	// The controller starts anew, with less patience; when the drain began, HAProxy knows.
	s.Drain = 1500 * time.Millisecond
	r.app = New(s)
	prev, err := r.app.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.background(r.app.Run)
	c = haproxy.Build(table(&leaving, service("new", task(t, "new"))), r.opts, prev)
	r.apply(c)
	r.until("both streams are cut", func() bool { return !open(ended) && !open(later) })
	r.until("they are counted", func() bool {
		return testutil.ToFloat64(r.app.met.cutSessions) == 2 && testutil.ToFloat64(r.app.met.drains.WithLabelValues("cut")) == 1
	})
	if got := r.getWith("shop.local", cookie); got != other {
		t.Errorf("after the drain the sticky client gets %q", got)
	}

	// Nothing of that comes back.
	leaving.Since = time.Unix(1, 0)
	again := leaving
	c = haproxy.Build(table(&again, service("new", task(t, "new"))), r.opts, c)
	r.apply(c)
	if got := r.getWith("shop.local", cookie); got != other {
		t.Errorf("after another change the sticky client gets %q", got)
	}
}

// A task that dies before its time is up ends its drain, and one without sessions is not called cut.
func TestADrainEndsWithItsTask(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.real()
	s.Drain = 50 * time.Millisecond
	r.start(s)
	shop := service("shop", task(t, "one"), task(t, "two"), task(t, "three"))
	c := haproxy.Build(table(shop), r.opts, nil)
	r.apply(c)
	leaving := *shop
	leaving.Endpoints = append([]signalbox.Endpoint(nil), shop.Endpoints...)
	leaving.Endpoints[0].State = signalbox.Draining
	c = haproxy.Build(table(&leaving), r.opts, c)
	r.apply(c)
	finished := func(n float64) {
		t.Helper()
		r.until("the drain has ended", func() bool { return testutil.ToFloat64(r.app.met.drains.WithLabelValues("finished")) == n })
	}
	finished(1)
	r.until("its server is in maintenance", func() bool {
		now := r.app.Running()
		return now != nil && now.Backends[0].Slots[0].Admin == haproxy.Maint
	})
	if n := testutil.ToFloat64(r.app.met.cutSessions); n != 0 {
		t.Errorf("%v sessions were cut, of none", n)
	}
	gone := leaving
	gone.Endpoints = shop.Endpoints[1:]
	c = haproxy.Build(table(&gone), r.opts, c)
	r.apply(c)
	back := *shop // under the same id, as if the event had been wrong
	c = haproxy.Build(table(&back), r.opts, c)
	r.apply(c)
	r.until("it takes requests again", func() bool { _, body := r.get("shop.local"); return body == "one" })
	finished(1)
}

// A drain goes on where its service moves to another backend: its time does not begin again, it counts once, and what was begun in the
// earlier backend is cut with the rest.
func TestADrainOutlastsAMove(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	s := r.real()
	s.Drain = 4 * time.Second // longer than a backend that was left keeps its servers
	r.start(s)
	shop := service("shop", streaming(t, "one"), streaming(t, "two"))
	r.apply(r.want(shop))
	ended, from, _ := r.stream("shop.local", "")
	leaving := *shop
	leaving.Endpoints = append([]signalbox.Endpoint(nil), shop.Endpoints...)
	leaving.Endpoints[map[string]int{"one": 0, "two": 1}[from]].State = signalbox.Draining
	r.apply(r.want(&leaving))
	before := r.backend("shop").Name
	moved := leaving
	moved.Check = signalbox.Check{Kind: signalbox.CheckTCP}
	if out := r.apply(r.want(&moved)); out.Reloaded || r.backend("shop").Name == before {
		t.Fatalf("it did not move from %s: %+v", before, out)
	}
	r.until("the stream is cut", func() bool { return !open(ended) })
	r.until("it is counted", func() bool {
		return testutil.ToFloat64(r.app.met.cutSessions) == 1 && testutil.ToFloat64(r.app.met.drains.WithLabelValues("cut")) == 1
	})
	if n := testutil.ToFloat64(r.app.met.drains.WithLabelValues("finished")); n != 0 {
		t.Errorf("%v drains finished besides", n)
	}
}

func TestDrainsFollowTheirTask(t *testing.T) {
	at := func(name string, admin haproxy.AdminState) *haproxy.Backend {
		return &haproxy.Backend{Name: name, Service: "/shop:0", Slots: []haproxy.Server{{Name: "s1", Addr: addr(1), Task: "shop.0", Admin: admin}}}
	}
	config := func(b ...*haproxy.Backend) *haproxy.Config { return &haproxy.Config{Backends: b} }
	began := time.Unix(1000, 0)
	d := drains{}
	ended := d.follow(config(at("shop", haproxy.Drain)), nil, began)
	ended += d.follow(config(at("shop", haproxy.Drain), at("spare-0001", haproxy.Drain)), nil, began.Add(10*time.Second))
	ended += d.follow(config(at("spare-0001", haproxy.Drain)), nil, began.Add(11*time.Second))
	if ended != 0 || len(d) != 1 {
		t.Errorf("%d ended while it moved, %d are left", ended, len(d))
	}
	if d.expire(began.Add(29*time.Second), 30*time.Second) || !d.expire(began.Add(30*time.Second), 30*time.Second) {
		t.Errorf("it is not over 30 s after it began")
	}
}
