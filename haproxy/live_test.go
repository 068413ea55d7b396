package haproxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

// live is a real HAProxy that runs a Config.
type live struct {
	t       *testing.T
	options *Options
	now     *Config
	entry   string

	mu  sync.Mutex
	log bytes.Buffer
}

// check asks the real HAProxy whether it would load the files; warnings count as errors.
func check(tb testing.TB, dir string) error {
	tb.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		tb.Fatal("this test needs HAProxy: apt-get install haproxy")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for try := 1; ; try++ {
		out, err := exec.CommandContext(ctx, "haproxy", "-dW", "-c", "-f", filepath.Join(dir, "haproxy.cfg")).CombinedOutput()
		switch {
		case err == nil:
			return nil
		// From 3.3 on HAProxy warns of passwords that take it 10 ms to verify, which on a busy machine any may do, and the slow ones that
		// labels may give always do.
		case try < 5 && bytes.Contains(out, []byte("milliseconds to verify")):
		case onlySlow(out):
			return nil
		default:
			return fmt.Errorf("haproxy -c: %w\n%s", err, out)
		}
	}
}

// onlySlow reports whether passwords that take long to verify are all that HAProxy complains of.
func onlySlow(out []byte) bool {
	slow := false
	for line := range bytes.Lines(out) {
		switch {
		case bytes.Contains(line, []byte("milliseconds to verify")):
			slow = true
		case bytes.Contains(line, []byte("[ALERT]")), bytes.Contains(line, []byte("[WARNING]")):
			return false
		}
	}
	return slow
}

// shortDir returns a directory whose sockets fit into the 108 bytes that a path may have.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/tmp", "sb") //nolint:usetesting // the name of the test would make the path too long
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start runs a HAProxy for a table until the test ends.
func start(t *testing.T, table *signalbox.Table) *live {
	t.Helper()
	return startWith(t, table, func(*Options) {})
}

// startWith is start with other options than the usual ones.
func startWith(t *testing.T, table *signalbox.Table, choose func(*Options)) *live {
	t.Helper()
	return startTemplate(t, DefaultTemplate(), table, choose)
}

// startTemplate is startWith with another template.
func startTemplate(t *testing.T, tmpl *Template, table *signalbox.Table, choose func(*Options)) *live {
	t.Helper()
	dir := shortDir(t)
	o := testOptions(dir)
	l := &live{t: t, options: o, entry: ports.Address(t)}
	o.HTTPBind = []string{l.entry}
	o.LogPulled = !sendsRings(t)
	o.LogFormat = `%{+Q}[var(txn.service)] %ST`
	o.LogFormatTCP = `tcp %{+Q}[var(txn.service)]`
	choose(o)
	l.now = Build(table, o, nil)
	f, err := Render(tmpl, l.now)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, f)
	if err := check(t, dir); err != nil {
		t.Fatalf("%v\n%s", err, f.Config)
	}
	l.listen()
	cmd := exec.Command("haproxy", "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", &said)
		}
	})
	for network, address := range map[string]string{"tcp": l.entry, "unix": o.StatsSocket} {
		eventually(t, "HAProxy answers at "+address, func() bool {
			c, err := net.Dial(network, address)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	return l
}

// listen takes the access log.
func (l *live) listen() {
	ln, err := net.Listen("unix", l.options.LogSocket)
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		stop := context.AfterFunc(l.t.Context(), func() { c.Close() })
		defer stop()
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			l.mu.Lock()
			l.log.Write(buf[:n])
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	l.t.Cleanup(func() {
		ln.Close()
		<-done
	})
}

// sendsRings reports whether this HAProxy sends a ring to a unix socket, as those before 3.3 do.
func sendsRings(tb testing.TB) bool {
	tb.Helper()
	out, err := exec.Command("haproxy", "-v").Output()
	var major, minor int
	if err == nil {
		_, err = fmt.Sscanf(string(out), "HAProxy version %d.%d", &major, &minor)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return major < 3 || major == 3 && minor < 3
}

func (l *live) logged(line string) bool {
	if l.options.LogPulled {
		return strings.Contains(l.command("show events access"), line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.log.String(), line)
}

// moves is how answers begin that say that a server has another address, or had it before.
var moves = regexp.MustCompile(`^(IP changed|port changed|no need to change|nothing changed)`)

// become leads the running HAProxy to a table over its socket, and fails if that needs a reload.
func (l *live) become(table *signalbox.Table) {
	l.t.Helper()
	want := Build(table, l.options, l.now.Rested(atRest(l.now)))
	plan := Diff(l.now, want)
	if len(plan.Reasons) > 0 {
		l.t.Fatalf("a reload is needed: %v", plan.Reasons)
	}
	for _, c := range plan.Whole(l.now, want) {
		answer := strings.TrimSpace(l.command(c.Text))
		moved := strings.Contains(c.Text, " addr ") && moves.MatchString(answer)
		made := strings.HasPrefix(c.Text, "add server ") && strings.HasSuffix(answer, "New server registered.")
		if answer != "" && !moved && !made {
			l.t.Fatalf("%s: %s", c.Text, answer)
		}
	}
	l.now = want
}

func (l *live) command(text string) string {
	l.t.Helper()
	c, err := net.Dial("unix", l.options.StatsSocket)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintln(c, text)
	out, err := io.ReadAll(c)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(out)
}

// raw sends bytes on a connection of their own and returns the status and the body of the answer.
func raw(t *testing.T, addr, request string) (status int, header http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}

func (l *live) get(host, path string) (int, string) {
	l.t.Helper()
	code, _, body := raw(l.t, l.entry, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n")
	return code, body
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// task is a real server that answers with its name, the path, and what it is told of the client.
func task(t *testing.T, name string) signalbox.Endpoint {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for=%s", name, r.URL.Path, strings.Join(r.Header["X-Forwarded-For"], ","))
	}))
	t.Cleanup(s.Close)
	return signalbox.Endpoint{Task: name, Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), State: signalbox.Up}
}

func service(app string, routes string, endpoints ...signalbox.Endpoint) *signalbox.Service {
	s := &signalbox.Service{ID: signalbox.NewServiceID(app, 0), App: app, Source: "test", Mode: signalbox.HTTP, Endpoints: endpoints}
	for r := range strings.FieldsSeq(routes) {
		i := strings.IndexByte(r, '/')
		s.Routes = append(s.Routes, signalbox.Route{Host: r[:i], Path: r[i:]})
	}
	return s
}

func tableOf(services ...*signalbox.Service) *signalbox.Table {
	return signalbox.NewTable(services, nil)
}

func TestHAProxyRoutes(t *testing.T) {
	port, tcp := ports.Free(t), ports.Free(t)
	listening := service("/port", "", task(t, "port"))
	listening.Listen = port
	bare := service("/tcp", "", task(t, "tcp"))
	bare.Mode, bare.Listen = signalbox.TCP, tcp
	l := start(t, tableOf(
		service("/shop", "shop.local/ [::1]/", task(t, "shop")),
		service("/cart", "shop.local/cart paths.local/cart", task(t, "cart")),
		service("/deep", "shop.local/cart/deep", task(t, "deep")),
		service("/wild", "*.wild.local/ *.paths.local/w", task(t, "wild")),
		service("/any", "/any", task(t, "any")),
		service("/empty", "empty.local/"),
		listening, bare,
	))
	for _, c := range []struct {
		host, path string
		code       int
		body       string
	}{
		{"shop.local", "/", 200, "shop / for=127.0.0.1"},
		{"SHOP.Local", "/x", 200, "shop /x"},
		{"shop.local:8000", "/x", 200, "shop /x"},
		{"shop.local.", "/x", 200, "shop /x"},
		{"shop.local.:80", "/x?y=/cart", 200, "shop /x"},
		{"[::1]:8000", "/", 200, "shop /"},
		{"[::1]", "/", 200, "shop /"},
		{"shop.local", "/cart", 200, "cart /cart"},
		{"shop.local", "/cart/", 200, "cart /cart/"},
		{"shop.local", "/cart?x", 200, "cart /cart"},
		{"shop.local", "/cartoon", 200, "shop /cartoon"},
		{"shop.local", "/cart/x/y", 200, "cart /cart/x/y"},
		{"shop.local", "/cart/deep", 200, "deep /cart/deep"},
		{"shop.local", "/cart/deeper", 200, "cart /cart/deeper"},
		{"shop.local", "/CART", 200, "shop /CART"},
		{"a.wild.local", "/", 200, "wild /"},
		{"a.wild.local", "/any%2fx", 200, "wild /any/x"},
		{"a.b.wild.local", "/", 404, `{"error":"no route for this host","host":"a.b.wild.local"}`},
		{"wild.local", "/", 404, "no route for this host"},
		{"paths.local", "/cart", 200, "cart /cart"},
		{"paths.local", "/w", 404, `{"error":"no route for this path","host":"paths.local"}`},
		{"paths.local", "/any", 404, "no route for this path"},
		{"x.paths.local", "/w", 200, "wild /w"},
		{"x.paths.local", "/any", 404, "no route for this path"},
		{"unknown.local", "/any/x", 200, "any /any/x"},
		{"unknown.local", "/", 404, "no route for this host"},
		{"unknown", "/", 404, `"host":"unknown"`},
		{`un"known\`, "/", 400, ""},
		{"empty.local", "/", 503, `{"error":"no healthy task","service":"\/empty:0"}`},
		{"shop.local/cart", "/x", 400, ""},
		{"shop.local,empty.local", "/", 400, ""},
	} {
		if code, body := l.get(c.host, c.path); code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s%s: %d %s, want %d %s", c.host, c.path, code, body, c.code, c.body)
		}
	}
	if _, h, _ := raw(t, l.entry, "GET / HTTP/1.1\r\nHost: empty.local\r\nConnection: close\r\n\r\n"); h.Get("Retry-After") == "" {
		t.Error("a service without tasks answers without Retry-After")
	}
	for name, p := range map[string]int{"port": port, "tcp": tcp} {
		code, _, body := raw(t, fmt.Sprintf("127.0.0.1:%d", p), "GET /p HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
		if code != 200 || !strings.HasPrefix(body, name+" /p") {
			t.Errorf("service port of %s: %d %s", name, code, body)
		}
	}
	_, _, _ = raw(t, l.entry, "GET /%00 HTTP/1.1\r\nHost: shop.local\r\nConnection: close\r\n\r\n")
	for _, line := range []string{`"/shop:0" 200`, `"/empty:0" 503`, `"" 404`, `"/shop:0" 400`, `"/port:0" 200`, `tcp "/tcp:0"`} {
		eventually(t, "the log says "+line, func() bool { return l.logged(line) })
	}
}

func TestHAProxyRefusesWhatCanBeReadTwoWays(t *testing.T) {
	l := start(t, tableOf(
		service("/shop", "shop.local/", task(t, "shop")),
		service("/root", "paths.local/", task(t, "root")), service("/cart", "paths.local/cart", task(t, "cart")),
	))
	for name, c := range map[string]struct {
		head string
		want int
	}{
		"fine":                    {"GET / HTTP/1.1\r\nHost: shop.local\r\n", 200},
		"encoded slash, one path": {"GET /a%2fb HTTP/1.1\r\nHost: shop.local\r\n", 200},
		"double slash, one path":  {"GET //a HTTP/1.1\r\nHost: shop.local\r\n", 200},
		"encoded slash":           {"GET /a%2Fb HTTP/1.1\r\nHost: paths.local\r\n", 400},
		"encoded backslash":       {"GET /a%5cb HTTP/1.1\r\nHost: paths.local\r\n", 400},
		"double slash":            {"GET //cart HTTP/1.1\r\nHost: paths.local\r\n", 400},
		"dots":                    {"GET /cart/../x HTTP/1.1\r\nHost: shop.local\r\n", 400},
		"dots at the end":         {"GET /cart/.. HTTP/1.1\r\nHost: shop.local\r\n", 400},
		"encoded dots":            {"GET /cart/%2e%2E/x HTTP/1.1\r\nHost: shop.local\r\n", 400},
		"dots in a name":          {"GET /cart/..x HTTP/1.1\r\nHost: shop.local\r\n", 200},
		"encoded nul":             {"GET /%00 HTTP/1.1\r\nHost: shop.local\r\n", 400},
		"fragment":                {"GET /x#y HTTP/1.1\r\nHost: shop.local\r\n", 400},
		"two lengths":             {"POST / HTTP/1.1\r\nHost: shop.local\r\nContent-Length: 0\r\nContent-Length: 5\r\n", 400},
		"empty length":            {"POST / HTTP/1.1\r\nHost: shop.local\r\nContent-Length:\r\n", 400},
		"length with a sign":      {"POST / HTTP/1.1\r\nHost: shop.local\r\nContent-Length: +0\r\n", 400},
		"two hosts":               {"GET / HTTP/1.1\r\nHost: shop.local\r\nHost: paths.local\r\n", 400},
		"host in two places":      {"GET http://shop.local/ HTTP/1.1\r\nHost: paths.local\r\n", 400},
		"space before colon":      {"GET / HTTP/1.1\r\nHost: shop.local\r\nContent-Length : 0\r\n", 400},
		"nul in a header":         {"GET / HTTP/1.1\r\nHost: shop.local\r\nX: a\x00b\r\n", 400},
		"folded header":           {"GET / HTTP/1.1\r\nHost: shop.local\r\nTransfer-Encoding:\r\n chunkedd\r\n", 400},
		"odd encoding":            {"POST / HTTP/1.1\r\nHost: shop.local\r\nTransfer-Encoding: xchunked\r\n", 400},
		"chunked twice":           {"POST / HTTP/1.1\r\nHost: shop.local\r\nTransfer-Encoding: chunked, chunked\r\n", 400},
	} {
		// The connection closes after the answer, or the client waits for what a smuggled request would answer.
		if code, _, body := raw(t, l.entry, c.head+"Connection: close\r\n\r\n"); code != c.want {
			t.Errorf("%s: %d %s, want %d", name, code, body, c.want)
		}
	}
}
