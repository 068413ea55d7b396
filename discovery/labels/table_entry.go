package labels

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// entryLabels say under which names and on which ports a service answers.
var entryLabels = []Label{
	{
		Key: "enable", Type: "bool", Default: "true if the port has a host, a path or a service port; false with --strict", Twin: "ENABLED", EveryPort: true,
		Doc: "Whether the port is a service at all.", Example: "false",
		Invalid: "the default holds",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			b, bad := parseSwitch(raw)
			if bad != nil {
				bad.warn = true
				return []flaw{*bad}, true
			}
			v.enable = &b
			return nil, false
		},
		keep: func(v *values, _ *signalbox.Service) string {
			on := true // a service that was there was enabled
			v.enable = &on
			return "true"
		},
	},
	{
		Key: "host", Type: "host names, separated by comma or space; `*.x` for every name one level below x; `~expression` for all that a regular expression matches; `*` for every name",
		Default: "none", Twin: "VHOST",
		Doc: "The names under which the service answers.", Example: "shop.example.com, *.shop.example.com",
		Invalid: "the name is dropped, the others are kept; if none is left the service has no route",
		set: func(v *values, raw string, o *Options) ([]flaw, bool) {
			hosts, flaws := parseItems(raw, splitList, func(s string) (string, *flaw) { return parseHost(s, o) })
			v.hosts = merged(nil, hosts)
			return flaws, len(hosts) == 0
		},
		lost: "the service has no route by name",
		keep: func(v *values, prev *signalbox.Service) string {
			var hosts []string
			for _, r := range prev.Routes {
				hosts = append(hosts, r.Host)
			}
			v.hosts = merged(v.hosts, hosts)
			return hostText(merged(nil, hosts))
		},
	},
	{
		Key: "path-match", Type: "`prefix`, `exact` or `regex`", Default: "prefix",
		Doc:     "How the paths of the label path are compared: with everything below them, as they are, or as regular expressions of whole paths, which are separated by spaces only.",
		Example: "exact", Invalid: "prefix holds",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			switch strings.ToLower(raw) {
			case "prefix":
				v.match = signalbox.Prefix
			case "exact":
				v.match = signalbox.Exact
			case "regex":
				v.match = signalbox.Regex
			default:
				return []flaw{noChoice(raw, "prefix", "exact", "regex")}, true
			}
			return nil, false
		},
		keep: func(v *values, prev *signalbox.Service) string {
			if len(prev.Routes) == 0 {
				return ""
			}
			v.match = prev.Routes[0].Match
			// The paths were read as prefixes, for want of anything better.
			if paths, flaws := parsePaths(v.pathText, v.match); len(flaws) == 0 {
				v.paths = paths
			} else {
				v.paths = pathsOf(prev)
			}
			return cmp.Or(string(v.match), "prefix")
		},
	},
	{
		Key: "path", Type: "paths, separated by comma or space", Default: "/", Twin: "PATH",
		Doc:     "The paths under which the service answers, each with everything below it: /api holds for /api and /api/x, not for /apis.",
		Example: "/api, /v2/api",
		Invalid: "the path is dropped, the others are kept; if none is left the service has no route",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			var flaws []flaw
			v.pathText = raw
			v.paths, flaws = parsePaths(raw, v.match)
			return flaws, len(v.paths) == 0
		},
		lost: "the service has no route",
		keep: func(v *values, prev *signalbox.Service) string {
			old := pathsOf(prev)
			v.paths = mergedPaths(slices.Concat(v.paths, old))
			var text []string
			for _, p := range old {
				text = append(text, p.path)
			}
			return strings.Join(text, ", ")
		},
	},
	{
		Key: "mode", Type: "`http` or `tcp`", Default: "http if the port has a host or a path, else tcp", Twin: "MODE", EveryPort: true,
		Doc: "Whether the service speaks HTTP or bare TCP to HAProxy.", Example: "tcp",
		Invalid: "the default holds",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			switch m := signalbox.Mode(strings.ToLower(raw)); m {
			case signalbox.HTTP, signalbox.TCP:
				v.mode = m
				return nil, false
			}
			return []flaw{{code: "SB113", value: raw, text: "is not one of http, tcp"}}, true
		},
		keep: func(v *values, prev *signalbox.Service) string {
			if prev.Policy.Passthrough {
				return "" // the mode came with it
			}
			v.mode = prev.Mode
			return string(prev.Mode)
		},
	},
	{
		Key: "port", Type: "1 to 65535; `on` for the service port that Marathon assigned; or `off`",
		Default: "none; for an app with marathon-lb's labels its service port", Twin: "PORT",
		Doc: "The port on which every slave answers for the service.", Example: "8080",
		Invalid: "the service has no port of its own",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			switch {
			case strings.EqualFold(raw, "off"):
				v.noPort = true
				return nil, false
			case strings.EqualFold(raw, "on"):
				v.servicePort = true
				return nil, false
			}
			n, ok := parsePort(raw)
			if !ok {
				return []flaw{{code: "SB112", value: raw, text: "is not a port of 1 to 65535, nor on or off"}}, true
			}
			v.port = n
			return nil, false
		},
		lost: "no port is bound",
		keep: func(v *values, prev *signalbox.Service) string {
			if prev.Listen == 0 {
				return ""
			}
			v.port = prev.Listen
			return strconv.Itoa(prev.Listen)
		},
	},
	scalar(Label{
		Key: "bind-address", Type: "IP address", Default: "as --service-bind says", Twin: "BIND_ADDR",
		Doc: "The address on which the service port listens.", Example: "127.0.0.1",
		Invalid: "the default holds",
	}, func(p *signalbox.Policy) *netip.Addr { return &p.BindAddress }, parseBind),
	onOff(Label{
		Key: "accept-proxy", Default: "false",
		Doc: "Clients of the service port speak the PROXY protocol, as some balancers in front do.", Example: "true",
		Invalid: "false holds",
	}, func(p *signalbox.Policy) *bool { return &p.AcceptProxy }),
	onOff(Label{
		Key: "port-tls", Default: "false",
		Doc: "The service port speaks TLS, with the certificate that the label tls names.", Example: "true",
		Invalid: "false holds",
	}, func(p *signalbox.Policy) *bool { return &p.PortTLS }),
	{
		Key: "group", Type: "names, separated by comma or space", Default: "none", Twin: "GROUP", EveryPort: true,
		Doc: "The groups of load balancers that the service is for; `*` for all of them.", Example: "internal, edge",
		Invalid: "the name is dropped, the others are kept",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			groups, flaws := parseList(raw, parseName)
			v.groups = groups
			return flaws, len(groups) == 0
		},
		lost: "the service is in no group",
		keep: func(v *values, prev *signalbox.Service) string {
			v.groups = merged(v.groups, prev.Groups)
			return strings.Join(prev.Groups, ", ")
		},
	},
	scalar(Label{
		Key: "weight", Type: "0 to 256", Default: "none: the name is not shared",
		Doc:     "The share of this service among those that claim the same host and path, where each of them has a weight: a canary.",
		Example: "10", Invalid: "the name is not shared",
	}, func(p *signalbox.Policy) **int { return &p.Weight }, optional(number(0, 256))),
	scalar(Label{
		Key: "priority", Type: "-1000000 to 1000000", Default: "0", Twin: "BACKEND_WEIGHT",
		Doc:     "Of several services that claim one host and path the one with the highest number keeps it; of equal ones the oldest. It also orders regular expressions.",
		Example: "10", Invalid: "0 holds",
	}, func(p *signalbox.Policy) *int { return &p.Priority }, number(-1_000_000, 1_000_000)),
}

// onOff completes the row of a boolean of the policy that is off unless a label asks for it.
func onOff(l Label, field func(*signalbox.Policy) *bool) Label {
	l.Type = "bool"
	return scalar(l, field, parseSwitch)
}

// parsePaths reads the paths of a label as match says.
func parsePaths(raw string, match signalbox.Match) ([]pathOfName, []flaw) {
	split, item := splitList, parsePath
	switch match {
	case signalbox.Exact:
		item = parseExactPath
	case signalbox.Regex:
		split, item = splitSpaces, parsePathRegex
	}
	texts, flaws := parseItems(raw, split, item)
	var paths []pathOfName
	for _, s := range texts {
		paths = append(paths, pathOfName{s, match})
	}
	return mergedPaths(paths), flaws
}

// pathsOf returns the paths under which a service answers.
func pathsOf(s *signalbox.Service) []pathOfName {
	var paths []pathOfName
	for _, r := range s.Routes {
		paths = append(paths, pathOfName{r.Path, r.Match})
	}
	return mergedPaths(paths)
}

// mergedPaths returns the paths sorted, each once.
func mergedPaths(paths []pathOfName) []pathOfName {
	slices.SortFunc(paths, func(a, b pathOfName) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.match, b.match))
	})
	return slices.Compact(paths)
}

func hostText(hosts []string) string {
	named := make([]string, len(hosts))
	for i, h := range hosts {
		named[i] = h
		if h == "" {
			named[i] = "*"
		}
	}
	return strings.Join(named, ", ")
}
