package marathon

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTLSIsVerified: a member whose certificate nobody vouches for is not read.
func TestTLSIsVerified(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("tok"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 100)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case seen <- r.Header.Get("Authorization"):
		default:
		}
		switch r.URL.Path {
		case "/service/marathon/v2/apps":
			reply(w, 200, `{"apps":[`+appJSON("/shop", nil, 1)+`]}`)
		case "/service/marathon/v2/info":
			reply(w, 200, `{"version":"1.11.24","leader":"m1:8080","frameworkId":"f"}`)
		default:
			reply(w, 404, `{"message":"it does not exist"}`)
		}
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, ca string
		reads    bool
	}{{"unknown authority", "", false}, {"own authority", ca, true}} {
		t.Run(c.name, func(t *testing.T) {
			s, err := New(Config{URLs: []string{srv.URL + "/service/marathon/"}, CAFile: c.ca, TokenFile: secret})
			if err != nil {
				t.Fatal(err)
			}
			defer s.client.http.CloseIdleConnections()
			all, _, err := s.everything(t.Context())
			if (err == nil) != c.reads || c.reads && len(all) != 1 {
				t.Errorf("%d apps, error %v", len(all), err)
			}
			if !c.reads {
				if err == nil || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("error %v", err)
				}
				if len(seen) > 0 {
					t.Error("a request was sent to an unverified member")
				}
				return
			}
			if got := <-seen; got != "token=tok" {
				t.Errorf("Authorization %q", got)
			}
			about, err := s.About(t.Context())
			if err != nil || about.Version != "1.11.24" || about.Leader != "m1:8080" {
				t.Errorf("About: %+v, %v", about, err)
			}
		})
	}
}

func TestAboutEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	s, err := New(Config{URLs: []string{srv.URL}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.About(ctx); err == nil {
		t.Error("no error")
	}
}

// BenchmarkOneAppOf5000 is what one changed app costs the source, from the answer's bytes to the update.
func BenchmarkOneAppOf5000(b *testing.B) {
	m := newModel()
	var all []reading
	s, err := New(Config{URLs: []string{"http://m1"}})
	if err != nil {
		b.Fatal(err)
	}
	read := func(id string, tasks ...int) reading {
		app, err := DecodeApp(strings.NewReader(`{"app":`+appJSON(id, nil, tasks...)+`}`), 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		r := reading{app: id}
		r.services, r.problems = Convert(app, s.options(s.previous(), map[string]bool{}, map[version]bool{}))
		return r
	}
	for i := range 5000 {
		all = append(all, read(fmt.Sprintf("/app-%04d", i), 1, 2, 3))
	}
	m.whole(all, time.Now(), true)
	body := [2]string{`{"app":` + appJSON("/app-2500", nil, 1, 2) + `}`, `{"app":` + appJSON("/app-2500", nil, 1, 2, 3) + `}`}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		app, err := DecodeApp(strings.NewReader(body[i%2]), 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		r := reading{app: app.ID}
		r.services, r.problems = Convert(app, s.options(s.previous(), map[string]bool{}, map[version]bool{}))
		if !m.one(r, time.Now()) {
			b.Fatal("no change")
		}
	}
}

// An answer that repeats the credentials of its request does not bring them into messages, cut off or not.
func TestAnswersDoNotSpreadCredentials(t *testing.T) {
	const password = "canary-s3cret&more"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	answer := func(string, string) string { return "" }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, given, _ := r.BasicAuth()
		reply(w, 401, answer(r.Header.Get("Authorization"), given))
	}))
	defer srv.Close()
	s, err := New(Config{URLs: []string{srv.URL}, User: "admin", PasswordFile: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer s.client.http.CloseIdleConnections()
	const encoded = "YWRtaW46Y2FuYXJ5LXMzY3JldCZtb3Jl"
	for name, f := range map[string]func(header, password string) string{
		"header":   func(header, _ string) string { return "got " + header + " from you" },
		"password": func(_, password string) string { return "user admin, password " + password },
		"cut off":  func(_, password string) string { return strings.Repeat(".", 500) + password },
		"cut code": func(header, _ string) string { return strings.Repeat("  ", 240) + header },
	} {
		answer = f
		_, _, err := s.everything(t.Context())
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), encoded[:12]) {
			t.Errorf("%s: the error gives them away: %s", name, err)
		}
	}
}
