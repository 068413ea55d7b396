package main

import (
	"fmt"
	"strings"
	"time"

	"signalbox"
	"signalbox/metrics/hub"
	"signalbox/metrics/sink"
)

// sinkTargets reads the settings of sinks, for a node of this name.
func (s *settings) sinkTargets(node string) ([]*sink.Target, error) {
	return sink.ParseAll(s.Sinks, s.sinkContext(node))
}

func (s *settings) sinkContext(node string) sink.Context {
	return sink.Context{Node: node, Interval: s.SinkInterval}
}

// shownSinks returns the sinks as they may be shown: whole if all their options are known, and none of these holds a secret.
func (s *settings) shownSinks() string {
	shown := make([]string, len(s.Sinks))
	for i, text := range s.Sinks {
		shown[i] = text
		if _, err := sink.Parse(text, s.sinkContext("node")); err != nil {
			shown[i] = mask(text)
		}
	}
	return strings.Join(shown, ",")
}

// push makes what pushes to the sinks.
func (c *controller) push() error {
	targets, err := c.settings.sinkTargets(c.node)
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "signalbox config"}
	}
	c.sinks = sink.New(sink.Config{
		Targets: targets, Context: c.settings.sinkContext(c.node), Snapshot: c.aggregator.Snapshot, Started: c.started,
		Log: c.journal.WithField("room", "sink"),
	})
	scrape := ""
	if len(c.settings.MetricsListen) > 0 {
		scrape = c.settings.MetricsListen[0]
	}
	c.hubs = hub.NewPusher(hub.PusherConfig{
		URLs: c.settings.Hub, TokenFile: c.settings.HubTokenFile, Node: c.node, Scrape: scrape, Interval: c.settings.HubInterval,
		Snapshot: c.aggregator.Settled, Started: c.started, Log: c.journal.WithField("room", "hub"),
	})
	return nil
}

// sinkPatience is for how many intervals a sink may fail before that degrades health.
const sinkPatience = 3

// sinkStatus says how the sinks fare.
func (c *controller) sinkStatus() []signalbox.SinkStatus {
	var out []signalbox.SinkStatus
	for _, s := range c.sinks.Status() {
		one := signalbox.SinkStatus{Name: s.Name, Level: signalbox.OK, Sent: s.Sent, Dropped: s.Lost(), Waiting: s.Waiting, LastSent: s.LastSent}
		if since := time.Since(s.Failing); !s.Failing.IsZero() && since > sinkPatience*c.settings.SinkInterval {
			one.Level, one.Detail = signalbox.Degraded, fmt.Sprintf("it has taken nothing for %s: %s", since.Round(time.Second), s.Detail)
		}
		out = append(out, one)
	}
	for _, h := range c.hubs.Status() {
		one := signalbox.SinkStatus{Name: h.URL, Level: signalbox.OK, Sent: h.Pushed, LastSent: h.Last}
		if since := time.Since(h.Failing); !h.Failing.IsZero() && since > sinkPatience*c.settings.HubInterval {
			one.Level, one.Detail = signalbox.Degraded, fmt.Sprintf("it has taken nothing for %s: %s", since.Round(time.Second), h.Detail)
		}
		out = append(out, one)
	}
	return out
}
