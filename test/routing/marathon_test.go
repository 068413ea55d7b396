package routing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/file"
	"signalbox/discovery/marathon"
)

// saying is what is said of services: by Marathon, and by the operator.
type saying struct {
	apps, pods string // "" for none
	versions   string // bodies by APP/versions/VERSION, as JSON
	static     string // the file of --static, "" for none
	agents     string // lines of a name and its address
}

// ask says it, and returns the table that a controller makes of it.
func ask(t *testing.T, said saying, convert marathon.Options) *signalbox.Table {
	t.Helper()
	apps, pods := cmp.Or(said.apps, `{"apps":[]}`), cmp.Or(said.pods, "[]")
	versions := map[string]json.RawMessage{}
	if said.versions != "" {
		if err := json.Unmarshal([]byte(said.versions), &versions); err != nil {
			t.Fatalf("versions.json: %v", err)
		}
	}
	resolver := discovery.NewResolver(discovery.ResolverConfig{LookupHost: func(_ context.Context, host string) ([]netip.Addr, error) {
		for line := range strings.Lines(said.agents) {
			if words := strings.Fields(line); len(words) == 2 && words[0] == host {
				return []netip.Addr{netip.MustParseAddr(words[1])}, nil
			}
		}
		return nil, errors.New("no such host")
	}})
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/v2/apps":
			_, _ = io.WriteString(w, apps)
		case versions[strings.TrimPrefix(r.URL.Path, "/v2/apps/")] != nil:
			_, _ = w.Write(versions[strings.TrimPrefix(r.URL.Path, "/v2/apps/")])
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
	source, err := marathon.New(marathon.Config{URLs: []string{server.URL}, Convert: convert, Resolver: resolver})
	if err != nil {
		t.Fatal(err)
	}
	sources := []discovery.Source{source}
	if said.static != "" {
		path := filepath.Join(t.TempDir(), "static.yaml")
		if err := os.WriteFile(path, []byte(said.static), 0o600); err != nil {
			t.Fatal(err)
		}
		static, err := file.New(file.Config{Path: path, Labels: convert.Labels, Resolver: resolver})
		if err != nil {
			t.Fatal(err)
		}
		sources = []discovery.Source{static, source}
	}
	watcher := discovery.NewWatcher(discovery.Config{Sources: sources, FirstWait: patience})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	changes, ended := make(chan *discovery.Change), make(chan struct{})
	go func() {
		defer close(ended)
		_ = watcher.Run(ctx, changes)
	}()
	defer func() { cancel(); <-ended }()
	select {
	case change := <-changes:
		for _, state := range watcher.Status() {
			if state.LastGood.IsZero() {
				t.Fatalf("what %s says is not taken: %s", state.Name, state.Detail)
			}
		}
		return change.Table
	case <-ctx.Done():
		t.Fatalf("no table: %v", watcher.Status())
		return nil
	}
}
