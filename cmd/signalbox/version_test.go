package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionOf(t *testing.T) {
	f := func(want string, settings ...debug.BuildSetting) {
		t.Helper()
		if got := versionOf(settings); got != want {
			t.Errorf("versionOf(%v) = %s, want %s", settings, got, want)
		}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "ab41cde0123456789"}
	f("0.1.unknown")
	f("0.1.ab41cde", revision, debug.BuildSetting{Key: "vcs.modified", Value: "false"})
	f("0.1.ab41cde+CHANGES", revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"})
}

// A real build from a clean tree and from one with changes.
func TestVersionOfABuild(t *testing.T) {
	tree := t.TempDir()
	copyTree(t, "../..", tree)
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	version := func() string {
		t.Helper()
		run("go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", ".build/signalbox", "./cmd/signalbox")
		var answer map[string]string
		out := run(filepath.Join(tree, ".build", "signalbox"), "-version")
		if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer) != 1 {
			t.Fatalf("-version prints %q: %v", out, err)
		}
		return answer["Version"]
	}
	git := []string{"-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false", "-c", "core.excludesFile=/dev/null"}
	run("git", "init", "-q")
	if err := os.WriteFile(filepath.Join(tree, ".git", "info", "exclude"), []byte(".build/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("git", append(git, "add", "-A")...)
	run("git", append(git, "commit", "-q", "-m", "all")...)
	clean := version()
	if !regexp.MustCompile(`^0\.1\.[0-9a-f]{7}$`).MatchString(clean) {
		t.Errorf("a clean tree's version is %q", clean)
	}
	if err := os.WriteFile(filepath.Join(tree, "README.md"), []byte("changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if dirty := version(); dirty != clean+"+CHANGES" {
		t.Errorf("with changes it is %q, want %q", dirty, clean+"+CHANGES")
	}
}

// copyTree copies what a build needs.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch rel {
			case ".git", "bin", "dist", ".cache", "bench/results":
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		// In a work tree beside its repository .git is a file.
		if !d.Type().IsRegular() || rel == ".git" || strings.HasSuffix(rel, "_test.go") || filepath.Base(rel) == "signalbox" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
