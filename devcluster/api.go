package devcluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

const maxBody = 64 << 20

// call is one request to the API, with the lock of the cluster not held.
type call struct {
	*cluster
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	q    url.Values
	body []byte
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	p := &call{cluster: s.cluster, s: s, w: w, r: r, q: r.URL.Query()}
	if r.URL.Path == "/v2/events" {
		p.stream(w, r)
		return
	}
	var err error
	if p.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		p.fail(failure(http.StatusBadRequest, "reading the request: %v", err))
		return
	}
	if err := p.dispatch(); err != nil {
		p.fail(err)
	}
}

func (p *call) dispatch() error {
	at := strings.TrimRight(p.r.URL.Path, "/")
	under := func(prefix string) (string, bool) {
		rest, ok := strings.CutPrefix(at, prefix)
		return rest, ok && (rest == "" || rest[0] == '/' || prefix == "/v2/pods" && strings.HasPrefix(rest, "::"))
	}
	if rest, ok := under("/v2/apps"); ok {
		return p.appsAPI(strings.TrimLeft(rest, "/"))
	}
	if rest, ok := under("/v2/groups"); ok {
		return p.groupsAPI(strings.TrimLeft(rest, "/"))
	}
	if rest, ok := under("/v2/pods"); ok {
		return p.podsAPI(strings.TrimLeft(rest, "/"))
	}
	if rest, ok := under("/v2/tasks"); ok {
		return p.tasksAPI(strings.Trim(rest, "/"))
	}
	if rest, ok := under("/v2/deployments"); ok {
		return p.deploymentsAPI(strings.Trim(rest, "/"))
	}
	if rest, ok := under("/v2/queue"); ok {
		return p.queueAPI(strings.Trim(rest, "/"))
	}
	return p.miscAPI(at)
}

func (p *call) flag(name string) bool { return p.q.Get(name) == "true" }

func (p *call) json(status int, body []byte) error {
	reply(p.w, p.r, status, "application/json", body)
	return nil
}

func (p *call) fail(err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = failure(http.StatusInternalServerError, "%s", err)
	}
	f := []field{{"message", e.message}}
	if e.details != nil {
		f = append(f, field{"details", e.details})
	}
	for _, k := range sortedKeys(e.extra) {
		f = append(f, field{k, e.extra[k]})
	}
	_ = p.json(e.status, object(f)) // it never fails
}

var errNotFound = failure(http.StatusInternalServerError, "URI not found")

func noApp(id string) error { return failure(http.StatusNotFound, "App '%s' does not exist", id) }

// result answers with the deployment that a request has started.
func (p *call) result(status int, d *deployment) error {
	p.w.Header().Set("Marathon-Deployment-Id", d.id)
	return p.json(status, object([]field{{"version", d.version}, {"deploymentId", d.id}}))
}

// find returns an app that is there. The lock is held.
func (p *call) find(id string) (*runApp, error) {
	a := p.apps[id]
	if a == nil || a.gone || a.spec.pod != nil {
		return nil, noApp(id)
	}
	return a, nil
}

func (p *call) appsAPI(rest string) error {
	m := p.r.Method
	if rest == "" {
		switch m {
		case http.MethodGet, http.MethodHead:
			return p.listApps("/")
		case http.MethodPost:
			return p.createApp()
		case http.MethodPut, http.MethodPatch:
			return p.updateApps()
		}
		return errMethod
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	idOf := func(k int) string { return "/" + strings.Join(parts[:k], "/") }
	switch {
	case n > 1 && parts[n-1] == "restart" && m == http.MethodPost:
		return p.restartApp(idOf(n - 1))
	case parts[n-1] == "*" && m == http.MethodGet:
		return p.listApps(idOf(n - 1))
	case n > 1 && parts[n-1] == "tasks":
		return p.appTasks(idOf(n-1), "")
	case n > 2 && parts[n-2] == "tasks":
		return p.appTasks(idOf(n-2), parts[n-1])
	case n > 1 && parts[n-1] == "versions" && m == http.MethodGet:
		return p.appVersions(idOf(n-1), "")
	case n > 2 && parts[n-2] == "versions" && m == http.MethodGet:
		return p.appVersions(idOf(n-2), parts[n-1])
	}
	id := idOf(n)
	switch m {
	case http.MethodGet, http.MethodHead:
		p.mu.Lock()
		a, err := p.find(id)
		if err != nil {
			p.mu.Unlock()
			return err
		}
		e := parseEmbed(p.q["embed"])
		e.tasks, e.counts, e.deployments, e.lastFailure = true, true, true, true
		body := object([]field{{"app", p.appJSON(a, e)}})
		p.mu.Unlock()
		return p.json(http.StatusOK, body)
	case http.MethodPut, http.MethodPatch:
		return p.updateApp(id)
	case http.MethodDelete:
		p.mu.Lock()
		defer p.mu.Unlock()
		a, err := p.find(id)
		if err != nil {
			return err
		}
		d, err := p.deploy(map[string]change{id: {before: a.spec}}, p.q.Get("force") != "false", p.announceGroup(id))
		if err != nil {
			return err
		}
		return p.result(http.StatusOK, d)
	}
	return errMethod
}

var errMethod = failure(http.StatusMethodNotAllowed, "HTTP 405 Method Not Allowed")

func (p *call) announceGroup(id string) func(stamp) {
	return func(v stamp) { p.publishGroup(path.Dir(id), v) }
}

// listApps answers with the apps of a group, under "apps" for all and under "*" for one's. The lock is taken for a hundred apps at
// a time, so that a large answer does not hold up what happens.
func (p *call) listApps(group string) error {
	sel, err := parseOptionalSelector(p.q.Get("label"))
	if err != nil {
		return err
	}
	e := parseEmbed(p.q["embed"])
	if len(p.q["embed"]) == 0 || group == "/" {
		e.counts, e.deployments = true, true
	}
	p.mu.Lock()
	all := p.appsIn(group)
	p.mu.Unlock()
	list := []byte{'['}
	for chunk := range slices.Chunk(all, 100) {
		p.mu.Lock()
		for _, a := range chunk {
			if a.gone || a.spec.pod != nil || !p.wanted(a.spec, sel) {
				continue
			}
			if len(list) > 1 {
				list = append(list, ',')
			}
			list = append(list, p.appJSON(a, e)...)
		}
		p.mu.Unlock()
	}
	name := "apps"
	if group != "/" {
		name = "*"
	}
	out := make([]byte, 0, len(list)+16)
	out = append(append(append(out, `{"`+name+`":`...), list...), ']', '}')
	return p.json(http.StatusOK, out)
}

func parseOptionalSelector(s string) (selector, error) {
	if s == "" {
		return nil, nil
	}
	return parseSelector(s)
}

func (p *call) wanted(a *app, sel selector) bool {
	fold := strings.ToLower
	if id := p.q.Get("id"); id != "" && !strings.Contains(fold(a.ID), fold(id)) {
		return false
	}
	if cmd := p.q.Get("cmd"); cmd != "" && (a.Cmd == nil || !strings.Contains(fold(*a.Cmd), fold(cmd))) {
		return false
	}
	return sel.matches(a.Labels)
}

func (p *call) readUpdate() (update, error) {
	var u update
	if err := decode(p.body, &u); err != nil {
		return nil, err
	}
	return u, nil
}

func (u update) id() (string, error) {
	raw, ok := u["id"]
	if !ok {
		return "", badJSON([]detail{{"/id", []string{"error.path.missing"}}})
	}
	var id string
	if err := decode(raw, &id); err != nil {
		return "", badJSON([]detail{{"/id", []string{"error.expected.jsstring"}}})
	}
	return absolute(id, "/"), nil
}

func (p *call) createApp() error {
	u, err := p.readUpdate()
	if err != nil {
		return err
	}
	id, err := u.id()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.apps[id]; a != nil && !a.gone {
		return failure(http.StatusConflict, "An app with id [%s] already exists.", id)
	}
	if p.groups[id] != nil || len(p.appsIn(id)) > 0 {
		return failure(http.StatusConflict, "Group %s is already created. Use PUT to change this group.", id)
	}
	delete(u, "version")
	ch, err := p.prepare(id, u, false)
	if err != nil {
		return err
	}
	d, err := p.deploy(map[string]change{id: ch}, p.flag("force"), func(v stamp) {
		p.publishGroup(path.Dir(id), v)
		p.publishPost(clientIP(p.r), p.r.URL.Path, ch.after)
	})
	if err != nil {
		return err
	}
	p.w.Header().Set("Location", "/v2/apps"+id)
	p.w.Header().Set("Marathon-Deployment-Id", d.id)
	body := bytes.Clone(p.open(ch.after))
	body = fmt.Appendf(body, `,"tasksStaged":0,"tasksRunning":0,"tasksHealthy":0,"tasksUnhealthy":0,"deployments":[{"id":"%s"}]}`, d.id)
	return p.json(http.StatusCreated, body)
}

func (p *call) updateApp(id string) error {
	u, err := p.readUpdate()
	if err != nil {
		return err
	}
	partial := p.r.Method == http.MethodPatch || p.q.Get("partialUpdate") != "false"
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, err := p.prepare(id, u, partial)
	if err != nil {
		return err
	}
	if ch.before == nil && p.r.Method == http.MethodPatch {
		return noApp(id)
	}
	d, err := p.deploy(map[string]change{id: ch}, p.flag("force"), func(v stamp) {
		p.publishGroup(path.Dir(id), v)
		p.publishPost(clientIP(p.r), p.r.URL.Path, ch.after)
	})
	if err != nil {
		return err
	}
	if ch.before == nil {
		p.w.Header().Set("Location", "/v2/apps"+id)
		return p.result(http.StatusCreated, d)
	}
	return p.result(http.StatusOK, d)
}

func (p *call) updateApps() error {
	var us []update
	if err := decode(p.body, &us); err != nil {
		return err
	}
	partial := p.r.Method == http.MethodPatch || p.q.Get("partialUpdate") != "false"
	p.mu.Lock()
	defer p.mu.Unlock()
	changes := map[string]change{}
	for _, u := range us {
		id, err := u.id()
		if err != nil {
			return err
		}
		if changes[id], err = p.prepare(id, u, partial); err != nil {
			return err
		}
	}
	d, err := p.deploy(changes, p.flag("force"), func(v stamp) { p.publishGroup("/", v) })
	if err != nil {
		return err
	}
	return p.result(http.StatusOK, d)
}

func (p *call) restartApp(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, err := p.find(id)
	if err != nil {
		return err
	}
	n := a.spec.clone()
	n.Version = p.now()
	n.VersionInfo = versionInfo{n.Version, n.Version}
	d, err := p.deploy(map[string]change{id: {before: a.spec, after: n, restart: true}}, p.flag("force"), p.announceGroup(id))
	if err != nil {
		return err
	}
	return p.result(http.StatusOK, d)
}

func (p *call) appVersions(id, version string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, err := p.find(id)
	if err != nil {
		return err
	}
	list := []string{}
	for _, v := range slices.Backward(a.versions) {
		if version == v.Version.String() {
			return p.json(http.StatusOK, p.definition(v))
		}
		list = append(list, v.Version.String())
	}
	if version != "" {
		if _, err := time.Parse(time.RFC3339, version); err != nil {
			return failure(http.StatusUnprocessableEntity, "Invalid timestamp provided '%s'. Expecting ISO-8601 datetime string.", version)
		}
		return failure(http.StatusNotFound, "App '%s' does not exist in version %s", id, version)
	}
	return p.json(http.StatusOK, encode(map[string][]string{"versions": list}))
}
