package haproxy

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// add allows servers to be added while HAProxy runs.
func addServers(o *Options) { o.AddServers, o.MinSlots = true, 2 }

func TestBackendsGrowWhereServersCanBeAdded(t *testing.T) {
	o := testOptions("/d")
	addServers(o)
	grown := func(change func(*signalbox.Service), choose func(*Options)) Plan {
		p := *o
		choose(&p)
		one := service("/shop", "shop.local/", tasks(1)...)
		change(one)
		was := Build(tableOf(one), &p, nil)
		three := *one
		three.Endpoints = tasks(3)
		want := Build(tableOf(&three), &p, was)
		plan := Diff(was, want)
		if got := Applied(was, want); len(plan.Reasons) == 0 && got != want {
			t.Errorf("with no reason to reload %v is applied, not what was wanted", got)
		}
		return plan
	}
	plan := grown(func(s *signalbox.Service) { s.Check.Interval = time.Second }, func(*Options) {})
	var got []string
	for _, c := range plan.Commands {
		got = append(got, c.Text)
	}
	b := backendName(service("/shop", ""))
	words := "check inter 2s fastinter 1s downinter 2000ms fall 3 rise 2 observe layer4 error-limit 1 on-error fastinter weight 100 pool-max-conn -1 pool-purge-delay 5s disabled inter 1000ms"
	want := []string{
		"add server " + b + "/s3 127.0.0.1:1 id 3 " + words, "enable health " + b + "/s3",
		"add server " + b + "/s4 127.0.0.1:1 id 4 " + words + " inter 2000ms rise 1", "enable health " + b + "/s4",
		"set server " + b + "/s2 addr 10.0.0.1 port 31001", "set server " + b + "/s2 state ready",
		"set server " + b + "/s3 addr 10.0.0.1 port 31002", "set server " + b + "/s3 state ready",
	}
	if d := cmp.Diff(want, got); d != "" || len(plan.Reasons) > 0 {
		t.Errorf("reasons %v, commands (-want +got):\n%s", plan.Reasons, d)
	}
	none := func(*signalbox.Service) {}
	for name, c := range map[string]struct {
		change func(*signalbox.Service)
		choose func(*Options)
	}{
		"a version that adds none": {none, func(o *Options) { o.AddServers = false }},
		"rules that name servers":  {none, func(o *Options) { o.Prefer = PreferLocal }},
		"lines of the operator's":  {func(s *signalbox.Service) { s.Policy.Raw = []string{"default-server backup"} }, func(*Options) {}},
		"HTTP/2":                   {func(s *signalbox.Service) { s.Policy.HTTP2 = true }, func(*Options) {}},
	} {
		plan := grown(c.change, c.choose)
		if !slices.Equal(plan.Reasons, []Reason{SlotsExhausted}) {
			t.Errorf("%s: reasons %v", name, plan.Reasons)
		}
		for _, c := range plan.Commands {
			if strings.HasPrefix(c.Text, "add server") {
				t.Errorf("%s: %s", name, c.Text)
			}
		}
	}
	plan = grown(none, func(o *Options) { o.Prefer = PreferLocal; o.MinSlots = 64 })
	if len(plan.Reasons) > 0 {
		t.Errorf("behind the last server that a rule names: %v", plan.Reasons)
	}
}

// counted is a real task that counts its connections, the paths that it was asked for, and the names that it was asked by in TLS.
type counted struct {
	endpoint signalbox.Endpoint
	server   *httptest.Server
	mu       sync.Mutex
	seen     map[string]int
}

func (c *counted) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[what]++
}

func (c *counted) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[what]
}

func countedTask(t *testing.T, name string, tls bool) *counted {
	t.Helper()
	c := &counted{seen: map[string]int{}}
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.note(r.URL.Path)
		if r.TLS != nil {
			c.note("name " + r.TLS.ServerName)
		}
		fmt.Fprintf(w, "%s %s", name, r.URL.Path)
	}))
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.server.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			c.note("connections")
		}
	}
	if tls {
		c.server.StartTLS()
	} else {
		c.server.Start()
	}
	t.Cleanup(c.server.Close)
	c.endpoint = signalbox.Endpoint{Task: name, Addr: netip.MustParseAddrPort(c.server.Listener.Addr().String()), State: signalbox.Up}
	return c
}

// kind is a way in which the servers of a backend can be.
type kind struct {
	mode   signalbox.Mode
	check  signalbox.Check
	policy signalbox.Policy
}

// twins are services that are there twice: NAME-grown began with two servers, NAME-rendered with all of them.
func twins(kinds map[string]kind, grown, rendered int, tasksOf func(name string) []signalbox.Endpoint) *signalbox.Table {
	var all []*signalbox.Service
	for kind, k := range kinds {
		for side, n := range map[string]int{"-grown": grown, "-rendered": rendered} {
			name := kind + side
			s := service("/"+name, name+".local/", tasks(n)...)
			for i := range s.Endpoints {
				s.Endpoints[i].State = signalbox.Down
			}
			s.Mode, s.Check, s.Policy = k.mode, k.check, k.policy
			s.Endpoints = append(s.Endpoints, tasksOf(name)...)
			all = append(all, s)
		}
	}
	return tableOf(all...)
}

// states returns what HAProxy says of the servers whose backend's name has a word, less what the past decides.
func (l *live) states(word string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(l.command("show servers state")) {
		f := strings.Fields(line)
		if len(f) < 20 || !strings.Contains(f[1], word) {
			continue
		}
		name := strings.Split(f[1], word)[0] + " " + f[3]
		for _, i := range []int{0, 1, 9, 16} { // the backend's number and name, the time of the last change, whether the number was given
			f[i] = "-"
		}
		if f[6] == "5" { // in maintenance; 4 remembers that the file said so
			f[6] = "1"
		}
		out[name] = strings.Join(f, " ")
	}
	return out
}

// oneByOne sends requests over one connection.
func (l *live) oneByOne(host string, requests int) {
	l.t.Helper()
	c, err := net.Dial("tcp", l.entry)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	answers := bufio.NewReader(c)
	for range requests {
		fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			l.t.Fatalf("%s: %d %v", host, res.StatusCode, err)
		}
		res.Body.Close()
	}
}

// A server that was added is what the file would have made of it: to HAProxy's own eyes, to clients with a cookie, to checks, and to
// the task behind it.
func TestAServerThatIsAddedIsATwinOfARenderedOne(t *testing.T) {
	t.Parallel()
	check := signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", Interval: time.Second, Fall: 1}
	off := signalbox.Check{Kind: signalbox.CheckOff}
	kinds := map[string]kind{
		"plain":     {signalbox.HTTP, check, signalbox.Policy{}},
		"unchecked": {signalbox.HTTP, off, signalbox.Policy{}},
		"sticky":    {signalbox.HTTP, check, signalbox.Policy{Sticky: "TASK", Balance: "leastconn"}},
		"limited":   {signalbox.HTTP, check, signalbox.Policy{MaxConn: 3, SlowStart: time.Second, Balance: "random"}},
		"first":     {signalbox.HTTP, check, signalbox.Policy{Balance: "first"}},
		"tls":       {signalbox.HTTP, check, signalbox.Policy{BackendTLS: signalbox.BackendUnverified}},
		"tls-bare":  {signalbox.HTTP, off, signalbox.Policy{BackendTLS: signalbox.BackendUnverified}},
		"verified":  {signalbox.HTTP, check, signalbox.Policy{BackendTLS: signalbox.BackendVerified}},
		"proxied":   {signalbox.HTTP, check, signalbox.Policy{SendProxy: true}},
		"probed":    {signalbox.HTTP, signalbox.Check{Kind: signalbox.CheckTCP, TLS: true}, signalbox.Policy{}},
		"tcp":       {signalbox.TCP, signalbox.Check{}, signalbox.Policy{MaxConn: 2, BackendTLS: signalbox.BackendUnverified}},
	}
	none := func(string) []signalbox.Endpoint { return nil }
	l := startWith(t, twins(kinds, 1, 9, none), func(o *Options) {
		addServers(o)
		o.Threads = 1 // which finds every connection that is kept
	})
	l.become(twins(kinds, 9, 9, none))
	if d := cmp.Diff(l.states("-rendered"), l.states("-grown")); d != "" || len(l.states("-grown")) < 16*len(kinds) {
		t.Fatalf("show servers state of %d servers (-rendered +grown):\n%s", len(l.states("-grown")), d)
	}
	serving := map[string]*counted{}
	for name, k := range kinds {
		for _, side := range []string{"-grown", "-rendered"} {
			serving[name+side] = countedTask(t, name+side, k.policy.BackendTLS != "")
		}
	}
	l.become(twins(kinds, 9, 9, func(name string) []signalbox.Endpoint { return []signalbox.Endpoint{serving[name].endpoint} }))
	const requests = 6
	for name, k := range kinds {
		for _, side := range []string{"-grown", "-rendered"} {
			name, task := name+side, serving[name+side]
			if k.check.Kind == signalbox.CheckHTTP && k.policy.BackendTLS != signalbox.BackendVerified && !k.policy.SendProxy {
				eventually(t, "HAProxy checks "+name, func() bool { return task.count("/health") > 0 })
			}
			if k.mode == signalbox.TCP || k.policy.BackendTLS == signalbox.BackendVerified || k.policy.SendProxy || k.check.TLS {
				continue
			}
			cookie := ""
			for range requests {
				code, header, body := l.ask("GET", name+".local", "/x", "Cookie: "+cookie)
				if code != 200 || !strings.HasPrefix(body, name) {
					t.Fatalf("%s: %d %s", name, code, body)
				}
				if set := header.Get("Set-Cookie"); k.policy.Sticky != "" && cookie == "" {
					if cookie, _, _ = strings.Cut(set, ";"); !strings.HasPrefix(cookie, "TASK=") || len(cookie) < 10 {
						t.Errorf("%s: the cookie %q", name, set)
					}
				} else if set != "" {
					t.Errorf("%s: another cookie %q for %q", name, set, cookie)
				}
			}
			if k.check.Kind == signalbox.CheckOff {
				before := task.count("connections")
				l.oneByOne(name+".local", requests)
				if n := task.count("connections") - before; n != 1 {
					t.Errorf("%s: %d connections to the task for %d requests of one client", name, n, requests)
				}
			}
			if k.policy.BackendTLS != "" && task.count("name "+name+".local") < requests {
				t.Errorf("%s: the task is asked by the names %v", name, task.seen)
			}
		}
	}
	for name, k := range kinds {
		serving[name+"-grown"].server.Close()
		serving[name+"-rendered"].server.Close()
		if k.check.Kind == signalbox.CheckHTTP && name != "limited" && name != "verified" {
			for _, side := range []string{"-grown", "-rendered"} {
				eventually(t, "HAProxy finds that the task of "+name+side+" is dead", func() bool {
					code, body := l.get(name+side+".local", "/x")
					return code == 503 && strings.Contains(body, "no healthy task")
				})
			}
		}
	}
}

// Where a hash chooses, a server that was added gets what the file would have led to it.
func TestAServerThatIsAddedHasItsShareOfAHash(t *testing.T) {
	t.Parallel()
	off := signalbox.Check{Kind: signalbox.CheckOff}
	kinds := map[string]kind{"uri": {signalbox.HTTP, off, signalbox.Policy{Balance: "uri"}}, "source": {signalbox.HTTP, off, signalbox.Policy{Balance: "source"}}}
	var all []signalbox.Endpoint
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, task(t, name))
	}
	l := startWith(t, twins(kinds, 0, 4, func(string) []signalbox.Endpoint { return all[:1] }), addServers)
	for _, some := range [][]signalbox.Endpoint{all[:1], all} {
		l.become(twins(kinds, 0, 0, func(string) []signalbox.Endpoint { return some }))
	}
	chosen := map[string]bool{}
	for i := range 40 {
		path := fmt.Sprintf("/p%d", i)
		for name := range kinds {
			_, grown := l.get(name+"-grown.local", path)
			_, rendered := l.get(name+"-rendered.local", path)
			if grown != rendered {
				t.Errorf("%s%s: %s, rendered %s", name, path, grown, rendered)
			}
			if name == "uri" {
				chosen[grown[:1]] = true
			}
		}
	}
	if len(chosen) != len(all) {
		t.Errorf("of %d tasks only %v are chosen", len(all), chosen)
	}
}
