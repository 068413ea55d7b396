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
	Settings
	Routes
	Ways
	// Certificates say which certificate answers for which name, in the order of their names; without the default one.
	Certificates []CertificateUse
	Problems     []signalbox.Problem

	// made is what Build made this Config from, so that the next one can take over what did not change. A Config that was read
	// back from disk has none, and is built anew around its slots.
	made made
}

// Backend is one service as HAProxy sees it.
type Backend struct {
	Name    string // stable and injective: no two services share one
	Service signalbox.ServiceID
	App     string
	Mode    signalbox.Mode
	Check   signalbox.Check
	Policy  *Policy  `json:",omitempty"` // nil: it asks for nothing; kept while it says the same
	Slots   []Server // named s1, s2, …; never fewer than before while HAProxy runs, unless a reload happens anyway
	// Retired says that the service has left, or that there was none yet. The backend stays, without tasks and names: a spare one for
	// whoever needs it, another one for its own service, until a reload happens anyway.
	Retired bool
	// Resting says that a retired backend can't be another service's yet: something may be on its way to the tasks of the last one, or
	// it does not run yet.
	Resting bool `json:",omitempty"`
}

// Server is one slot of a backend. A free slot has no task, is in maintenance, and keeps its last address and weight.
type Server struct {
	Name  string         // "s1"
	Addr  netip.AddrPort // zero in a free slot that may have any
	Task  string
	Admin AdminState
	// Weight is 0 to 256.
	Weight int
	// CheckPort is the port that is probed, 0 for that of Addr.
	CheckPort uint16 `json:",omitempty"`
	// Gated says that a ready server waits for HAProxy's first check to pass.
	Gated bool
	// Pace is how often it is checked.
	Pace Pace `json:",omitempty"`
}

// AdminState is the administrative state of a server, in HAProxy's words.
type AdminState string

// The administrative states of a server.
const (
	Ready AdminState = "ready"
	Drain AdminState = "drain"
	Maint AdminState = "maint"
)

// Listener is one service port that listens for itself.
type Listener struct {
	Name    string
	Port    int
	Mode    signalbox.Mode
	Backend string
	Service signalbox.ServiceID

	Address     netip.Addr // on which it listens; invalid: that of Options.ServiceBind
	AcceptProxy bool       // its clients speak the PROXY protocol
	TLS         bool       // it terminates TLS
	Certificate string     // with this one; "": with that for the name that a client asks for
}

// Routes say where requests by name go. A name is a host, "*.x", the token of a regular expression, or "*" for every host; a value
// is a backend's name, no_path, or a split, whose buckets Splits has.
type Routes struct {
	HostRegexes []MapEntry // in the order in which they are tried; pattern of a whole host to the name that it stands for
	Hosts       []MapEntry // sorted by Key; name + path + "/" to value: prefixes
	Exact       []MapEntry // sorted by Key; name + path to value
	PathRegexes []MapEntry // in the order in which they are tried; pattern of name + "|" + path to value
	Splits      []MapEntry // sorted by Key; split + bucket to backend's name
	Paths       []MapEntry // sorted by Key; the names whose paths tell services apart, to how: "prefix,exact,regex" or some of these
}

// all returns the lists, in one order.
func (r *Routes) all() [6]*[]MapEntry {
	return [...]*[]MapEntry{&r.HostRegexes, &r.Hosts, &r.Exact, &r.PathRegexes, &r.Splits, &r.Paths}
}

// MapEntry is one line of a map file. A Value of "" stands for several entries with one key that differ, which only HAProxy can have.
type MapEntry struct{ Key, Value string }

// Options are the operator's choices, the same for every Config of a run.
type Options struct {
	Dir          string        // absolute: holds haproxy.cfg, the maps and the sockets
	HTTPBind     []string      // addresses of the HTTP entry: ":80", "127.0.0.1:8000"
	HTTPSBind    []string      // addresses of the HTTPS entry; empty: there is none
	Certificates []Certificate // sorted by Name; their files, and that of the default one, stand in Dir
	ServiceBind  string        // address of the service ports: "*" or an IP address
	ServicePorts PortRange     // service ports that are bound at once
	AppIDBind    []string      // addresses of the entry by X-Marathon-App-Id; empty: there is none
	HealthBind   []string      // addresses that answer marathon-lb's health check; empty: there are none
	OtherPorts   []int         // ports of this program's own listeners, sorted
	ClusterPorts []int         // ports of the machine and the cluster, which no service gets even while nobody listens there, sorted
	// TrustedProxies may say who the client is that they speak for. ProxyProtocolFrom are the proxies that begin each connection with
	// the PROXY protocol, and thereby always say so.
	TrustedProxies, ProxyProtocolFrom []netip.Prefix

	StatsSocket   string // path of the runtime socket
	StatsGID      int    // group that may use the runtime socket; 0: its owner alone
	LogSocket     string // path of the unix stream socket that takes the access log, "" for no log
	LogAlso       string // where the access log goes besides, by UDP ("10.0.0.5:514") or to a unix datagram socket ("/dev/log"); "": nowhere
	LogPulled     bool   // HAProxy keeps the log in its ring, for control.LogFeed: 3.3 and later send no ring to a unix socket
	LogFormat     string // metrics.LogFormat, for HTTP
	LogFormatTCP  string // the same for TCP
	CallerHeader  string // name of the request header that says who calls; "": none
	RingFormat    string // format of the ring's messages; "": "short"
	LogLine       int    // bytes of the longest log line; 0: 8192
	RingBytes     int    // size of the ring; 0: 4 MiB
	MaxConn       int    // process-wide, within the file-descriptor limit
	Threads       int    // 0: HAProxy's choice
	User, Group   string // that HAProxy changes to, "" to stay
	HardStopAfter time.Duration
	MaxReloads    int  // mworker-max-reloads
	MinSlots      int  // 0: by the number of services, within a budget
	AddServers    bool // servers can be added while HAProxy runs: its version is known to do so well, and the template is our own
	SpareSlots    int  // that free spare backends have at most; 0: there are none, and a new service takes a reload

	UserLists  map[string][]User // that services may ask for by name
	ErrorPages map[string][]byte // the same: whole answers, or bodies alone
	Prefer     Preference
	Node       []string // names and addresses of this machine, as tasks have them; empty: unknown
	FleetSize  int      // machines that check the same tasks; 0: 1
}

// Command is one runtime command. Its words come from typed values only.
type Command struct {
	Text string // one line, without its newline
	Why  string // for the log
}

// The weights of servers. Those of tasks nearby are in locality.go.
const (
	NormalWeight  = 100
	SuspectWeight = 1 // preferred a hundredth as much, and all that is left when every task is suspect
)

// Reason says why a change can't be made without a reload. The same words stand in logs, in the metric's label and in tests.
type Reason string

// The reasons to reload.
const (
	FirstConfig         Reason = "first configuration"
	OptionsChanged      Reason = "options changed"
	BackendAdded        Reason = "backend added" // of a service that no spare one could be for
	NoSpare             Reason = "no spare backend of this shape"
	SparesExhausted     Reason = "spare backends exhausted"
	SparesChanged       Reason = "spare backends changed" // and no other, but paces
	BackendRemoved      Reason = "backend removed"
	SlotsExhausted      Reason = "slots exhausted"
	SlotsShrunk         Reason = "slots shrunk"
	PacesChanged        Reason = "paces of checks changed" // and no other, but spares
	ModeChanged         Reason = "mode changed"
	CheckChanged        Reason = "check changed"
	ListenerAdded       Reason = "listener added"
	ListenerRemoved     Reason = "listener removed"
	ListenerChanged     Reason = "listener changed"
	RegexesChanged      Reason = "regular expressions changed" // the first that matches counts, and a map can only be added to at its end
	CertificatesChanged Reason = "certificates changed"
	PolicyChanged       Reason = "policy changed"
)

// Plan is what leads from the running Config to a wanted one.
type Plan struct {
	Commands []Command // in order; safe to send even if a reload follows
	Reasons  []Reason  // each once, sorted; empty: the commands suffice
	// Opens says that the commands let something answer that did not: a name, a path, a backend that had no server.
	Opens bool
	// Left are the backends that nothing leads to once the commands are done. Their servers go on for those who are on their way, and
	// have to be emptied a moment later.
	Left []string
}
