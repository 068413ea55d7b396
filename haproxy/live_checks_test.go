package haproxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox"
)

// probedTask is a task that counts how often it is probed, and with what it answers.
type probedTask struct {
	signalbox.Endpoint
	probes, failing atomic.Int32
	server          *httptest.Server
}

func newProbed(t *testing.T, name string) *probedTask {
	p := &probedTask{}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			p.probes.Add(1)
			if p.failing.Load() != 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		fmt.Fprint(w, name)
	}))
	t.Cleanup(p.server.Close)
	p.Endpoint = signalbox.Endpoint{Task: name, Host: name, Addr: netip.MustParseAddrPort(p.server.Listener.Addr().String()), State: signalbox.Up}
	return p
}

// inFleet makes HAProxy that of one machine of 500, called "here".
func inFleet(o *Options) { o.Node, o.FleetSize = []string{"here"}, 500 }

// probedService is a service whose tasks are probed at /health, every interval if that is not 0.
func probedService(interval time.Duration, endpoints ...signalbox.Endpoint) *signalbox.Service {
	s := service("/shop", "shop.local/", endpoints...)
	s.Check = signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", Interval: interval}
	return s
}

// A task on this machine is checked at the app's own interval, one elsewhere but seldom.
func TestTasksElsewhereAreCheckedSeldom(t *testing.T) {
	t.Parallel()
	near, far := newProbed(t, "here"), newProbed(t, "elsewhere")
	l := startWith(t, tableOf(probedService(time.Second, near.Endpoint, far.Endpoint)), inFleet)
	eventually(t, "the task on this machine is checked at its interval", func() bool { return near.probes.Load() >= 10 })
	// Having just started, HAProxy asks each once.
	if n := far.probes.Load(); n > 1 {
		t.Errorf("the task elsewhere was checked %d times meanwhile, want once at most", n)
	}
	if state := l.serverState("shop:0", far.Addr); !strings.HasPrefix(state, "2 0 ") {
		t.Errorf("the task elsewhere is in the state %q, want it up", state)
	}
}

// A newcomer of unknown health gets HAProxy's verdict soon, however long the app's own interval is, and whether or not it is on this
// machine; the orchestrator's verdict leads it to a slot of its own pace, and no request notices.
func TestNewcomersAreCheckedSoon(t *testing.T) {
	t.Parallel()
	first, second := newProbed(t, "elsewhere"), newProbed(t, "here")
	for _, p := range []*probedTask{first, second} {
		p.State = signalbox.Unknown
		p.failing.Store(1)
	}
	l := startWith(t, tableOf(probedService(10*time.Minute)), inFleet)
	l.become(tableOf(probedService(10*time.Minute, first.Endpoint, second.Endpoint)))
	came := time.Now()
	eventually(t, "both are checked", func() bool { return first.probes.Load() > 0 && second.probes.Load() > 0 })
	t.Logf("the first checks came within %s", time.Since(came))
	if code, body := l.get("shop.local", "/"); code != 503 {
		t.Errorf("with two newcomers that fail their checks: %d %s", code, body)
	}
	first.failing.Store(0)
	passes := time.Now()
	eventually(t, "the one that passes takes requests", func() bool {
		code, body := l.get("shop.local", "/")
		if code == 200 && body != "elsewhere" {
			t.Fatalf("%d %s", code, body)
		}
		return code == 200
	})
	t.Logf("it took requests %s after it was healthy", time.Since(passes))

	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if code, body := l.get("shop.local", "/"); code != 200 || body != "elsewhere" {
				t.Errorf("while it goes to its slot: %d %s", code, body)
			}
		}
	})
	was := l.slotOf("shop:0", "elsewhere")
	first.State = signalbox.Up
	l.become(tableOf(probedService(10*time.Minute, first.Endpoint, second.Endpoint)))
	close(stop)
	wg.Wait()
	if is := l.slotOf("shop:0", "elsewhere"); was.Pace != Quick || is.Pace != Far {
		t.Errorf("it was in the slot %+v, and is in %+v", was, is)
	}
}

// A task elsewhere that dies without a word: no request fails, and it is out soon.
func TestADeadTaskElsewhereIsFoundByRequests(t *testing.T) {
	t.Parallel()
	dying, other := newProbed(t, "dying"), newProbed(t, "other")
	l := startWith(t, tableOf(probedService(0, dying.Endpoint, other.Endpoint)), inFleet)
	eventually(t, "both are content with their checks", func() bool { return dying.probes.Load() > 0 && other.probes.Load() > 0 })
	dying.server.CloseClientConnections()
	dying.server.Close()
	died := time.Now()
	requests := 0
	eventually(t, "the dead task is out", func() bool {
		for range 5 {
			if code, body := l.get("shop.local", "/"); code != 200 || body != "other" {
				t.Errorf("with a task that died: %d %s", code, body)
			}
			requests++
		}
		return strings.HasPrefix(l.serverState("shop:0", dying.Addr), "0 ")
	})
	t.Logf("out %s after it died; none of %d requests failed", time.Since(died), requests)
}

// slotOf returns the slot of a task.
func (l *live) slotOf(backend, task string) Server {
	for _, s := range l.now.Backend(backend).Slots {
		if s.Task == task {
			return s
		}
	}
	return Server{}
}

// serverState returns how a server stands that has an address: the states of its operation and its administration, and what follows.
func (l *live) serverState(backend string, addr netip.AddrPort) string {
	for line := range strings.Lines(l.command("show servers state " + backend)) {
		f := strings.Fields(line)
		if len(f) > 18 && f[4] == addr.Addr().String() && f[18] == fmt.Sprint(addr.Port()) {
			return strings.Join(f[5:], " ")
		}
	}
	return ""
}
