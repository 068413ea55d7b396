package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"signalbox/admin"
	"signalbox/discovery/consul"
	"signalbox/discovery/labels"
	"signalbox/haproxy"
	"signalbox/metrics"
	"signalbox/metrics/hub"
	"signalbox/metrics/statsd"
)

// settings is all that an operator chooses for run. Paths that are left empty follow from others: use the methods below.
type settings struct {
	derived []metrics.Derived // of the variables SIGNALBOX_METRIC_…

	Marathon             []string // base URLs, without credentials
	MarathonUser         string
	MarathonPasswordFile string
	MarathonTokenFile    string
	MarathonCAFile       string
	Resync               time.Duration
	FleetSize            int
	Health               string // any, all

	Consul           []string // base URLs, without credentials
	ConsulTokenFile  string
	ConsulCAFile     string
	ConsulDatacenter string
	ConsulMaxStale   time.Duration
	ConsulWatches    int

	relaySettings
	zookeeperSettings

	Labels         []string
	Strict         bool
	RawTemplates   []string
	Group          []string
	ServicePorts   string // all, labelled, off
	AllowLoopback  bool
	PreferHostPort bool
	ControlPorts   []string // numbers
	Static         string   // path

	Settle          time.Duration
	QuarantineTasks float64 // share, 0 to 1
	QuarantineApps  float64 // share, 0 to 1
	QuarantineMin   int
	QuarantineReads int
	QuarantineSpan  time.Duration

	HAProxy             string // supervise, attach
	HAProxyBin          string
	HAProxyDir          string
	HAProxyMasterSocket string
	HAProxyUser         string
	HAProxyGroup        string
	CheckUser           string
	Template            string
	HTTPBind            []string
	HTTPSBind           []string
	ServiceBind         string
	Certificates        string
	ServicePortRange    string
	AppIDBind           []string
	HealthBind          []string
	TrustedProxies      []string
	ProxyProtocolFrom   []string
	UserLists           string
	ErrorPages          string
	Prefer              string // none, local
	CallerHeader        string
	Node                []string
	MaxConn             int
	Slots               int
	SpareSlots          int
	ReloadInterval      time.Duration
	ReloadBurst         int
	ReloadRefill        time.Duration
	Drain               time.Duration
	HardStopAfter       time.Duration
	MaxReloads          int
	AccessLogAlso       string   // address
	LogListen           []string // URLs

	Sinks        []string // URLs
	SinkInterval time.Duration

	StatsD        []string // addresses
	StatsDMapping string   // path

	MetricsListen    []string // addresses
	MetricsTokenFile string

	Hub          []string // URLs
	HubTokenFile string
	HubInterval  time.Duration

	StateDir         string
	Admin            []string
	AdminTokenFile   string
	AdminSocketGroup string
	LogSocketGroup   string
	LogLevel         string
	LogFormat        string // auto, text, json
}

// defaults returns the settings that hold unless a flag or a variable says otherwise.
func defaults() settings {
	return settings{
		Marathon:          []string{"http://127.0.0.1:8080"},
		Resync:            time.Minute,
		FleetSize:         1,
		zookeeperSettings: zookeeperSettings{MarathonScheme: "http"},
		Health:            "all",
		ConsulMaxStale:    5 * time.Second,
		ConsulWatches:     150,
		Labels:            labels.Dialects(),
		ServicePorts:      "labelled",
		ControlPorts:      []string{"22", "2181", "5050", "5051"},
		Settle:            2 * time.Millisecond,
		QuarantineTasks:   0.5,
		QuarantineApps:    0.2,
		QuarantineMin:     10,
		QuarantineReads:   3,
		QuarantineSpan:    15 * time.Second,
		HAProxy:           "supervise",
		HAProxyBin:        "haproxy",
		HTTPBind:          []string{":80"},
		ServiceBind:       "*",
		Prefer:            "none",
		CallerHeader:      callerHeader,
		ReloadInterval:    time.Second,
		ReloadBurst:       5,
		ReloadRefill:      10 * time.Second,
		Drain:             30 * time.Second,
		HardStopAfter:     30 * time.Minute,
		MaxReloads:        10,
		SpareSlots:        haproxy.DefaultSpareSlots,
		SinkInterval:      10 * time.Second,
		HubInterval:       10 * time.Second,
		StateDir:          "/var/lib/signalbox",
		Admin:             []string{"127.0.0.1:9901"},
		LogLevel:          "info",
		LogFormat:         "auto",
	}
}

// setting is one row of the table that flags, variables, `signalbox config` and docs/configuration.md come from.
type setting struct {
	section string
	name    string // the flag; the variable follows from it
	help    string
	value   func(*settings) pflag.Value
}

// settingTable lists every setting of run, in the order of the documentation.
var settingTable = []setting{
	{"Marathon", "marathon", "Marathon's `URLs`, all members of one cluster; or zk://host:2181,host:2181/marathon, where it elects its leader: docs/zookeeper.md", func(s *settings) pflag.Value { return listOf(&s.Marathon) }},
	{"Marathon", "marathon-user", "`user` for basic authentication", func(s *settings) pflag.Value { return textOf(&s.MarathonUser) }},
	{"Marathon", "marathon-password-file", "`file` with the password for basic authentication", func(s *settings) pflag.Value { return textOf(&s.MarathonPasswordFile) }},
	{"Marathon", "marathon-token-file", "`file` with a DC/OS token", func(s *settings) pflag.Value { return textOf(&s.MarathonTokenFile) }},
	{"Marathon", "marathon-ca-file", "PEM `file` of the authorities that sign Marathon's certificate, instead of the system's", func(s *settings) pflag.Value { return textOf(&s.MarathonCAFile) }},
	{"Marathon", "marathon-scheme", "what members speak that ZooKeeper names: `http|https`", func(s *settings) pflag.Value { return oneOf(&s.MarathonScheme, "http", "https") }},
	{"Marathon", "resync", "mean `time` between two reads of everything; the event stream carries what happens between", func(s *settings) pflag.Value { return durationOf(&s.Resync, time.Second, 24*time.Hour) }},
	{"Marathon", "fleet-size", "`number` of machines that run signalbox against this Marathon; a larger fleet refetches, and checks tasks on other machines, more gently", func(s *settings) pflag.Value { return intOf(&s.FleetSize, 1, 1_000_000) }},
	{"Marathon", "health", "which of a task's health checks must pass: `any|all`", func(s *settings) pflag.Value { return oneOf(&s.Health, "any", "all") }},

	{"ZooKeeper", "zookeeper-user", "`user` of ZooKeeper's digest authentication", func(s *settings) pflag.Value { return textOf(&s.ZooKeeperUser) }},
	{"ZooKeeper", "zookeeper-password-file", "`file` with the password for it", func(s *settings) pflag.Value { return textOf(&s.ZooKeeperPasswordFile) }},
	{"ZooKeeper", "zookeeper-tls", "speak TLS with ZooKeeper", func(s *settings) pflag.Value { return boolOf(&s.ZooKeeperTLS) }},
	{"ZooKeeper", "zookeeper-ca-file", "PEM `file` of the authorities that sign ZooKeeper's certificates, instead of the system's", func(s *settings) pflag.Value { return textOf(&s.ZooKeeperCAFile) }},
	{"ZooKeeper", "zookeeper-cert-file", "PEM `file` of the certificate that is shown to ZooKeeper", func(s *settings) pflag.Value { return textOf(&s.ZooKeeperCertFile) }},
	{"ZooKeeper", "zookeeper-key-file", "PEM `file` of its key", func(s *settings) pflag.Value { return textOf(&s.ZooKeeperKeyFile) }},

	{"Consul", "consul", "`URLs` of this machine's Consul agent, or of several servers of one cluster; empty: Consul is not read: docs/consul.md", func(s *settings) pflag.Value { return listOf(&s.Consul) }},
	{"Consul", "consul-token-file", "`file` with an ACL token that may read services and nodes", func(s *settings) pflag.Value { return textOf(&s.ConsulTokenFile) }},
	{"Consul", "consul-ca-file", "PEM `file` of the authorities that sign Consul's certificate, instead of the system's", func(s *settings) pflag.Value { return textOf(&s.ConsulCAFile) }},
	{"Consul", "consul-datacenter", "`name` of the datacenter to read; empty: the agent's own", func(s *settings) pflag.Value { return textOf(&s.ConsulDatacenter) }},
	{"Consul", "consul-max-stale", "greatest `time` since a server last heard of its leader for its answer to count; an older one is asked of the leader", func(s *settings) pflag.Value { return durationOf(&s.ConsulMaxStale, time.Millisecond, time.Hour) }},
	{"Consul", "consul-watches", "greatest `number` of blocking queries at one time, a connection each; more services than that take turns", func(s *settings) pflag.Value { return intOf(&s.ConsulWatches, 1, 100_000) }},

	{"Relay", "relay", "`address` where the fleet shares what one machine of it reads of Marathon: consul://127.0.0.1:8500/signalbox; empty: each reads for itself: docs/relay.md", func(s *settings) pflag.Value { return textOf(&s.Relay) }},
	{"Relay", "relay-key-file", "`file` with a secret of the fleet, of 16 bytes or more; what is shared without it is refused", func(s *settings) pflag.Value { return textOf(&s.RelayKeyFile) }},

	{"Routes", "labels", "label `dialects` to read, signalbox, haproxy (marathon-lb's) and fabio (urlprefix- tags of Consul's services)", func(s *settings) pflag.Value { return listOf(&s.Labels) }},
	{"Routes", "strict", "only a port whose label enable is true is a service", func(s *settings) pflag.Value { return boolOf(&s.Strict) }},
	{"Routes", "raw-templates", "apps and groups, `ids`, whose HAPROXY_N_BACKEND_* templates may put lines that no label can say into their backends as they stand: who deploys there can do whatever HAProxy can", func(s *settings) pflag.Value { return listOf(&s.RawTemplates) }},
	{"Routes", "group", "only apps of these `groups` (signalbox.group, HAPROXY_GROUP); empty or * for every app", func(s *settings) pflag.Value { return listOf(&s.Group) }},
	{"Routes", "service-ports", "which service ports are bound, `all|labelled|off`: all, those that a label asks for, none", func(s *settings) pflag.Value { return oneOf(&s.ServicePorts, "all", "labelled", "off") }},
	{"Routes", "allow-loopback", "accept tasks with loopback addresses, as a cluster on one machine has them", func(s *settings) pflag.Value { return boolOf(&s.AllowLoopback) }},
	{"Routes", "control-ports", "`ports` of agents that are no task's and no service's: of ssh, ZooKeeper, Mesos' master and agent", func(s *settings) pflag.Value { return listOf(&s.ControlPorts) }},
	{"Routes", "static", "`file`, YAML or JSON, with services that live outside the cluster; it is followed", func(s *settings) pflag.Value { return textOf(&s.Static) }},
	{"Routes", "prefer-host-port", "reach tasks that have an address of their own at their agent, where they have a port there", func(s *settings) pflag.Value { return boolOf(&s.PreferHostPort) }},

	{"Safety", "settle", "shortest `time` between two tables; the first change of a burst passes at once", func(s *settings) pflag.Value { return durationOf(&s.Settle, 0, time.Minute) }},
	{"Safety", "quarantine-tasks", "`share` of the tasks whose unexplained absence is suspicious when exceeded", func(s *settings) pflag.Value { return shareOf(&s.QuarantineTasks) }},
	{"Safety", "quarantine-apps", "`share` of the apps whose unexplained absence is suspicious when exceeded", func(s *settings) pflag.Value { return shareOf(&s.QuarantineApps) }},
	{"Safety", "quarantine-min", "`number` of apps or tasks that must be missing for a share to count", func(s *settings) pflag.Value { return intOf(&s.QuarantineMin, 0, 1_000_000) }},
	{"Safety", "quarantine-reads", "`number` of equal reads that confirm a suspicious state", func(s *settings) pflag.Value { return intOf(&s.QuarantineReads, 1, 1000) }},
	{"Safety", "quarantine-span", "`time` over which these reads must stretch", func(s *settings) pflag.Value { return durationOf(&s.QuarantineSpan, 0, 24*time.Hour) }},

	{"HAProxy", "haproxy", "`supervise|attach`: run an HAProxy of its own, or drive one that systemd started", func(s *settings) pflag.Value { return oneOf(&s.HAProxy, "supervise", "attach") }},
	{"HAProxy", "haproxy-bin", "HAProxy's `program`, by path or by a name in PATH", func(s *settings) pflag.Value { return textOf(&s.HAProxyBin) }},
	{"HAProxy", "haproxy-dir", "`directory` of the configuration, the maps and the sockets (default STATE-DIR/haproxy)", func(s *settings) pflag.Value { return textOf(&s.HAProxyDir) }},
	{"HAProxy", "haproxy-master-socket", "`path` of the master socket (default HAPROXY-DIR/master.sock)", func(s *settings) pflag.Value { return textOf(&s.HAProxyMasterSocket) }},
	{"HAProxy", "haproxy-user", "`user` that HAProxy changes to; empty: it stays", func(s *settings) pflag.Value { return textOf(&s.HAProxyUser) }},
	{"HAProxy", "haproxy-group", "`group` that HAProxy changes to; empty: it stays", func(s *settings) pflag.Value { return textOf(&s.HAProxyGroup) }},
	{"HAProxy", "check-user", "unprivileged `user` that `haproxy -c` runs as when signalbox runs as root (default nobody)", func(s *settings) pflag.Value { return textOf(&s.CheckUser) }},
	{"HAProxy", "template", "`file` that replaces the built-in template of haproxy.cfg", func(s *settings) pflag.Value { return textOf(&s.Template) }},
	{"HAProxy", "http-bind", "`addresses` of the HTTP entry", func(s *settings) pflag.Value { return listOf(&s.HTTPBind) }},
	{"HAProxy", "https-bind", "`addresses` of the HTTPS entry (default :443 with --certificates, none without)", func(s *settings) pflag.Value { return listOf(&s.HTTPSBind) }},
	{"HAProxy", "certificates", "`directory` with certificates, NAME.pem with the chain and its key each; what is renewed there is shown without a reload", func(s *settings) pflag.Value { return textOf(&s.Certificates) }},
	{"HAProxy", "service-bind", "`address` of the service ports, * for every one", func(s *settings) pflag.Value { return textOf(&s.ServiceBind) }},
	{"HAProxy", "service-port-range", "`range` of service ports that are bound at once, like 10000-10099, so that they come and go without a reload", func(s *settings) pflag.Value { return textOf(&s.ServicePortRange) }},
	{"HAProxy", "app-id-bind", "`addresses` of the entry that asks for the header X-Marathon-App-Id, marathon-lb's :9091", func(s *settings) pflag.Value { return listOf(&s.AppIDBind) }},
	{"HAProxy", "health-bind", "`addresses` that answer /_haproxy_health_check, marathon-lb's :9090", func(s *settings) pflag.Value { return listOf(&s.HealthBind) }},
	{"HAProxy", "trusted-proxies", "`networks` whose X-Forwarded-* headers are believed and kept; everybody else's are replaced", func(s *settings) pflag.Value { return listOf(&s.TrustedProxies) }},
	{"HAProxy", "proxy-protocol-from", "`networks` that begin each connection with the PROXY protocol", func(s *settings) pflag.Value { return listOf(&s.ProxyProtocolFrom) }},
	{"HAProxy", "user-lists", "`directory` of lists of users that services may ask for by name (signalbox.auth): one file a list, with lines user:hash", func(s *settings) pflag.Value { return textOf(&s.UserLists) }},
	{"HAProxy", "error-pages", "`directory` of error pages that services may ask for by name (signalbox.error-page), each a whole answer or a body alone", func(s *settings) pflag.Value { return textOf(&s.ErrorPages) }},
	{"HAProxy", "prefer", "which healthy tasks come first, `none|local`: local are those on this machine, and the others help when these are busy or down", func(s *settings) pflag.Value { return oneOf(&s.Prefer, "none", "local") }},
	{"HAProxy", "node", "`names` and addresses of this machine, as the cluster's tasks have them; empty: its host name and its interfaces' addresses", func(s *settings) pflag.Value { return listOf(&s.Node) }},
	{"HAProxy", "maxconn", "`number` of connections; 0: what fits the limit of file descriptors", func(s *settings) pflag.Value { return intOf(&s.MaxConn, 0, 10_000_000) }},
	{"HAProxy", "slots", "least `number` of server slots of a service; 0: by the number of services", func(s *settings) pflag.Value { return intOf(&s.Slots, 0, 4096) }},
	{"HAProxy", "spare-slots", "greatest `number` of server slots of free spare backends, which new services take without a reload; 0: there are none", func(s *settings) pflag.Value { return intOf(&s.SpareSlots, 0, 1<<20) }},
	{"HAProxy", "reload-interval", "shortest `time` between two reloads", func(s *settings) pflag.Value { return durationOf(&s.ReloadInterval, 0, time.Hour) }},
	{"HAProxy", "reload-burst", "`number` of reloads that may follow each other at that interval", func(s *settings) pflag.Value { return intOf(&s.ReloadBurst, 1, 10_000) }},
	{"HAProxy", "reload-refill", "`time` after which one more may", func(s *settings) pflag.Value { return durationOf(&s.ReloadRefill, time.Millisecond, 24*time.Hour) }},
	{"HAProxy", "drain", "most `time` that sessions with a task go on that is being taken out, sticky ones too; what lasts longer is cut", func(s *settings) pflag.Value { return durationOf(&s.Drain, time.Second, 24*time.Hour) }},
	{"HAProxy", "hard-stop-after", "`time` after which a worker of an earlier configuration is ended", func(s *settings) pflag.Value { return durationOf(&s.HardStopAfter, time.Second, 7*24*time.Hour) }},
	{"HAProxy", "max-reloads", "`number` of reloads that a worker of an earlier configuration survives", func(s *settings) pflag.Value { return intOf(&s.MaxReloads, 1, 10_000) }},
	{"HAProxy", "caller-header", "`name` of the request header by which services say who they are: metrics tell requests apart by it; empty: none", func(s *settings) pflag.Value { return textOf(&s.CallerHeader) }},
	{"HAProxy", "access-log-also", "`address` that gets HAProxy's log too, so that a syslog server that has it goes on: 127.0.0.1:514 by UDP, or /dev/log; empty: none", func(s *settings) pflag.Value { return textOf(&s.AccessLogAlso) }},

	{"Metrics", "log-listen", "`URLs` at which the logs of other HAProxies are taken and counted: udp://IP:PORT, tcp://IP:PORT, unixgram:///PATH; empty: none: docs/access-log.md", func(s *settings) pflag.Value { return listOf(&s.LogListen) }},
	{"Metrics", "sink", "`URLs` that figures are pushed to, as in statsd://host:8125?tags=datadog, graphite://host:2003, riemann://host:5555: docs/sinks.md", func(s *settings) pflag.Value { return listOf(&s.Sinks) }},
	{"Metrics", "sink-interval", "`time` between two pushes", func(s *settings) pflag.Value { return durationOf(&s.SinkInterval, time.Second, time.Hour) }},
	{"Metrics", "statsd", "`addresses` at which StatsD is taken from this machine's services, as in 127.0.0.1:8125 or unix:/run/statsd/statsd.sock; empty: none: docs/statsd.md", func(s *settings) pflag.Value { return listOf(&s.StatsD) }},
	{"Metrics", "statsd-mapping", "`file` that gives what services send by StatsD names and labels, as statsd_exporter reads it; empty: names stay, tags are labels", func(s *settings) pflag.Value { return textOf(&s.StatsDMapping) }},
	{"Metrics", "metrics-listen", "`addresses` at which other machines may read /metrics, one word of /health, and what is done for an app (signalbox converged), and nothing else: :9902; empty: none: docs/prometheus.md", func(s *settings) pflag.Value { return listOf(&s.MetricsListen) }},
	{"Metrics", "metrics-token-file", "`file` with a token that they must show there; empty: none is asked for", func(s *settings) pflag.Value { return textOf(&s.MetricsTokenFile) }},
	{"Metrics", "hub", "`URLs` of the hubs that get what is counted here: http://hub.example:9903; empty: none: docs/hub.md", func(s *settings) pflag.Value { return listOf(&s.Hub) }},
	{"Metrics", "hub-token-file", "`file` with the token that they ask for; empty: they ask for none", func(s *settings) pflag.Value { return textOf(&s.HubTokenFile) }},
	{"Metrics", "hub-interval", "`time` between two pushes to a hub", func(s *settings) pflag.Value { return durationOf(&s.HubInterval, time.Second, time.Minute) }},

	{"Program", "state-dir", "`directory` of what must survive a restart", func(s *settings) pflag.Value { return textOf(&s.StateDir) }},
	{"Program", "admin", "`addresses` of the admin listener: unix:/path or loopback address and port", func(s *settings) pflag.Value { return listOf(&s.Admin) }},
	{"Program", "admin-token-file", "`file` with the token of the admin listener, made if missing (default STATE-DIR/admin-token)", func(s *settings) pflag.Value { return textOf(&s.AdminTokenFile) }},
	{"Program", "admin-socket-group", "`group` of the admin socket; empty: the program's own", func(s *settings) pflag.Value { return textOf(&s.AdminSocketGroup) }},
	{"Program", "log-socket-group", "`group` of the socket that takes the access log; empty: that of --haproxy-group, or the program's own", func(s *settings) pflag.Value { return textOf(&s.LogSocketGroup) }},
	{"Program", "log-level", "least level that is logged: `debug|info|warning|error`", func(s *settings) pflag.Value { return oneOf(&s.LogLevel, "debug", "info", "warning", "error") }},
	{"Program", "log-format", "format of the log, `auto|text|json`; auto is text on a terminal and JSON elsewhere", func(s *settings) pflag.Value { return oneOf(&s.LogFormat, "auto", "text", "json") }},
}

// leads reports whether the flag leads to a running controller.
func (row setting) leads() bool {
	return row.name == "admin" || row.name == "admin-token-file" || row.name == "state-dir"
}

func (s *settings) haproxyDir() string {
	if s.HAProxyDir != "" {
		return s.HAProxyDir
	}
	return filepath.Join(s.StateDir, "haproxy")
}

// httpsBind returns the addresses of the HTTPS entry.
func (s *settings) httpsBind() []string {
	if len(s.HTTPSBind) == 0 && s.Certificates != "" {
		return []string{":443"}
	}
	return s.HTTPSBind
}

func (s *settings) masterSocket() string {
	if s.HAProxyMasterSocket != "" {
		return s.HAProxyMasterSocket
	}
	return filepath.Join(s.haproxyDir(), "master.sock")
}

func (s *settings) adminTokenFile() string {
	if s.AdminTokenFile != "" {
		return s.AdminTokenFile
	}
	return filepath.Join(s.StateDir, "admin-token")
}

// adminAddresses returns the parsed addresses of the admin listener.
func (s *settings) adminAddresses() ([]admin.Address, error) {
	var out []admin.Address
	var errs []error
	for _, text := range s.Admin {
		a, err := admin.ParseAddress(text)
		out, errs = append(out, a), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// intakes returns where the logs of other HAProxies are taken.
func (s *settings) intakes() (out []metrics.Intake, err error) {
	for _, text := range s.LogListen {
		in, err := metrics.ParseIntake(text)
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	return out, nil
}

// validate checks what a single value can't show, and returns all that is wrong.
func (s *settings) validate() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: "+format, append([]any{flag}, args...)...))
	}
	if len(s.Marathon)+len(s.Consul) == 0 && s.Static == "" {
		wrong("marathon", "no URL is given, and neither --consul nor --static names another source")
	}
	s.validateMarathon(wrong)
	if (s.MarathonUser == "") != (s.MarathonPasswordFile == "") {
		wrong("marathon-user", "goes together with --marathon-password-file; one of them is missing")
	}
	if s.MarathonTokenFile != "" && s.MarathonUser != "" {
		wrong("marathon-token-file", "excludes --marathon-user: Marathon takes one or the other")
	}
	for _, text := range s.Consul {
		if err := consul.CheckURL(text); err != nil {
			wrong("consul", "%w", err)
		}
	}
	s.validateRelay(wrong)
	if err := labels.CheckDialects(s.Labels); err != nil {
		wrong("labels", "%w", err)
	}
	if len(s.Labels) == 0 {
		wrong("labels", "without a dialect no app gets a route")
	}
	if s.Static != "" && !filepath.IsAbs(s.Static) {
		wrong("static", "%q is not an absolute path", s.Static)
	}
	for _, id := range s.RawTemplates {
		if !strings.HasPrefix(id, "/") {
			wrong("raw-templates", "%q is not the id of an app or a group: it must begin with /", id)
		}
	}
	for _, text := range s.ControlPorts {
		if !validPort(text) {
			wrong("control-ports", "%q is no port", text)
		}
	}
	if len(s.HTTPBind) == 0 {
		wrong("http-bind", "no address is given")
	}
	for _, f := range []struct {
		flag  string
		binds []string
	}{{"http-bind", s.HTTPBind}, {"https-bind", s.HTTPSBind}, {"app-id-bind", s.AppIDBind}, {"health-bind", s.HealthBind}} {
		for _, text := range f.binds {
			if !validBind(text) {
				wrong(f.flag, "%q is not of the form :80 or 127.0.0.1:8000", text)
			}
		}
	}
	for _, f := range []struct {
		flag     string
		networks []string
	}{{"trusted-proxies", s.TrustedProxies}, {"proxy-protocol-from", s.ProxyProtocolFrom}} {
		if _, err := networks(f.networks); err != nil {
			wrong(f.flag, "%w", err)
		}
	}
	if s.ServiceBind != "*" && net.ParseIP(s.ServiceBind) == nil {
		wrong("service-bind", "%q is neither * nor an IP address", s.ServiceBind)
	}
	if _, err := haproxy.ParsePortRange(s.ServicePortRange); err != nil {
		wrong("service-port-range", "%w", err)
	}
	if s.Certificates != "" && !filepath.IsAbs(s.Certificates) {
		wrong("certificates", "%q is not an absolute path", s.Certificates)
	}
	if s.HAProxy == "attach" && s.HAProxyMasterSocket == "" {
		wrong("haproxy", "attach needs --haproxy-master-socket, the path that HAProxy was started with (-S)")
	}
	for _, f := range []struct{ flag, path string }{
		{"state-dir", s.StateDir}, {"haproxy-dir", s.haproxyDir()}, {"haproxy-master-socket", s.masterSocket()},
	} {
		if !filepath.IsAbs(f.path) {
			wrong(f.flag, "%q is not an absolute path", f.path)
		}
	}
	_, err := s.sinkTargets("node")
	for _, one := range lines(err) {
		wrong("sink", "%s", one)
	}
	if _, err := statsd.ParseAddresses(s.StatsD); err != nil {
		wrong("statsd", "%w", err)
	}
	if s.StatsDMapping != "" && len(s.StatsD) == 0 {
		wrong("statsd-mapping", "goes together with --statsd, which is missing")
	}
	if len(s.Admin) == 0 {
		wrong("admin", "no address is given")
	}
	if _, err := s.adminAddresses(); err != nil {
		wrong("admin", "%w", err)
	}
	for _, address := range s.MetricsListen {
		if err := admin.CheckRemoteAddress(address); err != nil {
			wrong("metrics-listen", "%w", err)
		}
	}
	if _, err := s.intakes(); err != nil {
		wrong("log-listen", "%w", err)
	}
	for _, u := range s.Hub {
		if err := hub.CheckURL(u); err != nil {
			wrong("hub", "%w", err)
		}
	}
	return errors.Join(errs...)
}

// effective returns the text of a setting, for a path that is left empty what follows from others.
func (s *settings) effective(name, text string) string {
	if text == "" {
		switch name {
		case "https-bind":
			return strings.Join(s.httpsBind(), ",")
		case "haproxy-dir":
			return s.haproxyDir()
		case "haproxy-master-socket":
			return s.masterSocket()
		case "admin-token-file":
			return s.adminTokenFile()
		}
	}
	if name == "sink" {
		return s.shownSinks()
	}
	return mask(text)
}

// callerHeader is the request header by which services say who they are, unless the operator names another.
const callerHeader = "X-Caller"
