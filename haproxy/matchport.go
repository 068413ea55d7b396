package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// Ask says where a request goes that is sent to a port: to the service whose port it is, to the app that is asked for by its id, past the
// entry that would terminate TLS, or by name. A port that is nobody's is taken for that of the entry by name, which may have
// another one outside.
func (c *Config) Ask(port int, r Request) *Answer {
	if a := c.MatchPort(port, r); a != nil {
		return a
	}
	if a := c.matchApp(port, r); a != nil {
		return a
	}
	if a := c.matchServerName(r); a != nil {
		return a
	}
	return c.Match(r)
}

// MatchPort is Match for a request to a service port, where names count for nothing. Nil: the port is no service's, and none of the
// range.
func (c *Config) MatchPort(port int, r Request) *Answer {
	a := &Answer{Host: hostOf(r.Host), Path: cmp.Or(r.Path, "/"), Names: []NameTried{{Kind: PortName, Name: ":" + strconv.Itoa(port), Holds: true}}}
	if l := c.listener(port); l != nil {
		c.lead(r, a, l.Backend, l.Service, "the service port is its own")
		return a
	}
	if c.Options == nil || !c.Options.ServicePorts.Has(port) {
		return nil
	}
	if backend := c.rangePort(port); backend != "" {
		c.lead(r, a, backend, "", "the service port is its own, of the range")
		return a
	}
	a.Names[0].Holds, a.Reason = false, "the connection is closed: no service has this port of the range"
	return a
}

// listener returns the service port that listens for itself at a port, or nil.
func (c *Config) listener(port int) *Listener {
	i := slices.IndexFunc(c.Listeners, func(l *Listener) bool { return l.Port == port })
	if i < 0 {
		return nil
	}
	return c.Listeners[i]
}

// PortOwner returns the service that is reached by a service port, be it of the range or not; "" for none.
func (c *Config) PortOwner(port int) signalbox.ServiceID {
	if l := c.listener(port); l != nil {
		return l.Service
	}
	if b := c.Backend(c.rangePort(port)); b != nil {
		return b.Service
	}
	return ""
}

// rangePort returns the backend that has a port of the range, or "".
func (c *Config) rangePort(port int) string {
	_, backend, _ := strings.Cut(lookup(c.Ports, strconv.Itoa(port)), "/")
	return backend
}

// matchApp is Match for a request to the entry that asks for the id of an app. Nil: the port is none of that entry.
func (c *Config) matchApp(port int, r Request) *Answer {
	if c.Options == nil || !slices.ContainsFunc(c.Options.AppIDBind, func(bind string) bool { return bindPort(bind) == port }) {
		return nil
	}
	a := &Answer{Host: hostOf(r.Host), Path: cmp.Or(r.Path, "/")}
	backend := lookup(c.Apps, strings.ToLower(r.AppID))
	a.Names = []NameTried{{Kind: AppName, Name: r.AppID, Holds: backend != ""}}
	if backend == "" {
		a.Status, a.Reason = 404, "no app with this id, in X-Marathon-App-Id"
		return a
	}
	c.lead(r, a, backend, "", "the first port of the app that speaks HTTP")
	return a
}

// matchServerName is Match for a TLS connection that asks for a host whose TLS is passed through. Nil: the entry terminates it.
func (c *Config) matchServerName(r Request) *Answer {
	if !c.Passthrough || !r.TLS {
		return nil
	}
	a := &Answer{Host: hostOf(r.Host), Path: cmp.Or(r.Path, "/")}
	name := a.Host
	backend := lookup(c.SNI, name)
	if _, rest, ok := strings.Cut(name, "."); ok && backend == "" {
		name = "*." + rest
		backend = lookup(c.SNI, name)
	}
	if backend == "" || backend == toHTTPS {
		return nil
	}
	a.Names = []NameTried{{Kind: ServerName, Name: name, Holds: true}}
	c.lead(r, a, backend, "", "TLS is passed through to its tasks, unread")
	return a
}

// lead notes the service of a backend as the only one that the request can go to, and what its labels do.
func (c *Config) lead(r Request, a *Answer, backend string, id signalbox.ServiceID, why string) {
	b := c.Backend(backend)
	if b != nil {
		a.Destinations = []Destination{c.destination(b, buckets)}
		id = b.Service
	}
	p := c.partOf(id)
	if p == nil {
		return
	}
	a.Claims = []Claim{{Service: id, App: p.service.App, Wins: true, Why: why}}
	if b == nil || b.Mode != signalbox.TCP {
		c.effects(r, a)
		return
	}
	policy := &signalbox.Policy{}
	if b.Policy != nil {
		policy = &b.Policy.Policy
	}
	// Without HTTP nobody is answered: whoever may not enter is cut off.
	for _, e := range c.admission(&signalbox.Policy{Refused: policy.Refused, Allow: policy.Allow}, r, a) {
		if e.Status != 0 {
			a.Reason, e.Status = cmp.Or(a.Reason, fmt.Sprintf("the connection is closed: %s", e.Text)), 0
		}
		a.Effects = append(a.Effects, e)
	}
}

// byName reports whether the request comes by a name, and not by a port or an id.
func (a *Answer) byName() bool {
	return len(a.Names) == 0 || !slices.Contains([]NameKind{PortName, AppName, ServerName}, a.Names[0].Kind)
}
