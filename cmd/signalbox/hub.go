package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"signalbox/admin"
	"signalbox/metrics"
	"signalbox/metrics/hub"
	"signalbox/metrics/sink"
	"signalbox/templates"
)

// hubSettings are those of a hub.
type hubSettings struct {
	listen    []string
	tokenFile string
	settle    time.Duration
	settings  // of sinks and of the log
}

// hubIdle is for how long a service or a task stays at the hub that no machine names any more.
const hubIdle = 15 * time.Minute

// newHubCommand returns the verb that adds up what the machines of a cluster count.
func newHubCommand(p *program) *cobra.Command {
	s := hubSettings{listen: []string{":9903"}, settle: 25 * time.Second, settings: defaults()}
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "What every machine of a cluster has counted, added up exactly",
		Long: `Takes what the controllers of a cluster count ("signalbox run --hub URL"), adds it up exactly, and answers for the whole cluster: /metrics,
a page, "signalbox stat --cluster" and "top --cluster", the machines as targets for Prometheus (/api/v1/sd). With --sink it pushes to
StatsD, Graphite or Riemann, once for the cluster, percentiles too.

It keeps nothing over a restart: the controllers go on from what the hub has answered. Two may run, each of which gets everything.`,
		Example: `  signalbox hub
  signalbox hub --listen 10.0.0.5:9903 --token-file /etc/signalbox/hub-token
  signalbox hub --sink 'graphite://graphite.example:2003?times=summary'`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := newJournal(p.stderr, s.LogLevel, s.LogFormat)
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			h, err := newHub(&s, j)
			if err != nil {
				return &exitError{code: exitUsage, err: err, try: "signalbox hub --help"}
			}
			j.WithField("version", version()).WithField("listens", h.remote.Addresses()).Info("the hub starts")
			err = h.run(cmd.Context())
			j.Info("the hub ends")
			return err
		},
	}
	f := cmd.Flags()
	f.Var(listOf(&s.listen), "listen", "`addresses` at which machines push, and everybody asks")
	f.Var(textOf(&s.tokenFile), "token-file", "`file` with the token that everybody must show, but for /health; empty: none is asked for")
	f.Var(durationOf(&s.settle, 0, time.Hour), "settle", "`time` after the start in which every machine will have pushed; before, /metrics answers 503")
	addSettingsOf(f, &s.settings, func(row setting) bool {
		return row.name == "sink" || row.name == "sink-interval" || row.name == "log-level" || row.name == "log-format"
	})
	return cmd
}

// clusterHub is a hub, wired: pushes go in at server, and nothing flows back.
type clusterHub struct {
	aggregator *metrics.Aggregator
	server     *hub.Server
	remote     *admin.Remote
	sinks      *sink.Pusher
	registry   *prometheus.Registry
	pushes     bool // to sinks
}

func newHub(s *hubSettings, j *journal) (*clusterHub, error) {
	started := time.Now()
	h := &clusterHub{
		aggregator: metrics.NewAggregator(metrics.AggregatorConfig{Started: started, Idle: hubIdle, MaxServices: 1 << 14, MaxTasks: 1 << 12}),
		registry:   prometheus.NewRegistry(), pushes: len(s.Sinks) > 0,
	}
	h.server = hub.New(hub.Config{Aggregator: h.aggregator, Log: j.WithField("room", "hub")})
	targets, err := s.sinkTargets("cluster")
	if err != nil {
		return nil, err
	}
	h.sinks = sink.New(sink.Config{
		Targets: targets, Context: s.sinkContext("cluster"), Snapshot: h.aggregator.Snapshot, Started: started, Log: j.WithField("room", "sink"),
	})
	h.registry.MustRegister(h.aggregator, h.server, h.sinks, j, buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	handler, err := admin.NewHub(admin.HubConfig{
		Services: func() []admin.ServiceStat { return admin.StatsOf(h.aggregator.Snapshot(time.Now())) },
		Windows: func(span time.Duration) []admin.ServiceStat {
			return admin.StatsIn(h.aggregator.Windows(time.Now(), span))
		},
		Nodes: h.nodes, Gatherer: h.registry, Settled: func() bool { return time.Since(started) >= s.settle }, Version: version(), Profiles: s.tokenFile != "",
		Push: h.server, PushTo: hub.PushPath, More: map[string]http.Handler{
			"/api/v1/nodes": http.HandlerFunc(h.server.ServeNodes), "/api/v1/sd": http.HandlerFunc(h.server.ServeTargets),
		},
		Web: templates.Web,
	})
	if err != nil {
		return nil, err
	}
	h.remote, err = admin.NewRemote(admin.RemoteConfig{Listen: s.listen, TokenFile: s.tokenFile, Handler: handler, Open: []string{"/health"}})
	if err != nil {
		return nil, fmt.Errorf("opening the hub: %w", err)
	}
	return h, nil
}

// nodes returns the machines that push.
func (h *clusterHub) nodes() []admin.HubNode {
	var out []admin.HubNode
	for _, n := range h.server.Nodes(time.Now()) {
		out = append(out, admin.HubNode{Name: n.Name, Last: n.Last, Late: n.Late, Requests: n.Requests})
	}
	return out
}

// run runs the hub until ctx ends. Sinks get what has come up to then.
func (h *clusterHub) run(ctx context.Context) error {
	sinks := &part{}
	if h.pushes {
		sinks = stage(ctx, h.sinks.Run, "pushing to sinks")
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.remote.Run(ctx) })
	g.Go(func() error { return sinks.guard(ctx) })
	g.Go(func() error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case now := <-tick.C:
				h.aggregator.Tick(now)
				h.aggregator.Reconcile(nil) // it shows the losses that the machines tell of
				h.server.Tick(now)
			}
		}
	})
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, sinks.end())
}
