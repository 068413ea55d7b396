package marathon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"signalbox/discovery"
)

// place is where one task answers for one port: an address, or why there is none.
type place struct {
	addr    netip.AddrPort
	trouble string
	quiet   bool // the trouble passes by itself: the address is not known yet
	none    bool // the task has no such port, and none is missed
	// other is the place at another port of the same address, where that is the task's own. Nil: it is not.
	other func(port int) place
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
		if host == 0 || !o.PreferHostPort {
			out[i].other = func(port int) place { return s.ownAddress(t, p, port, o) }
		}
	}
	return out
}

// ownAddress is the task's address in the network that the port belongs to.
func (s *shape) ownAddress(t *Task, p *portSpec, port int, o *Options) place {
	var addresses []string
	for _, a := range s.within(t.IPAddresses, p.networkNames) {
		if a.IPAddress != "" {
			addresses = append(addresses, a.IPAddress)
		}
	}
	at := firstAddress(addresses, port, o)
	if at.trouble == "" && o.controls(port) {
		// A container without a network has its agent's address, whatever its definition calls that.
		if agent, _ := agentAddr(t.Host, o); agent == at.addr.Addr() {
			return controlPort(port)
		}
	}
	return at
}

// within returns the addresses that a task has in the first of the named networks that the app is in. Marathon lists them in the order of
// the networks, as many for each; where that does not come out even, and without a name, they are all of them.
func (s *shape) within(addresses []taskAddress, names []string) []taskAddress {
	if len(s.networks) == 0 || len(addresses)%len(s.networks) != 0 {
		return addresses
	}
	each := len(addresses) / len(s.networks)
	for _, name := range names {
		if i := slices.IndexFunc(s.networks, func(n network) bool { return n.Name == name }); i >= 0 {
			return addresses[i*each : (i+1)*each]
		}
	}
	return addresses
}

// firstAddress is a place at the first of several addresses of one task that may be used.
func firstAddress(addresses []string, port int, o *Options) place {
	first := place{trouble: "it has no address yet", quiet: true}
	for i, text := range addresses {
		at := place{trouble: fmt.Sprintf("its address %.100q is none", text)}
		if addr, err := netip.ParseAddr(text); err == nil {
			at = checked(addr, port, o)
		}
		if at.trouble == "" {
			return at
		}
		if i == 0 {
			first = at
		}
	}
	return first
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
		if o.controls(port) {
			return controlPort(port)
		}
		return checked(addr, port, o)
	}
}

func agentAddr(host string, o *Options) (netip.Addr, string) {
	if host == "" {
		return netip.Addr{}, "Marathon names no host for it"
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), ""
	}
	if o.Resolve != nil {
		if addr, ok := o.Resolve(host); ok {
			return addr, ""
		}
	}
	return netip.Addr{}, fmt.Sprintf("the address of its host %.253q is not known", host)
}

// checked is a place at an address, if one may be routed to there.
func checked(addr netip.Addr, port int, o *Options) place {
	at, refused := discovery.Addresses{Loopback: o.AllowLoopback, Forbidden: o.Forbidden}.Check(addr, port)
	return place{addr: at, trouble: refused}
}

// controls reports whether a port of an agent is one of the cluster's own.
func (o *Options) controls(port int) bool {
	return 0 < port && port <= 65535 && slices.Contains(o.ControlPorts, uint16(port))
}

func controlPort(port int) place {
	return place{trouble: fmt.Sprintf("port %d of its agent is refused: it is a control port", port)}
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
