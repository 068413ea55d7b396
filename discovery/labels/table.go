package labels

import (
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// Label is one row of the vocabulary.
type Label struct {
	Key     string // as in signalbox.KEY and signalbox.N.KEY
	Type    string // what its value is, for people
	Default string
	Doc     string // one sentence
	Twin    string // the marathon-lb label that means the same, X of HAPROXY_N_X, or ""
	Invalid string // what happens to a value that is not of the type, when the app had no good one before
	// EveryPort says that the form without a port, signalbox.KEY, holds for every port of the app, not for its first one.
	EveryPort bool

	// set reads a value into v. It returns what is wrong with the value or with single items of it; whole says that nothing of
	// it could be used, so that the label counts as not set.
	set func(v *values, raw string, o *Options) (flaws []flaw, whole bool)
	// keep puts the value that prev shows in force into v, and returns it as text; "" if prev shows none.
	keep func(v *values, prev *signalbox.Service) string
	lost string // what is done when nothing of the value could be used
}

// values are the labels of one port, typed.
type values struct {
	enable *bool
	hosts  []string // "" is every host
	paths  []string
	mode   signalbox.Mode // "" if not asked for
	port   int            // 0 if not asked for
	noPort bool           // signalbox.port=off
	groups []string
}

// Table holds every label, in the order in which they are documented.
func Table() []Label { return slices.Clone(table) }

var table = []Label{
	{
		Key: "enable", Type: "bool", Default: "true if the port has a host, a path or a service port", Twin: "ENABLED", EveryPort: true,
		Doc:     "Whether the port is a service at all.",
		Invalid: "the default holds",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			b, ok := parseBool(raw)
			if !ok {
				return []flaw{{code: "SB114", value: raw, text: "is not one of true, false, on, off, yes, no, 1, 0", warn: true}}, true
			}
			v.enable = &b
			return nil, false
		},
		lost: "the default holds",
		keep: func(*values, *signalbox.Service) string { return "" },
	},
	{
		Key: "host", Type: "host names, separated by comma or space; *.x for every name below x; * for every name", Default: "none", Twin: "VHOST",
		Doc:     "The names under which the service answers.",
		Invalid: "the name is dropped, the others are kept; if none is left the service has no route",
		set: func(v *values, raw string, o *Options) ([]flaw, bool) {
			hosts, flaws := parseList(raw, func(s string) (string, *flaw) { return parseHost(s, o) })
			v.hosts = hosts
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
		Key: "path", Type: "path prefixes, separated by comma or space", Default: "/", Twin: "PATH",
		Doc:     "The paths under which the service answers, each with everything below it: /api holds for /api and /api/x, not for /apis.",
		Invalid: "the prefix is dropped, the others are kept; if none is left the service has no route",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			paths, flaws := parseList(raw, parsePath)
			v.paths = paths
			return flaws, len(paths) == 0
		},
		lost: "the service has no route",
		keep: func(v *values, prev *signalbox.Service) string {
			var paths []string
			for _, r := range prev.Routes {
				paths = append(paths, r.Path)
			}
			v.paths = merged(v.paths, paths)
			return strings.Join(merged(nil, paths), ", ")
		},
	},
	{
		Key: "mode", Type: "http or tcp", Default: "http if the port has a host or a path, else tcp", Twin: "MODE", EveryPort: true,
		Doc:     "Whether the service speaks HTTP or bare TCP to HAProxy.",
		Invalid: "the default holds",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			switch m := signalbox.Mode(strings.ToLower(raw)); m {
			case signalbox.HTTP, signalbox.TCP:
				v.mode = m
				return nil, false
			}
			return []flaw{{code: "SB113", value: raw, text: "is not one of http, tcp"}}, true
		},
		lost: "the default holds",
		keep: func(v *values, prev *signalbox.Service) string {
			v.mode = prev.Mode
			return string(prev.Mode)
		},
	},
	{
		Key: "port", Type: "1 to 65535, or off", Default: "none; for an app with marathon-lb's labels its service port", Twin: "PORT",
		Doc:     "The port on which every slave answers for the service.",
		Invalid: "the service has no port of its own",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			if strings.EqualFold(raw, "off") {
				v.noPort = true
				return nil, false
			}
			n, ok := parsePort(raw)
			if !ok {
				return []flaw{{code: "SB112", value: raw, text: "is not a port of 1 to 65535, nor off"}}, true
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
	{
		Key: "group", Type: "names, separated by comma or space", Default: "none", Twin: "GROUP", EveryPort: true,
		Doc:     "The groups of load balancers that the service is for.",
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
}

// row returns the row of a key, or nil.
func row(key string) *Label {
	for i := range table {
		if table[i].Key == key {
			return &table[i]
		}
	}
	return nil
}

// merged returns the items of both lists, sorted, each once.
func merged(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
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
