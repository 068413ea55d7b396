package statsd

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/statsd_exporter/pkg/event"
	"github.com/prometheus/statsd_exporter/pkg/line"
	"github.com/prometheus/statsd_exporter/pkg/mapper"
)

const (
	maxDatagram = 64 << 10
	maxLine     = 8 << 10

	// maxWeight bounds for how many values one line may stand: statsd_exporter's parser makes an event of each.
	maxWeight = 10_000
)

// decoder turns datagrams into updates of a store. It may be used by several goroutines at once.
type decoder struct {
	parser *line.Parser
	mapper *mapper.MetricMapper
	store  *store
	stats  *stats
	said   func(reason, name string)
	silent *slog.Logger
}

// datagram takes the lines of one datagram.
func (d *decoder) datagram(b []byte, now time.Time) {
	d.stats.datagrams.Inc()
	d.stats.bytes.Add(float64(len(b)))
	if len(b) > maxDatagram {
		d.bad(reasonTooLong, "")
		return
	}
	for one := range bytes.SplitSeq(b, []byte{'\n'}) {
		one = bytes.TrimSuffix(one, []byte{'\r'})
		switch {
		case len(one) == 0:
		case len(one) > maxLine:
			d.bad(reasonTooLong, "")
		default:
			d.line(string(one), now)
		}
	}
}

// line takes one line. Somebody else's parser reads it, in the process that routes: what it can't stand costs that line.
func (d *decoder) line(text string, now time.Time) {
	defer func() {
		if wrong := recover(); wrong != nil {
			d.bad(reasonFailed, fmt.Sprint(wrong))
		}
	}()
	switch {
	case strings.HasPrefix(text, "_e{"):
		d.bad(reasonEvent, "")
		return
	case strings.HasPrefix(text, "_sc|"):
		d.bad(reasonCheck, "")
		return
	}
	if reason := rates(text); reason != "" {
		d.bad(reason, "")
		return
	}
	asGauge, member, isSet := setLine(text)
	if isSet {
		text = asGauge
	}
	for _, e := range d.parser.LineToEvents(text, *d.stats.bad, d.stats.samples, d.stats.badTags, d.stats.tagged, d.silent) {
		d.event(e, isSet, member, now)
	}
}

func (d *decoder) event(e event.Event, isSet bool, member string, now time.Time) {
	u := update{name: mapper.EscapeMetricName(e.MetricName()), labels: e.Labels(), help: "StatsD, from a service on this machine.", value: e.Value(), member: member}
	mapping, labels, mapped := d.mapper.GetMapping(e.MetricName(), e.MetricType())
	if mapping == nil {
		mapping = &mapper.MetricMapping{Ttl: d.mapper.Defaults.Ttl}
	}
	if mapping.Action == mapper.ActionTypeDrop {
		d.stats.discarded.Inc()
		return
	}
	if mapped {
		u.name = mapper.EscapeMetricName(mapping.Name)
		if mapping.HelpText != "" {
			u.help = mapping.HelpText
		}
		u.labels = maps.Clone(u.labels) // several values of a line share it
		for name, value := range labels {
			if _, given := u.labels[name]; !given || !mapping.HonorLabels {
				u.labels[name] = value
			}
		}
	}
	if mapping.Scale.Set {
		u.value *= mapping.Scale.Val
	}
	u.ttl, u.how = mapping.Ttl, observing{d.mapper, mapping}
	taken := d.stats.gauges
	switch e := e.(type) {
	case *event.CounterEvent:
		u.kind, taken = kindCounter, d.stats.counters
	case *event.GaugeEvent:
		u.kind, u.relative = kindGauge, e.GRelative
		if isSet {
			u.kind, u.value, taken = kindSet, 0, d.stats.sets
		}
	default:
		u.kind, taken = observerKind(d.mapper, mapping), d.stats.observations
	}
	switch reason := d.store.put(u, now); reason {
	case "":
		taken.Inc()
	case overflowSeries, overflowSet:
		d.stats.overflow.WithLabelValues(reason).Inc()
		d.said("overflow of "+reason, u.name)
	default:
		d.bad(reason, u.name)
	}
}

// bad counts what is not taken, and says it once where a name is known.
func (d *decoder) bad(reason, name string) {
	d.stats.bad.WithLabelValues(reason).Inc()
	if name != "" {
		d.said(reason, name)
	}
}

// setLine turns a line of a set into one of a gauge, so that its name and tags are read as everybody else's.
func setLine(text string) (asGauge, member string, ok bool) {
	name, rest, found := strings.Cut(text, ":")
	if !found {
		return "", "", false
	}
	member, rest, found = strings.Cut(rest, "|")
	if !found || rest != "s" && !strings.HasPrefix(rest, "s|") || member == "" {
		return "", "", false
	}
	return name + ":0|g" + rest[1:], member, true
}

// rates returns why the sample rates of a line cannot be used; "" if they can.
func rates(text string) string {
	_, values, _ := strings.Cut(text, ":")
	least := 1.0
	for rest := values; ; {
		_, after, found := strings.Cut(rest, "|@")
		if !found {
			break
		}
		rest = after
		end := strings.IndexAny(after, "|:")
		if end < 0 {
			end = len(after)
		}
		rate, err := strconv.ParseFloat(after[:end], 64)
		if err != nil || !(rate > 0 && rate <= 1) {
			return reasonRate
		}
		least = min(least, rate)
	}
	repeated := strings.Contains(values, "|ms") || strings.Contains(values, "|h") || strings.Contains(values, "|d")
	plain, _, _ := strings.Cut(values, "|#")
	if repeated && float64(1+strings.Count(plain, ":"))/least > maxWeight {
		return reasonWeight
	}
	return ""
}

// stats are what is received and what is not taken, each way of losing something by itself.
type stats struct {
	datagrams, bytes, samples, discarded                  prometheus.Counter
	counters, gauges, observations, sets, badTags, tagged prometheus.Counter
	bad, overflow, events, lost                           *prometheus.CounterVec
}
