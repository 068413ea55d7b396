package main

import (
	"context"
	"time"

	"signalbox/haproxy"
	"signalbox/haproxy/control"
	"signalbox/metrics"
)

// accountEvery is the time between two comparisons of counted records with HAProxy's own counters.
const accountEvery = time.Second

// account keeps the rates of the last seconds, compares what was counted with what HAProxy's workers say they served, and logs what
// has become wrong or right since the last round.
func (c *controller) account(ctx context.Context) {
	tick := time.NewTicker(accountEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c.aggregator.Tick(now)
			c.reconcile(ctx)
			c.problems.note(c.allProblems())
		}
	}
}

// reconcile hands the counters of every living worker to the account of losses. Workers that cannot be asked now are asked
// again in the next round.
func (c *controller) reconcile(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, accountEvery)
	defer cancel()
	workers, err := c.applier.WorkerStats(ctx)
	if err != nil {
		return
	}
	c.answered.Store(time.Now().UnixNano())
	config := c.wanted.Load()
	if config == nil {
		config = &haproxy.Config{}
	}
	c.aggregator.Reconcile(workerStats(workers, config))
}

// workerStats puts what HAProxy says of its workers into the words of the log's account.
func workerStats(workers []control.WorkerStats, config *haproxy.Config) []metrics.WorkerStat {
	out := make([]metrics.WorkerStat, len(workers))
	for i, w := range workers {
		out[i] = metrics.WorkerStat{PID: w.PID, Started: w.Started, Stopping: w.Old, InFlight: w.InFlight}
		for _, f := range w.Frontends {
			logs, tcp := config.Logs(f.Proxy)
			if !logs {
				continue
			}
			stat := metrics.FrontendStat{Name: f.Proxy, TCP: tcp, Total: f.Requests, Current: f.Current}
			if stat.TCP {
				stat.Total = f.Sessions
			}
			out[i].Frontends = append(out[i].Frontends, stat)
		}
	}
	return out
}
