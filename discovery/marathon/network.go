package marathon

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox"
	"signalbox/discovery/labels"
)

// networking is where the ports of an app's tasks are found.
type networking int

const (
	onHost      networking = iota // the agent's address, the task's own ports
	onBridge                      // the same: the agent forwards
	onContainer                   // the task's own address, the container's ports
)

// portSpec is one port of an app's definition, whichever of Marathon's shapes it was written in.
type portSpec struct {
	index        int
	name         string
	protocol     string
	service      int
	container    int     // port inside the container, 0: the one that the host has
	hostPort     *number // nil: none is asked for
	networkNames []string
	labels       map[string]string
	check        signalbox.Check
	http         bool // an HTTP check asks this port
}

// labelPort returns the port as the label vocabulary sees it.
func (p *portSpec) labelPort() labels.Port {
	lp := labels.Port{Index: p.index, Name: p.name, Service: p.service, HTTP: p.http, Labels: p.labels}
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
			add(portSpec{
				name: m.Name, protocol: m.Protocol, service: int(m.ServicePort), container: int(m.ContainerPort),
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
		a.findCheck(&specs[i])
	}
	return specs
}

// findCheck chooses the check that HAProxy can run itself: the first that names this port by its index. A check of another
// port, or a command, leaves HAProxy to connect and no more.
func (a *App) findCheck(p *portSpec) {
	for _, h := range a.HealthChecks {
		index := 0
		if h.PortIndex != nil {
			index = int(*h.PortIndex)
		}
		if index != p.index || h.Port != nil && *h.Port != 0 {
			continue
		}
		c := signalbox.Check{
			Interval: seconds(h.IntervalSeconds),
			Timeout:  seconds(h.TimeoutSeconds),
		}
		if h.MaxFailures > 0 {
			c.Fall = min(int(h.MaxFailures)+1, 100) // Marathon kills at the failure after the last one allowed
		}
		switch h.Protocol {
		case "HTTP", "MESOS_HTTP", "":
			p.http = true
			if path, ok := checkPath(h.Path); ok {
				c.Kind, c.Path = signalbox.CheckHTTP, path
			}
			p.check = c
			return
		case "TCP", "MESOS_TCP", "HTTPS", "MESOS_HTTPS":
			p.check = c
			return
		}
	}
}

// seconds returns a time of a check, at most five minutes; 0 if there is none.
func seconds(n number) time.Duration {
	return time.Duration(min(max(n, 0), 300)) * time.Second
}

// checkPath lets a path and query through that are one word to HAProxy, whatever quotes stand around it.
func checkPath(s string) (string, bool) {
	if s == "" {
		return "/", true
	}
	if s[0] != '/' || len(s) > 1024 {
		return "", false
	}
	if !madeOf(s, "/-._~!&()+,;=:@%?") {
		return "", false
	}
	return s, true
}

// place is where one task answers for one port: an address, or why there is none.
type place struct {
	addr    netip.AddrPort
	trouble string
	quiet   bool // the trouble passes by itself: the address is not known yet
}

// places returns where a task answers for each of the ports.
func (a *App) places(t *Task, mode networking, ports []portSpec, o *Options) []place {
	out := make([]place, len(ports))
	agent := onceAgent(t.Host, o)
	if mode != onContainer {
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
			out[i] = a.ownAddress(t, p, port, o)
		}
	}
	return out
}

// ownAddress is the task's address in the network that the port belongs to.
func (a *App) ownAddress(t *Task, p *portSpec, port int, o *Options) place {
	if len(t.IPAddresses) == 0 {
		return place{trouble: "it has no address yet", quiet: true}
	}
	at := 0
	if len(p.networkNames) > 0 && len(t.IPAddresses) == len(a.Networks) {
		if i := slices.IndexFunc(a.Networks, func(n network) bool { return n.Name == p.networkNames[0] }); i >= 0 {
			at = i
		}
	}
	s := t.IPAddresses[at].IPAddress
	if s == "" {
		return place{trouble: "it has no address yet", quiet: true}
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return place{trouble: fmt.Sprintf("its address %.100q is none", s)}
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
