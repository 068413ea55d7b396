package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// AppliedPath is where a node tells other machines what it has made of an app; ?app= names it.
const AppliedPath = "/api/v1/applied"

// Applied is what AppliedPath answers: what the HAProxy of one node does for an app.
type Applied struct {
	APIVersion string        `json:"apiVersion"`
	App        string        `json:"app"`
	Generation uint64        `json:"generation"`         // of the configuration that runs
	Known      bool          `json:"known"`              // the app has services, or names that still answer
	Versions   []string      `json:"versions,omitempty"` // of its definitions, sorted: one, but for a deployment group
	Tasks      []AppliedTask `json:"tasks"`              // that take new requests, sorted
	// Waits says why HAProxy does not do yet what is known of the app; "": it does.
	Waits string `json:"waits,omitempty"`
}

// AppliedTask is one task that takes new requests.
type AppliedTask struct {
	Task    string `json:"task"`
	Addr    string `json:"addr"`
	Version string `json:"version,omitempty"` // of the definition that it was started from
}

// ForNodes answers what handler does and, at AppliedPath, what a node has made of an app.
func ForNodes(handler http.Handler, applied func(app string) Applied) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("GET "+AppliedPath, func(w http.ResponseWriter, r *http.Request) {
		app := r.URL.Query().Get("app")
		if app == "" {
			writeJSON(w, http.StatusBadRequest, map[string]string{"apiVersion": APIVersion, "error": "name an app, as in " + AppliedPath + "?app=/shop"})
			return
		}
		writeJSON(w, http.StatusOK, applied(app))
	})
	return mux
}

// NewNodeClient returns a client of what a node tells other machines (--metrics-listen), at "http://slave-1.example:9902". The token file,
// "" for none, is read with each request.
func NewNodeClient(base, tokenFile string) (*Client, error) {
	c, err := newRemoteClient(base, tokenFile)
	if err != nil {
		return nil, fmt.Errorf("%q is no URL of a node: want http://HOST:9902", base)
	}
	return c, nil
}

// Applied returns what a node's HAProxy does for an app.
func (c *Client) Applied(ctx context.Context, app string) (Applied, error) {
	return ask[Applied](ctx, c, AppliedPath+"?app="+url.QueryEscape(app))
}
