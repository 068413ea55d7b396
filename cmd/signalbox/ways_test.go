package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// Whatever comes in by a range of ports, over TLS, or past TLS, is counted once, and nothing counts as lost: neither what HAProxy hands
// over to itself, nor clients that say nothing.
func TestEveryWayInIsCountedOnce(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "own") }))
	t.Cleanup(secure.Close)
	https, err := freeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	first, err := freeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	port := int(netip.MustParseAddrPort(first).Port())
	program, err := control.CheckBinary(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	p := newLogPath(t, !program.SendsRings(), func(o *haproxy.Options, s *control.Settings) {
		o.HTTPSBind, o.ServicePorts = []string{https}, haproxy.PortRange{First: port, Last: port}
		s.Certificates = control.NewCertificates("", o.Dir, nil)
		if err := s.Certificates.Read(time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	service := func(app, host string, mode signalbox.Mode, task netip.AddrPort) *signalbox.Service {
		return &signalbox.Service{
			ID: signalbox.NewServiceID(app, 0), App: app, Mode: mode, Routes: []signalbox.Route{{Host: host, Path: "/"}},
			Endpoints: []signalbox.Endpoint{{Task: app[1:] + ".1", Addr: task, State: signalbox.Up}},
		}
	}
	web := service("/web", "web.local", signalbox.HTTP, p.origin)
	web.Listen = port
	own := service("/own", "own.local", signalbox.TCP, netip.MustParseAddrPort(secure.Listener.Addr().String()))
	own.Policy.Passthrough = true
	p.config = haproxy.Build(signalbox.NewTable([]*signalbox.Service{web, own}, nil), p.options, p.config)
	ctx, cancel := context.WithTimeout(t.Context(), logPatience)
	defer cancel()
	if _, err := p.applier.Apply(ctx, p.config); err != nil {
		t.Fatal(err)
	}
	client := func(addr string) *http.Client {
		return &http.Client{Timeout: logPatience, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test's own certificates
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
		}}
	}
	const rounds = 20
	for range rounds {
		for _, ask := range []struct{ addr, url, want string }{
			{first, "http://any/", "hello"}, {https, "https://web.local/", "hello"}, {https, "https://own.local/", "own"},
		} {
			res, err := client(ask.addr).Get(ask.url)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(body) != ask.want {
				t.Fatalf("%s: %q, %v", ask.url, body, err)
			}
		}
		silent, err := net.Dial("tcp", https)
		if err != nil {
			t.Fatal(err)
		}
		_ = silent.Close()
	}
	want := "web 40 own 20, none lost"
	got := ""
	for end := time.Now().Add(logPatience); got != want && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		loss, _ := p.account()
		snapshot := p.agg.Snapshot(time.Now())
		count := map[string]uint64{}
		for _, s := range snapshot.Services {
			count[s.Service] = s.Requests
		}
		lost := "none"
		if loss.Lost+loss.Unsure+loss.Bad > 0 {
			lost = fmt.Sprintf("%+v", loss)
		}
		got = fmt.Sprintf("web %d own %d, %s lost", count["/web:0"], count["/own:0"], lost)
	}
	// A loss that is none would show within a few rounds of the account, once nothing moves.
	for range 10 {
		if loss, _ := p.account(); loss.Lost+loss.Unsure > 0 {
			t.Fatalf("the account: %+v", loss)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got != want {
		t.Errorf("counted: %s; want %s", got, want)
	}
}
