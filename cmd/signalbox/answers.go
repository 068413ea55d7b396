package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery/labels"
)

// reader tells what became of an app's labels, as a source last read them. False: it has read no such app.
type reader interface {
	Readings(app string) ([]labels.Reading, bool)
}

// why returns all that is known of an app.
func (c *controller) why(app string) (admin.Why, error) {
	out := admin.Why{
		APIVersion: admin.APIVersion, App: app, At: time.Now(), Labels: []admin.Label{}, Problems: []admin.Problem{},
		Services: []admin.WhyService{}, History: []admin.Moment{},
	}
	for _, r := range c.readers {
		readings, ok := r.Readings(app)
		out.LabelsRead = out.LabelsRead || ok
		for _, l := range readings {
			out.Labels = append(out.Labels, admin.Label{
				Port: l.Port, Label: l.Label, Value: l.Value, Key: l.Key, Form: l.Form, State: string(l.State), By: l.By,
			})
		}
	}
	services := c.table().ServicesOf(app)
	names := []string{app} // and the deployment group that it is merged into
	for _, s := range services {
		if !slices.Contains(names, s.App) {
			names = append(names, s.App)
		}
	}
	for _, p := range c.allProblems() {
		if slices.Contains(names, p.App) {
			out.Problems = append(out.Problems, admin.Problem(p))
		}
	}
	view := c.holding.view()
	for _, name := range names {
		if h := holdOf(view.holds, name); h != nil {
			out.Hold = h
			out.Kept = cmp.Or(view.kept[name], out.Kept)
		}
	}
	standings, hits := c.standings(), c.aggregator.LastHits()
	for _, s := range services {
		if s.App == app && s.Deployment != nil {
			out.Members = s.Deployment.Members
		}
		w := whyService(s)
		w.Ways = waysOf(s, standings[s.ID], c.portOwner(s.Listen))
		w.LastHit = hits[string(s.ID)]
		out.Services = append(out.Services, w)
	}
	for _, name := range names {
		out.History = append(out.History, c.chronicle.of(name)...)
	}
	slices.SortStableFunc(out.History, func(a, b admin.Moment) int { return a.Time.Compare(b.Time) })
	if !out.LabelsRead && len(out.Services)+len(out.Problems)+len(out.History) == 0 {
		return out, fmt.Errorf("%w: no app is called %s", admin.ErrUnknown, app)
	}
	return out, nil
}

// standings returns how the claims of each service fare.
func (c *controller) standings() map[signalbox.ServiceID][]signalbox.Standing {
	out := map[signalbox.ServiceID][]signalbox.Standing{}
	if wanted := c.wanted.Load(); wanted != nil {
		for _, s := range wanted.Standings() {
			out[s.Service] = append(out[s.Service], s)
		}
	}
	return out
}

// portOwner returns the service that is reached by a service port, or "".
func (c *controller) portOwner(port int) signalbox.ServiceID {
	if wanted := c.wanted.Load(); wanted != nil {
		return wanted.PortOwner(port)
	}
	return ""
}

func whyService(s *signalbox.Service) admin.WhyService {
	w := admin.WhyService{
		Service: string(s.ID), Port: s.Port, PortName: s.PortName, Mode: s.Mode, Since: s.Since, Version: s.Version, Groups: s.Groups,
		Check: checkText(s.Check), Policy: s.Policy.String(), Tasks: []admin.WhyTask{},
	}
	for _, e := range s.Endpoints {
		t := admin.WhyTask{
			Task: e.Task, Addr: e.Addr.String(), Host: e.Host, Version: e.Version, State: e.State, Reason: e.Why,
			Routed: e.State != signalbox.Down && e.State != signalbox.Draining,
		}
		if t.Reason == "" {
			t.Reason = map[signalbox.State]string{
				signalbox.Unknown: "HAProxy's first check decides", signalbox.Suspect: "less preferred; HAProxy's checks decide",
			}[e.State]
		}
		w.Tasks = append(w.Tasks, t)
	}
	return w
}

// waysOf returns the ways to a service; holder is who has its service port.
func waysOf(s *signalbox.Service, standings []signalbox.Standing, holder signalbox.ServiceID) []admin.Way {
	ways := []admin.Way{}
	for _, r := range s.Routes {
		w := admin.Way{Way: r.String()}
		i := slices.IndexFunc(standings, func(st signalbox.Standing) bool { return st.Route == r })
		switch {
		case i < 0:
			w.Reason = "HAProxy can't carry it"
		case standings[i].Lost():
			w.Owner, w.Reason = string(standings[i].Owner), "which "+standings[i].Why
		default:
			w.Held, w.Share = true, standings[i].Share
		}
		if i >= 0 {
			for _, rival := range standings[i].Rivals {
				w.Rivals = append(w.Rivals, string(rival))
			}
		}
		ways = append(ways, w)
	}
	if s.Listen != 0 {
		w := admin.Way{Way: fmt.Sprintf(":%d", s.Listen)}
		switch holder {
		case s.ID:
			w.Held, w.Share = true, 100
		case "":
			w.Reason = "it is not bound"
		default:
			w.Owner = string(holder)
		}
		ways = append(ways, w)
	}
	return ways
}
