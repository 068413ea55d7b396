package consul

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/labels"
)

// Options say how Consul's services become services.
type Options struct {
	Labels        labels.Options
	AllowLoopback bool // instances may answer on this machine's loopback addresses
	// Forbidden reports whether an address is one of this program's own entries. Nil: none is.
	Forbidden func(netip.AddrPort) bool
	// ControlPorts are ports of nodes on which the cluster itself listens, and no service.
	ControlPorts []uint16
}

// surroundings are what a service is converted in.
type surroundings struct {
	source  string
	options *Options
	resolve func(host string) (netip.Addr, bool) // from memory
	before  func(signalbox.ServiceID) *signalbox.Service
}

// maxTroubles bounds the problems with instances that one service carries.
const maxTroubles = 20

var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)

// ageless is the age of claims to names: Consul does not tell since when a service asks for what it asks for. Whoever has a date was there
// before; of two services of Consul that which was registered first.
var ageless = time.Date(2200, time.January, 1, 0, 0, 0, 0, time.UTC)

func appOf(name string) string { return "/" + name }

// definition is what the labels of a service say.
type definition struct {
	labels   map[string]string
	ports    []labels.Port
	problems []signalbox.Problem
}

// define returns what holds for a service: the labels of the instance that was registered last, of those that have any.
func define(name string, all []instance, o *Options) definition {
	var newest *instance
	differ := false
	for i := range all {
		one := &all[i]
		if !one.labelled() {
			continue
		}
		differ = differ || newest != nil && !one.sameLabels(newest)
		if newest == nil || cmp.Or(cmp.Compare(one.changed, newest.changed), cmp.Compare(one.task, newest.task)) > 0 {
			newest = one
		}
	}
	if newest == nil {
		return definition{}
	}
	d := definition{labels: newest.labels, ports: []labels.Port{{NoService: true}}}
	if len(newest.prefixes) > 0 && !o.Labels.AsksForWay(newest.labels) {
		ports, problems := labels.ReadFabio(newest.prefixes)
		if len(ports) > 0 {
			d.ports = ports
		}
		d.problems = problems
	}
	if differ {
		d.problems = append(d.problems, signalbox.Problem{
			Code: "SB321", Severity: signalbox.SeverityInfo, Label: "instance", Value: newest.task,
			Message: "its labels are not those of others of the service", Action: "they hold for all, for it was registered last",
		})
	}
	for i := range d.problems {
		d.problems[i].App = appOf(name)
	}
	return d
}

func (i *instance) sameLabels(o *instance) bool {
	if len(i.labels) != len(o.labels) || !slices.Equal(i.prefixes, o.prefixes) {
		return false
	}
	for k, v := range i.labels {
		if w, ok := o.labels[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// convert returns the services that one of Consul's is, sorted by id: one, or several where fabio's tags ask for different things. The
// problems belong to none of them.
func convert(name string, all []instance, in *surroundings) ([]*signalbox.Service, []signalbox.Problem) {
	d := define(name, all, in.options)
	if d.ports == nil {
		return nil, nil
	}
	if !nameForm.MatchString(name) {
		return nil, []signalbox.Problem{{
			Code: "SB320", Severity: signalbox.SeverityError, Label: "service", Value: fmt.Sprintf("%.200q", name),
			Message: "this is no name for a service", Action: "it is not routed to",
		}}
	}
	app := appOf(name)
	read := labels.Parse(app, d.labels, d.ports, in.options.Labels)
	problems := slices.Concat(d.problems, read.Problems)
	var services []*signalbox.Service
	for _, p := range read.Ports {
		old := in.before(signalbox.NewServiceID(app, p.Index))
		p = labels.Keep(old, p)
		if !p.Enabled {
			problems = append(problems, p.Problems...)
			continue
		}
		s := &signalbox.Service{
			ID: signalbox.NewServiceID(app, p.Index), Source: in.source, App: app, Port: p.Index, PortName: p.Name, Since: since(all),
			Mode: p.Mode, Routes: p.Routes, Listen: p.Listen, Groups: p.Groups, Check: p.Check(signalbox.Check{}), Policy: p.Policy,
		}
		s.Since = discovery.ClaimedSince(old, s)
		var troubles []signalbox.Problem
		s.Endpoints, troubles = endpoints(app, all, old, in)
		s.Problems = slices.Concat(p.Problems, troubles)
		slices.SortFunc(s.Problems, signalbox.Problem.Compare)
		s.Problems = slices.Compact(s.Problems)
		services = append(services, s)
	}
	slices.SortFunc(services, func(a, b *signalbox.Service) int { return cmp.Compare(a.ID, b.ID) })
	return services, problems
}

// since returns the age of a service's claims.
func since(all []instance) time.Time {
	first := uint64(1 << 40)
	for i := range all {
		if all[i].labelled() {
			first = min(first, all[i].created)
		}
	}
	return ageless.Add(time.Duration(first) * time.Microsecond)
}

// endpoints returns where the instances answer, sorted, and what is wrong with the others.
func endpoints(app string, all []instance, old *signalbox.Service, in *surroundings) (out []signalbox.Endpoint, troubles []signalbox.Problem) {
	more := 0
	for i := range all {
		one := &all[i]
		if !one.labelled() {
			continue
		}
		e := signalbox.Endpoint{Task: one.task, Host: word(one.node), State: one.state, Why: one.why}
		at, trouble := one.place(in)
		if e.Addr = at.addr; trouble != "" {
			if at.unknown {
				e.Addr = lastAddress(old, one.task, in)
			}
			if len(troubles) < maxTroubles {
				troubles = append(troubles, one.problem(app, trouble, e.Addr.IsValid()))
			} else {
				more++
			}
		}
		if e.Addr.IsValid() {
			out = append(out, e)
		}
	}
	if more > 0 {
		troubles = append(troubles, signalbox.Problem{
			Code: "SB322", Severity: signalbox.SeverityWarning, App: app,
			Message: fmt.Sprintf("%d more instances have problems with their addresses", more), Action: "see the others",
		})
	}
	slices.SortFunc(out, signalbox.Endpoint.Compare)
	return slices.CompactFunc(out, func(x, y signalbox.Endpoint) bool { return x.Task == y.Task && x.Addr == y.Addr }), troubles
}

// place is where an instance answers.
type place struct {
	addr    netip.AddrPort
	unknown bool // its name does not resolve now
}

// place returns where an instance answers, or says why nothing may be routed there.
func (i *instance) place(in *surroundings) (place, string) {
	switch {
	case i.host == "":
		return place{}, "it is registered without an address"
	case i.port == 0:
		return place{}, "it is registered without a port"
	}
	addr, known := in.resolve(i.host)
	if !known {
		return place{unknown: true}, fmt.Sprintf("the address of %.253q is not known", i.host)
	}
	if 0 < i.port && i.port <= 65535 && slices.Contains(in.options.ControlPorts, uint16(i.port)) {
		if node, ok := in.resolve(i.nodeAddr); ok && node == addr {
			return place{}, fmt.Sprintf("port %d of its node is refused: it is a control port", i.port)
		}
	}
	at, refused := in.addresses().Check(addr, i.port)
	return place{addr: at}, refused
}

func (in *surroundings) addresses() discovery.Addresses {
	return discovery.Addresses{Loopback: in.options.AllowLoopback, Forbidden: in.options.Forbidden}
}

// lastAddress returns where a task answered before, if that may still be used.
func lastAddress(old *signalbox.Service, task string, in *surroundings) netip.AddrPort {
	if old == nil {
		return netip.AddrPort{}
	}
	for _, e := range old.Endpoints {
		if e.Task == task {
			at, _ := in.addresses().Check(e.Addr.Addr(), int(e.Addr.Port()))
			return at
		}
	}
	return netip.AddrPort{}
}

func (i *instance) problem(app, trouble string, kept bool) signalbox.Problem {
	p := signalbox.Problem{
		Code: "SB322", Severity: signalbox.SeverityWarning, App: app, Label: "instance", Value: i.task,
		Message: trouble, Action: "it is not routed to",
	}
	if kept {
		p.Action = "its last known address stays"
	}
	return p
}
