package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"signalbox"
)

// maxOrder bounds the body of an order, in bytes.
const maxOrder = 64 << 10

// History is what /api/v1/history answers: changes of what HAProxy does, oldest first.
type History struct {
	APIVersion string    `json:"apiVersion"`
	At         time.Time `json:"at"`
	Generation uint64    `json:"generation"` // that runs
	Changes    []Change  `json:"changes"`
}

// Change is one change of what HAProxy does, one that failed, or an operator's order.
type Change struct {
	Generation  uint64    `json:"generation"` // of the running state, afterwards
	At          time.Time `json:"at"`
	Event       time.Time `json:"event,omitzero"` // when a source said that something changed
	TookSeconds float64   `json:"tookSeconds"`    // from Event, or from when it was known here, until HAProxy did it
	Cause       string    `json:"cause"`
	By          string    `json:"by,omitempty"` // the operator whose order it was

	Commands     int      `json:"commands"` // over the runtime socket
	Reloaded     bool     `json:"reloaded"`
	Reasons      []string `json:"reasons,omitempty"`      // of the reload
	Certificates []string `json:"certificates,omitempty"` // that were put in
	Withheld     []string `json:"withheld,omitempty"`     // what was left out, and why
	Error        string   `json:"error,omitempty"`        // why it failed; Generation goes on
	Note         string   `json:"note,omitempty"`         // of an order: what it said

	Definitions bool     `json:"definitions"` // it changed what an app asks for, not its tasks alone
	Apps        []string `json:"apps"`        // that it is about, sorted, the first of AppCount
	AppCount    int      `json:"appCount"`
	Lines       []string `json:"lines"` // of the table's text form that went ("- ") and came ("+ "), the first of LineCount
	LineCount   int      `json:"lineCount"`
}

// HistoryQuestion chooses changes. Its zero value asks for the last ones.
type HistoryQuestion struct {
	Generation  uint64 // 0: any
	App         string // "": any
	Definitions bool   // only those that changed definitions
}

// Holds is what /api/v1/holds answers: what operators hold, and what that keeps back.
type Holds struct {
	APIVersion string           `json:"apiVersion"`
	At         time.Time        `json:"at"`
	Generation uint64           `json:"generation"` // that runs
	Holds      []signalbox.Hold `json:"holds"`
	Kept       []Kept           `json:"kept"`  // sorted by app
	Lines      []string         `json:"lines"` // that a release of everything would change, the first of LineCount
	LineCount  int              `json:"lineCount"`
}

// Kept is one app of which a hold keeps something back.
type Kept struct {
	App string `json:"app"`
	How string `json:"how"` // signalbox.KeptNew and so on
}

// Quarantines is what /api/v1/quarantine answers: states that are held back.
type Quarantines struct {
	APIVersion string       `json:"apiVersion"`
	At         time.Time    `json:"at"`
	Sources    []Quarantine `json:"sources"`
}

// Quarantine is the state of one source that is held back, beside the one that is served.
type Quarantine struct {
	Source       string    `json:"source"`
	Since        time.Time `json:"since"`
	Reads        int       `json:"reads"` // that have confirmed it
	Needed       int       `json:"needed"`
	SpanSeconds  float64   `json:"spanSeconds"` // over which they must stretch
	AppsBefore   int       `json:"appsBefore"`
	AppsAfter    int       `json:"appsAfter"`
	TasksBefore  int       `json:"tasksBefore"`
	TasksAfter   int       `json:"tasksAfter"`
	MissingApps  int       `json:"missingApps"`
	MissingTasks int       `json:"missingTasks"`
	Missing      []string  `json:"missing"` // apps, the first of MissingApps
	Lines        []string  `json:"lines"`   // that an acceptance would change, the first of LineCount
	LineCount    int       `json:"lineCount"`
}

// Rollback is what GET /api/v1/rollback answers: what a rollback would change.
type Rollback struct {
	APIVersion string    `json:"apiVersion"`
	Generation uint64    `json:"generation"` // that runs
	To         uint64    `json:"to"`
	ToAt       time.Time `json:"toAt,omitzero"` // when that came
	App        string    `json:"app,omitempty"`
	Undone     []Change  `json:"undone"` // changes of definitions since, oldest first
	Apps       []string  `json:"apps"`   // whose definitions would change
	Unrouted   []string  `json:"unrouted"`
	Lines      []string  `json:"lines"` // that it would change, the first of LineCount
	LineCount  int       `json:"lineCount"`
}

// Order is what an operator orders: to hold, to release, to roll back, or to accept. Each takes the fields that it says.
type Order struct {
	App        string    `json:"app,omitempty"`        // hold, release, roll back; "": every app
	Generation uint64    `json:"generation,omitempty"` // roll back: to which
	ForSeconds float64   `json:"forSeconds,omitempty"` // hold, roll back: how long it holds; 0: until a release
	Reason     string    `json:"reason,omitempty"`
	Source     string    `json:"source,omitempty"` // accept
	Since      time.Time `json:"since,omitzero"`   // accept: of what was looked at
}

// Done is what an order led to.
type Done struct {
	APIVersion  string           `json:"apiVersion"`
	Generation  uint64           `json:"generation"` // that runs
	Commands    int              `json:"commands"`
	Reloaded    bool             `json:"reloaded"`
	Reasons     []string         `json:"reasons,omitempty"`
	TookSeconds float64          `json:"tookSeconds"`
	Holds       []signalbox.Hold `json:"holds"`             // in force now
	Warning     string           `json:"warning,omitempty"` // it is done, but
}

// Operate carries out what operators order. by says who it is. Each function is called at the same time by several requests; an error
// is ErrUnknown, ErrQuestion, ErrConflict, or means that it can't be done now.
type Operate struct {
	History    func(HistoryQuestion) (History, error)
	Holds      func() (Holds, error)
	Quarantine func() (Quarantines, error)
	Preview    func(app string, generation uint64) (Rollback, error) // generation 0: the last one with other definitions

	Hold, Release, Rollback, Accept func(ctx context.Context, by string, o Order) (Done, error)
}

// operate fills the mux with the operator's questions and orders.
func (s *Server) operate(o *Operate) {
	if o == nil {
		return
	}
	s.mux.HandleFunc("GET /api/v1/history", func(w http.ResponseWriter, r *http.Request) {
		answer(w, func() (History, error) {
			q := r.URL.Query()
			generation, err := generationOf(q.Get("generation"))
			if err != nil {
				return History{}, err
			}
			return o.History(HistoryQuestion{Generation: generation, App: q.Get("app"), Definitions: q.Get("definitions") == "true"})
		})
	})
	s.mux.HandleFunc("GET /api/v1/holds", func(w http.ResponseWriter, _ *http.Request) { answer(w, o.Holds) })
	s.mux.HandleFunc("GET /api/v1/quarantine", func(w http.ResponseWriter, _ *http.Request) { answer(w, o.Quarantine) })
	s.mux.HandleFunc("GET /api/v1/rollback", func(w http.ResponseWriter, r *http.Request) {
		answer(w, func() (Rollback, error) {
			generation, err := generationOf(r.URL.Query().Get("generation"))
			if err != nil {
				return Rollback{}, err
			}
			return o.Preview(r.URL.Query().Get("app"), generation)
		})
	})
	for path, do := range map[string]func(context.Context, string, Order) (Done, error){
		"/api/v1/hold": o.Hold, "/api/v1/release": o.Release, "/api/v1/rollback": o.Rollback, "/api/v1/accept": o.Accept,
	} {
		s.orders[path] = true
		s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			answer(w, func() (Done, error) {
				order, err := readOrder(w, r)
				if err != nil {
					return Done{}, err
				}
				return do(r.Context(), who(r), order)
			})
		})
	}
}

// generationOf reads a generation; "" is 0.
func generationOf(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is no generation", ErrQuestion, text)
	}
	return n, nil
}

// readOrder reads the body of an order. No form of a web page can send its type.
func readOrder(w http.ResponseWriter, r *http.Request) (Order, error) {
	var o Order
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return o, fmt.Errorf("%w: send an order as application/json", ErrQuestion)
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return o, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return o, fmt.Errorf("%w: there is more than one order", ErrQuestion)
	}
	return o, nil
}

// History returns the changes that a question chooses.
func (c *Client) History(ctx context.Context, q HistoryQuestion) (History, error) {
	v := url.Values{}
	if q.Generation != 0 {
		v.Set("generation", strconv.FormatUint(q.Generation, 10))
	}
	if q.App != "" {
		v.Set("app", q.App)
	}
	if q.Definitions {
		v.Set("definitions", "true")
	}
	return ask[History](ctx, c, "/api/v1/history?"+v.Encode())
}

// Holds returns what operators hold.
func (c *Client) Holds(ctx context.Context) (Holds, error) {
	return ask[Holds](ctx, c, "/api/v1/holds")
}

// Quarantine returns what is held back of the sources.
func (c *Client) Quarantine(ctx context.Context) (Quarantines, error) {
	return ask[Quarantines](ctx, c, "/api/v1/quarantine")
}

// Preview returns what a rollback would change; generation 0 is the last one with other definitions.
func (c *Client) Preview(ctx context.Context, app string, generation uint64) (Rollback, error) {
	v := url.Values{}
	if app != "" {
		v.Set("app", app)
	}
	if generation != 0 {
		v.Set("generation", strconv.FormatUint(generation, 10))
	}
	return ask[Rollback](ctx, c, "/api/v1/rollback?"+v.Encode())
}

// Hold holds the definitions of an app, or of all.
func (c *Client) Hold(ctx context.Context, o Order) (Done, error) {
	return tell[Done](ctx, c, "/api/v1/hold", o)
}

// Release ends the hold of an app, or every hold.
func (c *Client) Release(ctx context.Context, o Order) (Done, error) {
	return tell[Done](ctx, c, "/api/v1/release", o)
}

// Rollback goes back to the definitions of an earlier generation, of an app or of all, and holds them.
func (c *Client) Rollback(ctx context.Context, o Order) (Done, error) {
	return tell[Done](ctx, c, "/api/v1/rollback", o)
}

// Accept lets a state that is held back pass.
func (c *Client) Accept(ctx context.Context, o Order) (Done, error) {
	return tell[Done](ctx, c, "/api/v1/accept", o)
}
