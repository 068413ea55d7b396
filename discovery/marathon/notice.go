package marathon

import (
	"cmp"
	"time"

	"signalbox"
)

// keyed is the last event of an app that may come in two forms.
type keyed struct {
	key string
	at  time.Time
}

// sameEventWithin is how long after one form of an event the other form says nothing new.
const sameEventWithin = 2 * time.Second

// notice acts on one event.
func (l *loop) notice(n notice, now time.Time) {
	if len(l.keys)+len(l.posted)+len(l.groupAt) > maxJobs {
		clear(l.keys) // at worst an app is read once more
		clear(l.posted)
		clear(l.groupAt)
	}
	cause := n.cause(n.App)
	switch n.Action {
	case actResync:
		l.resyncSoon()
		return
	case actGroup:
		l.groupAt[n.Version] = now
		return
	case actDeployment:
		_, named := l.groupAt[n.Version]
		delete(l.groupAt, n.Version)
		l.expire(now)
		for _, app := range n.Apps {
			l.deploying.set(app, cmp.Or(n.Plan, "unnamed"))
			l.model.explainApp(app)
			if named && now.Sub(l.posted[app]) > sameEventWithin {
				l.want(app, n.At, n.cause(app), now)
			}
		}
		return
	case actDeployed:
		for _, app := range n.Apps {
			l.deploying.set(app, "")
			l.model.explainApp(app)
			l.want(app, n.At, n.cause(app), now)
		}
		return
	case actDrain, actSuspect:
		if l.model.mark(n) {
			state := signalbox.Draining
			if n.Action == actSuspect {
				state = signalbox.Suspect
			}
			l.metrics.drains.WithLabelValues(string(state)).Inc()
			l.publish(cause+" "+n.Why, n.At, now, false)
		}
	case actPod:
		l.model.explainApp(n.App)
		if n.Type == "pod_deleted_event" {
			l.model.proveApp(n.App)
		}
		if !l.sched.want(n.App, true, n.At, cause, now) {
			l.resyncSoon()
		}
		return
	}
	if l.repeated(n, now) {
		return
	}
	switch n.Type {
	case "api_post_event":
		l.posted[n.App] = now
		l.model.explainApp(n.App)
	case "app_terminated_event":
		l.model.explainApp(n.App)
		l.model.proveApp(n.App)
	}
	l.want(n.App, n.At, cause, now)
}

// repeated reports whether an event says what another form of it has just said: a health change comes as two events, and a change of
// an instance follows that of its task.
func (l *loop) repeated(n notice, now time.Time) bool {
	last := l.keys[n.App]
	switch {
	case n.Type == "status_update_event":
		l.keys[n.App] = keyed{"condition", now}
	case n.Key == "":
	case n.Key == last.key && now.Sub(last.at) < sameEventWithin:
		return true
	default:
		l.keys[n.App] = keyed{n.Key, now}
	}
	return false
}

// expire drops what was remembered only to tell repeated events apart.
func (l *loop) expire(now time.Time) {
	for _, m := range []map[string]time.Time{l.groupAt, l.posted} {
		for k, at := range m {
			if now.Sub(at) > time.Minute {
				delete(m, k)
			}
		}
	}
	for k, v := range l.keys {
		if now.Sub(v.at) > time.Minute {
			delete(l.keys, k)
		}
	}
}

func (l *loop) want(app string, event time.Time, cause string, now time.Time) {
	known := l.model.apps[app]
	if !l.sched.want(app, known != nil && known.pod, event, cause, now) {
		l.resyncSoon()
	}
}
