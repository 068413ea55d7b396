package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// Routes is what /api/v1/routes answers: one row for each name or port under which a service is reached, one for each service
// that is reached by none, and every problem.
type Routes struct {
	APIVersion string    `json:"apiVersion"`
	At         time.Time `json:"at"`
	Generation uint64    `json:"generation"` // of the configuration that runs
	Routes     []Route   `json:"routes"`
	Problems   []Problem `json:"problems"`
}

// Route is one way to a service. Either Host and Path say it, or Listen, or neither: RouteUnrouted, or a problem took it away.
type Route struct {
	Host     string         `json:"host,omitempty"` // "*" for every host
	Path     string         `json:"path,omitempty"`
	Match    string         `json:"match,omitempty"`  // how Path is compared: exact, regex; "": as a prefix
	Listen   int            `json:"listen,omitempty"` // the service port
	Service  string         `json:"service"`
	App      string         `json:"app"`
	Port     int            `json:"port"` // index within the app
	PortName string         `json:"portName,omitempty"`
	Mode     signalbox.Mode `json:"mode"`
	Up       int            `json:"up"`
	Tasks    int            `json:"tasks"`
	Near     *int           `json:"near,omitempty"`   // of Tasks, those on this machine; nil where it prefers none
	Weight   *int           `json:"weight,omitempty"` // that a label gives the service among those with the same route
	Share    int            `json:"share"`            // percent of the requests that it gets
	LastHit  time.Time      `json:"lastHit,omitzero"` // of the service, by whichever way
	Policy   string         `json:"policy,omitempty"` // what else labels ask for
	State    RouteState     `json:"state"`
	Reasons  []string       `json:"reasons,omitempty"` // why State is not RouteOK; the most important first
}

// RouteState says how a route fares.
type RouteState string

// The states of a route.
const (
	RouteOK       RouteState = "ok"       // every task takes traffic
	RouteDegraded RouteState = "degraded" // some do
	RouteDown     RouteState = "down"     // none does
	RouteEmpty    RouteState = "empty"    // no task runs
	RouteLost     RouteState = "lost"     // another service has it
	RouteProblem  RouteState = "problem"  // something that was asked for is not done, whatever the tasks do
	RouteUnrouted RouteState = "unrouted" // no name and no port was asked for
)

// Level returns how bad a state is.
func (s RouteState) Level() signalbox.Level {
	switch s {
	case RouteOK, RouteUnrouted:
		return signalbox.OK
	case RouteDegraded, RouteEmpty:
		return signalbox.Degraded
	}
	return signalbox.Failing
}

// RoutesOf returns the rows of a status, sorted by host, path, port and service.
func RoutesOf(s signalbox.Status) Routes {
	out := Routes{APIVersion: APIVersion, At: s.At, Generation: s.HAProxy.Generation, Routes: []Route{}, Problems: problemsOf(s)}
	if s.Table == nil {
		return out
	}
	byApp := appProblems(s)
	standings := map[signalbox.ServiceID][]signalbox.Standing{}
	for _, st := range s.Standings {
		standings[st.Service] = append(standings[st.Service], st)
	}
	for _, svc := range s.Table.Services {
		row := rowOf(svc, byApp[svc.App])
		row.LastHit = s.LastHits[svc.ID]
		if s.Nearby != nil {
			near := s.Nearby[svc.ID]
			row.Near = &near
		}
		for _, r := range svc.Routes {
			named := row
			named.Host, named.Path, named.Match = cmp.Or(r.Host, "*"), r.Path, string(r.Match)
			for _, st := range standings[svc.ID] {
				if st.Route == r {
					named.fare(st)
				}
			}
			out.Routes = append(out.Routes, named)
		}
		if svc.Listen != 0 {
			port := row
			port.Listen = svc.Listen
			out.Routes = append(out.Routes, port)
		}
		if len(svc.Routes) == 0 && svc.Listen == 0 {
			row.Share = 0
			if row.State != RouteProblem {
				row.State, row.Reasons = RouteUnrouted, []string{"no host and no port is asked for"}
			}
			out.Routes = append(out.Routes, row)
		}
	}
	slices.SortStableFunc(out.Routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Match, b.Match), cmp.Compare(a.Listen, b.Listen), cmp.Compare(a.Service, b.Service))
	})
	return out
}

// fare takes in how the claim to the route fares.
func (r *Route) fare(st signalbox.Standing) {
	if r.Share = st.Share; st.Lost() {
		r.State = RouteLost
		told := slices.DeleteFunc(slices.Clone(r.Reasons), func(why string) bool { // the same, as a problem
			return strings.HasPrefix(why, "SB203 ") && strings.Contains(why, ": "+st.Route.String()+" belongs to ")
		})
		r.Reasons = slices.Concat([]string{fmt.Sprintf("%s has it, which %s", st.Owner, st.Why)}, told)
	}
}

// rank puts names before ports, and what is reached by neither last.
func (r Route) rank() int {
	switch {
	case r.Host != "":
		return 0
	case r.Listen != 0:
		return 1
	}
	return 2
}

// appProblems returns, by app, the problems that belong to no single service of it.
func appProblems(s signalbox.Status) map[string][]signalbox.Problem {
	own := map[signalbox.Problem]bool{}
	for _, svc := range s.Table.Services {
		for _, p := range svc.Problems {
			own[p] = true
		}
	}
	byApp := map[string][]signalbox.Problem{}
	for _, p := range slices.Concat(s.Table.Problems, s.Problems) {
		if !own[p] {
			own[p] = true
			byApp[p.App] = append(byApp[p.App], p)
		}
	}
	return byApp
}

func rowOf(svc *signalbox.Service, ofApp []signalbox.Problem) Route {
	row := Route{
		Service: string(svc.ID), App: svc.App, Port: svc.Port, PortName: svc.PortName, Mode: svc.Mode,
		Tasks: len(svc.Endpoints), Weight: svc.Policy.Weight, Share: 100, Policy: svc.Policy.String(), State: RouteOK,
	}
	out := 0
	why := ""
	for _, e := range svc.Endpoints {
		// An unknown or suspect task stays in: HAProxy's own checks decide about it.
		switch e.State {
		case signalbox.Up:
			row.Up++
			continue
		case signalbox.Down, signalbox.Draining:
			out++
		}
		if why == "" {
			why = fmt.Sprintf("%s is %s", e.Addr, e.State)
			if e.Why != "" {
				why += ": " + e.Why
			}
		}
	}
	switch {
	case row.Tasks == 0:
		row.State = RouteEmpty
		row.Reasons = append(row.Reasons, "no task runs")
	case out == row.Tasks:
		row.State = RouteDown
		row.Reasons = append(row.Reasons, why)
	case row.Up < row.Tasks:
		row.State = RouteDegraded
		row.Reasons = append(row.Reasons, why)
	}
	var errs, rest []string
	for _, p := range slices.Concat(svc.Problems, ofApp) {
		if p.Severity == signalbox.SeverityError {
			errs = append(errs, p.String())
		} else {
			rest = append(rest, p.String())
		}
	}
	if len(errs) > 0 {
		row.State = RouteProblem
	}
	row.Reasons = slices.Concat(errs, row.Reasons, rest)
	return row
}
