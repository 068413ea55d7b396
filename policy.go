package signalbox

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Policy is what the labels of a service ask for beyond its names and ports: who may enter, which task answers, and what is done
// with requests on their way. The zero value asks for nothing: the load balancer's defaults hold. Like its Service it is immutable
// once handed over.
type Policy struct {
	// Sharing a name with other services.
	Priority int  // of several claims to one host and path the highest wins; of equal ones the oldest
	Weight   *int // 0 to 256: the share among services that claim one host and path, each with a weight; nil: it does not share

	// Choosing a task.
	Balance   string        // one of Balances; "": the default
	Sticky    string        // name of the cookie that keeps a client at its task, "" for none
	SlowStart time.Duration // over which a task that has come takes up its share
	MaxConn   int           // connections to one task at a time, the rest waits; 0: no limit

	// Bounds of time.
	Timeout        time.Duration // for an answer, and for a tunnel in which nothing moves; 0: the default
	ConnectTimeout time.Duration // 0: the default
	Retries        *int          // 0 to 10 further attempts to connect; nil: the default

	// Who may enter, on every way in.
	Allow     []netip.Prefix // sorted; empty: everybody
	Auth      *Auth          // nil: nobody is asked
	RateLimit RateLimit      // of each client address; zero: none
	// Refused says why nobody may enter, where a label that restricts access cannot be carried out: the service answers 403.
	Refused string

	// TLS towards clients.
	TLS           string // name of a certificate of the load balancer, "" for none of its own
	Passthrough   bool   // the tasks terminate TLS themselves, and are told apart by the server name that the client asks for
	PortTLS       bool   // the service port speaks TLS, with the certificate TLS
	HTTPSRedirect bool   // plain requests by name are sent to https
	HSTS          bool   // answers over TLS carry Strict-Transport-Security

	// The service port.
	BindAddress netip.Addr // on which it listens; invalid: the load balancer's
	AcceptProxy bool       // its clients speak the PROXY protocol

	// What is done with requests and answers.
	StripPrefix     bool     // the path of the route is taken off
	StripPath       string   // path that is taken off requests that have it, whatever the route, "" for none
	RewritePath     string   // what the path of the route is replaced by, "" for nothing
	RewriteHost     string   // the Host that the tasks see, "" for the client's
	RewriteLocation string   // prefix put before the path of redirects that the tasks answer with, "" for none
	RedirectRoot    string   // path that a request for "/" is sent to, "" for none
	CORS            []string // origins that browsers may call from, sorted; "*" is all
	RequestHeaders  []Header // set on each request, in this order
	ResponseHeaders []Header // set on each answer, in this order
	ErrorPages      []ErrorPage
	LogHeaders      []string // of requests, in lower case, sorted: the log has their values

	// Speaking to the tasks.
	BackendTLS BackendTLS
	HTTP2      bool // tasks speak HTTP/2, as gRPC does
	SendProxy  bool // tasks are told the client's address by the PROXY protocol, version 2
	TaskPort   int  // at which tasks answer that have an address of their own; 0: the one that the source says
	// Raw holds lines for the backend's section as they stand, of an app for which the operator allows that.
	Raw []string

	// What other rooms read.
	RoutePatterns []string // templates of paths, for metrics: /users/{id}
	SLO           SLO
	Log           string // on, off, errors or 1/N: what is forwarded and shown of the access log; "": on
	Trace         string // on, off, external or 1/N; "": on
	Owner, Docs   string // for people
}

// MaxLogHeaders is how many headers of a service the log has at most: a line has room for them whatever a client sends.
const MaxLogHeaders = 4

// Balances are the ways of choosing a task, in HAProxy's words.
var Balances = []string{"roundrobin", "leastconn", "random", "source", "uri", "first", "static-rr"}

// Auth asks clients for a name and a password.
type Auth struct {
	Realm string
	List  string // name of a list of users that the operator has given; "" where User and Hash are given
	User  string
	Hash  string // of the password, as crypt(3) writes it; a secret
	// Wide says that the label is marathon-lb's, which asked for the password wherever the routes of the service lead, even where
	// another app answers. Here each app asks for its own; who is open now, and was not there, is told.
	Wide bool
}

// RateLimit bounds the requests of one client address. The zero value bounds nothing.
type RateLimit struct {
	Requests int
	Per      time.Duration
}

// Header is one header field.
type Header struct{ Name, Value string }

// ErrorPage answers a status of the load balancer's own with a page that the operator has given.
type ErrorPage struct {
	Status int
	Name   string
}

// BackendTLS says how tasks are spoken to.
type BackendTLS string

// The ways of speaking to tasks.
const (
	BackendPlain      BackendTLS = ""         // without TLS
	BackendUnverified BackendTLS = "insecure" // TLS, whoever it is
	BackendVerified   BackendTLS = "verify"   // TLS, with a certificate of the system's authorities for the Host that is asked for
)

// SLO is a service level objective. The zero value is none.
type SLO struct {
	Objective float64       // share of good requests, 0 to 1
	Latency   time.Duration // within which a request must be answered to be good; 0: an answer below 500 suffices
}

// Equal reports whether two policies ask for the same.
func (p *Policy) Equal(o *Policy) bool { return reflect.DeepEqual(p, o) }

// String returns the policy as words, "key=value", in an order of their own, without secrets; "" where nothing is asked for. The
// keys are those of the native labels.
func (p *Policy) String() string {
	var words []string
	add := func(key string, holds bool, value any) {
		if holds {
			text := fmt.Sprint(value)
			if text == "" || strings.ContainsAny(text, " \"'\\=\n\r\t") {
				text = strconv.Quote(text)
			}
			words = append(words, key+"="+text)
		}
	}
	add("priority", p.Priority != 0, p.Priority)
	if p.Weight != nil {
		add("weight", true, *p.Weight)
	}
	add("balance", p.Balance != "", p.Balance)
	add("sticky", p.Sticky != "", p.Sticky)
	add("slow-start", p.SlowStart != 0, p.SlowStart)
	add("maxconn", p.MaxConn != 0, p.MaxConn)
	add("timeout", p.Timeout != 0, p.Timeout)
	add("connect-timeout", p.ConnectTimeout != 0, p.ConnectTimeout)
	if p.Retries != nil {
		add("retries", true, *p.Retries)
	}
	add("allow", len(p.Allow) > 0, join(p.Allow))
	if a := p.Auth; a != nil {
		if a.List != "" {
			add("auth", true, a.List)
		} else {
			add("auth", true, a.Realm+":"+a.User) // never the hash
		}
	}
	add("rate-limit", p.RateLimit != RateLimit{}, p.RateLimit)
	add("refused", p.Refused != "", p.Refused)
	add("tls", p.TLS != "", p.TLS)
	add("tls", p.Passthrough, "passthrough")
	add("port-tls", p.PortTLS, true)
	add("https-redirect", p.HTTPSRedirect, true)
	add("hsts", p.HSTS, true)
	add("bind-address", p.BindAddress.IsValid(), p.BindAddress)
	add("accept-proxy", p.AcceptProxy, true)
	add("strip-prefix", p.StripPrefix, true)
	add("strip-prefix", p.StripPath != "", p.StripPath)
	add("rewrite-path", p.RewritePath != "", p.RewritePath)
	add("rewrite-host", p.RewriteHost != "", p.RewriteHost)
	add("rewrite-location", p.RewriteLocation != "", p.RewriteLocation)
	add("redirect-root", p.RedirectRoot != "", p.RedirectRoot)
	add("cors", len(p.CORS) > 0, strings.Join(p.CORS, ","))
	for _, h := range p.RequestHeaders {
		add("request-header", true, h)
	}
	for _, h := range p.ResponseHeaders {
		add("response-header", true, h)
	}
	for _, e := range p.ErrorPages {
		add("error-page", true, fmt.Sprintf("%d:%s", e.Status, e.Name))
	}
	add("backend-tls", p.BackendTLS != "", p.BackendTLS)
	add("http2", p.HTTP2, true)
	add("send-proxy", p.SendProxy, true)
	add("task-port", p.TaskPort != 0, p.TaskPort)
	for _, line := range p.Raw {
		add("raw", true, line)
	}
	add("routes", len(p.RoutePatterns) > 0, strings.Join(p.RoutePatterns, ","))
	add("slo", p.SLO != SLO{}, p.SLO)
	add("log-headers", len(p.LogHeaders) > 0, strings.Join(p.LogHeaders, ","))
	add("log", p.Log != "", p.Log)
	add("trace", p.Trace != "", p.Trace)
	add("owner", p.Owner != "", p.Owner)
	add("docs", p.Docs != "", p.Docs)
	return strings.Join(words, " ")
}

func join[T fmt.Stringer](all []T) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = v.String()
	}
	return strings.Join(words, ",")
}

// String returns the limit as its label writes it: "100/s", "30/10s".
func (r RateLimit) String() string {
	switch r.Per {
	case time.Second:
		return strconv.Itoa(r.Requests) + "/s"
	case time.Minute:
		return strconv.Itoa(r.Requests) + "/m"
	case time.Hour:
		return strconv.Itoa(r.Requests) + "/h"
	}
	return fmt.Sprintf("%d/%s", r.Requests, r.Per)
}

// secretHeader are names of header fields whose values are nobody's business.
var secretHeader = regexp.MustCompile(`(?i)auth|cookie|token|key|secret|passw`)

// String returns the header as a message writes it, without a value that is likely a secret.
func (h Header) String() string {
	if secretHeader.MatchString(h.Name) {
		return h.Name + ": …"
	}
	return h.Name + ": " + h.Value
}

// String returns the objective as its label writes it: "99.9% < 250ms".
func (s SLO) String() string {
	text := strconv.FormatFloat(s.Objective*100, 'f', -1, 64) + "%"
	if s.Latency != 0 {
		text += " < " + s.Latency.String()
	}
	return text
}
