package marathon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// What a read asks Marathon to embed. Servers older than a word of it ignore that word.
var (
	embedApps = url.Values{"embed": {"apps.tasks", "apps.deployments", "apps.readiness"}}
	embedApp  = url.Values{"embed": {"app.tasks", "app.deployments", "app.readiness"}}
)

// everything reads all apps, and all pods where Marathon knows pods. A failure of the pods alone costs no more than them: podErr says
// that nothing is known of them now.
func (s *Source) everything(ctx context.Context) (all []reading, podErr, err error) {
	var apps []*App
	var bad []BadApp
	err = s.client.get(ctx, "apps", "/v2/apps", embedApps, func(r io.Reader) (err error) {
		apps, bad, err = DecodeApps(r, s.cfg.MaxBody)
		return err
	})
	if errors.Is(err, errNotFound) {
		err = errors.New("reading /v2/apps: it does not exist there")
	}
	if err != nil {
		return nil, nil, err
	}
	out := make([]reading, 0, len(apps)+len(bad))
	previous := s.previous()
	missing, versions := map[string]bool{}, map[version]bool{}
	convert := s.options(previous, missing, versions)
	for _, a := range apps {
		s.shapes.learn(a)
		services, problems := Convert(a, convert)
		out = append(out, reading{app: a.ID, services: services, problems: problems})
	}
	if named, read := s.lookUp(ctx, missing), s.await(ctx, apps, versions); named || read {
		for i, a := range apps {
			out[i].services, out[i].problems = Convert(a, convert)
		}
	}
	unknown := byApp(versions)
	for i := range out {
		out[i].unknown = unknown[out[i].app]
	}
	for _, b := range bad {
		out = append(out, reading{app: b.ID, bad: true, problems: []signalbox.Problem{BadProblem(b)}})
	}
	s.findLeader(ctx)
	pods, podErr := s.allPods(ctx, convert)
	for _, a := range apps {
		s.wordings.learn(a.wording())
		s.deploying.set(a.ID, a.deployment())
		s.verdicts.learn(a.Verdicts(s.cfg.Convert.Health))
	}
	out = append(out, pods...)
	s.wordings.retain(out, podErr == nil)
	if podErr == nil {
		s.deploying.retain(out)
	}
	return out, podErr, nil
}

// findLeader asks for the leader where answers do not name it, as those of old versions and of a proxy in between.
func (s *Source) findLeader(ctx context.Context) {
	if !s.client.members.leaderless() {
		return
	}
	var answer struct {
		Leader string `json:"leader"`
	}
	err := s.client.get(ctx, "leader", "/v2/leader", nil, func(r io.Reader) error {
		return json.NewDecoder(io.LimitReader(r, 64<<10)).Decode(&answer)
	})
	if err == nil && answer.Leader != "" { // without an answer the member that answered last stays the first choice
		s.client.members.leads(answer.Leader)
	}
}

// single reads one app, or one pod. errNotFound says that Marathon has neither.
func (s *Source) single(ctx context.Context, id string, pod bool) (reading, error) {
	if pod {
		return s.onePod(ctx, id)
	}
	var app *App
	err := s.client.get(ctx, "app", "/v2/apps/"+escapePath(id), embedApp, func(r io.Reader) (err error) {
		app, err = DecodeApp(r, s.cfg.MaxBody)
		return err
	})
	if errors.Is(err, errNotFound) && s.hasPods.Load() {
		return s.onePod(ctx, id)
	}
	if err != nil {
		return reading{}, err
	}
	if app.ID != id {
		return reading{}, fmt.Errorf("reading the app %s: the answer is about %s", id, app.ID)
	}
	missing, versions := map[string]bool{}, map[version]bool{}
	convert := s.options(s.previous(), missing, versions)
	r := reading{app: id, deployment: app.deployment()}
	s.deploying.set(id, r.deployment)
	s.shapes.learn(app)
	r.services, r.problems = Convert(app, convert)
	if named, read := s.lookUp(ctx, missing), s.await(ctx, []*App{app}, versions); named || read {
		r.services, r.problems = Convert(app, convert)
	}
	s.wordings.learn(app.wording())
	r.unknown = byApp(versions)[id]
	s.verdicts.learn(app.Verdicts(s.cfg.Convert.Health))
	return r, nil
}

// escapePath escapes each segment of an app id, and drops the leading slash.
func escapePath(id string) string {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// options returns how apps are converted now. Names that could not be resolved are noted in missing, versions of apps that are to be
// asked for in versions.
func (s *Source) options(previous func(signalbox.ServiceID) *signalbox.Service, missing map[string]bool, versions map[version]bool) Options {
	o := s.cfg.Convert
	o.Source, o.Verdict, o.Previous, o.Now = s.cfg.Name, s.verdicts.of, previous, time.Now()
	o.Resolve, o.shapeOf = s.resolve(missing), s.shapesFor(versions)
	return o
}

// byApp returns the versions of each app.
func byApp(versions map[version]bool) map[string][]version {
	out := map[string][]version{}
	for v := range versions {
		out[v.app] = append(out[v.app], v)
	}
	return out
}

func (s *Source) resolve(missing map[string]bool) func(host string) (netip.Addr, bool) {
	return func(host string) (netip.Addr, bool) {
		a, ok := s.resolver.Lookup(host)
		if !ok {
			missing[host] = true
		}
		return a, ok
	}
}

// lookUp looks up names for the first time, and reports whether any has an address now.
func (s *Source) lookUp(ctx context.Context, names map[string]bool) bool {
	if len(names) == 0 {
		return false
	}
	hosts := make([]string, 0, len(names))
	for h := range names {
		hosts = append(hosts, h)
	}
	s.resolver.Prefetch(ctx, hosts)
	clear(names)
	return slices.ContainsFunc(hosts, func(h string) bool { _, ok := s.resolver.Lookup(h); return ok })
}

// previous returns the services as they are now; it may be called from any goroutine.
func (s *Source) previous() func(signalbox.ServiceID) *signalbox.Service {
	var table signalbox.Table
	if state := s.current.Load(); state != nil {
		table.Services = *state
	}
	return table.Service
}
