package haproxy

import (
	"cmp"
	"fmt"
	"net"
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
		c.Listeners, c.Ports, c.PortBinds = b.prev.Listeners, b.prev.Ports, b.prev.PortBinds
		b.takeProblems("SB202", "SB204", "SB232", "SB236")
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
		s, refusal := p.service, signalbox.Problem{Code: "SB202", App: p.service.App, Value: strconv.Itoa(p.service.Listen)}
		switch port := s.Listen; {
		case port < 1 || port > 65535:
			refusal.Code, refusal.Message = "SB204", "this service port is not one of 1 to 65535"
		case taken[port] != "":
			refusal.Code, refusal.Message = "SB204", "this service port is that of "+taken[port]
		case owner[port] != nil:
			winner := owner[port].service
			right := "is as old and comes first by its id"
			if winner.Since.Before(s.Since) {
				right = "is older"
			}
			refusal.Message = fmt.Sprintf("this service port belongs to %s, which %s", winner.ID, right)
			c.Problems = append(c.Problems, signalbox.Problem{
				Code: "SB232", Severity: signalbox.SeverityWarning, App: winner.App, Value: refusal.Value,
				Message: fmt.Sprintf("%s asks for this service port too", s.ID), Action: "it stays with this app, which " + right,
			})
		case s.Policy.PortTLS && !c.Options.canShow(s.Policy.TLS):
			refusal.Code, refusal.Message = "SB236", fmt.Sprintf("there is no certificate %q for this service port", s.Policy.TLS)
		default:
			owner[port] = p
			b.bind(p)
			continue
		}
		refusal.Severity, refusal.Action = signalbox.SeverityError, fmt.Sprintf("%s is not reached by this port", s.ID)
		c.Problems = append(c.Problems, refusal)
	}
	b.bindRange()
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
		name  string // of the backend
		port  int
		mode  signalbox.Mode
		since time.Time
		way   listening
	}
	wishOf := func(p *part) wish {
		return wish{p.service.ID, p.backend.Name, p.service.Listen, p.backend.Mode, p.service.Since, listeningOf(p.service)}
	}
	before := make(map[wish]bool)
	for _, p := range b.gone {
		if p.service.Listen != 0 && p.backend != nil {
			before[wishOf(p)] = true
		}
	}
	for _, p := range b.changed {
		if p.service.Listen == 0 || p.backend == nil {
			continue
		}
		w := wishOf(p)
		if !before[w] {
			return false
		}
		delete(before, w)
	}
	return len(before) == 0
}

// listening is how a service wants its port to listen. The zero value is what a port of the range does.
type listening struct {
	address          netip.Addr
	acceptProxy, tls bool
	certificate      string
}

func listeningOf(s *signalbox.Service) listening {
	l := listening{address: s.Policy.BindAddress, acceptProxy: s.Policy.AcceptProxy, tls: s.Policy.PortTLS}
	if l.tls {
		l.certificate = s.Policy.TLS
	}
	return l
}

// bind gives a service its port: within the range by its map, and otherwise by a listener of its own.
func (b *builder) bind(p *part) {
	c, port, way := b.next, p.service.Listen, listeningOf(p.service)
	if c.Options != nil && c.Options.ServicePorts.Has(port) && way == (listening{}) {
		c.Ports = append(c.Ports, MapEntry{strconv.Itoa(port), string(p.backend.Mode) + "/" + p.backend.Name})
		return
	}
	c.Listeners = append(c.Listeners, &Listener{
		Name: "port_" + strconv.Itoa(port), Port: port, Mode: p.backend.Mode, Backend: p.backend.Name, Service: p.service.ID,
		Address: way.address, AcceptProxy: way.acceptProxy, TLS: way.tls, Certificate: way.certificate,
	})
}

// bindRange binds the range of service ports, less those that listen for themselves.
func (b *builder) bindRange() {
	c := b.next
	c.Ports = sortedLike(b.prev.Ports, c.Ports)
	if c.Options == nil || c.Options.ServicePorts == (PortRange{}) {
		return
	}
	r := c.Options.ServicePorts
	piece := func(first, last int) {
		ports := strconv.Itoa(first)
		if first < last {
			ports += "-" + strconv.Itoa(last)
		}
		if bind, err := serviceBind(c.Options, netip.Addr{}, ports); err == nil && first <= last {
			c.PortBinds = append(c.PortBinds, bind)
		}
	}
	from := r.First
	for _, l := range c.Listeners {
		if r.Has(l.Port) {
			piece(from, l.Port-1)
			from = l.Port + 1
		}
	}
	piece(from, r.Last)
	b.reload = b.reload || !slices.Equal(c.PortBinds, b.prev.PortBinds)
}

// entryPorts returns whose each port of our own is.
func entryPorts(o *Options) map[int]string {
	ports := make(map[int]string)
	if o == nil {
		return ports
	}
	for _, port := range o.ClusterPorts {
		ports[port] = "the machine or the cluster"
	}
	for _, port := range o.OtherPorts {
		ports[port] = "signalbox itself"
	}
	for _, e := range o.entries() {
		for _, bind := range e.binds {
			ports[bindPort(bind)] = "the " + e.name + " entry"
		}
	}
	return ports
}

// serviceBind returns where service ports listen: on an address of their own, or on that of the options.
func serviceBind(o *Options, own netip.Addr, ports string) (string, error) {
	if !own.IsValid() {
		switch o.ServiceBind {
		case "", "*":
			return ":" + ports, nil
		}
		var err error
		if own, err = netip.ParseAddr(o.ServiceBind); err != nil {
			return "", fmt.Errorf("reading the address of the service ports: %w", err)
		}
	}
	return net.JoinHostPort(own.String(), ports), nil
}
