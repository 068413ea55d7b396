package e2e

import (
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// stub answers in the place of Marathon, as a test tells it to.
type stub struct {
	*httptest.Server
	mu   sync.Mutex
	apps http.HandlerFunc // of /v2/apps
	good string
}

// newStub starts a Marathon with a number of apps, app0.local and so on, whose tasks are a server of the test.
func newStub(t *testing.T, apps int) *stub {
	t.Helper()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") }))
	t.Cleanup(back.Close)
	at, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range apps {
		all = append(all, fmt.Sprintf(`{"id":"/app%d","instances":1,"labels":{"signalbox.host":"app%d.local"},"portDefinitions":[{"port":0}],
			"tasks":[{"id":"app%d.t1","appId":"/app%d","host":%q,"ports":[%s],"state":"TASK_RUNNING"}]}`, i, i, i, i, at.Hostname(), at.Port()))
	}
	s := &stub{good: `{"apps":[` + strings.Join(all, ",") + `]}`}
	ended := make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/events":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: event_stream_attached\r\ndata: {}\r\n\r\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		case r.URL.Path == "/v2/apps":
			s.mu.Lock()
			answer := s.apps
			s.mu.Unlock()
			if answer != nil {
				answer(w, r)
				return
			}
			sendJSON(w, s.good)
		case strings.HasPrefix(r.URL.Path, "/v2/pods"):
			sendJSON(w, "[]")
		default:
			sendJSON(w, `{"version":"1.11.0","name":"marathon"}`)
		}
	}))
	t.Cleanup(func() {
		close(ended)
		s.Close()
	})
	return s
}

func sendJSON(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, body)
}

// answer sets what /v2/apps answers; nil is what is right.
func (s *stub) answer(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = h
}

// Whatever answers in Marathon's place: routes stay, health says so, and the credentials go nowhere.
func TestHostileMarathonChangesNothingAndLearnsNothing(t *testing.T) {
	const password = "canary-s3cret-77"
	encoded := base64.StdEncoding.EncodeToString([]byte("admin:" + password))
	var leaked sync.Map
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(r.URL.Path, true)
		}
		sendJSON(w, `{"apps":[]}`)
	}))
	t.Cleanup(foreign.Close)
	m := newStub(t, 3)
	n := newNode(t, m.URL)
	secret := filepath.Join(n.dir, "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.run("--marathon-user", "admin", "--marathon-password-file", secret, "--resync", "1s")
	n.answers("app0.local", "/", 200)

	for _, c := range []struct {
		name, detail string
		answer       http.HandlerFunc
	}{
		{"a redirect elsewhere", "302", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, foreign.URL+"/v2/apps", http.StatusFound)
		}},
		{"the request's credentials", "401", func(w http.ResponseWriter, r *http.Request) {
			_, given, _ := r.BasicAuth()
			http.Error(w, r.Header.Get("Authorization")+" "+given, http.StatusUnauthorized)
		}},
		{"a page to log in", "not JSON", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>")
		}},
		{"a value that does not end", "larger than the limit", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, err := io.WriteString(z, `{"apps":[{"id":"/app0","cmd":"`)
			for chunk := strings.Repeat("0", 1<<20); err == nil; {
				_, err = io.WriteString(z, chunk)
			}
		}},
		{"brackets without end", "not well-formed", func(w http.ResponseWriter, _ *http.Request) {
			sendJSON(w, `{"apps":[{"id":"/app0","x":`+strings.Repeat("[", 1<<20)+strings.Repeat("]", 1<<20)+`}]}`)
		}},
	} {
		m.answer(c.answer)
		detail := ""
		eventually(t, "health names what is wrong with "+c.name, func() bool {
			detail = n.health().Sources[0].Detail
			return strings.Contains(detail, c.detail)
		}, func() string { return detail })
		if code, body := n.get("app0.local", "/"); code != 200 {
			t.Errorf("while Marathon answers %s: %d %s", c.name, code, body)
		}
	}
	m.answer(nil)
	eventually(t, "all is well again", func() bool { return n.health().Sources[0].Status == "ok" }, func() string { return n.health().Sources[0].Detail })

	leaked.Range(func(path, _ any) bool {
		t.Errorf("the credentials were sent elsewhere: %v", path)
		return true
	})
	texts := map[string]string{"the log": n.controller.text(), "/metrics": n.metrics(), "health": n.verb("health", "-o", "json"), "the configuration": n.verb("config")}
	for pid, args := range processes(t) {
		if strings.Contains(args, n.dir) {
			texts[fmt.Sprint("process ", pid)] = args
		}
	}
	for name, text := range readTree(t, filepath.Join(n.dir, "state")) {
		texts[name] = text
	}
	for name, text := range texts {
		if strings.Contains(text, password) || strings.Contains(text, encoded) {
			t.Errorf("%s gives the password away", name)
		}
	}
}

// readTree returns the text of all files below a directory.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("reading %s: %v", dir, err)
	}
	return all
}

// That everything is gone is not believed at once, and is believed in the end.
func TestEmptinessIsBelievedOnlyWhenConfirmed(t *testing.T) {
	m := newStub(t, 12)
	n := newNode(t, m.URL)
	n.run("--resync", "1s", "--quarantine-span", "4s")
	n.answers("app0.local", "/", 200)
	n.answers("app11.local", "/", 200)
	m.answer(func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, `{"apps":[]}`) })
	why := ""
	eventually(t, "the empty state is held back", func() bool {
		why = n.health().Sources[0].Quarantined
		return why != ""
	}, func() string { return why })
	if code, body := n.get("app0.local", "/"); code != 200 {
		t.Errorf("an unconfirmed emptiness took a route away: %d %s", code, body)
	}
	began := time.Now()
	n.answers("app0.local", "/", 404)
	if time.Since(began) < time.Second {
		t.Errorf("the emptiness was believed after %s", time.Since(began))
	}
	m.answer(nil)
	n.answers("app0.local", "/", 200)
}
