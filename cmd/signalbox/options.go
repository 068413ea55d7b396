package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/metrics"
)

// options returns what HAProxy's configuration in a directory is built with, certificates aside. The warning is "" where the limit
// of descriptors allows what is asked for.
func (s *settings) options(dir string) (o *haproxy.Options, warning string, err error) {
	trusted, err := networks(s.TrustedProxies)
	if err != nil {
		return nil, "", err
	}
	proxies, err := networks(s.ProxyProtocolFrom)
	if err != nil {
		return nil, "", err
	}
	ports, err := haproxy.ParsePortRange(s.ServicePortRange)
	if err != nil {
		return nil, "", err
	}
	given, err := readGiven(s)
	if err != nil {
		return nil, "", err
	}
	limit, err := control.FDLimit()
	if err != nil {
		return nil, "", err
	}
	if err := fits(ports, limit); err != nil {
		return nil, "", err
	}
	maxConn, warning := control.MaxConn(limit, s.MaxConn, ports.Len(), control.CheckRoom(limit))
	o = &haproxy.Options{
		UserLists: given.userLists, ErrorPages: given.errorPages, Prefer: given.prefer, Node: given.node, FleetSize: s.FleetSize,
		Dir: dir, HTTPBind: s.HTTPBind, HTTPSBind: s.httpsBind(), AppIDBind: s.AppIDBind, HealthBind: s.HealthBind,
		ServiceBind: s.ServiceBind, ServicePorts: ports, OtherPorts: s.adminPorts(), ClusterPorts: s.clusterPorts(),
		TrustedProxies: trusted, ProxyProtocolFrom: proxies,
		StatsSocket: filepath.Join(dir, "stats.sock"), LogSocket: filepath.Join(dir, "log.sock"), LogAlso: s.AccessLogAlso,
		LogFormat: metrics.LogFormat, LogFormatTCP: metrics.LogFormatTCP, CallerHeader: s.CallerHeader,
		RingFormat: metrics.RingFormat, LogLine: metrics.MaxLine, RingBytes: metrics.RingBytes,
		MaxConn: maxConn, User: s.HAProxyUser, Group: s.HAProxyGroup,
		HardStopAfter: s.HardStopAfter, MaxReloads: s.MaxReloads, MinSlots: s.Slots, SpareSlots: s.SpareSlots,
	}
	if s.HAProxy == "attach" {
		o.StatsGID = os.Getegid() // systemd's HAProxy is another user, and in this group
	}
	return o, warning, o.Validate()
}

// fits says why a range of ports cannot be bound at once within a limit of descriptors.
func fits(ports haproxy.PortRange, limit uint64) error {
	if room := control.ListenerRoom(limit); ports.Len() > room {
		return fmt.Errorf("--service-port-range: %s has %d ports, each of which takes a file descriptor; of the limit of %d at most %d are for them",
			ports, ports.Len(), limit, room)
	}
	return nil
}

// adminPorts returns the TCP ports of the admin and metrics listeners, sorted.
func (s *settings) adminPorts() []int {
	return portsOf(slices.Concat(s.Admin, s.MetricsListen))
}

// portsOf returns the ports of addresses, sorted; an address without one has none.
func portsOf(addresses []string) []int {
	var ports []int
	for _, a := range addresses {
		_, port, err := net.SplitHostPort(a)
		if n, parseErr := strconv.ParseUint(port, 10, 16); err == nil && parseErr == nil {
			ports = append(ports, int(n))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
