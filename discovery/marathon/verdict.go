package marathon

import (
	"time"

	"signalbox"
)

// Health says how several health checks of one task make one verdict.
type Health string

// The ways of judging. HealthAll is the default.
const (
	HealthAll Health = "all" // every check passes
	HealthAny Health = "any" // one check passes, as marathon-lb has it
)

// opinion is what the checks of one task say at one moment.
type opinion int

const (
	unasked opinion = iota // the app has no checks
	silent                 // checks exist, and some say nothing yet
	passing
	starting // a check does not pass yet, and its grace period still runs
	failing
)

// opinion judges the results that one read shows, without regard to earlier ones.
func (a *App) opinion(t *Task, h Health) opinion {
	if len(a.HealthChecks) == 0 {
		return unasked
	}
	pass, fail, grace := 0, 0, 0
	for _, r := range t.HealthResults {
		switch {
		case r.Alive == nil:
		case *r.Alive:
			pass++
		case r.ConsecutiveFailures == 0:
			grace++
		default:
			fail++
		}
	}
	switch {
	case h == HealthAny && pass > 0:
		return passing
	case h != HealthAny && fail > 0:
		return failing
	case grace > 0:
		return starting
	case pass+fail < len(a.HealthChecks):
		return silent
	case fail > 0:
		return failing
	}
	return passing
}

// Verdicts returns, for each task that this read judges, whether it is alive: what to remember for the time when Marathon, after
// a change of its leader, knows nothing.
func (a *App) Verdicts(h Health) map[string]bool {
	verdicts := make(map[string]bool, len(a.Tasks))
	for i := range a.Tasks {
		t := &a.Tasks[i]
		if t.presence() != running {
			continue
		}
		switch a.opinion(t, h) {
		case passing:
			verdicts[t.ID] = true
		case failing:
			verdicts[t.ID] = false
		}
	}
	return verdicts
}

// state decides what a task that may be routed to is worth, and why. ok is false for a task that takes no part.
func (a *App) state(t *Task, o *Options) (state signalbox.State, why string, ok bool) {
	switch t.presence() {
	case absent:
		return "", "", false
	case dying:
		return signalbox.Draining, "it is being killed", true
	case lost:
		return signalbox.Suspect, "its agent does not answer (" + printableWord(t.State) + ")", true
	case unheardOf:
		return signalbox.Suspect, "its state is unknown here (" + printableWord(t.State) + ")", true
	}
	state, why = judge(a.opinion(t, o.Health), t.ID, o)
	if state == signalbox.Up || state == signalbox.Unknown {
		if !a.ready(t, o.Now) {
			return signalbox.Down, "its readiness check has not passed", true
		}
	}
	return state, why, true
}

// judge turns an opinion into a state. Where Marathon has none, the last verdict stands; without one HAProxy's own check decides.
func judge(op opinion, task string, o *Options) (signalbox.State, string) {
	alive, known := false, false
	if o.Verdict != nil && (op == silent || op == starting) {
		alive, known = o.Verdict(task)
	}
	switch {
	case op == failing:
		return signalbox.Down, "its health check fails"
	case op == unasked || op == passing || known && alive:
		return signalbox.Up, ""
	case op == starting:
		return signalbox.Down, "its health check has not passed yet"
	case known:
		return signalbox.Down, "its health check failed when it was last heard of"
	}
	return signalbox.Unknown, "Marathon has no verdict on its health"
}

// ready reports whether a task may take traffic during a deployment. A task without a result is ready once it is older than a
// check could take: it is one of those that were there before.
func (a *App) ready(t *Task, now time.Time) bool {
	if len(a.ReadinessChecks) == 0 || len(a.Deployments) == 0 {
		return true
	}
	for _, r := range a.ReadinessResults {
		if r.TaskID == t.ID {
			return r.Ready
		}
	}
	started, err := time.Parse(time.RFC3339Nano, t.StartedAt)
	if err != nil {
		return false
	}
	timeout := 10 * time.Second
	for _, c := range a.ReadinessChecks {
		if c.TimeoutSeconds > 0 {
			timeout = max(timeout, time.Duration(c.TimeoutSeconds)*time.Second)
		}
	}
	return now.Sub(started) > timeout+5*time.Second
}
