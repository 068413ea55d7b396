package devcluster

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain overlooks what go-marathon never ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/gambol99/go-marathon.(*marathonClient).registerSSESubscription.func1"),
		goleak.IgnoreAnyFunction("github.com/gambol99/go-marathon.(*marathonClient).WaitOnGroup.func1.1"),
		goleak.IgnoreAnyFunction("github.com/donovanhide/eventsource.(*Stream).retryRestartStream"))
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(context.Background(), cfg) // closed below, after the test's own context
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// plainClient follows no redirect and keeps no connection.
func plainClient(t *testing.T) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func ask(t *testing.T, method, url, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n+1 < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := plainClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func must(t *testing.T, status int, a answer) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came: %s", what)
}

type appView struct {
	App struct {
		ID             string
		Instances      int
		TasksRunning   int
		TasksStaged    int
		TasksHealthy   int
		TasksUnhealthy int
		Deployments    []struct{ ID string }
		Version        string
		Tasks          []struct {
			ID, Host, State, Version string
			Ports                    []int
			HealthCheckResults       []struct{ Alive bool }
		}
		LastTaskFailure *struct{ Message, State string }
	}
}

func view(t *testing.T, s *Server, id string) appView {
	t.Helper()
	var v appView
	must(t, 200, ask(t, "GET", s.LeaderURL()+"/v2/apps"+id, "")).into(t, &v)
	return v
}

func settled(t *testing.T, s *Server, id string, instances int) {
	t.Helper()
	eventually(t, id+" settled", func() bool {
		v := view(t, s, id)
		return v.App.TasksRunning == instances && len(v.App.Tasks) == instances && len(v.App.Deployments) == 0
	})
}
