package devcluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"signalbox/devcluster/agent"
)

type verdict int

const (
	verdictNone verdict = iota // nobody has looked, or nobody will
	verdictGood
	verdictBad
)

// checkState is what is known from one health check about one instance.
type checkState struct {
	seen         bool
	alive        bool
	failures     int // consecutive
	firstSuccess stamp
	lastSuccess  stamp
	lastFailure  stamp
	cause        string
}

// healthy is Marathon's: results there are, and all are good; any that is bad; nothing known.
func (i *instance) healthy() verdict {
	seen := 0
	for _, h := range i.health {
		if h.seen {
			seen++
			if !h.alive {
				return verdictBad
			}
		}
	}
	if seen > 0 && seen == len(i.health) {
		return verdictGood
	}
	return verdictNone
}

// watch starts the checks of an instance that runs.
func (c *cluster) watch(i *instance) {
	for n, h := range i.spec.HealthChecks {
		first := min(seconds(h.Interval), 5*time.Second)
		if fromMesos(h) && h.Delay != nil {
			first = seconds(*h.Delay)
		}
		c.after(i, first, func() { c.check(i, n) })
	}
	if i.app.deploy != nil && len(i.spec.ReadinessChecks) > 0 {
		if i.ready == nil {
			i.ready = &readiness{}
		}
		c.after(i, 0, func() { c.checkReady(i) })
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// fromMesos says whether the agent runs a check, rather than Marathon.
func fromMesos(h healthCheck) bool {
	return h.Protocol == "COMMAND" || strings.HasPrefix(h.Protocol, "MESOS_")
}

// check runs one health check once, and arranges for the next.
func (c *cluster) check(i *instance, n int) {
	h := i.spec.HealthChecks[n]
	p := agent.Probe{Kind: agent.ProbeKind(strings.TrimPrefix(h.Protocol, "MESOS_"))}
	if h.Path != nil {
		p.Path = *h.Path
	}
	if h.Command != nil {
		p.Command = h.Command.Value
	}
	if h.IgnoreHTTP1xx != nil {
		p.IgnoreHTTP1xx = *h.IgnoreHTTP1xx
	}
	p.Port = i.checkedPort(h)
	task := i.parts[0].task
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, max(seconds(h.Timeout), time.Millisecond))
		err := c.agent.Probe(ctx, task, p)
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed || i.dead || i.condition != "Running" && i.condition != "Killing" {
			return
		}
		if !errors.Is(err, agent.ErrNoVerdict) {
			c.verdict(i, n, err)
		}
		c.after(i, max(seconds(h.Interval), 10*time.Millisecond), func() { c.check(i, n) })
	})
}

// checkedPort is the port that a check asks: its own, or that of its index among the task's.
func (i *instance) checkedPort(h healthCheck) int {
	if h.Port != nil {
		return *h.Port
	}
	n := 0
	if h.PortIndex != nil {
		n = *h.PortIndex
	}
	return i.portAt(n)
}

func (i *instance) portAt(n int) int {
	if i.spec.mode() == modeContainer && i.spec.Container != nil && n < len(i.spec.Container.PortMappings) {
		if m := i.spec.Container.PortMappings[n]; m.ContainerPort != 0 {
			return m.ContainerPort
		}
	}
	if n >= 0 && n < len(i.hostPorts) {
		return i.hostPorts[n]
	}
	return 0
}

// verdict takes a check's answer. A failure within the grace period counts for nothing before the first success; the failure
// after as many as the check allows is the one that kills.
func (c *cluster) verdict(i *instance, n int, err error) {
	s, h := i.health[n], i.spec.HealthChecks[n]
	was, seen := s.alive, s.seen
	before := i.healthy()
	now := stamp{time.Now().UTC()}
	s.seen = true
	if err == nil {
		s.alive, s.failures, s.lastSuccess = true, 0, now
		if s.firstSuccess.IsZero() {
			s.firstSuccess = now
		}
	} else {
		s.alive = false
		s.cause = err.Error()
		s.lastFailure = now
		if s.firstSuccess.IsZero() && now.Sub(i.started.Time) < seconds(h.GracePeriod) {
			s.lastFailure, s.cause = stamp{}, ""
		} else {
			c.publishFailedCheck(i, h)
			limit := s.failures >= h.MaxConsecutive && h.MaxConsecutive > 0
			s.failures++
			if limit && i.condition != "Unreachable" {
				c.kill(i, s.cause)
				return
			}
		}
	}
	if was != s.alive || !seen {
		if fromMesos(h) && i.parts[0].state == running {
			c.publishStatus(i.parts[0], "")
		}
		c.publishHealth(i, s.alive)
		if i.healthy() != before {
			c.publishInstanceHealth(i)
		}
		c.touch(i.app)
	}
}

// forgetHealth is what a new leader knows of health: nothing, until its checks have asked.
func (c *cluster) forgetHealth() {
	for _, a := range c.apps {
		for _, i := range a.instances {
			for n := range i.health {
				i.health[n] = &checkState{}
			}
		}
	}
}

// readiness is what a readiness check has said during a deployment.
type readiness struct {
	ready bool
	last  *readyResponse
}

type readyResponse struct {
	Status      int    `json:"status"`
	ContentType string `json:"contentType"`
	Body        string `json:"body"`
}

func (c *cluster) isReady(i *instance) bool {
	return len(i.spec.ReadinessChecks) == 0 || i.app.deploy == nil || i.ready != nil && i.ready.ready ||
		i.ready == nil && i.condition == "Running" && i.started.Before(i.app.deploy.version.Time)
}

func (c *cluster) checkReady(i *instance) {
	r := i.spec.ReadinessChecks[0]
	port := i.portAt(i.spec.portNamed(r.PortName))
	host := i.host
	if i.ip != "" {
		host = i.ip
	}
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, max(seconds(r.Timeout), time.Millisecond))
		resp, err := askReady(ctx, strings.ToLower(r.Protocol), host, port, r.Path)
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed || i.dead || i.ready == nil {
			return
		}
		if err == nil {
			if r.PreserveLastRes {
				i.ready.last = resp
			}
			i.ready.ready = slices.Contains(r.StatusForReady, resp.Status)
		}
		if i.ready.ready {
			c.touch(i.app)
			return
		}
		c.after(i, max(seconds(r.Interval), 10*time.Millisecond), func() { c.checkReady(i) })
	})
}
