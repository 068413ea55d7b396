package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// service is what the files of `signalbox init` are made of.
type service struct {
	binary    string // absolute path
	user      string
	supervise bool     // HAProxy is a child of the service
	writable  []string // directories that are not in the service's own
	instances int      // how many machines Marathon is to run it on
	// env are the variables that differ from the defaults, sorted by name.
	env []variableValue
}

type variableValue struct{ name, value string }

// installPath is where --write puts the file of each type; a Marathon app is posted, not installed.
var installPath = map[string]string{
	"systemd": "/etc/systemd/system/signalbox.service",
	"upstart": "/etc/init/signalbox.conf",
}

// fileLimit is how many file descriptors the service, and HAProxy, may open.
const fileLimit = 524_288

// usualUser is whom the service runs as unless --user says otherwise.
var usualUser = map[string]string{"systemd": "signalbox", "upstart": "signalbox", "marathon": "root"}

func newInitCommand(p *program) *cobra.Command {
	s := defaults()
	kind, binary, account, to := "systemd", "", "", ""
	write := false
	cmd := &cobra.Command{
		Use:   "init",
		Short: "What starts signalbox with the machine: a systemd unit, an upstart file or a Marathon app",
		Long: `Prints a systemd unit, an upstart file or a Marathon app definition that starts "signalbox run" with the settings that it is given
itself, by flag or variable. With --write it installs the unit or file and says how to start it.`,
		Example: `  signalbox init --marathon http://10.0.0.1:8080 --write
  signalbox init --type upstart
  signalbox init --type marathon --fleet-size 40 | curl -d @- -H 'Content-Type: application/json' http://10.0.0.1:8080/v2/apps`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := s.validate(); err != nil {
				return &exitError{code: exitUsage, err: err, try: "signalbox config"}
			}
			if account == "" {
				account = usualUser[kind]
			}
			svc, err := p.service(&s, binary, account)
			if err != nil {
				return err
			}
			text, err := svc.file(kind)
			if err != nil {
				return err
			}
			if !write {
				fmt.Fprint(p.stdout, text)
				return nil
			}
			return p.install(kind, to, text, account)
		},
	}
	flags := cmd.Flags()
	flags.Var(oneOf(&kind, "systemd", "upstart", "marathon"), "type", "what to print: `systemd|upstart|marathon`")
	flags.Var(textOf(&binary), "binary", "`path` of the program (default: of this one)")
	flags.Var(textOf(&account), "user", "`user` that the service runs as (default signalbox; root for Marathon, whose tasks can't be lent the right to bind low ports)")
	addSwitch(flags, &write, "write", "install it instead of printing it")
	flags.Var(textOf(&to), "to", "`path` to install to, instead of the usual one")
	addSettings(flags, &s)
	return cmd
}

func (p *program) service(s *settings, binary, account string) (service, error) {
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return service{}, fmt.Errorf("finding the path of this program: %w", err)
		}
	}
	if !filepath.IsAbs(binary) {
		return service{}, usageError("--binary: %q is not an absolute path", binary)
	}
	if strings.ContainsAny(account, " \t\"'\\%$/:") {
		return service{}, usageError("--user: %q is not the name of a user", account)
	}
	svc := service{binary: binary, user: account, supervise: s.HAProxy == "supervise", instances: s.FleetSize}
	for _, dir := range []string{filepath.Clean(s.StateDir), filepath.Clean(s.haproxyDir())} {
		if !within(dir, defaults().StateDir) && !slices.ContainsFunc(svc.writable, func(w string) bool { return within(dir, w) }) {
			svc.writable = append(svc.writable, dir)
		}
	}
	for _, row := range settingTable {
		if p.origins[row.name] != fromDefault {
			svc.env = append(svc.env, variableValue{variable(row.name), row.value(s).String()})
		}
	}
	if p.origins["admin"] == fromDefault {
		// The socket is for the verbs, and asks for no token; the port is for Prometheus.
		svc.env = append(svc.env, variableValue{variable("admin"), "unix:" + systemSocket + "," + strings.Join(defaults().Admin, ",")})
	}
	slices.SortFunc(svc.env, func(a, b variableValue) int { return strings.Compare(a.name, b.name) })
	return svc, nil
}

// within reports whether a clean path is another one, or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// file returns the text of the service's file of a type.
func (s service) file(kind string) (string, error) {
	switch kind {
	case "systemd":
		return s.systemd(), nil
	case "upstart":
		return s.upstart(), nil
	default:
		return s.marathon()
	}
}

// systemd returns a unit. MemoryDenyWriteExecute is left out on purpose: haproxy -c inherits it, and then refuses every regular
// expression.
func (s service) systemd() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=Routes what Marathon runs, and counts every request")
	line("Wants=network-online.target")
	if s.supervise {
		line("After=network-online.target")
	} else {
		line("After=network-online.target haproxy.service")
	}
	line("StartLimitIntervalSec=0")
	line("")
	line("[Service]")
	line("Type=notify")
	line("NotifyAccess=main")
	line("WatchdogSec=30")
	line("ExecStart=%s run", systemdQuote(s.binary))
	for _, v := range s.env {
		line("Environment=%s", systemdQuote(v.name+"="+v.value))
	}
	line("User=%s", s.user)
	line("Restart=always")
	line("RestartSec=1")
	line("TimeoutStopSec=30")
	if s.supervise {
		line("# A new signalbox adopts the HAProxy of one that died; signalbox itself ends it on stop.")
		line("KillMode=process")
	}
	// HAProxy's limit of connections is reckoned from this limit, also where systemd starts HAProxy: its drop-in has the same.
	line("LimitNOFILE=%d", fileLimit)
	line("StateDirectory=signalbox")
	line("StateDirectoryMode=0750")
	line("RuntimeDirectory=signalbox")
	line("RuntimeDirectoryMode=0755")
	line("UMask=0027")
	line("")
	capability := ""
	if s.supervise {
		capability = "CAP_NET_BIND_SERVICE" // HAProxy binds low ports
	}
	line("NoNewPrivileges=yes")
	line("CapabilityBoundingSet=%s", capability)
	line("AmbientCapabilities=%s", capability)
	line("ProtectSystem=strict")
	for _, dir := range s.writable {
		line("ReadWritePaths=%s", systemdQuote(dir))
	}
	for _, name := range []string{
		"ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
		"ProtectControlGroups", "ProtectClock", "ProtectHostname", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
		"LockPersonality", "RemoveIPC",
	} {
		line("%s=yes", name)
	}
	line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6")
	line("SystemCallArchitectures=native")
	line("SystemCallFilter=@system-service")
	// Go and "haproxy -c" raise their limit of file descriptors, which is one of @resources; files and sockets are given to groups.
	line("SystemCallFilter=~@privileged")
	line("SystemCallFilter=@chown")
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	return b.String()
}

// systemdQuote quotes a word as systemd.syntax(7) has it.
func systemdQuote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\t", `\t`)
	s = r.Replace(s)
	if strings.ContainsAny(s, " \"'\\;") {
		return `"` + s + `"`
	}
	return s
}

// upstart returns a job file.
func (s service) upstart() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`description "Routes what Marathon runs, and counts every request"`)
	line("")
	line("start on (net-device-up IFACE!=lo and runlevel [2345])")
	line("stop on runlevel [!2345]")
	line("respawn")
	line("respawn limit unlimited")
	line("kill timeout 30")
	line("limit nofile 65536 65536")
	line("umask 0027")
	for _, v := range s.env {
		line("env %s=%s", v.name, shellQuote(v.value))
	}
	line("")
	line("pre-start script")
	line("  mkdir -p /run/signalbox /var/lib/signalbox")
	line("  chown %s /run/signalbox /var/lib/signalbox", s.user)
	line("end script")
	line("")
	if s.supervise {
		line("# Upstart can't lend the right to bind low ports, so that signalbox is root here, and HAProxy is not.")
		line("exec %s run --haproxy-user %s", shellQuote(s.binary), s.user)
	} else {
		line("setuid %s", s.user)
		line("exec %s run", shellQuote(s.binary))
	}
	return b.String()
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=@%+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// marathon returns an app definition: one task on each machine, in the machine's own network.
func (s service) marathon() (string, error) {
	env := map[string]string{}
	for _, v := range s.env {
		env[v.name] = v.value
	}
	if name := variable("haproxy-user"); s.supervise && s.user == "root" && env[name] == "" {
		env[name] = "nobody"
	}
	type command struct {
		Value string `json:"value"`
	}
	type healthCheck struct {
		Protocol               string  `json:"protocol"`
		Command                command `json:"command"`
		GracePeriodSeconds     int     `json:"gracePeriodSeconds"`
		IntervalSeconds        int     `json:"intervalSeconds"`
		TimeoutSeconds         int     `json:"timeoutSeconds"`
		MaxConsecutiveFailures int     `json:"maxConsecutiveFailures"`
	}
	app := struct {
		ID              string             `json:"id"`
		Args            []string           `json:"args"`
		User            string             `json:"user"`
		CPUs            float64            `json:"cpus"`
		Mem             int                `json:"mem"`
		Instances       int                `json:"instances"`
		Constraints     [][]string         `json:"constraints"`
		Env             map[string]string  `json:"env"`
		Labels          map[string]string  `json:"labels"`
		PortDefinitions []struct{}         `json:"portDefinitions"`
		HealthChecks    []healthCheck      `json:"healthChecks"`
		UpgradeStrategy map[string]float64 `json:"upgradeStrategy"`
		KillGrace       int                `json:"taskKillGracePeriodSeconds"`
	}{
		ID: "/signalbox", Args: []string{s.binary, "run"}, User: s.user, CPUs: 0.5, Mem: 512, Instances: s.instances,
		Constraints: [][]string{{"hostname", "UNIQUE"}}, Env: env, Labels: map[string]string{"signalbox.enable": "false"},
		PortDefinitions: []struct{}{},
		HealthChecks: []healthCheck{{
			Protocol: "COMMAND", Command: command{shellQuote(s.binary) + " health --fail-on failing"}, GracePeriodSeconds: 60, IntervalSeconds: 30,
			TimeoutSeconds: 10, MaxConsecutiveFailures: 3,
		}},
		// A machine has one HAProxy entry: the old task goes before the new one comes.
		UpgradeStrategy: map[string]float64{"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0},
		KillGrace:       30,
	}
	b, err := json.MarshalIndent(app, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing the app definition: %w", err)
	}
	return string(b) + "\n", nil
}

// install puts a file in place, and says what comes next. The same text again changes nothing.
func (p *program) install(kind, to, text, account string) error {
	if to == "" {
		to = installPath[kind]
	}
	if to == "" {
		return usageError("--write: an app definition is posted to Marathon, not installed; leave --write out, or name a file with --to")
	}
	before, err := os.ReadFile(to)
	switch {
	case err == nil && string(before) == text:
		fmt.Fprintf(p.stderr, "%s is up to date\n", to)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return &exitError{code: exitUsage, err: fmt.Errorf("installing %s: %w", to, err)}
	default:
		err := replaceFile(to, 0o644, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			return &exitError{code: exitUsage, err: fmt.Errorf("installing %s: %w", to, err), try: "the same as root"}
		}
		fmt.Fprintf(p.stderr, "installed %s\n", to)
	}
	if _, err := user.Lookup(account); err != nil && kind != "marathon" {
		fmt.Fprintf(p.stderr, "  the user %s is missing: useradd --system --home-dir /var/lib/signalbox --shell /usr/sbin/nologin %s\n", account, account)
	}
	switch kind {
	case "systemd":
		fmt.Fprint(p.stderr, "  start it: systemctl daemon-reload && systemctl enable --now signalbox\n")
	case "upstart":
		fmt.Fprint(p.stderr, "  start it: start signalbox\n")
	}
	return nil
}

// replaceFile writes a file that is whole at every moment, and stays when the power goes.
func replaceFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), halfWritten)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if err := errors.Join(write(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// halfWritten are the names of files that replaceFile has begun.
const halfWritten = ".signalbox-*"
