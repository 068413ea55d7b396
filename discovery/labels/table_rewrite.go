package labels

import (
	"fmt"
	"slices"
	"strings"

	"signalbox"
)

// rewriteLabels say what is done with requests and answers on their way.
var rewriteLabels = []Label{
	{
		Key: "strip-prefix", Type: "bool, or a path", Default: "false", HTTP: true,
		Doc:     "The path of the route is taken off before a task sees the request: /api/users arrives as /users. A path is taken off requests that have it, whatever the route.",
		Example: "true", Invalid: "false holds",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			if !strings.HasPrefix(raw, "/") {
				on, bad := parseSwitch(raw)
				if bad != nil {
					return []flaw{*bad}, true
				}
				v.policy.StripPrefix = on
				return nil, false
			}
			path, bad := parsePath(raw)
			if bad == nil && path == "/" {
				bad = &flaw{code: "SB110", value: raw, text: "leaves nothing"}
			}
			if bad != nil {
				return []flaw{*bad}, true
			}
			v.policy.StripPath = path
			return nil, false
		},
		keep: func(v *values, prev *signalbox.Service) string {
			v.policy.StripPrefix, v.policy.StripPath = prev.Policy.StripPrefix, prev.Policy.StripPath
			if v.policy.StripPrefix {
				return "true"
			}
			return v.policy.StripPath
		},
		clear: func(y *signalbox.Policy) { y.StripPrefix, y.StripPath = false, "" },
	},
	scalar(Label{
		Key: "rewrite-path", Type: "path", Default: "none", HTTP: true,
		Doc: "What the path of the route is replaced by before a task sees the request.", Example: "/internal/api",
		Invalid: "the path stays as it is",
	}, func(p *signalbox.Policy) *string { return &p.RewritePath }, parsePath),
	scalar(Label{
		Key: "rewrite-host", Type: "host name", Default: "the client's", HTTP: true,
		Doc: "The Host that tasks see.", Example: "legacy.internal",
		Invalid: "the client's stays",
	}, func(p *signalbox.Policy) *string { return &p.RewriteHost }, parseOneHost),
	scalar(Label{
		Key: "rewrite-location", Type: "path", Default: "none", HTTP: true,
		Doc: "The path that is put before that of redirects with which tasks answer, to undo a strip-prefix.", Example: "/api",
		Invalid: "redirects stay as they are",
	}, func(p *signalbox.Policy) *string { return &p.RewriteLocation }, parsePath),
	scalar(Label{
		Key: "redirect-root", Type: "path, with a query or without", Default: "none", HTTP: true,
		Doc: "Where requests for / are sent, with 301.", Example: "/app/",
		Invalid: "requests for / reach the tasks",
	}, func(p *signalbox.Policy) *string { return &p.RedirectRoot }, parseRedirect),
	headers(Label{
		Key: "request-header", Doc: "Set on each request before a task sees it.", Example: "X-Team: shop",
	}, func(p *signalbox.Policy) *[]signalbox.Header { return &p.RequestHeaders }, false),
	headers(Label{
		Key: "response-header", Doc: "Set on each answer before the client sees it.", Example: "Cache-Control: no-store",
	}, func(p *signalbox.Policy) *[]signalbox.Header { return &p.ResponseHeaders }, true),
	sorted(Label{
		Key: "cors", Type: "origins, scheme://host[:port], separated by comma or space; `*` for all", Default: "none", EveryPort: true, HTTP: true,
		Doc: "The origins whose pages browsers may let call the service. Preflight requests are answered without a task.", Example: "https://app.example.com",
		Invalid: "the origin is dropped, the others are kept", lost: "no origin is allowed",
	}, func(p *signalbox.Policy) *[]string { return &p.CORS }, parseOrigin),
	{
		Key: "error-page", Type: "status=name, separated by comma or space", Default: "HAProxy's pages", EveryPort: true, HTTP: true,
		Doc: "Pages that the operator has given, for answers of the load balancer's own.", Example: "503=sorry",
		Invalid: "the page is dropped, the others are kept", lost: "HAProxy's pages are sent",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			pages, flaws := parseItems(raw, splitList, errorPageItems())
			sortPages(pages)
			v.policy.ErrorPages = pages
			return flaws, len(pages) == 0
		},
		keep: func(v *values, prev *signalbox.Service) string {
			var text []string
			for _, old := range prev.Policy.ErrorPages {
				text = append(text, fmt.Sprintf("%d=%s", old.Status, old.Name))
				if !slices.ContainsFunc(v.policy.ErrorPages, func(p signalbox.ErrorPage) bool { return p.Status == old.Status }) {
					v.policy.ErrorPages = slices.Concat(v.policy.ErrorPages, []signalbox.ErrorPage{old})
				}
			}
			sortPages(v.policy.ErrorPages)
			return strings.Join(text, ", ")
		},
		clear: func(y *signalbox.Policy) { y.ErrorPages = nil },
	},
}

// headers completes the row of a list of header fields.
func headers(l Label, field func(*signalbox.Policy) *[]signalbox.Header, answer bool) Label {
	l.Type, l.Default, l.EveryPort, l.HTTP = "`Name: value`, each on a line of its own", "none", true, true
	l.Invalid, l.lost = "the line is dropped, the others are kept", "no header field is set"
	l.set = func(v *values, raw string, _ *Options) ([]flaw, bool) {
		all, flaws := parseHeaders(raw, answer)
		*field(&v.policy) = all
		return flaws, len(all) == 0
	}
	l.keep = func(v *values, prev *signalbox.Service) string {
		now := field(&v.policy)
		var text []string
		for _, old := range *field(&prev.Policy) {
			text = append(text, old.String())
			if len(*now) < maxHeaders && !slices.ContainsFunc(*now, func(h signalbox.Header) bool { return strings.EqualFold(h.Name, old.Name) }) {
				*now = slices.Concat(*now, []signalbox.Header{old})
			}
		}
		return strings.Join(text, "; ")
	}
	l.clear = func(y *signalbox.Policy) { *field(y) = nil }
	return l
}
