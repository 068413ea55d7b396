package devcluster

import (
	"net/http"
	"slices"
)

// deployment is one at work. It holds a lock on each of its apps.
type deployment struct {
	id      string
	version stamp
	changes map[string]change
	steps   []step
	current int // steps[current] is at work; -1 before the first
	undone  int // index into the step of an action that was not done yet
	moving  bool
	groups  map[string]*groupInfo
	before  map[string]*app // all apps before and after, for plans in the old, heavy form
	after   map[string]*app
}

// action is what a deployment does to one app at this moment.
type action struct {
	kind     string
	begun    bool
	done     bool
	ignition ignition
	started  int                // restart: new instances asked for
	settled  map[*instance]bool // scale: there before; restart: new ones that have replaced an old one, old ones not waited for
}

// deploy makes changes, and returns the deployment that does so. A lock of another deployment is an error, unless forced: then the
// other one is cancelled. announce is called once the new definitions hold, before anything happens.
func (c *cluster) deploy(changes map[string]change, force bool, announce func(version stamp)) (*deployment, error) {
	var locks []*deployment
	for _, id := range sortedKeys(changes) {
		if a := c.apps[id]; a != nil && a.deploy != nil && !slices.Contains(locks, a.deploy) {
			locks = append(locks, a.deploy)
		}
	}
	if len(locks) > 0 && !force {
		type ref struct {
			ID string `json:"id"`
		}
		refs := []ref{}
		for _, l := range locks {
			refs = append(refs, ref{l.id})
		}
		return nil, &apiError{
			status: http.StatusConflict, extra: map[string]any{"deployments": refs},
			message: "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
		}
	}
	if len(c.deployments)-len(locks) >= maxDeployment && !force {
		return nil, failure(http.StatusForbidden, "Max number (%d) of running deployments is achieved. "+
			"Wait for existing deployments to complete or cancel oneusing force=true parameter. You can increase max deployment number by using "+
			"--max_running_deployments parameter but be advised that this can have negative effects on the performance.", maxDeployment)
	}
	for _, l := range locks {
		c.cancelDeployment(l)
	}
	d := &deployment{id: newUUID(), version: c.versionOf(changes), changes: changes, steps: plan(changes), current: -1}
	if c.cfg.Emulate == "1.4" {
		d.before = c.definitions()
	}
	for _, id := range sortedKeys(changes) {
		if err := c.define(id, changes[id]); err != nil {
			c.release(d) // what is defined stays so, and unlocked
			return nil, err
		}
		c.apps[id].deploy = d
	}
	if c.cfg.Emulate == "1.4" {
		d.after = c.definitions()
	}
	c.rootVersion = d.version
	c.deployments = append(c.deployments, d)
	if announce != nil {
		announce(d.version)
	}
	c.advance(d)
	return d, nil
}

// versionOf returns the version of a deployment: that of the definitions which it brings, as in Marathon, where whoever has put an app
// waits for the version that the answer names.
func (c *cluster) versionOf(changes map[string]change) stamp {
	var newest stamp
	for _, ch := range changes {
		if ch.after != nil && ch.after != ch.before && ch.after.Version.After(newest.Time) {
			newest = ch.after.Version
		}
	}
	if newest.IsZero() {
		return c.now() // it only removes, or changes nothing
	}
	return newest
}

func (c *cluster) definitions() map[string]*app {
	all := make(map[string]*app, len(c.apps))
	for id, a := range c.apps {
		if !a.gone {
			all[id] = a.spec
		}
	}
	return all
}

// define makes a new definition the app's own, and keeps it.
func (c *cluster) define(id string, ch change) error {
	a := c.apps[id]
	if a == nil {
		a = &runApp{}
		c.apps[id] = a
	}
	if ch.after == nil {
		a.gone = true
		c.releaseServicePorts(a.spec)
		return c.store.remove(id)
	}
	if a.spec == ch.after && !a.gone {
		return nil
	}
	if a.spec != nil && !a.gone {
		c.releaseServicePorts(a.spec)
	}
	c.holdServicePorts(ch.after)
	if a.gone || a.spec == nil {
		a.versions = nil
	}
	a.gone = false
	if a.spec == nil || !a.spec.sameConfig(ch.after) {
		c.resetDelay(a)
	}
	a.spec = ch.after
	a.versions = append(a.versions, ch.after)
	if len(a.versions) > 25 { // as --zk_max_versions says
		a.versions = slices.Clone(a.versions[len(a.versions)-25:])
	}
	return c.store.save(a)
}

func (c *cluster) releaseServicePorts(a *app) {
	for _, p := range a.servicePorts() {
		if c.service[p]--; c.service[p] <= 0 {
			delete(c.service, p)
		}
	}
}

func (c *cluster) holdServicePorts(a *app) {
	for _, p := range a.servicePorts() {
		if p != 0 {
			c.service[p]++
		}
	}
}

// assignServicePorts gives service ports to those that ask for any: those of before by position, or free ones. It writes to a,
// which is not stored yet.
func (c *cluster) assignServicePorts(a, before *app) error {
	var old []int
	if before != nil {
		old = before.servicePorts()
	}
	taken := map[int]bool{}
	for _, p := range a.servicePorts() {
		taken[p] = true
	}
	pick := func(n, have int) (int, error) {
		if have != 0 {
			return have, nil
		}
		if n < len(old) && old[n] != 0 && !taken[old[n]] {
			taken[old[n]] = true
			return old[n], nil
		}
		for range 10001 {
			p := c.nextService
			if c.nextService++; c.nextService > 20000 {
				c.nextService = 10000
			}
			if c.service[p] == 0 && !taken[p] {
				taken[p] = true
				return p, nil
			}
		}
		return 0, failure(http.StatusUnprocessableEntity, "Cannot find enough free ports")
	}
	for n := range a.PortDefinitions {
		p, err := pick(n, a.PortDefinitions[n].Port)
		if err != nil {
			return err
		}
		a.PortDefinitions[n].Port = p
	}
	if a.Container != nil && a.mode() != modeHost {
		for n := range a.Container.PortMappings {
			p, err := pick(n, a.Container.PortMappings[n].ServicePort)
			if err != nil {
				return err
			}
			a.Container.PortMappings[n].ServicePort = p
		}
	}
	return nil
}

// advance takes a deployment as far as it goes at this moment.
func (c *cluster) advance(d *deployment) {
	if d.moving || !slices.Contains(c.deployments, d) {
		return
	}
	d.moving = true
	defer func() { d.moving = false }()
	for {
		if d.current >= 0 && d.current < len(d.steps) {
			if !c.stepDone(d) {
				return
			}
			c.publishDeployment("deployment_step_success", d)
			c.leaveStep(d)
		}
		if d.current++; d.current >= len(d.steps) {
			break
		}
		c.publishDeployment("deployment_info", d)
		for _, p := range d.steps[d.current] {
			c.apps[p.app].act = &action{kind: p.kind}
			c.work(c.apps[p.app])
			c.reconcile(c.apps[p.app])
			if a := c.apps[p.app]; a.act != nil { // what needs no task to change is done at once
				c.work(a)
			}
		}
	}
	c.release(d)
	c.publishDeploymentEnd("deployment_success", d)
}

// stepDone begins where it found something undone the last time, so that a step of thousands of apps costs each of them once.
func (c *cluster) stepDone(d *deployment) bool {
	now := d.steps[d.current]
	for n := range now {
		at := (d.undone + n) % len(now)
		if act := c.apps[now[at].app].act; act != nil && !act.done {
			d.undone = at
			return false
		}
	}
	d.undone = 0
	return true
}

func (c *cluster) leaveStep(d *deployment) {
	for _, p := range d.steps[d.current] {
		c.apps[p.app].act = nil
	}
}

// release ends a deployment's locks, and forgets the apps that it removed.
func (c *cluster) release(d *deployment) {
	c.deployments = slices.DeleteFunc(c.deployments, func(o *deployment) bool { return o == d })
	for id := range d.changes {
		a := c.apps[id]
		if a == nil || a.deploy != d {
			continue
		}
		a.deploy, a.act = nil, nil
		for _, i := range a.instances {
			i.ready = nil
		}
		if a.gone && len(a.instances) == 0 {
			c.resetDelay(a)
			delete(c.apps, id)
			delete(c.starved, a)
		}
	}
}

// cancelDeployment stops a deployment where it is.
func (c *cluster) cancelDeployment(d *deployment) {
	c.release(d)
	c.publishDeploymentEnd("deployment_failed", d)
	for id := range d.changes {
		if a := c.apps[id]; a != nil && a.deploy == nil {
			a.goal = a.spec.Instances
			if a.gone {
				a.goal = 0
			}
			c.reconcile(a)
		}
	}
}

// work lets an app's action do what it can now, and says whether it is done.
func (c *cluster) work(a *runApp) {
	act := a.act
	switch act.kind {
	case startApp:
		if !act.begun {
			a.goal = 0
			c.publishChecks("add_health_check_event", a.spec)
		}
		act.begun, act.done = true, true
	case stopApp:
		if !act.begun {
			act.begun = true
			a.goal = 0
			c.publishChecks("remove_health_check_event", a.spec)
			for _, i := range slices.Clone(a.instances) {
				c.kill(i, "")
			}
		}
		if len(a.instances) == 0 && !act.done {
			act.done = true
			c.publishTerminated(a.spec)
		}
	case scaleApp:
		c.workScale(a, act)
	case restartApp:
		c.workRestart(a, act)
	}
}

func (c *cluster) workScale(a *runApp, act *action) {
	if !act.begun {
		act.begun = true
		a.goal = a.spec.Instances
		act.settled = map[*instance]bool{}
		for _, i := range a.instances {
			act.settled[i] = true
		}
	}
	n, waiting := 0, 0
	for _, i := range a.instances {
		if i.live() {
			n++
			if !act.settled[i] && !c.serves(i) {
				waiting++
			}
		} else if i.killing {
			waiting++
		}
	}
	act.done = n == a.goal && waiting == 0
}

// serves says whether an instance is one that a deployment counts on: it runs, it is healthy if somebody checks, and it is ready.
func (c *cluster) serves(i *instance) bool {
	return i.live() && i.running() && (len(i.health) == 0 || i.healthy() == verdictGood) && c.isReady(i)
}

func (c *cluster) workRestart(a *runApp, act *action) {
	version := a.spec.VersionInfo.LastConfigChangeAt
	if act.settled == nil {
		act.settled = map[*instance]bool{}
		for _, i := range a.instances {
			act.settled[i] = i.version != version && i.killing // for another reason
		}
	}
	var old []*instance
	left, serving, fresh := 0, 0, 0
	for _, i := range a.instances {
		switch {
		case i.version == version:
			if i.live() {
				fresh++
			}
			if c.serves(i) {
				serving++
			}
		case i.condition != "UnreachableInactive" && !act.settled[i]:
			left++
			if i.live() {
				old = append(old, i)
			}
		}
	}
	old = victims(old, a.spec.KillSelection)
	slices.SortStableFunc(old, func(x, y *instance) int { return boolCompare(c.serves(x), c.serves(y)) })
	killOld := func(n int) {
		for ; n > 0 && len(old) > 0; n-- {
			i := old[0]
			old = old[1:]
			c.kill(i, "")
		}
	}
	if !act.begun {
		act.begun = true
		there, considered := 0, 0 // old and new ones, also those that do not run yet
		for _, i := range a.instances {
			if !act.settled[i] {
				there++
			}
			if i.live() && (len(i.health) == 0 || i.healthy() == verdictGood) {
				considered++
			}
		}
		act.ignition = ignite(a.spec.Instances, there, considered, a.spec.UpgradeStrategy, len(a.spec.Residency) > 0)
		act.started = min(fresh, a.spec.Instances)
		for _, i := range a.instances {
			if i.version == version && c.serves(i) {
				act.settled[i] = true
			}
		}
		if a.spec.Instances == 0 {
			killOld(len(old))
		}
		killOld(act.ignition.killNow)
	}
	for _, i := range a.instances {
		if i.version == version && !act.settled[i] && c.serves(i) {
			act.settled[i] = true
			killOld(1)
		}
	}
	if serving >= a.spec.Instances {
		killOld(len(old))
	}
	act.started += act.ignition.startNow(a.spec.Instances, left, act.started)
	a.goal = act.started
	act.done = left == 0 && serving >= a.spec.Instances
	if act.done {
		a.goal = a.spec.Instances
	}
}

func boolCompare(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	default:
		return 1
	}
}

// rollback deploys what there was before a deployment, which is cancelled.
func (c *cluster) rollback(d *deployment) (*deployment, error) {
	back := map[string]change{}
	for id, ch := range d.changes {
		back[id] = change{before: ch.after, after: ch.before}
	}
	if d.groups != nil {
		c.groups = d.groups
	}
	return c.deploy(back, true, nil)
}
