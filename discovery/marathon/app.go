package marathon

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// App is what Marathon says about one app, in the shape of any version from 0.8 to 1.11: the fields that routing needs, and
// no others. Absent and null mean the same in each of them.
type App struct {
	ID          string      `json:"id"`
	Labels      texts       `json:"labels"`
	Instances   number      `json:"instances"`
	Version     string      `json:"version"`
	VersionInfo versionInfo `json:"versionInfo"`

	Ports           []number         `json:"ports"` // service ports, up to 1.4
	PortDefinitions []portDefinition `json:"portDefinitions"`
	Container       *container       `json:"container"`
	Networks        []network        `json:"networks"`  // from 1.5
	IPAddress       *ipAddress       `json:"ipAddress"` // 0.14 to 1.4

	HealthChecks     []healthCheck     `json:"healthChecks"`
	ReadinessChecks  []readinessCheck  `json:"readinessChecks"`
	ReadinessResults []readinessResult `json:"readinessCheckResults"`
	Deployments      []deployment      `json:"deployments"`

	Tasks []Task `json:"tasks"`
}

// Task is what Marathon says about one task of an app.
type Task struct {
	ID            string         `json:"id"`
	Host          string         `json:"host"` // name or address of the agent
	Ports         []number       `json:"ports"`
	IPAddresses   []taskAddress  `json:"ipAddresses"`
	State         string         `json:"state"` // absent before 1.1.2
	StartedAt     string         `json:"startedAt"`
	Version       string         `json:"version"`
	HealthResults []healthResult `json:"healthCheckResults"`
}

// Since returns when the app's configuration last changed, apart from scaling; the zero time if Marathon does not say.
func (a *App) Since() time.Time {
	for _, s := range []string{a.VersionInfo.LastConfigChangeAt, a.Version} {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// precedes reports whether a version of the app is from before its configuration last changed. Scaling makes versions too, which
// leave it as it is.
func (a *App) precedes(version string) bool {
	at, err := time.Parse(time.RFC3339Nano, version)
	return err == nil && at.Before(a.Since())
}

type versionInfo struct {
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
	LastScalingAt      string `json:"lastScalingAt"`
}

// scaledAt returns when the app was last scaled, the zero time if Marathon does not say.
func (v *versionInfo) scaledAt() time.Time {
	t, err := time.Parse(time.RFC3339Nano, v.LastScalingAt)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

type portDefinition struct {
	Port     number `json:"port"` // the service port
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Labels   texts  `json:"labels"`
}

type portMapping struct {
	ContainerPort number   `json:"containerPort"`
	HostPort      *number  `json:"hostPort"`    // nil: none is asked for; 0: any
	ServicePort   *number  `json:"servicePort"` // nil: none, which is not 0
	Name          string   `json:"name"`
	Protocol      string   `json:"protocol"`
	Labels        texts    `json:"labels"`
	NetworkNames  []string `json:"networkNames"`
}

type container struct {
	PortMappings []portMapping `json:"portMappings"` // from 1.5
	Docker       *struct {
		Network      string        `json:"network"`      // up to 1.4
		PortMappings []portMapping `json:"portMappings"` // up to 1.4
	} `json:"docker"`
}

type network struct {
	Mode string `json:"mode"`
	Name string `json:"name"`
}

type ipAddress struct {
	NetworkName string `json:"networkName"`
	Discovery   *struct {
		Ports []discoveryPort `json:"ports"`
	} `json:"discovery"`
}

type discoveryPort struct {
	Number   number `json:"number"`
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Labels   texts  `json:"labels"`
}

type healthCheck struct {
	Protocol        string  `json:"protocol"`
	Path            string  `json:"path"`
	PortIndex       *number `json:"portIndex"`
	Port            *number `json:"port"`
	IntervalSeconds number  `json:"intervalSeconds"`
	TimeoutSeconds  number  `json:"timeoutSeconds"`
	MaxFailures     number  `json:"maxConsecutiveFailures"`
}

// healthResult is the latest result of one health check of one task. Alive is nil where Marathon gives no verdict.
type healthResult struct {
	Alive               *bool  `json:"alive"`
	ConsecutiveFailures number `json:"consecutiveFailures"`
}

type readinessCheck struct {
	TimeoutSeconds number `json:"timeoutSeconds"`
}

type readinessResult struct {
	TaskID string `json:"taskId"`
	Ready  bool   `json:"ready"`
}

type deployment struct {
	ID string `json:"id"`
}

type taskAddress struct {
	IPAddress string `json:"ipAddress"`
}

// number is an integer that some versions and clients write as a string or with a fraction. What is not a number is 0.
type number int

// UnmarshalJSON never fails: a value that is no number costs itself, not the app.
func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `" `)
	i, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		i = 0
		f, _ := strconv.ParseFloat(s, 64) // 0 if it is no number
		if f == float64(int32(f)) {
			i = int64(f)
		}
	}
	*n = number(i)
	return nil
}

// texts holds strings by name, in which a client may have left numbers, booleans or null; those are taken as they are written,
// and null, objects and lists are left out.
type texts struct {
	byName map[string]string
	broken bool // it was no object: what it said is not known
}

// UnmarshalJSON never fails, so that the rest of the app, its id above all, is read whatever stands here.
func (t *texts) UnmarshalJSON(b []byte) error {
	*t = texts{}
	if string(b) == "null" || string(b) == "{}" {
		return nil
	}
	if !bytes.Contains(b, []byte("null")) && json.Unmarshal(b, &t.byName) == nil {
		return nil
	}
	t.byName = nil
	var raw map[string]json.RawMessage
	if t.broken = json.Unmarshal(b, &raw) != nil; t.broken {
		return nil
	}
	t.byName = make(map[string]string, len(raw))
	for k, v := range raw {
		switch {
		case string(v) == "null" || len(v) == 0 || v[0] == '{' || v[0] == '[':
		case v[0] == '"':
			var s string
			if json.Unmarshal(v, &s) == nil {
				t.byName[k] = s
			}
		default:
			t.byName[k] = string(v)
		}
	}
	return nil
}

// presence says whether a task takes part in routing at all, and how.
type presence int

const (
	absent    presence = iota // not started yet, or dead
	running                   // its health decides
	dying                     // it is being killed
	lost                      // its agent does not answer
	unheardOf                 // a state that no known Marathon has
)

// presence reads the state of a task. Versions before 1.1.2 have no state: a task that has started runs.
func (t *Task) presence() presence {
	switch t.State {
	case "":
		if t.StartedAt != "" {
			return running
		}
		return absent
	case "TASK_RUNNING":
		return running
	case "TASK_KILLING":
		return dying
	case "TASK_LOST", "TASK_UNREACHABLE", "TASK_UNREACHABLE_INACTIVE":
		return lost
	}
	if slices.Contains(absentStates, t.State) {
		return absent
	}
	return unheardOf
}

var absentStates = []string{
	"TASK_STAGING", "TASK_STARTING", "TASK_CREATED", "TASK_RESERVED", "TASK_SCHEDULED", "TASK_PROVISIONED",
	"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_UNKNOWN",
}
