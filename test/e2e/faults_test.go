package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/loadgen"
)

// Whatever goes wrong with Marathon's answers, no request fails, and what changed meanwhile is there when it is over.
func TestFaultsOfMarathonFailNoRequest(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 2))
	n := newNode(t, c.URL())
	n.run("--resync", "1s")
	n.answers("shop.local", "/", 200)
	eventually(t, "both tasks are routed", func() bool { return n.health().Endpoints == 2 && deployments(t, c.URL()) == 0 }, n.controller.text)
	load, err := loadgen.New(loadgen.Config{
		Targets: []loadgen.Target{{Name: "shop", URL: "http://" + n.proxy, Host: "shop.local", Expect: "shop"}}, Rate: 100, MaxInFlight: 4096, Timeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, load)
	for i, kind := range []string{"status", "empty", "half"} {
		send(t, http.MethodPost, c.URL(), "/devcluster/faults", map[string]any{"kind": kind})
		send(t, http.MethodPost, c.URL(), "/devcluster/faults", map[string]any{"kind": "drop"})
		eventually(t, "health tells of "+kind, func() bool { return n.health().Sources[0].Status != "ok" }, func() string { return fmt.Sprint(n.health().Sources) })
		id := fmt.Sprintf("new%d", i)
		send(t, http.MethodDelete, c.URL(), "/devcluster/faults", nil)
		put(t, c.URL(), "/v2/apps//"+id, demoApp("/"+id, id+".local", 1))
		n.answers(id+".local", "/", 200)
	}
	stop()
	if total := load.Report().Total(); total.Failed() != 0 || total.Misrouted != 0 || total.Scheduled == 0 {
		t.Errorf("of %d requests %d failed: %+v %+v; last error: %s", total.Scheduled, total.Failed(), total.Codes, total.Errors, total.LastError)
	}
}

// A worker that hangs is not called well, and is well again when it goes on.
func TestFrozenHAProxyIsSeen(t *testing.T) {
	m := newStub(t, 1)
	n := newNode(t, m.URL)
	n.run()
	n.answers("app0.local", "/", 200)
	status := func() string { return fmt.Sprint(n.health().HAProxy) }
	eventually(t, "HAProxy is well", func() bool { return n.health().HAProxy.Status == "ok" }, status)
	masters, workers := n.masters()
	if len(masters) != 1 || len(workers) == 0 {
		t.Fatalf("masters %v, workers %v", masters, workers)
	}
	for _, pid := range workers {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	}
	eventually(t, "health tells of a worker that hangs", func() bool { return n.health().HAProxy.Status != "ok" }, status)
	for _, pid := range workers {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	eventually(t, "HAProxy is well again", func() bool { return n.health().HAProxy.Status == "ok" }, status)
	n.answers("app0.local", "/", 200)
}

// masters returns the processes of this node's HAProxy: masters, and workers whose parent is one.
func (n *node) masters() (masters, workers []int) {
	n.t.Helper()
	all := haproxies(n.t, n.dir)
	for _, pid := range all {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		var state string
		var parent int
		_, _ = fmt.Sscan(rest, &state, &parent)
		worker := false
		for _, other := range all {
			worker = worker || other == parent
		}
		if worker {
			workers = append(workers, pid)
		} else {
			masters = append(masters, pid)
		}
	}
	return masters, workers
}

// Restarts in a row, with kill -9 and without time to come up, leave one HAProxy, and every route.
func TestStormOfRestartsLeavesOneHAProxy(t *testing.T) {
	m := newStub(t, 2)
	n := newNode(t, m.URL)
	n.run()
	n.answers("app1.local", "/", 200)
	for i := range 10 {
		if masters, _ := n.masters(); i%3 == 2 {
			for _, pid := range masters {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		n.controller.end(t, syscall.SIGKILL)
		n.run()
		time.Sleep(time.Duration(i) * 40 * time.Millisecond)
	}
	n.answers("app0.local", "/", 200)
	n.answers("app1.local", "/", 200)
	var left []int
	eventually(t, "one HAProxy is left", func() bool {
		left, _ = n.masters()
		return len(left) == 1
	}, func() string { return fmt.Sprint(left) })
}

// A second controller for one state is refused, and the first doesn't notice.
func TestSecondControllerIsRefused(t *testing.T) {
	m := newStub(t, 1)
	n := newNode(t, m.URL)
	n.run()
	n.answers("app0.local", "/", 200)
	first := n.controller
	n.run("--admin", "unix:"+filepath.Join(n.dir, "other.sock"))
	select {
	case <-n.controller.ended:
	case <-time.After(patience):
		t.Fatal("a second controller runs in the same directory")
	}
	if n.controller.err == nil || !strings.Contains(n.controller.text(), "another process") {
		t.Errorf("a second controller ends with %v:\n%s", n.controller.err, n.controller.text())
	}
	select {
	case <-first.ended:
		t.Error("the first controller has ended")
	default:
	}
	n.answers("app0.local", "/", 200)
}

// What cannot be meant is refused before anything begins, with code 2, and without showing what might be a secret.
func TestGarbageSettingsAreRefused(t *testing.T) {
	dir := shortDir(t)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][]string{
		"MARATHON":               {"garbage \n;x", "http://u:canary@127.0.0.1:1", "http://u:canary%zz@127.0.0.1:1"},
		"MARATHON_PASSWORD":      {"canary"},
		"MARATHON_PASSWORD_FILE": {empty, filepath.Join(dir, "none"), dir},
		"MARATHON_TOKEN_FILE":    {empty},
		"MARATHON_CA_FILE":       {empty},
		"HTTP_BIND":              {"garbage \n;x", "-1"},
		"ADMIN":                  {"0.0.0.0:9901", "-1"},
		"HAPROXY":                {"garbage"},
		"MAXCONN":                {"-1", "99999999999999999999"},
		"RESYNC":                 {"-1", "garbage"},
		"LOG_LEVEL":              {"garbage"},
		"LOG_FORMAT":             {"garbage"},
		"HEALTH":                 {"garbage"},
		"QUARANTINE_APPS":        {"-1", "garbage"},
		"TEMPLATE":               {empty, filepath.Join(dir, "none")},
	} {
		for _, value := range values {
			cmd := exec.CommandContext(t.Context(), binary, "run", "--state-dir", filepath.Join(dir, "state"))
			cmd.Env = append(os.Environ(), "SIGNALBOX_"+name+"="+value)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 2 {
				t.Errorf("%s=%q: %v, want exit status 2\n%s", name, value, err, out)
			}
			if strings.Contains(string(out), "canary") || strings.Contains(string(out), "goroutine ") {
				t.Errorf("%s=%q prints\n%s", name, value, out)
			}
		}
	}
}
