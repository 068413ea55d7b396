package control

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/test/ports"
)

// portRange returns a range of free ports of 127.0.0.1.
func portRange(t *testing.T, n int) haproxy.PortRange {
	t.Helper()
	for range 100 {
		r := haproxy.PortRange{First: 12000 + rand.IntN(18000)} // below the ports that the kernel gives to clients
		r.Last = r.First + n - 1
		free := r.Last < 65536
		for port := r.First; free && port <= r.Last; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return r
		}
	}
	t.Fatal("no free range of ports")
	return haproxy.PortRange{}
}

// What a frontend hands over counts once, where it is logged.
func TestHandedOverConnectionsCountOnce(t *testing.T) {
	r := newRig(t)
	r.opts.ServicePorts = portRange(t, 3)
	r.supervise()
	r.start(r.real())
	one := task(t, "one")
	web, db := service("web", one), service("db", one)
	web.Listen, db.Listen, db.Mode = r.opts.ServicePorts.First, r.opts.ServicePorts.First+1, signalbox.TCP
	c := haproxy.Build(table(web, db), r.opts, nil)
	r.apply(c)
	get := func(port int) (string, error) {
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	for _, port := range []int{web.Listen, web.Listen, db.Listen} {
		if body, err := get(port); err != nil || body != "one" {
			t.Fatalf("port %d: %q %v", port, body, err)
		}
	}
	if body, err := get(r.opts.ServicePorts.Last); err == nil {
		t.Errorf("the port of nobody answers %q", body)
	}
	// Who connects and says nothing is a line of the frontend that was handed the connection, and no other.
	for range 3 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", web.Listen))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	r.until("the counters say what is logged", func() bool {
		workers, err := r.app.WorkerStats(t.Context())
		if err != nil || len(workers) != 1 || workers[0].InFlight != 0 {
			return false
		}
		got := map[string]string{}
		for _, f := range workers[0].Frontends {
			got[f.Proxy] = fmt.Sprintf("%d sessions, %d requests, %d now", f.Sessions, f.Requests, f.Current)
		}
		return got["ports"] == "1 sessions, 0 requests, 0 now" && strings.HasSuffix(got["ports_http"], ", 5 requests, 0 now")
	})

	// A service moves within the range over the socket; a restarted controller finds everything as it left it.
	moved := *web
	moved.Listen = r.opts.ServicePorts.Last
	c = haproxy.Build(table(&moved, db), r.opts, c)
	if out := r.apply(c); out.Reloaded || out.Commands == 0 {
		t.Errorf("moving within the range: %+v", out)
	}
	if body, err := get(r.opts.ServicePorts.Last); err != nil || body != "one" {
		t.Errorf("at its new port: %q %v", body, err)
	}
	maps, err := NewRuntime(r.opts.StatsSocket).Map(t.Context(), filepath.Join(r.dir, haproxy.PortsMap))
	if err != nil || len(maps) != 2 {
		t.Errorf("the map of ports is %v, %v", maps, err)
	}
}

// The audit repairs the maps of every way in.
func TestAuditOfFurtherWaysIn(t *testing.T) {
	r := newRig(t)
	r.opts.AppIDBind = []string{ports.Address(t)}
	r.supervise()
	s := r.real()
	s.AuditInterval = 100 * time.Millisecond
	r.start(s)
	r.apply(haproxy.Build(table(service("web", task(t, "one"))), r.opts, nil))
	rt := NewRuntime(r.opts.StatsSocket)
	t.Cleanup(rt.Close)
	path := filepath.Join(r.dir, haproxy.AppsMap)
	if _, err := rt.Do(t.Context(), "del map "+path+" /web"); err != nil {
		t.Fatal(err)
	}
	r.until("the audit puts the app back", func() bool {
		lines, err := rt.Map(t.Context(), path)
		return err == nil && slices.Equal(lines, []MapLine{{"/web", "web:0"}})
	})
}

// A service port on an address that is none of this machine's costs that port alone.
func TestServicePortOnAForeignAddress(t *testing.T) {
	r := newRig(t)
	r.supervise()
	app, _ := r.start(r.real())
	c := haproxy.Build(table(service("shop", task(t, "shop"))), r.opts, nil)
	r.apply(c)
	foreign := service("foreign", task(t, "foreign"))
	foreign.Listen = ports.Free(t)
	foreign.Policy.BindAddress = netip.MustParseAddr("192.0.2.77")
	c = haproxy.Build(table(service("shop", task(t, "shop")), foreign), r.opts, c)
	r.apply(c)
	r.answers("foreign.local", "foreign")
	if p := app.Problems(); len(p) != 1 || p[0].Code != "SB402" || p[0].App != "/foreign" || !strings.Contains(p[0].Message, "192.0.2.77") {
		t.Errorf("problems: %v", p)
	}
}

// HAProxy would share the port of another HAProxy without a word.
func TestPortsOfOthersAreNotShared(t *testing.T) {
	r := newRig(t)
	r.opts.HTTPBind = []string{fmt.Sprintf("127.0.0.1:%d", r.port)}
	r.opts.ServicePorts = portRange(t, 2)
	var others []net.Listener
	for _, port := range []int{r.port, r.opts.ServicePorts.Last} {
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}}
		l, err := config.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, l)
	}
	err := Free(r.opts)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("at 127.0.0.1:%d\n", r.port)) || !strings.Contains(err.Error(), strconv.Itoa(r.opts.ServicePorts.Last)) {
		t.Errorf("error %v", err)
	}
	r.supervise().Free = func() error { return Free(r.opts) }
	app, _ := r.start(r.real())
	app.Update(haproxy.Build(table(service("shop", task(t, "shop"))), r.opts, nil))
	r.until("it is said", func() bool { return app.Status().Level == signalbox.Failing })
	time.Sleep(300 * time.Millisecond)
	if _, err := NewMaster(filepath.Join(r.dir, "master.sock")).Proc(t.Context()); err == nil {
		t.Error("HAProxy runs all the same")
	}
	for _, l := range others {
		l.Close()
	}
	r.answers("shop.local", "shop")
}

// A service port that HAProxy has already is not taken for another process's when it is to listen on an address of its own.
func TestServicePortMovesToItsOwnAddress(t *testing.T) {
	r := newRig(t)
	r.opts.ServicePorts = portRange(t, 2)
	r.supervise()
	app, _ := r.start(r.real())
	web, db := service("web", task(t, "web")), service("db", task(t, "db"))
	web.Listen, db.Listen = ports.Free(t), r.opts.ServicePorts.Last
	c := haproxy.Build(table(web, db), r.opts, nil)
	r.apply(c)
	own := []*signalbox.Service{new(signalbox.Service), new(signalbox.Service)}
	for i, s := range []*signalbox.Service{web, db} {
		*own[i] = *s
		own[i].Policy.BindAddress = netip.MustParseAddr("127.0.0.1")
	}
	c = haproxy.Build(table(own...), r.opts, c)
	if out := r.apply(c); !out.Reloaded || len(out.Problems)+len(app.Problems()) > 0 {
		t.Errorf("%+v, %v", out, app.Problems())
	}
	for _, s := range own {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Listen))
		if err != nil {
			t.Errorf("%s: %v", s.ID, err)
			continue
		}
		conn.Close()
	}
}

// An app that HAProxy does not take has no way in at all, and the model says so: the audit finds nothing to repair.
func TestWithheldAppHasNoWayIn(t *testing.T) {
	r := newRig(t)
	r.opts.ServicePorts = portRange(t, 2)
	r.opts.AppIDBind = []string{ports.Address(t)}
	r.supervise()
	app, _ := r.start(r.real())
	shop, bad := service("shop", task(t, "shop")), service("bad", task(t, "bad"))
	c := haproxy.Build(table(shop), r.opts, nil)
	r.apply(c)
	bad.Listen, bad.Policy.Raw = r.opts.ServicePorts.First, []string{"frobnicate yes"}
	r.apply(haproxy.Build(table(shop, bad), r.opts, c))
	if p := app.Problems(); len(p) != 1 || p[0].App != "/bad" {
		t.Fatalf("problems %v", p)
	}
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	running := app.Running()
	act, err := app.observe(t.Context(), rt, Worker{}, running)
	if err != nil {
		t.Fatal(err)
	}
	if _, diffs, err := readBack(running, nil, act); err != nil || len(diffs) > 0 {
		t.Errorf("%v, %v", diffs, err)
	}
}
