package marathon

import (
	"slices"
	"strings"

	"signalbox/discovery/labels"
)

// networking is where the ports of an app's tasks are found.
type networking int

const (
	onHost      networking = iota // the agent's address, the task's own ports
	onBridge                      // the same: the agent forwards
	onContainer                   // the task's own address, the container's ports
)

// shape is how one version of an app's definition has its ports: with a task's own data it says where the task answers.
type shape struct {
	mode     networking
	ports    []portSpec
	networks []network
}

func (a *App) shape() *shape {
	return &shape{mode: a.networking(), ports: a.ports(), networks: a.Networks}
}

// portSpec is one port of an app's definition, whichever of Marathon's shapes it was written in.
type portSpec struct {
	index        int
	name         string
	protocol     string
	service      int
	noService    bool    // it has none, where others may have one
	container    int     // port inside the container, 0: the one that the host has
	hostPort     *number // nil: none is asked for
	networkNames []string
	labels       map[string]string
	probe        probe
}

// labelPort returns the port as the label vocabulary sees it.
func (p *portSpec) labelPort() labels.Port {
	lp := labels.Port{Index: p.index, Name: p.name, Service: p.service, Check: p.probe.protocol, NoService: p.noService, Labels: p.labels}
	if !p.routable() {
		lp.Unroutable = "its protocol is " + strings.ToLower(printableWord(p.protocol))
	}
	return lp
}

// routable reports whether the port speaks TCP; "udp,tcp" does.
func (p *portSpec) routable() bool {
	return p.protocol == "" || slices.ContainsFunc(strings.Split(p.protocol, ","), func(s string) bool {
		return strings.EqualFold(strings.TrimSpace(s), "tcp")
	})
}

// networking reads the mode from the newest shape that the app has.
func (a *App) networking() networking {
	if len(a.Networks) > 0 {
		switch a.Networks[0].Mode {
		case "host":
			return onHost
		case "container/bridge":
			return onBridge
		}
		return onContainer
	}
	if a.IPAddress != nil {
		return onContainer
	}
	if a.Container != nil && a.Container.Docker != nil {
		switch strings.ToUpper(a.Container.Docker.Network) {
		case "BRIDGE":
			return onBridge
		case "USER":
			return onContainer
		}
	}
	return onHost
}

// mappings returns the port mappings of either shape.
func (a *App) mappings() []portMapping {
	switch {
	case a.Container == nil:
		return nil
	case len(a.Container.PortMappings) > 0:
		return a.Container.PortMappings
	case a.Container.Docker != nil:
		return a.Container.Docker.PortMappings
	}
	return nil
}

// ports returns the ports of the app's definition, in the order that indexes count.
func (a *App) ports() []portSpec {
	var specs []portSpec
	add := func(p portSpec) {
		p.index = len(specs)
		p.name = wordOrNone(p.name)
		specs = append(specs, p)
	}
	mode := a.networking()
	if mode != onHost {
		for _, m := range a.mappings() {
			service := 0
			if m.ServicePort != nil {
				service = int(*m.ServicePort)
			}
			add(portSpec{
				name: m.Name, protocol: m.Protocol, service: service, noService: m.ServicePort == nil, container: int(m.ContainerPort),
				hostPort: m.HostPort, networkNames: m.NetworkNames, labels: m.Labels.byName,
			})
		}
	}
	if mode == onContainer && len(specs) == 0 {
		if a.IPAddress != nil && a.IPAddress.Discovery != nil {
			for _, d := range a.IPAddress.Discovery.Ports {
				add(portSpec{name: d.Name, protocol: d.Protocol, container: int(d.Number), labels: d.Labels.byName})
			}
		}
	} else if len(specs) == 0 {
		for _, d := range a.PortDefinitions {
			add(portSpec{name: d.Name, protocol: d.Protocol, service: int(d.Port), labels: d.Labels.byName})
		}
		if len(specs) == 0 {
			for _, p := range a.Ports {
				add(portSpec{service: int(p)})
			}
		}
	}
	for i := range specs {
		specs[i].probe = a.findProbe(mode, i, specs)
	}
	return specs
}

// match returns, for each port of s, the index of the same port in another version of the definition, or -1: the port of the same
// name; without a name on either side, or where the name went with the other version, the one at the same place.
func (s *shape) match(other *shape) []int {
	named := func(ports []portSpec, name string) int {
		return slices.IndexFunc(ports, func(p portSpec) bool { return p.name == name })
	}
	out := make([]int, len(s.ports))
	for i := range s.ports {
		at := -1
		if name := s.ports[i].name; name != "" {
			at = named(other.ports, name)
		}
		if at < 0 && i < len(other.ports) && (other.ports[i].name == "" || named(s.ports, other.ports[i].name) < 0) {
			at = i
		}
		if at >= 0 && !other.ports[at].routable() {
			at = -1
		}
		out[i] = at
	}
	return out
}
