package layout

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every direct requirement is a decision: docs/decisions names it, and with it the reason.
func TestDirectRequirementsAreDecided(t *testing.T) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
		Replace, Exclude []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob(filepath.Join(root, "docs", "decisions", "*.md"))
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	var decided strings.Builder
	for _, file := range decisions {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		decided.Write(content)
	}
	direct := 0
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		direct++
		if !strings.Contains(decided.String(), "`"+r.Path+"`") {
			t.Errorf("go.mod requires %s %s, and no file of docs/decisions names it", r.Path, r.Version)
		}
	}
	if direct == 0 {
		t.Error("go.mod marks every requirement as indirect: run 'go mod tidy'")
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Error("go.mod replaces or excludes modules: what is built elsewhere would not be this")
	}
}
