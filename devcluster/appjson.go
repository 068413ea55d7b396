package devcluster

import (
	"bytes"
	"encoding/json"
	"strings"
)

// app14 is an app as Marathon 1.4 shows it: everything named, what is missing as null.
type app14 struct {
	ID                    string                     `json:"id"`
	Cmd                   *string                    `json:"cmd"`
	Args                  []string                   `json:"args"`
	User                  *string                    `json:"user"`
	Env                   map[string]json.RawMessage `json:"env"`
	Instances             int                        `json:"instances"`
	CPUs                  float64                    `json:"cpus"`
	Mem                   float64                    `json:"mem"`
	Disk                  float64                    `json:"disk"`
	GPUs                  int                        `json:"gpus"`
	Executor              string                     `json:"executor"`
	Constraints           [][]string                 `json:"constraints"`
	URIs                  []string                   `json:"uris"`
	Fetch                 []fetch                    `json:"fetch"`
	StoreURLs             []string                   `json:"storeUrls"`
	BackoffSeconds        float64                    `json:"backoffSeconds"`
	BackoffFactor         float64                    `json:"backoffFactor"`
	MaxLaunchDelay        float64                    `json:"maxLaunchDelaySeconds"`
	Container             *container14               `json:"container"`
	HealthChecks          []healthCheck              `json:"healthChecks"`
	ReadinessChecks       []readinessCheck           `json:"readinessChecks"`
	Dependencies          []string                   `json:"dependencies"`
	UpgradeStrategy       upgradeStrategy            `json:"upgradeStrategy"`
	Labels                map[string]string          `json:"labels"`
	AcceptedResourceRoles []string                   `json:"acceptedResourceRoles"`
	IPAddress             *ipAddress14               `json:"ipAddress"`
	Version               stamp                      `json:"version"`
	Residency             json.RawMessage            `json:"residency"`
	Secrets               map[string]json.RawMessage `json:"secrets"`
	TaskKillGracePeriod   *int                       `json:"taskKillGracePeriodSeconds"`
	UnreachableStrategy   unreachableStrategy        `json:"unreachableStrategy"`
	KillSelection         string                     `json:"killSelection"`
	Ports                 []int                      `json:"ports"`
	PortDefinitions       []portDefinition           `json:"portDefinitions"`
	RequirePorts          bool                       `json:"requirePorts"`
	VersionInfo           versionInfo                `json:"versionInfo"`
}

type container14 struct {
	Type    string            `json:"type"`
	Volumes []json.RawMessage `json:"volumes"`
	Docker  *docker14         `json:"docker,omitempty"`
}

type docker14 struct {
	Image          string            `json:"image"`
	Network        string            `json:"network"`
	PortMappings   []portMapping     `json:"portMappings"`
	Privileged     bool              `json:"privileged"`
	Parameters     []json.RawMessage `json:"parameters"`
	ForcePullImage bool              `json:"forcePullImage"`
}

type ipAddress14 struct {
	Groups      []string          `json:"groups"`
	Labels      map[string]string `json:"labels"`
	Discovery   discovery14       `json:"discovery"`
	NetworkName *string           `json:"networkName,omitempty"`
}

type discovery14 struct {
	Ports []discoveryPort14 `json:"ports"`
}

type discoveryPort14 struct {
	Number   int    `json:"number"`
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
}

func (a *app) as14() app14 {
	o := app14{
		ID: a.ID, Cmd: a.Cmd, Args: a.Args, User: a.User, Env: a.Env, Instances: a.Instances, CPUs: a.CPUs, Mem: a.Mem, Disk: a.Disk,
		GPUs: a.GPUs, Executor: a.Executor, Constraints: nonNil(a.Constraints), URIs: []string{}, Fetch: nonNil(a.Fetch),
		StoreURLs: []string{}, BackoffSeconds: a.BackoffSeconds, BackoffFactor: a.BackoffFactor, MaxLaunchDelay: a.MaxLaunchDelay,
		HealthChecks: nonNil(a.HealthChecks), ReadinessChecks: nonNil(a.ReadinessChecks), Dependencies: nonNil(a.Dependencies),
		UpgradeStrategy: a.UpgradeStrategy, Labels: a.Labels, AcceptedResourceRoles: a.AcceptedResourceRoles, Version: a.Version,
		Residency: a.Residency, Secrets: a.Secrets, TaskKillGracePeriod: a.TaskKillGracePeriod,
		UnreachableStrategy: a.UnreachableStrategy, KillSelection: a.KillSelection, Ports: a.servicePorts(),
		PortDefinitions: nonNil(a.PortDefinitions), RequirePorts: a.RequirePorts, VersionInfo: a.VersionInfo,
	}
	if o.Env == nil {
		o.Env = map[string]json.RawMessage{}
	}
	if o.Secrets == nil {
		o.Secrets = map[string]json.RawMessage{}
	}
	for _, f := range a.Fetch {
		o.URIs = append(o.URIs, f.URI)
	}
	if c := a.Container; c != nil && (c.Docker != nil || len(c.Volumes) > 0 || a.mode() == modeBridge) {
		o.Container = &container14{Type: c.Type, Volumes: nonNil(c.Volumes)}
		network := map[string]string{modeHost: "HOST", modeBridge: "BRIDGE", modeContainer: "USER"}[a.mode()]
		switch {
		case c.Docker != nil:
			d := c.Docker
			o.Container.Docker = &docker14{d.Image, network, nonNil(c.PortMappings), d.Privileged, d.Parameters, d.ForcePullImage}
		case a.mode() == modeBridge: // 1.4 knew bridges of Docker only
			o.Container.Docker = &docker14{Network: network, PortMappings: nonNil(c.PortMappings), Parameters: []json.RawMessage{}}
		}
	}
	if a.mode() == modeContainer {
		o.IPAddress = &ipAddress14{Groups: []string{}, Labels: map[string]string{}, NetworkName: a.Networks[0].Name, Discovery: discovery14{[]discoveryPort14{}}}
		if a.Container != nil && a.Container.Docker == nil {
			o.Ports = []int{}
			for _, m := range a.Container.PortMappings {
				name := ""
				if m.Name != nil {
					name = *m.Name
				}
				o.IPAddress.Discovery.Ports = append(o.IPAddress.Discovery.Ports, discoveryPort14{m.ContainerPort, name, m.Protocol})
			}
		}
	}
	return o
}

// definition is an app's JSON as the emulated version shows it, without what runs of it. It is made once for each app.
func (c *cluster) definition(a *app) []byte { return append(bytes.Clone(c.open(a)), '}') }

// open is definition without the closing brace.
func (c *cluster) open(a *app) []byte {
	a.once.Do(func() {
		var b []byte
		if c.cfg.Emulate == "1.4" {
			b = encode(a.as14())
		} else {
			b = encode(a)
		}
		a.static = b[:len(b)-1]
	})
	return a.static
}

// embed is what a client asked to see beside an app's definition.
type embed struct{ tasks, counts, deployments, readiness, lastFailure, taskStats bool }

func parseEmbed(values []string) embed {
	var e embed
	for _, v := range values {
		for _, prefix := range []string{"group.apps.", "apps.", "app."} {
			v = strings.TrimPrefix(v, prefix)
		}
		switch v {
		case "tasks":
			e.tasks, e.deployments = true, true
		case "counts":
			e.counts = true
		case "deployments":
			e.deployments = true
		case "readiness":
			e.readiness = true
		case "lastTaskFailure":
			e.lastFailure = true
		case "failures":
			e.tasks, e.lastFailure = true, true
		case "taskStats":
			e.taskStats = true
		}
	}
	return e
}

type ipAddress struct {
	IPAddress string `json:"ipAddress"`
	Protocol  string `json:"protocol"`
}

func (i *instance) addresses() []ipAddress {
	ip := i.ip
	if ip == "" {
		ip = i.host
	}
	return []ipAddress{{ip, "IPv4"}}
}

// checkResult is one health check's result in a task's JSON.
type checkResult struct {
	Alive        bool   `json:"alive"`
	Failures     int    `json:"consecutiveFailures"`
	FirstSuccess *stamp `json:"firstSuccess,omitempty"`
	LastFailure  *stamp `json:"lastFailure,omitempty"`
	LastSuccess  *stamp `json:"lastSuccess,omitempty"`
	LastCause    string `json:"lastFailureCause,omitempty"`
	InstanceID   string `json:"instanceId"`
}

func (i *instance) results() []checkResult {
	all := []checkResult{}
	opt := func(s stamp) *stamp {
		if s.IsZero() {
			return nil
		}
		return &s
	}
	for _, h := range i.health {
		if h.seen {
			all = append(all, checkResult{h.alive, h.failures, opt(h.firstSuccess), opt(h.lastFailure), opt(h.lastSuccess), h.cause, i.id})
		}
	}
	return all
}

// taskJSON is a task; servicePorts only where Marathon fills them.
func (c *cluster) taskJSON(p *part, servicePorts bool) json.RawMessage {
	i := p.inst
	old := c.cfg.Emulate == "1.4"
	results := i.results()
	var f []field
	add := func(name string, v any) { f = append(f, field{name, v}) }
	add("appId", i.spec.ID)
	if !old || len(results) > 0 {
		add("healthCheckResults", results)
	}
	add("host", i.host)
	add("id", p.task)
	add("ipAddresses", i.addresses())
	add("ports", nonNil(p.ports))
	if service := i.spec.servicePorts(); servicePorts {
		add("servicePorts", service)
	} else if !old {
		add("servicePorts", []int{})
	}
	add("slaveId", i.slave.id)
	add("state", p.state)
	add("stagedAt", i.staged)
	if !i.started.IsZero() {
		add("startedAt", i.started)
	} else if old {
		add("startedAt", nil)
	}
	add("version", i.version)
	if !old {
		add("localVolumes", []string{})
		add("role", i.spec.Role)
	}
	return object(f)
}

func (c *cluster) tasksJSON(a *runApp, servicePorts bool) []json.RawMessage {
	all := []json.RawMessage{}
	for _, i := range a.instances {
		for _, p := range i.parts {
			if !p.ended {
				all = append(all, c.taskJSON(p, servicePorts))
			}
		}
	}
	return all
}

type tally struct{ staged, running, healthy, unhealthy int }

func (a *runApp) tally() tally {
	var t tally
	for _, i := range a.instances {
		switch i.condition {
		case "Running", "Killing":
			t.running++
		case "Unreachable", "UnreachableInactive":
		default:
			t.staged++
		}
		switch i.healthy() {
		case verdictGood:
			t.healthy++
		case verdictBad:
			t.unhealthy++
		}
	}
	return t
}

type idRef struct {
	ID string `json:"id"`
}

// appJSON is an app with what e asks for. The lock is held.
func (c *cluster) appJSON(a *runApp, e embed) json.RawMessage {
	var f []field
	if e.counts {
		t := a.tally()
		f = append(f, field{"tasksStaged", t.staged}, field{"tasksRunning", t.running}, field{"tasksHealthy", t.healthy}, field{"tasksUnhealthy", t.unhealthy})
	}
	if e.deployments {
		refs := []idRef{}
		if a.deploy != nil {
			refs = append(refs, idRef{a.deploy.id})
		}
		f = append(f, field{"deployments", refs})
	}
	if e.readiness {
		f = append(f, field{"readinessCheckResults", a.readinessJSON()})
	}
	if e.tasks {
		f = append(f, field{"tasks", c.tasksJSON(a, false)})
	}
	if e.lastFailure && a.lastFailure != nil {
		f = append(f, field{"lastTaskFailure", a.lastFailure})
	}
	if e.taskStats {
		f = append(f, field{"taskStats", a.stats()})
	}
	open := c.open(a.spec)
	if len(f) == 0 {
		return append(bytes.Clone(open), '}')
	}
	rest := object(f)
	rest[0] = ','
	out := make([]byte, 0, len(open)+len(rest))
	return append(append(out, open...), rest...)
}

func (a *runApp) readinessJSON() []json.RawMessage {
	all := []json.RawMessage{}
	for _, i := range a.instances {
		if i.ready == nil || len(i.spec.ReadinessChecks) == 0 {
			continue
		}
		f := []field{{"name", i.spec.ReadinessChecks[0].Name}, {"taskId", i.parts[0].task}, {"ready", i.ready.ready}}
		if i.ready.last != nil {
			f = append(f, field{"lastResponse", i.ready.last})
		}
		all = append(all, object(f))
	}
	return all
}

// stats is the tasks' numbers, all together and of the present version.
func (a *runApp) stats() json.RawMessage {
	of := func(pick func(*instance) bool) json.RawMessage {
		sub := &runApp{}
		for _, i := range a.instances {
			if pick(i) {
				sub.instances = append(sub.instances, i)
			}
		}
		t := sub.tally()
		counts := object([]field{{"staged", t.staged}, {"running", t.running}, {"healthy", t.healthy}, {"unhealthy", t.unhealthy}})
		return object([]field{{"stats", json.RawMessage(object([]field{{"counts", json.RawMessage(counts)}}))}})
	}
	version := a.spec.VersionInfo.LastConfigChangeAt
	return object([]field{
		{"startedAfterLastScaling", of(func(i *instance) bool { return i.staged.After(a.spec.VersionInfo.LastScalingAt.Time) })},
		{"withLatestConfig", of(func(i *instance) bool { return i.version == version })},
		{"withOutdatedConfig", of(func(i *instance) bool { return i.version != version })},
		{"totalSummary", of(func(*instance) bool { return true })},
	})
}

// deploymentJSON is a deployment as GET /v2/deployments lists it.
func (c *cluster) deploymentJSON(d *deployment) json.RawMessage {
	apps, pods := []string{}, []string{}
	for _, id := range sortedKeys(d.changes) {
		if a := c.apps[id]; a != nil && a.spec.pod != nil {
			pods = append(pods, id)
		} else {
			apps = append(apps, id)
		}
	}
	current := []json.RawMessage{}
	if d.current >= 0 && d.current < len(d.steps) {
		current = d.steps[d.current].actions(func(id string) []json.RawMessage {
			if a := c.apps[id]; a != nil {
				return a.readinessJSON()
			}
			return []json.RawMessage{}
		})
	}
	return object([]field{
		{"id", d.id},
		{"version", d.version},
		{"affectedApps", apps},
		{"affectedPods", pods},
		{"steps", d.stepsJSON()},
		{"currentActions", current},
		{"currentStep", min(d.current+1, len(d.steps))},
		{"totalSteps", len(d.steps)},
	})
}
