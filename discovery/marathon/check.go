package marathon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// probe is what HAProxy asks of a task in the place of the port that is routed to.
type probe struct {
	check    signalbox.Check
	found    bool   // there is a check that HAProxy can run
	protocol string // as Marathon names it, where there is one
	port     int    // to ask, wherever the task is; 0: that of a port of the app
	of       int    // index of that port
}

// elsewhere says where the check of a port asks, if it asks at another; else "".
func (p *probe) elsewhere(index int) string {
	switch {
	case p.port != 0:
		return fmt.Sprintf("port %d", p.port)
	case p.of != index:
		return fmt.Sprintf("port index %d", p.of)
	}
	return ""
}

// findProbe chooses the check of a port that HAProxy can run itself, as marathon-lb does: the first that names a port of its own,
// whichever that is, or this port by its index. A command leaves HAProxy to connect and no more.
func (a *App) findProbe(mode networking, index int, ports []portSpec) probe {
	for i := range a.HealthChecks {
		h := &a.HealthChecks[i]
		p := probe{of: index, found: true}
		asked := 0
		if h.PortIndex != nil {
			asked = int(*h.PortIndex)
		}
		if h.Port != nil {
			p.port = int(*h.Port)
		}
		if p.port == 0 && asked != index {
			continue
		}
		if p.port != 0 && mode == onBridge && strings.HasPrefix(h.Protocol, "MESOS_") {
			// Mesos asks from within the container, where ports have other numbers than on the agent.
			at := slices.IndexFunc(ports, func(m portSpec) bool { return m.container == p.port })
			if at < 0 {
				continue
			}
			p.of, p.port = at, 0
		}
		c := &p.check
		*c = timing(h.IntervalSeconds, h.TimeoutSeconds, h.MaxFailures)
		switch h.Protocol {
		case "HTTP", "MESOS_HTTP", "":
			if path, ok := checkPath(h.Path); ok {
				c.Kind, c.Path = signalbox.CheckHTTP, path
			}
		case "HTTPS", "MESOS_HTTPS":
			if path, ok := checkPath(h.Path); ok {
				c.Kind, c.Path, c.TLS = signalbox.CheckHTTP, path, true
			}
		case "TCP", "MESOS_TCP":
		default:
			continue
		}
		p.protocol = cmp.Or(h.Protocol, "HTTP")
		return p
	}
	return probe{of: index}
}

// timing returns a check that connects, with Marathon's times and the number of failures after which it would kill the task.
func timing(interval, timeout, failures number) signalbox.Check {
	c := signalbox.Check{Interval: seconds(interval), Timeout: seconds(timeout)}
	if failures > 0 {
		c.Fall = min(int(failures)+1, 100) // Marathon kills at the failure after the last one allowed
	}
	return c
}

// seconds returns a time of a check, at most five minutes; 0 if there is none.
func seconds(n number) time.Duration {
	return time.Duration(min(max(n, 0), 300)) * time.Second
}

// checkPath lets a path and query through that are one word to HAProxy, whatever quotes stand around it.
func checkPath(s string) (string, bool) {
	if s == "" {
		return "/", true
	}
	if s[0] != '/' || len(s) > 1024 {
		return "", false
	}
	if !madeOf(s, "/-._~!&()+,;=:@%?") {
		return "", false
	}
	return s, true
}
