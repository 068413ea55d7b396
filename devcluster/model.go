package devcluster

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// app is an app's definition, in the shape that Marathon 1.11 shows. It is immutable once it is stored.
type app struct {
	ID                    string                     `json:"id"`
	AcceptedResourceRoles []string                   `json:"acceptedResourceRoles,omitempty"`
	Args                  []string                   `json:"args,omitempty"`
	BackoffFactor         float64                    `json:"backoffFactor"`
	BackoffSeconds        float64                    `json:"backoffSeconds"`
	Cmd                   *string                    `json:"cmd,omitempty"`
	Constraints           [][]string                 `json:"constraints,omitempty"`
	Container             *container                 `json:"container,omitempty"`
	CPUs                  float64                    `json:"cpus"`
	Dependencies          []string                   `json:"dependencies,omitempty"`
	Disk                  float64                    `json:"disk"`
	Env                   map[string]json.RawMessage `json:"env,omitempty"`
	Executor              string                     `json:"executor"`
	Fetch                 []fetch                    `json:"fetch,omitempty"`
	HealthChecks          []healthCheck              `json:"healthChecks,omitempty"`
	Instances             int                        `json:"instances"`
	Labels                map[string]string          `json:"labels"`
	MaxLaunchDelay        float64                    `json:"maxLaunchDelaySeconds"`
	Mem                   float64                    `json:"mem"`
	GPUs                  int                        `json:"gpus"`
	Networks              []network                  `json:"networks"`
	PortDefinitions       []portDefinition           `json:"portDefinitions,omitempty"`
	ReadinessChecks       []readinessCheck           `json:"readinessChecks,omitempty"`
	RequirePorts          bool                       `json:"requirePorts"`
	Residency             json.RawMessage            `json:"residency,omitempty"`
	Secrets               map[string]json.RawMessage `json:"secrets,omitempty"`
	TaskKillGracePeriod   *int                       `json:"taskKillGracePeriodSeconds,omitempty"`
	TTY                   *bool                      `json:"tty,omitempty"`
	UpgradeStrategy       upgradeStrategy            `json:"upgradeStrategy"`
	User                  *string                    `json:"user,omitempty"`
	Version               stamp                      `json:"version"`
	VersionInfo           versionInfo                `json:"versionInfo"`
	KillSelection         string                     `json:"killSelection"`
	UnreachableStrategy   unreachableStrategy        `json:"unreachableStrategy"`
	Role                  string                     `json:"role,omitempty"`

	pod *pod // what this app stands for, when that is a pod

	once   sync.Once
	static []byte // the JSON without its closing brace
}

type upgradeStrategy struct {
	MaximumOverCapacity   float64 `json:"maximumOverCapacity"`
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity"`
}

type versionInfo struct {
	LastScalingAt      stamp `json:"lastScalingAt"`
	LastConfigChangeAt stamp `json:"lastConfigChangeAt"`
}

// unreachableStrategy is {"inactiveAfterSeconds","expungeAfterSeconds"} or "disabled".
type unreachableStrategy struct {
	Disabled        bool
	Inactive, Purge int
}

func (u unreachableStrategy) MarshalJSON() ([]byte, error) {
	if u.Disabled {
		return []byte(`"disabled"`), nil
	}
	return json.Marshal(unreachableSeconds{u.Inactive, u.Purge})
}

func (u *unreachableStrategy) UnmarshalJSON(b []byte) error {
	if string(b) == `"disabled"` {
		*u = unreachableStrategy{Disabled: true}
		return nil
	}
	var v unreachableSeconds
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*u = unreachableStrategy{Inactive: v.Inactive, Purge: v.Purge}
	return nil
}

type unreachableSeconds struct {
	Inactive int `json:"inactiveAfterSeconds"`
	Purge    int `json:"expungeAfterSeconds"`
}

type container struct {
	Type         string            `json:"type"`
	Docker       *docker           `json:"docker,omitempty"`
	Volumes      []json.RawMessage `json:"volumes"`
	PortMappings []portMapping     `json:"portMappings,omitempty"`
}

type docker struct {
	Credential     json.RawMessage   `json:"credential,omitempty"`
	ForcePullImage bool              `json:"forcePullImage"`
	Image          string            `json:"image"`
	Parameters     []json.RawMessage `json:"parameters"`
	Privileged     bool              `json:"privileged"`
}

type portMapping struct {
	ContainerPort int               `json:"containerPort"`
	HostPort      *int              `json:"hostPort,omitempty"`
	Labels        map[string]string `json:"labels"`
	Name          *string           `json:"name,omitempty"`
	NetworkNames  []string          `json:"networkNames,omitempty"`
	Protocol      string            `json:"protocol"`
	ServicePort   int               `json:"servicePort"`
}

type portDefinition struct {
	Labels   map[string]string `json:"labels"`
	Name     *string           `json:"name,omitempty"`
	Port     int               `json:"port"`
	Protocol string            `json:"protocol"`
}

type network struct {
	Name   *string           `json:"name,omitempty"`
	Mode   string            `json:"mode"`
	Labels map[string]string `json:"labels,omitempty"`
}

type fetch struct {
	URI        string  `json:"uri"`
	Extract    bool    `json:"extract"`
	Executable bool    `json:"executable"`
	Cache      bool    `json:"cache"`
	DestPath   *string `json:"destPath,omitempty"`
}

type healthCheck struct {
	Command        *command `json:"command,omitempty"`
	GracePeriod    float64  `json:"gracePeriodSeconds"`
	IgnoreHTTP1xx  *bool    `json:"ignoreHttp1xx,omitempty"`
	Interval       float64  `json:"intervalSeconds"`
	IPProtocol     string   `json:"ipProtocol,omitempty"`
	MaxConsecutive int      `json:"maxConsecutiveFailures"`
	Path           *string  `json:"path,omitempty"`
	Port           *int     `json:"port,omitempty"`
	PortIndex      *int     `json:"portIndex,omitempty"`
	Protocol       string   `json:"protocol"`
	Timeout        float64  `json:"timeoutSeconds"`
	Delay          *float64 `json:"delaySeconds,omitempty"`
}

type command struct {
	Value string `json:"value"`
}

type readinessCheck struct {
	Name            string  `json:"name"`
	Protocol        string  `json:"protocol"`
	Path            string  `json:"path"`
	PortName        string  `json:"portName"`
	Interval        float64 `json:"intervalSeconds"`
	Timeout         float64 `json:"timeoutSeconds"`
	StatusForReady  []int   `json:"httpStatusCodesForReady"`
	PreserveLastRes bool    `json:"preserveLastResponse"`
}

// The modes of networks.
const (
	modeHost      = "host"
	modeBridge    = "container/bridge"
	modeContainer = "container"
)

// clone returns a copy whose top-level fields may be set; what they point at is shared, and replaced rather than written.
func (a *app) clone() *app {
	return &app{
		ID: a.ID, AcceptedResourceRoles: a.AcceptedResourceRoles, Args: a.Args, BackoffFactor: a.BackoffFactor,
		BackoffSeconds: a.BackoffSeconds, Cmd: a.Cmd, Constraints: a.Constraints, Container: a.Container, CPUs: a.CPUs,
		Dependencies: a.Dependencies, Disk: a.Disk, Env: a.Env, Executor: a.Executor, Fetch: a.Fetch, HealthChecks: a.HealthChecks,
		Instances: a.Instances, Labels: a.Labels, MaxLaunchDelay: a.MaxLaunchDelay, Mem: a.Mem, GPUs: a.GPUs, Networks: a.Networks,
		PortDefinitions: a.PortDefinitions, ReadinessChecks: a.ReadinessChecks, RequirePorts: a.RequirePorts, Residency: a.Residency,
		Secrets: a.Secrets, TaskKillGracePeriod: a.TaskKillGracePeriod, TTY: a.TTY, UpgradeStrategy: a.UpgradeStrategy, User: a.User,
		Version: a.Version, VersionInfo: a.VersionInfo, KillSelection: a.KillSelection, UnreachableStrategy: a.UnreachableStrategy,
		Role: a.Role, pod: a.pod,
	}
}

// sameConfig says whether two definitions differ in nothing but version and number of instances: tasks need no replacement.
func (a *app) sameConfig(b *app) bool {
	x, y := a.clone(), b.clone()
	x.Instances, y.Instances = 0, 0
	x.Version, y.Version = stamp{}, stamp{}
	x.VersionInfo, y.VersionInfo = versionInfo{}, versionInfo{}
	jx, errX := json.Marshal(x)
	jy, errY := json.Marshal(y)
	if a.pod != nil && b.pod != nil {
		return errX == nil && errY == nil && string(jx) == string(jy) && a.pod.sameConfig(b.pod)
	}
	return errX == nil && errY == nil && string(jx) == string(jy)
}

func (a *app) mode() string {
	if len(a.Networks) == 0 {
		return modeHost
	}
	return a.Networks[0].Mode
}

func (a *app) image() string {
	if a.Container != nil && a.Container.Docker != nil {
		return a.Container.Docker.Image
	}
	return ""
}

// servicePorts lists the app's service ports in the order of its ports.
func (a *app) servicePorts() []int {
	ports := []int{}
	for _, d := range a.PortDefinitions {
		ports = append(ports, d.Port)
	}
	if a.Container != nil {
		for _, m := range a.Container.PortMappings {
			ports = append(ports, m.ServicePort)
		}
	}
	return ports
}

// stamp is a moment in Marathon's form.
type stamp struct{ time.Time }

const stampLayout = "2006-01-02T15:04:05.000Z"

func (s stamp) String() string { return s.UTC().Format(stampLayout) }

// MarshalJSON implements json.Marshaler; no moment is null.
func (s stamp) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + s.String() + `"`), nil
}

func (s *stamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*s = stamp{}
		return nil
	}
	var t time.Time
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	s.Time = t.UTC().Truncate(time.Millisecond)
	return nil
}

func ptr[T any](v T) *T { return &v }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
