package haproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"signalbox"
)

// The names of our own proxies. A service's backend cannot be called so: its name has a colon.
const (
	httpFrontend = "http"
	noPath       = "no_path"
)

// maxName keeps names readable in logs and tables.
const maxName = 64

// backendName returns the name of a service's backend: "/shop/cart:0" is "shop_cart:0". An app id with other characters than
// letters, digits, ".", "-" and "/" loses them and gains a hash: "/a_b:0" is "a_b:0:1f0c…". So does a long one.
func backendName(s *signalbox.Service) string {
	app, plain := strings.CutPrefix(s.App, "/")
	b := make([]byte, 0, maxName)
	last := byte('/')
	for i := 0; i < len(app); i++ {
		c := app[i]
		switch {
		case c == '/':
			plain = plain && last != '/'
			b = append(b, '_')
		case isAlnum(c) || c == '.' || c == '-':
			b = append(b, c)
		default:
			plain = false
			b = append(b, '_')
		}
		last = c
	}
	port := fmt.Sprintf(":%d", s.Port)
	plain = plain && last != '/' && s.Port >= 0 && len(b)+len(port) <= maxName && s.ID == signalbox.NewServiceID(s.App, s.Port)
	if plain {
		return string(b) + port
	}
	sum := sha256.Sum256([]byte(s.ID))
	hash := ":" + hex.EncodeToString(sum[:8])
	if room := maxName - len(port) - len(hash); len(b) > room {
		b = b[:max(room, 0)]
	}
	return string(b) + port + hash
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// all reports whether s is not empty and has only letters, digits and bytes of others.
func all(s, others string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte(others, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// validID reports whether a service id can stand in a map file and on the runtime socket as one word.
func validID(id signalbox.ServiceID) bool { return len(id) <= 512 && all(string(id), "/:._~@+=,%-") }

// validHost reports whether a host can be a map's key: a name in lower case, "*." before a name, an IP address, or "" for all.
func validHost(h string) bool {
	if h == "" {
		return true
	}
	rest := strings.TrimPrefix(h, "*.")
	if len(h) > 255 || !all(rest, ".-_:[]") || strings.ToLower(h) != h {
		return false
	}
	return !strings.HasPrefix(rest, ".") && !strings.HasSuffix(rest, ".") && !strings.Contains(rest, "..")
}

// validPath reports whether a path can be part of a map's key.
func validPath(p string) bool {
	return len(p) <= 1024 && strings.HasPrefix(p, "/") && all(p, "/._~!$&()*+,=:@%-") && (p == "/" || !strings.HasSuffix(p, "/")) &&
		!strings.Contains(p, "//")
}

// validCheckPath is validPath for what a check asks for, which may have a query.
func validCheckPath(p string) bool {
	return len(p) <= 1024 && strings.HasPrefix(p, "/") && all(p, "/._~!$&()*+,=:@%-?;")
}
