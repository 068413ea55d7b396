package marathon

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// place is where one task answers for one port: an address, or why there is none.
type place struct {
	addr    netip.AddrPort
	trouble string
	quiet   bool // the trouble passes by itself: the address is not known yet
	none    bool // the task has no such port, and none is missed
}

// places returns where a task of this shape answers for each of its ports.
func (s *shape) places(t *Task, o *Options) []place {
	ports := s.ports
	out := make([]place, len(ports))
	agent := onceAgent(t.Host, o)
	if s.mode != onContainer {
		for i := range ports {
			switch {
			case i < len(t.Ports):
				out[i] = agent(int(t.Ports[i]))
			case len(t.Ports) == 0:
				out[i] = place{trouble: "Marathon lists no port for it"}
			default:
				out[i] = place{trouble: fmt.Sprintf("it has %d ports, of its own version of the app; this is port %d", len(t.Ports), i)}
			}
		}
		return out
	}
	// As Marathon assigns them: the mappings that ask for a host port take the task's ports in turn.
	next := 0
	for i := range ports {
		p := &ports[i]
		host := 0
		if p.hostPort != nil && next < len(t.Ports) {
			host = int(t.Ports[next])
			next++
		}
		port := p.container
		if port == 0 {
			port = host
		}
		switch {
		case host != 0 && o.PreferHostPort:
			out[i] = agent(host)
		case port == 0:
			out[i] = place{trouble: "the port has no number, neither in the container nor on the agent"}
		default:
			out[i] = s.ownAddress(t, p, port, o)
		}
	}
	return out
}

// ownAddress is the task's address in the network that the port belongs to.
func (s *shape) ownAddress(t *Task, p *portSpec, port int, o *Options) place {
	if len(t.IPAddresses) == 0 {
		return place{trouble: "it has no address yet", quiet: true}
	}
	at := 0
	if len(p.networkNames) > 0 && len(t.IPAddresses) == len(s.networks) {
		if i := slices.IndexFunc(s.networks, func(n network) bool { return n.Name == p.networkNames[0] }); i >= 0 {
			at = i
		}
	}
	text := t.IPAddresses[at].IPAddress
	if text == "" {
		return place{trouble: "it has no address yet", quiet: true}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return place{trouble: fmt.Sprintf("its address %.100q is none", text)}
	}
	return checked(addr, port, o)
}

// onceAgent returns a function that gives the agent's address with a port, and resolves the agent's name once.
func onceAgent(host string, o *Options) func(port int) place {
	var addr netip.Addr
	var trouble string
	asked := false
	return func(port int) place {
		if !asked {
			asked = true
			addr, trouble = agentAddr(host, o)
		}
		if trouble != "" {
			return place{trouble: trouble}
		}
		return checked(addr, port, o)
	}
}

func agentAddr(host string, o *Options) (netip.Addr, string) {
	if host == "" {
		return netip.Addr{}, "Marathon names no host for it"
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, ""
	}
	if o.Resolve != nil {
		if addr, ok := o.Resolve(host); ok {
			return addr, ""
		}
	}
	return netip.Addr{}, fmt.Sprintf("the address of its host %.253q is not known", host)
}

func checked(addr netip.Addr, port int, o *Options) place {
	addr = addr.Unmap()
	if reason := refuse(addr, o.AllowLoopback); reason != "" {
		return place{trouble: fmt.Sprintf("its address %s is refused: %s", addr, reason)}
	}
	if port < 1 || port > 65535 {
		return place{trouble: "its port " + strconv.Itoa(port) + " is none"}
	}
	at := netip.AddrPortFrom(addr, uint16(port))
	if o.Forbidden != nil && o.Forbidden(at) {
		return place{trouble: fmt.Sprintf("its address %s is refused: this machine's own control ports are no tasks", at)}
	}
	return place{addr: at}
}

// embedding are the networks whose addresses stand for another, which would be reached unseen.
var embedding = []netip.Prefix{
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"),
}

// nobody are the IPv4 networks that no task can have.
var nobody = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4")}

// refuse says why no task may be reached at an address, or "". A client that announces such an address would use HAProxy to
// reach what only this machine may reach.
func refuse(a netip.Addr, allowLoopback bool) string {
	a = a.Unmap()
	within := func(nets []netip.Prefix) bool {
		return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	switch {
	case !a.IsValid():
		return "it is no address"
	case a.Zone() != "":
		return "it has a zone"
	case a.IsLoopback():
		if allowLoopback {
			return ""
		}
		return "it is this machine itself"
	case a.IsUnspecified(), within(nobody):
		return "it is the address of nobody"
	case a.IsLinkLocalUnicast(), a.IsLinkLocalMulticast(), a.IsInterfaceLocalMulticast():
		return "it is link-local"
	case a.IsMulticast():
		return "it is a multicast address"
	case within(embedding):
		return "it stands for another address"
	}
	return ""
}

// printableWord keeps letters, digits and a few signs of a word that goes into a message.
func printableWord(s string) string {
	if len(s) > 20 {
		s = s[:20]
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == ',' || r == '_' {
			return r
		}
		return '?'
	}, s)
}
