package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
)

// shownClaims is how many routes that lost are printed; JSON has them all.
const shownClaims = 10

func newExplainCommand(p *program) *cobra.Command {
	s := defaults()
	var output, apps, src string
	var headers []string
	var q admin.Question
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Where a request goes, and why: every rule on the way, what lost, which tasks are left out",
		Long: `Says what HAProxy does with a request, by the configuration that the running controller wants: which name and path decide, which routes
lose and why, which tasks may get it and which are left out, and what labels do with it on its way. With a service port in the URL, or
with that of the entry by X-Marathon-App-Id, it says where that leads. With --apps it needs no controller, and takes for granted what
labels ask the operator for: lists of users, pages, certificates. It ends with 1 if no task would be asked.`,
		Example: `  signalbox explain http://shop.local/cart/7
  signalbox explain http://127.0.0.1:8000/ -H 'Host: shop.local' --src 10.1.2.3
  signalbox explain --apps apps.json https://shop.local/     by the apps of a file, or of a directory`,
		GroupID: groupLook,
		Args:    arguments(1, 1, "one URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.URL, q.Source = args[0], src
			var origin, intended string
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usageError("-H %q is not of the form 'Name: value'", h)
				}
				switch value = strings.TrimSpace(value); strings.ToLower(strings.TrimSpace(name)) { // routing looks at no other ones
				case "host":
					q.Host = value
				case "x-marathon-app-id":
					q.AppID = value
				case "origin":
					origin = value
				case "access-control-request-method":
					intended = value
				}
			}
			if intended != "" { // then a browser asks, and no page
				q.Origin = origin
			}
			a, err := readQuestion(q)
			if err != nil {
				return &exitError{code: exitUsage, err: err, try: cmd.CommandPath() + " --help"}
			}
			var answer admin.Explanation
			if apps != "" {
				answer, err = p.explainApps(&s, apps, a)
				answer.URL = q.URL
			} else {
				var client *admin.Client
				if client, err = p.client(&s); err == nil {
					answer, err = client.Explain(cmd.Context(), q)
				}
			}
			if err != nil {
				return err
			}
			if output == "json" {
				err = printJSON(p.stdout, answer)
			} else {
				err = p.folding(func() error { return p.printExplanation(answer) })
			}
			if err == nil && !arrives(answer) {
				err = errFindings
			}
			return err
		},
	}
	addOutput(cmd, &output)
	f := cmd.Flags()
	f.StringArrayVarP(&headers, "header", "H", nil, "`header` of the request; looked at are Host, X-Marathon-App-Id, and those by which browsers ask (CORS)")
	f.VarP(textOf(&q.Method), "method", "X", "`method` of the request")
	f.Var(textOf(&src), "src", "`address` of the client, for labels that look at it")
	f.Var(textOf(&apps), "apps", "by the apps of a `file` or directory, without a controller")
	addSettingsOf(f, &s, func(row setting) bool { return row.reads() || row.leads() })
	return cmd
}

// arrives reports whether the request gets an answer that labels ask for: a task's, or a redirect.
func arrives(e admin.Explanation) bool {
	if e.Reason != "" {
		return e.Status != 0 && e.Status < 400
	}
	return slices.ContainsFunc(e.Destinations, func(d admin.Destination) bool { return d.Usable > 0 })
}

// explainApps explains a request by apps in files alone. Tasks that stand there as well, as in Marathon's answers, count.
func (p *program) explainApps(s *settings, name string, a asked) (admin.Explanation, error) {
	documents, err := p.documents([]string{name})
	if err != nil {
		return admin.Explanation{}, err
	}
	var services []*signalbox.Service
	for _, d := range documents {
		found, err := marathon.ReadDefinitions(d.text)
		if err != nil {
			return admin.Explanation{}, &exitError{code: exitUsage, err: fmt.Errorf("%s:%w", d.name, err), try: "signalbox lint " + d.name}
		}
		for i := range found {
			o := marathon.Options{Labels: s.labelOptions(), AllowLoopback: true, Resolve: literally}
			of, _ := found[i].Convert(o) // lint says what is wrong
			services = append(services, of...)
		}
	}
	table := discovery.Merged(signalbox.NewTable(services, nil))
	return explain(haproxy.Build(table, obliging(services), nil), a, time.Now()), nil
}

// obliging returns the options of a load balancer whose operator has given whatever labels ask for: lists of users, pages,
// certificates. What a real one has is not known here.
func obliging(services []*signalbox.Service) *haproxy.Options {
	o := &haproxy.Options{
		HTTPBind: []string{":80"}, HTTPSBind: []string{":443"}, UserLists: map[string][]haproxy.User{}, ErrorPages: map[string][]byte{},
	}
	names := map[string]bool{}
	for _, s := range services {
		if auth := s.Policy.Auth; auth != nil && auth.List != "" {
			o.UserLists[auth.List] = []haproxy.User{}
		}
		for _, page := range s.Policy.ErrorPages {
			o.ErrorPages[page.Name] = []byte(page.Name)
		}
		if s.Policy.TLS != "" {
			names[s.Policy.TLS] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		o.Certificates = append(o.Certificates, haproxy.Certificate{Name: name})
	}
	return o
}

// literally resolves agents that are named by their addresses only: nobody is asked.
func literally(host string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

func (p *program) printExplanation(e admin.Explanation) error {
	var to []string
	for _, d := range e.Destinations {
		text := fmt.Sprintf("%s (%d of %s)", d.Service, d.Usable, plural(len(d.Tasks), "task"))
		if len(e.Destinations) > 1 {
			text = fmt.Sprintf("%d%% %s", d.Percent, text)
		}
		to = append(to, text)
	}
	head := e.Host + e.Path + "  ->  " + cmp.Or(strings.Join(to, ", "), "nowhere")
	switch {
	case e.Status != 0:
		head += fmt.Sprintf(": %d, %s", e.Status, e.Reason)
	case e.Reason != "":
		head += ": " + e.Reason
	}
	if e.Generation != 0 {
		head += fmt.Sprintf("    by %s, configuration #%d, %s", e.Node, e.Generation, admin.Ago(e.AppliedAt, e.At))
	}
	fmt.Fprintln(p.stdout, clean(head))
	t := newTable(p.stdout)
	step := heading("  name")
	for _, n := range e.Names {
		text := "nobody has it"
		switch {
		case n.Holds:
			text = "holds"
		case n.Kind == string(haproxy.RegexName):
			text = "does not match"
		}
		t.row(step(), n.Name, n.Kind, text)
	}
	step = heading("  near")
	for _, host := range e.Near {
		t.row(step(), host, "host", "is written almost alike")
	}
	step = heading("  path")
	lost := 0
	for _, cl := range e.Claims {
		verdict := "wins"
		if !cl.Wins {
			verdict = "loses"
			if lost++; lost > shownClaims {
				continue
			}
		}
		t.row(step(), cl.Route, cl.Service, verdict+": "+cl.Why)
	}
	if more := lost - shownClaims; more > 0 {
		t.row("", fmt.Sprintf("and %d more that lose", more))
	}
	step = heading("  task")
	for _, d := range e.Destinations {
		for _, c := range d.Tasks {
			text := d.Balance
			switch {
			case !c.Takes:
				text = "left out: " + c.Why
			case c.Why != "":
				text = "takes requests, " + c.Why
			}
			t.row(step(), c.Addr, d.Service, text)
		}
		if len(d.Tasks) == 0 {
			t.row(step(), "-", d.Service, "no task runs")
		}
	}
	step = heading("  does")
	for _, effect := range e.Effects {
		text := effect.Text
		if effect.Status != 0 {
			text = fmt.Sprintf("answers %d: %s", effect.Status, text)
		}
		t.row(step(), effect.Label, "", text)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, d := range e.Destinations {
		if s := d.Counted; s != nil && s.Requests > 0 {
			fmt.Fprintf(p.stdout, "  counted  %s: %s req/s over the last %s, %d in all, p50 %s, p99 %s, %s%% 5xx\n",
				clean(d.Service), digits(s.PerSecond), time.Duration(s.Span*float64(time.Second)).Round(time.Second), s.Requests, span(s.P50), span(s.P99), digits(s.ErrorRatio*100))
		}
	}
	return nil
}

// heading returns a function that gives a heading once, and nothing from then on.
func heading(text string) func() string {
	return func() string {
		h := text
		text = ""
		return h
	}
}
