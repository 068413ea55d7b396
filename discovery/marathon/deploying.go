package marathon

import "sync"

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

// retain notes that only these apps exist.
func (d *deploying) retain(all []reading) {
	d.mu.Lock()
	defer d.mu.Unlock()
	present := make(map[string]bool, len(all))
	for _, r := range all {
		present[r.app] = true
	}
	for app := range d.apps {
		if !present[app] {
			delete(d.apps, app)
			if d.tell != nil {
				d.tell(app, false)
			}
		}
	}
}

// deployment returns the id of the first deployment that changes the app, or "".
func (a *App) deployment() string {
	if len(a.Deployments) == 0 {
		return ""
	}
	return a.Deployments[0].ID
}
