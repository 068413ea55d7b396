package consul

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/consulserver"
)

// names are services of which each test of faults has one each.
var names = []string{"a", "b", "c", "d"}

// served is the table with the services of these names, all at one port.
func served(names ...string) string {
	var out []string
	for _, name := range names {
		out = append(out, "/"+name+":0 "+name+".local/ 10.0.0.1:8001=up")
	}
	return strings.Join(out, "; ")
}

// cluster is three servers with the services of names, of which the table has all.
func cluster(t *testing.T, state string) ([]*consulserver.Server, *followed) {
	t.Helper()
	all := consulserver.New(t, 3)
	var urls []string
	for _, s := range all {
		s.Start()
		urls = append(urls, s.URL)
	}
	for _, s := range all {
		s.Ready()
	}
	for i, name := range names {
		all[i%3].Register(web(name, name, 8001))
	}
	f := followConsul(t, Config{URLs: urls}, state)
	f.expect(served(names...), "following")
	f.least = len(names)
	return all, f
}

func leader(t *testing.T, all []*consulserver.Server) int {
	t.Helper()
	i := slices.IndexFunc(all, (*consulserver.Server).Leads)
	if i < 0 {
		t.Fatal("nobody leads")
	}
	return i
}

// The leader dies: no route goes, and what comes after the election is seen.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	all, f := cluster(t, "")
	dead := leader(t, all)
	f.during(func() {
		all[dead].Kill()
		all[(dead+1)%3].Ready()
		all[(dead+1)%3].Register(web("new", "new", 8001))
	})
	// Its node is not heard any more, and what ran there may well live.
	f.until(func() (bool, string) {
		text := f.text()
		return strings.Contains(text, "/new:0 new.local/ 10.0.0.1:8001=up"), "what is new has not come: " + text
	})
	f.during(func() { all[dead].Start(); all[dead].Ready() })
	f.expect(served(append(slices.Clone(names), "new")...), "following")
}

// Most servers are gone, so that nobody leads: what the last one still answers is no news, and no reason to drop anything.
func TestNobodyLeads(t *testing.T) {
	t.Parallel()
	all, f := cluster(t, "")
	f.during(func() { all[0].Kill(); all[1].Kill() })
	f.until(func() (bool, string) {
		st := f.watcher.Status()[0]
		return st.Level == signalbox.Degraded && strings.Contains(st.Detail, "Consul"), "the source says nothing of it: " + st.Detail
	})
	if got := f.text(); got != served(names...) {
		t.Errorf("meanwhile the table is %q", got)
	}
	f.during(func() {
		all[0].Start()
		all[1].Start()
		all[0].Ready()
		all[0].Register(web("new", "new", 8001))
	})
	f.expect(served(append(slices.Clone(names), "new")...), "following")
}

// All data is lost, and the index begins anew: what there was stays until its agents had the time to register it again.
func TestDataIsWiped(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	for _, name := range names {
		s.Register(web(name, name, 8001))
	}
	for i := range 30 { // so that the index is well above where another history begins
		s.Register(web("a", "a2", 8002, fmt.Sprint("v", i)))
	}
	f := followConsul(t, Config{URLs: []string{s.URL}, grace: 10 * time.Second}, "")
	was := strings.Replace(served(names...), "=up", "=up 10.0.0.1:8002=up", 1)
	f.expect(was, "following")
	f.least = len(names)
	f.during(func() { s.Kill(); s.Wipe(); s.Start(); s.Ready() })
	s.Register(web("new", "new", 8001))
	s.Register(web("a", "a", 8001))
	f.expect(was+"; "+served("new"), "following") // a2, b, c and d are still missing
	f.least = 0
	f.expect(served("a", "new"), "following") // they have not come back
}

// A catalog that is empty all of a sudden is not believed.
func TestEmptyCatalogIsHeldBack(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	for _, name := range names {
		s.Register(web(name, name, 8001))
	}
	f := followConsul(t, Config{URLs: []string{s.URL}, grace: time.Millisecond}, "")
	f.expect(served(names...), "following")
	f.least = len(names)
	f.during(func() { s.Kill(); s.Wipe(); s.Start(); s.Ready() })
	f.until(func() (bool, string) {
		st := f.watcher.Status()[0]
		return st.Quarantined != "", "an empty catalog is not held back: " + st.Detail
	})
	f.least = 0
	for _, name := range append(slices.Clone(names), "new") {
		s.Register(web(name, name, 8001))
	}
	f.expect(served(append(slices.Clone(names), "new")...), "following")
}

// A server that hangs costs nothing, whether there is another or not.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	all, f := cluster(t, "")
	hung := f.source.client.current.Load()
	all[hung].Signal(syscall.SIGSTOP)
	f.during(func() {
		other := all[(hung+1)%3]
		other.Ready()
		other.Register(web("new", "new", 8001))
	})
	f.until(func() (bool, string) {
		return strings.Contains(f.text(), "/new:0 new.local/"), "what is new has not come: " + f.text()
	})
	all[hung].Signal(syscall.SIGCONT)
	f.expect(served(append(slices.Clone(names), "new")...), "following")
}

// Without Consul a start goes on with what was stored.
func TestStartWithoutConsul(t *testing.T) {
	t.Parallel()
	s := consulserver.Start(t)
	for _, name := range names {
		s.Register(web(name, name, 8001))
	}
	state := t.TempDir()
	f := followConsul(t, Config{URLs: []string{s.URL}}, state)
	f.expect(served(names...), "following")
	f.stop()
	s.Kill()
	f = followConsul(t, Config{URLs: []string{s.URL}}, state)
	f.least = len(names)
	f.expect(served(names...), "")
	f.during(func() { s.Start(); s.Ready() })
	f.expect(served(names...), "following")
	s.Register(web("new", "new", 8001))
	f.expect(served(append(slices.Clone(names), "new")...), "following")
}
