package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without a controller, render makes of the sources what a controller would.
func TestRenderOffline(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	static := filepath.Join(dir, "static.yaml")
	text := "services:\n- name: /wiki\n  labels: {signalbox.host: wiki.local}\n  addresses: [10.0.0.9:8080]\n"
	if err := os.WriteFile(static, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := invoke(t, "render", "--offline", "--marathon", "", "--static", static, "--state-dir", filepath.Join(dir, "state"), "--http-bind", "127.0.0.1:8000")
	if code != exitOK || !strings.Contains(stdout, "10.0.0.9:8080") || !strings.Contains(stdout, "wiki.local") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("it leaves files behind: %v", left)
	}
}
