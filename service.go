package signalbox

import (
	"cmp"
	"fmt"
	"net/netip"
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
	Since    time.Time // when the app's definition last changed; the older of two claims keeps a contested name

	Mode   Mode
	Routes []Route // sorted; empty: reached only by Listen
	// Listen is the service port, bound on every slave; 0 asks for none. Announced is the service port that the source knows,
	// whether or not it is to be bound.
	Listen, Announced int
	Groups            []string // sorted; HAPROXY_GROUP's values
	Check             Check
	Endpoints         []Endpoint // sorted by Task, then Addr

	Problems []Problem // of this service's labels and tasks; sorted
}

// Route is one name under which a service answers.
type Route struct {
	Host string // "shop.local", "*.shop.local", or "" for every host
	Path string // a prefix on segment boundaries, without a trailing slash; "/" for all
}

// String returns the route as people write it: "shop.local/cart".
func (r Route) String() string {
	host := r.Host
	if host == "" {
		host = "*"
	}
	return host + r.Path
}

// Compare orders routes by host, then path.
func (r Route) Compare(o Route) int {
	return cmp.Or(cmp.Compare(r.Host, o.Host), cmp.Compare(r.Path, o.Path))
}

// Check is the health check that HAProxy runs against each task.
type Check struct {
	Kind     CheckKind
	Path     string        // CheckHTTP only
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
		s.Announced == o.Announced && s.Check == o.Check && slices.Equal(s.Routes, o.Routes) &&
		slices.Equal(s.Groups, o.Groups) && slices.Equal(s.Endpoints, o.Endpoints) && slices.Equal(s.Problems, o.Problems)
}
