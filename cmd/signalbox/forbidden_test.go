package main

import (
	"net"
	"net/netip"
	"testing"
)

func TestOwnEntriesAreForbidden(t *testing.T) {
	s := defaults()
	s.HTTPBind = []string{":80", "[::1]:8000"}
	s.Admin = []string{"unix:/run/signalbox.sock", "127.0.0.1:9901"}
	s.ServicePortRange = "10000-10099"
	forbidden := s.forbidden()
	for text, want := range map[string]bool{
		"127.0.0.1:80": true, "127.0.0.2:8000": true, "[::1]:9901": true, "127.0.0.1:31000": false,
		"127.0.0.1:10000": true, "127.0.0.1:10099": true, "127.0.0.1:10100": false, "192.0.2.1:10000": false,
		"192.0.2.1:80": false, "192.0.2.1:9901": false, // another machine's
	} {
		if got := forbidden(netip.MustParseAddrPort(text)); got != want {
			t.Errorf("%s: forbidden %t, want %t", text, got, want)
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a.String())
		if at := netip.AddrPortFrom(p.Addr(), 9901); !forbidden(at) {
			t.Errorf("%s is this machine's admin listener, and not forbidden", at)
		}
	}
}
