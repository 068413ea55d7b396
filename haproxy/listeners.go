package haproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"signalbox"
)

// bindListeners decides who has which service port.
func (b *builder) bindListeners() {
	c := b.next
	if b.listenersStand() {
		c.Listeners = b.prev.Listeners
		b.takeProblems("SB202", "SB204")
		return
	}
	taken := entryPorts(c.Options)
	var asking []*part
	for _, p := range c.made.parts {
		if p.service.Listen != 0 && p.backend != nil {
			asking = append(asking, p)
		}
	}
	slices.SortFunc(asking, func(x, y *part) int {
		return cmp.Or(cmp.Compare(x.service.Listen, y.service.Listen), x.service.Since.Compare(y.service.Since),
			cmp.Compare(x.service.ID, y.service.ID))
	})
	owner := make(map[int]*part, len(asking))
	for _, p := range asking {
		s, refusal := p.service, signalbox.Problem{Code: "SB202"}
		switch port := s.Listen; {
		case port < 1 || port > 65535:
			refusal.Code, refusal.Message = "SB204", "this service port is not one of 1 to 65535"
		case taken[port]:
			refusal.Code, refusal.Message = "SB204", "this service port is the HTTP entry's"
		case owner[port] != nil:
			refusal.Message = fmt.Sprintf("this service port belongs to %s, which is older", owner[port].service.ID)
		default:
			owner[port] = p
			c.Listeners = append(c.Listeners, &Listener{
				Name: "port_" + strconv.Itoa(port), Port: port, Mode: p.backend.Mode, Backend: p.backend.Name, Service: s.ID,
			})
			continue
		}
		refusal.Severity, refusal.App, refusal.Value = signalbox.SeverityError, s.App, strconv.Itoa(s.Listen)
		refusal.Action = fmt.Sprintf("%s is not reached by this port", s.ID)
		c.Problems = append(c.Problems, refusal)
	}
	same := len(c.Listeners) == len(b.prev.Listeners)
	for i, l := range c.Listeners {
		if i < len(b.prev.Listeners) && *l == *b.prev.Listeners[i] {
			c.Listeners[i] = b.prev.Listeners[i]
		} else {
			same = false
		}
	}
	if same {
		c.Listeners = b.prev.Listeners
	}
	b.reload = b.reload || !same
}

// listenersStand reports whether the options are the same, and no service that came or went asks for a service port, other than
// the one it had.
func (b *builder) listenersStand() bool {
	if len(b.prev.made.services) == 0 || !b.prev.Options.equal(b.next.Options) {
		return false
	}
	type wish struct {
		id    signalbox.ServiceID
		port  int
		mode  signalbox.Mode
		since time.Time
	}
	before := make(map[wish]bool)
	for _, p := range b.gone {
		if p.service.Listen != 0 && p.backend != nil {
			before[wish{p.service.ID, p.service.Listen, p.backend.Mode, p.service.Since}] = true
		}
	}
	for _, p := range b.changed {
		if p.service.Listen == 0 || p.backend == nil {
			continue
		}
		w := wish{p.service.ID, p.service.Listen, p.backend.Mode, p.service.Since}
		if !before[w] {
			return false
		}
		delete(before, w)
	}
	return len(before) == 0
}

// entryPorts returns the ports of our own entries.
func entryPorts(o *Options) map[int]bool {
	ports := make(map[int]bool)
	if o == nil {
		return ports
	}
	for _, e := range o.entries() {
		for _, bind := range e.binds {
			ports[bindPort(bind)] = true
		}
	}
	return ports
}

// serviceBind returns the address on which a service port listens.
func serviceBind(o *Options, port int) (string, error) {
	switch o.ServiceBind {
	case "", "*":
		return ":" + strconv.Itoa(port), nil
	}
	a, err := netip.ParseAddr(o.ServiceBind)
	if err != nil {
		return "", fmt.Errorf("reading the address of the service ports: %w", err)
	}
	return netip.AddrPortFrom(a, uint16(port)).String(), nil
}
