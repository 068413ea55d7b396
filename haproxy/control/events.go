package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// OldWorkers keeps a connection to every worker from before a reload until the last of its clients is gone, and hands over what
// its ring holds. That does two things. HAProxy 2.6 cuts a ring off from its server when the process is told to stop, so what the
// old worker serves from then on stands in the ring only; and a process with an open connection to its command line does not end, so
// nothing of it is lost. A worker stays for at most two rounds longer than without this; hard-stop-after bounds it all the same.
type OldWorkers struct {
	// StatsSocket is asked for the worker of the day. Stopping workers no longer listen there, and keep the connections they have.
	StatsSocket string
	// Master reaches old workers that are not held, because they are older than this program or went too soon: what they log is read
	// as long as they live, and they are not kept. nil: they are left alone.
	Master *Master
	// Ring is the name of the ring with the access log.
	Ring string
	// Take gets all that the ring of a stopping worker holds, one line per message, the oldest first, and may keep it. It is called
	// again when more may have come, and for the last time with all set: the worker has served its last client. A worker that
	// ends by force has no such last time. It is called by one goroutine.
	Take func(pid int, text []byte, all bool)
	// Followed reports whether a LogFeed still carries what a worker logs: its ring is read after that. nil: no worker is followed.
	Followed func(pid int) bool
	// Every is the time between two rounds; 200 ms if zero.
	Every time.Duration
	Log   logrus.FieldLogger

	log     logrus.FieldLogger
	current *held     // nil: not connected
	old     []*held   // stopping, the oldest first
	strayAt time.Time // when strays were looked for

	released []int // pids that were read to the end and may not be gone yet

	mu   sync.Mutex
	pids []int // of them all
}

// held is a worker that is kept, or a stray, which is only read.
type held struct {
	cli  *cli    // nil for a stray
	via  *Master // of a stray
	info Info    // as of the last look
	done bool    // its ring was read to the end
	read time.Time
	wait time.Duration // until the ring is read again although nothing seems to have happened
}

// A ring is read when a stopping worker's counters moved, and now and then all the same: a stream within a connection can end
// without moving them. A full ring costs HAProxy some 4 ms.
const (
	rereadFirst = time.Second
	rereadMax   = 15 * time.Second
)

// strayEvery is the time between two looks for old workers that are not held.
const strayEvery = time.Second

// holdTimeout bounds one exchange with a worker. It is long, because a connection that is given up cannot be made again.
const holdTimeout = 10 * time.Second

// Run keeps workers until ctx ends. On return it has let go of them.
func (o *OldWorkers) Run(ctx context.Context) error {
	o.log = loggerOr(o.Log)
	every := o.Every
	if every <= 0 {
		every = 200 * time.Millisecond
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	defer func() {
		for _, h := range o.old {
			h.close()
		}
		if o.current != nil {
			o.current.close()
		}
	}()
	for {
		o.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (o *OldWorkers) round(ctx context.Context) {
	if h := o.current; h != nil {
		was := h.info
		if err := h.look(ctx); err != nil {
			h.close()
			o.current = nil
		} else if h.info.Stopping {
			h.info.CumReq, h.info.CurrConns = was.CumReq, was.CurrConns
			o.old, o.current = append(o.old, h), nil
			o.log.WithField("pid", h.info.PID).Debug("this worker is kept until its last client is gone")
		}
	}
	if o.current == nil {
		o.current = o.connect(ctx)
	}
	o.strays(ctx)
	kept := o.old[:0]
	for _, h := range o.old {
		if o.follow(ctx, h) {
			kept = append(kept, h)
			continue
		}
		h.close()
		if h.done {
			o.released = append(o.released, h.info.PID)
		}
	}
	clear(o.old[len(kept):])
	o.old = kept

	var pids []int
	if o.current != nil {
		pids = append(pids, o.current.info.PID)
	}
	for _, h := range o.old {
		if h.cli != nil {
			pids = append(pids, h.info.PID)
		}
	}
	o.mu.Lock()
	o.pids = pids
	o.mu.Unlock()
}

// Held returns the pids of the workers that are kept now: the worker of the day first, then the old ones.
func (o *OldWorkers) Held() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pids
}

// connect takes hold of the worker of the day, if there is one that is not held yet.
func (o *OldWorkers) connect(ctx context.Context) *held {
	c, err := dialCLI(ctx, o.StatsSocket, workerPrompt)
	if err != nil {
		return nil // HAProxy does not run, which is somebody else's to tell
	}
	h := &held{cli: c, wait: rereadFirst}
	// The socket's own idle timeout is 10 s.
	if _, err = c.do(ctx, "set timeout cli 86400"); err == nil {
		err = h.look(ctx)
	}
	for _, known := range o.old {
		if err == nil && known.info.Worker() == h.info.Worker() {
			err = fmt.Errorf("worker %d is on its way out", h.info.PID)
		}
	}
	if err != nil {
		o.log.WithError(err).Debug("no worker to keep yet")
		c.close()
		return nil
	}
	return h
}

func (h *held) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	answer, err := h.ask(ctx, "show info")
	if err == nil {
		h.info, err = ParseInfo(answer)
	}
	return err
}

func (h *held) ask(ctx context.Context, command string) (string, error) {
	if h.cli == nil {
		answer, err := h.via.do(ctx, fmt.Sprintf("@!%d %s", h.info.PID, command))
		if err == nil && (answer == "" || strings.HasPrefix(answer, "Can't find the target PID")) {
			err = errors.New("it has ended")
		}
		return answer, err
	}
	answers, err := h.cli.do(ctx, command)
	if err != nil {
		return "", err
	}
	return answers[0], nil
}

func (h *held) close() {
	if h.cli != nil {
		h.cli.close()
	}
}

// strays looks for old workers that nobody holds.
func (o *OldWorkers) strays(ctx context.Context) {
	if o.Master == nil || time.Since(o.strayAt) < strayEvery {
		return
	}
	o.strayAt = time.Now()
	p, err := o.Master.Proc(ctx)
	if err != nil {
		return // it reloads, or does not run
	}
	o.released = slices.DeleteFunc(o.released, func(pid int) bool { return !p.lists(pid) })
	for _, w := range p.Old {
		known := func(h *held) bool { return h.info.PID == w.PID }
		// What was the worker of the day until a moment ago is held, and not known as old yet.
		if slices.Contains(o.released, w.PID) || slices.ContainsFunc(o.old, known) || o.current != nil && known(o.current) {
			continue
		}
		o.old = append(o.old, &held{via: o.Master, info: Info{PID: w.PID}, wait: rereadFirst})
	}
}

// follow reads a stopping worker's ring if need be. It reports whether the worker is to be kept on.
func (o *OldWorkers) follow(ctx context.Context, h *held) bool {
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	was := h.info
	err := h.look(ctx)
	last := err == nil && h.info.CurrConns == 0
	switch moved := h.info.CumReq != was.CumReq || h.info.CurrConns != was.CurrConns; {
	case err != nil:
	case o.Followed != nil && o.Followed(h.info.PID):
		h.info.CumReq, h.info.CurrConns = was.CumReq, was.CurrConns
		return true
	case moved || last:
		h.wait = rereadFirst
	case time.Since(h.read) < h.wait:
		return true
	default:
		h.wait = min(2*h.wait, rereadMax)
	}
	if err == nil {
		h.read = time.Now()
		var answer string
		if answer, err = h.ask(ctx, "show events "+o.Ring); err == nil && strings.HasPrefix(answer, "No such event sink") {
			err = fmt.Errorf("it has no ring %q", o.Ring)
		}
		if err == nil {
			h.done = last
			o.Take(h.info.PID, []byte(answer), last)
		}
	}
	if err != nil && h.cli != nil && !errors.Is(ctx.Err(), context.Canceled) {
		o.log.WithError(err).WithField("pid", was.PID).Warn("the end of an old worker's access log was not read")
	}
	return err == nil && !last
}
