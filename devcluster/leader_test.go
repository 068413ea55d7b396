package devcluster

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSilenceIsSilent(t *testing.T) {
	s := start(t, Config{Virtual: true, Heartbeat: 20 * time.Millisecond})
	r := listen(t, s.URL(), "")
	headers(t, r)
	frame(t, r)
	if _, err := s.Inject(Fault{Kind: "silence"}); err != nil {
		t.Fatal(err)
	}
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"lost","cmd":"x"}`))
	settled(t, s, "/lost", 1)
	s.ClearFaults()
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"heard","cmd":"x"}`))
	for {
		kind, v := frame(t, r)
		if strings.Contains(kind, "api_post") {
			if v["uri"] != "/v2/apps" || v["appDefinition"].(map[string]any)["id"] != "/heard" {
				t.Errorf("heard %v", v)
			}
			return
		}
	}
}

func TestOneMarathonAbdicates(t *testing.T) {
	s := start(t, Config{Virtual: true})
	r := listen(t, s.URL(), "")
	headers(t, r)
	if a := must(t, 200, ask(t, "DELETE", s.URL()+"/v2/leader", "")); string(a.body) != `{"message":"Leadership abdicated"}` {
		t.Errorf("%s", a.body)
	}
	for {
		if _, err := r.ReadByte(); err != nil {
			break
		}
	}
	eventually(t, "its return", func() bool { return ask(t, "GET", s.URL()+"/v2/apps", "").status == http.StatusOK })
}

func TestTooManyRequests(t *testing.T) {
	s := start(t, Config{Virtual: true, MaxConcurrentRequests: 1})
	if _, err := s.Inject(Fault{Kind: "slow", Count: 1, Path: "/v2/info", Delay: Duration(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/v2/info", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := plainClient(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, "the slow request", func() bool { return len(s.Faults()) == 0 })
	eventually(t, "a refusal", func() bool {
		a := ask(t, "GET", s.URL()+"/ping", "")
		return a.status == http.StatusServiceUnavailable && strings.Contains(string(a.body), "Too many concurrent requests! Allowed: 1.")
	})
	cancel()
	<-done
}
