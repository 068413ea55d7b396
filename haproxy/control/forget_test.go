package control

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox/haproxy"
	"signalbox/test/ports"
)

// What was changed over the runtime socket while a reload is under way stands in the new worker from its first request on: a host that has
// answered answers on. One host comes while the configuration is checked, another while HAProxy is about to load it.
func TestNoReloadForgetsWhatWasAppliedMeanwhile(t *testing.T) {
	r := newRig(t)
	r.supervise()
	one := task(t, "one")
	hosts := []string{"shop.local", "checked.local", "loading.local"}
	port := ports.Free(t)
	config := func(n int, prev *haproxy.Config, listen int) *haproxy.Config {
		s := service("shop", one)
		for _, h := range hosts[1:n] {
			route := s.Routes[0]
			route.Host = h
			s.Routes = append(s.Routes, route)
		}
		s.Listen = listen
		return haproxy.Build(table(s), r.opts, prev)
	}
	first := config(1, nil, 0)

	// Renders of the reload are followed by what comes meanwhile, and by time for it to be applied; that is no proof of anything.
	settings := r.real()
	var mu sync.Mutex
	var meanwhile []func()
	settings.Render = func(c *haproxy.Config) ([]File, error) {
		files, err := render(settings.Template, c)
		mu.Lock()
		defer mu.Unlock()
		if len(meanwhile) > 0 {
			meanwhile[0]()
			meanwhile = meanwhile[1:]
		}
		return files, err
	}
	settings.FileInterval = time.Hour // the file does not follow by itself
	app, _ := r.start(settings)
	r.apply(first)
	r.answers(hosts[0], "one")

	// Every host is asked all the time, and must answer once it has.
	var asking sync.WaitGroup
	stop := make(chan struct{})
	answered := make([]chan struct{}, len(hosts))
	for i, host := range hosts {
		answered[i] = make(chan struct{})
		asking.Go(func() {
			was := false
			for {
				select {
				case <-stop:
					return
				default:
				}
				code, body := r.get(host)
				switch {
				case code == http.StatusOK && !was:
					was = true
					close(answered[i])
				case code != http.StatusOK && was:
					t.Errorf("%s answered before, and now %d %s", host, code, body)
					return
				}
			}
		})
	}
	second := config(1, first, port) // a port needs a reload
	waits := func(i int, most time.Duration) {
		select {
		case <-answered[i]:
		case <-time.After(most):
		}
	}
	mu.Lock()
	third := config(2, second, port)
	fourth := config(3, third, port)
	meanwhile = []func(){
		func() { app.Update(third); waits(1, patience) },
		func() { app.Update(fourth); waits(2, 200*time.Millisecond) },
	}
	mu.Unlock()
	if out := r.apply(second); !out.Reloaded {
		t.Errorf("a service port: %+v", out)
	}
	for i := range hosts {
		waits(i, patience)
	}
	r.until("all is applied", func() bool { return app.Running() == fourth })
	time.Sleep(100 * time.Millisecond) // for the requests
	close(stop)
	asking.Wait()
	for i, host := range hosts {
		select {
		case <-answered[i]:
		default:
			t.Errorf("%s never answered", host)
		}
	}
	if len(meanwhile) > 0 {
		t.Error("the reload did not ask for what was wanted by then")
	}
}

// stuckDisk is a disk that does nothing about the last good files until it is let go.
type stuckDisk struct {
	disk
	stuck atomic.Bool
	wait  chan struct{}
}

func (d *stuckDisk) Mkdir(dir string, mode fs.FileMode) error {
	if d.stuck.Load() {
		<-d.wait
	}
	return d.disk.Mkdir(dir, mode)
}

// A new worker is told at once what has changed since it loaded its files, however long the disk takes to keep them.
func TestNewWorkerDoesNotWaitForTheDisk(t *testing.T) {
	r := newRig(t)
	r.supervise()
	one, two := task(t, "one"), task(t, "two")
	settings := r.real()
	settings.Publisher = NewPublisher(r.dir, -1)
	d := &stuckDisk{disk: settings.Publisher.disk, wait: make(chan struct{})}
	settings.Publisher.disk = d
	app, _ := r.start(settings)
	first := haproxy.Build(table(service("shop", one)), r.opts, nil)
	r.apply(first)
	r.until("the first files are kept", func() bool { return app.Status().FileGeneration > 0 && app.Status().FileBehind == 0 })

	d.stuck.Store(true)
	letGo := sync.OnceFunc(func() { close(d.wait) })
	defer letGo()
	s := service("shop", one)
	s.Listen = ports.Free(t)
	second := haproxy.Build(table(s), r.opts, first)
	if out := r.apply(second); !out.Reloaded {
		t.Errorf("a service port: %+v", out)
	}
	s = service("shop", two)
	s.Listen = second.Listeners[0].Port
	if out := r.apply(haproxy.Build(table(s), r.opts, second)); out.Reloaded {
		t.Errorf("a move: %+v", out)
	}
	r.answers("shop.local", "two")
	letGo()
	r.until("the file follows", func() bool { return app.Status().FileBehind == 0 })
}

// A connection that a client keeps stays with its worker after a reload, for one more request. What that worker has never heard of it does
// not deny: it ends the connection, and the client asks the new one.
func TestOldWorkerDeniesNothing(t *testing.T) {
	r := newRig(t)
	r.supervise()
	one := task(t, "one")
	app, _ := r.start(r.real())
	first := haproxy.Build(table(service("shop", one)), r.opts, nil)
	r.apply(first)
	r.answers("shop.local", "one")
	ask := func(c net.Conn, in *bufio.Reader, target string) (*http.Response, error) {
		t.Helper()
		host, path, _ := strings.Cut(target, "/")
		if _, err := fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		return resp, err
	}
	var kept [3]net.Conn
	var in [3]*bufio.Reader
	for i := range kept {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		kept[i], in[i] = c, bufio.NewReader(c)
		if resp, err := ask(c, in[i], "shop.local/"); err != nil || resp.StatusCode != http.StatusOK || resp.Close {
			t.Fatalf("%v %v", resp, err)
		}
	}
	s := service("shop", one)
	s.Listen = ports.Free(t)
	second := haproxy.Build(table(s), r.opts, first)
	if out := r.apply(second); !out.Reloaded {
		t.Fatalf("a service port: %+v", out)
	}
	api := s.Routes[0]
	api.Host, api.Path = "api.local", "/v1"
	late := api
	late.Host, late.Path = "late.local", "/"
	s = service("shop", one)
	s.Listen = second.Listeners[0].Port
	s.Routes = append(s.Routes, api, late)
	third := haproxy.Build(table(s), r.opts, second)
	if out := r.apply(third); out.Reloaded || app.Running() != third {
		t.Fatalf("new hosts: %+v", out)
	}
	r.answers("late.local", "one")

	if resp, err := ask(kept[0], in[0], "late.local/"); err == nil {
		t.Errorf("an old worker answers %s for a host that it does not know", resp.Status)
	}
	if resp, err := ask(kept[1], in[1], "api.local/v1"); err == nil {
		t.Errorf("an old worker answers %s for a path that it does not know", resp.Status)
	}
	if resp, err := ask(kept[2], in[2], "shop.local/"); err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("an old worker answers %v for a host that it knows: %v", resp, err)
	}
}
