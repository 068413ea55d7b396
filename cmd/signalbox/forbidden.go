package main

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"signalbox/haproxy"
)

// forbidden returns whether an address is one of this program's own entries: a task there would lead HAProxy to itself, or to the
// admin listener.
func (s *settings) forbidden() func(netip.AddrPort) bool {
	own := portsOf(slices.Concat(s.HTTPBind, s.httpsBind(), s.AppIDBind, s.HealthBind, s.Admin))
	var bound haproxy.PortRange // service ports that are this program's on every address
	if s.ServiceBind == "*" {
		bound, _ = haproxy.ParsePortRange(s.ServicePortRange) // validate has refused what is none
	}
	local := &localAddresses{}
	return func(a netip.AddrPort) bool {
		port := int(a.Port())
		ours := slices.Contains(own, port) || bound.First <= port && port <= bound.Last
		return ours && (a.Addr().IsLoopback() || local.has(a.Addr()))
	}
}

// clusterPorts is controlPorts, sorted.
func (s *settings) clusterPorts() []int {
	var out []int
	for _, port := range s.controlPorts() {
		out = append(out, int(port))
	}
	slices.Sort(out)
	return out
}

// controlPorts returns the ports of agents that are no tasks'.
func (s *settings) controlPorts() []uint16 {
	var ports []uint16
	for _, text := range s.ControlPorts {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil && n != 0 {
			ports = append(ports, uint16(n))
		}
	}
	return ports
}

// localFor is how long the addresses of this machine are taken to be the same.
const localFor = 10 * time.Second

// localAddresses are the addresses of this machine's interfaces, which come and go. It is safe for concurrent use; the zero value is
// ready.
type localAddresses struct {
	mu    sync.Mutex
	addrs map[netip.Addr]bool
	until time.Time
}

func (l *localAddresses) has(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.After(l.until) {
		l.until = now.Add(localFor)
		if addrs, err := net.InterfaceAddrs(); err == nil {
			l.addrs = map[netip.Addr]bool{}
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil {
					l.addrs[p.Addr().Unmap()] = true
				}
			}
		}
	}
	return l.addrs[a]
}
