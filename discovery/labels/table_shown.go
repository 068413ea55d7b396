package labels

import (
	"strings"

	"signalbox"
)

// shownLabels change nothing on the way of a request: metrics, the log, tracing and people read them.
var shownLabels = []Label{
	sorted(Label{
		Key: "routes", Type: "templates of paths, separated by comma or space", Default: "none: ids in paths are recognised", HTTP: true,
		Doc: "How requests are told apart in metrics: one series for all of /users/1, /users/2.", Example: "/users/{id}, /users/{id}/orders",
		Invalid: "the template is dropped, the others are kept", lost: "ids in paths are recognised",
	}, func(p *signalbox.Policy) *[]string { return &p.RoutePatterns }, parseTemplate),
	scalar(Label{
		Key: "slo", Type: "share of good requests, and the time within which a good one is answered", Default: "none", EveryPort: true,
		Doc: "The objective that metrics measure the service by.", Example: "99.9% < 250ms",
		Invalid: "there is no objective",
	}, func(p *signalbox.Policy) *signalbox.SLO { return &p.SLO }, parseSLO),
	scalar(Label{
		Key: "log", Type: "`on`, `off`, `errors` or 1/N", Default: "on", EveryPort: true,
		Doc: "Which requests are forwarded and shown by tail. All of them are counted.", Example: "1/10",
		Invalid: "on holds",
	}, func(p *signalbox.Policy) *string { return &p.Log }, sampled("errors")),
	{
		Key: "log-headers", Type: "names of header fields, separated by comma or space", Default: "none", EveryPort: true, HTTP: true,
		Doc: "Up to four header fields of requests whose values stand in the log, as tail shows it; each is cut to 128 bytes.", Example: "x-request-id, user-agent",
		Invalid: "the name is dropped, the others are kept", lost: "no header fields are logged",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			names, flaws := parseLogHeaders(raw)
			v.policy.LogHeaders = names
			return flaws, len(names) == 0
		},
		keep: func(v *values, prev *signalbox.Service) string {
			old := prev.Policy.LogHeaders
			if all := merged(v.policy.LogHeaders, old); len(all) <= signalbox.MaxLogHeaders && len(old) > 0 {
				v.policy.LogHeaders = all
			}
			return strings.Join(old, ", ")
		},
		clear: func(y *signalbox.Policy) { y.LogHeaders = nil },
	},
	scalar(Label{
		Key: "trace", Type: "`on`, `off`, `external` or 1/N", Default: "on", EveryPort: true,
		Doc: "Which requests are traced; external traces those that bring a trace with them.", Example: "external",
		Invalid: "on holds",
	}, func(p *signalbox.Policy) *string { return &p.Trace }, sampled("external")),
	scalar(Label{
		Key: "owner", Type: "text", Default: "none", EveryPort: true,
		Doc: "Who looks after the service.", Example: "team-shop",
		Invalid: "it is not shown",
	}, func(p *signalbox.Policy) *string { return &p.Owner }, parseText),
	scalar(Label{
		Key: "docs", Type: "http or https URL", Default: "none", EveryPort: true,
		Doc: "Where the service is described.", Example: "https://wiki.example.com/shop",
		Invalid: "it is not shown",
	}, func(p *signalbox.Policy) *string { return &p.Docs }, parseURL),
}
