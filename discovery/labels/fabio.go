package labels

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"signalbox"
)

// Fabio is the name of the dialect that fabio's users write into the tags of their services: urlprefix-host/path options. What it reads
// are no labels but tags: ReadFabio turns them into native ones.
const Fabio = "fabio"

var fabio = dialect{name: Fabio, read: func(string, string) ([]claim, *flaw, bool) { return nil, nil, false }}

// route is one tag of fabio's.
type route struct {
	host, path string
	port       string            // of a bare :port
	labels     map[string]string // what the options ask for, by key
}

// ReadFabio returns what the tags of one service ask for, each without its urlprefix-: the ports of the service, each with native labels.
// There is one for all tags, or several where they ask for different things. The problems are without an app.
func ReadFabio(tags []string) ([]Port, []signalbox.Problem) {
	var problems []signalbox.Problem
	var routes []route
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		complain := func(s signalbox.Severity, text, action string) {
			problems = append(problems, signalbox.Problem{
				Code: "SB323", Severity: s, Label: cut(printable("urlprefix-"+tag), maxShown), Message: printable(cut(text, maxMessage)), Action: action,
			})
		}
		r, wrong := readRoute(tag, func(text string) { complain(signalbox.SeverityWarning, text, "it is ignored") })
		if wrong != "" {
			complain(signalbox.SeverityError, wrong, "the tag is ignored")
			continue
		}
		routes = append(routes, r)
	}
	return portsOfRoutes(routes), problems
}

// readRoute reads one tag, or says why it asks for nothing. ignored is told of options that cost nothing.
func readRoute(tag string, ignored func(text string)) (route, string) {
	fields := strings.Fields(tag)
	if len(fields) == 0 {
		return route{}, "it names nothing"
	}
	r := route{labels: map[string]string{}}
	options := map[string]string{}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		options[key] = value
	}
	at := fields[0]
	slash := strings.IndexByte(at, '/')
	switch {
	case strings.Contains(at, "$"):
		return r, "it has a placeholder, which only fabio fills in"
	case strings.HasPrefix(at, ":"):
		if options["proto"] != "tcp" {
			return r, "a port alone needs proto=tcp"
		}
		r.port = at[1:]
	case slash < 0:
		return r, "it has no path: a slash at its end stands for all"
	default:
		r.host, r.path = strings.ToLower(at[:slash]), at[slash:]
		if len(r.path) > 1 {
			r.path = strings.TrimRight(r.path, "/")
		}
		if r.path == "" {
			r.path = "/"
		}
	}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch wrong, known := r.option(key, options); {
		case wrong != "":
			return r, wrong
		case !known:
			ignored("the option " + key + " is unknown here")
		}
	}
	return r, ""
}

// option reads one option into labels. wrong says why the whole tag must be left out.
func (r *route) option(key string, all map[string]string) (wrong string, known bool) {
	value := all[key]
	switch key {
	case "strip":
		if _, both := all["prepend"]; both {
			return "", true // read there
		}
		r.labels["strip-prefix"] = value
		if strings.TrimRight(value, "/") == r.path {
			r.labels["strip-prefix"] = "true"
		}
	case "prepend":
		strip, both := all["strip"]
		switch {
		case !both:
			r.labels["rewrite-path"] = strings.TrimRight(value, "/") + strings.TrimRight(r.path, "/")
		case strings.TrimRight(strip, "/") == r.path:
			r.labels["rewrite-path"] = value
		default:
			return "prepend goes with strip only where that is the path", true
		}
	case "proto":
		return r.protocol(value, all["tlsskipverify"] == "true"), true
	case "host":
		if value == "dst" {
			return "", false
		}
		r.labels["rewrite-host"] = value
	case "auth":
		r.labels["auth"] = value
	case "allow":
		var nets []string
		for item := range strings.SplitSeq(value, ",") {
			net, ok := strings.CutPrefix(item, "ip:")
			if !ok {
				return fmt.Sprintf("allow=%s is not a list of ip:NETWORK", value), true
			}
			nets = append(nets, net)
		}
		r.labels["allow"] = strings.Join(nets, " ")
	case "deny":
		return "deny cannot be carried out: say who may enter with allow", true
	case "redirect":
		if code, to, _ := strings.Cut(value, ","); code[:min(1, len(code))] != "3" || !strings.HasPrefix(to, "https://"+r.host) || r.host == "" {
			return "of redirects only those to https of the same host can be carried out", true
		}
		r.labels["https-redirect"] = "true"
	case "pxyproto":
		if value == "true" {
			r.labels["send-proxy"] = "true"
		}
	case "register", "tags", "tlsskipverify": // the first two are about fabio itself
	default:
		return "", false
	}
	return "", true
}

// protocol reads the option proto.
func (r *route) protocol(value string, skipVerify bool) (wrong string) {
	tls := "verify"
	if skipVerify {
		tls = "insecure"
	}
	switch value {
	case "http":
	case "https":
		r.labels["backend-tls"] = tls
	case "grpc":
		r.labels["http2"] = "true"
	case "grpcs":
		r.labels["http2"], r.labels["backend-tls"] = "true", tls
	case "tcp":
		if r.port == "" {
			return "proto=tcp needs a port alone"
		}
		r.labels["mode"] = "tcp"
	case "tcp+sni":
		if r.path != "/" {
			return "proto=tcp+sni sees no path"
		}
		r.labels["tls"] = "passthrough"
	default:
		return fmt.Sprintf("proto=%s is not known here", value)
	}
	return ""
}

// portsOfRoutes puts routes together whose hosts and paths are alike in everything else: a port has each of its hosts with each of its paths.
func portsOfRoutes(routes []route) []Port {
	type group struct {
		hosts, paths []string
		route
	}
	merge := func(in []group, same func(a, b *group) bool, add func(to, g *group)) (out []group) {
		for _, g := range in {
			i := slices.IndexFunc(out, func(o group) bool { return maps.Equal(o.labels, g.labels) && o.port == g.port && same(&o, &g) })
			if i < 0 {
				out = append(out, g)
				continue
			}
			add(&out[i], &g)
		}
		return out
	}
	var groups []group
	for _, r := range routes {
		groups = append(groups, group{[]string{cmp.Or(r.host, "*")}, []string{r.path}, r})
	}
	groups = merge(groups, func(a, b *group) bool { return slices.Equal(a.paths, b.paths) },
		func(to, g *group) { to.hosts = merged(to.hosts, g.hosts) })
	groups = merge(groups, func(a, b *group) bool { return slices.Equal(a.hosts, b.hosts) },
		func(to, g *group) { to.paths = merged(to.paths, g.paths) })
	var ports []Port
	for i, g := range groups {
		p := Port{Index: i, NoService: true, Labels: map[string]string{}}
		for key, value := range g.labels {
			p.Labels[nativePrefix+key] = value
		}
		if g.port != "" {
			p.Name, p.Labels[nativePrefix+"port"] = "port-"+g.port, g.port
		} else {
			p.Name = portName(g.host + g.path)
			p.Labels[nativePrefix+"host"] = strings.Join(g.hosts, " ")
			if g.labels["tls"] != "passthrough" {
				p.Labels[nativePrefix+"path"] = strings.Join(g.paths, " ")
			}
		}
		ports = append(ports, p)
	}
	return ports
}

// portName is a route as the name of a port: words of letters, digits and a few signs.
func portName(route string) string {
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._/", r) {
			return r
		}
		return '_'
	}, route)
	return name[:min(len(name), 100)]
}
