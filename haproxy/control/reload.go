package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"signalbox/haproxy"
)

// reload renders, checks, publishes, makes HAProxy load the files and proves it. Ports are looked at first: one that nobody can bind is
// tried again and again, and a check costs more than all of them. What was changed over the runtime socket meanwhile is in the files that
// HAProxy loads: its new worker must not forget it. gen is the generation that the running state is to have.
func (a *Applier) reload(ctx context.Context, begun order, loaded *haproxy.Config, gen uint64) (r jobResult) {
	config := begun.config
	r.want, r.config, r.seq = begun.want, config, begun.seq
	_, masterErr := a.proc(ctx)
	if errors.Is(masterErr, ErrMasterDeaf) {
		r.err = masterErr
		return r
	}
	if masterErr != nil {
		if masterErr = a.reopenMaster(ctx, masterErr); errors.Is(masterErr, ErrMasterDeaf) {
			r.err = masterErr
			return r
		}
	}
	if loaded != nil || masterErr != nil {
		if r.occupied = occupied(config, loaded); len(r.occupied) > 0 {
			return r
		}
	}
	if r.files, r.err = a.cfg.Render(config); r.err != nil {
		r.err = fmt.Errorf("rendering: %w", r.err)
		return r
	}
	r.verdict, r.err = a.check.Check(ctx, r.files, false)
	if len(r.verdict.Rejections) > 0 && !r.verdict.Known {
		a.persistRejections()
	}
	if r.err != nil || len(r.verdict.Rejections) > 0 {
		return r
	}
	newest := a.newest(ctx, begun)
	if r.want, r.config, r.seq = newest.want, newest.config, newest.seq; r.config != config {
		// No check: what commands can change can break no file.
		if r.files, r.err = a.cfg.Render(r.config); r.err != nil {
			r.err = fmt.Errorf("rendering: %w", r.err)
			return r
		}
		r.newer = true
	}
	if r.err = a.pub.write(markName, []byte("reloading\n")); r.err != nil {
		return r
	}
	before, deaths := a.pub.current(), a.deaths()
	if masterErr == nil {
		r.err = a.reopenStats(ctx, r.files)
	}
	if r.err == nil {
		r.publish(a.pub, r.files)
	} else {
		r.publishAt, r.published = thisMoment(), true
	}
	if r.err == nil {
		a.load(ctx, &r, masterErr)
	}
	if r.err != nil {
		// What HAProxy refused, or died of, must not be what it is started with next. Files that nothing has tried are as good as any.
		r.died = a.deaths() != deaths
		if len(before) > 0 && (!r.unstarted || r.died) {
			why := r.err
			r.publish(a.pub, before)
			r.putBack, r.err = r.err == nil, errors.Join(why, r.err)
		}
		return r
	}
	r.before = before
	// The new worker does not wait for the disk until it is told what has changed since.
	state := persisted{Generation: gen, Template: a.template, Worker: r.worker, ShapeAt: r.publishAt, Config: r.config}
	r.then = func() (k jobResult) {
		if k.err = errors.Join(a.pub.Keep(), a.writeState(state)); k.err == nil {
			k.saved = gen
		}
		return k
	}
	return r
}

// order is what a reload is to bring about.
type order struct {
	want   *haproxy.Config // what was handed over
	config *haproxy.Config // what becomes of it: less what is withheld
	seq    uint64          // of want
}

// newest returns the order with all that can be changed without a reload as it is wanted by now. What is wanted later waits for the new
// worker, if a client could miss it there.
func (a *Applier) newest(ctx context.Context, begun order) order {
	answer := make(chan order, 1)
	select {
	case a.ask <- answer:
		now := <-answer
		config := haproxy.Applied(begun.config, now.config)
		if config == now.config {
			return now
		}
		return order{begun.want, config, begun.seq}
	case <-ctx.Done():
		return begun
	}
}

// holdMax bounds how long something waits for a new worker.
const holdMax = 5 * time.Second

// give answers a reload that asks what is wanted by now.
func (a *Applier) give(to chan<- order) {
	a.holdUntil = time.Now().Add(holdMax)
	to <- order{a.want, a.effective, a.seq}
}

// mustWait reports whether a plan has to wait for the worker that is about to come: that one has not heard of what it opens, and whoever
// has been answered once would find it gone.
func (a *Applier) mustWait(plan haproxy.Plan) bool {
	return plan.Opens && a.busy == reloading && time.Now().Before(a.holdUntil)
}

// publish puts files in place, and notes when.
func (r *jobResult) publish(p *Publisher, files []File) {
	_, r.err = p.Publish(files)
	r.publishAt, r.published, r.fileGen = thisMoment(), true, p.generation
}

// load makes HAProxy load what is published, and proves it.
func (a *Applier) load(ctx context.Context, r *jobResult, masterErr error) {
	if masterErr == nil {
		r.proc, r.err = a.master.Reload(ctx)
	} else {
		r.started = true
		starts := a.starts()
		r.proc, r.err = a.start(ctx, masterErr)
		r.unstarted = r.err != nil
		if r.err == nil && a.starts() == starts {
			// It began to start before the files were in place, so it may have read the earlier ones.
			r.proc, r.err = a.master.Reload(ctx)
		}
	}
	if r.err == nil {
		r.worker, r.err = a.meet(ctx, r.proc.Workers[0].PID)
	}
}

// ErrMasterDeaf says that HAProxy's master lives, and does not answer.
var ErrMasterDeaf = errors.New("HAProxy's master does not answer")

// deafAfter is how many times a master that is there may miss its time to answer: one with a large configuration that just begins is
// not deaf.
const deafAfter = 4

// proc asks for the processes. The error is ErrMasterDeaf if there is a master that does not answer, else there is none.
func (a *Applier) proc(ctx context.Context) (p Proc, err error) {
	for range deafAfter {
		p, err = a.master.Proc(ctx)
		if err == nil || isGone(err) || ctx.Err() != nil {
			return p, err
		}
	}
	return p, fmt.Errorf("%w: %w", ErrMasterDeaf, err)
}

// deaths counts the unwanted ends of the supervised HAProxy.
func (a *Applier) deaths() uint64 {
	if a.cfg.Supervisor == nil {
		return 0
	}
	return a.cfg.Supervisor.deaths.Load()
}

// starts counts the starts of the supervised HAProxy.
func (a *Applier) starts() uint64 {
	if a.cfg.Supervisor == nil {
		return 0
	}
	return a.cfg.Supervisor.starts.Load()
}

// start lets the supervisor start HAProxy, or waits a little for whoever else does.
func (a *Applier) start(ctx context.Context, why error) (Proc, error) {
	if a.cfg.Supervisor != nil {
		a.cfg.Supervisor.Allow()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
	}
	for {
		p, err := a.master.Proc(ctx)
		if err == nil && len(p.Workers) > 0 {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return Proc{}, fmt.Errorf("HAProxy does not run: %w", why)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// meet waits until the worker pid answers at the stats socket: until then an older one may.
func (a *Applier) meet(ctx context.Context, pid int) (Worker, error) {
	for {
		rt := NewRuntime(a.cfg.StatsSocket)
		info, err := rt.Connect(ctx)
		rt.Close()
		if err == nil && info.PID == pid {
			return info.Worker(), nil
		}
		if err == nil {
			err = fmt.Errorf("pid %d answers instead of %d", info.PID, pid)
		}
		select {
		case <-ctx.Done():
			return Worker{}, fmt.Errorf("%w: %w", ErrReloadUnproven, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// whileItLives returns a context that also ends when the supervised HAProxy does: nothing is to be proven of the dead.
func (a *Applier) whileItLives(ctx context.Context) context.Context {
	s := a.cfg.Supervisor
	if s == nil {
		return ctx
	}
	deaths := s.deaths.Load()
	live, end := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-live.Done():
				return
			case <-tick.C:
				if s.deaths.Load() != deaths {
					end(errors.New("HAProxy ended meanwhile"))
					return
				}
			}
		}
	}()
	return live
}

// Free returns an error if another process listens where the entries of HAProxy are to be. HAProxy would not fail: it shares a port
// with any other HAProxy, silently.
func Free(o *haproxy.Options) error {
	var errs []error
	for _, bind := range o.Addresses() {
		network := "tcp"
		if host, _, err := net.SplitHostPort(bind); err == nil && (host == "" || host == "*") {
			network, bind = "tcp4", strings.TrimPrefix(bind, "*")
		}
		ln, err := net.Listen(network, bind)
		switch {
		case err == nil:
			_ = ln.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			errs = append(errs, fmt.Errorf("another process listens at %s", bind))
		}
	}
	return errors.Join(errs...)
}

// occupied returns why each listener that is not in loaded could not be bound. HAProxy itself would find out only after it had paused
// the running worker's listeners.
func occupied(config, loaded *haproxy.Config) map[int]string {
	out := map[int]string{}
	for _, l := range config.Listeners {
		same, ours := holds(loaded, l)
		if same {
			continue
		}
		host := ""
		switch {
		case l.Address.IsValid():
			host = l.Address.String()
		case config.Options != nil && config.Options.ServiceBind != "*":
			host = config.Options.ServiceBind
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(l.Port)))
		switch {
		case err == nil:
			_ = ln.Close()
		case errors.Is(err, syscall.EADDRINUSE) && !ours:
			out[l.Port] = "is held by another process"
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			out[l.Port] = "is to listen on " + host + ", which is no address of this machine"
		}
	}
	return out
}

// holds reports whether HAProxy listens already as l says, and whether it has l's port on any address: nobody can tell then whether
// somebody else has it too.
func holds(loaded *haproxy.Config, l *haproxy.Listener) (same, port bool) {
	if loaded == nil {
		return false, false
	}
	if loaded.Options != nil && loaded.Options.ServicePorts.Has(l.Port) {
		same, port = !l.Address.IsValid(), true
	}
	for _, o := range loaded.Listeners {
		if o.Port == l.Port {
			same, port = o.Address == l.Address, true
		}
	}
	return same, port
}
