package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"signalbox"
	"signalbox/admin"
	"signalbox/discovery"
	"signalbox/haproxy/control"
)

// Bounds of what an operator orders.
const (
	longestHold = 365 * 24 * time.Hour
	missedApps  = 20 // names of one quarantine
)

// errStarting says that there is nothing to give orders about yet.
var errStarting = errors.New("signalbox has just started and waits for the first read of its sources, some seconds at most: try again")

// order is what an operator wants of the definitions. follow carries it out, between two tables.
type order struct {
	cause string
	by    string // "": its time is over
	// decide returns what is to be held, at which definitions. live is what is asked for, routed what is routed.
	decide func(live, routed *signalbox.Table) (holds []signalbox.Hold, frozen *signalbox.Table, err error)
	answer chan answered // capacity 1

	holds  []signalbox.Hold // as decided
	frozen *signalbox.Table
}

// answered is what became of an order.
type answered struct {
	outcome control.Outcome
	warning string
	err     error
}

// operate is what the admin listener may order.
func (c *controller) operate() *admin.Operate {
	return &admin.Operate{
		History: c.pastChanges, Holds: c.holds, Quarantine: c.quarantine, Preview: c.preview,
		Hold: c.orderHold, Release: c.orderRelease, Rollback: c.orderRollback, Accept: c.orderAccept,
	}
}

// pastChanges returns changes that were applied.
func (c *controller) pastChanges(q admin.HistoryQuestion) (admin.History, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.register.flush(ctx)
	out := admin.History{APIVersion: admin.APIVersion, At: time.Now()}
	out.Changes, out.Generation = c.register.history(q)
	if q.Generation != 0 && len(out.Changes) == 0 {
		return out, fmt.Errorf("%w: no change of generation %d is kept", admin.ErrConflict, q.Generation)
	}
	return out, nil
}

// holds returns what is held.
func (c *controller) holds() (admin.Holds, error) {
	return c.holding.view().list(time.Now(), c.applier.Status().Generation), nil
}

// quarantine returns what is held back of the sources.
func (c *controller) quarantine() (admin.Quarantines, error) {
	out := admin.Quarantines{APIVersion: admin.APIVersion, At: time.Now(), Sources: []admin.Quarantine{}}
	for _, q := range c.watcher.Quarantines() {
		a := admin.Quarantine{
			Source: q.Source, Since: q.Since, Reads: q.Reads, Needed: q.Needed, SpanSeconds: q.Span.Seconds(),
			AppsBefore: q.Apps.Before, AppsAfter: q.Apps.After, TasksBefore: q.Tasks.Before, TasksAfter: q.Tasks.After,
			MissingApps: len(q.Missing), MissingTasks: q.MissingTasks, Missing: append([]string{}, q.Missing[:min(len(q.Missing), missedApps)]...),
		}
		a.Lines, a.LineCount = firstLines(signalbox.DiffText(&signalbox.Table{Services: q.Served}, &signalbox.Table{Services: q.Suspected}))
		out.Sources = append(out.Sources, a)
	}
	return out, nil
}

// preview returns what a rollback would change.
func (c *controller) preview(app string, generation uint64) (admin.Rollback, error) {
	view := c.holding.view()
	if view.routed == nil {
		return admin.Rollback{}, errStarting
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.register.flush(ctx)
	app, back, err := c.target(view.live, view.routed, view.holds, app, generation)
	if err != nil {
		return admin.Rollback{}, err
	}
	out := admin.Rollback{
		APIVersion: admin.APIVersion, Generation: c.applier.Status().Generation, To: back.generation, App: app,
		Undone: []admin.Change{}, Apps: []string{}, Unrouted: []string{},
	}
	if back.made != nil {
		out.ToAt = back.made.At
	}
	for _, change := range back.undone {
		if app == "" || slices.Contains(change.Apps, app) {
			out.Undone = append(out.Undone, change)
		}
	}
	frozen, unrouted := replaced(view.routed, back.definitions, app)
	out.Unrouted = append(out.Unrouted, unrouted...)
	after := signalbox.NewHeld(frozen, func(name string) bool { return app == "" || name == app || holdOf(view.holds, name) != nil }).Follow(view.live)
	signalbox.Redefined(view.routed, after.Table, func(old, now *signalbox.Service) {
		if name := cmp.Or(now, old).App; !slices.Contains(out.Apps, name) {
			out.Apps = append(out.Apps, name)
		}
	})
	out.Lines, out.LineCount = firstLines(signalbox.DiffText(view.routed, after.Table))
	return out, nil
}

// target finds the generation that a rollback goes to, and the name of the app that is meant.
func (c *controller) target(live, routed *signalbox.Table, holds []signalbox.Hold, app string, generation uint64) (string, earlier, error) {
	if app != "" {
		known, err := appOfTables(app, routed, live)
		if err == nil {
			app = known
		} // one that is gone may come back
	}
	if h := holdOf(holds, app); generation == 0 && h != nil && h.RolledBack {
		return app, earlier{}, fmt.Errorf("%w: %s is rolled back to generation %d already; say to which one it shall go", admin.ErrConflict, h, h.Generation)
	}
	back, err := c.register.earlier(generation, app)
	if err != nil {
		return app, back, err
	}
	if app != "" && !slices.ContainsFunc(services(back.definitions), func(s *signalbox.Service) bool { return s.App == app }) {
		return app, back, fmt.Errorf("%w: generation %d has no app %s", admin.ErrUnknown, back.generation, app)
	}
	return app, back, nil
}

// appOfTables returns the app under whose id an app is routed: its own, or that of its deployment group. Its error is ErrUnknown.
func appOfTables(app string, tables ...*signalbox.Table) (string, error) {
	for _, t := range tables {
		if found := t.ServicesOf(app); len(found) > 0 {
			return found[0].App, nil
		}
	}
	return app, fmt.Errorf("%w: no app is called %s", admin.ErrUnknown, app)
}

// until returns when a hold ends that lasts for some seconds; zero for none.
func until(now time.Time, seconds float64) (time.Time, error) {
	switch {
	case seconds == 0:
		return time.Time{}, nil
	case !(seconds > 0 && seconds <= longestHold.Seconds()):
		return time.Time{}, fmt.Errorf("%w: a hold lasts for up to %s", admin.ErrQuestion, longestHold)
	}
	return now.Add(time.Duration(seconds * float64(time.Second))), nil
}

// orderHold holds the definitions of an app, or of all.
func (c *controller) orderHold(ctx context.Context, by string, o admin.Order) (admin.Done, error) {
	now := time.Now()
	end, err := until(now, o.ForSeconds)
	if err != nil {
		return admin.Done{}, err
	}
	hold := signalbox.Hold{App: o.App, Since: now, Until: end, Reason: bounded(o.Reason), By: by, Generation: c.applier.Status().Generation}
	return c.give(ctx, by, "hold "+hold.String(), func(live, routed *signalbox.Table) ([]signalbox.Hold, *signalbox.Table, error) {
		held := c.holding.holds
		if hold.App != "" {
			if hold.App, err = appOfTables(hold.App, routed, live); err != nil {
				return nil, nil, err
			}
		}
		if h := holdOf(held, hold.App); h != nil {
			return nil, nil, fmt.Errorf("%w: %s is held already, %s by %s", admin.ErrConflict, h, admin.Ago(h.Since, now), h.By)
		}
		if hold.App == "" {
			held = nil // they are a part of it
		}
		return append(slices.Clone(held), hold), routed, nil
	})
}

// orderRelease ends the hold of an app, or every hold.
func (c *controller) orderRelease(ctx context.Context, by string, o admin.Order) (admin.Done, error) {
	name := cmp.Or(o.App, "everything")
	return c.give(ctx, by, "release "+name, func(live, routed *signalbox.Table) ([]signalbox.Hold, *signalbox.Table, error) {
		held := c.holding.holds
		app := o.App
		if app != "" {
			app, _ = appOfTables(app, routed, live) // one that is held and gone is meant by its own id
		}
		switch {
		case len(held) == 0:
			return nil, nil, fmt.Errorf("%w: nothing is held", admin.ErrConflict)
		case app == "":
			return nil, routed, nil
		case holdOf(held, "") != nil:
			return nil, nil, fmt.Errorf("%w: everything is held, and can be released only as a whole", admin.ErrConflict)
		case holdOf(held, app) == nil:
			return nil, nil, fmt.Errorf("%w: %s is not held", admin.ErrConflict, app)
		}
		return slices.DeleteFunc(slices.Clone(held), func(h signalbox.Hold) bool { return h.App == app }), routed, nil
	})
}

// orderRollback goes back to the definitions of an earlier generation, and holds them.
func (c *controller) orderRollback(ctx context.Context, by string, o admin.Order) (admin.Done, error) {
	now := time.Now()
	end, err := until(now, o.ForSeconds)
	if err != nil {
		return admin.Done{}, err
	}
	c.register.flush(ctx)
	cause := "rollback of " + cmp.Or(o.App, "everything")
	if o.Generation != 0 {
		cause += fmt.Sprintf(" to generation %d", o.Generation)
	}
	return c.give(ctx, by, cause, func(live, routed *signalbox.Table) ([]signalbox.Hold, *signalbox.Table, error) {
		held := c.holding.holds
		app, back, err := c.target(live, routed, held, o.App, o.Generation)
		if err != nil {
			return nil, nil, err
		}
		frozen, _ := replaced(routed, back.definitions, app)
		hold := signalbox.Hold{App: app, Since: now, Until: end, Reason: bounded(o.Reason), By: by, Generation: back.generation, RolledBack: true}
		held = slices.DeleteFunc(slices.Clone(held), func(h signalbox.Hold) bool { return app == "" || h.App == app })
		return append(held, hold), frozen, nil
	})
}

// orderAccept lets a state of a source that is held back pass.
func (c *controller) orderAccept(ctx context.Context, by string, o admin.Order) (admin.Done, error) {
	err := c.watcher.Accept(ctx, o.Source, o.Since, by)
	switch {
	case errors.Is(err, discovery.ErrNoSource):
		return admin.Done{}, fmt.Errorf("%w: %w", admin.ErrUnknown, err)
	case errors.Is(err, discovery.ErrNothingHeld), errors.Is(err, discovery.ErrMoved):
		return admin.Done{}, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	case err != nil:
		return admin.Done{}, err
	}
	return c.done(control.Outcome{Generation: c.applier.Status().Generation}, ""), nil
}

// give hands an order to follow, and waits for what becomes of it.
func (c *controller) give(ctx context.Context, by, cause string,
	decide func(live, routed *signalbox.Table) ([]signalbox.Hold, *signalbox.Table, error),
) (admin.Done, error) {
	o := &order{cause: "operator: " + cause, by: by, decide: decide, answer: make(chan answered, 1)}
	select {
	case c.orders <- o:
	case <-ctx.Done():
		return admin.Done{}, ctx.Err()
	}
	select {
	case a := <-o.answer:
		if a.err != nil {
			c.journal.WithField("by", by).WithField("order", cause).WithError(a.err).Warn("an order is not carried out")
			return admin.Done{}, a.err
		}
		return c.done(a.outcome, a.warning), nil
	case <-ctx.Done():
		return admin.Done{}, ctx.Err()
	}
}

func (c *controller) done(o control.Outcome, warning string) admin.Done {
	d := admin.Done{
		APIVersion: admin.APIVersion, Generation: o.Generation, Commands: o.Commands, Reloaded: o.Reloaded, TookSeconds: o.Took.Seconds(),
		Holds: append([]signalbox.Hold{}, c.holding.view().holds...), Warning: warning,
	}
	for _, r := range o.Reasons {
		d.Reasons = append(d.Reasons, string(r))
	}
	return d
}

// carry decides an order. It reports whether it is to be carried out; whoever gave one that is not has the answer.
func (c *controller) carry(o *order, live, routed *signalbox.Table) bool {
	err := errStarting
	if live != nil {
		o.holds, o.frozen, err = o.decide(live, routed)
	}
	if err != nil {
		o.answer <- answered{err: err}
		return false
	}
	c.holding.set(o.holds, o.frozen)
	c.journal.WithField("by", cmp.Or(o.by, "signalbox")).Warn(o.cause)
	return true
}

// keepHolds makes what an order holds survive a restart, and returns why it does not, or "".
func (c *controller) keepHolds(ctx context.Context, given *order) string {
	if given == nil {
		return ""
	}
	if err := c.register.hold(ctx, given.holds, given.frozen); err != nil {
		return "it will not survive a restart of signalbox: " + err.Error()
	}
	return ""
}

// orderer returns who gave an order; nil is given by nobody.
func (o *order) orderer() string {
	if o == nil {
		return ""
	}
	return o.by
}

// answered tells whoever gave an order what became of it.
func (o *order) answered(outcome control.Outcome, warning string, err error) {
	switch {
	case o == nil:
		return
	case errors.Is(err, control.ErrSuperseded):
		err = nil // what took its place has it
	case err != nil:
		err = fmt.Errorf("it holds, and HAProxy does not do it yet: %w", err)
	}
	o.answer <- answered{outcome, warning, err}
}

// expiry returns the order that ends the holds whose time is over, nil if there is none.
func (c *controller) expiry(now time.Time) *order {
	rest, over := c.holding.expired(now)
	if len(over) == 0 {
		return nil
	}
	return &order{
		cause: heldText(over) + " has ended by its time", answer: make(chan answered, 1),
		decide: func(_, routed *signalbox.Table) ([]signalbox.Hold, *signalbox.Table, error) { return rest, routed, nil },
	}
}
