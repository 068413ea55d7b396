package loadgen

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Target is one kind of request.
type Target struct {
	Name   string // what it is counted under; several targets may share one
	URL    string // where to connect: "http://127.0.0.1:8000"; its host and path stand in for Host and Path left empty
	Host   string // Host header; "" is the URL's
	Path   string // path and query; "" is the URL's, or "/"
	Method string // "" is GET
	Body   string // sent with a Content-Length
	Header map[string]string
	Weight int // share among all targets; 0 means 1
	// Expect is the value of Config.AppHeader that answers must have; another one counts as Misrouted. "" takes any.
	Expect string
}

// Config is what a Generator does. Rate and Targets are needed, the rest has defaults.
type Config struct {
	Targets []Target
	Rate    float64 // requests a second over all targets
	// Poisson spaces requests at random, as independent clients do, rather than evenly.
	Poisson     bool
	Requests    uint64        // how many to schedule; 0 is no bound
	Duration    time.Duration // for how long to schedule; 0 is no bound
	MaxInFlight int           // 0 means 512
	Timeout     time.Duration // of one request from its connection to the end of its answer; 0 means 10 s
	// KeepAlive sends many requests over one connection; otherwise each has its own.
	KeepAlive bool
	// IdleTimeout closes a kept connection rather than use it after so long without a request; 0 never does. A client that keeps
	// connections for as long as the server does meets some that the server is just closing.
	IdleTimeout time.Duration
	// AppHeader is a header that every answer of an app has and no answer of a proxy: it tells whose a status code is.
	// "" means DefaultAppHeader.
	AppHeader string
	// IDHeader is the header that carries an id of each request's own; "" means DefaultIDHeader. A second attempt on a fresh
	// connection has the id of the first with "+" after it.
	IDHeader string
	// KeepFailures is how many failures, the first ones, the report tells whole; 0 means 20.
	KeepFailures int
	Seed         uint64 // of the choice among targets and of Poisson spacing
}

// Headers that hold unless a Config says otherwise.
const (
	DefaultAppHeader = "X-Signalbox-Demo"
	DefaultIDHeader  = "X-Load-Id"
)

func (c Config) withDefaults() (Config, error) {
	if !(c.Rate > 0 && c.Rate <= 1e6) { // no number is neither
		return c, fmt.Errorf("load of %g requests a second: more than 0 and at most a million are possible", c.Rate)
	}
	if c.MaxInFlight < 0 || c.Timeout < 0 || c.Duration < 0 || c.IdleTimeout < 0 || c.KeepFailures < 0 {
		return c, errors.New("load: bounds cannot be negative")
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 512
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.KeepFailures == 0 {
		c.KeepFailures = 20
	}
	if c.AppHeader == "" {
		c.AppHeader = DefaultAppHeader
	}
	if c.IDHeader == "" {
		c.IDHeader = DefaultIDHeader
	}
	if err := checkHeader(c.AppHeader, ""); err != nil {
		return c, err
	}
	return c, checkHeader(c.IDHeader, "")
}

// request is a target made ready: everything about its bytes but the id.
type request struct {
	name    string
	host    string // as in the Host header
	address string // host:port to dial
	tls     bool
	server  string // the name to ask TLS for
	method  string
	head    []byte // up to and including the id header's name
	tail    []byte // from the end of the id's line
	expect  string
	replays bool // safe to send twice
	weight  int
	tally   *tally
}

func prepare(c Config, t Target) (*request, error) {
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", t.Name, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("target %q: %q is no http:// or https:// address", t.Name, t.URL)
	}
	if t.Weight < 0 {
		return nil, fmt.Errorf("target %q: weight %d is negative", t.Name, t.Weight)
	}
	r := &request{
		name: t.Name, tls: u.Scheme == "https", server: u.Hostname(), method: t.Method, expect: t.Expect,
		weight: max(1, t.Weight),
	}
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[r.tls]
	}
	r.address = net.JoinHostPort(u.Hostname(), port)
	if r.method == "" {
		r.method = "GET"
	}
	host, path := t.Host, t.Path
	if host == "" {
		host = u.Host
	} else if r.tls {
		r.server = hostname(host)
	}
	r.host = host
	if path == "" {
		path = u.RequestURI()
	}
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \r\n") || strings.ContainsAny(r.method+host, " \r\n") {
		return nil, fmt.Errorf("target %q: %s %q at host %q is no request", t.Name, r.method, path, host)
	}
	r.replays = r.method == "GET" || r.method == "HEAD"
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: signalbox-loadgen\r\n", r.method, path, host)
	for name, value := range t.Header {
		if err := checkHeader(name, value); err != nil {
			return nil, fmt.Errorf("target %q: %w", t.Name, err)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if t.Body != "" {
		b.WriteString("Content-Length: " + strconv.Itoa(len(t.Body)) + "\r\n")
	}
	if !c.KeepAlive {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString(c.IDHeader + ": ")
	r.head, r.tail = []byte(b.String()), []byte("\r\n\r\n"+t.Body)
	return r, nil
}

func checkHeader(name, value string) error {
	if name == "" || strings.ContainsAny(name, ": \r\n") || strings.ContainsAny(value, "\r\n") {
		return fmt.Errorf("header %q with value %q is none", name, value)
	}
	return nil
}

func hostname(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return hostport
}
