package signalbox

import "time"

// Status is what the program knows about itself at one moment: the health page, the API and the verbs read it.
type Status struct {
	Version string
	Started time.Time
	At      time.Time // when this status was taken

	Sources []SourceStatus
	HAProxy HAProxyStatus
	Log     LogStatus
	Sinks   []SinkStatus  // in the order of the settings
	StatsD  *StatsDStatus // nil: it is not taken

	Table    *Table
	Problems []Problem // of the table and of its application, sorted
	Logs     []LogEntry
	Metrics  []MetricPoint

	Standings []Standing              // of the claims to routes
	LastHits  map[ServiceID]time.Time // when each service last had a request or a connection
	Holds     []Hold                  // in force
	Kept      map[string]string       // apps of which a hold keeps something back, to KeptNew and so on
	Nearby    map[ServiceID]int       // how many tasks of each service are on this machine; nil where it prefers none
}

// Level is a verdict about one part.
type Level string

// The verdicts, from good to bad. Degraded means: it serves, and somebody should look.
const (
	OK       Level = "ok"
	Degraded Level = "degraded"
	Failing  Level = "failing"
)

// SourceStatus is the state of one source of services.
type SourceStatus struct {
	Name       string
	Level      Level
	Detail     string    // for people: "following http://10.0.0.1:8080", "unreachable: …"
	Connected  bool      // whether its event stream stands
	LastRead   time.Time // when it was last read whole or in part, without error
	LastGood   time.Time // when the state that is in use was read
	Generation uint64    // of the state that is in use; it only grows, across restarts too
	LastEvent  time.Time // when its stream last said something, heart-beats included
	Endpoint   string    // the member that answers now
	Apps       int
	Endpoints  int
	// Quarantined says why a state that was read is held back, or "".
	Quarantined string
}

// HAProxyStatus is the state of the HAProxy that this machine runs.
type HAProxyStatus struct {
	Level          Level
	Detail         string
	Version        string
	PID            int       // of the worker that takes new connections
	OldWorkers     int       // workers of earlier configurations that still serve connections
	Generation     uint64    // of the configuration that runs; it only grows, across restarts too
	FileGeneration uint64    // of the files that say so
	AppliedAt      time.Time // when the running state was last changed
	LastReload     time.Time
	ReloadReason   string // of the last reload
	Reloads        uint64
	Updates        uint64 // runtime commands accepted
	FileBehind     time.Duration
}

// LogStatus is the state of the access-log path. Sent = Counted + Lost holds while HAProxy's workers live.
type LogStatus struct {
	Level   Level
	Detail  string
	Counted uint64    // records that were counted
	Lost    uint64    // records known to be lost
	Unsure  uint64    // upper bound of further ones that a dying worker may have lost
	Bad     uint64    // lines that could not be read
	Last    time.Time // of the last record
}

// SinkStatus is the state of one place that figures are pushed to.
type SinkStatus struct {
	Name     string
	Level    Level
	Detail   string
	Sent     uint64    // points that arrived
	Dropped  uint64    // points that did not
	Waiting  int       // points
	LastSent time.Time // when something arrived last
}

// StatsDStatus is the state of what takes StatsD from the services of this machine. What services send too much, or wrongly, is told by
// its numbers and leaves its level as it is.
type StatsDStatus struct {
	Level     Level
	Detail    string
	Addresses []string
	Samples   uint64 // values that arrived
	Bad       uint64 // lines and values that were not taken
	Overflow  uint64 // values that were not taken because there were too many series
	Lost      uint64 // datagrams that the kernel dropped
	Series    int
}

// LogEntry is one entry of the program's own log.
type LogEntry struct {
	Time    time.Time
	Level   string
	Message string
	Fields  map[string]string
}

// MetricPoint is one recent value of one of the program's own metrics.
type MetricPoint struct {
	Time   time.Time
	Name   string
	Labels string // as in Prometheus' text format: service="/shop:0",code="200"
	Value  float64
}
