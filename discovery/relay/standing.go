package relay

import (
	"fmt"
	"time"

	"signalbox/discovery"
)

// role returns what this controller does now.
func (l *loop) role() Role {
	switch {
	case l.pub != nil:
		return Leads
	case l.stopDirect != nil && !l.stopping:
		return Alone
	case l.place.generation > 0:
		return Follows
	}
	return Waits
}

// note makes how this controller fares known.
func (l *loop) note(now time.Time) {
	st := Standing{Role: l.role(), Generation: l.place.generation, Moved: l.moved}
	if l.head != nil {
		st.Leader = l.head.Leader
	}
	if l.pub != nil {
		st.Leader = l.cfg.Node
	}
	l.mu.Lock()
	l.standing = st
	l.mu.Unlock()
	if st.Role == l.loggedRole {
		return
	}
	l.loggedRole = st.Role
	switch st.Role {
	case Leads:
		l.log.Info("this controller leads the relay: it reads for the fleet")
	case Follows:
		l.log.WithField("leader", st.Leader).Info("this controller follows the relay")
	case Alone:
		l.log.Warn("this controller is on its own: " + l.useless(now))
	}
	l.report()
}

// useless says why the relay is of no use, and for how long.
func (l *loop) useless(now time.Time) string {
	since, _ := l.stale(now)
	text := fmt.Sprintf("the relay is stale for %s", now.Sub(since).Round(time.Second))
	if l.trouble != "" {
		text += " (" + l.trouble + ")"
	}
	return text
}

// healthNow returns the health that goes with an update.
func (l *loop) healthNow(now time.Time) discovery.Health {
	h := l.health
	switch l.role() {
	case Leads:
		h.Detail = fmt.Sprintf("leads the relay, generation %d, published %s ago", l.place.generation, now.Sub(l.toldAt).Round(time.Second))
		if l.tellErr != "" {
			h.Err = "leads the relay, and can't publish: " + l.tellErr
		}
	case Alone:
		text := "on its own: " + l.useless(now)
		if h.Err != "" {
			text += "; " + h.Err
		}
		h.Err = text
	case Follows:
		h = discovery.Health{Connected: true, Endpoint: l.cfg.Store.String(), LastEvent: l.moved}
		leader := "nobody"
		if l.head != nil {
			leader = l.head.Leader
			if !l.head.Read.IsZero() {
				h.LastRead = l.moved.Add(-max(l.head.Now.Sub(l.head.Read), 0))
			}
			if l.head.Err != "" {
				h.Err = fmt.Sprintf("the leader %s can't read: %s", leader, l.head.Err)
			}
		}
		h.Detail = fmt.Sprintf("follows %s, generation %d, %s old", leader, l.place.generation, now.Sub(l.moved).Round(time.Second))
		if _, is := l.stale(now); is {
			h.Err = l.useless(now)
		}
	default:
		h = discovery.Health{Endpoint: l.cfg.Store.String(), Err: "waiting for the relay"}
		if l.trouble != "" {
			h.Err += ": " + l.trouble
		}
	}
	return h
}
