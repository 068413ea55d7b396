package haproxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"signalbox"
)

// regexes gathers the regular expressions of a Config: those of hosts by name, those of paths by what their map knows them by.
type regexes struct{ hosts, paths []ranked }

// ranked is an entry with the claim that says when it is tried.
type ranked struct {
	best  *claim
	entry MapEntry
}

// name takes the regular expression of a host from the claims on it.
func (r *regexes) name(claims []*claim) {
	host := claims[0].route.Host
	if !isRegexHost(host) {
		return
	}
	best := slices.MinFunc(claims, (*claim).right)
	r.hosts = append(r.hosts, ranked{best, MapEntry{whole(host[1:]), hostToken(host)}})
}

// path takes the regular expression of a path, whose best claim is given.
func (r *regexes) path(best *claim, entry MapEntry) { r.paths = append(r.paths, ranked{best, entry}) }

// maxExpressions bounds the expressions of each kind. All of them are tried, one after the other, for a request that only the last one
// matches, in the thread that serves everybody: a microsecond each.
const maxExpressions = 1024

// bound takes out what is too much of each kind, the youngest first, and returns it.
func (r *regexes) bound() (left []ranked) {
	for _, list := range []*[]ranked{&r.hosts, &r.paths} {
		if len(*list) > maxExpressions {
			slices.SortFunc(*list, func(x, y ranked) int {
				return cmp.Or(x.best.since.Compare(y.best.since), cmp.Compare(x.best.service, y.best.service), cmp.Compare(x.entry.Key, y.entry.Key))
			})
			left = append(left, (*list)[maxExpressions:]...)
			*list = (*list)[:maxExpressions]
		}
	}
	return left
}

// entries returns both lists in the order in which they are tried.
func (r *regexes) entries() (hosts, paths []MapEntry) {
	for _, list := range [][]ranked{r.hosts, r.paths} {
		slices.SortFunc(list, func(x, y ranked) int { return cmp.Or(x.best.right(y.best), cmp.Compare(x.entry.Key, y.entry.Key)) })
	}
	for _, h := range r.hosts {
		hosts = append(hosts, h.entry)
	}
	for _, p := range r.paths {
		paths = append(paths, p.entry)
	}
	return hosts, paths
}

func isRegexHost(host string) bool { return strings.HasPrefix(host, "~") }

// hostToken returns the name under which the maps know a host's regular expression. No request can have it as its host.
func hostToken(host string) string {
	sum := sha256.Sum256([]byte(host))
	return "~" + hex.EncodeToString(sum[:8])
}

// whole returns the pattern that matches what an expression matches as a whole.
func whole(expr string) string { return "^(?:" + expr + ")$" }

// beforePath stands between a name and a path that regular expressions are tried on. Without it one that begins with anything could
// take the end of another name for the beginning of a path.
const beforePath = "|"

// pathPattern returns the pattern of a path's regular expression, for the name before the path.
func pathPattern(name, expr string) string {
	return "^" + regexp.QuoteMeta(name+beforePath) + "(?:" + expr + ")$"
}

// maxRegexPath bounds the bytes of a path that regular expressions are tried on; a longer one is refused.
const maxRegexPath = 1024

// validRoute returns why a route can't be given to HAProxy.
func validRoute(r signalbox.Route) error {
	if expr, ok := strings.CutPrefix(r.Host, "~"); ok {
		if err := signalbox.CheckRegex(expr); err != nil {
			return err
		}
	} else if !validHost(r.Host) {
		return errors.New("the host is no name")
	}
	path := r.Path
	switch r.Match {
	case signalbox.Regex:
		return signalbox.CheckRegex(path)
	case signalbox.Exact:
		if path != "/" {
			path = strings.TrimSuffix(path, "/")
		}
	case signalbox.Prefix:
	default:
		return fmt.Errorf("%q is no way of matching paths", cut(string(r.Match)))
	}
	if !validPath(path) {
		return errors.New("the path is none")
	}
	return nil
}
