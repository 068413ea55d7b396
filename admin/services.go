package admin

import (
	"time"

	"signalbox/metrics"
)

// MaxSpan is the longest span over which percentiles are known.
const MaxSpan = time.Hour

// Services is what /api/v1/services answers.
type Services struct {
	APIVersion string        `json:"apiVersion"`
	Services   []ServiceStat `json:"services"` // sorted by Service
}

// ServiceStat is what was counted for one service since the program started, or in a span up to now. Durations are in seconds; those of a service
// without requests are 0.
type ServiceStat struct {
	Service    string  `json:"service"`
	Requests   uint64  `json:"requests"`
	PerSecond  float64 `json:"perSecond"` // over the last 10 seconds, or the span
	Average    float64 `json:"averageSeconds"`
	P50        float64 `json:"p50Seconds"`
	P90        float64 `json:"p90Seconds"`
	P99        float64 `json:"p99Seconds"`
	Errors     uint64  `json:"errors"`     // answers with a status of 500 to 599, whoever made them
	ErrorRatio float64 `json:"errorRatio"` // Errors in Requests, 0 to 1
	// Span is over how much time up to now the figures are: about what was asked for, or less where less is known; 0: since the start.
	Span float64 `json:"spanSeconds,omitempty"`
}

// StatsIn returns the rows of windows.
func StatsIn(windows []metrics.Window) []ServiceStat {
	rows := make([]ServiceStat, len(windows))
	for i := range windows {
		w := &windows[i]
		rows[i] = ServiceStat{
			Service: w.Service, Requests: w.Requests, PerSecond: w.Rate(), Average: w.Duration.Mean().Seconds(),
			P50: w.Duration.Quantile(0.5).Seconds(), P90: w.Duration.Quantile(0.9).Seconds(), P99: w.Duration.Quantile(0.99).Seconds(),
			Errors: w.Errors, Span: w.Span.Seconds(),
		}
		if w.Requests > 0 {
			rows[i].ErrorRatio = float64(w.Errors) / float64(w.Requests)
		}
	}
	return rows
}

// StatsOf returns the rows of a snapshot.
func StatsOf(s *metrics.Snapshot) []ServiceStat {
	if s == nil {
		return nil
	}
	rows := make([]ServiceStat, len(s.Services))
	for i := range s.Services {
		t := &s.Services[i]
		rows[i] = ServiceStat{
			Service: t.Service, Requests: t.Requests, PerSecond: t.Recent[1].Rate(), Average: t.Duration.Mean().Seconds(),
			P50: t.Duration.Quantile(0.5).Seconds(), P90: t.Duration.Quantile(0.9).Seconds(), P99: t.Duration.Quantile(0.99).Seconds(),
			Errors: t.Errors(),
		}
		if t.Requests > 0 {
			rows[i].ErrorRatio = float64(rows[i].Errors) / float64(t.Requests)
		}
	}
	return rows
}

// Render is what /api/v1/render and /api/v1/live answer.
type Render struct {
	APIVersion string `json:"apiVersion"`
	Files      []File `json:"files"`
}

// File is one file of a rendered configuration.
type File struct {
	Name    string `json:"name"` // relative to HAProxy's directory: "haproxy.cfg", "hosts.map"
	Content string `json:"content"`
}
