package main

import (
	"sync"

	"signalbox/haproxy"
)

// responses are answers by class of status codes, as HAProxy counts them.
type responses = [6]uint64

// tenants attribute to services what HAProxy's backends count: one that was left is another service's after a while, and a service that
// moves has counted in several. A backend counts nothing between its rest and its next service, so that what it has counted when it is
// taken is exactly what those before have had. Safe for concurrent use.
type tenants struct {
	mu   sync.Mutex
	pid  int               // of the worker that counts; 0: none was asked yet
	lost bool              // it could not be asked when it mattered
	now  map[string]tenant // by backend
	past map[string]responses
}

// tenant is the service that has a backend, or had it last.
type tenant struct {
	service string
	base    responses // what those before have counted
}

// take notes who has the backends of next. It is called before HAProxy is told of next, with what the backends of a worker have counted.
func (t *tenants) take(next *haproxy.Config, pid int, counted map[string]responses) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.meet(pid)
	t.lost = t.lost || pid == 0 && t.pid != 0
	for _, b := range next.Backends {
		was, known := t.now[b.Name]
		if b.Retired || known && was.service == string(b.Service) {
			continue
		}
		if known {
			t.past[was.service] = plus(t.past[was.service], minus(counted[b.Name], was.base))
		}
		t.now[b.Name] = tenant{string(b.Service), counted[b.Name]}
	}
}

// meet begins with a worker that was not known, which counts from nothing.
func (t *tenants) meet(pid int) {
	if t.now == nil {
		t.now, t.past = map[string]tenant{}, map[string]responses{}
	}
	if pid == 0 || t.pid == pid {
		return
	}
	t.pid, t.lost, t.past = pid, false, map[string]responses{}
	for name, was := range t.now {
		t.now[name] = tenant{service: was.service}
	}
}

// counts returns what each service has been answered by a worker whose backends have counted so much; nil if that is not known.
func (t *tenants) counts(pid int, counted map[string]responses) map[string]responses {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.meet(pid); t.lost {
		return nil
	}
	out := map[string]responses{}
	for service, n := range t.past {
		out[service] = n
	}
	for name, who := range t.now {
		out[who.service] = plus(out[who.service], minus(counted[name], who.base))
	}
	return out
}

func plus(a, b responses) responses {
	for i, n := range b {
		a[i] += n
	}
	return a
}

func minus(a, b responses) responses {
	for i, n := range b {
		a[i] -= min(a[i], n)
	}
	return a
}
