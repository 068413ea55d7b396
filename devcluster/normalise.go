package devcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"reflect"
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
// filled in. A null changes nothing, as if it were not there. Versions and instances of service ports are the caller's.
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
		if !u.has(name) {
			continue
		}
		v := reflect.ValueOf(target).Elem()
		v.Set(reflect.ValueOf(from[name]).Elem())
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
	if u.has("container") {
		var c oldContainer
		if err := json.Unmarshal(u["container"], &c); err != nil {
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
