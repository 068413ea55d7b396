package marathon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"signalbox"
	"signalbox/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a network of Marathons in memory, so that tests of time run on the fake clock of a synctest bubble.
type world struct {
	t  *testing.T
	mu sync.Mutex
	at map[string]*stub // by host:port
}

// stub is one Marathon as the source sees it.
type stub struct {
	world *world
	host  string
	conns chan net.Conn
	gone  chan struct{}
	srv   *http.Server
	busy  sync.WaitGroup

	mu      sync.Mutex
	apps    map[string]string // JSON by id
	fault   func(w http.ResponseWriter, r *http.Request) bool
	leader  string // sent as X-Marathon-Leader
	streams []*subscriber
	hits    []hit
	down    bool
}

type hit struct {
	at   time.Time
	path string
	auth string
}

type subscriber struct {
	out  chan string
	done chan struct{}
	once sync.Once
}

func newWorld(t *testing.T, hosts ...string) *world {
	w := &world{t: t, at: map[string]*stub{}}
	for _, h := range hosts {
		s := &stub{world: w, host: h, conns: make(chan net.Conn), gone: make(chan struct{}), apps: map[string]string{}}
		s.srv = &http.Server{Handler: s}
		w.at[h] = s
		go s.srv.Serve(s)
		t.Cleanup(func() { s.srv.Close(); s.busy.Wait() })
	}
	return w
}

// Accept, Close and Addr make the stub a listener.
func (s *stub) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.gone:
		return nil, net.ErrClosed
	}
}

func (s *stub) Close() error {
	select {
	case <-s.gone:
	default:
		close(s.gone)
	}
	return nil
}

func (s *stub) Addr() net.Addr { return &net.TCPAddr{} }

func (w *world) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	s := w.at[addr]
	w.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("lookup %s: no such host", addr)
	}
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case s.conns <- far:
		return near, nil
	case <-s.gone:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.busy.Add(1)
	defer s.busy.Done()
	s.mu.Lock()
	s.hits = append(s.hits, hit{time.Now(), r.URL.Path, r.Header.Get("Authorization")})
	fault, leader := s.fault, s.leader
	s.mu.Unlock()
	if leader != "" {
		w.Header().Set("X-Marathon-Leader", leader)
	}
	if fault != nil && fault(w, r) {
		return
	}
	switch {
	case r.URL.Path == "/v2/events":
		s.serveEvents(w, r)
	case r.URL.Path == "/v2/apps":
		s.mu.Lock()
		all := make([]string, 0, len(s.apps))
		for _, a := range s.apps {
			all = append(all, a)
		}
		s.mu.Unlock()
		reply(w, 200, `{"apps":[`+strings.Join(all, ",")+`]}`)
	case strings.HasPrefix(r.URL.Path, "/v2/apps/"):
		id := strings.TrimPrefix(r.URL.Path, "/v2/apps")
		s.mu.Lock()
		a, ok := s.apps[id]
		s.mu.Unlock()
		if !ok {
			reply(w, 404, fmt.Sprintf(`{"message":"App '%s' does not exist"}`, id))
			return
		}
		reply(w, 200, `{"app":`+a+`}`)
	case r.URL.Path == "/v2/pods/::status":
		reply(w, 200, `[]`)
	default:
		reply(w, 404, `{"message":"it does not exist"}`)
	}
}

func reply(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	io.WriteString(w, body)
}

func (s *stub) serveEvents(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept") != "text/event-stream" {
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	sub := &subscriber{out: make(chan string, 1<<14), done: make(chan struct{})}
	w.Header().Set("Content-Type", "text/event-stream;charset=utf-8")
	w.WriteHeader(http.StatusOK)
	s.mu.Lock()
	s.streams = append(s.streams, sub)
	s.mu.Unlock()
	flush := http.NewResponseController(w)
	flush.Flush()
	for {
		select {
		case text := <-sub.out:
			io.WriteString(w, text)
			flush.Flush()
		case <-sub.done:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

// raw sends bytes to every stream.
func (s *stub) raw(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.streams {
		select {
		case sub.out <- text:
		default:
		}
	}
}

// event sends one event, framed as Marathon does.
func (s *stub) event(typ, format string, args ...any) {
	body := fmt.Sprintf(format, args...)
	s.raw(fmt.Sprintf("event: %s\r\ndata: {\"eventType\":%q,%s}\r\n\r\n", typ, typ, body))
}

func (s *stub) status(app, task, status string) {
	s.event("status_update_event", `"appId":%q,"taskId":%q,"taskStatus":%q`, app, task, status)
}

// drop ends every stream.
func (s *stub) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.streams {
		sub.once.Do(func() { close(sub.done) })
	}
	s.streams = nil
}

func (s *stub) setFault(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// put sets an app with running tasks "<name>.<n>".
func (s *stub) put(id string, tasks ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[id] = appJSON(id, nil, tasks...)
}

func (s *stub) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.apps, id)
}

// appJSON is an app with a hostname and running tasks. Healthy, if not nil, adds a health check, and that verdict unless it is "".
func appJSON(id string, healthy *string, tasks ...int) string {
	type m = map[string]any
	var list []any
	for _, n := range tasks {
		t := m{
			"id": task(id, n), "appId": id, "host": "10.0.0.1", "ports": []int{31000 + n}, "state": "TASK_RUNNING",
			"startedAt": "2021-06-01T10:00:01.000Z", "version": "2021-06-01T09:58:00.000Z",
		}
		if healthy != nil && *healthy != "" {
			t["healthCheckResults"] = []any{m{"alive": *healthy == "true", "consecutiveFailures": 3, "firstSuccess": "2021-06-01T10:00:09.120Z"}}
		}
		list = append(list, t)
	}
	a := m{
		"id": id, "version": "2021-06-01T09:58:00.000Z", "instances": len(tasks), "networks": []any{m{"mode": "host"}},
		"portDefinitions": []any{m{"port": 10001, "protocol": "tcp", "name": "http"}}, "tasks": list,
		"labels": m{"signalbox.host": strings.ReplaceAll(id[1:], "/", "-") + ".local"},
	}
	if healthy != nil {
		a["healthChecks"] = []any{m{"protocol": "HTTP", "path": "/", "portIndex": 0}}
	}
	b, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func task(app string, n int) string {
	return fmt.Sprintf("%s.instance-%d", strings.ReplaceAll(app[1:], "/", "_"), n)
}

// count returns how many requests matched a path, exactly or by prefix if it ends in "*".
func (s *stub) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, h := range s.hits {
		if prefix, ok := strings.CutSuffix(path, "*"); h.path == path || ok && strings.HasPrefix(h.path, prefix) {
			n++
		}
	}
	return n
}

func (s *stub) leaked(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.hits, func(h hit) bool { return strings.Contains(h.auth, secret) })
}

// follower runs a source, and keeps what it sends.
type follower struct {
	t      *testing.T
	source *Source
	again  chan struct{}
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	updates []discovery.Update
	state   []*signalbox.Service
	said    discovery.Health
}

// follow starts a source over the world's first host, or the ones of cfg.
func (w *world) follow(cfg Config) *follower {
	w.t.Helper()
	if cfg.URLs == nil && cfg.Directory == nil {
		for h := range w.at {
			cfg.URLs = append(cfg.URLs, "http://"+h)
		}
		slices.Sort(cfg.URLs)
	}
	cfg.dial = w.dial
	if testing.Verbose() {
		log := logrus.New()
		log.SetOutput(w.t.Output())
		cfg.Log = log
	}
	src, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(src)
}

func (w *world) run(src *Source) *follower {
	ctx, cancel := context.WithCancel(w.t.Context())
	f := &follower{t: w.t, source: src, again: make(chan struct{}, 1), cancel: cancel, done: make(chan error, 1)}
	out := make(chan discovery.Update)
	go func() { f.done <- src.Run(ctx, out, f.again) }()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case u := <-out:
				f.mu.Lock()
				f.said = u.Health
				if u.State != nil {
					f.updates, f.state = append(f.updates, u), u.State
				}
				f.mu.Unlock()
			}
		}
	}()
	return f
}

func (f *follower) stop() {
	f.cancel()
	if err := <-f.done; err != nil {
		f.t.Errorf("Run: %v", err)
	}
}

// text is the newest state: a line for each endpoint, app, task and state.
func (f *follower) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, s := range f.state {
		fmt.Fprintf(&b, "%s:", s.App)
		for _, e := range s.Endpoints {
			_, n, _ := strings.Cut(e.Task, ".instance-")
			fmt.Fprintf(&b, " %s=%s", n, e.State)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (f *follower) last() discovery.Update {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.updates) == 0 {
		return discovery.Update{}
	}
	return f.updates[len(f.updates)-1]
}

func (f *follower) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.updates)
}

// expect waits for a state on the fake clock, and returns how long that took.
func (f *follower) expect(want string, within time.Duration) time.Duration {
	f.t.Helper()
	began := time.Now()
	want = strings.TrimLeft(strings.ReplaceAll(want, "; ", "\n"), "\n")
	if want != "" && !strings.HasSuffix(want, "\n") {
		want += "\n"
	}
	for {
		synctest.Wait()
		if f.text() == want {
			return time.Since(began)
		}
		if time.Since(began) >= within {
			f.t.Fatalf("after %s the state is\n%swant\n%s(health: %+v)", within, f.text(), want, f.health())
		}
		time.Sleep(time.Millisecond)
	}
}

// always checks that a state stays for a while on the fake clock.
func (f *follower) always(want string, for_ time.Duration) {
	f.t.Helper()
	for end := time.Now().Add(for_); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		f.expect(want, 0)
	}
}

func (f *follower) err() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.Err
}

func (f *follower) health() discovery.Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said
}
