package haproxy

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"signalbox"
)

// verdict is what docs/routing.md says of a request: the services that may get it, each with its exact share, or a status.
type verdict struct {
	status int
	shares map[signalbox.ServiceID]float64
}

// wish is one service's route.
type wish struct {
	s *signalbox.Service
	r signalbox.Route
}

// rather orders wishes by who is rather served: the higher priority, the older one, the smaller id.
func rather(a, b wish) int {
	return cmp.Or(b.s.Policy.Priority-a.s.Policy.Priority, a.s.Since.Compare(b.s.Since), strings.Compare(string(a.s.ID), string(b.s.ID)))
}

// refer is the reference model of routing: docs/routing.md once more, in the plainest way, and with nothing of the production code.
func refer(table *signalbox.Table, header, path string) verdict {
	host, port, bad := strings.ToLower(header), "", false
	if i := strings.LastIndex(host, ":"); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
	}
	allowed := "abcdefghijklmnopqrstuvwxyz0123456789._-"
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		allowed = "abcdef0123456789.:[]"
	}
	bad = len(strings.TrimRight(host, ".")) > 255 || strings.Trim(host, allowed) != "" || strings.Trim(port, "0123456789") != ""
	slashes := strings.NewReplacer("%2e", ".", "%2f", "/", "%5c", "/", `\`, "/", "%3b", ";").Replace(strings.ToLower(path))
	dot := false
	for _, segment := range strings.Split(slashes, "/")[1:] {
		segment, _, _ = strings.Cut(segment, ";")
		bad, dot = bad || segment == "..", dot || segment == "."
	}
	unsent := func(r rune) bool { return r <= 0x20 || r >= 0x7f }
	if bad || strings.Contains(path, "%00") || strings.Contains(path, "#") || strings.ContainsFunc(path, unsent) {
		return verdict{status: 400}
	}

	name := holding(table, strings.TrimRight(host, "."))
	if len(name) == 0 {
		return verdict{status: 404}
	}
	several := slices.ContainsFunc(name, func(w wish) bool { return w.r.Path != "/" || w.r.Match != signalbox.Prefix })
	if several && (dot || strings.Count(slashes, "/") != strings.Count(path, "/") || strings.Contains(path, "//")) {
		return verdict{status: 400}
	}
	if len(path) > 1024 && slices.ContainsFunc(name, func(w wish) bool { return w.r.Match == signalbox.Regex }) {
		return verdict{status: 414}
	}
	var best []wish // those to the route that wins
	for _, kind := range []signalbox.Match{signalbox.Exact, signalbox.Regex, signalbox.Prefix} {
		for _, w := range name { // in the order of rather
			if len(best) > 0 && best[0].r.Match != kind || w.r.Match != kind {
				continue
			}
			prefix := strings.TrimSuffix(w.r.Path, "/") + "/"
			switch {
			case len(best) > 0 && best[0].r == w.r:
				best = append(best, w)
			case kind == signalbox.Exact && w.r.Path == path, kind == signalbox.Regex && len(best) == 0 && whollyMatches(w.r.Path, path):
				best = []wish{w}
			case kind == signalbox.Prefix && strings.HasPrefix(path+"/", prefix) && (len(best) == 0 || len(w.r.Path) > len(best[0].r.Path)):
				best = []wish{w}
			}
		}
	}
	if len(best) == 0 {
		return verdict{status: 404}
	}
	return verdict{shares: divide(best)}
}

// holding returns the wishes on the name that holds for a host.
func holding(table *signalbox.Table, host string) []wish {
	var all []wish
	for _, s := range table.Services {
		for _, r := range s.Routes {
			if !slices.Contains(all, wish{s, r}) {
				all = append(all, wish{s, r})
			}
		}
	}
	slices.SortStableFunc(all, rather)
	var names []string
	if host != "" {
		names = append(names, host)
	}
	if _, rest, ok := strings.Cut(host, "."); ok {
		names = append(names, "*."+rest)
	}
	for _, w := range all {
		if expr, ok := strings.CutPrefix(w.r.Host, "~"); ok && whollyMatches(expr, host) {
			names = append(names, w.r.Host)
		}
	}
	for _, name := range append(names, "") {
		of := slices.DeleteFunc(slices.Clone(all), func(w wish) bool { return w.r.Host != name })
		if len(of) > 0 {
			return of
		}
	}
	return nil
}

// divide returns who of several wishes to one route is served how much.
func divide(wishes []wish) map[signalbox.ServiceID]float64 {
	weight := func(w wish) int { return *w.s.Policy.Weight }
	weigh := func(ok func(wish) bool) (of []wish, sum int) {
		for _, w := range wishes {
			if ok(w) && weight(w) > 0 {
				of, sum = append(of, w), sum+weight(w)
			}
		}
		return of, sum
	}
	if len(wishes) > 1 && !slices.ContainsFunc(wishes, func(w wish) bool { return w.s.Policy.Weight == nil }) {
		of, sum := weigh(func(w wish) bool {
			return slices.ContainsFunc(w.s.Endpoints, func(e signalbox.Endpoint) bool { return e.State == signalbox.Up })
		})
		if sum == 0 {
			of, sum = weigh(func(wish) bool { return true })
		}
		if sum > 0 {
			shares := make(map[signalbox.ServiceID]float64)
			for _, w := range of {
				shares[w.s.ID] = float64(weight(w)) / float64(sum)
			}
			return shares
		}
	}
	return map[signalbox.ServiceID]float64{wishes[0].s.ID: 1}
}

func whollyMatches(expr, s string) bool {
	return regexp.MustCompile(`\A(?:` + expr + `)\z`).MatchString(s)
}
