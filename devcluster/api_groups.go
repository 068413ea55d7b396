package devcluster

import (
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

func (p *call) groupsAPI(rest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := "/" + strings.Trim(rest, "/")
	noGroup := failure(http.StatusNotFound, "Group '%s' does not exist", id)
	switch p.r.Method {
	case http.MethodGet, http.MethodHead:
		if g, ok := strings.CutSuffix(id, "/versions"); ok {
			return p.groupVersions(path.Join("/", g))
		}
		if g, _, ok := strings.Cut(id, "/versions/"); ok {
			id = path.Join("/", g)
		}
		if g, ok := strings.CutSuffix(id, "/apps"); ok {
			p.mu.Unlock()
			defer p.mu.Lock()
			return p.listApps(path.Join("/", g))
		}
		if !p.groupExists(id) {
			return noGroup
		}
		return p.json(http.StatusOK, p.showGroup(id))
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return p.changeGroup(id)
	case http.MethodDelete:
		if !p.groupExists(id) {
			return noGroup
		}
		changes := map[string]change{}
		for _, a := range p.appsIn(id) {
			changes[a.spec.ID] = change{before: a.spec}
		}
		before := maps.Clone(p.groups)
		maps.DeleteFunc(p.groups, func(g string, _ *groupInfo) bool { return g == id || within(g, id) })
		return p.deployGroup(id, changes, before, http.StatusOK)
	}
	return errMethod
}

func (p *call) deployGroup(id string, changes map[string]change, before map[string]*groupInfo, status int) error {
	d, err := p.deploy(changes, p.flag("force"), func(v stamp) { p.publishGroup(id, v) })
	if err != nil {
		p.groups = before
		return err
	}
	d.groups = before
	if err := p.store.saveGroups(p.groups); err != nil {
		return err
	}
	return p.result(status, d)
}

func (p *call) showGroup(id string) json.RawMessage {
	embeds := p.q["embed"]
	show := func(what string) bool { return len(embeds) == 0 || slices.Contains(embeds, "group."+what) }
	e := parseEmbed(embeds)
	return p.groupJSON(id, p.definitions(), func(a *app) json.RawMessage { return p.appJSON(p.apps[a.ID], e) }, show)
}

func (p *call) groupVersions(id string) error {
	if !p.groupExists(id) {
		return failure(http.StatusNotFound, "Group '%s' does not exist", id)
	}
	seen := map[string]bool{}
	for _, a := range p.appsIn(id) {
		for _, v := range a.versions {
			seen[v.Version.String()] = true
		}
	}
	all := nonNil(sortedKeys(seen))
	slices.Reverse(all)
	return p.json(http.StatusOK, encode(all))
}

func (p *call) changeGroup(id string) error {
	var u groupUpdate
	if err := decode(p.body, &u); err != nil {
		return err
	}
	if u.ID != "" {
		id = absolute(u.ID, id)
		if p.r.Method != http.MethodPost {
			id = absolute(u.ID, path.Dir(strings.TrimSuffix("/"+strings.Trim(strings.TrimPrefix(p.r.URL.Path, "/v2/groups"), "/"), "/")))
		}
	}
	if a := p.apps[id]; a != nil && !a.gone {
		return failure(http.StatusConflict, "An app with id [%s] already exists.", id)
	}
	if p.r.Method == http.MethodPost && id != "/" && p.groupExists(id) {
		return failure(http.StatusConflict, "Group %s is already created. Use PUT to change this group.", id)
	}
	changes, groups := map[string]change{}, maps.Clone(p.groups)
	if err := p.groupChanges(id, u, changes, groups); err != nil {
		return err
	}
	if p.flag("dryRun") {
		d := &deployment{id: newUUID(), version: p.now(), changes: changes, steps: plan(changes), current: -1}
		return p.json(http.StatusOK, object([]field{{"steps", d.stepsJSON()}}))
	}
	before := p.groups
	p.groups = groups
	status := http.StatusOK
	if p.r.Method == http.MethodPost {
		status = http.StatusCreated
		p.w.Header().Set("Location", "/v2/groups"+id)
	}
	return p.deployGroup(id, changes, before, status)
}

// podChange is what a pod's new definition changes.
func (c *cluster) podChange(a *app) change {
	var ch change
	if old := c.apps[a.ID]; old != nil && !old.gone {
		ch.before = old.spec
	}
	ch.after = c.versioned(a, ch.before)
	return ch
}

func (p *call) podsAPI(rest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, what, special := strings.Cut(rest, "::")
	id := "/" + strings.Trim(name, "/")
	var all []json.RawMessage
	if name == "" {
		for _, a := range p.appsIn("/") {
			if a.spec.pod != nil && special {
				all = append(all, p.podStatus(a))
			} else if a.spec.pod != nil {
				all = append(all, podJSON(a.spec))
			}
		}
		switch p.r.Method {
		case http.MethodHead:
			p.w.WriteHeader(http.StatusOK)
			return nil
		case http.MethodGet:
			return p.json(http.StatusOK, encode(nonNil(all)))
		case http.MethodPost:
			return p.putPod("")
		}
		return errMethod
	}
	a := p.apps[id]
	if p.r.Method == http.MethodPut {
		return p.putPod(id)
	}
	if a == nil || a.gone || a.spec.pod == nil {
		return failure(http.StatusNotFound, "Pod '%s' does not exist", id)
	}
	switch {
	case p.r.Method == http.MethodDelete && strings.HasPrefix(what, "instances"):
		one := strings.Trim(strings.TrimPrefix(what, "instances"), "/")
		gone := []json.RawMessage{}
		for _, i := range slices.Clone(a.instances) {
			if one == "" || i.id == one {
				gone = append(gone, encode(i.id))
				p.kill(i, "")
			}
		}
		p.touch(a)
		return p.json(http.StatusOK, encode(gone))
	case p.r.Method == http.MethodDelete:
		d, err := p.deploy(map[string]change{id: {before: a.spec}}, p.flag("force"), func(v stamp) {
			p.publishGroup(path.Dir(id), v)
			p.publishPod("pod_deleted_event", clientIP(p.r), p.r.URL.Path)
		})
		if err != nil {
			return err
		}
		p.w.Header().Set("Marathon-Deployment-Id", d.id)
		p.w.WriteHeader(http.StatusAccepted)
		return nil
	case p.r.Method != http.MethodGet:
		return errMethod
	case what == "status":
		return p.json(http.StatusOK, p.podStatus(a))
	case what == "versions":
		list := []string{}
		for _, v := range slices.Backward(a.versions) {
			list = append(list, v.Version.String())
		}
		return p.json(http.StatusOK, encode(list))
	case strings.HasPrefix(what, "versions/"):
		for _, v := range a.versions {
			if v.Version.String() == strings.TrimPrefix(what, "versions/") {
				return p.json(http.StatusOK, podJSON(v))
			}
		}
		return failure(http.StatusNotFound, "Pod '%s' does not exist in version %s", id, strings.TrimPrefix(what, "versions/"))
	}
	return p.json(http.StatusOK, podJSON(a.spec))
}

// putPod creates a pod, or replaces the one of that id.
func (p *call) putPod(id string) error {
	spec, err := parsePod(p.body, id)
	if err != nil {
		return err
	}
	ch := p.podChange(spec)
	kind, status := "pod_updated_event", http.StatusOK
	switch {
	case id == "" && (ch.before != nil || p.groupExists(spec.ID)):
		return failure(http.StatusConflict, "An app with id [%s] already exists.", spec.ID)
	case id != "" && ch.before == nil:
		return failure(http.StatusNotFound, "Pod '%s' does not exist", id)
	case id == "":
		kind, status = "pod_created_event", http.StatusCreated
	}
	d, err := p.deploy(map[string]change{spec.ID: ch}, p.flag("force"), func(v stamp) {
		p.publishGroup(path.Dir(spec.ID), v)
		p.publishPod(kind, clientIP(p.r), p.r.URL.Path)
	})
	if err != nil {
		return err
	}
	p.w.Header().Set("Location", "/v2/pods"+spec.ID)
	p.w.Header().Set("Marathon-Deployment-Id", d.id)
	return p.json(status, podJSON(ch.after))
}
