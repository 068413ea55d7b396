package haproxy

import (
	"cmp"
	"slices"
	"strconv"

	"signalbox"
)

// MatchPort is Match for a request to a service port, where names count for nothing. Nil: no service has the port.
func (c *Config) MatchPort(port int, r Request) *Answer {
	i := slices.IndexFunc(c.Listeners, func(l *Listener) bool { return l.Port == port })
	if i < 0 {
		return nil
	}
	l := c.Listeners[i]
	a := &Answer{
		Host: hostOf(r.Host), Path: cmp.Or(r.Path, "/"),
		Names: []NameTried{{Kind: PortName, Name: ":" + strconv.Itoa(port), Holds: true}},
	}
	if b := c.Backend(l.Backend); b != nil {
		a.Destinations = []Destination{c.destination(b, buckets)}
	}
	p := c.partOf(l.Service)
	if p == nil {
		return a
	}
	a.Claims = []Claim{{Service: l.Service, App: p.service.App, Wins: true, Why: "the service port is its own"}}
	if l.Mode != signalbox.TCP {
		c.effects(r, a)
	}
	return a
}

// byPort reports whether the request comes by a service port.
func (a *Answer) byPort() bool { return len(a.Names) > 0 && a.Names[0].Kind == PortName }
