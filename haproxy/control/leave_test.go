package control

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// A backend that was left is at rest when the last request in it has ended, and not before.
func TestARequestKeepsASpareBackendFromRest(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	came, release := make(chan struct{}), make(chan struct{})
	arrived := sync.OnceFunc(func() { close(came) })
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived()
		<-release
		io.WriteString(w, "slow")
	}))
	t.Cleanup(slow.Close)
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	r.start(r.real())
	shop := service("shop", task(t, "one"))
	r.apply(r.want(shop))
	busy, calm := service("busy", netip.MustParseAddrPort(slow.Listener.Addr().String())), service("calm", task(t, "two"))
	busy.Check, calm.Check = signalbox.Check{Kind: signalbox.CheckTCP}, signalbox.Check{Kind: signalbox.CheckTCP}
	r.apply(r.want(shop, busy, calm))
	busyIn, calmIn := r.backend("busy").Name, r.backend("calm").Name
	if !strings.HasPrefix(busyIn, "spare-") || !strings.HasPrefix(calmIn, "spare-") {
		t.Fatalf("the new apps are in %s and %s, not in spare backends", busyIn, calmIn)
	}
	answered := make(chan string, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", r.port), nil)
		req.Host, req.Close = "busy.local", true
		client := http.Client{Timeout: patience}
		resp, err := client.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answered <- string(body)
	}()
	select {
	case <-came:
	case <-time.After(patience):
		t.Fatal("the request did not come")
	}
	r.apply(r.want(shop))
	r.settled()
	r.until("what nobody asks any more is at rest", func() bool { return r.app.Rested()[calmIn] == calm.ID }) // both are asked about together
	if _, rests := r.app.Rested()[busyIn]; rests {
		t.Error("a backend with a request in it is at rest")
	}
	letGo()
	if body := <-answered; body != "slow" {
		t.Errorf("the request got %q", body)
	}
	r.until("after the request it is at rest", func() bool { return r.app.Rested()[busyIn] == busy.ID })
}

// A backend that was left keeps its servers for a moment: a request that was led to it just before finds them.
func TestWhatIsLeftKeepsItsServersForAMoment(t *testing.T) {
	r := newRig(t)
	s := r.settings()
	s.StatsSocket = filepath.Join(r.dir, "stats.sock")
	var mu sync.Mutex
	var told []string
	r.statsSocket(s.StatsSocket, func(command string) string {
		if command == "show info" {
			return infoOf(7)
		}
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(command, "set server ") {
			told = append(told, command)
		}
		return ""
	})
	a := New(s)
	defer a.rt.Close()
	running := r.config(app{name: "shop", tasks: addrs{addr(1), addr(2)}})
	a.setRunning(running)
	left := []string{"b_shop"}
	if a.empty(t.Context(), left) || a.running != running || len(told) > 0 {
		t.Errorf("at once HAProxy was told %q", told)
	}
	a.rest.since["b_shop"] = time.Now().Add(-leaveAfter)
	if !a.empty(t.Context(), left) || a.running == running {
		t.Error("a moment later it is not emptied")
	}
	if want := "set server b_shop/s1 state maint, set server b_shop/s2 state maint"; strings.Join(told, ", ") != want {
		t.Errorf("a moment later HAProxy was told %q, want %q", told, want)
	}
}
