package admin

import (
	"context"
	"encoding/json"

	"signalbox"
)

// State is what /api/v1/state answers: what is routed, and the operator's choices about it, for the verbs that work out what would
// be. Like the rendered configuration it holds what labels hold, hashes of passwords included.
type State struct {
	APIVersion string           `json:"apiVersion"`
	Generation uint64           `json:"generation"` // of the configuration that runs
	Table      *signalbox.Table `json:"table"`      // nil: nothing is known yet
	Labels     json.RawMessage  `json:"labels"`     // labels.Options
	Options    json.RawMessage  `json:"options"`    // haproxy.Options
}

// State returns what the controller routes, and how.
func (c *Client) State(ctx context.Context) (State, error) {
	return ask[State](ctx, c, "/api/v1/state")
}
