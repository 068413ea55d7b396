package consul

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// news is what one goroutine tells the loop.
type news struct {
	ctx  context.Context // of the session that it belongs to
	at   time.Time       // when it was asked
	came time.Time       // when it was answered

	list map[string][]string // the services, with their tags
	anew bool                // Consul's history is another one than that of the list before
	down error               // the session has ended

	name    string // a service, with what there is of it, or why that is not known
	all     []instance
	changed bool // a blocking query has said that something changed
	err     error

	sweep map[string][]instance // everything, read once more, with list
}

// errAnew says that Consul's history is another one than before.
var errAnew = errors.New("Consul's index went backwards: everything is read anew")

// follow keeps a session with Consul until ctx ends. A session is the time in which the list of services is answered: it ends with the first
// question that is not, and another one begins as soon as Consul answers again. One question at a time finds that out, however many
// services there are.
func (l *loop) follow(ctx context.Context) {
	var newest uint64
	for failed := 0; ctx.Err() == nil; {
		began := time.Now()
		err := l.stand(ctx, &newest)
		l.tell(ctx, news{ctx: ctx, down: err})
		if errors.Is(err, errAnew) || time.Since(began) > time.Minute {
			failed = 0
		}
		if errors.Is(err, errAnew) {
			continue
		}
		sleep(ctx, backoff(failed))
		failed++
	}
}

// stand follows the list of services until that fails. newest is the index of the newest list.
func (l *loop) stand(ctx context.Context, newest *uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := question{certain: true}
	for {
		at := time.Now()
		a, err := ask(ctx, l.client, services, q)
		switch {
		case err != nil:
			return err
		case a.backwards:
			return errAnew
		case len(a.value) > maxServices:
			return errors.New("Consul lists too many services")
		}
		l.tell(ctx, news{ctx: ctx, at: at, came: a.at, list: a.value, anew: a.index < *newest})
		*newest = a.index
		if ctx.Err() != nil {
			return ctx.Err()
		}
		q = question{index: a.index, least: a.index, wait: l.cfg.pulse}
	}
}

// watch reads one service, and follows it for as long as it has labels, or tags that say so.
func (l *loop) watch(ctx context.Context, name string, hinted bool) {
	failed := 0
	q := question{}
	for ctx.Err() == nil {
		at := time.Now()
		a, err := l.wait(ctx, name, q)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errTurn) {
			continue
		}
		if err != nil {
			l.tell(ctx, news{ctx: ctx, name: name, err: err})
			sleep(ctx, backoff(failed))
			failed, q = failed+1, question{}
			continue
		}
		failed = 0
		if q.index == 0 || a.index != q.index {
			all := instances(a.value, l.cfg.Convert.Labels)
			l.resolve(ctx, all)
			l.tell(ctx, news{ctx: ctx, name: name, all: all, at: at, came: a.at, changed: q.index != 0})
			if !hinted && !slices.ContainsFunc(all, func(i instance) bool { return i.labelled() }) {
				return // the list tells when its tags change
			}
		}
		q = question{index: a.index, least: a.index}
	}
}

// errTurn says that a blocking query was ended so that others have their turn.
var errTurn = errors.New("others have their turn")

// wait asks what there is of a service: at once without an index, else when that has changed.
func (l *loop) wait(ctx context.Context, name string, q question) (answer[[]*api.ServiceEntry], error) {
	seats := l.reads
	turn := ctx
	if q.index != 0 {
		seats = l.watches
	}
	select {
	case seats <- struct{}{}:
		defer func() { <-seats }()
	case <-ctx.Done():
		return answer[[]*api.ServiceEntry]{}, ctx.Err()
	}
	if q.index != 0 {
		var end context.CancelFunc
		turn, end = l.turn(ctx)
		defer end()
		q.wait = l.patience()
	}
	a, err := ask(turn, l.client, instancesOf(name), q)
	if err != nil && turn.Err() != nil && ctx.Err() == nil {
		return a, errTurn
	}
	if err == nil && len(a.value) == 0 && q.index == 0 {
		// The list has it: a server that has just come may lack everything.
		return ask(ctx, l.client, instancesOf(name), question{certain: true})
	}
	return a, err
}

// The times for which a blocking query waits: alone, and where there are more services than queries.
const (
	longWait  = 2 * time.Minute
	shortWait = time.Second
)

// patience is for how long a blocking query may wait.
func (l *loop) patience() time.Duration {
	if l.crowded.Load() {
		return shortWait
	}
	return longWait
}

// turn returns a context that ends with ctx, or when there have come to be more services than queries.
func (l *loop) turn(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if l.crowded.Load() {
		return ctx, cancel
	}
	stop := context.AfterFunc(*l.calm.Load(), cancel)
	return ctx, func() { stop(); cancel() }
}

// sweep reads everything that is followed once more, from the leader.
func (l *loop) sweep(ctx context.Context, names []string) {
	n := news{ctx: ctx, at: time.Now(), sweep: map[string][]instance{}}
	list, err := ask(ctx, l.client, services, question{certain: true})
	n.list, n.err = list.value, err
	type one struct {
		name string
		all  []instance
		err  error
	}
	answers := make(chan one)
	asked := 0
	for _, name := range names {
		if _, there := n.list[name]; !there || err != nil {
			continue
		}
		asked++
		go func() {
			l.reads <- struct{}{}
			defer func() { <-l.reads }()
			a, err := ask(ctx, l.client, instancesOf(name), question{certain: true})
			answers <- one{name, instances(a.value, l.cfg.Convert.Labels), err}
		}()
	}
	for range asked {
		a := <-answers
		if a.err != nil {
			n.err = a.err
			continue
		}
		n.sweep[a.name] = a.all
	}
	n.came = time.Now()
	l.tell(ctx, n)
}

// resolve looks up the names among the addresses of instances that have never been.
func (l *loop) resolve(ctx context.Context, all []instance) {
	var hosts []string
	for i := range all {
		if all[i].labelled() {
			hosts = append(hosts, all[i].host, all[i].nodeAddr)
		}
	}
	l.resolver.Prefetch(ctx, hosts)
}

// tell hands news to the loop.
func (l *loop) tell(ctx context.Context, n news) {
	select {
	case l.news <- n:
	case <-ctx.Done():
	}
}

// backoff returns how long to wait after failures: 0.2 s to 2 s, so that what comes back is found within 5 s, a lost dial included.
func backoff(failed int) time.Duration {
	d := min(200*time.Millisecond<<min(failed, 4), 2*time.Second)
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
