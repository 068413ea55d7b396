package admin

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// APIVersion is the version of every JSON answer. Fields are added within a version, never renamed or removed.
const APIVersion = "v1"

// keep is how many log entries and metric points health shows.
const keep = 10

// Health is the JSON form of a signalbox.Status: what /health and /api/v1/status answer.
type Health struct {
	APIVersion    string          `json:"apiVersion"`
	Status        signalbox.Level `json:"status"`
	Version       string          `json:"version"`
	Started       time.Time       `json:"started,omitzero"`
	UptimeSeconds float64         `json:"uptimeSeconds"`
	At            time.Time       `json:"at,omitzero"`

	// LastGood is when the oldest state in use was read; zero while a source has none.
	LastGood           time.Time `json:"lastGood,omitzero"`
	LastGoodAgeSeconds float64   `json:"lastGoodAgeSeconds,omitempty"`

	Apps      int `json:"apps"`
	Services  int `json:"services"`
	Endpoints int `json:"endpoints"`

	Sources  []Source      `json:"sources"`
	HAProxy  HAProxy       `json:"haproxy"`
	Log      Log           `json:"log"`
	Sinks    []Sink        `json:"sinks"`
	StatsD   *StatsD       `json:"statsd,omitempty"` // absent: StatsD is not taken
	Held     Held          `json:"held"`
	Problems []Problem     `json:"problems"`
	Logs     []LogEntry    `json:"logs"`    // the last 10, newest first
	Metrics  []MetricPoint `json:"metrics"` // the last 10, newest first
}

// Source is the state of one source of services.
type Source struct {
	Name        string          `json:"name"`
	Status      signalbox.Level `json:"status"`
	Detail      string          `json:"detail,omitempty"`
	Connected   bool            `json:"connected"` // its event stream stands
	Endpoint    string          `json:"endpoint,omitempty"`
	LastRead    time.Time       `json:"lastRead,omitzero"`
	LastGood    time.Time       `json:"lastGood,omitzero"`
	Generation  uint64          `json:"generation"` // of the state that is in use
	LastEvent   time.Time       `json:"lastEvent,omitzero"`
	Apps        int             `json:"apps"`
	Endpoints   int             `json:"endpoints"`
	Quarantined string          `json:"quarantined,omitempty"` // why a state that was read is held back
}

// HAProxy is the state of the HAProxy that this machine runs.
type HAProxy struct {
	Status            signalbox.Level `json:"status"`
	Detail            string          `json:"detail,omitempty"`
	Version           string          `json:"version,omitempty"`
	PID               int             `json:"pid,omitempty"`
	OldWorkers        int             `json:"oldWorkers"`
	Generation        uint64          `json:"generation"`     // of the configuration that runs
	FileGeneration    uint64          `json:"fileGeneration"` // of the files that say so
	AppliedAt         time.Time       `json:"appliedAt,omitzero"`
	LastReload        time.Time       `json:"lastReload,omitzero"`
	ReloadReason      string          `json:"reloadReason,omitempty"`
	Reloads           uint64          `json:"reloads"`
	Updates           uint64          `json:"updates"`
	FileBehindSeconds float64         `json:"fileBehindSeconds"`
}

// Log is the state of the access-log path.
type Log struct {
	Status  signalbox.Level `json:"status"`
	Detail  string          `json:"detail,omitempty"`
	Counted uint64          `json:"counted"`
	Lost    uint64          `json:"lost"`
	Unsure  uint64          `json:"unsure"`
	Bad     uint64          `json:"bad"`
	Last    time.Time       `json:"last,omitzero"`
}

// Sink is the state of one place that figures are pushed to.
type Sink struct {
	Name     string          `json:"name"`
	Status   signalbox.Level `json:"status"`
	Detail   string          `json:"detail,omitempty"`
	Sent     uint64          `json:"sent"` // points
	Dropped  uint64          `json:"dropped"`
	Waiting  int             `json:"waiting"`
	LastSent time.Time       `json:"lastSent,omitzero"`
}

// StatsD is the state of what takes StatsD from the services of this machine.
type StatsD struct {
	Status    signalbox.Level `json:"status"`
	Detail    string          `json:"detail,omitempty"`
	Addresses []string        `json:"addresses"`
	Samples   uint64          `json:"samples"`
	Bad       uint64          `json:"bad"`
	Overflow  uint64          `json:"overflow"`
	Lost      uint64          `json:"lost"` // datagrams
	Series    int             `json:"series"`
}

// Held is what operators hold. It degrades health once it keeps something back: until then the hold is as good as none.
type Held struct {
	Status  signalbox.Level  `json:"status"`
	Detail  string           `json:"detail,omitempty"`
	Holds   []signalbox.Hold `json:"holds"`
	New     int              `json:"new"`     // apps that are not routed, because they came during the hold
	Changed int              `json:"changed"` // apps whose earlier definition holds
	Removed int              `json:"removed"` // apps that are gone, and whose names stay
}

// Problem is the JSON form of a signalbox.Problem.
type Problem struct {
	Code     string             `json:"code"`
	Severity signalbox.Severity `json:"severity"`
	App      string             `json:"app"`
	Label    string             `json:"label,omitempty"`
	Value    string             `json:"value,omitempty"`
	Message  string             `json:"message"`
	Action   string             `json:"action,omitempty"`
}

// String returns the problem on one line, as signalbox.Problem does.
func (p Problem) String() string { return signalbox.Problem(p).String() }

// LogEntry is one entry of the program's own log.
type LogEntry struct {
	Time    time.Time         `json:"time"`
	Level   string            `json:"level"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"`
}

// MetricPoint is one recent value of one of the program's own metrics.
type MetricPoint struct {
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Labels string    `json:"labels,omitempty"`
	Value  float64   `json:"value"`
}

// Verdict sums a status up. Failing means that this machine can't do its work: HAProxy fails, or every source does. What else is
// wrong degrades it. Problems of single apps leave it as it is: they belong to their app, and no app may degrade a machine.
func Verdict(s signalbox.Status) signalbox.Level {
	failing, degraded := 0, 0
	for _, src := range s.Sources {
		switch src.Level {
		case signalbox.Failing:
			failing++
		case signalbox.Degraded:
			degraded++
		}
	}
	for _, sink := range s.Sinks {
		if sink.Level != signalbox.OK {
			degraded++
		}
	}
	if s.StatsD != nil && s.StatsD.Level != signalbox.OK {
		degraded++
	}
	switch {
	case s.HAProxy.Level == signalbox.Failing, failing > 0 && failing == len(s.Sources):
		return signalbox.Failing
	case failing+degraded > 0, len(s.Kept) > 0, s.HAProxy.Level == signalbox.Degraded, s.Log.Level == signalbox.Failing, s.Log.Level == signalbox.Degraded:
		return signalbox.Degraded
	}
	return signalbox.OK
}

// Part is the verdict on one part of the controller.
type Part struct {
	Kind  string // all, which is Verdict; source, haproxy, log, sink (hubs too), statsd, held
	Name  string // of a source or a sink
	Level signalbox.Level
}

// Parts returns the verdicts that health shows, that on all of them first.
func Parts(s signalbox.Status) []Part {
	parts := []Part{{Kind: "all", Level: Verdict(s)}, {Kind: "haproxy", Level: s.HAProxy.Level}, {Kind: "log", Level: s.Log.Level}}
	for _, one := range s.Sources {
		parts = append(parts, Part{"source", one.Name, one.Level})
	}
	for _, one := range s.Sinks {
		parts = append(parts, Part{"sink", one.Name, one.Level})
	}
	if s.StatsD != nil {
		parts = append(parts, Part{Kind: "statsd", Level: s.StatsD.Level})
	}
	held := signalbox.OK
	if len(s.Kept) > 0 {
		held = signalbox.Degraded
	}
	return append(parts, Part{Kind: "held", Level: held})
}

// HealthOf returns the JSON form of a status. Ages are as of s.At.
func HealthOf(s signalbox.Status) Health {
	h := Health{
		APIVersion:    APIVersion,
		Status:        Verdict(s),
		Version:       s.Version,
		Started:       s.Started,
		UptimeSeconds: seconds(age(s.Started, s.At)),
		At:            s.At,
		Sources:       []Source{},
		HAProxy: HAProxy{
			Status: s.HAProxy.Level, Detail: s.HAProxy.Detail, Version: s.HAProxy.Version, PID: s.HAProxy.PID,
			OldWorkers: s.HAProxy.OldWorkers, Generation: s.HAProxy.Generation, FileGeneration: s.HAProxy.FileGeneration,
			AppliedAt: s.HAProxy.AppliedAt, LastReload: s.HAProxy.LastReload, ReloadReason: s.HAProxy.ReloadReason, Reloads: s.HAProxy.Reloads,
			Updates: s.HAProxy.Updates, FileBehindSeconds: seconds(s.HAProxy.FileBehind),
		},
		Log: Log{
			Status: s.Log.Level, Detail: s.Log.Detail, Counted: s.Log.Counted, Lost: s.Log.Lost, Unsure: s.Log.Unsure,
			Bad: s.Log.Bad, Last: s.Log.Last,
		},
		Sinks:    []Sink{},
		Held:     heldOf(s),
		Problems: problemsOf(s),
		Logs:     []LogEntry{},
		Metrics:  []MetricPoint{},
	}
	h.Apps, h.Endpoints = s.Table.Counts()
	if s.Table != nil {
		h.Services = len(s.Table.Services)
	}
	for i, src := range s.Sources {
		h.Sources = append(h.Sources, Source{
			Name: src.Name, Status: src.Level, Detail: src.Detail, Connected: src.Connected, Endpoint: src.Endpoint,
			LastRead: src.LastRead, LastGood: src.LastGood, Generation: src.Generation, LastEvent: src.LastEvent, Apps: src.Apps,
			Endpoints: src.Endpoints, Quarantined: src.Quarantined,
		})
		if i == 0 || src.LastGood.Before(h.LastGood) {
			h.LastGood = src.LastGood
		}
	}
	if !h.LastGood.IsZero() {
		h.LastGoodAgeSeconds = seconds(age(h.LastGood, s.At))
	}
	for _, sink := range s.Sinks {
		h.Sinks = append(h.Sinks, Sink{
			Name: sink.Name, Status: sink.Level, Detail: sink.Detail, Sent: sink.Sent, Dropped: sink.Dropped, Waiting: sink.Waiting, LastSent: sink.LastSent,
		})
	}
	if d := s.StatsD; d != nil {
		h.StatsD = &StatsD{
			Status: d.Level, Detail: d.Detail, Addresses: d.Addresses, Samples: d.Samples, Bad: d.Bad, Overflow: d.Overflow, Lost: d.Lost, Series: d.Series,
		}
	}
	for _, e := range s.Logs {
		h.Logs = append(h.Logs, LogEntry(e))
	}
	for _, p := range s.Metrics {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			h.Metrics = append(h.Metrics, MetricPoint(p))
		}
	}
	slices.SortStableFunc(h.Logs, func(a, b LogEntry) int { return b.Time.Compare(a.Time) })
	slices.SortStableFunc(h.Metrics, func(a, b MetricPoint) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Labels, b.Labels))
	})
	h.Logs, h.Metrics = h.Logs[:min(keep, len(h.Logs))], h.Metrics[:min(keep, len(h.Metrics))]
	return h
}

// heldOf returns what is held, and how many apps that touches.
func heldOf(s signalbox.Status) Held {
	h := Held{Status: signalbox.OK, Holds: append([]signalbox.Hold{}, s.Holds...)}
	for _, how := range s.Kept {
		switch how {
		case signalbox.KeptNew:
			h.New++
		case signalbox.KeptChanged:
			h.Changed++
		case signalbox.KeptRemoved:
			h.Removed++
		}
	}
	var parts []string
	say := func(n int, format string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, n))
		}
	}
	say(h.New, "%d new not routed")
	say(h.Changed, "%d with an earlier definition")
	say(h.Removed, "%d gone that keep their names")
	if len(parts) > 0 {
		h.Status, h.Detail = signalbox.Degraded, "apps kept back: "+strings.Join(parts, ", ")
	}
	return h
}

// problemsOf returns the problems of a status and of its table, each once, sorted.
func problemsOf(s signalbox.Status) []Problem {
	all := append(s.Table.AllProblems(), s.Problems...)
	slices.SortFunc(all, signalbox.Problem.Compare)
	all = slices.Compact(all)
	out := make([]Problem, len(all))
	for i, p := range all {
		out[i] = Problem(p)
	}
	return out
}

// age returns how long ago t was at a moment, 0 for a zero t or one in the future.
func age(t, at time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(0, at.Sub(t))
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
