package admin

import (
	"context"
	"net/url"
	"time"
)

// Question is what /api/v1/explain is asked: where a request would go.
type Question struct {
	URL    string // "http://shop.local/cart?x=1", "shop.local"
	Host   string // that the client sends instead of the URL's, or ""
	Method string // "": GET
	Source string // the client's address, or ""
	AppID  string // X-Marathon-App-Id, or ""
	Origin string // of a page whose browser asks whether it may make a request (CORS), or ""
}

// Explanation is what /api/v1/explain answers.
type Explanation struct {
	APIVersion string    `json:"apiVersion"`
	URL        string    `json:"url"`
	Node       string    `json:"node,omitempty"`
	Generation uint64    `json:"generation,omitempty"` // of the configuration that runs
	AppliedAt  time.Time `json:"appliedAt,omitzero"`
	At         time.Time `json:"at"`

	Host   string `json:"host"` // as routing reads it
	Path   string `json:"path"`
	Route  string `json:"route,omitempty"`  // that the request takes
	Status int    `json:"status,omitempty"` // of HAProxy's own answer; 0: a task is asked
	Reason string `json:"reason,omitempty"` // why it answers itself

	Names        []ExplainedName  `json:"names"`          // in the order in which they were tried
	Near         []string         `json:"near,omitempty"` // hosts that are written almost like one that nobody has, the nearest first
	Claims       []ExplainedClaim `json:"claims"`
	Destinations []Destination    `json:"destinations"`
	Effects      []Effect         `json:"effects"` // what labels do with the request on its way, in order
}

// ExplainedName is one name that the host was compared with.
type ExplainedName struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Holds bool   `json:"holds"`
}

// ExplainedClaim is a route that a service asks for under the host, and what becomes of it for this request.
type ExplainedClaim struct {
	Route   string `json:"route"`
	Service string `json:"service"`
	App     string `json:"app"`
	Wins    bool   `json:"wins"`
	Why     string `json:"why"`
}

// Destination is a service to which the request can go.
type Destination struct {
	Service string       `json:"service"`
	App     string       `json:"app"`
	Percent int          `json:"percent"` // of the requests
	Balance string       `json:"balance"`
	Usable  int          `json:"usable"` // tasks that take requests
	Tasks   []Candidate  `json:"tasks"`
	Counted *ServiceStat `json:"counted,omitempty"` // nil: nothing yet
}

// Candidate is a task that may get the request.
type Candidate struct {
	Task   string `json:"task"`
	Addr   string `json:"addr"`
	Weight int    `json:"weight"`
	Takes  bool   `json:"takes"`
	Why    string `json:"why,omitempty"` // it takes none, or fewer
}

// Effect is what a label does with the request.
type Effect struct {
	Label  string `json:"label"`
	Text   string `json:"text"`
	Status int    `json:"status,omitempty"` // of the answer where it ends the request's way
}

// query returns the question as a query of the API.
func (q Question) query() string {
	v := url.Values{"url": {q.URL}}
	for name, value := range map[string]string{"host": q.Host, "method": q.Method, "src": q.Source, "app-id": q.AppID, "origin": q.Origin} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v.Encode()
}

func questionOf(v url.Values) Question {
	return Question{URL: v.Get("url"), Host: v.Get("host"), Method: v.Get("method"), Source: v.Get("src"), AppID: v.Get("app-id"), Origin: v.Get("origin")}
}

// Explain asks where a request would go, and why.
func (c *Client) Explain(ctx context.Context, q Question) (Explanation, error) {
	return ask[Explanation](ctx, c, "/api/v1/explain?"+q.query())
}
