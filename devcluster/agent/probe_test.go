package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

func TestHTTPProbe(t *testing.T) {
	var asked string
	mux := http.NewServeMux()
	mux.HandleFunc("/{code}", func(w http.ResponseWriter, r *http.Request) {
		asked = r.UserAgent()
		code, _ := strconv.Atoi(r.PathValue("code"))
		if code/100 == 3 {
			w.Header().Set("Location", "/500")
		}
		w.WriteHeader(code)
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for _, kind := range []ProbeKind{ProbeHTTP, ProbeHTTPS} {
		server := httptest.NewUnstartedServer(mux)
		if kind == ProbeHTTPS {
			server.StartTLS()
		} else {
			server.Start()
		}
		defer server.Close()
		addr := server.Listener.Addr().(*net.TCPAddr)
		probe := func(path string, limit time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			return probeNetwork(ctx, "127.0.0.1", Probe{Kind: kind, Port: addr.Port, Path: path})
		}
		for _, path := range []string{"/200", "204", "/301", "/399"} {
			if err := probe(path, patience); err != nil {
				t.Errorf("%s %s: %v", kind, path, err)
			}
		}
		for _, path := range []string{"/400", "/404", "/500", "/503"} {
			if probe(path, patience) == nil {
				t.Errorf("%s %s is alive", kind, path)
			}
		}
		if err := probe("/slow", 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if asked != "Marathon HealthChecker" {
		t.Errorf("the probe calls itself %q", asked)
	}
}

func TestInformationalAnswers(t *testing.T) {
	for _, c := range []struct {
		answer string
		ignore bool
		want   error // errors.New("") stands for any
	}{
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", true, ErrNoVerdict},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, errors.New("")},
		{"HTTP/1.1 150 Odd\r\n\r\n", true, ErrNoVerdict},
		{"HTTP/1.1 150 Odd\r\n\r\n", false, errors.New("")},
		{"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, nil},
		{"", true, errors.New("")},
		{"nonsense\r\n\r\n", true, errors.New("")},
	} {
		l := serveRaw(t, c.answer)
		err := probeNetwork(t.Context(), "127.0.0.1", Probe{Kind: ProbeHTTP, Port: l, Path: "/", IgnoreHTTP1xx: c.ignore})
		switch {
		case c.want == nil && err != nil,
			errors.Is(c.want, ErrNoVerdict) != errors.Is(err, ErrNoVerdict),
			c.want != nil && err == nil:
			t.Errorf("%q, ignoring %v: %v", c.answer, c.ignore, err)
		}
	}
}

// serveRaw answers one connection with fixed bytes and returns the port.
func serveRaw(t *testing.T, answer string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, answer)
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTCPProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := Probe{Kind: ProbeTCP, Port: l.Addr().(*net.TCPAddr).Port}
	if err := probeNetwork(t.Context(), "127.0.0.1", p); err != nil {
		t.Error(err)
	}
	l.Close()
	if probeNetwork(t.Context(), "127.0.0.1", p) == nil {
		t.Error("a closed port is alive")
	}
	if probeNetwork(t.Context(), "127.0.0.1", Probe{Kind: "UDP"}) == nil {
		t.Error("an unknown kind of check passed")
	}
}
