package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// mask hides what stands before an @ in URLs, and after a ?: passwords and tokens that do not belong there.
func mask(text string) string {
	parts := strings.Split(text, ",")
	for i, part := range parts {
		if at := strings.LastIndex(part, "@"); at >= 0 {
			part = "…" + part[at:]
		}
		if query := strings.IndexAny(part, "?#"); query >= 0 {
			part = part[:query] + "?…"
		}
		parts[i] = part
	}
	return strings.Join(parts, ",")
}

// validBind reports whether text is an address to listen on, with a port.
func validBind(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && validPort(port) && (host == "" || host == "*" || net.ParseIP(host) != nil)
}

// networks reads a list of networks, sorted; a single address is one too.
func networks(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	var errs []error
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is neither an address nor a network like 10.0.0.0/8", text))
			continue
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), errors.Join(errs...)
}

func validPort(s string) bool {
	n, err := net.LookupPort("tcp", s)
	return err == nil && n > 0 && strings.Trim(s, "0123456789") == ""
}

// readSecret returns the content of a secret's file, without the line's end. An empty path holds no secret.
func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		return "", fmt.Errorf("reading a secret: %s is empty or has several lines", path)
	}
	return secret, nil
}
