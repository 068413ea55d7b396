package discovery

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// deployments merges the services of each deployment group, as marathon-lb does: at one port the members are one service, whose id
// is the group's. The oldest member defines it. While a younger one takes over, as many of the older tasks drain as younger ones are
// healthy, and never so many that fewer than the target remain. It remembers what it merged: a group whose members did not change
// keeps its services' pointers. The zero value is ready; it has one user at a time.
type deployments struct {
	merged map[signalbox.ServiceID]mergedService
}

// mergedService is one service of a group and the members that it was made of.
type mergedService struct {
	members []*signalbox.Service
	service *signalbox.Service
}

// Merged returns a table with the members of deployment groups merged.
func Merged(t *signalbox.Table) *signalbox.Table { return new(deployments).of(t) }

// of returns a table with the members of groups merged; without any group it is t itself.
func (d *deployments) of(t *signalbox.Table) *signalbox.Table {
	services, problems := d.merge(t.Services)
	if samePointers(services, t.Services) && len(problems) == 0 {
		return t
	}
	all := slices.Concat(t.Problems, problems)
	slices.SortFunc(all, signalbox.Problem.Compare)
	return &signalbox.Table{Services: services, Problems: slices.Compact(all)}
}

// merge returns services, sorted by id, with the members of groups merged, and the problems of groups that cannot be.
func (d *deployments) merge(services []*signalbox.Service) ([]*signalbox.Service, []signalbox.Problem) {
	if !slices.ContainsFunc(services, func(s *signalbox.Service) bool { return s.Deployment != nil }) {
		d.merged = nil
		return services, nil
	}
	groups := map[signalbox.ServiceID][]*signalbox.Service{}
	owners := map[string]bool{} // apps that belong to no group
	out := make([]*signalbox.Service, 0, len(services))
	for _, s := range services {
		if s.Deployment == nil {
			owners[s.App] = true
			out = append(out, s)
			continue
		}
		id := signalbox.NewServiceID(s.Deployment.Group, s.Port)
		groups[id] = append(groups[id], s)
	}
	var problems []signalbox.Problem
	merged := make(map[signalbox.ServiceID]mergedService, len(groups))
	for id, members := range groups {
		if group := members[0].Deployment.Group; owners[group] {
			for _, m := range members {
				problems = append(problems, signalbox.Problem{
					Code: "SB306", Severity: signalbox.SeverityError, App: m.App, Label: "deployment group", Value: group,
					Message: "another app has the id of the deployment group, and is no member of it", Action: "the app is a service of its own",
				})
			}
			out = append(out, members...)
			continue
		}
		m, ok := d.merged[id]
		members, strangers := ofOneFolder(members, m.members)
		for _, s := range strangers {
			problems = append(problems, signalbox.Problem{
				Code: "SB313", Severity: signalbox.SeverityError, App: s.App, Label: "deployment group", Value: s.Deployment.Group,
				Message: "the deployment group is one of apps in " + path.Dir(members[0].App), Action: "the app is a service of its own",
			})
		}
		out = append(out, strangers...)
		if !ok || !slices.Equal(m.members, members) {
			was := d.merged[id]
			m = mergedService{members, mergeDeployment(id, members)}
			m.service.Since = ClaimedSince(was.service, m.service)
			if was.service != nil && was.service.Equal(m.service) {
				m.service = was.service
			}
		}
		merged[id] = m
		out = append(out, m.service)
	}
	d.merged = merged
	slices.SortFunc(out, func(a, b *signalbox.Service) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(problems, signalbox.Problem.Compare)
	return out, slices.Compact(problems)
}

// ofOneFolder parts members from those that are not in the same folder: whoever may deploy elsewhere gets no share of a service by
// naming its group. The folder is that of the members before, or else the group's own, or that of the oldest.
func ofOneFolder(all, before []*signalbox.Service) (members, strangers []*signalbox.Service) {
	oldest := slices.MinFunc(all, func(a, b *signalbox.Service) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.App, b.App)) })
	folders := []string{path.Dir(all[0].Deployment.Group), path.Dir(oldest.App)}
	if len(before) > 0 {
		folders = slices.Insert(folders, 0, path.Dir(before[0].App))
	}
	folder := ""
	in := func(s *signalbox.Service) bool { return path.Dir(s.App) == folder }
	for _, folder = range folders {
		if slices.ContainsFunc(all, in) {
			break
		}
	}
	for _, s := range all {
		if in(s) {
			members = append(members, s)
		} else {
			strangers = append(strangers, s)
		}
	}
	return members, strangers
}

// mergeDeployment makes one service of the members of a group at one port.
func mergeDeployment(id signalbox.ServiceID, members []*signalbox.Service) *signalbox.Service {
	byAge := slices.Clone(members)
	slices.SortFunc(byAge, compareAge)
	if len(byAge) > 1 {
		// In a deployment that keeps both apps either may be scaled at last: the one that was is the one that comes.
		last, before := byAge[len(byAge)-1], byAge[len(byAge)-2]
		if keepsBoth(last) && before.Deployment.ScaledAt.After(last.Deployment.ScaledAt) {
			byAge[len(byAge)-1], byAge[len(byAge)-2] = before, last
		}
	}
	oldest := byAge[0]
	s := *oldest
	s.ID, s.App, s.Endpoints, s.Problems = id, oldest.Deployment.Group, nil, nil
	deployment := *oldest.Deployment
	s.Deployment = &deployment
	instances := 0
	for i, m := range byAge {
		deployment.Members = append(deployment.Members, m.App)
		if i > 0 {
			n, trouble := replaced(s.Endpoints, instances, m)
			for j := range n {
				drain(&s.Endpoints[j], m.App)
			}
			s.Problems = append(s.Problems, trouble...)
		}
		for _, e := range m.Endpoints {
			e.App = m.App
			s.Endpoints = append(s.Endpoints, e)
		}
		instances += m.Deployment.Instances
		s.Problems = append(s.Problems, m.Problems...)
	}
	slices.SortFunc(s.Endpoints, signalbox.Endpoint.Compare)
	slices.SortFunc(s.Problems, signalbox.Problem.Compare)
	s.Problems = slices.Compact(s.Problems)
	return &s
}

// replaced returns how many of the first of old, sorted by task, are no longer needed beside what a younger app runs.
func replaced(old []signalbox.Endpoint, instances int, young *signalbox.Service) (int, []signalbox.Problem) {
	healthy := 0
	for _, e := range young.Endpoints {
		if e.State == signalbox.Up {
			healthy++
		}
	}
	var problems []signalbox.Problem
	target := 1 // as marathon-lb counts where the deployment does not say how many are new
	if d := young.Deployment; d.New != nil && d.Target != nil {
		target = *d.Target
	} else if d.New != nil {
		target = instances
		problems = []signalbox.Problem{{
			Code: "SB307", Severity: signalbox.SeverityWarning, App: young.App, Label: "deployment group", Value: d.Group,
			Message: "the deployment does not say how many instances it shall have in the end", Action: fmt.Sprintf("the %d instances of the older app are taken for that", instances),
		}}
	}
	return min(len(old), healthy, max(0, healthy+instances-target)), problems
}

func drain(e *signalbox.Endpoint, by string) {
	if e.State != signalbox.Draining {
		e.State, e.Why = signalbox.Draining, "a task of "+by+" has taken its place"
	}
}

func keepsBoth(s *signalbox.Service) bool { return s.Deployment.New != nil && *s.Deployment.New != 0 }

// compareAge orders members by when their deployments began. One that does not say was there before there were deployments.
func compareAge(a, b *signalbox.Service) int {
	return cmp.Or(startedAt(a).Compare(startedAt(b)), a.Deployment.ScaledAt.Compare(b.Deployment.ScaledAt), cmp.Compare(a.App, b.App))
}

// startedAt reads the time at which a deployment began, in the forms of ISO 8601 that have a date and a time; else it is zero.
func startedAt(s *signalbox.Service) time.Time {
	text := strings.Replace(strings.TrimSpace(s.Deployment.StartedAt), " ", "T", 1)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}
