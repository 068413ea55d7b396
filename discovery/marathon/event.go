package marathon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// action is what an event leads to.
type action string

const (
	actIgnore     action = "ignore"     // it cannot change a route
	actRefetch    action = "refetch"    // look at App again
	actPod        action = "pod"        // look at the pod App again
	actDrain      action = "drain"      // the task of App is dying or dead: drain it, then look again
	actSuspect    action = "suspect"    // the task of App is out of Marathon's sight: prefer others, then look again
	actGroup      action = "group"      // a group changed; the deployment that follows names the apps
	actDeployment action = "deployment" // a deployment of Apps begins or moves on
	actDeployed   action = "deployed"   // a deployment of Apps has ended
	actResync     action = "resync"     // look at everything again
)

// notice is what one event says, as far as routing cares.
type notice struct {
	Action   action
	Type     string // of the event
	App      string
	Task     string // the whole task id, or ""
	Instance string // the instance id, which begins the ids of its tasks, or ""
	Apps     []string
	Version  string // of the group or plan
	Plan     string // id of the deployment, or ""
	// Key is equal for events that say the same of one task, such as the two forms of a health change; "" says nothing.
	Key string
	// Intent says that a task is about to be killed, though Marathon may list it as running for a while.
	Intent bool
	Why    string    // for people: "TASK_KILLED", "unhealthy_instance_kill_event"
	At     time.Time // when it was received
	Stamp  time.Time // Marathon's own clock, zero if it says none
}

// subscribed are the events that can change routes, or explain what does. Older Marathons ignore the filter and send all.
var subscribed = []string{
	"status_update_event", "instance_changed_event", "health_status_changed_event", "instance_health_changed_event",
	"api_post_event", "group_change_success", "deployment_info", "deployment_success", "deployment_failed",
	"app_terminated_event", "unhealthy_task_kill_event", "unhealthy_instance_kill_event", "unknown_task_terminated_event",
	"unknown_instance_terminated_event", "pod_created_event", "pod_updated_event", "pod_deleted_event", "event_stream_attached",
}

// eventBody holds what any of the subscribed events may carry.
type eventBody struct {
	EventType  string `json:"eventType"`
	Timestamp  string `json:"timestamp"`
	AppID      string `json:"appId"`
	RunSpecID  string `json:"runSpecId"`
	TaskID     string `json:"taskId"`
	InstanceID string `json:"instanceId"`
	TaskStatus string `json:"taskStatus"`
	Condition  string `json:"condition"`
	Alive      *bool  `json:"alive"`
	Healthy    *bool  `json:"healthy"`
	URI        string `json:"uri"`
	GroupID    string `json:"groupId"`
	Version    string `json:"version"`
	ID         string `json:"id"`
	App        struct {
		ID string `json:"id"`
	} `json:"appDefinition"`
	Plan planBody `json:"plan"`
}

type planBody struct {
	ID      string            `json:"id"`
	Version string            `json:"version"`
	Steps   []json.RawMessage `json:"steps"`
}

// apps returns the apps that the plan touches, in order, each once. Before 1.1 a step is a list of actions.
func (p planBody) apps() []string {
	type act struct {
		App string `json:"app"`
		Pod string `json:"pod"`
	}
	var out []string
	seen := map[string]bool{}
	for _, raw := range p.Steps {
		var step struct {
			Actions []act `json:"actions"`
		}
		if json.Unmarshal(raw, &step) != nil && json.Unmarshal(raw, &step.Actions) != nil {
			continue
		}
		for _, a := range step.Actions {
			if id := a.App + a.Pod; id != "" && !seen[id] {
				seen[id] = true
				out = append(out, id)
			}
		}
	}
	return out
}

// readNotices decodes the JSON of one frame, which may hold several objects. Its error leaves those before it.
func readNotices(typ string, data []byte, at time.Time) ([]notice, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var out []notice
	for {
		var b eventBody
		if err := dec.Decode(&b); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			var unfit *json.UnmarshalTypeError
			if errors.As(err, &unfit) && b.EventType != "" {
				// One field of an odd type, such as the list of numbers in framework_message_event, spoils that field only.
				out = append(out, b.notice(typ, at))
				continue
			}
			return out, fmt.Errorf("decoding the event %q: %w", typ, err)
		}
		out = append(out, b.notice(typ, at))
	}
}

// notice decides what an event leads to.
func (b *eventBody) notice(typ string, at time.Time) notice {
	if b.EventType != "" {
		typ = b.EventType
	}
	n := notice{Action: actIgnore, Type: typ, App: b.AppID, Task: b.TaskID, Instance: b.InstanceID, At: at}
	if n.App == "" {
		n.App = b.RunSpecID
	}
	if t, err := time.Parse(time.RFC3339, b.Timestamp); err == nil {
		n.Stamp = t
	}
	switch typ {
	case "status_update_event":
		n.Why = b.TaskStatus
		n.Action = statusAction(b.TaskStatus)
	case "instance_changed_event":
		n.Why = b.Condition
		n.Action = conditionAction(b.Condition)
		n.Key = "condition"
	case "health_status_changed_event":
		n.Action = actRefetch
		n.Key = healthKey(b.InstanceID+b.TaskID, b.Alive)
	case "instance_health_changed_event":
		n.Action = actRefetch
		n.Key = healthKey(b.InstanceID, b.Healthy)
	case "api_post_event":
		n.App, n.Action = b.App.ID, actRefetch
		if n.App == "" {
			n.App = "/" + strings.Trim(strings.TrimPrefix(b.URI, "/v2/apps"), "/")
		}
	case "app_terminated_event":
		n.Action = actRefetch
	case "unhealthy_task_kill_event", "unhealthy_instance_kill_event":
		n.Action, n.Intent, n.Why = actDrain, true, typ
	case "unknown_task_terminated_event", "unknown_instance_terminated_event":
		n.Action, n.Why = actDrain, typ
	case "group_change_success":
		n.App, n.Version, n.Action = b.GroupID, b.Version, actGroup
	case "deployment_info":
		n.Apps, n.Version, n.Plan, n.Action = b.Plan.apps(), b.Plan.Version, b.Plan.ID, actDeployment
	case "deployment_success", "deployment_failed":
		n.Apps, n.Version, n.Plan, n.Action = b.Plan.apps(), b.Plan.Version, cmp.Or(b.ID, b.Plan.ID), actDeployed
	case "pod_created_event", "pod_updated_event", "pod_deleted_event":
		n.App, n.Action = "/"+strings.Trim(strings.TrimPrefix(b.URI, "/v2/pods"), "/"), actPod
	}
	switch n.Action {
	case actRefetch, actDrain, actSuspect, actPod:
		if n.App == "" || n.App == "/" {
			n.Action = actResync // it matters, but does not say to whom
		}
	}
	return n
}

// cause says what a notice is to one app: "event deployment_success /shop deployment 5ed4c0c5…".
func (n *notice) cause(app string) string {
	text := "event " + n.Type
	if app != "" {
		text += " " + app
	}
	if n.Plan != "" {
		text += inDeployment + n.Plan
	}
	return text
}

// inDeployment stands before the id of a deployment in a cause.
const inDeployment = " deployment "

func healthKey(instance string, alive *bool) string {
	if alive == nil {
		return "health " + instance + " unknown"
	}
	return fmt.Sprintf("health %s %t", instance, *alive)
}

func statusAction(status string) action {
	switch status {
	case "TASK_STAGING", "TASK_STARTING", "TASK_CREATED":
		return actIgnore
	case "TASK_KILLING", "TASK_KILLED", "TASK_FAILED", "TASK_FINISHED", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_DROPPED", "TASK_ERROR":
		return actDrain
	case "TASK_LOST", "TASK_UNREACHABLE":
		return actSuspect
	}
	return actRefetch
}

func conditionAction(condition string) action {
	switch condition {
	case "Created", "Scheduled", "Provisioned", "Staging", "Starting", "Reserved":
		return actIgnore
	}
	return actRefetch
}
