package discovery

import (
	"net/netip"
	"strings"
	"testing"
)

// Every spelling of an address that leads back to this machine, to nobody or to somebody unseen is refused; what tasks have is not.
func TestAddressesRefuse(t *testing.T) {
	for spelling, want := range map[string]string{
		// of tasks
		"10.0.0.1": "", "172.17.0.2": "", "192.168.1.1": "", "100.64.0.1": "", "198.51.100.7": "", "8.8.8.8": "", "223.255.255.255": "",
		"2001:db8::1": "", "fd00::1": "", "fc00:1:2:3::4": "", "2600::5efe:1": "", "::ffff:10.0.0.1": "", "2A00:1450::8A": "",
		"2001:1::1": "", "128.0.0.1": "", "126.255.255.255": "",
		// this machine itself
		"127.0.0.1": "this machine", "127.0.0.2": "this machine", "127.255.255.254": "this machine", "127.1.2.3": "this machine",
		"::1": "this machine", "0:0:0:0:0:0:0:1": "this machine", "0000::0001": "this machine",
		"::ffff:127.0.0.1": "this machine", "::FFFF:7f00:1": "this machine", "0:0:0:0:0:ffff:127.9.9.9": "this machine",
		// nobody
		"0.0.0.0": "nobody", "0.1.2.3": "nobody", "::": "nobody", "0::0": "nobody", "::ffff:0.0.0.0": "nobody",
		"255.255.255.255": "nobody", "240.0.0.1": "nobody", "254.1.1.1": "nobody", "::ffff:255.255.255.255": "nobody", "100::1": "nobody",
		// link-local: the metadata of clouds lies there
		"169.254.169.254": "link-local", "169.254.0.1": "link-local", "::ffff:169.254.169.254": "link-local", "fe80::1": "link-local",
		"febf::1": "link-local", "224.0.0.1": "link-local", "224.0.0.251": "link-local", "ff02::1": "link-local", "ff01::1": "link-local",
		// multicast
		"239.255.255.250": "multicast", "224.1.0.1": "multicast", "232.0.0.1": "multicast", "ff05::2": "multicast", "ff0e::1": "multicast",
		// another address within
		"::127.0.0.1": "another", "::10.0.0.1": "another", "::7f00:1": "another", "64:ff9b::127.0.0.1": "another",
		"64:ff9b::7f00:1": "another", "64:ff9b:1::1": "another", "2002:7f00:1::": "another", "2002:a9fe:a9fe::1": "another",
		"2001:0:53aa:64c:0:fffe:80ff:fffe": "another", "2001:db8::5efe:127.0.0.1": "another", "2001:db8::200:5efe:7f00:1": "another",
		"fe80::1%eth0": "zone", "2001:db8::1%1": "zone",
	} {
		addr, err := netip.ParseAddr(spelling)
		if err != nil {
			t.Fatal(err)
		}
		at, refused := Addresses{}.Check(addr, 80)
		if (want == "") != (refused == "") || !strings.Contains(refused, want) {
			t.Errorf("%s: refused %q, want %q", spelling, refused, want)
		}
		if (refused == "") != at.IsValid() {
			t.Errorf("%s: %s and refused %q", spelling, at, refused)
		}
	}
	// What is no address to netip never gets here: other spellings are taken for names.
	for _, spelling := range []string{"127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "127.0.0.1:80", "[::1]", "127.0.0.1.", "::ffff:127.0.0.1/128", "１２７.0.0.1", "010.0.0.1"} {
		if addr, err := netip.ParseAddr(spelling); err == nil {
			t.Errorf("%q is the address %s", spelling, addr)
		}
	}
}

func TestAddressesAllow(t *testing.T) {
	own := netip.MustParseAddrPort("10.0.0.1:9901")
	a := Addresses{Loopback: true, Forbidden: func(at netip.AddrPort) bool { return at == own }}
	for _, c := range []struct {
		addr    string
		port    int
		want    string
		refused string
	}{
		{"127.0.0.1", 80, "127.0.0.1:80", ""},
		{"::ffff:127.0.0.1", 80, "127.0.0.1:80", ""},
		{"::1", 65535, "[::1]:65535", ""},
		{"10.0.0.1", 80, "10.0.0.1:80", ""},
		{"10.0.0.1", 9901, "", "control port"},
		{"::ffff:10.0.0.1", 9901, "", "control port"},
		{"10.0.0.2", 9901, "10.0.0.2:9901", ""},
		{"10.0.0.2", 0, "", "is none"},
		{"10.0.0.2", -1, "", "is none"},
		{"10.0.0.2", 65536, "", "is none"},
		{"0.0.0.0", 80, "", "nobody"},
	} {
		at, refused := a.Check(netip.MustParseAddr(c.addr), c.port)
		if at.IsValid() && at.String() != c.want || !at.IsValid() && c.want != "" || !strings.Contains(refused, c.refused) || (c.refused == "") != (refused == "") {
			t.Errorf("%s port %d: %s, %q", c.addr, c.port, at, refused)
		}
	}
}
