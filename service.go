package signalbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Mode is how a service speaks to HAProxy: requests (HTTP) or bare connections (TCP).
type Mode string

// The modes of a service.
const (
	HTTP Mode = "http"
	TCP  Mode = "tcp"
)

// ServiceID names one port of one app: "/shop/cart:0" is the first port of the app /shop/cart. It is what logs, metrics and
// verbs call a service.
type ServiceID string

// NewServiceID returns the id of port index port of app.
func NewServiceID(app string, port int) ServiceID {
	return ServiceID(fmt.Sprintf("%s:%d", app, port))
}

// Service is one routable port of one app. A Service is immutable once it is part of a Table; a change makes a new one, so
// that an unchanged service can be recognised by its pointer.
type Service struct {
	ID       ServiceID
	Source   string    // the name of the source that announced it
	App      string    // the app it belongs to: "/shop/cart"
	Port     int       // index of the port within the app
	PortName string    // name of the port within the app, or ""
	Version  string    // version of the app's definition, as the source words it
	Since    time.Time // since when it asks for what it asks for; the older of two claims keeps a contested name

	Mode   Mode
	Routes []Route // sorted; empty: reached only by Listen
	// Listen is the service port, bound on every slave; 0 asks for none. Announced is the service port that the source knows,
	// whether or not it is to be bound.
	Listen, Announced int
	Groups            []string // sorted; HAPROXY_GROUP's values
	Check             Check
	ProbedAt          string      `json:",omitempty"` // where a check asks instead of at the port itself: "port 8081", "port index 1"; or ""
	Policy            Policy      `json:",omitzero"`
	Deployment        *Deployment `json:",omitempty"` // nil: the app belongs to no deployment group
	Endpoints         []Endpoint  // sorted by Task, then Addr

	Problems []Problem // of this service's labels and tasks; sorted
}

// Route is one name under which a service answers.
type Route struct {
	// Host is "shop.local", "*.shop.local", "~" and a regular expression of whole hosts ("~api[0-9]+\.local"), or "" for every
	// host.
	Host string
	Path string // what Match says; a prefix and an exact path begin with "/", and a prefix has no trailing slash but in "/"
	Match
}

// Match says how the path of a route is compared with that of a request.
type Match string

// The ways of comparing paths.
const (
	Prefix Match = ""      // the path and everything below it, on segment boundaries; "/" is all
	Exact  Match = "exact" // the path and no other
	Regex  Match = "regex" // a regular expression of whole paths
)

// String returns the route as people write it: "shop.local/cart", "shop.local/cart (exact)", "~api[0-9]/v1".
func (r Route) String() string {
	host := r.Host
	if host == "" {
		host = "*"
	}
	switch r.Match {
	case Exact, Regex:
		return host + r.Path + " (" + string(r.Match) + ")"
	}
	return host + r.Path
}

// Compare orders routes by host, then path, then the way of matching.
func (r Route) Compare(o Route) int {
	return cmp.Or(cmp.Compare(r.Host, o.Host), cmp.Compare(r.Path, o.Path), cmp.Compare(r.Match, o.Match))
}

// Deployment is the part that an app plays while it replaces another one, or is replaced: marathon-lb's deployment groups. Services
// of one group, at one port, are merged into one.
type Deployment struct {
	Group     string // id of the app that they make up together
	Colour    string // "blue", "green", or what else the app calls itself
	StartedAt string // when the deployment began, as the label words it; the older one is being replaced
	ScaledAt  time.Time
	Instances int  // of this app
	Target    *int // instances that the whole shall have in the end; nil: not said
	New       *int // instances of the new app in a deployment that keeps both; nil: the old one goes
	// Members are the apps that a merged service is made of, the oldest first; empty before they are merged.
	Members []string
}

// Check is the health check that HAProxy runs against each task.
type Check struct {
	Kind     CheckKind
	Path     string        // CheckHTTP only
	TLS      bool          // the check speaks TLS, whoever answers
	Interval time.Duration // 0: HAProxy's default from the template
	Timeout  time.Duration // 0: as above
	Fall     int           // failures in a row until a task is down; 0: as above
}

// CheckKind says how a task is probed.
type CheckKind string

// The kinds of checks. CheckTCP, the zero value's meaning, connects and no more.
const (
	CheckTCP  CheckKind = ""
	CheckHTTP CheckKind = "http"
	CheckOff  CheckKind = "off"
)

// State is what the orchestrator knows about a task.
type State string

// The states of an endpoint.
const (
	// Up: the orchestrator's checks pass, or the app has none. It takes traffic at once.
	Up State = "up"
	// Unknown: checks exist and there is no verdict, not even an older one. HAProxy's first check decides.
	Unknown State = "unknown"
	// Suspect: lost or unreachable as the orchestrator sees it. It stays, less preferred; HAProxy's checks decide.
	Suspect State = "suspect"
	// Down: the orchestrator's checks fail. It takes no traffic.
	Down State = "down"
	// Draining: it is about to die or is dead. It takes no new traffic; running requests may end.
	Draining State = "draining"
)

// Endpoint is one task's address for one service.
type Endpoint struct {
	Task    string         // the orchestrator's task id, whole
	Addr    netip.AddrPort // always a valid address with a port of 1 to 65535
	Host    string         // the agent's host name, as the orchestrator words it
	Version string         // version of the app's definition that this task runs
	State   State
	Why     string // for a state other than Up: the reason, for people
	App     string // the app it belongs to where that is not the service's: in a deployment group; or ""
	// CheckPort is the port that is probed, 0 for that of Addr.
	CheckPort uint16
}

// Compare orders endpoints by task, then address.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(cmp.Compare(e.Task, o.Task), e.Addr.Compare(o.Addr))
}

// Equal reports whether two services say the same.
func (s *Service) Equal(o *Service) bool {
	if s == o {
		return true
	}
	return s.ID == o.ID && s.Source == o.Source && s.App == o.App && s.Port == o.Port && s.PortName == o.PortName &&
		s.Version == o.Version && s.Since.Equal(o.Since) && s.Mode == o.Mode && s.Listen == o.Listen &&
		s.Announced == o.Announced && s.Check == o.Check && s.ProbedAt == o.ProbedAt && slices.Equal(s.Routes, o.Routes) &&
		slices.Equal(s.Groups, o.Groups) && slices.Equal(s.Endpoints, o.Endpoints) && slices.Equal(s.Problems, o.Problems) &&
		s.Policy.Equal(&o.Policy) && reflect.DeepEqual(s.Deployment, o.Deployment)
}
