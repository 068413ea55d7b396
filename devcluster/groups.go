package devcluster

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path"
	"slices"
	"strings"
)

// groupInfo is what a group has beside the apps in it.
type groupInfo struct {
	Version      stamp    `json:"version"`
	Dependencies []string `json:"dependencies"`
	EnforceRole  bool     `json:"enforceRole"`
}

// groupUpdate is the body of a group's create or update; what is nil stays as it is.
type groupUpdate struct {
	ID           string            `json:"id"`
	Apps         []update          `json:"apps"`
	Groups       []groupUpdate     `json:"groups"`
	Pods         []json.RawMessage `json:"pods"`
	Dependencies []string          `json:"dependencies"`
	EnforceRole  *bool             `json:"enforceRole"`
	Version      *stamp            `json:"version"`
	ScaleBy      *float64          `json:"scaleBy"`
}

// fields counts what an update names.
func (u groupUpdate) fields() int {
	n := 0
	for _, named := range []bool{
		u.ID != "", u.Apps != nil, u.Groups != nil, u.Pods != nil, u.Dependencies != nil, u.EnforceRole != nil, u.Version != nil, u.ScaleBy != nil,
	} {
		if named {
			n++
		}
	}
	return n
}

func within(id, group string) bool { return group == "/" || strings.HasPrefix(id, group+"/") }

// prepare makes the change of one app that an update asks for. A partial one starts from what the app is.
func (c *cluster) prepare(id string, u update, partial bool) (change, error) {
	var ch change
	old := c.apps[id]
	if old != nil && !old.gone {
		ch.before = old.spec
	}
	if raw, ok := u["version"]; ok && len(u) <= 2 && ch.before != nil {
		var v stamp
		if err := json.Unmarshal(raw, &v); err != nil {
			return ch, badJSON([]detail{{"/version", []string{"error.expected.date.isoformat"}}})
		}
		n := slices.IndexFunc(old.versions, func(a *app) bool { return a.Version == v })
		if n < 0 {
			return ch, failure(http.StatusUnprocessableEntity, "App '%s' does not exist in version %s", id, v)
		}
		a := old.versions[n].clone()
		ch.after = c.versioned(a, ch.before)
		return ch, nil
	}
	base := defaultApp(c.cfg.Emulate)
	if partial && ch.before != nil {
		base = ch.before.clone()
		if u.has("ports") || u.has("container") && !u.has("networks") && base.Container == nil {
			base.PortDefinitions = nil
		}
	}
	base.ID = id
	a, err := u.apply(base, c.cfg.Emulate)
	if err != nil {
		return ch, err
	}
	if err := c.assignServicePorts(a, ch.before); err != nil {
		return ch, err
	}
	ch.after = c.versioned(a, ch.before)
	return ch, nil
}

// versioned gives a definition its version; one that equals the old is the old.
func (c *cluster) versioned(a, before *app) *app {
	if before != nil && before.sameConfig(a) {
		if before.Instances == a.Instances {
			return before
		}
		a.Version = c.now()
		a.VersionInfo = versionInfo{a.Version, before.VersionInfo.LastConfigChangeAt}
		return a
	}
	a.Version = c.now()
	a.VersionInfo = versionInfo{a.Version, a.Version}
	return a
}

// groupChanges collects what an update makes of a group's apps, and of the groups themselves.
func (c *cluster) groupChanges(id string, u groupUpdate, changes map[string]change, groups map[string]*groupInfo) error {
	if !validID(id) && id != "/" {
		return invalid(detail{"/id", []string{fmt.Sprintf("'%s' is not a valid group id", id)}})
	}
	for path, alone := range map[string]bool{"/version": u.Version != nil, "/scaleBy": u.ScaleBy != nil} {
		if alone && u.fields() > 1 {
			return invalid(detail{path, []string{"not allowed in conjunction with other properties."}})
		}
	}
	switch {
	case u.ScaleBy != nil:
		for _, a := range c.appsIn(id) {
			n := a.spec.clone()
			n.Instances = int(math.Ceil(float64(n.Instances) * *u.ScaleBy))
			changes[n.ID] = change{before: a.spec, after: c.versioned(n, a.spec)}
		}
		return nil
	case u.Version != nil:
		for _, a := range c.appsIn(id) {
			ch := change{before: a.spec}
			for _, v := range a.versions {
				if !v.Version.After(u.Version.Time) {
					ch.after = v
				}
			}
			if ch.after != nil {
				ch.after = c.versioned(ch.after.clone(), a.spec)
			}
			changes[a.spec.ID] = ch
		}
		return nil
	}
	info := &groupInfo{Dependencies: nonNil(u.Dependencies)}
	if old := groups[id]; old != nil && u.Dependencies == nil {
		info.Dependencies = old.Dependencies
	}
	if u.EnforceRole != nil {
		info.EnforceRole = *u.EnforceRole
	}
	info.Version = c.now()
	groups[id] = info
	listed := map[string]bool{}
	for _, au := range u.Apps {
		var given string
		if err := json.Unmarshal(au["id"], &given); err != nil {
			return badJSON([]detail{{"/apps/id", []string{"error.path.missing"}}})
		}
		appID := absolute(given, id)
		listed[appID] = true
		delete(au, "version")
		delete(au, "versionInfo")
		ch, err := c.prepare(appID, au, false)
		if err != nil {
			return err
		}
		changes[appID] = ch
	}
	for _, raw := range u.Pods {
		a, err := parsePod(raw, "")
		if err != nil {
			return err
		}
		listed[a.ID] = true
		changes[a.ID] = c.podChange(a)
	}
	subs := map[string]bool{}
	for _, g := range u.Groups {
		sub := absolute(g.ID, id)
		subs[sub] = true
		if err := c.groupChanges(sub, g, changes, groups); err != nil {
			return err
		}
	}
	for _, a := range c.appsIn(id) {
		appID := a.spec.ID
		direct := path.Dir(appID) == id
		first := path.Join(id, strings.SplitN(strings.TrimPrefix(strings.TrimPrefix(appID, id), "/"), "/", 2)[0])
		replaced := u.Apps != nil && a.spec.pod == nil || u.Pods != nil && a.spec.pod != nil
		if direct && replaced && !listed[appID] || !direct && u.Groups != nil && !subs[first] {
			if _, named := changes[appID]; !named {
				changes[appID] = change{before: a.spec}
			}
		}
	}
	if u.Groups != nil {
		for g := range groups {
			if path.Dir(g) == id && g != "/" && !subs[g] {
				delete(groups, g)
			}
		}
	}
	return nil
}

// appsIn lists what is in a group and its groups, sorted.
func (c *cluster) appsIn(group string) []*runApp {
	var all []*runApp
	for _, id := range sortedKeys(c.apps) {
		if a := c.apps[id]; !a.gone && within(id, group) {
			all = append(all, a)
		}
	}
	return all
}

func (c *cluster) groupExists(id string) bool {
	if id == "/" || c.groups[id] != nil {
		return true
	}
	for g := range c.groups {
		if within(g, id) {
			return true
		}
	}
	return len(c.appsIn(id)) > 0
}

// groupJSON is a group's tree of the given apps. apps, if not nil, makes an app's JSON; show says which parts of a group to show.
func (c *cluster) groupJSON(id string, defs map[string]*app, apps func(*app) json.RawMessage, show func(string) bool) json.RawMessage {
	if apps == nil {
		apps = func(a *app) json.RawMessage { return c.definition(a) }
	}
	if show == nil {
		show = func(string) bool { return true }
	}
	byGroup, children := map[string][]*app{}, map[string]map[string]bool{}
	var adopt func(g string)
	adopt = func(g string) {
		if g == "/" || g == "." {
			return
		}
		parent := path.Dir(g)
		if children[parent] == nil {
			children[parent] = map[string]bool{}
		}
		if !children[parent][g] {
			children[parent][g] = true
			adopt(parent)
		}
	}
	for _, a := range sortedKeys(defs) {
		if within(a, id) {
			g := path.Dir(a)
			byGroup[g] = append(byGroup[g], defs[a])
			adopt(g)
		}
	}
	for g := range c.groups {
		if within(g, id) {
			adopt(g)
		}
	}
	var build func(g string) json.RawMessage
	build = func(g string) json.RawMessage {
		list, pods, groups := []json.RawMessage{}, []json.RawMessage{}, []json.RawMessage{}
		for _, a := range byGroup[g] {
			switch {
			case a.pod != nil && show("pods"):
				pods = append(pods, podJSON(a))
			case a.pod == nil && show("apps"):
				list = append(list, apps(a))
			}
		}
		if show("groups") {
			for _, sub := range sortedKeys(children[g]) {
				groups = append(groups, build(sub))
			}
		}
		info := c.groups[g]
		if info == nil {
			info = &groupInfo{Version: c.rootVersion, Dependencies: []string{}}
		}
		f := []field{{"id", g}}
		if show("apps") {
			f = append(f, field{"apps", list})
		}
		if show("groups") {
			f = append(f, field{"groups", groups})
		}
		if show("pods") {
			f = append(f, field{"pods", pods})
		}
		f = append(f, field{"dependencies", nonNil(info.Dependencies)}, field{"version", info.Version})
		if c.cfg.Emulate != "1.4" {
			f = append(f, field{"enforceRole", info.EnforceRole})
		}
		return object(f)
	}
	return build(id)
}
