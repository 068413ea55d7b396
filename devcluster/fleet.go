package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"signalbox/devcluster/agent"
)

// fleet is the agents on other machines as one: a task is on the machine whose address it has.
type fleet struct {
	hosts map[string]*agent.Remote // by address, fixed once it is made

	mu sync.Mutex
	on map[string]*agent.Remote // where each task is
}

// registration is for how long a starting master waits for agents before it takes what is missing for lost.
const registration = 15 * time.Second

// newFleet starts to look for the agents. Their first words wait for the cluster's lock, which is held.
func newFleet(cfg Config, c *cluster) (*fleet, error) {
	f := &fleet{hosts: map[string]*agent.Remote{}, on: map[string]*agent.Remote{}}
	c.awaited = map[*slave]bool{}
	for _, s := range c.slaves {
		s.unreachable = true
		c.awaited[s] = true
	}
	for n, s := range c.slaves {
		r, err := agent.NewRemote(agent.RemoteConfig{
			URL: cfg.RemoteAgents[n], Token: cfg.AgentToken, TLS: cfg.AgentTLS, Log: cfg.Log,
		}, &member{c: c, f: f, s: s})
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.hosts[s.host] = r
	}
	c.settling = time.AfterFunc(registration, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.settled()
	})
	return f, nil
}

func (f *fleet) Launch(spec agent.Spec) error {
	r := f.hosts[spec.Addr]
	if r == nil {
		return fmt.Errorf("launching %s: no agent has the address %s: there are no container networks over several machines", spec.ID, spec.Addr)
	}
	f.put(spec.ID, r)
	return r.Launch(spec)
}

func (f *fleet) Kill(taskID string, grace time.Duration) {
	if r := f.of(taskID); r != nil {
		r.Kill(taskID, grace)
	}
}

func (f *fleet) Probe(ctx context.Context, taskID string, p agent.Probe) error {
	r := f.of(taskID)
	if r == nil {
		return fmt.Errorf("probing %s: the task does not run", taskID)
	}
	return r.Probe(ctx, taskID, p)
}

// Close leaves the tasks to the next master.
func (f *fleet) Close() error {
	var errs []error
	for _, r := range f.hosts {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

func (f *fleet) of(taskID string) *agent.Remote {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.on[taskID]
}

// put notes where a task is; nil: it is nowhere any more.
func (f *fleet) put(taskID string, r *agent.Remote) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r == nil {
		delete(f.on, taskID)
		return
	}
	f.on[taskID] = r
}

// member is the fleet's ear for one agent.
type member struct {
	c *cluster
	f *fleet
	s *slave
}

// Report implements agent.Master.
func (m *member) Report(st agent.Status) {
	if st.State != agent.Starting && st.State != agent.Running {
		m.f.put(st.TaskID, nil)
	}
	m.c.status(st)
}

// Left implements agent.Master.
func (m *member) Left() {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if !m.c.closed {
		m.c.cut(m.s)
	}
}

// Joined implements agent.Master: known tasks are what the agent says, tasks of an app's version are taken over, as a new leader
// does, and all others are ended.
func (m *member) Joined(tasks []agent.Task) {
	c, s := m.c, m.s
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	r := m.f.hosts[s.host]
	runs := map[string]bool{}
	for _, t := range tasks {
		id := t.Spec.ID
		runs[id] = true
		m.f.put(id, r)
		if p := c.parts[id]; p != nil && p.inst.slave == s {
			p.pending = &agent.Status{TaskID: id, State: t.State, At: t.Since}
		} else if !c.adopt(s, t) {
			r.Kill(id, 0)
		}
	}
	for id, p := range c.parts {
		if p.inst.slave == s && !p.ended && !runs[id] {
			m.f.put(id, nil)
			p.pending = &agent.Status{TaskID: id, State: agent.Failed, Message: "it ended while its agent was unreachable", At: time.Now()}
		}
	}
	c.restore(s)
	if delete(c.awaited, s); len(c.awaited) == 0 {
		c.settled()
	}
}

// settled ends the wait for agents after the start: what is missing now is missing. The lock is held.
func (c *cluster) settled() {
	if c.settling == nil || c.closed {
		return
	}
	c.settling.Stop()
	c.settling = nil
	for _, id := range sortedKeys(c.apps) {
		c.touch(c.apps[id])
	}
}

// adopt takes over a task that an earlier master of the same state has launched; false when its app or version is gone, and for
// pods, whose parts are launched anew. The lock is held.
func (c *cluster) adopt(s *slave, t agent.Task) bool {
	a := c.apps[t.Spec.App]
	if a == nil || a.gone || a.spec.pod != nil {
		return false
	}
	var spec *app
	for _, v := range a.versions {
		if v.VersionInfo.LastConfigChangeAt.String() == t.Spec.Version {
			spec = v
		}
	}
	if spec == nil || spec.pod != nil {
		return false
	}
	since := stamp{t.Since.UTC()}
	i := &instance{
		id: strings.TrimSuffix(t.Spec.ID, "._app.1"), app: a, spec: spec, version: spec.VersionInfo.LastConfigChangeAt, slave: s, host: s.host,
		hostPorts: t.Spec.Ports, staged: since, started: since, condition: "Running",
	}
	i.parts = []*part{{inst: i, task: t.Spec.ID, ports: t.Spec.Ports, state: string(t.State)}}
	i.parts[0].pending = &agent.Status{TaskID: t.Spec.ID, State: t.State, At: t.Since}
	i.health = make([]*checkState, len(spec.HealthChecks))
	for n := range i.health {
		i.health[n] = &checkState{}
	}
	for _, port := range t.Spec.Ports {
		c.ports.claim(port)
	}
	c.parts[t.Spec.ID] = i.parts[0]
	a.instances = append(a.instances, i)
	s.instances++
	return true
}

// remoteHosts are the addresses of agents on other machines, in the order of their URLs.
func remoteHosts(urls []string) ([]string, error) {
	seen := map[string]bool{}
	var hosts []string
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return nil, fmt.Errorf("agent %q: it is not of the form https://host:5051", text)
		}
		if seen[u.Hostname()] {
			return nil, fmt.Errorf("agent %q: its host is given twice", text)
		}
		seen[u.Hostname()] = true
		hosts = append(hosts, u.Hostname())
	}
	return hosts, nil
}
