package labels

import (
	"slices"
	"strings"
	"time"

	"signalbox"
)

// stickyCookie is the cookie of a service that only asks to be sticky.
const stickyCookie = "SIGNALBOX_TASK"

// taskLabels say which task answers, and how tasks are spoken to.
var taskLabels = []Label{
	scalar(Label{
		Key: "balance", Type: "`" + strings.Join(signalbox.Balances, "`, `") + "`", Default: "roundrobin", Twin: "BALANCE", EveryPort: true,
		Doc: "How a task is chosen for a request.", Example: "leastconn",
		Invalid: "the default holds",
	}, func(p *signalbox.Policy) *string { return &p.Balance }, choice(signalbox.Balances...)),
	scalar(Label{
		Key: "sticky", Type: "bool, or the name of a cookie", Default: "false", Twin: "STICKY", EveryPort: true, HTTP: true,
		Doc: "A cookie keeps a client at the task that answered it first; true calls it " + stickyCookie + ".", Example: "true",
		Invalid: "clients are not kept at a task",
	}, func(p *signalbox.Policy) *string { return &p.Sticky }, parseSticky),
	scalar(Label{
		Key: "slow-start", Type: "time, 0 to 1h", Default: "0", EveryPort: true,
		Doc: "How long a task that has come takes to get its whole share.", Example: "30s",
		Invalid: "0 holds",
	}, func(p *signalbox.Policy) *time.Duration { return &p.SlowStart }, duration(0, time.Hour)),
	scalar(Label{
		Key: "maxconn", Type: "0 to 1000000", Default: "0: no limit", EveryPort: true,
		Doc: "The connections to one task at a time; requests beyond that wait.", Example: "100",
		Invalid: "no limit holds",
	}, func(p *signalbox.Policy) *int { return &p.MaxConn }, number(0, 1_000_000)),
	{
		Key: "health", Type: "`off`, `tcp` or `GET /path`", Default: "as the app's health checks say", EveryPort: true,
		Doc: "How HAProxy probes each task: not at all, by connecting, or by a request that must be answered with 2xx or 3xx.", Example: "GET /health",
		Invalid: "the app's health checks say",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			check, bad := parseHealth(raw)
			if bad != nil {
				return []flaw{*bad}, true
			}
			v.check = &check
			return nil, false
		},
		keep: func(v *values, prev *signalbox.Service) string {
			check := prev.Check
			v.check = &check
			switch check.Kind {
			case signalbox.CheckHTTP:
				return "GET " + check.Path
			case signalbox.CheckOff:
				return "off"
			}
			return "tcp"
		},
	},
	{
		Key: "health-interval", Type: "time, 500ms to 5m", Default: "as the app's health checks say, or 2s", EveryPort: true,
		Doc: "How often HAProxy probes a task on its own machine. Tasks on other machines it probes every 30 s, or less often in a large fleet, or where this asks for it.", Example: "5s",
		Invalid: "the default holds; what is out of bounds counts as the nearest bound",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			d, bad := clamped(500*time.Millisecond, 5*time.Minute)(raw)
			if bad != nil && !bad.used {
				return []flaw{*bad}, true
			}
			v.interval = d
			if bad != nil {
				return []flaw{*bad}, false
			}
			return nil, false
		},
		lost: "the default holds",
		keep: func(v *values, prev *signalbox.Service) string {
			if prev.Check.Interval == 0 {
				return ""
			}
			v.interval = prev.Check.Interval
			return v.interval.String()
		},
	},
	{
		Key: "health-port", Type: "index or name of a port of the app", Default: "the port itself", Twin: "BACKEND_HEALTHCHECK_PORT_INDEX", EveryPort: true,
		Doc: "The port that HAProxy probes in the place of this one, by that port's health check where this one has none.", Example: "1",
		Invalid: "the port itself is probed",
		set: func(v *values, raw string, _ *Options) ([]flaw, bool) {
			v.healthPort = raw
			return nil, false
		},
		keep: func(*values, *signalbox.Service) string { return "" },
	},
	scalar(Label{
		Key: "timeout", Type: "time, 100ms to 24h", Default: "60s; 1h for a tunnel", EveryPort: true,
		Doc:     "How long a task may take to answer, and how long nothing may move in a tunnel such as a web socket or a TCP connection.",
		Example: "5m", Invalid: "the default holds",
	}, func(p *signalbox.Policy) *time.Duration { return &p.Timeout }, duration(100*time.Millisecond, 24*time.Hour)),
	scalar(Label{
		Key: "connect-timeout", Type: "time, 10ms to 1m", Default: "4s", EveryPort: true,
		Doc: "How long connecting to a task may take.", Example: "500ms",
		Invalid: "the default holds",
	}, func(p *signalbox.Policy) *time.Duration { return &p.ConnectTimeout }, duration(10*time.Millisecond, time.Minute)),
	scalar(Label{
		Key: "retries", Type: "0 to 10", Default: "3", EveryPort: true,
		Doc: "How often a connection that failed is tried again, each time at another task.", Example: "3",
		Invalid: "the default holds; what is out of bounds counts as the nearest bound", lost: "the default holds",
	}, func(p *signalbox.Policy) **int { return &p.Retries }, optional(clampedNumber(0, 10))),
	scalar(Label{
		Key: "backend-tls", Type: "`off`, `insecure` or `verify`", Default: "off", EveryPort: true,
		Doc:     "Whether tasks are spoken to over TLS, and whether their certificate must be of one of the system's authorities for the host that is asked for.",
		Example: "verify", Invalid: "off holds",
	}, func(p *signalbox.Policy) *signalbox.BackendTLS { return &p.BackendTLS }, parseBackendTLS),
	onOff(Label{
		Key: "http2", Default: "false", EveryPort: true, HTTP: true,
		Doc: "Tasks are spoken to in HTTP/2, as gRPC needs it.", Example: "true",
		Invalid: "false holds",
	}, func(p *signalbox.Policy) *bool { return &p.HTTP2 }),
	onOff(Label{
		Key: "send-proxy", Default: "false", EveryPort: true,
		Doc: "Tasks are told the client's address by the PROXY protocol, version 2.", Example: "true",
		Invalid: "false holds",
	}, func(p *signalbox.Policy) *bool { return &p.SendProxy }),
	scalar(Label{
		Key: "task-port", Type: "1 to 65535", Default: "as Marathon says",
		Doc:     "The port at which tasks answer, where each has an address of its own in a container network. On an agent's address the ports are others' too, and Marathon's word holds.",
		Example: "80", Invalid: "the port that Marathon says holds",
	}, func(p *signalbox.Policy) *int { return &p.TaskPort }, number(1, 65535)),
}

// parseSticky reads a boolean or the name of a cookie; "" for none.
func parseSticky(s string) (string, *flaw) {
	if on, ok := parseBool(s); ok {
		if on {
			return stickyCookie, nil
		}
		return "", nil
	}
	return parsePlain(s)
}

// parseHealth reads off, tcp or GET /path.
func parseHealth(s string) (signalbox.Check, *flaw) {
	switch strings.ToLower(s) {
	case "off":
		return signalbox.Check{Kind: signalbox.CheckOff}, nil
	case "tcp":
		return signalbox.Check{Kind: signalbox.CheckTCP}, nil
	}
	method, path, ok := strings.Cut(s, " ")
	if !ok || method != "GET" {
		bad := noChoice(s, "off", "tcp", "GET /path")
		return signalbox.Check{}, &bad
	}
	path, bad := parseTarget(strings.TrimSpace(path))
	if bad != nil {
		bad.value = s
		return signalbox.Check{}, bad
	}
	return signalbox.Check{Kind: signalbox.CheckHTTP, Path: path}, nil
}

func parseBackendTLS(s string) (signalbox.BackendTLS, *flaw) {
	switch strings.ToLower(s) {
	case "off":
		return signalbox.BackendPlain, nil
	case "insecure":
		return signalbox.BackendUnverified, nil
	case "verify":
		return signalbox.BackendVerified, nil
	}
	bad := noChoice(s, "off", "insecure", "verify")
	return "", &bad
}

// choice returns a reader of one of the words.
func choice(words ...string) func(string) (string, *flaw) {
	return func(s string) (string, *flaw) {
		if w := strings.ToLower(s); slices.Contains(words, w) {
			return w, nil
		}
		bad := noChoice(s, words...)
		return "", &bad
	}
}
