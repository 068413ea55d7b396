package haproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

// mirror is a real server that answers with what it is told about the client.
func mirror(t *testing.T, name string) signalbox.Endpoint {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var lines []string
		for key, values := range r.Header {
			lines = append(lines, fmt.Sprintf("%s=%s", strings.ToLower(key), strings.Join(values, "|")))
		}
		slices.Sort(lines)
		fmt.Fprintf(w, "%s %s", name, strings.Join(lines, " "))
	}))
	t.Cleanup(s.Close)
	return signalbox.Endpoint{Task: name, Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), State: signalbox.Up}
}

// claims are what a client may say about its way here, to whoever believes it.
const claims = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n" +
	"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 6\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Ssl: on\r\nX-Real-IP: 6.6.6.6\r\n" +
	"Forwarded: for=6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nX-Client-Ip: 6.6.6.6\r\nX-Original-URL: /evil\r\nX-Rewrite-Url: /evil\r\n" +
	"Front-End-Https: evil\r\nProxy: evil\r\nPROXY: evil\r\n"

func TestClientsCannotSayWhoTheyAre(t *testing.T) {
	service := service("/shop", "shop.local/", mirror(t, "shop"))
	service.Listen = ports.Free(t)
	l := startWith(t, tableOf(service), func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	for _, addr := range []string{l.entry, fmt.Sprintf("127.0.0.1:%d", service.Listen)} {
		code, _, body := raw(t, addr, "GET / HTTP/1.1\r\nHost: shop.local\r\n"+claims+"Connection: close\r\n\r\n")
		_, port, _ := strings.Cut(addr, ":")
		want := "shop x-forwarded-for=127.0.0.1 x-forwarded-host=shop.local x-forwarded-port=" + port + " x-forwarded-proto=http"
		if code != 200 || body != want {
			t.Errorf("%s: %d %s, want %s", addr, code, body, want)
		}
		if code, _, _ := raw(t, addr, "PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\nGET / HTTP/1.1\r\nHost: shop.local\r\nConnection: close\r\n\r\n"); code != 400 {
			t.Errorf("%s: an unasked for PROXY header is answered with %d", addr, code)
		}
	}
}

func TestTrustedProxiesSayWhoTheClientIs(t *testing.T) {
	l := startWith(t, tableOf(service("/shop", "shop.local/", mirror(t, "shop"))), func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
		o.LogFormat = "%ci"
	})
	_, port, _ := strings.Cut(l.entry, ":")
	for _, c := range []struct{ head, want, client string }{
		{"", "x-forwarded-for=127.0.0.1 x-forwarded-host=shop.local x-forwarded-port=" + port + " x-forwarded-proto=http", "127.0.0.1"},
		{
			"X-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.shop\r\nX-Forwarded-Port: 8443\r\n",
			"x-forwarded-for=6.6.6.6, 7.7.7.7, 127.0.0.1 x-forwarded-host=www.shop x-forwarded-port=8443 x-forwarded-proto=https", "7.7.7.7",
		},
		{
			"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.1\r\nX-Forwarded-Proto: HTTPS\r\n",
			"x-forwarded-for=6.6.6.6|7.7.7.1|127.0.0.1 x-forwarded-host=shop.local x-forwarded-port=443 x-forwarded-proto=https", "7.7.7.1",
		},
		{"X-Forwarded-For: 6.6.6.6, 7.7.7.2, 10.1.1.1, fd00::1\r\n", "x-forwarded-for=6.6.6.6, 7.7.7.2, 10.1.1.1, fd00::1, 127.0.0.1", "7.7.7.2"},
		{"X-Forwarded-For: 6.6.6.6, 10.1.1.3, unknown, 10.1.1.2\r\n", "x-forwarded-for=6.6.6.6, 10.1.1.3, unknown, 10.1.1.2, 127.0.0.1", "10.1.1.2"},
		{"X-Forwarded-For: 6.6.6.6, 10.1.1.3, unknown\r\n", "x-forwarded-for=6.6.6.6, 10.1.1.3, unknown, 127.0.0.1", "127.0.0.1"},
		{"X-Forwarded-For: 10.9.9.1, 10.1.1.1\r\n", "x-forwarded-for=10.9.9.1, 10.1.1.1, 127.0.0.1", "10.9.9.1"},
		{"X-Forwarded-Proto: https, gopher\r\nForwarded: for=x\r\nProxy: evil\r\n", "x-forwarded-proto=http", "127.0.0.1"},
	} {
		code, _, body := raw(t, l.entry, "GET / HTTP/1.1\r\nHost: shop.local\r\n"+c.head+"Connection: close\r\n\r\n")
		if code != 200 || !strings.Contains(body, c.want) || strings.Contains(body, "proxy=") || strings.Contains(body, " forwarded=") {
			t.Errorf("%q: %d %s, want %s", c.head, code, body, c.want)
		}
		eventually(t, "the log names the client "+c.client, func() bool { return l.logged(c.client) })
	}

	// What one request on a connection says holds for no other.
	two := "GET / HTTP/1.1\r\nHost: shop.local\r\nX-Forwarded-For: 8.8.8.8\r\n\r\nGET / HTTP/1.1\r\nHost: shop.local\r\nConnection: close\r\n\r\n"
	if answers := everything(t, l.entry, two); strings.Count(answers, "8.8.8.8") != 1 {
		t.Errorf("two requests on one connection: %s", answers)
	}
}

func TestProxyProtocolIn(t *testing.T) {
	web, tcp := service("/shop", "shop.local/", mirror(t, "shop")), service("/tcp", "", mirror(t, "tcp"))
	tcp.Mode, tcp.Listen = signalbox.TCP, ports.Free(t)
	l := startWith(t, tableOf(web, tcp), func(o *Options) {
		o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		o.LogFormatTCP = "tcp %ci"
	})
	const request = "PROXY TCP4 9.9.9.9 7.7.7.7 1 2\r\nGET / HTTP/1.1\r\nHost: shop.local\r\nConnection: close\r\n\r\n"
	if code, _, body := raw(t, l.entry, request); code != 200 || !strings.Contains(body, "x-forwarded-for=9.9.9.9") {
		t.Errorf("by name: %d %s", code, body)
	}
	if code, _, body := raw(t, fmt.Sprintf("127.0.0.1:%d", tcp.Listen), request); code != 200 {
		t.Errorf("by port: %d %s", code, body)
	}
	eventually(t, "the log names the client of the TCP service", func() bool { return l.logged("tcp 9.9.9.9") })
}

// many proxies fit: they stand in a file, not in a line of 64 words.
func TestManyTrustedProxies(t *testing.T) {
	startWith(t, tableOf(), func(o *Options) {
		for i := range 1000 {
			o.TrustedProxies = append(o.TrustedProxies, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		}
		o.ProxyProtocolFrom = o.TrustedProxies
	})
}

// everything sends bytes on a connection of their own and returns all that comes back.
func everything(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// dialer returns a dialler that always leads to addr.
func dialer(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
}
