package routing

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/marathon"
)

// ask serves two bodies as Marathon would, and returns the table that a controller makes of them.
func ask(t *testing.T, apps, pods string, convert marathon.Options) *signalbox.Table {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/v2/apps":
			_, _ = io.WriteString(w, apps)
		case strings.HasPrefix(r.URL.Path, "/v2/pods/"):
			_, _ = io.WriteString(w, pods)
		case r.URL.Path == "/v2/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: event_stream_attached\ndata: {\"eventType\":\"event_stream_attached\"}\n\n")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-over:
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	defer close(over)
	source, err := marathon.New(marathon.Config{URLs: []string{server.URL}, Convert: convert})
	if err != nil {
		t.Fatal(err)
	}
	watcher := discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{source}, FirstWait: patience})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	changes, ended := make(chan *discovery.Change), make(chan struct{})
	go func() {
		defer close(ended)
		_ = watcher.Run(ctx, changes)
	}()
	defer func() { cancel(); <-ended }()
	select {
	case change := <-changes:
		if state := watcher.Status(); state[0].LastGood.IsZero() {
			t.Fatalf("Marathon's answer is not taken: %s", state[0].Detail)
		}
		return change.Table
	case <-ctx.Done():
		t.Fatalf("no table: %v", watcher.Status())
		return nil
	}
}
