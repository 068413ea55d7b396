package statsd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// maxPath is how long the path of a unix socket may be, in bytes.
const maxPath = 107

// Address is where StatsD is taken: over UDP, or at a unix datagram socket.
type Address struct {
	UDP  netip.AddrPort
	Path string // of the unix datagram socket; "": UDP
}

// String returns the address as ParseAddress reads it.
func (a Address) String() string {
	if a.Path != "" {
		return "unix:" + a.Path
	}
	return a.UDP.String()
}

// ParseAddress reads "127.0.0.1:8125" or "unix:/run/statsd.sock". An address of every interface is refused: whoever wants more than this
// machine's loopback names what is meant.
func ParseAddress(text string) (Address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path):
			return Address{}, fmt.Errorf("%q: the path of the socket is not absolute", text)
		case len(path) > maxPath:
			return Address{}, fmt.Errorf("%q: the path of a socket has at most %d bytes", text, maxPath)
		}
		return Address{Path: filepath.Clean(path)}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, fmt.Errorf("%q is neither of the form 127.0.0.1:8125 nor unix:/path", text)
	}
	udp, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("%q is neither of the form 127.0.0.1:8125 nor unix:/path", text)
	case udp.Addr().IsUnspecified():
		return Address{}, fmt.Errorf("%q would let every machine in: name one address, as in 127.0.0.1:8125", text)
	}
	return Address{UDP: udp}, nil
}

// ParseAddresses reads several addresses, and says all that is wrong.
func ParseAddresses(texts []string) ([]Address, error) {
	var out []Address
	var errs []error
	seen := map[Address]bool{}
	for _, text := range texts {
		a, err := ParseAddress(text)
		if err == nil && seen[a] && a.UDP.Port() != 0 {
			err = fmt.Errorf("%q is given twice", text)
		}
		seen[a] = true
		out, errs = append(out, a), append(errs, err)
	}
	return out, errors.Join(errs...)
}
