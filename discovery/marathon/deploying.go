package marathon

import (
	"maps"
	"slices"
	"sync"
)

// deploying knows which apps a deployment is changing, from reads and from events. It may be used by several goroutines. The zero value
// tells nobody.
type deploying struct {
	tell func(app string, running bool)

	mu   sync.Mutex
	apps map[string]string // the deployment of each, by its id
}

// set notes the deployment of an app, "" for none.
func (d *deploying) set(app, plan string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.apps[app]
	if was == plan {
		return
	}
	if plan == "" {
		delete(d.apps, app)
	} else {
		if d.apps == nil {
			d.apps = map[string]string{}
		}
		d.apps[app] = plan
	}
	if d.tell != nil && (was == "") != (plan == "") {
		d.tell(app, plan != "")
	}
}

// retain notes that only these apps exist. Reads of pods say nothing of deployments: one whose end was missed ends here.
func (d *deploying) retain(all []reading) {
	present := present(slices.DeleteFunc(slices.Clone(all), func(r reading) bool { return r.pod }))
	d.mu.Lock()
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(d.apps)), func(app string) bool { return present[app] })
	d.mu.Unlock()
	for _, app := range gone {
		d.set(app, "")
	}
}

// deployment returns the id of the first deployment that changes the app, or "".
func (a *App) deployment() string {
	if len(a.Deployments) == 0 {
		return ""
	}
	return a.Deployments[0].ID
}
