package labels

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// parseAllow reads addresses and networks, sorted, each once. Any flaw that does not say that its item is used makes the list
// worthless: what stands beside a bad item may be its other half, as in "not 10.0.0.1".
func parseAllow(raw string) ([]netip.Prefix, []flaw) {
	var everybody bool
	allowed, flaws := parseItems(raw, splitList, func(s string) (netip.Prefix, *flaw) {
		if strings.EqualFold(s, "all") {
			everybody = true
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
		}
		return parsePrefix(s)
	})
	if everybody {
		allowed = append(allowed, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	}
	slices.SortFunc(allowed, netip.Prefix.Compare)
	return slices.Compact(allowed), flaws
}

// parsePrefix reads an address, or a network in CIDR notation.
func parsePrefix(s string) (netip.Prefix, *flaw) {
	bad := func(text string) (netip.Prefix, *flaw) {
		return netip.Prefix{}, &flaw{code: "SB125", value: s, text: text}
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return bad("is not an IP address, nor a network such as 10.0.0.0/8")
	case p.Addr().Is4In6():
		return bad("is an IPv4 network in IPv6 notation")
	case p != p.Masked():
		return p.Masked(), &flaw{code: "SB125", value: s, text: "has bits beyond its length", warn: true, used: true, done: p.Masked().String() + " is allowed"}
	}
	return p, nil
}

// parseBind reads an address to listen on, "*" for the load balancer's.
func parseBind(s string) (netip.Addr, *flaw) {
	if s == "*" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || addr.IsMulticast() {
		return netip.Addr{}, &flaw{code: "SB125", value: s, text: "is not an IP address to listen on"}
	}
	return addr.Unmap(), nil
}

// Bounds of what checking one password may cost, for it keeps a thread of the load balancer from everybody else.
const (
	maxRounds = 20_000 // of $5$ and $6$
	maxCost   = 10     // of $2b$
)

var (
	realmName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$`)
	userName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

	hashOfDES      = regexp.MustCompile(`^[./A-Za-z0-9]{13}$`)
	hashOfMD5      = regexp.MustCompile(`^\$1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}$`)
	hashOfSHA      = regexp.MustCompile(`^\$[56]\$(?:rounds=([0-9]{1,9})\$)?[./A-Za-z0-9]{1,16}\$(?:[./A-Za-z0-9]{43}|[./A-Za-z0-9]{86})$`)
	hashOfBlowfish = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)
	hashOfYescrypt = regexp.MustCompile(`^\$y\$j[5-9]T\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}$`)
)

// parseAuth reads the name of a list of users, or realm:user:hash. What it says of a flaw never shows the value.
func parseAuth(s string) (*signalbox.Auth, *flaw) {
	bad := func(text string) (*signalbox.Auth, *flaw) {
		return nil, &flaw{code: "SB126", text: text}
	}
	if strings.EqualFold(s, "off") {
		return nil, nil
	}
	parts := strings.SplitN(s, ":", 3)
	if len(parts) == 1 {
		if name, wrong := parsePlain(s); wrong == nil {
			return &signalbox.Auth{Realm: name, List: name}, nil
		}
		return bad("is neither the name of a list of users nor realm:user:hash")
	}
	if len(parts) == 2 {
		return bad("is not realm:user:hash: it has one colon")
	}
	realm, user, hash := parts[0], parts[1], parts[2]
	if !realmName.MatchString(realm) {
		return bad("has a realm that is not 1 to 64 letters, digits, spaces and - . _")
	}
	if !userName.MatchString(user) {
		return bad("has a user that is not 1 to 64 letters, digits and - . _ @")
	}
	if text := notHash(hash); text != "" {
		return bad(text)
	}
	return &signalbox.Auth{Realm: realm, User: user, Hash: hash}, nil
}

// notHash says why s is no hash of crypt(3) that may be checked for each request, or "".
func notHash(s string) string {
	if len(s) > 256 {
		return "has a hash that is too long"
	}
	if hashOfDES.MatchString(s) || hashOfMD5.MatchString(s) || hashOfYescrypt.MatchString(s) {
		return ""
	}
	if m := hashOfSHA.FindStringSubmatch(s); m != nil {
		if rounds, err := strconv.Atoi(m[1]); err == nil && rounds > maxRounds {
			return fmt.Sprintf("has a hash of more than %d rounds, which each request would have to wait for", maxRounds)
		}
		return ""
	}
	if m := hashOfBlowfish.FindStringSubmatch(s); m != nil {
		if cost, err := strconv.Atoi(m[1]); err != nil || cost < 4 || cost > maxCost {
			return fmt.Sprintf("has a hash whose cost is not 4 to %d, which each request would have to wait for", maxCost)
		}
		return ""
	}
	if strings.HasPrefix(s, "$apr1$") || strings.HasPrefix(s, "{") {
		return "has a hash that crypt(3) does not know: make one with mkpasswd -m sha-512"
	}
	return "has no hash of a password as crypt(3) writes it: make one with mkpasswd -m sha-512"
}
