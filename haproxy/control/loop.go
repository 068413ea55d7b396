package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// state is what the loop knows. Only the goroutine of Run touches it.
type state struct {
	want      *haproxy.Config // as handed over
	effective *haproxy.Config // want less what is withheld
	seq       uint64          // of want
	waiters   []*waiter

	worker  Worker           // whose state running is
	loaded  *haproxy.Config  // the configuration, for its shape, that worker loaded; nil when unknown
	stored  *haproxy.Config  // what an earlier run has persisted, nil for nothing
	running *haproxy.Config  // acknowledged state of worker; nil when unknown
	earlier *haproxy.Config  // the last running that was known
	reasons []haproxy.Reason // why a reload is due now
	forced  []haproxy.Reason // those that no comparison takes back
	refused uint64           // seq of the want whose commands were refused; they are not sent again

	onDisk     *haproxy.Config // what the published files say; nil when unknown
	shapeAt    moment          // when the published shape last changed
	shapeMoved bool            // the published shape is not that of loaded, because a reload failed
	keepDue    bool            // what is loaded could not be kept as the last good
	behind     time.Time       // since when the file differs from running; zero: it does not
	fileAt     time.Time       // of the last write
	fileWait   time.Duration   // least time between two writes, because the last one failed
	fileErr    error           // of the last write, or of keeping the last good files or the state
	stateAt    time.Time       // of the last write of the persisted state
	unchecked  bool            // the published files were never checked as they are
	checkAt    time.Time
	checkCPU   time.Duration // of the last check
	auditAt    time.Time

	certs       knownCertificates // what worker is known to have
	certChanges uint64            // of Certificates, when the worker last had them all
	certAt      time.Time         // of the last look at them
	certFor     *haproxy.Config   // for which that was

	busy      jobKind
	holdUntil time.Time // while it reloads: until when what opens something waits for the new worker; zero: it does not
	done      chan jobResult
	retryAt   time.Time // no reload before
	retryWait time.Duration
	failure   error     // of the last reload, while retryWait is not zero
	connectAt time.Time // no connection attempt before
	linkWait  time.Duration
	budget    budget
	lastTry   time.Time

	rest      rest
	withheld  withheld
	drains    drains
	trial     *trial // nil: nothing was loaded a moment ago
	changes   uint64 // of the worker, without a reload of ours
	recovered bool
	gen       uint64 // of the running state
	savedGen  uint64 // gen, as it was last persisted
	fileGen   uint64 // of the published files
	own       string // cause of the next step, where that is none of a.want; or ""
}

func newState(s Settings) state {
	return state{done: make(chan jobResult, 1), budget: newBudget(s.ReloadBurst, s.ReloadRefill), withheld: newWithheld(), drains: drains{}, gen: s.Generation}
}

const (
	linkWaitMin  = 20 * time.Millisecond
	linkWaitMax  = time.Second
	retryWaitMin = time.Second
	retryWaitMax = time.Minute
	fileWaitMax  = 10 * time.Second
	tick         = 100 * time.Millisecond
)

// Run applies what it is given until ctx ends. On return the files and the persisted state say what runs; HAProxy goes on.
func (a *Applier) Run(ctx context.Context) error {
	if !a.recovered {
		if _, err := a.Recover(ctx); err != nil {
			a.log.WithError(err).Warn("the earlier state is not used")
		}
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	defer a.rt.Close()
	for {
		a.converge(ctx)
		a.background(ctx)
		a.publishStatus()
		select {
		case <-ctx.Done():
			a.finish()
			return nil
		case <-a.mail:
			a.take()
		case to := <-a.ask:
			a.give(to)
		case r := <-a.done:
			a.ended(ctx, r)
		case <-ticker.C:
			if a.running != nil && a.busy != reloading && !a.rt.Alive() {
				a.lost(errors.New("HAProxy closed the connection"))
			}
			a.watchTrial(time.Now())
			if a.drains.expire(time.Now(), a.cfg.Drain) {
				a.effective = a.effect()
			}
			a.askRest(ctx)
			if a.withheld.expired(time.Now()) {
				a.effective = a.effect()
			}
		}
	}
}

// take moves what was handed over into the loop.
func (a *Applier) take() {
	a.mu.Lock()
	want, seq, waiters := a.box.want, a.box.seq, a.box.waiters
	a.box.waiters = nil
	a.mu.Unlock()
	a.waiters = append(a.waiters, waiters...)
	if seq == a.seq {
		return
	}
	a.want, a.seq = want, seq
	a.effective = a.effect()
}

// converge does all that can be done at once: connect, read back, send commands.
func (a *Applier) converge(ctx context.Context) {
	if a.effective == nil {
		return
	}
	a.reasons = slices.Clone(a.forced)
	if a.running == nil && !a.attach(ctx) {
		a.reasons = slices.Clone(a.forced)
		return
	}
	a.reasons = slices.Clone(a.forced)
	if a.running == a.effective {
		a.settle(a.seq, nil)
		return
	}
	began := time.Now()
	plan := a.cfg.Diff(a.running, a.effective)
	a.reasons = merge(a.reasons, plan.Reasons)
	if a.mustWait(plan) {
		a.end(ctx, began)
		return
	}
	if len(plan.Commands) > 0 {
		if a.refused == a.seq && len(a.forced) > 0 {
			return // until the reload, or until something else is wanted
		}
		if !a.send(ctx, plan, began) {
			a.reasons = merge(a.reasons, a.forced)
			return
		}
	}
	done := len(plan.Reasons) == 0
	switch {
	case done && len(plan.Left) == 0:
		a.setRunning(a.effective)
		a.tell(Step{Want: a.want, Commands: len(plan.Commands), Done: true})
	case len(plan.Commands) > 0:
		a.setRunning(haproxy.Applied(a.running, a.effective)) // what could be done without the reload, and before what was left is emptied
		a.tell(Step{Want: a.want, Commands: len(plan.Commands), Done: done})
	case !a.running.SameCertificates(a.effective):
		if c := haproxy.Applied(a.running, a.effective); c.SameCertificates(a.effective) {
			a.setRunning(c) // they are put in without the reload
		}
	}
	if done {
		a.settle(a.seq, nil)
	}
	if a.empty(ctx, plan.Left) && done && len(a.cfg.Diff(a.running, a.effective).Left) == 0 {
		a.setRunning(a.effective)
	}
}

// end tells the worker what ends, when all the rest waits for the next one.
func (a *Applier) end(ctx context.Context, began time.Time) {
	ends := haproxy.Ending(a.running, a.effective)
	if ends != a.running && a.send(ctx, a.cfg.Diff(a.running, ends), began) {
		a.setRunning(ends)
	}
}

// force asks for a reload that no comparison takes back.
func (a *Applier) force(r haproxy.Reason) { a.forced = merge(a.forced, []haproxy.Reason{r}) }

// unforce takes reasons back.
func (a *Applier) unforce(rs ...haproxy.Reason) {
	a.forced = slices.DeleteFunc(a.forced, func(r haproxy.Reason) bool { return slices.Contains(rs, r) })
}

// send sends a plan's commands and reports whether all were accepted.
func (a *Applier) send(ctx context.Context, plan haproxy.Plan, began time.Time) bool {
	n, err := a.batch(ctx, plan.Commands)
	for _, w := range a.waiters {
		w.out.Commands += n
	}
	a.mu.Lock()
	a.status.Updates += uint64(n)
	a.mu.Unlock()
	if err == nil {
		a.met.applySeconds.Observe(time.Since(began).Seconds())
		for _, w := range a.waiters {
			if w.out.Told.IsZero() {
				w.out.Told = time.Now()
			}
		}
		a.gen++
		a.log.WithFields(map[string]any{
			"generation": a.gen, "commands": n, "first": plan.Commands[0].Text, "why": plan.Commands[0].Why,
			"took": time.Since(began).Round(time.Microsecond).String(),
		}).Debug("applied over the runtime socket")
		return true
	}
	if a.busy == reloading && isStopping(err) {
		return false // the worker has just been replaced; the new one is told what differs
	}
	a.met.commands.WithLabelValues("refused").Inc()
	a.log.WithError(err).Error("a runtime command was not accepted")
	var unexpected *UnexpectedError
	if !errors.As(err, &unexpected) && !errors.Is(err, ErrCommand) {
		a.lost(err)
		return false
	}
	a.force(ReasonUnexpected)
	a.refused = a.seq
	a.refresh(ctx, a.loaded)
	return false
}

// batch gives the worker commands, and returns how many it accepted.
func (a *Applier) batch(ctx context.Context, commands []haproxy.Command) (accepted int, err error) {
	texts := make([]string, len(commands))
	for i, c := range commands {
		texts[i] = c.Text
	}
	accepted, err = a.rt.Batch(ctx, a.worker, texts)
	a.met.commands.WithLabelValues("accepted").Add(float64(accepted))
	return accepted, err
}

// refresh reads back what runs, on the shape of base.
func (a *Applier) refresh(ctx context.Context, base *haproxy.Config) bool {
	act, err := a.observe(ctx, a.rt, a.worker, base)
	if err != nil {
		a.lost(err)
		return false
	}
	cfg, _, err := readBack(base, a.effective, act)
	if err != nil {
		a.log.WithError(err).Error("the running state is not what it should be")
		a.loaded, a.running = nil, nil
		a.force(ReasonShape)
		return false
	}
	cfg = owned(cfg, a.effective)
	a.setRunning(cfg)
	a.drains.leftBefore(cfg, a.rest.at, act.servers, time.Now())
	a.drains.follow(cfg, act.servers, time.Now())
	return true
}

// lost forgets the running state: it has to be read again.
func (a *Applier) lost(err error) {
	if a.running != nil {
		a.log.WithError(err).Warn("lost the connection to HAProxy")
	}
	a.rt.Close()
	a.running = nil
	a.connectAt = time.Now().Add(linkWaitMin)
	a.linkWait = linkWaitMin
}

// attach connects to whichever worker runs and reads back its state. It reports whether running is known.
func (a *Applier) attach(ctx context.Context) bool {
	if a.busy == reloading || time.Now().Before(a.connectAt) {
		return false
	}
	info, err := a.rt.Connect(ctx)
	if err != nil {
		a.linkWait = min(max(2*a.linkWait, linkWaitMin), linkWaitMax)
		a.connectAt = time.Now().Add(a.linkWait)
		// With files of the wanted shape in place, whoever supervises HAProxy brings it back.
		if a.onDisk == nil || len(a.cfg.Diff(a.onDisk, a.effective).Reasons) > 0 {
			a.force(ReasonStart)
		}
		if isGone(err) && a.linkWait == linkWaitMax {
			_, merr := a.master.Proc(ctx)
			if isGone(merr) {
				_, merr = a.masterOf(a.worker.PID)
			}
			if merr == nil {
				a.log.WithError(err).Error("HAProxy runs, and its runtime socket is gone")
				a.force(ReasonSocket)
			}
		}
		return false
	}
	w := info.Worker()
	if w != a.worker || a.loaded == nil {
		if w != a.worker && a.worker != (Worker{}) {
			a.met.workersChanged.Inc()
			a.changes++
			a.own = CauseWorker
			a.log.WithField("pid", w.PID).Warn("HAProxy has another worker than before")
		}
		a.loaded = a.loadedBy(info)
		a.worker, a.certs, a.certAt = w, knownCertificates{}, time.Time{}
	}
	a.mu.Lock()
	a.status.PID, a.status.Version = info.PID, info.Version
	a.mu.Unlock()
	if a.loaded == nil {
		a.force(ReasonUnknown)
		return false
	}
	if !a.refresh(ctx, a.loaded) {
		return false
	}
	a.linkWait = 0
	a.unforce(ReasonStart, ReasonUnknown, ReasonShape, ReasonSocket)
	return true
}

// loadedBy returns the configuration that a worker loaded that we did not start: the published one, if the worker is younger than
// its shape. A worker's start is known to the second only, so within that second nothing is certain.
func (a *Applier) loadedBy(info Info) *haproxy.Config {
	if a.onDisk == nil || !a.shapeAt.before(info.began()) {
		return nil
	}
	return a.onDisk
}

func (a *Applier) setRunning(c *haproxy.Config) {
	a.drains.leave(a.earlier, c, time.Now())
	a.running, a.earlier = c, c
	a.met.drains.WithLabelValues("finished").Add(float64(a.drains.follow(c, nil, time.Now())))
	a.forgetRest()
	if a.onDisk == c {
		a.behind = time.Time{}
	} else if a.behind.IsZero() {
		a.behind = time.Now()
	}
	a.mu.Lock()
	a.public = c
	a.status.AppliedAt = time.Now()
	a.mu.Unlock()
}

// settle tells those who wait for the configuration numbered upTo, or an earlier one, what became of it. Whoever is told finds it in the status.
func (a *Applier) settle(upTo uint64, err error) {
	if len(a.waiters) == 0 {
		return
	}
	a.publishStatus()
	waiters := a.waiters
	a.waiters = nil
	for _, w := range waiters {
		if w.seq > upTo {
			a.waiters = append(a.waiters, w)
			continue
		}
		w.out.Generation, w.out.Took, w.out.Problems = a.gen, time.Since(w.since), a.withheld.problems()
		w.done <- applied{w.out, err}
	}
}

func merge(into, more []haproxy.Reason) []haproxy.Reason {
	for _, r := range more {
		if !slices.Contains(into, r) {
			into = append(into, r)
		}
	}
	return into
}

// publishStatus makes what the loop knows visible.
func (a *Applier) publishStatus() {
	problems := a.withheld.problems()
	withheld := len(problems)
	problems = append(problems, a.budget.problems()...)
	slices.SortFunc(problems, signalbox.Problem.Compare)
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.status
	s.Generation, s.FileGeneration = a.gen, a.fileGen
	s.FileBehind = 0
	if !a.behind.IsZero() {
		s.FileBehind = time.Since(a.behind)
	}
	a.problems = problems
	if a.running == nil {
		a.public = nil
	}
	switch {
	case a.running == nil && a.worker == (Worker{}):
		s.Level, s.Detail = signalbox.Failing, "HAProxy does not run yet"
	case a.running == nil && a.busy != reloading:
		s.Level, s.Detail = signalbox.Failing, "HAProxy's state is not known"
	case a.retryWait > 0:
		s.Level, s.Detail = signalbox.Degraded, fmt.Sprintf("the last reload failed: %s; the earlier configuration runs; next try in %s",
			cut(a.failure.Error(), 300), max(0, time.Until(a.retryAt)).Round(time.Second))
	case a.fileErr != nil:
		s.Level, s.Detail = signalbox.Degraded, fmt.Sprintf("the files are behind what runs, for %s: %s",
			s.FileBehind.Round(time.Second), cut(a.fileErr.Error(), 300))
	case withheld > 0: // which costs these, and no machine
		s.Level, s.Detail = signalbox.OK, fmt.Sprintf("%d apps or ports are withheld", withheld)
	default:
		s.Level, s.Detail = signalbox.OK, ""
	}
	a.met.appsLate.Set(float64(len(a.budget.late)))
	a.met.fileBehind.Set(s.FileBehind.Seconds())
}

// isStopping reports whether a command failed because the worker is leaving: its backends take no orders any more.
func isStopping(err error) bool {
	var unexpected *UnexpectedError
	return errors.As(err, &unexpected) && strings.Contains(unexpected.Answer, "Proxy is disabled")
}
