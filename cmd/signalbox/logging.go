package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/writer"

	"signalbox"
)

// keptEntries is how many log entries health shows.
const keptEntries = 10

// journal is the program's log: entries go to one writer, and the last ones are kept for health. Secrets that it is told of
// appear in neither. It is a prometheus.Collector.
type journal struct {
	*logrus.Logger
	entries *prometheus.CounterVec

	mu      sync.Mutex
	secrets []string
	last    []signalbox.LogEntry // oldest first
}

// newJournal returns a journal that writes to w from a level on. The format auto is text on a terminal and JSON elsewhere.
func newJournal(w io.Writer, level, format string) (*journal, error) {
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("setting up the log: %w", err)
	}
	if format != "auto" && format != "text" && format != "json" {
		return nil, fmt.Errorf("setting up the log: the format %q is none of auto, text, json", format)
	}
	j := &journal{
		Logger: logrus.New(),
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_journal_entries_total", Help: "Entries of the program's own log, by level.",
		}, []string{"level"}),
	}
	for _, l := range []logrus.Level{logrus.ErrorLevel, logrus.WarnLevel, logrus.InfoLevel} {
		j.entries.WithLabelValues(l.String())
	}
	j.SetOutput(w)
	j.SetLevel(parsed)
	j.AddHook(j)
	if format == "json" || format == "auto" && !onTerminal(w) {
		j.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	} else {
		j.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "15:04:05.000", DisableColors: !wantsColour(w)})
	}
	return j, nil
}

// quiet writes nothing but errors from now on, and still keeps the last entries for health.
func (j *journal) quiet() {
	w := j.Out
	j.SetLevel(logrus.InfoLevel)
	j.SetOutput(io.Discard)
	j.AddHook(&writer.Hook{Writer: w, LogLevels: []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel}})
}

// hide keeps a secret out of every later entry.
func (j *journal) hide(secret string) {
	if secret == "" {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Contains(j.secrets, secret) {
		j.secrets = append(j.secrets, secret)
		// The longest goes first, lest one that is a part of it leave the rest.
		slices.SortFunc(j.secrets, func(a, b string) int { return len(b) - len(a) })
	}
}

// recent returns the last entries, oldest first.
func (j *journal) recent() []signalbox.LogEntry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.last)
}

// Levels implements logrus.Hook.
func (j *journal) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook. It runs before the entry is formatted, on a copy of its own.
func (j *journal) Fire(e *logrus.Entry) error {
	j.entries.WithLabelValues(e.Level.String()).Inc()
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Message = j.redact(e.Message)
	fields := make(map[string]string, len(e.Data))
	for k, v := range e.Data {
		text := fmt.Sprint(v)
		clean := j.redact(text)
		if clean != text {
			e.Data[k] = clean
			if _, ok := v.(error); ok {
				e.Data[k] = errors.New(clean)
			}
		}
		fields[k] = clean
	}
	if len(j.last) == keptEntries {
		j.last = slices.Delete(j.last, 0, 1)
	}
	j.last = append(j.last, signalbox.LogEntry{
		Time: e.Time, Level: e.Level.String(), Message: cut(e.Message), Fields: cutAll(fields),
	})
	return nil
}

func (j *journal) redact(s string) string {
	for _, secret := range j.secrets {
		s = strings.ReplaceAll(s, secret, "[hidden]")
	}
	return s
}

// cut bounds what is kept of one text.
func cut(s string) string {
	const most = 1000
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func cutAll(fields map[string]string) map[string]string {
	for k, v := range fields {
		fields[k] = cut(v)
	}
	return fields
}

// Describe implements prometheus.Collector.
func (j *journal) Describe(ch chan<- *prometheus.Desc) { j.entries.Describe(ch) }

// Collect implements prometheus.Collector.
func (j *journal) Collect(ch chan<- prometheus.Metric) { j.entries.Collect(ch) }
