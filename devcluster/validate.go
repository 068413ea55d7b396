package devcluster

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	segment      = regexp.MustCompile(`^(([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$`)
	validPort    = regexp.MustCompile(`^[a-z0-9-]+$`)
	protocols    = []string{"tcp", "udp", "udp,tcp", "tcp,udp"}
	checkKinds   = []string{"HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"}
	networkModes = []string{modeHost, modeBridge, modeContainer}
	killOrders   = []string{"YOUNGEST_FIRST", "OLDEST_FIRST"}
	constraints  = []string{"UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS"}
)

// validate returns everything that Marathon would refuse, as a 422.
func (a *app) validate() error {
	var bad []detail
	say := func(path, format string, args ...any) {
		bad = append(bad, detail{path, []string{fmt.Sprintf(format, args...)}})
	}
	if !validID(a.ID) {
		say("/id", "must fully match regular expression '^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$'")
	}
	unit := func(path string, v float64) {
		if v < 0 || v > 1 {
			say(path, "got %s, expected between 0.0 and 1.0", scalaDouble(v))
		}
	}
	unit("/upgradeStrategy/minimumHealthCapacity", a.UpgradeStrategy.MinimumHealthCapacity)
	unit("/upgradeStrategy/maximumOverCapacity", a.UpgradeStrategy.MaximumOverCapacity)
	for _, n := range []struct {
		path string
		v    float64
	}{
		{"/cpus", a.CPUs},
		{"/mem", a.Mem},
		{"/disk", a.Disk},
		{"/instances", float64(a.Instances)},
		{"/gpus", float64(a.GPUs)},
		{"/backoffSeconds", a.BackoffSeconds},
		{"/maxLaunchDelaySeconds", a.MaxLaunchDelay},
	} {
		if n.v < 0 {
			say(n.path, "got %s, expected 0.0 or more", scalaDouble(n.v))
		}
	}
	if a.BackoffFactor < 1 {
		say("/backoffFactor", "got %s, expected 1.0 or more", scalaDouble(a.BackoffFactor))
	}
	if a.Cmd != nil && len(a.Args) > 0 {
		say("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
	}
	if a.pod == nil && (a.Cmd == nil || *a.Cmd == "") && len(a.Args) == 0 && a.image() == "" && a.Container == nil {
		say("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
	}
	if a.Container != nil && a.Container.Type == "DOCKER" && a.image() == "" {
		say("/container/docker", "not defined")
	}
	if !slices.Contains(killOrders, a.KillSelection) {
		say("/killSelection", "error.unknown.enum.literal")
	}
	if u := a.UnreachableStrategy; !u.Disabled && (u.Inactive < 0 || u.Purge < u.Inactive) {
		say("/unreachableStrategy", "inactiveAfterSeconds must be less than or equal to expungeAfterSeconds")
	}
	for i, c := range a.Constraints {
		if len(c) < 2 || !slices.Contains(constraints, c[1]) {
			say(fmt.Sprintf("/constraints(%d)", i), "Constraint definition must be an array of strings in the form: <key>, <op>[, <value>]")
		} else if c[1] == "LIKE" || c[1] == "UNLIKE" {
			if len(c) < 3 {
				say(fmt.Sprintf("/constraints(%d)", i), "A regular expression value must be provided")
			} else if _, err := regexp.Compile(c[2]); err != nil {
				say(fmt.Sprintf("/constraints(%d)", i), "'%s' is not a valid regular expression", c[2])
			}
		}
	}
	a.validatePorts(say)
	a.validateChecks(say)
	if slices.Contains(a.Dependencies, a.ID) {
		say("/dependencies", "Dependency graph has cyclic dependencies.")
	}
	if bad == nil {
		return nil
	}
	return invalid(bad...)
}

func (a *app) validatePorts(say func(path, format string, args ...any)) {
	modes := map[string]int{}
	for i, n := range a.Networks {
		modes[n.Mode]++
		if !slices.Contains(networkModes, n.Mode) {
			say(fmt.Sprintf("/networks(%d)/mode", i), "error.unknown.enum.literal")
		}
	}
	if len(modes) > 1 || modes[modeHost] > 1 || modes[modeBridge] > 1 {
		say("/networks", "Must be a single host network or bridge network, or else 1-to-n container networks")
	}
	names := map[string]bool{}
	port := func(where string, name *string, protocol string, ports ...int) {
		for _, p := range ports {
			if p < 0 || p > 65535 {
				say(where+"/port", "got %d, expected between 0 and 65535", p)
			}
		}
		if !slices.Contains(protocols, protocol) {
			say(where+"/protocol", "error.unknown.enum.literal")
		}
		if name == nil || *name == "" {
			return
		}
		if !validPort.MatchString(*name) {
			say(where+"/name", "must fully match regular expression '^[a-z0-9-]+$'")
		}
		if names[*name] {
			say(where, "Port names must be unique.")
		}
		names[*name] = true
	}
	for i, d := range a.PortDefinitions {
		port(fmt.Sprintf("/portDefinitions(%d)", i), d.Name, d.Protocol, d.Port)
	}
	seen := map[int]bool{}
	for i, d := range a.PortDefinitions {
		if d.Port != 0 && seen[d.Port] {
			say(fmt.Sprintf("/portDefinitions(%d)", i), "Ports must be unique.")
		}
		seen[d.Port] = true
	}
	if a.Container != nil {
		for i, m := range a.Container.PortMappings {
			host := 0
			if m.HostPort != nil {
				host = *m.HostPort
			}
			port(fmt.Sprintf("/container/portMappings(%d)", i), m.Name, m.Protocol, m.ContainerPort, host, m.ServicePort)
		}
	}
}

func (a *app) validateChecks(say func(path, format string, args ...any)) {
	count := len(a.PortDefinitions)
	if a.Container != nil && a.mode() != modeHost {
		count = len(a.Container.PortMappings)
	}
	marathon := 0
	for i, h := range a.HealthChecks {
		where := fmt.Sprintf("/healthChecks(%d)", i)
		switch {
		case !slices.Contains(checkKinds, h.Protocol):
			say(where+"/protocol", "error.unknown.enum.literal")
		case h.Protocol == "COMMAND" && (h.Command == nil || h.Command.Value == ""):
			say(where+"/command", "not defined")
		case h.PortIndex != nil && h.Port == nil && h.Protocol != "COMMAND" && (*h.PortIndex < 0 || *h.PortIndex >= count):
			say(where+"/portIndex", "Health check port indices must address an element of the ports array or container port mappings.")
		}
		if h.Interval < 0 || h.Timeout < 0 || h.GracePeriod < 0 || h.MaxConsecutive < 0 {
			say(where, "got a negative number, expected 0 or more")
		}
		if h.Protocol == "COMMAND" || strings.HasPrefix(h.Protocol, "MESOS_") {
			marathon++
		}
	}
	if marathon > 1 {
		say("/healthChecks", "AppDefinition can contain at most one Mesos health check")
	}
	if len(a.ReadinessChecks) > 1 {
		say("/readinessChecks", "AppDefinition can contain at most one readiness check")
	}
	for i, r := range a.ReadinessChecks {
		if a.portNamed(r.PortName) < 0 {
			say(fmt.Sprintf("/readinessChecks(%d)/portName", i), "portName must be one of the port definitions' names")
		}
	}
}

// portNamed returns the index of the port of that name, or -1.
func (a *app) portNamed(name string) int {
	is := func(n *string) bool { return n != nil && *n == name }
	if i := slices.IndexFunc(a.PortDefinitions, func(d portDefinition) bool { return is(d.Name) }); i >= 0 || a.Container == nil {
		return i
	}
	return slices.IndexFunc(a.Container.PortMappings, func(m portMapping) bool { return is(m.Name) })
}

func scalaDouble(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e7 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprint(v)
}

func validID(id string) bool {
	if id == "" || id == "/" || id[0] != '/' {
		return false
	}
	for s := range strings.SplitSeq(id[1:], "/") {
		if !segment.MatchString(s) {
			return false
		}
	}
	return true
}

// absolute resolves an id against the group that it stands in: "../db" and "web" are relative.
func absolute(id, group string) string {
	if id == "" {
		return ""
	}
	if strings.HasPrefix(id, "/") {
		return path.Clean(id)
	}
	return path.Join("/", group, id)
}
