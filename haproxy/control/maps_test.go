package control

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox"
	"signalbox/haproxy"
)

// hostsOf are n hosts, each with a number.
func hostsOf(s *signalbox.Service, n int) *signalbox.Service {
	for i := range n {
		s.Routes = append(s.Routes, signalbox.Route{Host: fmt.Sprintf("h%d.local", i), Path: "/"})
	}
	return s
}

// A map that changes as a whole is replaced in one moment: while two services take 1,500 hosts from each other a hundred times, each
// request is answered by one of them, and the hosts of a third one by that one.
func TestWholeMapsAreReplacedUnderLoad(t *testing.T) {
	r := newRig(t)
	r.supervise()
	r.start(r.real())
	one, two, three := task(t, "one"), task(t, "two"), task(t, "three")
	const hosts, swaps = 1500, 100
	build := func(first bool, c *haproxy.Config) *haproxy.Config {
		a, b := service("a", one), service("b", two)
		if first {
			hostsOf(a, hosts)
		} else {
			hostsOf(b, hosts)
		}
		return haproxy.Build(table(a, b, service("keep", three)), r.opts, c)
	}
	c := build(true, nil)
	r.apply(c)
	var asked, wrong atomic.Int64
	var last atomic.Value
	done := make(chan struct{})
	var clients sync.WaitGroup
	for k := range 4 {
		clients.Go(func() {
			for i := k; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				host := fmt.Sprintf("h%d.local", i*7%hosts)
				good := []string{"one", "two"}
				if i%3 == 0 {
					host, good = "keep.local", []string{"three"}
				}
				if code, body := r.get(host); code != 200 || !slices.Contains(good, body) {
					wrong.Add(1)
					last.Store(fmt.Sprintf("%s: %d %s", host, code, body))
				}
				asked.Add(1)
			}
		})
	}
	for i := range swaps {
		next := build(i%2 == 1, c)
		commits := 0
		for _, command := range haproxy.Diff(c, next).Commands {
			if strings.HasPrefix(command.Text, "commit map ") {
				commits++
			}
		}
		if commits != 1 {
			t.Fatalf("%d maps are replaced, want that of hosts", commits)
		}
		c = next
		if out := r.apply(c); out.Reloaded {
			t.Fatalf("%+v", out)
		}
	}
	close(done)
	clients.Wait()
	if wrong.Load() > 0 || asked.Load() < swaps {
		t.Errorf("%d of %d answers are wrong, the last one %v", wrong.Load(), asked.Load(), last.Load())
	}
	t.Logf("%d requests during %d commits", asked.Load(), swaps)
}

// Somebody's own entries, and the lack of ours, are repaired by the map as a whole where there are many.
func TestTheAuditRepairsAMapThatIsLargelyWrong(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.real()
	s.AuditInterval = 200 * time.Millisecond
	r.start(s)
	c := haproxy.Build(table(hostsOf(service("a", task(t, "one")), 1500)), r.opts, nil)
	r.apply(c)
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	path := r.opts.MapPath(haproxy.HostsMap)
	mess := []string{"prepare map " + path}
	for i := range 1500 {
		mess = append(mess, fmt.Sprintf("add map %s %s own%d.local/ nowhere", haproxy.MapVersion, path, i))
	}
	mess = append(mess, "commit map "+haproxy.MapVersion+" "+path)
	if _, err := rt.Batch(t.Context(), Worker{}, mess); err != nil {
		t.Fatal(err)
	}
	r.until("the map is whole again", func() bool {
		lines, err := rt.Map(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return len(lines) == len(c.Hosts) && !strings.HasPrefix(lines[0].Key, "own")
	})
	r.answers("h7.local", "one")
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads", n)
	}
	if n := counterValue(t, r.app.met.repairs.WithLabelValues("hosts")); n != 3001 {
		t.Errorf("%v entries of hosts repaired, want 3001", n)
	}
}
