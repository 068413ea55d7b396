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

// jobKind is slow work that is done beside the loop, one job at a time.
type jobKind string

const (
	idle       jobKind = ""
	following  jobKind = "file"
	checking   jobKind = "check"
	reloading  jobKind = "reload"
	retaining  jobKind = "last good"
	auditing   jobKind = "audit"
	renewing   jobKind = "certificates"
	searching  jobKind = "search"
	takingBack jobKind = "taking back"
	cuttingOff jobKind = "drains"
)

type jobResult struct {
	kind    jobKind
	want    *haproxy.Config // what was wanted when a reload began
	seq     uint64          // of want
	config  *haproxy.Config // rendered
	newer   bool            // config is not what was checked: commands have changed it since
	files   []File
	verdict Verdict
	err     error

	published bool // at least one file was replaced
	publishAt moment
	fileGen   uint64         // of the published files, if published
	occupied  map[int]string // ports of new listeners that can't be bound, and why
	proc      Proc
	masterErr error // of an audit: the master did not answer
	diffs     []difference
	actual    *haproxy.Config // config as it really runs
	worker    Worker
	unstarted bool             // the files are in place and nobody started HAProxy
	putBack   bool             // the earlier files are in place again
	started   bool             // HAProxy was started, not reloaded
	saved     uint64           // the generation of the running state that was persisted; 0: none was
	then      func() jobResult // what is to be kept of a reload, done beside the loop; nil: nothing
	took      time.Duration

	died     bool            // HAProxy died meanwhile
	before   []File          // what was in place before
	earlier  *haproxy.Config // what before says
	suspects []string        // apps that make config unusable
	reason   error           // what it was unusable for

	certs    knownCertificates // what worker has
	changes  uint64            // of Certificates, before
	renewed  []string          // certificates that were put in
	relisted int               // lines of their list that were added or taken away

	cut []cutting
}

// checkPause is how many times the CPU time of a check has to pass before a background one: they take a thousandth of a core.
const checkPause = 1000

// background starts the most urgent slow work that is due.
func (a *Applier) background(ctx context.Context) {
	if len(a.reasons) == 0 {
		clear(a.budget.late)
		if a.running != nil && a.running == a.effective {
			a.retryWait, a.retryAt = 0, time.Time{} // what could not be loaded is not wanted any more
		}
	}
	if a.busy != idle {
		return
	}
	now := time.Now()
	switch {
	case len(a.reasons) > 0 && a.effective != nil && a.mayReload(now):
		a.startReload(ctx, now)
	case len(a.drains) > 0 && len(a.drains.uncut(a.running)) > 0:
		tasks := a.drains.uncut(a.running)
		a.job(cuttingOff, func() jobResult { return a.cutSessions(ctx, tasks) })
	case a.renewDue(now):
		a.startRenew(ctx, now)
	case a.running != nil && (a.onDisk != a.running || a.shapeMoved) && now.Sub(a.fileAt) >= max(a.cfg.FileInterval, a.fileWait):
		a.fileAt = now
		a.startFollow()
	case a.unchecked && a.onDisk != nil && now.Sub(a.checkAt) >= max(a.cfg.CheckInterval, checkPause*a.checkCPU):
		a.checkAt = now
		config := a.onDisk
		a.job(checking, func() jobResult { return a.checkFiles(ctx, config) })
	case a.running != nil && now.Sub(a.auditAt) >= a.cfg.AuditInterval:
		a.auditAt = now
		config, worker := a.running, a.worker
		a.job(auditing, func() jobResult { return a.audit(ctx, config, worker) })
	}
}

func (a *Applier) job(kind jobKind, do func() jobResult) {
	a.busy = kind
	began := time.Now()
	go func() {
		r := do()
		r.kind, r.took = kind, time.Since(began)
		a.done <- r
		if r.then != nil {
			k := r.then()
			k.kind, k.took = retaining, time.Since(began)-r.took
			a.done <- k
		}
	}()
}

// mayReload holds reloads to their interval and budget.
func (a *Applier) mayReload(now time.Time) bool {
	if now.Before(a.retryAt) || now.Sub(a.lastTry) < a.cfg.ReloadInterval {
		return false
	}
	waited := len(a.budget.late) > 0
	ok := a.budget.take(now, askers(a.running, a.effective, a.reasons))
	if !ok && !waited && len(a.budget.late) > 0 {
		a.log.WithField("apps", slices.Sorted(maps.Keys(a.budget.late))).Warn("the last reloads were all for these apps; their next one waits")
	}
	return ok
}

func (a *Applier) startReload(ctx context.Context, now time.Time) {
	a.lastTry = now
	begun, loaded, gen := order{a.want, a.effective, a.seq}, a.loaded, a.gen+1
	a.holdUntil = time.Time{}
	a.log.WithField("reasons", a.reasons).Info("reloading HAProxy")
	if a.cfg.Loads != nil {
		a.cfg.Loads(now)
	}
	a.job(reloading, func() jobResult {
		ctx, cancel := context.WithTimeout(ctx, a.cfg.ReloadTimeout)
		defer cancel()
		return a.reload(a.whileItLives(ctx), begun, loaded, gen)
	})
}

func (a *Applier) startFollow() {
	config := a.running
	var p *persisted
	if a.shapeMoved || a.gen-a.savedGen >= signalbox.GenerationStep/2 || time.Since(a.stateAt) >= a.cfg.StateInterval {
		p = a.persist(config)
	}
	moved, keep := a.shapeMoved, a.keepDue
	a.job(following, func() jobResult { return a.follow(config, p, moved, keep) })
}

// follow writes the files of what runs, and the state unless p is nil. moved says that files of another shape are in place, keep that
// these are to be the last good ones, which could not be kept when they were loaded.
func (a *Applier) follow(config *haproxy.Config, p *persisted, moved, keep bool) jobResult {
	r := jobResult{config: config}
	if r.files, r.err = a.cfg.Render(config); r.err != nil {
		return r
	}
	r.publish(a.pub, r.files) // a worker that started before may have read the earlier shape
	if r.err == nil && keep {
		r.err = a.pub.Keep()
	}
	if r.err != nil || p == nil {
		return r
	}
	if moved {
		p.ShapeAt = r.publishAt
	}
	if r.err = a.writeState(*p); r.err == nil {
		r.saved = p.Generation
	}
	return r
}

func (a *Applier) checkFiles(ctx context.Context, config *haproxy.Config) jobResult {
	r := jobResult{config: config}
	if r.files, r.err = a.cfg.Render(config); r.err != nil {
		return r
	}
	r.verdict, r.err = a.check.Check(ctx, r.files, true)
	return r
}

// ended notes that a job is over, but for what is to be kept of it.
func (a *Applier) ended(ctx context.Context, r jobResult) {
	a.busy = idle
	if r.then != nil {
		a.busy = retaining
	}
	a.finished(ctx, r)
}

// finished takes in what a job led to.
func (a *Applier) finished(ctx context.Context, r jobResult) {
	switch {
	case r.verdict.Took > 0:
		result := "accepted"
		if len(r.verdict.Rejections) > 0 {
			result = "rejected"
		}
		a.met.checks.WithLabelValues(result).Inc()
		a.checkAt, a.checkCPU = time.Now(), r.verdict.CPU
	case errors.Is(r.err, ErrCheckTime):
		a.met.checks.WithLabelValues("timeout").Inc()
	case errors.Is(r.err, ErrNoVerdict):
		a.met.checks.WithLabelValues("failed").Inc()
	}
	for _, w := range r.verdict.Warnings {
		a.log.WithField("from", "haproxy -c").Debug(w)
	}
	switch r.kind {
	case following:
		a.followed(r)
	case checking:
		if r.err != nil {
			a.log.WithError(r.err).Warn("the published files could not be checked")
			return
		}
		a.unchecked = a.onDisk != r.config
		if len(r.verdict.Rejections) > 0 {
			a.rejected(ctx, r)
		}
	case reloading:
		a.reloaded(ctx, r)
	case retaining:
		a.kept(r)
	case auditing:
		a.audited(r)
	case renewing:
		a.renewed(r)
	case cuttingOff:
		a.wasCut(r)
	case searching:
		a.searched(r)
	case takingBack:
		a.tookBack(r)
	}
}

func (a *Applier) followed(r jobResult) {
	if r.err != nil {
		a.fileFailed("the file does not follow the running state", r.err)
		a.fileWait = min(max(2*a.fileWait, a.cfg.FileInterval), fileWaitMax)
		a.onDisk = nil
		return
	}
	a.fileErr, a.fileWait, a.fileGen, a.keepDue = nil, 0, r.fileGen, false
	if a.shapeMoved {
		a.shapeMoved, a.shapeAt = false, r.publishAt
	}
	a.wrote(r.config)
	if r.saved > 0 {
		a.stateAt, a.savedGen = time.Now(), r.saved
	}
}

// wrote notes what the published files say now.
func (a *Applier) wrote(config *haproxy.Config) {
	a.onDisk, a.unchecked, a.behind = config, true, time.Time{}
	if a.running != config {
		a.behind = time.Now()
	}
}

func (a *Applier) reloaded(ctx context.Context, r jobResult) {
	reasons := a.reasons
	count := func(result string) {
		for _, reason := range reasons {
			a.met.reloads.WithLabelValues(string(reason), result).Inc()
		}
		if result != "done" {
			a.met.reloadFailures.WithLabelValues(result).Inc()
		}
	}
	earlier := cmp.Or(a.onDisk, a.loaded)
	if r.published {
		// Files that nothing has loaded yet are as good as any; files that a running HAProxy refused have to go.
		a.shapeAt, a.shapeMoved, a.fileGen = r.publishAt, r.err != nil && (!r.unstarted || r.putBack), r.fileGen
		switch {
		case !a.shapeMoved:
			a.onDisk = r.config
		case !r.putBack:
			a.onDisk = nil
		}
	}
	switch {
	case len(r.verdict.Rejections) > 0:
		count("rejected")
		a.rejected(ctx, r)
		return
	case len(r.occupied) > 0:
		count("occupied")
		for port, why := range r.occupied {
			a.withheld.port(r.config, port, why, time.Now())
			a.log.WithField("port", port).Error("a service port " + why + "; it is left out for now")
		}
		a.effective = a.effect()
		a.tell(Step{Want: r.want})
		return
	case r.err != nil && r.died:
		count("failed")
		r.suspects = askers(a.ran(), r.config, reasons)
		a.blame(r, "HAProxy ended when it loaded the configuration")
		return
	case r.err != nil:
		count("failed")
		again := a.retryWait > 0
		a.reloadFailed(r, r.err)
		if again && errors.Is(r.err, ErrNoVerdict) {
			a.startSearch(ctx, r)
		}
		return
	}
	count("done")
	if len(r.before) > 0 && a.loaded != nil {
		a.trial = &trial{
			until: time.Now().Add(trialTime), deaths: a.ends(), before: r.before, earlier: earlier,
			r: jobResult{want: r.want, config: r.config},
		}
	}
	a.met.reloadSeconds.Observe(r.took.Seconds())
	a.retryWait, a.retryAt = 0, time.Time{}
	a.rt.Close()
	a.worker, a.loaded, a.certs, a.certAt = r.worker, r.config, knownCertificates{}, time.Time{}
	a.reasons, a.forced, a.refused, a.unchecked = nil, nil, 0, r.newer
	a.withheld.accepted()
	a.gen++
	was := a.earlier
	a.setRunning(r.config)
	a.loadedAtRest()
	a.behind = time.Time{}
	a.completeReload(ctx, was, r.config)
	a.tell(Step{Want: r.want, Reloaded: true, Reasons: reasons, Done: a.want == r.want && a.effective == r.config})
	a.auditAt = time.Now().Add(time.Second - a.cfg.AuditInterval) // soon
	for _, w := range a.waiters {
		w.out.Reloaded, w.out.Reasons = true, merge(w.out.Reasons, reasons)
	}
	a.mu.Lock()
	a.status.PID, a.status.Version, a.status.OldWorkers = r.worker.PID, r.proc.Version, len(r.proc.Old)
	a.status.LastReload, a.status.ReloadReason = time.Now(), join(reasons)
	a.status.Reloads++
	a.mu.Unlock()
	a.met.oldWorkers.Set(float64(len(r.proc.Old)))
	a.log.WithFields(map[string]any{
		"generation": a.gen, "reasons": join(reasons), "pid": r.worker.PID, "started": r.started, "old_workers": len(r.proc.Old),
		"took": r.took.Round(time.Millisecond).String(),
	}).Info("HAProxy runs the new configuration")
	a.stateAt, a.fileErr, a.fileWait = time.Now(), nil, 0
}

// kept takes in what became of the last good files and of the state after a reload.
func (a *Applier) kept(r jobResult) {
	if r.err != nil {
		a.fileFailed("the last good files or the state are not kept", r.err)
		a.shapeMoved, a.keepDue = true, true
		return
	}
	a.savedGen = r.saved
}

// fileFailed notes that something is not on disk as it should be.
func (a *Applier) fileFailed(what string, err error) {
	a.fileErr = err
	a.met.fileErrors.Inc()
	a.log.WithError(err).Error(what)
}

// completeReload tells a new worker what the file can't say. If that fails, the next comparison finds the difference.
func (a *Applier) completeReload(ctx context.Context, was, now *haproxy.Config) {
	if _, err := a.rt.Connect(ctx); err != nil {
		a.lost(err)
		return
	}
	commands := haproxy.AfterReload(was, now)
	if len(commands) == 0 {
		return
	}
	if _, err := a.batch(ctx, commands); err != nil {
		a.met.commands.WithLabelValues("refused").Inc()
		a.log.WithError(err).Error("the new worker did not accept what the file can't say")
		a.lost(err)
	}
}

// reloadFailed tells those who wait for what was tried, or for what came before it. Who waits for something newer goes on waiting.
func (a *Applier) reloadFailed(r jobResult, err error) {
	a.retryWait = min(max(2*a.retryWait, retryWaitMin), retryWaitMax)
	a.retryAt, a.failure = time.Now().Add(a.retryWait), err
	a.log.WithError(err).WithField("again_in", a.retryWait.String()).Error("the reload failed; the earlier configuration goes on")
	a.tell(Step{Want: r.want, Err: err})
	a.settle(r.seq, fmt.Errorf("reloading HAProxy: %w", err))
}

// rejected withholds what a check complained about and tries again without it.
func (a *Applier) rejected(ctx context.Context, r jobResult) {
	for _, rej := range r.verdict.Rejections {
		a.log.WithField("from", "haproxy -c").Error(rej.String())
	}
	if r.kind == checking {
		a.own = CauseCheck
	}
	if a.want != nil && a.withheld.reject(r, a.cfg.AppAt) {
		a.effective = a.effect()
		if !r.verdict.Known {
			a.lastTry = time.Time{} // nothing was reloaded
		}
		a.tell(Step{Want: r.want, Err: rejection(r)})
		return
	}
	a.reloadFailed(r, rejection(r))
	if r.kind == reloading {
		a.startSearch(ctx, r)
	}
}

// audit compares what runs with the model, over a connection of its own: at 20,000 servers that takes a while.
func (a *Applier) audit(ctx context.Context, config *haproxy.Config, worker Worker) jobResult {
	r := jobResult{config: config, worker: worker}
	rt := NewRuntime(a.cfg.StatsSocket)
	defer rt.Close()
	act, err := a.observe(ctx, rt, worker, config)
	if err != nil {
		r.err = err
		return r
	}
	r.actual, r.diffs, r.err = readBack(config, config, act)
	r.proc, r.masterErr = a.master.Proc(ctx)
	return r
}

// audited takes in an audit. What differs becomes the running state, so the next comparison repairs it. An audit during which
// something was changed says nothing, and is repeated.
func (a *Applier) audited(r jobResult) {
	if isGone(r.masterErr) {
		a.log.WithError(r.masterErr).Error("audit: HAProxy's master socket is gone")
		a.force(ReasonSocket)
	}
	if r.proc.Master != 0 {
		a.met.oldWorkers.Set(float64(len(r.proc.Old)))
		a.mu.Lock()
		a.status.OldWorkers = len(r.proc.Old)
		a.mu.Unlock()
	}
	if a.running != r.config || a.worker != r.worker {
		a.auditAt = time.Now().Add(time.Second - a.cfg.AuditInterval)
		return
	}
	a.met.audits.Inc()
	for _, m := range r.config.Maps() {
		a.met.repairs.WithLabelValues(kindOf(m)) // from 0
	}
	switch {
	case errors.Is(r.err, errShape):
		a.met.repairs.WithLabelValues("shape").Inc()
		a.log.WithError(r.err).Error("audit: the running state is not what it should be")
		a.loaded, a.running = nil, nil
		a.force(ReasonShape)
		a.own = CauseAudit
	case r.err != nil:
		a.lost(fmt.Errorf("audit: %w", r.err))
	case len(r.diffs) > 0:
		for i, d := range r.diffs {
			a.met.repairs.WithLabelValues(d.kind).Inc()
			if i < 20 {
				a.log.WithField("kind", d.kind).Warn("audit: " + d.what)
			}
		}
		a.setRunning(r.actual)
		a.own = CauseAudit
	}
}

// rejection is what a check says of a configuration.
func rejection(r jobResult) error {
	return fmt.Errorf("the check rejects it: %s", r.verdict.Rejections[0])
}

func join(reasons []haproxy.Reason) string {
	words := make([]string, len(reasons))
	for i, r := range reasons {
		words[i] = string(r)
	}
	return strings.Join(words, ", ")
}
