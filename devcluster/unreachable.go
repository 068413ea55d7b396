package devcluster

import (
	"slices"
	"time"

	"signalbox/devcluster/agent"
)

// cut makes an agent unreachable: its tasks run on, and nobody hears of them.
func (c *cluster) cut(s *slave) {
	if s.unreachable {
		return
	}
	s.unreachable = true
	now := c.now()
	for _, a := range c.apps {
		for _, i := range slices.Clone(a.instances) {
			if i.slave != s || i.dead {
				continue
			}
			i.lostAt = now
			for _, p := range i.parts {
				if !p.ended {
					p.pending = &agent.Status{TaskID: p.task, State: agent.State(p.state)}
					p.state = unreachable
					c.publishStatus(p, "agent unreachable")
				}
			}
			i.condition = "Unreachable"
			c.publishInstance(i, false)
			if u := i.spec.UnreachableStrategy; !u.Disabled {
				c.after(i, time.Duration(u.Inactive)*time.Second, func() {
					i.condition = "UnreachableInactive"
					c.publishInstance(i, false)
					c.touch(i.app)
				})
				c.after(i, max(expungeEvery, time.Duration(u.Purge)*time.Second), func() { c.expunge(i) })
			}
		}
	}
}

// expunge forgets an instance of an unreachable agent; it is killed when the agent is back.
func (c *cluster) expunge(i *instance) {
	i.condition = "Killed"
	for _, p := range i.parts {
		p.state = "TASK_KILLED"
		c.publishStatus(p, "expunged")
	}
	c.publishInstance(i, false)
	i.slave.unreachableKill(c, i)
	c.drop(i)
	c.touch(i.app)
}

// unreachableKill ends what an unreachable agent still runs of an instance, which nobody can see.
func (*slave) unreachableKill(c *cluster, i *instance) {
	for _, p := range i.parts {
		c.agent.Kill(p.task, 0)
	}
}

// restore makes an agent reachable again: its tasks are what they have become meanwhile.
func (c *cluster) restore(s *slave) {
	if !s.unreachable {
		return
	}
	s.unreachable = false
	if s.back != nil {
		s.back.Stop()
		s.back = nil
	}
	var late []agent.Status
	for _, a := range c.apps {
		for _, i := range slices.Clone(a.instances) {
			if i.slave != s || i.dead {
				continue
			}
			for _, t := range i.timers {
				t.Stop()
			}
			i.timers, i.lostAt, i.condition = nil, stamp{}, "Running"
			for _, p := range i.parts {
				if p.ended {
					continue
				}
				p.state = staging
				if p.pending != nil {
					switch p.pending.State {
					case agent.Running, agent.Starting, staging, killing:
						p.state = string(p.pending.State)
					default:
						late = append(late, *p.pending)
						p.state = running
					}
				}
				if p.state != running {
					i.condition = "Starting"
				}
				p.pending = nil
				c.publishStatus(p, "")
			}
			if i.condition == "Running" {
				if i.started.IsZero() {
					i.started = stamp{time.Now().UTC()}
				}
				c.watch(i)
			}
			c.publishInstance(i, false)
			if i.killing {
				i.killing = false
				c.kill(i, "")
			}
		}
	}
	for _, st := range late {
		c.wg.Go(func() { c.status(st) })
	}
	for _, a := range c.apps {
		c.touch(a)
	}
}
