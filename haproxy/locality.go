package haproxy

import (
	"net/netip"
	"strings"

	"signalbox"
)

// Preference says which tasks are preferred among healthy ones.
type Preference string

// The preferences.
const (
	PreferNone  Preference = ""
	PreferLocal Preference = "local" // those on this machine
)

const (
	// LocalWeight marks a task on this machine: the file's rules send requests to servers that weigh more than NormalWeight, and
	// which tasks these are changes without a reload.
	LocalWeight = 120
	// A task nearby is preferred until it has this many requests in flight; then all are asked.
	localInFlight = 16
	// So many of a backend's servers are asked one by one whether they are nearby. Those of the rest weigh more, and that is all.
	maxLocalRules = 64
	// Where a cookie leads clients, no rule can: the cookie would not be given out. There the weights alone prefer.
	stickyLocalWeight, stickyRemoteWeight = 256, 16
	// Of four that are drawn by weight the one with the fewest requests: many machines that choose so do not all choose the same one,
	// and a suspect task is rarely drawn, where least connections would take it for as long as it is idle.
	localBalance = "random(4)"
	// Where tasks take a number of connections only, those that are full are passed over; a draw would wait for them.
	localBalanceFull = "roundrobin"
)

// neighbourhood knows which tasks run on this machine. A nil one knows none.
type neighbourhood struct {
	hosts map[string]bool
	addrs map[netip.Addr]bool
}

// neighbourhood returns that of the node, nil where it is not known.
func (o *Options) neighbourhood() *neighbourhood {
	if o == nil || len(o.Node) == 0 {
		return nil
	}
	n := &neighbourhood{hosts: make(map[string]bool), addrs: make(map[netip.Addr]bool)}
	for _, name := range o.Node {
		if a, err := netip.ParseAddr(name); err == nil {
			n.addrs[a.Unmap()] = true
		}
		n.hosts[strings.ToLower(name)] = true
	}
	return n
}

// Nearby returns what reports whether a task runs on this machine, nil where nothing is preferred.
func (o *Options) Nearby() func(*signalbox.Endpoint) bool {
	n := o.neighbourhood()
	if n == nil || o.Prefer != PreferLocal {
		return nil
	}
	return n.has
}

// has reports whether a task runs on this machine, by the name or the address of its host or by its own address.
func (n *neighbourhood) has(e *signalbox.Endpoint) bool {
	return n.hosts[strings.ToLower(e.Host)] || n.addrs[e.Addr.Addr().Unmap()]
}

// weigher returns how much a backend prefers tasks that are not suspect, where those nearby are preferred.
func (n *neighbourhood) weigher(b *Backend, p Preference) func(*signalbox.Endpoint) int {
	local, remote := LocalWeight, NormalWeight
	switch {
	case n == nil || p != PreferLocal || !b.prefers():
		return weighAlike
	case b.sticky():
		local, remote = stickyLocalWeight, stickyRemoteWeight
	}
	return func(e *signalbox.Endpoint) int {
		if n.has(e) {
			return local
		}
		return remote
	}
}

// weighAlike prefers no task.
func weighAlike(*signalbox.Endpoint) int { return NormalWeight }

// prefers reports whether tasks nearby can be preferred: not where a hash of the client or the path decides, or the order.
func (b *Backend) prefers() bool {
	if b.Policy == nil {
		return true
	}
	switch b.Policy.Balance {
	case "source", "uri", "first":
		return false
	}
	return true
}

func (b *Backend) sticky() bool { return b.Policy != nil && b.Policy.Sticky != "" }
