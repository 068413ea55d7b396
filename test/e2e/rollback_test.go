package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/admin"
)

// history returns the changes that a question chooses.
func (n *node) history(args ...string) admin.History {
	n.t.Helper()
	var h admin.History
	if err := json.Unmarshal([]byte(n.verb(append([]string{"history", "-o", "json"}, args...)...)), &h); err != nil {
		n.t.Fatal(err)
	}
	return h
}

// code runs a verb and returns how it ends.
func (n *node) code(args ...string) (int, string) {
	n.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "SIGNALBOX_ADMIN=unix:"+filepath.Join(n.dir, "admin.sock"))
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// routed waits until as many tasks are routed and Marathon is done.
func (n *node) routed(base string, want int) {
	n.t.Helper()
	got := 0
	eventually(n.t, fmt.Sprintf("%d tasks are routed", want), func() bool {
		got = n.health().Endpoints
		return got == want && deployments(n.t, base) == 0
	}, func() string { return fmt.Sprint(got) })
}

// Three in the morning: a bad label is deployed. One verb brings the old route back for the tasks of now, holds it while the app scales,
// also over a kill -9 of the controller, and lets the new definition in once it is right.
func TestABadLabelIsRolledBack(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 2))
	put(t, c.URL(), "/v2/apps//other", demoApp("/other", "other.local", 1))
	n := newNode(t, c.URL())
	n.run()
	n.answers("shop.local", "/", 200)
	n.answers("other.local", "/", 200)
	n.routed(c.URL(), 3)
	time.Sleep(time.Second) // the app is read for what the first deployment ended with, so that the label is read for its own event

	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.locla", 2))
	n.answers("shop.local", "/", 404)
	n.routed(c.URL(), 3)
	causes := ""
	for _, change := range n.history("--app", "/shop", "--definitions").Changes {
		causes += change.Cause + "\n"
	}
	if !strings.Contains(causes, "event api_post_event /shop") || !strings.Contains(causes, " deployment ") {
		t.Errorf("the history has not the event that brought the bad label:\n%s", causes)
	}

	if code, out := n.code("rollback", "--app", "/shop"); code != 2 || !strings.Contains(out, "+ route /shop:0 shop.local/") || !strings.Contains(out, "--yes") {
		t.Errorf("without a terminal it ends with %d:\n%s", code, out)
	}
	n.answers("shop.local", "/", 404)
	reloads := n.health().HAProxy.Reloads
	if code, out := n.code("rollback", "--app", "shop", "--yes", "--reason", "SHOP-12"); code != 0 || !strings.Contains(out, "they are held") {
		t.Fatalf("the rollback ends with %d:\n%s", code, out)
	}
	steady := func(what string) {
		t.Helper()
		for host, want := range map[string]int{"shop.local": 200, "shop.locla": 404, "other.local": 200} {
			if code, body := n.get(host, "/"); code != want {
				t.Errorf("%s: %s answers %d, want %d: %s", what, host, code, want, body)
			}
		}
	}
	steady("after the rollback")
	if h := n.health(); h.Status != "degraded" || h.Held.Changed != 1 || len(h.Held.Holds) != 1 || h.Held.Holds[0].Reason != "SHOP-12" || h.HAProxy.Reloads != reloads {
		t.Errorf("health is %s, %+v, after %d reloads", h.Status, h.Held, h.HAProxy.Reloads-reloads)
	}
	if code, out := n.code("rollback", "--app", "/shop", "--yes"); code != 1 || !strings.Contains(out, "rolled back to generation") {
		t.Errorf("a second rollback ends with %d:\n%s", code, out)
	}

	put(t, c.URL(), "/v2/apps//shop", map[string]any{"instances": 4})
	n.routed(c.URL(), 5)
	steady("scaled while held")
	put(t, c.URL(), "/v2/apps//shop", map[string]any{"instances": 1})
	n.routed(c.URL(), 2)
	steady("scaled down while held")

	n.controller.end(t, syscall.SIGKILL)
	steady("the controller is dead")
	n.run()
	eventually(t, "the hold is back", func() bool {
		h, err := n.admin.Health(t.Context())
		return err == nil && h.Held.Changed == 1 && h.Endpoints == 2
	}, n.controller.text)
	steady("after a restart")
	for want, text := range map[string]string{
		"rolled back":                      n.verb("hold"),
		"the newest definition is kept":    n.verb("why", "/shop"),
		"SB502":                            n.verb("routes"),
		`signalbox_held{scope="app"} 1`:    n.metrics(),
		`signalbox_held_back_apps{how="c`:  n.metrics(),
		"operator: rollback of /shop to g": n.verb("history"),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q:\n%s", want, text)
		}
	}

	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local new.local", 1))
	n.routed(c.URL(), 2)
	steady("put right while held")
	n.answers("new.local", "/", 404)
	if code, out := n.code("hold", "--release", "--app", "/shop", "--yes"); code != 0 || !strings.Contains(out, "/shop is released") {
		t.Errorf("the release ends with %d:\n%s", code, out)
	}
	n.answers("new.local", "/", 200)
	n.answers("shop.local", "/", 200)
	eventually(t, "health is ok", func() bool { h := n.health(); return len(h.Held.Holds) == 0 && h.Held.Status == "ok" }, n.controller.text)
	eventually(t, "the audit log has who released /shop", func() bool {
		for line := range strings.Lines(n.controller.text()) {
			if strings.Contains(line, "change applied") && strings.Contains(line, `cause="operator: release /shop"`) && strings.Contains(line, "(uid ") {
				return true
			}
		}
		return false
	}, n.controller.text)
}

// While everything is held, deaths drain, an app that comes is not routed, and one that goes keeps its name.
func TestEverythingIsHeld(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//a", demoApp("/a", "a.local", 2))
	put(t, c.URL(), "/v2/apps//b", demoApp("/b", "b.local", 1))
	n := newNode(t, c.URL())
	n.run()
	n.answers("a.local", "/", 200)
	n.answers("b.local", "/", 200)
	n.routed(c.URL(), 3)
	if code, out := n.code("hold", "--all", "--for", "1h"); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	if h := n.health(); h.Held.Status != "ok" || len(h.Held.Holds) != 1 {
		t.Errorf("a hold that keeps nothing back: %+v", h.Held)
	}
	if code, out := n.code("hold", "--app", "/a"); code != 1 || !strings.Contains(out, "everything is held already") {
		t.Errorf("a second hold ends with %d: %s", code, out)
	}
	put(t, c.URL(), "/v2/apps//new", demoApp("/new", "new.local", 1))
	send(t, "DELETE", c.URL(), "/v2/apps//b", nil)
	put(t, c.URL(), "/v2/apps//a", map[string]any{"instances": 1})
	n.answers("b.local", "/", 503)
	n.routed(c.URL(), 1)
	eventually(t, "the new app is kept back", func() bool { return n.health().Held.New == 1 }, n.controller.text)
	n.answers("new.local", "/", 404)
	n.answers("a.local", "/", 200)
	for want, text := range map[string]string{"it came during a hold": n.verb("why", "/new"), "SB501 /new": n.verb("routes"), "SB503 /b": n.verb("health")} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q:\n%s", want, text)
		}
	}
	if code, out := n.code("hold", "--release", "--yes"); code != 0 {
		t.Errorf("%d: %s", code, out)
	}
	n.answers("new.local", "/", 200)
	n.answers("b.local", "/", 404)
	if code, out := n.code("hold", "--release", "--yes"); code != 1 || !strings.Contains(out, "nothing is held") {
		t.Errorf("a second release ends with %d: %s", code, out)
	}
	if code, out := n.code("accept"); code != 1 || !strings.Contains(out, "nothing is held back") {
		t.Errorf("accept with nothing held back ends with %d: %s", code, out)
	}
}
