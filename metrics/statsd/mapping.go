package statsd

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/statsd_exporter/pkg/mapper"
)

// loadMapping reads a mapping file of statsd_exporter; "" maps nothing. What would fail at the first value fails here.
func loadMapping(path string) (*mapper.MetricMapper, error) {
	text := ""
	if path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the StatsD mapping: %w", err)
		}
		text = string(content)
	}
	m := &mapper.MetricMapper{}
	if err := m.InitFromYAMLString(text); err != nil {
		return nil, fmt.Errorf("reading the StatsD mapping %s: %w", path, err)
	}
	for i := range m.Mappings {
		if err := try(m, &m.Mappings[i]); err != nil {
			return nil, fmt.Errorf("reading the StatsD mapping %s: %q: %w", path, m.Mappings[i].Match, err)
		}
	}
	if err := try(m, &mapper.MetricMapping{}); err != nil {
		return nil, fmt.Errorf("reading the StatsD mapping %s: defaults: %w", path, err)
	}
	return m, nil
}

// try makes what a mapping asks for once: the client library panics at buckets that do not rise.
func try(m *mapper.MetricMapper, mapping *mapper.MetricMapping) (err error) {
	defer func() {
		if wrong := recover(); wrong != nil {
			err = fmt.Errorf("%v", wrong)
		}
	}()
	newSeries(observerKind(m, mapping), "trial", "", nil, observing{m, mapping})
	return nil
}

// observing says how what timers, histograms and distributions bring is kept.
type observing struct {
	mapper  *mapper.MetricMapper
	mapping *mapper.MetricMapping
}

// observerKind returns what a mapping makes of timers, histograms and distributions: a histogram, which can be added up over machines,
// unless the file asks for a summary.
func observerKind(m *mapper.MetricMapper, mapping *mapper.MetricMapping) kind {
	wanted := mapping.ObserverType
	if wanted == mapper.ObserverTypeDefault {
		wanted = m.Defaults.ObserverType
	}
	if wanted == mapper.ObserverTypeSummary || wanted == mapper.ObserverTypeDefault && mapping.SummaryOptions != nil {
		return kindSummary
	}
	return kindHistogram
}

func (o observing) histogram(name, help string, labels prometheus.Labels) prometheus.Histogram {
	opts := o.mapper.Defaults.HistogramOptions
	if own := o.mapping.HistogramOptions; own != nil {
		if len(own.Buckets) > 0 {
			opts.Buckets = own.Buckets
		}
		if own.NativeHistogramBucketFactor > 0 {
			opts.NativeHistogramBucketFactor = own.NativeHistogramBucketFactor
		}
		if own.NativeHistogramMaxBuckets > 0 {
			opts.NativeHistogramMaxBuckets = own.NativeHistogramMaxBuckets
		}
	}
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, ConstLabels: labels, Buckets: opts.Buckets,
		NativeHistogramBucketFactor: opts.NativeHistogramBucketFactor, NativeHistogramMaxBucketNumber: opts.NativeHistogramMaxBuckets,
	})
}

func (o observing) summary(name, help string, labels prometheus.Labels) prometheus.Summary {
	opts := o.mapper.Defaults.SummaryOptions
	if own := o.mapping.SummaryOptions; own != nil {
		quantiles := opts.Quantiles
		opts = *own
		if len(opts.Quantiles) == 0 {
			opts.Quantiles = quantiles
		}
	}
	objectives := map[float64]float64{}
	for _, q := range opts.Quantiles {
		objectives[q.Quantile] = q.Error
	}
	return prometheus.NewSummary(prometheus.SummaryOpts{
		Name: name, Help: help, ConstLabels: labels, Objectives: objectives,
		MaxAge: opts.MaxAge, AgeBuckets: opts.AgeBuckets, BufCap: opts.BufCap,
	})
}
