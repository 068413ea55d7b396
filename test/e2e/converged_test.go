package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A deploy tool learns whether every node's HAProxy has what Marathon says: a node that hangs, or whose HAProxy does not take it, has not.
func TestConverged(t *testing.T) {
	c := cluster(t)
	put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	var urls []string
	for range 2 {
		n := newNode(t, c.URL())
		address := freeAddress(t)
		n.run("--metrics-listen", address, "--metrics-token-file", token)
		nodes, urls = append(nodes, n), append(urls, "http://"+address)
	}
	for _, n := range nodes {
		n.answers("shop.local", "/", 200)
	}
	ask := func(code int, words string, args ...string) {
		t.Helper()
		args = append([]string{"converged", "--nodes", strings.Join(urls, ","), "--token-file", token}, args...)
		if got, out := nodes[0].code(args...); got != code || !strings.Contains(out, words) {
			t.Errorf("%v ends with %d:\n%s", args, got, out)
		}
	}
	ask(0, "yes", "/shop")
	ask(0, "yes", "/none", "--gone", "--wait", "0s")
	ask(1, "it still has the app", "/shop", "--gone", "--wait", "0s")
	ask(1, "it has version", "/shop", "--version", "2001-01-01T00:00:00.000Z", "--wait", "0s")

	// Marathon ends a deployment a while after its tasks are routed, and locks the app until then.
	eventually(t, "the deployment is over", func() bool { return deployments(t, c.URL()) == 0 }, nodes[0].controller.text)
	var second struct{ Version string }
	if err := json.Unmarshal([]byte(put(t, c.URL(), "/v2/apps//shop", demoApp("/shop", "new.local", 3))), &second); err != nil || second.Version == "" {
		t.Fatalf("Marathon names no version: %v", err)
	}
	ask(0, "yes", "/shop", "--version", second.Version, "--only") // without a version, that no node has heard of the change yet is agreement too
	for _, n := range nodes {
		if code, body := n.get("new.local", "/"); code != 200 {
			t.Errorf("a node that has converged answers %d %s", code, body)
		}
	}
	if err := nodes[1].controller.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ask(1, "it does not answer within", "/shop", "--wait", "0s")
	if err := nodes[1].controller.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ask(0, "yes", "/shop")
}
