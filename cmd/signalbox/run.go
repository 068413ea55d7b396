package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"signalbox"
	"signalbox/discovery"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// newRunCommand returns the verb that a machine's service manager runs.
func newRunCommand(p *program) *cobra.Command {
	s := defaults()
	cmd := &cobra.Command{
		Use:   "run",
		Short: "The controller of this machine",
		Long: `Watches Marathon, and Consul if asked to, keeps this machine's HAProxy in step, and counts every request out of HAProxy's access log.

It starts an HAProxy of its own (--haproxy supervise) or drives one that systemd started (--haproxy attach). An outage of Marathon
changes nothing about the routes, across a restart too: the last good state is kept in --state-dir.`,
		Example: `  signalbox run --marathon http://10.0.0.1:8080,http://10.0.0.2:8080
  SIGNALBOX_MARATHON=http://10.0.0.1:8080 SIGNALBOX_HTTP_BIND=:8000 signalbox run`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.validate(); err != nil {
				return &exitError{code: exitUsage, err: err, try: "signalbox config"}
			}
			j, err := newJournal(p.stderr, s.LogLevel, s.LogFormat)
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			if s.derived, err = p.env.derived(); err != nil {
				return err
			}
			c, err := newController(&s, j, lifetime{grace: 10 * time.Second})
			if err != nil {
				return err
			}
			collectEarly(os.Getenv("GOGC"))
			j.WithField("version", version()).Info("signalbox starts")
			if path := c.admin.TokenMade(); path != "" {
				j.Infof("made a token for the admin listener in %s", path)
			}
			err = c.run(cmd.Context())
			j.Info("signalbox ends")
			return err
		},
	}
	addSettings(cmd.Flags(), &s)
	return cmd
}

// collectEarly has garbage collected once it is half of what is in use, unless the environment says another share: that takes a third of the
// memory of a machine with thousands of apps away, and costs a few milliseconds of CPU for each change.
func collectEarly(environment string) {
	if environment == "" {
		debug.SetGCPercent(50)
	}
}

// newController wires a controller, and opens its sockets. Whoever does not call run calls close.
func newController(s *settings, j *journal, life lifetime) (*controller, error) {
	c := &controller{settings: s, journal: j, started: time.Now(), problems: newProblemLog(j), chronicle: newChronicle(), holding: &holding{}, orders: make(chan *order)}
	c.problems.told = c.chronicle.problem
	dir := s.haproxyDir()
	for _, d := range []string{s.StateDir, dir} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("making the state directory: %w", err), try: "--state-dir with a directory that this user may write to"}
		}
	}
	if err := admit(s.HAProxyGroup, s.StateDir, dir); err != nil {
		return nil, err
	}
	if err := c.hideSecrets(); err != nil {
		return nil, err
	}
	c.register = newRegister(filepath.Join(s.StateDir, "register"), j.WithField("room", "register"))
	sources, collectors, err := c.sources() // Marathon, Consul, a file → Source
	if err != nil {
		return nil, err
	}
	c.watch(sources)                             // → Watcher → Table
	if err := c.haproxy(dir, life); err != nil { // → Build → Applier → HAProxy
		return nil, err
	}
	if err := c.accessLog(); err != nil { // → Receiver → Aggregator → Snapshot
		return nil, err
	}
	if err := c.push(); err != nil { // → sinks, hubs
		return nil, err
	}
	if err := c.takeStatsD(); err != nil { // services → StatsD
		return nil, err
	}
	if err := c.answer(collectors); err != nil { // → /metrics, /health, verbs
		return nil, err
	}
	return c, nil
}

// admit lets a group pass through directories that not everybody may pass through: a HAProxy that has changed to it opens sockets there,
// that of the log and those by which it hands connections over to itself.
func admit(group string, dirs ...string) error {
	gid, err := groupID(group)
	if err != nil || gid < 0 {
		return err
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 != 0 {
			continue // whoever needs it says what is wrong with it
		}
		if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, info.Mode().Perm()|0o010)); err != nil {
			return &exitError{code: exitUsage, err: fmt.Errorf("letting --haproxy-group into the directory: %w", err), try: "signalbox run as root, or as a member of that group"}
		}
	}
	return nil
}

// run runs everything until ctx ends or a part fails. What produces ends before what consumes: the deciding parts first, then
// HAProxy, whose last words the log path still counts.
func (c *controller) run(ctx context.Context) error {
	defer c.close()
	logs := stage(ctx, c.receiver.Run, "receiving the access log")
	running, err := c.applier.Recover(ctx)
	if err != nil {
		c.journal.WithError(err).Warn("the running HAProxy could not be read back; it is told everything anew")
	}
	c.register.resumed(c.applier.Status().Generation)
	process := &part{}
	if c.supervisor != nil {
		process = stage(ctx, c.supervisor.Run, "supervising HAProxy")
	}
	kept := stage(ctx, c.oldWorkers.Run, "keeping old workers")
	written := stage(ctx, c.register.Run, "writing down changes")
	fed := &part{}
	if c.options.LogPulled {
		fed = stage(ctx, c.feed.Run, "reading the access log")
	}

	pushed := &part{}
	if len(c.settings.Sinks) > 0 {
		pushed = stage(ctx, c.sinks.Run, "pushing to sinks")
	}

	gathered := &part{}
	if len(c.settings.Hub) > 0 {
		gathered = stage(ctx, c.hubs.Run, "pushing to hubs")
	}

	taken := &part{}
	if len(c.settings.StatsD) > 0 {
		taken = stage(ctx, c.statsd.Run, "taking StatsD")
	}

	changes := make(chan *discovery.Change)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.watcher.Run(ctx, changes) })
	g.Go(func() error { c.follow(ctx, running, changes); return nil })
	g.Go(func() error { return c.certificates.Run(ctx, readEvery) })
	g.Go(func() error { return c.given.Run(ctx, readEvery) })
	g.Go(func() error { return c.applier.Run(ctx) })
	g.Go(func() error { return c.admin.Run(ctx) })
	g.Go(func() error { return c.scrape.Run(ctx) })
	g.Go(func() error { c.account(ctx); return nil })
	g.Go(func() error { c.recent.run(ctx, sampleEvery); return nil })
	g.Go(func() error { c.alive(ctx); return nil })
	for _, p := range []*part{logs, process, kept, fed, written, pushed, gathered, taken} {
		g.Go(func() error { return p.guard(ctx) })
	}
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, written.end(), process.end(), fed.end(), kept.end(), logs.end(), pushed.end(), gathered.end(), taken.end())
}

// storedWait is for how long a HAProxy that runs already goes on unchanged, before what an earlier run has stored is applied to it.
const storedWait = 5 * time.Second

// follow turns each table into what HAProxy should do. It never waits for HAProxy: what comes during a reload, a death above all, goes
// over the socket at once.
func (c *controller) follow(ctx context.Context, running *haproxy.Config, changes <-chan *discovery.Change) {
	var applying sync.WaitGroup
	defer applying.Wait()
	prev := running
	var live, table *signalbox.Table // what is asked for, and what is routed: less what an operator holds
	c.holding.set(c.register.stored())
	var stored *discovery.Change
	var storedIsDue <-chan time.Time
	options, nearby := c.options, c.options.Nearby()
	for {
		var change *discovery.Change
		var given *order
		var ends <-chan time.Time
		if wait, some := c.holding.wait(time.Now()); some && live != nil {
			ends = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case change = <-changes:
			if change.Stored && running != nil {
				// What runs may be newer than what was stored: a read is worth waiting for.
				stored, storedIsDue = change, time.After(storedWait)
				continue
			}
		case <-storedIsDue:
			change = stored
		case <-c.certificates.Changed():
		case <-c.given.Changed():
		case given = <-c.orders:
		case <-ends:
			given = c.expiry(time.Now())
			if given == nil {
				continue
			}
		}
		switch {
		case given != nil:
			if !c.carry(given, live, table) {
				continue
			}
			change = &discovery.Change{Table: live, Cause: given.cause}
		case change == nil: // it is what the operator gives that has changed
			options = c.renew(options)
			if c.wanted.Load() == nil || storedIsDue != nil {
				continue // the next table comes with it
			}
			change = &discovery.Change{Table: live, Cause: "files of the operator"}
		}
		storedIsDue = nil
		now := time.Now()
		before := table
		live, table = change.Table, c.holding.routed(change.Table)
		was := cmp.Or(before, &signalbox.Table{})
		feedHistory(c.history, was, table, nearby, now)
		apps := c.chronicle.follow(now, was, table)
		leaves := takesOut(was, table)
		prev = haproxy.Build(table, options, prev.Rested(c.applier.Rested()))
		if c.taking != nil {
			c.taking(ctx, prev)
		}
		c.wanted.Store(prev)
		c.register.submitted(submission{want: prev, cause: change.Cause, by: given.orderer(), event: change.Event, at: now, from: before, to: table})
		wait := c.applier.Submit(prev)
		applying.Go(func() { c.applied(ctx, change, given, apps, leaves, wait) })
	}
}

// renew returns options with what the operator gives now.
func (c *controller) renew(options *haproxy.Options) *haproxy.Options {
	fresh := *options
	fresh.Certificates = c.certificates.List()
	c.given.Put(&fresh)
	c.current.Store(&fresh)
	return &fresh
}

// applied waits until HAProxy does what follows from a change of some apps, and answers whoever ordered it. leaves says that a
// task begins to drain with it.
func (c *controller) applied(ctx context.Context, change *discovery.Change, given *order, apps []string, leaves bool, wait func(context.Context) (control.Outcome, error)) {
	warning := c.keepHolds(ctx, given)
	outcome, err := wait(ctx)
	given.answered(outcome, warning, err)
	if err == nil && outcome.Reloaded {
		c.chronicle.reloaded(time.Now(), apps, outcome.Generation, reasonText(outcome.Reasons))
	}
	if leaves && !change.Event.IsZero() && !outcome.Told.IsZero() {
		c.rotation.Observe(outcome.Told.Sub(change.Event).Seconds())
	}
	switch {
	case ctx.Err() != nil, errors.Is(err, control.ErrSuperseded):
	case err != nil:
		c.journal.WithError(err).Error("applying a change")
	case !change.Event.IsZero():
		c.latency.Observe(time.Since(change.Event).Seconds())
	}
}
