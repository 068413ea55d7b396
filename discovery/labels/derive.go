package labels

import (
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
	}
	p.Groups, p.Policy = v.groups, v.policy
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
	return slices.Compact(all)
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
		*y = p.withoutHTTP()
	}
	if y.Passthrough && y.BackendTLS != "" {
		y.BackendTLS = ""
		p.idle("backend-tls", "tls=passthrough hands the client's TLS on")
	}
	if y.StripPrefix && y.RewritePath != "" {
		y.StripPrefix = false
		p.idle("strip-prefix", "rewrite-path replaces the path")
	}
	if slices.ContainsFunc(p.Routes, func(r signalbox.Route) bool { return r.Match == signalbox.Regex }) {
		if y.StripPrefix {
			p.idle("strip-prefix", "a regular expression has no prefix to take off")
		}
		if y.RewritePath != "" {
			p.idle("rewrite-path", "a regular expression has no prefix to replace")
		}
		y.StripPrefix, y.RewritePath = false, ""
	}
	byName := len(p.Routes) > 0
	if byName && !slices.ContainsFunc(p.Routes, func(r signalbox.Route) bool { return r.Path != "/" }) {
		p.idleUnless(!y.StripPrefix, "strip-prefix", "there is no path to take off")
	}
	p.idleUnless(p.asks("path"), "path-match", "there is no path")
	p.idleUnless(byName, "weight", "the service has no route by name")
	p.idleUnless(byName, "priority", "the service has no route by name")
	p.idleUnless(byName || !y.HTTPSRedirect, "https-redirect", "the service has no route by name")
	p.idleUnless(byName || y.PortTLS || !y.HSTS, "hsts", "the service has no way in over TLS")
	if p.options.ServicePorts != Off && p.Listen == 0 {
		for _, key := range []string{"bind-address", "accept-proxy", "port-tls"} {
			p.idleUnless(false, key, "the service has no port of its own")
		}
	}
	if y.PortTLS && y.TLS == "" && p.Listen != 0 {
		p.warn("port-tls", "SB135", "names no certificate: the label tls is missing", "the load balancer's own certificate is used")
	}
	p.idleUnless(p.values.check == nil || p.values.check.Kind != signalbox.CheckOff, "health-interval", "health is off")
}

// withoutHTTP returns the policy of a service of mode tcp.
func (p *PortResult) withoutHTTP() signalbox.Policy {
	for i := range table {
		if l := &table[i]; l.HTTP && p.sets(l) {
			p.idle(l.Key, "the service is of mode tcp")
		}
	}
	y := p.Policy
	y.Sticky, y.HTTP2, y.HTTPSRedirect, y.HSTS, y.RateLimit = "", false, false, false, signalbox.RateLimit{}
	y.StripPrefix, y.RewritePath, y.RewriteHost, y.RewriteLocation, y.RedirectRoot = false, "", "", "", ""
	y.RequestHeaders, y.ResponseHeaders, y.CORS, y.ErrorPages, y.RoutePatterns = nil, nil, nil, nil, nil
	return y
}

// sets reports whether a label of the port asks for something other than its row's default.
func (p *PortResult) sets(l *Label) bool {
	if !p.asks(l.Key) {
		return false
	}
	var none values
	return l.keep(&none, &signalbox.Service{Policy: p.Policy}) != ""
}

// idleUnless says that a label has no effect, unless it has.
func (p *PortResult) idleUnless(holds bool, key, why string) {
	if !holds {
		p.idle(key, why)
	}
}

// idle says that a label has no effect. One of the whole app that holds for every port is meant for those where it has.
func (p *PortResult) idle(key, why string) {
	p.warn(key, "SB134", "has no effect: "+why, "it is ignored")
}

func (p *PortResult) warn(key, code, text, action string) {
	c, ok := p.asked[key]
	general := c.port == "" && c.rank == rankApp && row(key).EveryPort
	if ok && p.Enabled && !general && !c.foreign {
		p.complain(key, code, signalbox.SeverityWarning, text, action)
	}
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
