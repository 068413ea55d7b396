package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// searchTime bounds the search for the apps that make a configuration unusable.
const searchTime = 2 * time.Minute

// startSearch looks for the apps without which a configuration is usable, where the check itself names none, among those whose share
// differs from what runs.
func (a *Applier) startSearch(ctx context.Context, of jobResult) {
	ran := a.ran()
	apps := slices.Sorted(maps.Keys(changedApps(ran, of.config)))
	if len(apps) == 0 || a.want == nil {
		return
	}
	config, why := of.config, of.err
	if len(of.verdict.Rejections) > 0 {
		why = errors.New(of.verdict.Rejections[0].Message)
	}
	a.job(searching, func() jobResult {
		ctx, cancel := context.WithTimeout(ctx, searchTime)
		defer cancel()
		r := jobResult{want: of.want, config: config, reason: why}
		r.suspects = search(apps, func(held []string) bool {
			w := newWithheld()
			for _, app := range held {
				w.hold(config, app, "")
			}
			files, err := a.cfg.Render(w.apply(config, ran))
			if err != nil || ctx.Err() != nil {
				return false
			}
			v, err := a.check.Check(ctx, files, false)
			return err == nil && len(v.Rejections) == 0
		})
		return r
	})
}

// ran returns the newest configuration that HAProxy is known to have run, nil for none.
func (a *Applier) ran() *haproxy.Config { return cmp.Or(a.earlier, a.stored) }

// search returns those of apps that have to be held for usable to hold; none if it does not hold without all of them. Of n apps it finds
// a bad one with about 2·log2 n questions.
func search(apps []string, usable func(held []string) bool) (bad []string) {
	if !usable(apps) {
		return nil
	}
	good := map[string]bool{}
	var look func(some []string)
	look = func(some []string) {
		for _, app := range some {
			good[app] = true
		}
		if usable(slices.DeleteFunc(slices.Clone(apps), func(app string) bool { return good[app] })) {
			return
		}
		for _, app := range some {
			delete(good, app)
		}
		if len(some) == 1 {
			bad = append(bad, some[0])
			return
		}
		look(some[:len(some)/2])
		look(some[len(some)/2:])
	}
	look(apps)
	return bad
}

// searched withholds what a search has found.
func (a *Applier) searched(r jobResult) {
	if len(r.suspects) == 0 {
		a.log.Error("no app was found without which HAProxy could use the configuration")
		return // the next try has its time already
	}
	a.suspect(r, "HAProxy can't use what it leads to: "+cut(r.reason.Error(), 300))
	a.retryAt, a.retryWait = time.Time{}, 0
}

// suspect withholds apps whose share of a configuration made it unusable.
func (a *Applier) suspect(r jobResult, why string) {
	for _, app := range r.suspects {
		a.withheld.hold(r.config, app, why)
	}
	a.log.WithField("apps", strings.Join(r.suspects, ", ")).Error(why + "; its last good configuration stays")
	a.effective = a.effect()
	a.tell(Step{Want: r.want, Err: errors.New(why)})
}

// trialTime is for how long a configuration that was loaded is watched: one that HAProxy dies of is taken back.
const trialTime = 20 * time.Second

// trialDeaths is how many deaths of HAProxy within that time are not by chance.
const trialDeaths = 2

// trial is a configuration that was loaded a moment ago, and what was in place before.
type trial struct {
	until   time.Time
	deaths  uint64 // before
	r       jobResult
	before  []File
	earlier *haproxy.Config // what before says
}

// ends counts the deaths of HAProxy, or where somebody else starts it the workers that nobody asked for.
func (a *Applier) ends() uint64 {
	if a.cfg.Supervisor == nil {
		return a.changes
	}
	return a.deaths()
}

// watchTrial takes back what HAProxy has died of more than once.
func (a *Applier) watchTrial(now time.Time) {
	t := a.trial
	switch {
	case t == nil:
	case now.After(t.until):
		a.trial = nil
	case a.ends() >= t.deaths+trialDeaths && a.busy == idle:
		a.trial = nil
		t.r.suspects = slices.Sorted(maps.Keys(changedApps(t.earlier, t.r.config)))
		a.job(takingBack, func() jobResult {
			r := jobResult{want: t.r.want, config: t.r.config, earlier: t.earlier, suspects: t.r.suspects}
			r.publish(a.pub, t.before)
			return r
		})
	}
}

// tookBack goes on without what HAProxy has died of.
func (a *Applier) tookBack(r jobResult) {
	why := fmt.Sprintf("HAProxy ended %d times within %s of loading its configuration", trialDeaths, trialTime)
	if r.err != nil {
		a.fileFailed(why+", and the earlier files could not be put back", r.err)
		return
	}
	a.shapeAt, a.shapeMoved, a.onDisk, a.fileGen = r.publishAt, true, r.earlier, r.fileGen
	a.loaded, a.earlier = r.earlier, r.earlier
	a.lost(errors.New(why))
	a.blame(r, why)
}

// blame withholds the apps for whose sake a configuration was loaded that HAProxy died of. With none to blame, the next try waits longest:
// each one costs a start of HAProxy.
func (a *Applier) blame(r jobResult, why string) {
	if len(r.suspects) > 0 {
		a.suspect(r, why)
		return
	}
	a.retryWait = retryWaitMax
	a.reloadFailed(r, errors.New(why))
}

// hold withholds an app as long as it asks for the same.
func (w *withheld) hold(config *haproxy.Config, app, why string) {
	w.apps[app] = heldApp{shape: shapeOf(config, app), problem: signalbox.Problem{
		Code: "SB401", Severity: signalbox.SeverityError, App: app, Message: why, Action: "its last good configuration stays",
	}}
}
