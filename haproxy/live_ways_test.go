package haproxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

// freeRange returns a range of n ports of 127.0.0.1 that were free a moment ago.
func freeRange(tb testing.TB, n int) PortRange {
	tb.Helper()
	for range 100 {
		r := PortRange{First: 12000 + rand.IntN(18000)} // below the ports that the kernel gives to clients
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
	tb.Fatal("no free range of ports")
	return PortRange{}
}

func at(s *signalbox.Service, port int) *signalbox.Service {
	s.Listen = port
	return s
}

// ask sends a plain request to a port.
func ask(t *testing.T, port int) string {
	t.Helper()
	_, _, body := raw(t, fmt.Sprintf("127.0.0.1:%d", port), "GET /p HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
	return body
}

// closed reports whether a connection to a port is closed without an answer.
func closed(t *testing.T, port int) bool {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET) // so soon that the dialler sees it
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !strings.Contains(err.Error(), "timeout")
}

// Services come to ports of the range, change and leave without a reload.
func TestPortsOfTheRange(t *testing.T) {
	r := freeRange(t, 6)
	web, db := task(t, "web"), task(t, "db")
	tcp := func(port int) *signalbox.Service {
		s := at(service("/db", "", db), port)
		s.Mode = signalbox.TCP
		return s
	}
	l := startWith(t, tableOf(at(service("/web", "", web), r.First), tcp(r.First+1)), func(o *Options) {
		o.ServicePorts = r
		o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		o.LogFormat = `http %f %lc %{+Q}[var(txn.service)] %ST %ci`
		o.LogFormatTCP = `tcp %f %lc %{+Q}[var(txn.service)] %ci`
	})
	if len(l.now.Listeners) != 0 {
		t.Errorf("listeners of their own: %v", l.now.Listeners)
	}
	if got := ask(t, r.First); got != "web /p for=127.0.0.1" {
		t.Errorf("the HTTP service answers %q", got)
	}
	if got := ask(t, r.First+1); got != "db /p for=" {
		t.Errorf("the TCP service answers %q", got)
	}
	if !closed(t, r.First+2) {
		t.Error("the port of nobody stays open")
	}
	// Each is logged once: the hop of the former is not.
	for _, line := range []string{`http ports_http 0 "/web:0" 200 127.0.0.1`, `tcp ports 0 "/db:0" 127.0.0.1`} {
		eventually(t, "the log says "+line, func() bool { return l.logged(line) })
	}
	// The port that counts is the one that a proxy connects to, not the one that its client asked for.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	proxied, err := from.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.First))
	if err != nil {
		t.Fatal(err)
	}
	defer proxied.Close()
	_ = proxied.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(proxied, "PROXY TCP4 9.9.9.9 8.8.8.8 1 443\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(proxied); err != nil || !strings.HasSuffix(string(answer), "web / for=9.9.9.9") {
		t.Errorf("behind a proxy: %s %v", answer, err)
	}
	l.become(tableOf(at(service("/web", "", web), r.First+3), tcp(r.First)))
	if got := ask(t, r.First+3); got != "web /p for=127.0.0.1" {
		t.Errorf("the HTTP service answers %q at its new port", got)
	}
	if got := ask(t, r.First); got != "db /p for=" {
		t.Errorf("the TCP service answers %q at its new port", got)
	}
	if !closed(t, r.First+1) {
		t.Error("the port that was left stays open")
	}
	eventually(t, "the log counts on", func() bool { return l.logged(`tcp ports 1 "/db:0" 127.0.0.1`) })
	if l.logged("http ports ") || l.logged(`tcp ports 2`) {
		t.Error("a hop is logged")
	}
}

// A port of the range that listens in a way of its own, and one outside the range, have listeners.
func TestPortsThatListenForThemselves(t *testing.T) {
	r := freeRange(t, 5)
	proxied := at(service("/proxied", "", mirror(t, "proxied")), r.First+2)
	proxied.Policy.AcceptProxy = true
	secret := at(service("/secret", "", mirror(t, "secret")), ports.Free(t))
	secret.Policy.PortTLS, secret.Policy.TLS = true, "shop"
	bare := at(service("/bare", "", mirror(t, "bare")), ports.Free(t))
	bare.Mode, bare.Policy.PortTLS = signalbox.TCP, true
	elsewhere := at(service("/elsewhere", "", mirror(t, "elsewhere")), ports.Free(t))
	elsewhere.Policy.BindAddress = netip.MustParseAddr("127.0.0.2")
	lost := at(service("/lost", "", mirror(t, "lost")), ports.Free(t))
	lost.Policy.PortTLS, lost.Policy.TLS = true, "nowhere"
	l := startWith(t, tableOf(proxied, secret, bare, elsewhere, lost, at(service("/web", "", task(t, "web")), r.First)), func(o *Options) {
		certify(t, map[string][]string{"shop": {"shop.local"}})(o)
		o.HTTPSBind = nil
		o.ServicePorts = r
	})
	want := []string{fmt.Sprintf("127.0.0.1:%d-%d", r.First, r.First+1), fmt.Sprintf("127.0.0.1:%d-%d", r.First+3, r.Last)}
	if !slices.Equal(l.now.PortBinds, want) {
		t.Errorf("the range listens on %v, want %v", l.now.PortBinds, want)
	}
	code, _, body := raw(t, fmt.Sprintf("127.0.0.1:%d", proxied.Listen), "PROXY TCP4 9.9.9.9 8.8.8.8 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if code != 200 || !strings.Contains(body, "x-forwarded-for=9.9.9.9") {
		t.Errorf("behind the PROXY protocol: %d %s", code, body)
	}
	if got := ask(t, r.First); got != "web /p for=127.0.0.1" {
		t.Errorf("in the range: %s", got)
	}
	_, body, certificate, proto := secure(t, fmt.Sprintf("127.0.0.1:%d", secret.Listen), "https://any.local/")
	if !strings.Contains(body, "x-forwarded-proto=https") || certificate != "shop.local" || proto != "HTTP/2.0" {
		t.Errorf("with TLS: %s, %s, %s", body, certificate, proto)
	}
	if _, body, certificate, _ := secure(t, fmt.Sprintf("127.0.0.1:%d", bare.Listen), "https://shop.local/"); !strings.HasPrefix(body, "bare") || certificate != "shop.local" {
		t.Errorf("TCP with TLS: %s, %s", body, certificate)
	}
	if _, _, body := raw(t, fmt.Sprintf("127.0.0.2:%d", elsewhere.Listen), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(body, "elsewhere") {
		t.Errorf("on another address: %s", body)
	}
	if p := l.now.Problems; len(p) != 1 || p[0].Code != "SB236" || p[0].App != "/lost" {
		t.Errorf("problems: %v", p)
	}
}

func TestClashesOfPortsAreSeenByBoth(t *testing.T) {
	o := testOptions("/d")
	o.HTTPSBind, o.AppIDBind, o.HealthBind, o.OtherPorts = []string{":443"}, []string{":9091"}, []string{":9090"}, []int{9901}
	o.ClusterPorts = []int{22}
	o.ServicePorts = PortRange{10000, 10009}
	older, younger := at(service("/older", ""), 10005), at(service("/younger", ""), 10005)
	older.Since, younger.Since = time.Unix(1, 0), time.Unix(2, 0)
	all := []*signalbox.Service{younger, older}
	for i, port := range []int{443, 9090, 9091, 9901, 18000, 22} {
		all = append(all, at(service(fmt.Sprintf("/entry%d", i), ""), port))
	}
	c := Build(tableOf(all...), o, nil)
	var got []string
	for _, p := range c.Problems {
		got = append(got, fmt.Sprintf("%s %s %s %s", p.Code, p.Severity, p.App, p.Message))
	}
	want := []string{
		"SB204 error /entry0 this service port is that of the HTTPS entry",
		"SB204 error /entry1 this service port is that of the health entry",
		"SB204 error /entry2 this service port is that of the app id entry",
		"SB204 error /entry3 this service port is that of signalbox itself",
		"SB204 error /entry4 this service port is that of the HTTP entry",
		"SB204 error /entry5 this service port is that of the machine or the cluster",
		"SB232 warning /older /younger:0 asks for this service port too",
		"SB202 error /younger this service port belongs to /older:0, which is older",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(c.Listeners) != 0 || !slices.Equal(c.Ports, []MapEntry{{"10005", "http/older:0"}}) {
		t.Errorf("listeners %v, ports %v", c.Listeners, c.Ports)
	}
}

func TestMarathonLBsOtherWaysIn(t *testing.T) {
	second := service("/shop", "", task(t, "second"))
	second.ID, second.Port = "/shop:1", 1
	first := service("/shop", "shop.local/", task(t, "first"))
	bare := service("/db", "", task(t, "db"))
	bare.Mode = signalbox.TCP
	l := startWith(t, tableOf(first, second, bare), func(o *Options) {
		o.AppIDBind, o.HealthBind = []string{ports.Address(t)}, []string{ports.Address(t)}
	})
	by := func(id string) (int, string) {
		code, _, body := raw(t, l.options.AppIDBind[0], "GET /x HTTP/1.1\r\nHost: any\r\nX-Marathon-App-Id: "+id+"\r\nConnection: close\r\n\r\n")
		return code, body
	}
	for _, c := range []struct {
		id   string
		code int
		body string
	}{
		{"/shop", 200, "first /x"},
		{"/SHOP", 200, "first /x"},
		{"/db", 404, `{"error":"no app with this id","app":"\/db"}`},
		{"/sho", 404, "no app"},
		{"", 404, "no app"},
	} {
		if code, body := by(c.id); code != c.code || !strings.HasPrefix(body, c.body) && !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %s, want %d %s", c.id, code, body, c.code, c.body)
		}
	}
	eventually(t, "the log names the service", func() bool { return l.logged(`"/shop:0" 200`) })
	l.become(tableOf(second, bare))
	if code, body := by("/shop"); code != 200 || !strings.HasPrefix(body, "second") {
		t.Errorf("without its first port the app answers %d %s", code, body)
	}
	for path, want := range map[string]int{"/_haproxy_health_check": 200, "/": 404} {
		if code, _, body := raw(t, l.options.HealthBind[0], "GET "+path+" HTTP/1.0\r\n\r\n"); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestTLSIsPassedThrough(t *testing.T) {
	own := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "own %s", r.URL.Path) }))
	t.Cleanup(own.Close)
	through := service("/own", "own.local/ *.deep.local/", signalbox.Endpoint{
		Task: "own", Addr: netip.MustParseAddrPort(own.Listener.Addr().String()), State: signalbox.Up,
	})
	through.Mode, through.Policy.Passthrough = signalbox.TCP, true
	web := service("/web", "shop.local/ near.deep.local/", mirror(t, "web"))
	l := startWith(t, tableOf(through, web), func(o *Options) {
		certify(t, map[string][]string{"all": {"*.local", "*.deep.local"}})(o)
		o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		o.LogFormat = `http %f %lc %{+Q}[var(txn.service)] %ST %ci`
		o.LogFormatTCP = `tcp %f %lc %{+Q}[var(txn.service)] %ci`
	})
	addr := l.options.HTTPSBind[0]
	_, port, _ := strings.Cut(addr, ":")
	for host, want := range map[string]string{
		"own.local": "own /", "OWN.local": "own /", "any.deep.local": "own /", "near.deep.local": "web", "shop.local": "web",
	} {
		if _, body, _, _ := secure(t, addr, "https://"+host+"/"); !strings.HasPrefix(body, want) ||
			want == "web" && !strings.Contains(body, "x-forwarded-for=127.0.0.1") ||
			want == "web" && !strings.Contains(body, "x-forwarded-port="+port+" x-forwarded-proto=https") {
			t.Errorf("%s: %s, want %s", host, body, want)
		}
	}
	for _, line := range []string{`tcp sni 2 "/own:0" 127.0.0.1`, `http https 1 "/web:0" 200 127.0.0.1`} {
		eventually(t, "the log says "+line, func() bool { return l.logged(line) })
	}
	if l.logged("tcp sni 3") || l.logged(`tcp sni 0 ""`) {
		t.Error("a hop is logged")
	}

	// A proxy before this one says whose the connection is, and both ways hear it.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for _, host := range []string{"shop.local", "own.local"} {
		proxied, err := from.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer proxied.Close()
		_ = proxied.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(proxied, "PROXY TCP4 9.9.9.9 8.8.8.8 1 443\r\n")
		client := tls.Client(proxied, &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // whose it is, is not the question
		fmt.Fprintf(client, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		answer, err := io.ReadAll(client)
		if err != nil || !strings.Contains(string(answer), "200 OK") || host == "shop.local" && !strings.Contains(string(answer), "x-forwarded-for=9.9.9.9") {
			t.Errorf("%s behind a proxy: %s %v", host, answer, err)
		}
	}
	eventually(t, "the log names the client that the proxy names", func() bool { return l.logged(`"/own:0" 9.9.9.9`) })

	// A connection that was opened for another host is not taken for one that is passed through.
	c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "shop.local", InsecureSkipVerify: true}) //nolint:gosec // whose it is, is not the question
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: own.local\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 421") {
		t.Errorf("own.local on the connection of shop.local: %s %v", answer, err)
	}

	// The service leaves: its name is nobody's, without a reload; the way in goes with the next one.
	l.become(tableOf(web))
	if _, body, certificate, _ := secure(t, addr, "https://own.local/"); !strings.Contains(body, "no route") || certificate != "*.local *.deep.local" {
		t.Errorf("after it left: %s, %s", body, certificate)
	}
	if again := Build(tableOf(web), l.options, nil); again.Passthrough {
		t.Error("nothing is passed through, and the entry looks at server names")
	}
}

func TestWhatCannotBePassedThrough(t *testing.T) {
	o := testOptions("/d")
	a, b := service("/a", "x.local/ ~x/ y.local/path /"), service("/b", "x.local/")
	for _, s := range []*signalbox.Service{a, b} {
		s.Mode, s.Policy.Passthrough = signalbox.TCP, true
	}
	a.Since, b.Since = time.Unix(1, 0), time.Unix(2, 0)
	codes := func(c *Config) (out []string) {
		for _, p := range c.Problems {
			if strings.HasPrefix(p.Code, "SB23") {
				out = append(out, fmt.Sprintf("%s %s %s", p.Code, p.App, p.Value))
			}
		}
		return out
	}
	if got := codes(Build(tableOf(a, b), o, nil)); !slices.Equal(got, []string{"SB233 /a passthrough", "SB233 /b passthrough"}) {
		t.Errorf("without an HTTPS entry: %v", got)
	}
	o.HTTPSBind = []string{":443"}
	want := []string{"SB233 /a ", "SB233 /a y.local/path", "SB233 /a ~x", "SB234 /a x.local", "SB234 /b x.local"}
	if got := codes(Build(tableOf(b, a), o, nil)); !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

// Whoever asks for the TLS of a host gets the clients of nobody who has the host already, whichever way that one speaks; and no less
// than its own, if it was there first.
func TestTLSOfAnotherAppIsNotTaken(t *testing.T) {
	o := testOptions("/d")
	o.HTTPSBind = []string{":443"}
	at := func(second int64, app, hosts string, through bool) *signalbox.Service {
		s := service(app, hosts)
		s.Since = time.Unix(second, 0)
		if s.Policy.Passthrough = through; through {
			s.Mode = signalbox.TCP
		}
		return s
	}
	decide := func(all ...*signalbox.Service) string {
		c := Build(tableOf(all...), o, nil)
		var out []string
		for _, e := range c.SNI {
			out = append(out, e.Key+"="+e.Value)
		}
		for _, p := range c.Problems {
			out = append(out, fmt.Sprintf("%s %s %s", p.Code, p.Severity, p.App))
		}
		for _, s := range c.Standings() {
			if s.Lost() {
				out = append(out, fmt.Sprintf("%s lost to %s: %s", s.Service, s.Owner, s.Why))
			}
		}
		return strings.Join(out, ", ")
	}
	shop, evil := at(1, "/shop", "shop.local/cart *.shop.local/", false), at(2, "/evil", "shop.local/ *.shop.local/", true)
	want := "SB234 error /evil, SB234 error /evil, SB234 warning /shop, SB234 warning /shop, /evil:0 lost to /shop:0: is older, /evil:0 lost to /shop:0: is older"
	if got := decide(shop, evil); got != want {
		t.Errorf("the younger one got %s", got)
	}
	evil.Since = time.Unix(0, 0)
	want = "*.shop.local=evil:0, shop.local=evil:0, SB234 warning /evil, SB234 warning /evil, SB234 error /shop, SB234 error /shop"
	if got := decide(shop, evil); got != want {
		t.Errorf("the older one got %s", got)
	}
	shop.Policy.Priority = 1
	if got := decide(shop, evil); strings.Contains(got, "=") || !strings.Contains(got, "has the higher priority") {
		t.Errorf("against a higher priority it got %s", got)
	}

	shop.Policy.Priority, shop.Since = 0, time.Unix(3, 0)
	c := Build(tableOf(shop, evil), o, nil)
	for host, want := range map[string]string{"shop.local": "/evil:0", "a.shop.local": "/evil:0"} {
		a := c.Ask(443, Request{Host: host, TLS: true})
		if a.Status != 0 || len(a.Destinations) != 1 || string(a.Destinations[0].Service) != want || len(a.Claims) != 1 || !a.Claims[0].Wins {
			t.Errorf("by TLS %s is answered by %+v", host, a)
		}
	}
	if a := c.Match(Request{Host: "shop.local", Path: "/cart"}); len(a.Destinations) != 1 || a.Destinations[0].Service != "/shop:0" {
		t.Errorf("without TLS shop.local is answered by %+v", a)
	}

	// An app that answers by HTTP too contests nothing, and does not stand for the other one either.
	own, plain := at(3, "/own", "own.local/", true), at(1, "/own", "own.local/", false)
	plain.ID, plain.Port = "/own:1", 1
	if got := decide(own, plain); got != "own.local=own:0" {
		t.Errorf("beside its own HTTP: %s", got)
	}
	if got := decide(own, plain, at(2, "/third", "own.local/", false)); !strings.Contains(got, "/own:0 lost to /third:0") {
		t.Errorf("a part of the app that is older got it the TLS of an older app: %s", got)
	}
}

func TestHTTP2AndWebSocketsFromClients(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(w, "plain")
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}))
	t.Cleanup(up.Close)
	l := startWith(t, tableOf(service("/ws", "ws.local/", signalbox.Endpoint{
		Task: "ws", Addr: netip.MustParseAddrPort(up.Listener.Addr().String()), State: signalbox.Up,
	})), certify(t, map[string][]string{"ws": {"ws.local"}}))
	// HTTP/2 without TLS is spoken to a client that begins with it.
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Protocols: &protocols, DialContext: dialer(l.entry)}}
	res, err := client.Get("http://ws.local/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	client.CloseIdleConnections()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Errorf("HTTP/2 without TLS: %d %s", res.StatusCode, res.Proto)
	}
	secureConn, err := tls.Dial("tcp", l.options.HTTPSBind[0], &tls.Config{ServerName: "ws.local", InsecureSkipVerify: true}) //nolint:gosec // a test's own
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Dial("tcp", l.entry)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"with TLS": secureConn, "without": plain} {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: ws.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n")
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 101") {
			t.Fatalf("%s: %q %v", name, buf[:n], err)
		}
		fmt.Fprint(c, "ping")
		if n, err = c.Read(buf); err != nil || string(buf[:n]) != "ping" {
			t.Errorf("%s: %q %v", name, buf[:n], err)
		}
	}
}
