package labels

import "signalbox"

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
