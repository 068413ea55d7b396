package haproxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox"
)

// witness is a task that notes what it is asked for.
type witness struct {
	mu    sync.Mutex
	paths map[string]int
}

func (r *witness) task(t *testing.T, name string) signalbox.Endpoint {
	r.paths = make(map[string]int)
	e := serve(t, func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.paths[q.URL.RequestURI()]++
		r.mu.Unlock()
		if q.URL.Path == "/slow" {
			select {
			case <-q.Context().Done():
			case <-time.After(1500 * time.Millisecond):
			}
		}
		fmt.Fprint(w, name)
	}, func(*httptest.Server) {})
	e.Task = name
	return e
}

func (r *witness) asked(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paths[path]
}

// forget forgets what was asked for.
func (r *witness) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.paths)
}

// A new app answers without a reload, is probed by its own path, bounded by its own time and logged by its own name; one that goes
// leaves nothing to the next that has its backend.
func TestHAProxyGivesSparesToNewApps(t *testing.T) {
	t.Parallel()
	var one, two witness
	l := startWith(t, tableOf(service("/old", "old.local/", task(t, "old"))), func(o *Options) { o.SpareSlots = 256 })
	old := service("/old", "old.local/", l.nowEndpoints("/old")...)
	probed := func(s *signalbox.Service, path string) *signalbox.Service {
		s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: path, Interval: time.Second}
		return s
	}
	first := probed(service("/first", "first.local/ first.local/api", one.task(t, "one")), "/health/first?full=1")
	first.Policy.Timeout = 300 * time.Millisecond
	if code, _ := l.get("first.local", "/"); code != 404 {
		t.Fatalf("before it is there: %d", code)
	}
	l.become(tableOf(old, first))
	name := backendOf(t, l.now, "/first")
	if code, body := l.get("first.local", "/api/x"); code != 200 || body != "one" || !isSpare(name) {
		t.Errorf("from %s: %d %q", name, code, body)
	}
	eventually(t, "the log has the new app's own name", func() bool { return l.logged(`"/first:0" 200`) })
	eventually(t, "the check asks for the app's own path", func() bool { return one.asked("/health/first?full=1") > 1 })
	if code, body := l.get("first.local", "/slow"); code != 504 {
		t.Errorf("an answer that takes too long: %d %s", code, body)
	}

	// It goes. Its host is none any more, and its backend rests.
	l.become(tableOf(old))
	if code, body := l.get("first.local", "/"); code != 404 || !strings.Contains(body, "no route for this host") {
		t.Errorf("after it has gone: %d %s", code, body)
	}
	one.forget()

	// The next one has its backend, and nothing of it: not the address, not the bound of time, not the path, not the redirect.
	second := probed(service("/second", "second.local/", two.task(t, "two")), "/")
	l.become(tableOf(old, second))
	if again := backendOf(t, l.now, "/second"); again != name {
		t.Fatalf("the next app has %s, want %s", again, name)
	}
	for range 20 {
		if code, body := l.get("second.local", "/"); code != 200 || body != "two" {
			t.Fatalf("%d %q", code, body)
		}
	}
	eventually(t, "the next one's check asks for /", func() bool { return two.asked("/") > 21 })
	if two.asked("/health/first?full=1") > 0 || one.asked("/") > 0 {
		t.Errorf("asked the new one for %v, the old one for %v", two.paths, one.paths)
	}
	eventually(t, "the log has the next app's name", func() bool { return l.logged(`"/second:0" 200`) })
	if code, body := l.get("second.local", "/slow"); code != 200 || body != "two" {
		t.Errorf("the bound of time of the earlier app holds: %d %s", code, body)
	}
	for _, m := range l.now.Settings.maps() {
		if said := l.command("show map " + l.options.MapPath(m.Name)); strings.Contains(said, "first") {
			t.Errorf("%s still has the earlier app: %s", m.Name, said)
		}
	}

	// What runs is what the files say.
	f, err := Render(DefaultTemplate(), l.now)
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	moved := make([]File, 0, len(f.Maps))
	for _, m := range f.Maps {
		moved = append(moved, File{m.Name, m.Data})
	}
	write(t, dir, &Files{moved, []byte(strings.ReplaceAll(string(f.Config), filepath.Clean(l.options.Dir)+"/", dir+"/"))})
	if err := check(t, dir); err != nil {
		t.Errorf("the files: %v", err)
	}
	if !strings.Contains(string(f.Config), "# app /second\nbackend "+name+" from http-service\n") {
		t.Error("the file does not say whose the spare backend is")
	}
}

// Cookies lead clients to their tasks though the service moves, and https is asked for by those that want it.
func TestHAProxyKeepsCookiesThroughAMove(t *testing.T) {
	t.Parallel()
	var tasks []signalbox.Endpoint
	for i := range 3 {
		tasks = append(tasks, task(t, fmt.Sprintf("t%d", i)))
	}
	sticky := func(s *signalbox.Service) *signalbox.Service {
		s.Policy.Sticky = "STICK"
		return s
	}
	shop := sticky(service("/shop", "shop.local/", tasks...))
	redirected := service("/redirected", "redirected.local/", tasks[0])
	l := startWith(t, tableOf(shop, redirected), func(o *Options) { o.SpareSlots = 1024 })
	_, header, _ := l.ask("GET", "shop.local", "/")
	cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	_, _, want := l.ask("GET", "shop.local", "/", "Cookie: "+cookie)

	more := sticky(service("/shop", "shop.local/", slices.Concat(tasks, crowd(t, 20))...))
	to := *redirected
	to.Policy.HTTPSRedirect = true
	l.become(tableOf(more, &to))
	if name := backendOf(t, l.now, "/shop"); !isSpare(name) {
		t.Fatalf("it did not move: %s", name)
	}
	for range 20 {
		if _, _, got := l.ask("GET", "shop.local", "/", "Cookie: "+cookie); got != want {
			t.Fatalf("the cookie leads to %q, want %q", got, want)
		}
	}
	if code, header, _ := l.ask("GET", "redirected.local", "/x"); code != 301 || !strings.HasPrefix(header.Get("Location"), "https://redirected.local") {
		t.Errorf("%d %s", code, header.Get("Location"))
	}
	l.become(tableOf(more, redirected))
	if code, _ := l.get("redirected.local", "/x"); code != 200 {
		t.Errorf("the redirect stays: %d", code)
	}
}

// A new TCP service on a port of the range has a spare backend: who connects hears its task, the log has its name, and what is left of
// it when the next one has the backend is nothing.
func TestHAProxyGivesSparesToNewPorts(t *testing.T) {
	r := freeRange(t, 2)
	l := startWith(t, tableOf(service("/old", "old.local/", task(t, "old"))), func(o *Options) {
		o.ServicePorts, o.ServiceBind, o.SpareSlots = r, "127.0.0.1", 1024
	})
	old := service("/old", "old.local/", l.nowEndpoints("/old")...)
	queue := func(app string, port int, endpoints ...signalbox.Endpoint) *signalbox.Service {
		s := at(service(app, "", endpoints...), port)
		s.Mode, s.Check = signalbox.TCP, signalbox.Check{Kind: signalbox.CheckTCP}
		return s
	}
	one, two := greeter(t, "one"), greeter(t, "two")
	l.become(tableOf(old, queue("/first", r.First, one)))
	name := backendOf(t, l.now, "/first")
	if got := greeting(t, r.First, "hello"); got != "one heard hello" || !isSpare(name) {
		t.Errorf("from %s: %q", name, got)
	}
	if !closed(t, r.Last) {
		t.Error("a port of nobody's answers")
	}
	eventually(t, "the log has the new service's own name", func() bool { return l.logged(`tcp "/first:0"`) })

	l.become(tableOf(old))
	if !closed(t, r.First) {
		t.Error("the port answers after its service has gone")
	}
	l.become(tableOf(old, queue("/second", r.Last, two)))
	if again := backendOf(t, l.now, "/second"); again != name {
		t.Fatalf("the next one has %s, want %s", again, name)
	}
	if got := greeting(t, r.Last, "hello"); got != "two heard hello" || !closed(t, r.First) {
		t.Errorf("the next one says %q", got)
	}
	eventually(t, "the log has the next one's name", func() bool { return l.logged(`tcp "/second:0"`) })
}

// greeter is a task that speaks no HTTP: it answers each line.
func greeter(t *testing.T, name string) signalbox.Endpoint {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					fmt.Fprintf(c, "%s heard %s\n", name, lines.Text())
				}
			}()
		}
	}()
	return signalbox.Endpoint{Task: name, Addr: netip.MustParseAddrPort(ln.Addr().String()), State: signalbox.Up}
}

// greeting says something to a port and returns the line that comes back.
func greeting(t *testing.T, port int, say string) string {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintln(c, say)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Errorf("port %d: %v", port, err)
	}
	return strings.TrimSpace(line)
}

// crowd returns tasks that nobody asks.
func crowd(t *testing.T, n int) (out []signalbox.Endpoint) {
	e := task(t, "more")
	for i := range n {
		e.Task = fmt.Sprintf("more.%02d", i)
		e.State = signalbox.Down
		out = append(out, e)
	}
	return out
}

// nowEndpoints returns the tasks of an app as they were given.
func (l *live) nowEndpoints(app string) []signalbox.Endpoint {
	for _, s := range l.now.made.services {
		if s.App == app {
			return s.Endpoints
		}
	}
	return nil
}
