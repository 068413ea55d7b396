package control

import (
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// leaving is a task in a server of a backend that its service has left: by its end, or for another backend.
type leaving struct {
	service signalbox.ServiceID
	serves  bool // the task has a server elsewhere: what it has begun goes on, and ends with its drain there
	moved   bool // it did once
	taken   bool // another service has the backend
}

// serves reports whether time does not count yet: the task goes on elsewhere.
func (d *drain) serves() bool { return d.left != nil && d.left.serves }

// leave notes the tasks of the backends whose service has left them between two states that ran.
func (d drains) leave(was, c *haproxy.Config, now time.Time) {
	if was == nil || was == c {
		return
	}
	to := c.Backends
	for _, b := range was.Backends {
		for len(to) > 0 && to[0].Name < b.Name {
			to = to[1:]
		}
		if b.Retired || len(to) > 0 && to[0].Name == b.Name && (to[0] == b || !to[0].Retired && to[0].Service == b.Service) {
			continue
		}
		for _, s := range b.Slots {
			if s.Task == "" {
				continue
			}
			k := drained{b.Name, s.Name, s.Task, s.Addr}
			known := d[k]
			if known == nil {
				known = &drain{since: now}
				d[k] = known
			}
			if !known.cut {
				known.left = &leaving{service: b.Service}
			}
		}
	}
}

// leftBefore notes what servers show of tasks that left before this controller started: HAProxy keeps the address of a free server.
func (d drains) leftBefore(c *haproxy.Config, at map[string]signalbox.ServiceID, servers []ServerState, now time.Time) {
	known := make(map[string]bool)
	for k, one := range d {
		if one.left != nil {
			known[k.backend] = true
		}
	}
	for _, st := range servers {
		if st.Admin != haproxy.Maint || !st.Addr.IsValid() || st.Addr.Port() == 0 || known[st.Backend] {
			continue
		}
		b := c.Backend(st.Backend)
		if b == nil || !b.Retired || !b.Resting || b.Service == "" || at[b.Name] == b.Service {
			continue
		}
		d[drained{backend: st.Backend, server: st.Name, addr: st.Addr}] = &drain{since: now, left: &leaving{service: b.Service}}
	}
}

// followLeft takes in what has become of the tasks that left a backend: their time begins when they serve nowhere any more.
func (d drains) followLeft(c *haproxy.Config, now time.Time) {
	services := make(map[signalbox.ServiceID]*haproxy.Backend)
	for _, one := range d {
		if one.left != nil {
			services[one.left.service] = nil
		}
	}
	if len(services) == 0 {
		return
	}
	for _, b := range c.Backends {
		if _, asked := services[b.Service]; asked && !b.Retired {
			services[b.Service] = b
		}
	}
	for k, one := range d {
		if one.left == nil {
			continue
		}
		if b := c.Backend(k.backend); b != nil && !b.Retired {
			if b.Service == one.left.service { // it has come back
				delete(d, k)
				continue
			}
			one.left.taken = true
		}
		serves, over := d.serving(services[one.left.service], k)
		switch {
		case over:
			delete(d, k) // what it has here is cut with what it has there
		case serves:
			one.left.serves, one.left.moved, one.over = true, true, false
		case one.left.serves:
			one.left.serves, one.since = false, now
		}
	}
}

// serving reports whether a task has a server in b, which may be nil, or has had its time there.
func (d drains) serving(b *haproxy.Backend, k drained) (serves, over bool) {
	if b == nil {
		return false, false
	}
	for _, s := range b.Slots {
		if s.Task != "" && s.Addr == k.addr && (s.Task == k.task || k.task == "") {
			one := d[drained{b.Name, s.Name, s.Task, s.Addr}]
			over = one != nil && one.over
			return !over, over
		}
	}
	return false, false
}

// rested forgets the tasks that nothing is on its way to, and that serve elsewhere.
func (d drains) rested(backend string) {
	for k, one := range d {
		if k.backend == backend && one.serves() {
			delete(d, k)
		}
	}
}
