package admin

import (
	"context"
	"net/url"
	"time"

	"signalbox"
)

// Why is what /api/v1/why answers: all that is known of one app, and how it came about.
type Why struct {
	APIVersion string          `json:"apiVersion"`
	App        string          `json:"app"`
	At         time.Time       `json:"at"`
	Labels     []Label         `json:"labels"`            // by port, then key; the one in force before those that it overrides
	Members    []string        `json:"members,omitempty"` // the apps of a deployment group; the labels are theirs
	LabelsRead bool            `json:"labelsRead"`        // false: the source has not been read since the program started
	Problems   []Problem       `json:"problems"`
	Hold       *signalbox.Hold `json:"hold,omitempty"` // under which its definition stands still
	Kept       string          `json:"kept,omitempty"` // what the hold keeps back: signalbox.KeptNew and so on
	Services   []WhyService    `json:"services"`
	History    []Moment        `json:"history"` // oldest first
}

// Label is what became of one label at one port.
type Label struct {
	Port  int    `json:"port"` // -1: it is about no port that the app has
	Label string `json:"label"`
	Value string `json:"value"` // without secrets
	Key   string `json:"key"`
	Form  string `json:"form"`
	State string `json:"state"`
	By    string `json:"by,omitempty"` // the label that holds instead
}

// WhyService is one routable port of the app.
type WhyService struct {
	Service  string         `json:"service"`
	Port     int            `json:"port"`
	PortName string         `json:"portName,omitempty"`
	Mode     signalbox.Mode `json:"mode"`
	Since    time.Time      `json:"since,omitzero"` // since when it asks for what it asks for
	Version  string         `json:"version,omitempty"`
	Groups   []string       `json:"groups,omitempty"`
	Check    string         `json:"check"`
	Policy   string         `json:"policy,omitempty"`
	Ways     []Way          `json:"ways"` // by which it is reached, or would be
	LastHit  time.Time      `json:"lastHit,omitzero"`
	Tasks    []WhyTask      `json:"tasks"`
}

// Way is one name or port that a service asks for.
type Way struct {
	Way    string   `json:"way"` // "shop.local/cart", ":10001"
	Held   bool     `json:"held"`
	Share  int      `json:"share"`            // percent of the requests
	Owner  string   `json:"owner,omitempty"`  // who has it instead
	Reason string   `json:"reason,omitempty"` // why
	Rivals []string `json:"rivals,omitempty"` // who asks for it too
}

// WhyTask is one task of a service.
type WhyTask struct {
	Task    string          `json:"task"`
	Addr    string          `json:"addr"`
	Host    string          `json:"host,omitempty"`
	Version string          `json:"version,omitempty"`
	State   signalbox.State `json:"state"`
	Routed  bool            `json:"routed"` // it takes new requests, or will once HAProxy's checks pass
	Reason  string          `json:"reason,omitempty"`
}

// Moment is one thing that happened to an app.
type Moment struct {
	Time time.Time `json:"time"`
	What string    `json:"what"` // one of the words below
	Text string    `json:"text"`
}

// What can happen to an app.
const (
	MomentApp     = "app"     // it came, changed or went
	MomentRoute   = "route"   // a name or a port came or went
	MomentTask    = "task"    // tasks came, changed their state or went
	MomentProblem = "problem" // one came or was solved
	MomentReload  = "reload"  // HAProxy was reloaded for a change of it
)

// Why returns all that the controller knows of an app.
func (c *Client) Why(ctx context.Context, app string) (Why, error) {
	return ask[Why](ctx, c, "/api/v1/why?"+url.Values{"app": {app}}.Encode())
}
