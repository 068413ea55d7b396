package labels

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"signalbox"
)

// derive computes what the typed values mean together.
func (p *PortResult) derive() {
	v := &p.values
	p.Problems = slices.Clone(p.fixed)
	unset := map[string]bool{} // asked for, but nothing good came of it
	for _, r := range p.refused {
		unset[r.row.Key] = r.whole && r.kept == ""
		for _, f := range r.flaws {
			p.Problems = append(p.Problems, r.problem(f))
		}
		if r.claim.stray && r.kept != "" {
			p.Problems = append(p.Problems, r.problem(flaw{code: "SB103", text: "may be meant for this port", warn: true}))
		} else if len(r.flaws) == 0 && r.kept != "" {
			p.Problems = append(p.Problems, r.problem(flaw{code: "SB142", text: "cannot be read any more, and may say " + r.row.Key, warn: true}))
		}
	}
	p.Groups, p.Policy = v.groups, v.policy
	if a := p.Policy.Auth; a != nil {
		p.Policy.Auth = &signalbox.Auth{Realm: a.Realm, List: a.List, User: a.User, Hash: a.Hash, Wide: p.asked["auth"].foreign}
	}
	p.CheckPortOf = p.checkPort()

	p.Routes = nil
	named := p.asks("host") || p.asks("path")
	if named && !unset["host"] && !unset["path"] {
		p.Routes = p.routes()
	}
	p.deriveMode(named)
	p.Listen = 0
	switch {
	case p.options.ServicePorts == Off || v.noPort || unset["port"]:
	case v.port != 0:
		p.Listen = v.port
	case v.servicePort || p.options.ServicePorts == All || p.foreign:
		if n := p.servicePort(); 1 <= n && n <= 65535 {
			p.Listen = n
		} else if v.servicePort {
			p.complain("port", "SB112", signalbox.SeverityError, "asks for the service port, and the app has none for this port", "no port is bound")
		}
	}
	// A port that nobody asks a way in for is no service: it would cost every slave a backend and every task its checks.
	asks := named || p.asks("port") && !v.noPort || p.Listen != 0
	if v.enable != nil {
		asks = *v.enable
	} else if p.options.Strict {
		asks = false
	}
	p.Enabled = asks && p.served()
	p.refuse(unset)
	p.combine()
	for i := range p.Problems {
		p.Problems[i].App = p.app
	}
	slices.SortFunc(p.Problems, signalbox.Problem.Compare)
	p.Problems = slices.Compact(p.Problems)
}

// checkPort returns the index of the port that is probed instead, nil for the port itself.
func (p *PortResult) checkPort() *int {
	if !p.asks("health-port") {
		return nil
	}
	i := slices.IndexFunc(p.ports, func(o Port) bool { return strconv.Itoa(o.Index) == p.values.healthPort })
	if i < 0 {
		i = slices.IndexFunc(p.ports, func(o Port) bool { return o.Name == p.values.healthPort && o.Name != "" })
	}
	if i < 0 {
		p.complain("health-port", "SB147", signalbox.SeverityWarning, "is neither the index nor the name of a port; the app has "+count(len(p.ports), "port"),
			"the port itself is probed")
		return nil
	}
	return &p.ports[i].Index
}

// asks reports whether a label sets a key.
func (p *PortResult) asks(key string) bool {
	_, ok := p.asked[key]
	return ok
}

// complain adds a problem with the label that sets a key.
func (p *PortResult) complain(key, code string, s signalbox.Severity, text, action string) {
	c := p.asked[key]
	p.Problems = append(p.Problems, c.problem(code, s, text, action))
}

// routes returns every name with every path.
func (p *PortResult) routes() []signalbox.Route {
	hosts, paths := p.values.hosts, p.values.paths
	if !p.asks("host") {
		hosts = []string{""}
	}
	if !p.asks("path") {
		paths = []pathOfName{{path: "/"}}
	}
	var all []signalbox.Route
	for _, h := range hosts {
		for _, path := range paths {
			all = append(all, signalbox.Route{Host: h, Path: path.path, Match: path.match})
		}
	}
	slices.SortFunc(all, signalbox.Route.Compare)
	kept, left := p.room.take(slices.Compact(all))
	if left > 0 {
		key := "host"
		if !p.asks(key) {
			key = "path"
		}
		p.complain(key, "SB106", signalbox.SeverityError, fmt.Sprintf(
			"gives, together with the paths, more than the %d routes, or %d regular expressions, that an app may have", maxRoutes, maxExpressions),
			count(left, "route")+" of the service are left out")
	}
	return kept
}

// room is how much more an app may ask for.
type room struct{ routes, expressions int }

// The bounds of what one app may ask for: every slave carries it, and tries the expressions in the thread that serves everybody.
const (
	maxRoutes      = 4096
	maxExpressions = 64
)

// take returns the routes that fit, of sorted ones, and how many do not.
func (r room) take(routes []signalbox.Route) (kept []signalbox.Route, left int) {
	kept = make([]signalbox.Route, 0, min(len(routes), r.routes))
	hosts := map[string]bool{} // regular expressions of hosts that fit
	for _, route := range routes {
		cost := 0
		if strings.HasPrefix(route.Host, "~") && !hosts[route.Host] {
			cost++
		}
		if route.Match == signalbox.Regex {
			cost++
		}
		if len(kept) == r.routes || cost > r.expressions {
			left++
			continue
		}
		if r.expressions -= cost; strings.HasPrefix(route.Host, "~") {
			hosts[route.Host] = true
		}
		kept = append(kept, route)
	}
	return kept, left
}

// less returns the room that is left beside some routes.
func (r room) less(routes []signalbox.Route) room {
	last := ""
	for _, route := range routes {
		r.routes--
		if route.Match == signalbox.Regex {
			r.expressions--
		}
		if strings.HasPrefix(route.Host, "~") && route.Host != last {
			r.expressions--
		}
		last = route.Host
	}
	return r
}

// deriveMode chooses the mode. A service of mode tcp has routes only where the tasks terminate TLS themselves: they are told apart
// by the server name, which has no path.
func (p *PortResult) deriveMode(named bool) {
	v := &p.values
	p.Mode = v.mode
	if p.Mode == "" {
		p.Mode = signalbox.TCP
		if named || p.foreign && p.port.Check == "HTTP" {
			p.Mode = signalbox.HTTP
		}
	}
	if v.policy.Passthrough {
		if v.mode == signalbox.HTTP && p.asks("mode") {
			p.complain("mode", "SB135", signalbox.SeverityError, "contradicts tls=passthrough, which hides requests from the load balancer", "the mode is tcp")
		}
		p.Mode = signalbox.TCP
		if slices.ContainsFunc(p.Routes, func(r signalbox.Route) bool { return r.Path != "/" || r.Match != signalbox.Prefix }) {
			p.Routes = nil
			p.complain("path", "SB135", signalbox.SeverityError, "cannot be seen with tls=passthrough", "the service has no route by name")
		}
		return
	}
	if p.Mode == signalbox.TCP && len(p.Routes) > 0 {
		p.Routes = nil
		p.Problems = append(p.Problems, signalbox.Problem{
			Code: "SB118", Severity: signalbox.SeverityError, App: p.app, Label: "mode", Value: "tcp",
			Message: "a service of mode tcp cannot be told by host or path", Action: "the service has no route by name",
		})
	}
}

// refuse lets nobody in where a label that restricts access cannot be carried out.
func (p *PortResult) refuse(unset map[string]bool) {
	var lost []string
	for i := range table {
		if l := &table[i]; l.guards && unset[l.Key] {
			lost = append(lost, l.Key)
		}
	}
	if p.Mode == signalbox.TCP && p.Policy.Auth != nil {
		lost = append(lost, "auth")
		p.Policy.Auth = nil
		if p.Enabled {
			p.complain("auth", "SB135", signalbox.SeverityError, "cannot be asked for by a service of mode tcp", "nobody may enter")
		}
	}
	if len(lost) > 0 {
		p.Policy.Refused = "the label " + strings.Join(lost, " and ") + " cannot be carried out"
	}
}

// combine takes out of the policy what makes no sense beside the rest of it, and says so.
func (p *PortResult) combine() {
	y := &p.Policy
	if p.Mode == signalbox.TCP {
		for i := range table {
			p.idleIf(table[i].HTTP, table[i].Key, "the service is of mode tcp")
		}
	}
	p.idleIf(y.Passthrough, "backend-tls", "tls=passthrough hands the client's TLS on")

	byName := len(p.Routes) > 0
	plain := slices.ContainsFunc(p.Routes, func(r signalbox.Route) bool { return r.Match != signalbox.Regex })
	below := slices.ContainsFunc(p.Routes, func(r signalbox.Route) bool { return r.Path != "/" })
	p.idleIf(byName && !plain && y.StripPath == "", "strip-prefix", "a regular expression has no prefix to take off")
	p.idleIf(byName && !plain, "rewrite-path", "a regular expression has no prefix to replace")
	p.idleIf(byName && !below && y.StripPath == "", "strip-prefix", "there is no path to take off")
	p.idleIf(y.RewritePath != "", "strip-prefix", "rewrite-path replaces the path")
	p.idleIf(!p.asks("path"), "path-match", "there is no path")
	unnamed := !byName && !p.asks("host") && !p.asks("path") // where they are wrong that says enough
	for _, key := range []string{"weight", "priority", "https-redirect"} {
		p.idleIf(unnamed, key, "the service has no route by name")
	}

	bound := p.Listen != 0 || p.options.ServicePorts == Off // what is off for everybody is nobody's mistake
	for _, key := range []string{"bind-address", "accept-proxy", "port-tls"} {
		p.idleIf(!bound, key, "the service has no port of its own")
	}
	p.idleIf(unnamed && !y.PortTLS, "hsts", "the service has no way in over TLS")
	if y.PortTLS && y.TLS == "" && p.own("port-tls") {
		p.complain("port-tls", "SB135", signalbox.SeverityInfo, "names no certificate: the label tls is missing", "the load balancer's own certificate is used")
	}
	p.idleIf(p.values.check != nil && p.values.check.Kind == signalbox.CheckOff, "health-interval", "health is off")
}

// idleIf takes a label out of the policy if it has no effect, and says so where the label is about this very port.
func (p *PortResult) idleIf(idle bool, key, why string) {
	l := row(key)
	if !idle || !p.sets(l) {
		return
	}
	if p.own(key) {
		p.complain(key, "SB134", signalbox.SeverityWarning, "has no effect: "+why, "it is ignored")
	}
	if l.clear != nil {
		l.clear(&p.Policy)
	}
}

// own reports whether a key is set by one of our labels that is about this port: one of the whole app is meant for those ports where it
// has an effect.
func (p *PortResult) own(key string) bool {
	c, ok := p.asked[key]
	general := c.port == "" && c.rank == rankApp && row(key).EveryPort
	return ok && p.Enabled && !general && !c.foreign
}

// sets reports whether the port has something other than the default of a row.
func (p *PortResult) sets(l *Label) bool {
	if l.clear == nil || !p.asks(l.Key) {
		return p.asks(l.Key)
	}
	var none values
	return l.keep(&none, &signalbox.Service{Policy: p.Policy}) != ""
}

// Check returns how the tasks of the port are probed, where the source says source.
func (p *PortResult) Check(source signalbox.Check) signalbox.Check {
	check := source
	switch v := &p.values; {
	case v.check != nil:
		check.Kind, check.Path, check.TLS = v.check.Kind, v.check.Path, v.check.TLS || v.policy.Passthrough && v.check.Kind == signalbox.CheckHTTP
	case p.Mode == signalbox.TCP && check.Kind == signalbox.CheckHTTP:
		check.Kind, check.Path, check.TLS = signalbox.CheckTCP, "", false
	}
	if p.values.interval != 0 {
		check.Interval = p.values.interval
	}
	return check
}
