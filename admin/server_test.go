package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"signalbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server with one unix socket and one TCP listener.
type running struct {
	*Server
	t      *testing.T
	token  string
	tcp    string // host:port
	socket string
	status signalbox.Status
	stop   func()
}

func start(t *testing.T, change func(*Config, *running)) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, socket: filepath.Join(dir, "admin.sock"), status: sample()}
	registry := prometheus.NewRegistry()
	cfg := Config{
		Listen:    []Address{{Socket: r.socket}, mustAddress(t, "127.0.0.1:0")},
		TokenFile: filepath.Join(dir, "state", "admin-token"),
		Status:    func() signalbox.Status { return r.status },
		Services:  func() []ServiceStat { return []ServiceStat{{Service: "/b:0"}, {Service: "/a:0", Requests: 3}} },
		Render:    func() ([]File, error) { return []File{{Name: "haproxy.cfg", Content: "global\n"}}, nil },
		Live:      func() ([]File, error) { return []File{{Name: "haproxy.cfg", Content: "# before\n"}}, nil },
		State:     func() (State, error) { return State{APIVersion: APIVersion}, nil },
		Why: func(app string) (Why, error) {
			if app != "/shop" {
				return Why{}, fmt.Errorf("%w: %s", ErrUnknown, app)
			}
			return Why{App: app}, nil
		},
		Explain: func(q Question) (Explanation, error) {
			if q.URL == "" {
				return Explanation{}, fmt.Errorf("%w: it is empty", ErrQuestion)
			}
			return Explanation{URL: q.URL}, nil
		},
		Gatherer: registry,
		Web:      os.DirFS("../templates/web"),
	}
	if change != nil {
		change(&cfg, r)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(s)
	r.Server = s
	r.tcp = s.Addresses()[1]
	if r.token, err = ReadToken(cfg.TokenFile); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run doesn't end")
		}
		if _, err := os.Lstat(r.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return r
}

func mustAddress(t *testing.T, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask sends one request over TCP; headers are "Name: value", "Host: …" among them.
func (r *running) ask(method, target string, headers ...string) (int, http.Header, string) {
	r.t.Helper()
	return do(r.t, &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}, Transport: &http.Transport{DisableKeepAlives: true}}, method, "http://"+r.tcp+target, headers...)
}

func (r *running) askSocket(target string) (int, http.Header, string) {
	r.t.Helper()
	return do(r.t, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", r.socket) },
	}}, http.MethodGet, "http://anything"+target)
}

func do(t *testing.T, c *http.Client, method, target string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

var endpoints = []string{
	"/", "/health", "/version", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap",
	"/debug/pprof/profile?seconds=1", "/debug/pprof/symbol", "/debug/pprof/trace?seconds=0.1",
	"/routes", "/api/v1/status", "/api/v1/routes", "/api/v1/services", "/api/v1/render", "/api/v1/live", "/api/v1/state",
	"/api/v1/explain?url=shop.local", "/api/v1/why?app=/shop",
}

// Each endpoint, with each way of not being allowed.
func TestTheTokenIsAskedEverywhere(t *testing.T) {
	r := start(t, nil)
	for _, path := range endpoints {
		f := func(want int, why, method string, headers ...string) {
			t.Helper()
			code, _, body := r.ask(method, path, headers...)
			if code != want {
				t.Errorf("%s %s %s: %d, want %d: %s", method, path, why, code, want, body)
			}
			if path != "/debug/pprof/" && strings.Contains(body, r.token) {
				t.Errorf("%s %s %s: the answer holds the token", method, path, why)
			}
		}
		bearer := "Authorization: Bearer " + r.token
		open, wrong := http.StatusUnauthorized, http.StatusUnauthorized
		switch path {
		case "/version":
			open, wrong = http.StatusOK, http.StatusOK
		case "/health":
			open = http.StatusOK
		}
		f(open, "without a token", "GET")
		f(wrong, "with a wrong token", "GET", "Authorization: Bearer "+strings.Repeat("0", len(r.token)))
		f(wrong, "with an empty token", "GET", "Authorization: Bearer ")
		f(open, "with a made-up session", "GET", "Cookie: signalbox-admin="+r.token)
		f(http.StatusMisdirectedRequest, "under a foreign name", "GET", bearer, "Host: evil.example")
		f(http.StatusMisdirectedRequest, "under a foreign address", "GET", bearer, "Host: 192.0.2.1:9901")
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
			f(http.StatusMethodNotAllowed, "", method, bearer)
		}
	}
	if n := testutil.ToFloat64(r.refused.WithLabelValues("host")); n != float64(2*len(endpoints)) {
		t.Errorf("%v refusals for the host are counted, want %d", n, 2*len(endpoints))
	}
}

func TestWithTheTokenOrOverTheSocket(t *testing.T) {
	r := start(t, nil)
	for _, path := range endpoints {
		want := http.StatusOK
		if path == "/" {
			want = http.StatusFound
		}
		for _, auth := range []string{"Authorization: Bearer " + r.token, "Authorization: bearer " + r.token} {
			if code, _, body := r.ask("GET", path, auth); code != want {
				t.Errorf("GET %s with the token: %d, want %d: %s", path, code, want, body)
			}
		}
		code, h, body := r.askSocket(path)
		if code != http.StatusOK {
			t.Errorf("GET %s over the socket: %d: %s", path, code, body)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("GET %s: headers %v", path, h)
		}
	}
	// The password of a URL, as in `go tool pprof http://x:TOKEN@127.0.0.1:9901/debug/pprof/heap`.
	code, _, _ := do(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "GET", "http://x:"+r.token+"@"+r.tcp+"/debug/pprof/heap")
	if code != http.StatusOK {
		t.Errorf("with the token as password: %d", code)
	}
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1:9901", "127.9.9.9", "[::1]:80", "[::1]"} {
		if code, _, _ := r.ask("GET", "/version", "Host: "+host); code != http.StatusOK {
			t.Errorf("Host %s: %d", host, code)
		}
	}
	for path, want := range map[string]int{
		"/nothing": http.StatusNotFound, "/api/v1/why?app=/none": http.StatusNotFound, "/api/v1/explain": http.StatusBadRequest,
	} {
		if code, _, body := r.ask("GET", path, "Authorization: Bearer "+r.token); code != want {
			t.Errorf("GET %s: %d, want %d: %s", path, code, want, body)
		}
	}
}

func TestVersionIsAContract(t *testing.T) {
	r := start(t, nil)
	_, h, body := r.ask("GET", "/version")
	if body != `{"Version":"0.1.ab41cde"}`+"\n" || h.Get("Content-Type") != "application/json" {
		t.Errorf("/version answers %q as %s", body, h.Get("Content-Type"))
	}
}

func TestABareHealthSaysOneWord(t *testing.T) {
	r := start(t, nil)
	code, _, body := r.ask("GET", "/health")
	if code != http.StatusOK || body != `{"apiVersion":"v1","status":"degraded"}`+"\n" {
		t.Errorf("%d %s", code, body)
	}
	r.status.HAProxy.Level = signalbox.Failing
	code, _, body = r.ask("GET", "/health")
	if code != http.StatusServiceUnavailable || body != `{"apiVersion":"v1","status":"failing"}`+"\n" {
		t.Errorf("%d %s", code, body)
	}
	if code, _, _ := r.askSocket("/health"); code != http.StatusServiceUnavailable {
		t.Errorf("the whole health of a failing program: %d, want 503", code)
	}
	_, _, body = r.ask("GET", "/health", "Accept: text/html")
	for _, secret := range []string{"/shop/cart", "10.0.0", "0.1.ab41cde", "2.6.12"} {
		if strings.Contains(body, secret) {
			t.Errorf("the page that is shown without a token holds %q", secret)
		}
	}
}

// What a person does: open the printed address, follow it, look around, without the token staying in the address.
func TestABrowserLogsInOnce(t *testing.T) {
	r := start(t, nil)
	jar, _ := cookiejar.New(nil)
	c := &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(mustRequest(t, r.LoginURL()))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.RawQuery != "" || !strings.Contains(string(body), "/shop/web") {
		t.Errorf("after the login: %s at %s", resp.Status, resp.Request.URL)
	}
	if code, _, _ := do(t, c, "GET", "http://"+r.tcp+"/api/v1/routes"); code != http.StatusOK {
		t.Errorf("the next request: %d", code)
	}
	// A page on another port of this host has the cookie sent along; it gets nothing.
	code, _, _ := do(t, c, "GET", "http://"+r.tcp+"/debug/pprof/profile", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors")
	if code != http.StatusForbidden {
		t.Errorf("asked by another page: %d, want 403", code)
	}
	u, _ := url.Parse("http://" + r.tcp)
	for _, cookie := range jar.Cookies(u) {
		if strings.Contains(cookie.Value, r.token) {
			t.Error("the cookie holds the token")
		}
	}
	code, h, _ := r.ask("GET", "/health?token="+r.token+"&format=json", "Accept: text/html")
	set := h.Get("Set-Cookie")
	if code != http.StatusSeeOther || h.Get("Location") != "/health?format=json" ||
		!strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Strict") {
		t.Errorf("login: %d to %q with %q", code, h.Get("Location"), set)
	}
	if _, h, _ := r.ask("GET", "//evil.example/?token="+r.token); h.Get("Location") != "/evil.example/" {
		t.Errorf("the login leads to %q", h.Get("Location"))
	}
	if code, h, _ := r.ask("GET", "/health?token=wrong", "Accept: text/html"); code != http.StatusUnauthorized || h.Get("Set-Cookie") != "" {
		t.Errorf("with a wrong token: %d, cookie %q", code, h.Get("Set-Cookie"))
	}
}

func mustRequest(t *testing.T, target string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	return req
}

func TestSessionsEnd(t *testing.T) {
	var s sessions
	first := s.begin(noon)
	if !s.valid(first, noon.Add(sessionLife)) || s.valid(first, noon.Add(sessionLife+1)) || s.valid("", noon) {
		t.Error("a session is not valid exactly as long as it should be")
	}
	first = s.begin(noon)
	for range maxSessions {
		s.begin(noon.Add(time.Second))
	}
	if s.valid(first, noon) || len(s.until) != maxSessions {
		t.Errorf("%d sessions, the oldest among them", len(s.until))
	}
}

func TestHealthPage(t *testing.T) {
	r := start(t, nil)
	code, h, body := r.ask("GET", "/health", "Accept: text/html", "Authorization: Bearer "+r.token)
	if code != http.StatusOK || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", code, h.Get("Content-Type"))
	}
	for _, want := range []string{
		"degraded", "unreachable: connection refused", "40 of 41 apps are gone", "3m12s ago", "2.6.12", "new listener",
		"&lt;b&gt;routes&lt;/b&gt; changed", "signalbox_reloads_total", "SB110", `lang="en"`, "width=device-width",
		"up 1h30m", "prefers-color-scheme: dark",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, alien := range []string{"<b>routes", "http-equiv", "<script", "src=", "@import", "url("} {
		if strings.Contains(body, alien) {
			t.Errorf("the page holds %q", alien)
		}
	}
	if !strings.Contains(h.Get("Content-Security-Policy"), "style-src 'sha256-") {
		t.Errorf("policy %q", h.Get("Content-Security-Policy"))
	}
}

func TestHealthForMachines(t *testing.T) {
	r := start(t, nil)
	_, _, body := r.askSocket("/health")
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"apiVersion", "status", "version", "started", "uptimeSeconds", "at", "lastGood", "lastGoodAgeSeconds", "apps",
		"services", "endpoints", "sources", "haproxy", "log", "problems", "logs", "metrics",
	} {
		if _, ok := got[key]; !ok {
			t.Errorf("health lacks %s: %s", key, body)
		}
	}
}

func TestClient(t *testing.T) {
	r := start(t, nil)
	for _, addr := range []string{"unix:" + r.socket, r.tcp} {
		c := NewClient(mustAddress(t, addr), r.cfg.TokenFile)
		h, err := c.Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(HealthOf(r.status), h); diff != "" {
			t.Errorf("health over %s (-want +got):\n%s", addr, diff)
		}
		routes, err := c.Routes(t.Context())
		if err != nil || len(routes.Routes) != 5 {
			t.Errorf("%d routes, %v", len(routes.Routes), err)
		}
		services, err := c.Services(t.Context())
		if err != nil || len(services.Services) != 2 || services.Services[0].Service != "/a:0" {
			t.Errorf("services %+v, %v", services, err)
		}
		files, err := c.Render(t.Context())
		if err != nil || len(files.Files) != 1 || files.Files[0].Content != "global\n" {
			t.Errorf("files %+v, %v", files, err)
		}
	}
	r.status.HAProxy.Level = signalbox.Failing
	if h, err := NewClient(mustAddress(t, r.tcp), r.cfg.TokenFile).Health(t.Context()); err != nil || h.Status != signalbox.Failing {
		t.Errorf("a failing controller's health: %s, %v", h.Status, err)
	}
}

func TestClientErrors(t *testing.T) {
	r := start(t, func(cfg *Config, _ *running) {
		cfg.Render = func() ([]File, error) { return nil, errors.New("no table yet") }
	})
	f := func(addr, tokenFile string, want error, words ...string) {
		t.Helper()
		_, err := NewClient(mustAddress(t, addr), tokenFile).Health(t.Context())
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", addr, err, want)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q lacks %q", err, w)
			}
		}
	}
	wrong := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(wrong, []byte(strings.Repeat("x", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	f(r.tcp, wrong, ErrRefused, wrong, r.tcp)
	f(r.tcp, filepath.Join(t.TempDir(), "none"), ErrRefused, "no such file")
	f("unix:/nowhere/admin.sock", "", ErrUnreachable, "unix:/nowhere/admin.sock", "no such file")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	f(free.Addr().String(), wrong, ErrUnreachable, "connection refused")
	if _, err := NewClient(mustAddress(t, r.tcp), r.cfg.TokenFile).Render(t.Context()); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "no table yet") {
		t.Errorf("Render: %v", err)
	}
}

func TestParseAddress(t *testing.T) {
	good := map[string]string{
		"unix:/run/a.sock": "unix:/run/a.sock", "127.0.0.1:9901": "127.0.0.1:9901", "localhost:0": "127.0.0.1:0", "[::1]:80": "[::1]:80",
	}
	for in, want := range good {
		if got, err := ParseAddress(in); err != nil || got.String() != want {
			t.Errorf("ParseAddress(%q) = %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "unix:", "unix:a.sock", ":9901", "0.0.0.0:9901", "10.0.0.1:9901", "[::]:1", "example.org:80", "127.0.0.1", "unix:/" + strings.Repeat("a", 107)} {
		if got, err := ParseAddress(in); err == nil {
			t.Errorf("ParseAddress(%q) = %s, want an error", in, got)
		}
	}
}

func TestSocketFile(t *testing.T) {
	dir := t.TempDir()
	a := Address{Socket: filepath.Join(dir, "admin.sock")}
	first, err := a.listen("")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(a.Socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v, want 0660", info.Mode(), err)
	}
	if _, err := a.listen(""); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a second listener: %v", err)
	}
	first.(*socketListener).UnixListener.Close() // as a kill -9 leaves it
	second, err := a.listen("")
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	second.Close()
	if err := os.WriteFile(a.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.listen(""); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a plain file: %v", err)
	}
	if err := os.Remove(a.Socket); err != nil {
		t.Fatal(err)
	}
	if _, err := a.listen("no-such-group"); err == nil {
		t.Error("an unknown group is accepted")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "token")
	token, made, err := ensureToken(path)
	if err != nil || !made || len(token) != 64 {
		t.Fatalf("%d bytes, made %v, %v", len(token), made, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if again, made, err := ensureToken(path); err != nil || made || again != token {
		t.Errorf("the second time: same %v, made %v, %v", again == token, made, err)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ensureToken(path); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short token: %v", err)
	}
}

// A client that sends its head byte by byte, or never ends it, holds up nobody.
func TestSlowClient(t *testing.T) {
	r := start(t, nil)
	conn, err := net.Dial("tcp", r.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /version HTTP/1.1\r\nHost: local")
	if code, _, _ := r.ask("GET", "/version"); code != http.StatusOK {
		t.Errorf("beside a slow client: %d", code)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && !strings.Contains(line, "408") {
		t.Errorf("the slow client got %q", line)
	}
}

// Whatever is asked for, a login leads to this listener, without the token.
func FuzzLogin(f *testing.F) {
	for _, target := range []string{"/health", "//evil.example/", "/\\evil.example", "/%5Cevil.example", "/%2F/evil", "/a?b=c", "/?token=x&token=y", "/%0d%0aSet-Cookie: a=b"} {
		f.Add(target)
	}
	s := &Server{token: "0123456789abcdef"}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		query := url.Values{"token": {s.token}, "x": {u.RawQuery}}
		w := httptest.NewRecorder()
		s.login(w, &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}, query)
		to := w.Header().Get("Location")
		parsed, err := url.Parse(to)
		if err != nil || parsed.Host != "" || parsed.Scheme != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") ||
			strings.ContainsAny(to, "\\\r\n") || parsed.Query().Has("token") {
			t.Errorf("%q leads to %q", target, to)
		}
	})
}

// A Host that is allowed is this machine, however it is written.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"", "localhost", "localhost.evil.example", "127.0.0.1:1", "127.0.0.1.evil.example", "[::1]", "[::1%25lo]:1", "::ffff:127.0.0.1", "0", "0.0.0.0", "2130706433", "127.1"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !hostAllowed(host) {
			return
		}
		name := strings.Trim(host, "[]")
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = strings.Trim(h, "[]")
		}
		if ip := net.ParseIP(strings.SplitN(name, "%", 2)[0]); !strings.EqualFold(name, "localhost") && (ip == nil || !ip.IsLoopback()) {
			t.Errorf("%q is allowed", host)
		}
	})
}
