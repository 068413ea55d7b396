package haproxy

import (
	"cmp"
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
	a.Policy, a.Sent = &p.service.Policy, a.Path
	policy := &Policy{}
	if p.backend != nil && p.backend.Policy != nil {
		policy = p.backend.Policy
	}
	for _, e := range append(c.admission(&policy.Policy, r, a), passage(policy, r, a)...) {
		a.Effects = append(a.Effects, e)
		if e.Status != 0 && a.Status == 0 {
			a.Status, a.Reason = e.Status, e.Text
		}
	}
	if a.Status == 0 && d.Usable() == 0 {
		a.Status, a.Reason = 503, fmt.Sprintf("no task of %s takes requests", d.Service)
	}
	if a.Status != 0 {
		a.Sent = ""
	}
}

// preflight is the method by which a browser asks whether a page may ask.
const preflight = "OPTIONS"

// admission returns what decides whether a request enters at all.
func (c *Config) admission(p *signalbox.Policy, r Request, a *Answer) (out []Effect) {
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
	if p.HTTPSRedirect && !r.TLS && a.byName() {
		to := "https://" + a.Host
		if port := c.Options.HTTPSPort(); port != 443 {
			to += fmt.Sprintf(":%d", port)
		}
		to += r.Path
		if r.Query != "" {
			to += "?" + r.Query
		}
		add(true, "https-redirect", 301, "sent to %s", to)
	}
	add(p.RateLimit != signalbox.RateLimit{}, "rate-limit", 0, "at most %s from one address, 429 beyond", p.RateLimit)
	may := slices.Contains(p.CORS, "*") || slices.Contains(p.CORS, r.Origin)
	add(r.Method == preflight && r.Origin != "" && may, "cors", 204, "the browser may ask from %s", r.Origin)
	if auth := p.Auth; auth != nil {
		add(true, "auth", 0, "asked for a name and a password, 401 without (%s)", cmp.Or(auth.List, auth.Realm))
	}
	return out
}

// passage returns what is done with a request that has entered.
func passage(p *Policy, r Request, a *Answer) (out []Effect) {
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
	if path, ok := p.rewritten(a.Path); ok {
		label := "strip-prefix"
		if p.RewritePath != "" {
			label = "rewrite-path"
		}
		a.Sent = path
		add(true, label, 0, "asks for %s %s", method, path)
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

// rewritten returns what becomes of a path, if a label changes it.
func (p *Policy) rewritten(path string) (string, bool) {
	base := strings.TrimSuffix(p.RewritePath, "/")
	if slices.Contains(p.Paths, path) {
		return cmp.Or(base, "/"), true
	}
	for _, prefix := range p.Prefixes { // the longest first
		if strings.HasPrefix(path+"/", prefix+"/") {
			return cmp.Or(base+path[len(prefix):], "/"), true
		}
	}
	return path, false
}

func words[T fmt.Stringer](all []T) string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = v.String()
	}
	return strings.Join(out, ", ")
}
