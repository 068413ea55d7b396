package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// operated is a server whose orders are written down.
func operated(t *testing.T) (r *running, given *[]string) {
	t.Helper()
	given = &[]string{}
	do := func(verb string) func(context.Context, string, Order) (Done, error) {
		return func(_ context.Context, by string, o Order) (Done, error) {
			*given = append(*given, fmt.Sprintf("%s app=%q generation=%d source=%q by %s", verb, o.App, o.Generation, o.Source, by))
			if o.App == "/none" {
				return Done{}, fmt.Errorf("%w: no app is called /none", ErrUnknown)
			}
			if o.App == "/held" {
				return Done{}, fmt.Errorf("%w: it is held already", ErrConflict)
			}
			return Done{APIVersion: APIVersion, Generation: 7}, nil
		}
	}
	r = start(t, func(c *Config, _ *running) {
		c.Operate = &Operate{
			History: func(q HistoryQuestion) (History, error) {
				return History{Changes: []Change{{Generation: q.Generation, Cause: q.App + fmt.Sprint(q.Definitions)}}}, nil
			},
			Holds:      func() (Holds, error) { return Holds{Generation: 3}, nil },
			Quarantine: func() (Quarantines, error) { return Quarantines{Sources: []Quarantine{{Source: "marathon"}}}, nil },
			Preview: func(app string, generation uint64) (Rollback, error) {
				return Rollback{App: app, To: generation}, nil
			},
			Hold: do("hold"), Release: do("release"), Rollback: do("rollback"), Accept: do("accept"),
		}
	})
	return r, given
}

// post sends an order over TCP.
func (r *running) post(path, body string, headers ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://"+r.tcp+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 1000)
	n, _ := resp.Body.Read(b)
	return resp.StatusCode, string(b[:n])
}

func TestOrdersAskForTheTokenItself(t *testing.T) {
	r, given := operated(t)
	bearer, kind := "Authorization: Bearer "+r.token, "Content-Type: application/json"
	_, h, _ := r.ask("GET", "/health?token="+r.token)
	session, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	for _, path := range []string{"/api/v1/hold", "/api/v1/release", "/api/v1/rollback", "/api/v1/accept"} {
		f := func(want int, why, body string, headers ...string) {
			t.Helper()
			if code, text := r.post(path, body, headers...); code != want || strings.Contains(text, r.token) {
				t.Errorf("POST %s %s: %d, want %d: %s", path, why, code, want, text)
			}
		}
		f(http.StatusUnauthorized, "without a token", "{}", kind)
		f(http.StatusUnauthorized, "with a wrong token", "{}", kind, bearer+"x")
		f(http.StatusUnauthorized, "with a browser's session", "{}", kind, "Cookie: "+session)
		f(http.StatusMisdirectedRequest, "under a foreign name", "{}", kind, bearer, "Host: evil.example")
		f(http.StatusBadRequest, "as a form", "{}", bearer, "Content-Type: text/plain")
		f(http.StatusBadRequest, "without a type", "{}", bearer)
		f(http.StatusBadRequest, "with a field that is unknown", `{"ap": "/a"}`, kind, bearer)
		f(http.StatusBadRequest, "twice", `{} {}`, kind, bearer)
		f(http.StatusBadRequest, "too large", `{"reason": "`+strings.Repeat("x", maxOrder)+`"}`, kind, bearer)
		if len(*given) != 0 {
			t.Fatalf("orders were carried out: %v", *given)
		}
		f(http.StatusOK, "", `{"app": "/a"}`, kind, bearer)
		f(http.StatusNotFound, "for nobody", `{"app": "/none"}`, kind, bearer)
		f(http.StatusConflict, "twice", `{"app": "/held"}`, kind, bearer)
		if len(*given) != 3 || !strings.Contains((*given)[0], "by the admin token, from 127.0.0.1:") {
			t.Errorf("carried out: %v", *given)
		}
		*given = nil
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			if code, _, _ := r.ask(method, path, bearer); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	if code, _, _ := r.ask("GET", "/api/v1/hold", bearer); code != http.StatusMethodNotAllowed {
		t.Errorf("an order by GET: %d", code)
	}
	for _, path := range []string{"/api/v1/history", "/api/v1/holds", "/api/v1/quarantine", "/api/v1/rollback?app=/a"} {
		if code, _, _ := r.ask("GET", path); code != http.StatusUnauthorized {
			t.Errorf("GET %s without a token: %d", path, code)
		}
		if code, _, body := r.ask("GET", path, bearer); code != http.StatusOK {
			t.Errorf("GET %s: %d: %s", path, code, body)
		}
	}
	if code, _, _ := r.ask("GET", "/api/v1/history?generation=x", bearer); code != http.StatusBadRequest {
		t.Errorf("a generation that is no number: %d", code)
	}
}

// Over the socket the kernel says who it is.
func TestOrdersOverTheSocketNameTheUser(t *testing.T) {
	r, given := operated(t)
	c := NewClient(Address{Socket: r.socket}, "")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if done, err := c.Rollback(ctx, Order{App: "/a", Generation: 5}); err != nil || done.Generation != 7 {
		t.Errorf("%+v, %v", done, err)
	}
	want := []string{fmt.Sprintf("rollback app=\"/a\" generation=5 source=\"\" by %s (uid %s), pid %d", me.Username, me.Uid, os.Getpid())}
	if diff := cmp.Diff(want, *given); diff != "" {
		t.Errorf("carried out (-want +got):\n%s", diff)
	}
	if _, err := c.Hold(ctx, Order{App: "/held"}); !errors.Is(err, ErrConflict) || !strings.HasSuffix(err.Error(), "it is held already") {
		t.Errorf("a conflict: %v", err)
	}
	if _, err := c.Release(ctx, Order{App: "/none"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown app: %v", err)
	}
	if _, err := c.Accept(ctx, Order{Source: "marathon"}); err != nil {
		t.Error(err)
	}
	if got, err := c.History(ctx, HistoryQuestion{Generation: 3, App: "/a", Definitions: true}); err != nil || got.Changes[0].Generation != 3 || got.Changes[0].Cause != "/atrue" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Preview(ctx, "/a", 12); err != nil || got.To != 12 || got.App != "/a" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Holds(ctx); err != nil || got.Generation != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Quarantine(ctx); err != nil || len(got.Sources) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	// Over TCP it is the token that says who may.
	tcp := NewClient(mustAddress(t, r.tcp), filepath.Join(filepath.Dir(r.socket), "state", "admin-token"))
	if _, err := tcp.Hold(ctx, Order{App: "/a"}); err != nil {
		t.Error(err)
	}
}

// What an operator holds is a notice, until something is kept back.
func TestAHoldDegradesOnceItKeepsSomethingBack(t *testing.T) {
	s := sample()
	s.Sources[0].Level, s.HAProxy.Level, s.Log.Level = "ok", "ok", "ok"
	for i := range s.Sources {
		s.Sources[i].Level = "ok"
	}
	s.Sinks = nil
	s.Holds = append(s.Holds, holdOf("/a"))
	if h := HealthOf(s); h.Status != "ok" || h.Held.Status != "ok" || len(h.Held.Holds) != 1 {
		t.Errorf("a hold that keeps nothing back: %s, %+v", h.Status, h.Held)
	}
	s.Kept = map[string]string{"/a": "changed", "/b": "new", "/c": "new", "/d": "removed"}
	want := "apps kept back: 2 new not routed, 1 with an earlier definition, 1 gone that keep their names"
	if h := HealthOf(s); h.Status != "degraded" || h.Held.Detail != want || h.Held.New != 2 {
		t.Errorf("%s, %+v", h.Status, h.Held)
	}
}

func holdOf(app string) signalbox.Hold { return signalbox.Hold{App: app, Since: noon, By: "root"} }
