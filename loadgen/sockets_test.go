package loadgen

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// echoServer is a server of somebody else's web sockets. handle decides what becomes of each; nil echoes.
func echoServer(t *testing.T, handle func(c *websocket.Conn)) string {
	t.Helper()
	s := httptest.NewServer(websocket.Server{
		Handshake: func(c *websocket.Config, r *http.Request) error {
			c.Header = http.Header{DefaultAppHeader: {strings.TrimPrefix(r.Host, "wrong.")}}
			return nil
		},
		Handler: func(c *websocket.Conn) {
			if handle != nil {
				handle(c)
				return
			}
			_, _ = io.Copy(c, c)
		},
	})
	t.Cleanup(s.Close)
	return s.URL
}

// runSockets runs web sockets until enough holds of their report, and returns the last one.
func runSockets(t *testing.T, cfg SocketConfig, enough func(SocketReport) bool) SocketReport {
	t.Helper()
	s, err := NewSockets(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for begun := time.Now(); !enough(s.Report()); time.Sleep(time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Errorf("it does not come to that: %+v", s.Report())
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r := s.Report()
	if r.Open != 0 {
		t.Errorf("%d web sockets are open after Run", r.Open)
	}
	return r
}

func TestSocketsLiveAsLongAsTheyShould(t *testing.T) {
	url := echoServer(t, nil)
	r := runSockets(t, SocketConfig{
		Targets: []Target{{Name: "a", URL: url, Host: "a.local", Expect: "a.local"}},
		Count:   5, Lifetime: 50 * time.Millisecond, Every: 10 * time.Millisecond,
	}, func(r SocketReport) bool { return r.Lived >= 20 })
	if r.Failed() != 0 || r.Opened != r.Lived+r.Stopped || r.Messages < r.Lived || r.Echo.Count() != r.Messages {
		t.Errorf("%+v", r)
	}
}

func TestSocketsTellHowTheyFail(t *testing.T) {
	ok := echoServer(t, nil)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for want, target := range map[Class]Target{
		ClosedEarly: {URL: echoServer(t, func(c *websocket.Conn) {
			var text string
			_ = websocket.Message.Receive(c, &text)
			_ = websocket.Message.Send(c, text)
		})},
		Mangled:     {URL: echoServer(t, func(c *websocket.Conn) { _ = websocket.Message.Send(c, "else") })},
		Timeout:     {URL: echoServer(t, func(c *websocket.Conn) { _, _ = io.Copy(io.Discard, c) })},
		Refused:     {URL: "http://" + freeAddress(t)},
		CodeOfProxy: {URL: plain.URL},
		WrongApp:    {URL: ok, Host: "wrong.a.local", Expect: "b.local"},
	} {
		target.Name = string(want)
		r := runSockets(t, SocketConfig{
			Targets: []Target{target}, Count: 2, Lifetime: time.Hour, Every: time.Millisecond, Timeout: 200 * time.Millisecond, KeepFailures: 1,
		}, func(r SocketReport) bool { return r.Failed() >= 2 })
		if r.Lived != 0 || len(r.Errors) != 1 || r.Errors[0].Class != want || len(r.Failures) != 1 || r.Failures[0].Class != want {
			t.Errorf("%s: %+v", want, r)
		}
	}
}

func TestSocketsRefuseWhatTheyCannotDo(t *testing.T) {
	good := SocketConfig{Targets: []Target{{URL: "http://a/"}}, Count: 1, Lifetime: time.Second, Every: time.Second}
	for name, spoil := range map[string]func(*SocketConfig){
		"none":       func(c *SocketConfig) { c.Count = 0 },
		"no life":    func(c *SocketConfig) { c.Lifetime = 0 },
		"no target":  func(c *SocketConfig) { c.Targets = nil },
		"TLS":        func(c *SocketConfig) { c.Targets = []Target{{URL: "https://a/"}} },
		"bad header": func(c *SocketConfig) { c.Targets = []Target{{URL: "http://a/", Header: map[string]string{"a b": ""}}} },
	} {
		c := good
		spoil(&c)
		if _, err := NewSockets(c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
