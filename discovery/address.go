package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Addresses says which addresses may be routed to. A task that could announce any other would use HAProxy to reach what only this
// machine may reach. The zero value allows no loopback address and forbids nothing else that could be a task's.
type Addresses struct {
	Loopback bool // addresses of this machine's loopback may be
	// Forbidden reports whether an address is a control port: of this program, or of the cluster. Nil: none is.
	Forbidden func(netip.AddrPort) bool
}

// Check returns addr with port, an IPv4 address in its own form, or says why nothing may be routed there.
func (a Addresses) Check(addr netip.Addr, port int) (at netip.AddrPort, refused string) {
	addr = addr.Unmap()
	if reason := a.refuse(addr); reason != "" {
		return netip.AddrPort{}, fmt.Sprintf("its address %s is refused: %s", addr, reason)
	}
	if port < 1 || port > 65535 {
		return netip.AddrPort{}, "its port " + strconv.Itoa(port) + " is none"
	}
	at = netip.AddrPortFrom(addr, uint16(port))
	if a.Forbidden != nil && a.Forbidden(at) {
		return netip.AddrPort{}, fmt.Sprintf("its address %s is refused: it is a control port", at)
	}
	return at, ""
}

// embedding are the networks whose addresses stand for another, which would be reached unseen: IPv4-compatible ones, NAT64, Teredo,
// 6to4.
var embedding = []netip.Prefix{
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"),
}

// nobody are the networks that no task can have: this network, the reserved ones with the broadcast, and the discarded one.
var nobody = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64")}

// refuse says why nothing may be reached at an address, or "".
func (a Addresses) refuse(addr netip.Addr) string {
	within := func(nets []netip.Prefix) bool {
		return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	switch {
	case !addr.IsValid():
		return "it is no address"
	case addr.Zone() != "":
		return "it has a zone"
	case addr.IsLoopback():
		if a.Loopback {
			return ""
		}
		return "it is this machine itself"
	case addr.IsUnspecified(), within(nobody):
		return "it is the address of nobody"
	case addr.IsLinkLocalUnicast(), addr.IsLinkLocalMulticast(), addr.IsInterfaceLocalMulticast():
		return "it is link-local"
	case addr.IsMulticast():
		return "it is a multicast address"
	case within(embedding), isISATAP(addr):
		return "it stands for another address"
	}
	return ""
}

// isISATAP reports whether an IPv6 address ends in the form 0:5efe:a.b.c.d, which a tunnel takes to the IPv4 address in it.
func isISATAP(addr netip.Addr) bool {
	if !addr.Is6() {
		return false
	}
	b := addr.As16()
	return b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
