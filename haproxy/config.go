package haproxy

import (
	"net/netip"
	"time"

	"signalbox"
)

// Config is one desired state of HAProxy. It is immutable; a backend that did not change keeps its pointer from one Config to
// the next, so that its text and its comparison are not done again.
type Config struct {
	Options   *Options
	Backends  []*Backend  // sorted by Name
	Listeners []*Listener // service ports, sorted by Port
	Hosts     []MapEntry  // sorted by Key; host + path + "/" to backend name
	Names     []MapEntry  // sorted by Key; backend name to service id
	Problems  []signalbox.Problem
}

// Backend is one service as HAProxy sees it.
type Backend struct {
	Name    string // stable and injective: no two services share one
	Service signalbox.ServiceID
	App     string
	Mode    signalbox.Mode
	Check   signalbox.Check
	Slots   []Server // named s1, s2, …; never fewer than before while HAProxy runs, unless a reload happens anyway
}

// Server is one slot of a backend. A free slot has no task.
type Server struct {
	Name  string // "s1"
	Addr  netip.AddrPort
	Task  string
	Admin AdminState
	// Weight is 0 to 256.
	Weight int
}

// AdminState is the administrative state of a server, in HAProxy's words.
type AdminState string

// The administrative states of a server.
const (
	Ready AdminState = "ready"
	Drain AdminState = "drain"
	Maint AdminState = "maint"
)

// Listener is one service port, bound on every address of Options.ServiceBind.
type Listener struct {
	Name    string
	Port    int
	Mode    signalbox.Mode
	Backend string
	Service signalbox.ServiceID
}

// MapEntry is one line of a map file.
type MapEntry struct{ Key, Value string }

// Options are the operator's choices, the same for every Config of a run.
type Options struct {
	Dir           string   // absolute: holds haproxy.cfg, the maps and the sockets
	HTTPBind      []string // addresses of the HTTP entry: ":80", "127.0.0.1:8000"
	ServiceBind   string   // address of the service ports: "*" or an IP address
	StatsSocket   string   // path of the runtime socket
	LogSocket     string   // path of the unix stream socket that takes the access log, "" for no log
	LogFormat     string   // metrics.LogFormat, for HTTP
	LogFormatTCP  string   // the same for TCP
	MaxConn       int      // process-wide, within the file-descriptor limit
	Threads       int      // 0: HAProxy's choice
	User, Group   string   // that HAProxy changes to, "" to stay
	HardStopAfter time.Duration
	MaxReloads    int // mworker-max-reloads
	MinSlots      int // 0: by the number of services, within a budget
}

// Command is one runtime command. Its words come from typed values only.
type Command struct {
	Text string // one line, without its newline
	Why  string // for the log
}

// Reason says why a change can't be made without a reload. The same words stand in logs, in the metric's label and in tests.
type Reason string

// Plan is what leads from the running Config to a wanted one.
type Plan struct {
	Commands []Command // in order; safe to send even if a reload follows
	Reasons  []Reason  // empty: the commands suffice
}
