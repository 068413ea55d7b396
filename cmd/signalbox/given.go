package main

import (
	"fmt"
	"net"
	"os"

	"signalbox/haproxy"
)

// given is what the operator gives the services of a machine: files that their labels may name, and where the machine is.
type given struct {
	userLists  map[string][]haproxy.User
	errorPages map[string][]byte
	prefer     haproxy.Preference
	node       []string
}

// readGiven reads what the settings name.
func readGiven(s *settings) (given, error) {
	var g given
	var err error
	if s.UserLists != "" {
		if g.userLists, err = haproxy.ReadUserLists(s.UserLists); err != nil {
			return g, fmt.Errorf("--user-lists: %w", err)
		}
	}
	if s.ErrorPages != "" {
		if g.errorPages, err = haproxy.ReadErrorPages(s.ErrorPages); err != nil {
			return g, fmt.Errorf("--error-pages: %w", err)
		}
	}
	if s.Prefer != "local" {
		return g, nil
	}
	g.prefer = haproxy.PreferLocal
	if g.node = s.Node; len(g.node) == 0 {
		if g.node, err = thisMachine(); err != nil {
			return g, fmt.Errorf("--node: %w", err)
		}
	}
	return g, nil
}

// thisMachine returns the host name and the addresses of the interfaces, those aside that every machine has.
func thisMachine() ([]string, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	names := []string{name}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			names = append(names, ip.IP.String())
		}
	}
	return names, nil
}
