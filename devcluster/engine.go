package devcluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox/devcluster/agent"
)

// cluster is what runs: apps, their tasks, and the deployments at work. Everything below mu happens under it, driven by requests,
// by the agent's words and by timers; nothing polls.
type cluster struct {
	cfg    Config
	agent  agent.Agent
	placer agent.Placer // nil: tasks get the agents' addresses
	bus    *bus
	store  *store
	count  *counters
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu          sync.Mutex
	apps        map[string]*runApp
	groups      map[string]*groupInfo
	parts       map[string]*part
	deployments []*deployment
	slaves      []*slave
	starved     map[*runApp]bool // waiting for a place or a port
	ports       *portPool
	addrs       uint32 // container addresses given out
	service     map[int]int
	nextService int
	last        stamp
	rootVersion stamp
	closed      bool
	settling    *time.Timer     // until then nothing is launched: agents on other machines may join, with tasks
	awaited     map[*slave]bool // these
	framework   string
}

type slave struct {
	id, host    string
	instances   int
	unreachable bool
	back        *time.Timer
}

// runApp is an app and what runs of it.
type runApp struct {
	spec      *app
	versions  []*app // oldest first
	instances []*instance
	gone      bool // deleted; its tasks are ending
	goal      int  // so many tasks shall run: of the present version while it is being restarted, of any otherwise
	act       *action
	deploy    *deployment

	delay       time.Duration
	notBefore   time.Time
	timer       *time.Timer
	queuedSince stamp
	lastFailure *taskFailure
}

type taskFailure struct {
	AppID     string `json:"appId"`
	Host      string `json:"host"`
	Message   string `json:"message"`
	SlaveID   string `json:"slaveId"`
	State     string `json:"state"`
	TaskID    string `json:"taskId"`
	Timestamp stamp  `json:"timestamp"`
	Version   stamp  `json:"version"`
}

// instance is one running copy of an app, which has one part, or of a pod, which has one for each container.
type instance struct {
	id        string
	app       *runApp
	spec      *app
	version   stamp
	slave     *slave
	host, ip  string // ip: on a container network
	hostPorts []int
	parts     []*part
	staged    stamp
	started   stamp
	condition string
	killing   bool
	dead      bool
	lostAt    stamp // unreachable since
	timers    []*time.Timer
	health    []*checkState
	ready     *readiness
}

// part is one Mesos task.
type part struct {
	inst    *instance
	name    string
	task    string
	ports   []int
	state   string
	message string
	ended   bool
	pending *agent.Status // what it said while its agent was unreachable
}

// live says whether an instance counts towards its app's number.
func (i *instance) live() bool { return !i.dead && !i.killing && i.condition != "UnreachableInactive" }

func (i *instance) running() bool { return !i.dead && i.condition == "Running" }

const (
	staging     = "TASK_STAGING"
	running     = string(agent.Running)
	killing     = "TASK_KILLING"
	failed      = string(agent.Failed)
	unreachable = "TASK_UNREACHABLE"
)

const (
	viable        = time.Minute // a task that ran so long was no failed start
	expungeEvery  = 30 * time.Second
	maxDeployment = 100
)

func newCluster(cfg Config, s *store) *cluster {
	c := &cluster{
		cfg: cfg, store: s, count: newCounters(),
		apps: map[string]*runApp{}, groups: map[string]*groupInfo{}, parts: map[string]*part{}, starved: map[*runApp]bool{},
		ports: newPortPool(cfg.PortMin, cfg.PortMax), service: map[int]int{}, nextService: 10000,
		framework: newUUID() + "-0000",
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.bus = newBus(cfg.EventBuffer, c.count)
	for i, host := range cfg.Agents {
		c.slaves = append(c.slaves, &slave{id: fmt.Sprintf("%s-S%d", c.framework[:36], i), host: host})
	}
	c.ports.elsewhere = len(cfg.RemoteAgents) > 0
	c.rootVersion = c.now()
	return c
}

// now returns a moment that was never returned before: versions are told apart by it.
func (c *cluster) now() stamp {
	t := time.Now().UTC().Truncate(time.Millisecond)
	if !t.After(c.last.Time) {
		t = c.last.Add(time.Millisecond)
	}
	c.last = stamp{t}
	return c.last
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// touch lets an app follow what has changed about it: its deployment acts, missing tasks start, surplus ones end.
func (c *cluster) touch(a *runApp) {
	if c.closed || c.settling != nil {
		return
	}
	if a.act != nil {
		c.work(a)
	}
	c.reconcile(a)
	if a.deploy != nil {
		c.advance(a.deploy)
	}
}

// counted says whether an instance counts towards the app's goal.
func (a *runApp) counted(i *instance) bool {
	return i.live() && (a.act == nil || a.act.kind != restartApp || i.version == a.spec.VersionInfo.LastConfigChangeAt)
}

func (a *runApp) running() int {
	n := 0
	for _, i := range a.instances {
		if a.counted(i) {
			n++
		}
	}
	return n
}

func (c *cluster) reconcile(a *runApp) {
	have := a.running()
	if a.act == nil || a.act.kind != restartApp {
		if have > a.goal {
			for _, i := range victims(a.instances, a.spec.KillSelection)[:have-a.goal] {
				c.kill(i, "")
			}
			return
		}
	}
	delete(c.starved, a)
	for ; have < a.goal; have++ {
		if a.queuedSince.IsZero() {
			a.queuedSince = stamp{time.Now()}
		}
		if wait := time.Until(a.notBefore); wait > 0 {
			if a.timer == nil {
				a.timer = time.AfterFunc(wait, func() {
					c.mu.Lock()
					defer c.mu.Unlock()
					a.timer = nil
					c.touch(a)
				})
			}
			return
		}
		if !c.launch(a) {
			c.starved[a] = true
			return
		}
	}
	a.queuedSince = stamp{}
}

// launch starts one instance of an app; false when no agent has a place for it.
func (c *cluster) launch(a *runApp) bool {
	s := c.place(a)
	if s == nil {
		return false
	}
	prefix := strings.ReplaceAll(strings.Trim(a.spec.ID, "/"), "/", "_")
	i := &instance{
		id: prefix + ".instance-" + newUUID(), app: a, spec: a.spec, version: a.spec.VersionInfo.LastConfigChangeAt, slave: s, host: s.host,
		condition: "Scheduled", staged: stamp{time.Now().UTC()},
	}
	if a.spec.pod != nil {
		for _, ct := range a.spec.pod.Containers {
			i.parts = append(i.parts, &part{inst: i, name: ct.Name, task: i.id + "." + ct.Name + ".1", state: staging})
		}
	} else {
		id := i.id + "._app.1"
		if c.cfg.Emulate == "1.4" {
			id = i.id
		}
		i.parts = []*part{{inst: i, task: id, state: staging}}
	}
	if !c.assign(i) {
		c.free(i)
		return false
	}
	c.publishInstance(i, true)
	i.condition = "Provisioned"
	c.publishInstance(i, false)
	i.condition = "Staging"
	a.instances = append(a.instances, i)
	s.instances++
	i.health = make([]*checkState, len(i.spec.HealthChecks))
	for n := range i.health {
		i.health[n] = &checkState{}
	}
	for _, p := range i.parts {
		c.parts[p.task] = p
		c.count.launched.Inc()
		c.publishStatus(p, "")
	}
	c.publishInstance(i, false)
	for _, p := range i.parts {
		spec, err := c.taskSpec(p)
		if err == nil {
			err = c.agent.Launch(spec)
		}
		if err != nil {
			c.wg.Go(func() {
				c.status(agent.Status{TaskID: p.task, State: agent.Failed, Message: err.Error(), At: time.Now()})
			})
		}
	}
	return true
}

// kill ends an instance. The reason is for the event of an unhealthy one, "" for all others.
func (c *cluster) kill(i *instance, reason string) {
	if i.dead || i.killing && i.condition != "Unreachable" {
		return
	}
	i.killing = true
	if i.slave.unreachable {
		c.expunge(i)
		return
	}
	if reason != "" {
		c.publishUnhealthyKill(i, reason)
	}
	grace := 3 * time.Second
	if g := i.spec.TaskKillGracePeriod; g != nil {
		grace = time.Duration(*g) * time.Second
	}
	for _, p := range i.parts {
		if p.ended {
			continue
		}
		if c.cfg.TaskKilling && p.state == running {
			p.state = killing
			c.publishStatus(p, "")
		}
		c.agent.Kill(p.task, grace)
	}
	if c.cfg.TaskKilling {
		i.condition = "Killing"
		c.publishInstance(i, false)
	}
}

// status takes the agent's word about a task.
func (c *cluster) status(st agent.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[st.TaskID]
	if p == nil || c.closed || p.ended {
		return
	}
	i := p.inst
	if i.slave.unreachable {
		p.pending = &st
		return
	}
	switch st.State {
	case agent.Starting:
		if p.state == staging {
			p.state = string(agent.Starting)
			i.condition = "Starting"
			c.publishStatus(p, st.Message)
			c.publishInstance(i, false)
		}
		return
	case agent.Running:
		if p.state != staging && p.state != string(agent.Starting) {
			return
		}
		p.state = running
		c.publishStatus(p, st.Message)
		for _, other := range i.parts {
			if other.state != running {
				return
			}
		}
		if i.killing {
			return
		}
		i.condition, i.started = "Running", stamp{st.At.UTC()}
		c.publishInstance(i, false)
		c.watch(i)
		c.touch(i.app)
		return
	}
	p.ended, p.state, p.message = true, string(st.State), st.Message
	delete(c.parts, p.task)
	c.count.ended.WithLabelValues(p.state).Inc()
	c.publishStatus(p, st.Message)
	for _, other := range i.parts {
		if !other.ended {
			c.agent.Kill(other.task, 3*time.Second)
			return
		}
	}
	c.end(i, st)
}

// end forgets an instance whose parts have all ended.
func (c *cluster) end(i *instance, st agent.Status) {
	a := i.app
	i.condition = map[agent.State]string{agent.Killed: "Killed", agent.Finished: "Finished", agent.Failed: "Failed"}[st.State]
	first := i.parts[0]
	for _, p := range i.parts {
		if p.state == failed {
			first, i.condition = p, "Failed"
		}
	}
	c.publishInstance(i, false)
	c.drop(i)
	if !i.killing || first.state == failed && a.spec.pod == nil && !i.killing {
		if first.state == failed {
			a.lastFailure = &taskFailure{
				AppID: a.spec.ID, Host: i.host, Message: first.message, SlaveID: i.slave.id, State: first.state, TaskID: first.task,
				Timestamp: stamp{st.At.UTC()}, Version: i.version,
			}
		}
		a.backOff(i)
	}
	c.touch(a)
	c.feed()
}

// drop takes an instance out of the books.
func (c *cluster) drop(i *instance) {
	i.dead = true
	for _, t := range i.timers {
		t.Stop()
	}
	i.timers = nil
	for _, p := range i.parts {
		delete(c.parts, p.task)
	}
	i.app.instances = slices.DeleteFunc(i.app.instances, func(o *instance) bool { return o == i })
	i.slave.instances--
	c.free(i)
}

// feed tries again for apps that waited for a place.
func (c *cluster) feed() {
	for _, a := range slices.Collect(keys(c.starved)) {
		c.touch(a)
	}
}

// backOff delays the next launch after a task has ended by itself, longer each time unless it had run well.
func (a *runApp) backOff(i *instance) {
	first := time.Duration(a.spec.BackoffSeconds * float64(time.Second))
	if a.delay == 0 || !i.started.IsZero() && time.Since(i.started.Time) >= viable {
		a.delay = first
	} else {
		a.delay = time.Duration(float64(a.delay) * a.spec.BackoffFactor)
	}
	a.delay = min(a.delay, time.Duration(a.spec.MaxLaunchDelay*float64(time.Second)))
	a.notBefore = time.Now().Add(a.delay)
}

// resetDelay lets an app's tasks start at once.
func (c *cluster) resetDelay(a *runApp) {
	a.delay, a.notBefore = 0, time.Time{}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// after calls f under the lock after d, unless the instance has ended or its timers were stopped by then.
func (c *cluster) after(i *instance, d time.Duration, f func()) {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := slices.Index(i.timers, t)
		if n < 0 || c.closed || i.dead {
			return
		}
		i.timers = slices.Delete(i.timers, n, n+1)
		f()
	})
	i.timers = append(i.timers, t)
}

func (c *cluster) close() error {
	c.mu.Lock()
	c.closed = true
	for _, a := range c.apps {
		if a.timer != nil {
			a.timer.Stop()
		}
		for _, i := range a.instances {
			for _, t := range i.timers {
				t.Stop()
			}
		}
	}
	for _, s := range c.slaves {
		if s.back != nil {
			s.back.Stop()
		}
	}
	if c.settling != nil {
		c.settling.Stop()
	}
	c.mu.Unlock()
	c.cancel()
	c.bus.closeAll()
	var err error
	if c.agent != nil {
		err = c.agent.Close()
	}
	c.wg.Wait()
	return err
}
