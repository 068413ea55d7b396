package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/haproxy"
)

// asked is a request as somebody describes it.
type asked struct {
	haproxy.Request
	port int // of the URL, or its scheme's
}

// readQuestion reads the description of a request.
func readQuestion(q admin.Question) (asked, error) {
	text := q.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return asked{}, fmt.Errorf("%q is no URL: %w", q.URL, err)
	}
	a := asked{Request: haproxy.Request{
		Method: q.Method, Host: u.Host, Path: u.EscapedPath(), Query: u.RawQuery, TLS: u.Scheme == "https" || u.Scheme == "wss",
		AppID: q.AppID, Origin: q.Origin,
	}}
	if u.Host == "" && q.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme) {
		return asked{}, fmt.Errorf("%q is no URL of the form http://shop.local/cart", q.URL)
	}
	if q.Host != "" {
		a.Host = q.Host
	}
	a.port = 80
	if a.TLS {
		a.port = 443
	}
	if text := u.Port(); text != "" {
		if a.port, err = strconv.Atoi(text); err != nil || a.port < 1 || a.port > 65535 {
			return asked{}, fmt.Errorf("%q is no port", text)
		}
	}
	if q.Source != "" {
		if a.Source, err = netip.ParseAddr(q.Source); err != nil {
			return asked{}, fmt.Errorf("%q is no address of a client", q.Source)
		}
	}
	return a, nil
}

// explain says where a request goes.
func explain(c *haproxy.Config, a asked, now time.Time) admin.Explanation {
	answer := c.Ask(a.port, a.Request)
	out := admin.Explanation{
		APIVersion: admin.APIVersion, At: now, Host: answer.Host, Path: answer.Path, Status: answer.Status, Reason: answer.Reason,
		Names: []admin.ExplainedName{}, Claims: []admin.ExplainedClaim{}, Destinations: []admin.Destination{}, Effects: []admin.Effect{},
	}
	if answer.Route != nil {
		out.Route = answer.Route.String()
	}
	for _, n := range answer.Names {
		out.Names = append(out.Names, admin.ExplainedName{Kind: string(n.Kind), Name: n.Name, Holds: n.Holds})
	}
	if answer.Status == http.StatusNotFound && !slices.ContainsFunc(answer.Names, func(n haproxy.NameTried) bool { return n.Holds }) {
		out.Near = nearHosts(c, answer.Host)
	}
	for _, cl := range answer.Claims {
		route := cl.Route.String()
		if cl.Route == (signalbox.Route{}) { // by none of its names
			route = answer.Names[0].Name
		}
		out.Claims = append(out.Claims, admin.ExplainedClaim{Route: route, Service: string(cl.Service), App: cl.App, Wins: cl.Wins, Why: cl.Why})
	}
	for i := range answer.Destinations {
		d := &answer.Destinations[i]
		to := admin.Destination{
			Service: string(d.Service), App: d.App, Percent: d.Percent, Balance: d.Balance, Usable: d.Usable(), Tasks: []admin.Candidate{},
		}
		for _, s := range d.Servers {
			to.Tasks = append(to.Tasks, admin.Candidate{Task: s.Task, Addr: s.Addr.String(), Weight: s.Weight, Takes: s.Takes, Why: s.Why})
		}
		out.Destinations = append(out.Destinations, to)
	}
	for _, e := range answer.Effects {
		out.Effects = append(out.Effects, admin.Effect(e))
	}
	return out
}

// The bounds of what counts as written almost alike.
const (
	nearLetters = 2 // that differ
	nearNames   = 3
)

// nearHosts returns the hosts of services that are written almost like another one, the nearest first.
func nearHosts(c *haproxy.Config, host string) []string {
	far := map[string]int{}
	for _, s := range c.Standings() {
		if d := editDistance(host, s.Route.Host); s.Route.Host != "" && d <= nearLetters {
			far[s.Route.Host] = d
		}
	}
	near := slices.SortedFunc(maps.Keys(far), func(a, b string) int { return cmp.Or(cmp.Compare(far[a], far[b]), cmp.Compare(a, b)) })
	return near[:min(len(near), nearNames)]
}

// explainSpan is over how much time explain counts.
const explainSpan = 5 * time.Minute

// explain answers where a request would go now.
func (c *controller) explain(q admin.Question) (admin.Explanation, error) {
	a, err := readQuestion(q)
	if err != nil {
		return admin.Explanation{}, fmt.Errorf("%w: %w", admin.ErrQuestion, err)
	}
	wanted := c.wanted.Load()
	if wanted == nil {
		return admin.Explanation{}, errNothingYet
	}
	out := explain(wanted, a, time.Now())
	h := c.applier.Status()
	out.URL, out.Node, out.Generation, out.AppliedAt = q.URL, c.node, h.Generation, h.AppliedAt
	counted := map[string]admin.ServiceStat{}
	for _, s := range c.windows(explainSpan) {
		counted[s.Service] = s
	}
	for i := range out.Destinations {
		if s, ok := counted[out.Destinations[i].Service]; ok {
			out.Destinations[i].Counted = &s
		}
	}
	return out, nil
}
