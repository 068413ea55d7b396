package devcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// apiError is an answer that is not a success, with Marathon's body.
type apiError struct {
	status  int
	message string
	details any
	extra   map[string]any
}

func (e *apiError) Error() string { return e.message }

type detail struct {
	Path   string   `json:"path"`
	Errors []string `json:"errors"`
}

func failure(status int, format string, args ...any) *apiError {
	return &apiError{status: status, message: fmt.Sprintf(format, args...)}
}

func badJSON(details any) *apiError {
	return &apiError{status: http.StatusBadRequest, message: "Invalid JSON", details: details}
}

func invalid(details ...detail) *apiError {
	return &apiError{status: http.StatusUnprocessableEntity, message: "Object is not valid", details: details}
}

// update is the body of a create or an update: which fields it names, and their values.
type update map[string]json.RawMessage

// decode reads one JSON value, which is all of b.
func decode(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return badJSON("No content to map due to end-of-input")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(v); err != nil {
		return jsonError(err, "")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badJSON("Unexpected text after the value")
	}
	return nil
}

func jsonError(err error, field string) *apiError {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		p := field
		if te.Field != "" {
			p += "/" + strings.ReplaceAll(te.Field, ".", "/")
		}
		return badJSON([]detail{{Path: p, Errors: []string{"error.expected." + jsType(te.Type)}}})
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badJSON("Unexpected end-of-input")
	}
	return badJSON(err.Error())
}

func jsType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "jsboolean"
	case reflect.String:
		return "jsstring"
	case reflect.Slice, reflect.Array:
		return "jsarray"
	case reflect.Map, reflect.Struct:
		return "jsobject"
	default:
		return "jsnumber"
	}
}

func defaultApp(emulate string) *app {
	a := &app{
		Instances: 1, CPUs: 1, Mem: 128, BackoffSeconds: 1, BackoffFactor: 1.15, MaxLaunchDelay: 300,
		UpgradeStrategy: upgradeStrategy{1, 1}, KillSelection: "YOUNGEST_FIRST", Role: "*", AcceptedResourceRoles: []string{"*"},
	}
	if emulate == "1.4" {
		a.MaxLaunchDelay = 3600
		a.AcceptedResourceRoles = nil
		a.UnreachableStrategy = unreachableStrategy{Inactive: 300, Purge: 600}
	}
	return a
}

// apply returns a copy of base with what u names replaced, in the form that is stored: older shapes are translated and defaults
// filled in. A null means the default. Versions and instances of service ports are the caller's.
func (u update) apply(base *app, emulate string) (*app, error) {
	a, def := base.clone(), defaultApp(emulate)
	fields := func(x *app) map[string]any {
		return map[string]any{
			"acceptedResourceRoles": &x.AcceptedResourceRoles, "args": &x.Args, "backoffFactor": &x.BackoffFactor,
			"backoffSeconds": &x.BackoffSeconds, "cmd": &x.Cmd, "constraints": &x.Constraints, "cpus": &x.CPUs,
			"dependencies": &x.Dependencies, "disk": &x.Disk, "env": &x.Env, "executor": &x.Executor, "fetch": &x.Fetch,
			"healthChecks": &x.HealthChecks, "instances": &x.Instances, "labels": &x.Labels, "maxLaunchDelaySeconds": &x.MaxLaunchDelay,
			"mem": &x.Mem, "gpus": &x.GPUs, "readinessChecks": &x.ReadinessChecks, "requirePorts": &x.RequirePorts,
			"residency": &x.Residency, "secrets": &x.Secrets, "taskKillGracePeriodSeconds": &x.TaskKillGracePeriod, "tty": &x.TTY,
			"upgradeStrategy": &x.UpgradeStrategy, "user": &x.User, "killSelection": &x.KillSelection,
			"unreachableStrategy": &x.UnreachableStrategy, "role": &x.Role, "portDefinitions": &x.PortDefinitions,
			"networks": &x.Networks,
		}
	}
	into, from := fields(a), fields(def)
	for _, name := range sortedKeys(u) {
		target, known := into[name]
		if !known {
			continue
		}
		v := reflect.ValueOf(target).Elem()
		v.Set(reflect.ValueOf(from[name]).Elem())
		if string(u[name]) == "null" {
			continue
		}
		if v.Kind() == reflect.Slice || v.Kind() == reflect.Map { // a shared value is replaced, not written to
			v.SetZero()
		}
		if err := json.Unmarshal(u[name], target); err != nil {
			return nil, jsonError(err, "/"+name)
		}
	}
	if err := u.network(a); err != nil {
		return nil, err
	}
	a.fill(u)
	return a, a.validate()
}

func (u update) has(name string) bool {
	v, ok := u[name]
	return ok && string(v) != "null"
}

type oldContainer struct {
	Type   string `json:"type"`
	Docker *struct {
		docker
		Network      *string       `json:"network"`
		PortMappings []portMapping `json:"portMappings"`
	} `json:"docker"`
	Volumes      []json.RawMessage `json:"volumes"`
	PortMappings []portMapping     `json:"portMappings"`
}

// network translates what says how an app is reached, of all versions, into networks, portMappings and portDefinitions.
func (u update) network(a *app) error {
	if u.has("uris") && !u.has("fetch") {
		var uris []string
		if err := json.Unmarshal(u["uris"], &uris); err != nil {
			return jsonError(err, "/uris")
		}
		a.Fetch = nil
		for _, uri := range uris {
			a.Fetch = append(a.Fetch, fetch{URI: uri, Extract: extracted(uri)})
		}
	}
	if v, named := u["container"]; named {
		a.Container = nil
		if string(v) != "null" {
			var c oldContainer
			if err := json.Unmarshal(v, &c); err != nil {
				return jsonError(err, "/container")
			}
			a.Container = &container{Type: c.Type, Volumes: c.Volumes, PortMappings: c.PortMappings}
			if a.Container.Type == "" {
				a.Container.Type = "DOCKER"
				if c.Docker == nil {
					a.Container.Type = "MESOS"
				}
			}
			if c.Docker != nil {
				d := c.Docker.docker
				a.Container.Docker = &d
				if c.Docker.PortMappings != nil && c.PortMappings == nil {
					a.Container.PortMappings = c.Docker.PortMappings
				}
				if c.Docker.Network != nil && !u.has("networks") {
					switch strings.ToUpper(*c.Docker.Network) {
					case "BRIDGE":
						a.Networks = []network{{Mode: modeBridge}}
					case "USER":
						a.Networks = []network{{Mode: modeContainer}}
					case "HOST", "NONE":
						a.Networks = []network{{Mode: modeHost}}
					default:
						return badJSON([]detail{{"/container/docker/network", []string{"error.unknown.enum.literal"}}})
					}
				}
			}
		}
	}
	if u.has("ipAddress") && !u.has("networks") {
		var ip struct {
			NetworkName *string           `json:"networkName"`
			Labels      map[string]string `json:"labels"`
			Discovery   *struct {
				Ports []struct {
					Number   int               `json:"number"`
					Name     string            `json:"name"`
					Protocol string            `json:"protocol"`
					Labels   map[string]string `json:"labels"`
				} `json:"ports"`
			} `json:"discovery"`
		}
		if err := json.Unmarshal(u["ipAddress"], &ip); err != nil {
			return jsonError(err, "/ipAddress")
		}
		if ip.NetworkName == nil {
			ip.NetworkName = ptr("default")
		}
		a.Networks = []network{{Mode: modeContainer, Name: ip.NetworkName, Labels: ip.Labels}}
		if a.Container == nil {
			a.Container = &container{Type: "MESOS"}
		}
		if ip.Discovery != nil && a.Container.PortMappings == nil {
			c := *a.Container
			for _, p := range ip.Discovery.Ports {
				c.PortMappings = append(c.PortMappings, portMapping{ContainerPort: p.Number, Name: ptr(p.Name), Protocol: p.Protocol, Labels: p.Labels})
			}
			a.Container = &c
		}
	}
	if u.has("ports") && !u.has("portDefinitions") {
		var ports []int
		if err := json.Unmarshal(u["ports"], &ports); err != nil {
			return jsonError(err, "/ports")
		}
		if !slices.Equal(ports, a.servicePorts()) { // what a client read from 1.4 and sends back changes nothing
			a.PortDefinitions = []portDefinition{}
			for _, p := range ports {
				a.PortDefinitions = append(a.PortDefinitions, portDefinition{Port: p})
			}
		}
	}
	return nil
}

func extracted(uri string) bool {
	for _, ext := range []string{".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip"} {
		if strings.HasSuffix(uri, ext) {
			return true
		}
	}
	return false
}

// fill sets the defaults of everything that is nested. It writes only to what it has copied.
func (a *app) fill(u update) {
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	if len(a.Networks) == 0 {
		a.Networks = []network{{Mode: modeHost}}
	}
	a.Networks = slices.Clone(a.Networks)
	for i := range a.Networks {
		if a.Networks[i].Mode == "" {
			a.Networks[i].Mode = modeContainer
		}
	}
	if a.mode() == modeHost {
		a.hostPorts()
	} else {
		a.mappedPorts()
	}
	if a.Container != nil {
		c := *a.Container
		if c.Volumes == nil {
			c.Volumes = []json.RawMessage{}
		}
		if c.Docker != nil && c.Docker.Parameters == nil {
			d := *c.Docker
			d.Parameters = []json.RawMessage{}
			c.Docker = &d
		}
		a.Container = &c
	}
	if u.has("healthChecks") {
		var named []map[string]json.RawMessage
		_ = json.Unmarshal(u["healthChecks"], &named) // it is an array of objects: it was read as one before
		for i := range a.HealthChecks {
			a.HealthChecks[i].fill(named[i])
		}
	}
	for i := range a.ReadinessChecks {
		if u.has("readinessChecks") {
			a.ReadinessChecks[i].fill()
		}
	}
	a.Dependencies = slices.Clone(a.Dependencies)
	for i, d := range a.Dependencies {
		a.Dependencies[i] = absolute(d, path.Dir(a.ID))
	}
	if a.Role == "" {
		a.Role = "*"
	}
	if len(a.Residency) > 0 && !u.has("unreachableStrategy") {
		a.UnreachableStrategy = unreachableStrategy{Disabled: true}
	}
}

func (a *app) hostPorts() {
	if a.PortDefinitions == nil {
		a.PortDefinitions = []portDefinition{{Name: ptr("default")}}
	}
	a.PortDefinitions = slices.Clone(a.PortDefinitions)
	for i := range a.PortDefinitions {
		d := &a.PortDefinitions[i]
		if d.Protocol == "" {
			d.Protocol = "tcp"
		}
		if d.Labels == nil {
			d.Labels = map[string]string{}
		}
	}
	if a.Container != nil {
		c := *a.Container
		c.PortMappings = nil
		a.Container = &c
	}
}

func (a *app) mappedPorts() {
	a.PortDefinitions = nil
	c := container{Type: "MESOS"}
	if a.Container != nil {
		c = *a.Container
	}
	if c.PortMappings == nil && a.mode() == modeBridge {
		c.PortMappings = []portMapping{{Name: ptr("default")}}
	}
	c.PortMappings = slices.Clone(c.PortMappings)
	for i := range c.PortMappings {
		m := &c.PortMappings[i]
		if m.HostPort == nil && a.mode() == modeBridge {
			m.HostPort = ptr(0)
		}
		if m.Protocol == "" {
			m.Protocol = "tcp"
		}
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
	}
	a.Container = &c
}

func (h *healthCheck) fill(named map[string]json.RawMessage) {
	num := func(name string, v *float64, def float64) {
		if _, ok := named[name]; !ok {
			*v = def
		}
	}
	num("gracePeriodSeconds", &h.GracePeriod, 300)
	num("intervalSeconds", &h.Interval, 60)
	num("timeoutSeconds", &h.Timeout, 20)
	if _, ok := named["maxConsecutiveFailures"]; !ok {
		h.MaxConsecutive = 3
	}
	if h.Protocol == "" {
		h.Protocol = "HTTP"
	}
	if h.Delay == nil {
		h.Delay = ptr(15.0)
	}
	if h.Protocol == "COMMAND" {
		return
	}
	if h.IPProtocol == "" {
		h.IPProtocol = "IPv4"
	}
	if strings.Contains(h.Protocol, "HTTP") && h.Path == nil {
		h.Path = ptr("/")
	}
	if h.IgnoreHTTP1xx == nil && !strings.HasPrefix(h.Protocol, "MESOS_") {
		h.IgnoreHTTP1xx = ptr(false)
	}
	if h.Port == nil && h.PortIndex == nil {
		h.PortIndex = ptr(0)
	}
}

func (r *readinessCheck) fill() {
	set := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	set(&r.Name, "readinessCheck")
	set(&r.Protocol, "HTTP")
	set(&r.Path, "/")
	set(&r.PortName, "http-api")
	if r.Interval == 0 {
		r.Interval = 30
	}
	if r.Timeout == 0 {
		r.Timeout = 10
	}
	if len(r.StatusForReady) == 0 {
		r.StatusForReady = []int{200}
	}
}

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
