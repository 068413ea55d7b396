package relay

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// Address says where a fleet meets: consul://host:8500/folder, with several hosts by comma, consul+https:// with TLS.
type Address struct {
	URLs   []string // of Consul's members
	Prefix string   // folder of the keys, without slashes at its ends
}

// ParseAddress reads an address. Its error shows no credentials.
func ParseAddress(text string) (Address, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	hosts, prefix, _ := strings.Cut(rest, "/")
	form := errors.New("a value is not of the form consul://host:8500/folder or consul+https://host:8501/folder")
	if !ok || strings.ContainsAny(rest, "?# \t") {
		return Address{}, form
	}
	if strings.Contains(hosts, "@") {
		return Address{}, errors.New("an address holds credentials, which every list of processes would show; use a token file")
	}
	wire, ok := map[string]string{"consul": "http", "consul+https": "https"}[scheme]
	if !ok {
		return Address{}, form
	}
	a := Address{Prefix: strings.Trim(prefix, "/")}
	if a.Prefix == "" {
		return Address{}, fmt.Errorf("%s names no folder: like consul://host:8500/signalbox", hosts)
	}
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if err != nil || name == "" || port == "" {
			return Address{}, fmt.Errorf("%q is not of the form host:8500", host)
		}
		a.URLs = append(a.URLs, wire+"://"+host)
	}
	return a, nil
}
