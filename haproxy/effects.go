package haproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"signalbox"
)

// effects notes what the labels of a destination do with the request, and the answer that ends its way, if one does.
func (c *Config) effects(r Request, a *Answer) {
	i := slices.IndexFunc(a.Destinations, func(d Destination) bool { return d.Percent > 0 })
	if i < 0 {
		return
	}
	d := &a.Destinations[i]
	p := c.partOf(d.Service)
	if p == nil {
		return
	}
	policy := &p.service.Policy
	a.Policy = policy
	for _, e := range append(admission(policy, r, a), passage(policy, r, a)...) {
		a.Effects = append(a.Effects, e)
		if e.Status != 0 && a.Status == 0 {
			a.Status, a.Reason = e.Status, e.Text
		}
	}
	if a.Status == 0 && d.Usable() == 0 {
		a.Status, a.Reason = 503, fmt.Sprintf("no task of %s takes requests", d.Service)
	}
}

// admission returns what decides whether a request enters at all.
func admission(p *signalbox.Policy, r Request, a *Answer) (out []Effect) {
	add := func(holds bool, label string, status int, format string, args ...any) {
		if holds {
			out = append(out, Effect{label, fmt.Sprintf(format, args...), status})
		}
	}
	add(p.Refused != "", "refused", 403, "nobody may enter: %s", p.Refused)
	if len(p.Allow) > 0 {
		inside := slices.ContainsFunc(p.Allow, func(n netip.Prefix) bool { return n.Contains(r.Source.Unmap()) })
		switch {
		case !r.Source.IsValid():
			add(true, "allow", 0, "only from %s", words(p.Allow))
		case inside:
			add(true, "allow", 0, "%s may enter", r.Source)
		default:
			add(true, "allow", 403, "%s may not enter, only %s", r.Source, words(p.Allow))
		}
	}
	if p.HTTPSRedirect && !r.TLS && !a.byPort() {
		to := "https://" + a.Host + r.Path
		if r.Query != "" {
			to += "?" + r.Query
		}
		add(true, "https-redirect", 301, "sent to %s", to)
	}
	add(p.RateLimit != signalbox.RateLimit{}, "rate-limit", 0, "at most %s from one address, 429 beyond", p.RateLimit)
	if auth := p.Auth; auth != nil {
		add(true, "auth", 0, "asked for a name and a password, 401 without (%s)", auth.Realm+auth.List)
	}
	return out
}

// passage returns what is done with a request that has entered.
func passage(p *signalbox.Policy, r Request, a *Answer) (out []Effect) {
	add := func(holds bool, label string, status int, format string, args ...any) {
		if holds {
			out = append(out, Effect{label, fmt.Sprintf(format, args...), status})
		}
	}
	add(p.RedirectRoot != "" && a.Path == "/", "redirect-root", 301, "sent to %s", p.RedirectRoot)
	method := "GET"
	if r.Method != "" {
		method = r.Method
	}
	prefix := ""
	if a.Route != nil && a.Route.Match == signalbox.Prefix {
		prefix = strings.TrimSuffix(a.Route.Path, "/")
	}
	switch rest := strings.TrimPrefix(a.Path, prefix); {
	case p.RewritePath != "":
		add(true, "rewrite-path", 0, "asks for %s %s", method, strings.TrimSuffix(p.RewritePath, "/")+rest)
	case p.StripPrefix && prefix != "":
		if !strings.HasPrefix(rest, "/") {
			rest = "/" + rest
		}
		add(true, "strip-prefix", 0, "asks for %s %s", method, rest)
	}
	if rest, ok := strings.CutPrefix(a.Path+"/", p.StripPath+"/"); ok && p.StripPath != "" {
		add(true, "strip-prefix", 0, "asks for %s /%s", method, strings.TrimSuffix(rest, "/"))
	}
	add(p.RewriteHost != "", "rewrite-host", 0, "asks for the host %s", p.RewriteHost)
	for _, h := range p.RequestHeaders {
		add(true, "request-header", 0, "sets %s", h)
	}
	add(p.Sticky != "", "sticky", 0, "the cookie %s keeps a client at its task", p.Sticky)
	add(p.HTTP2, "http2", 0, "tasks are spoken to in HTTP/2")
	add(p.BackendTLS != "", "backend-tls", 0, "tasks are spoken to in TLS (%s)", p.BackendTLS)
	add(p.SendProxy, "send-proxy", 0, "tasks are told the client's address by the PROXY protocol")
	add(len(p.CORS) > 0, "cors", 0, "browsers may call from %s", strings.Join(p.CORS, ", "))
	add(p.HSTS && r.TLS, "hsts", 0, "the answer tells browsers to stay with https")
	add(p.RewriteLocation != "", "rewrite-location", 0, "redirects of the task begin with %s", p.RewriteLocation)
	for _, h := range p.ResponseHeaders {
		add(true, "response-header", 0, "the answer has %s", h)
	}
	return out
}

func words[T fmt.Stringer](all []T) string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = v.String()
	}
	return strings.Join(out, ", ")
}
