// Package docs runs what the documents tell a newcomer to type.
package docs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const root = "../.."

// run are the documents whose command blocks are run, one after the other in one fresh session each. A block marked "sh" runs to its
// end and must succeed; one marked "sh background" is started, keeps running for the blocks after it, and ends by Ctrl-C.
var run = []string{"README.md", "docs/quickstart.md"}

// shown are the marks of blocks that show something and are not run.
var shown = []string{"text", "json", "go", "yaml"}

type block struct {
	line       int
	background bool
	code       string
}

// blocks returns the command blocks of a document.
func blocks(t *testing.T, path string) []block {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	var open *block
	inside := false
	line := 0
	for s := bufio.NewScanner(bytes.NewReader(content)); s.Scan(); {
		line++
		text := s.Text()
		mark, fence := strings.CutPrefix(strings.TrimSpace(text), "```")
		switch {
		case fence && inside:
			if open != nil {
				all = append(all, *open)
			}
			open, inside = nil, false
		case fence:
			inside = true
			switch mark {
			case "sh":
				open = &block{line: line}
			case "sh background":
				open = &block{line: line, background: true}
			default:
				if !contains(shown, mark) {
					t.Errorf("%s:%d: a block marked %q: commands are marked sh, the rest one of %v", path, line, mark, shown)
				}
			}
		case open != nil:
			open.code += text + "\n"
		}
	}
	return all
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func TestCommandBlocksRun(t *testing.T) {
	for _, path := range run {
		t.Run(filepath.Base(path), func(t *testing.T) {
			list := blocks(t, path)
			if len(list) == 0 {
				t.Fatalf("%s has no command block", path)
			}
			var stop []func()
			defer func() {
				for _, f := range stop {
					f()
				}
			}()
			for _, b := range list {
				name := fmt.Sprintf("%s:%d", path, b.line)
				if b.background {
					stop = append(stop, start(t, name, b.code))
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				out, err := command(ctx, b.code).CombinedOutput()
				cancel()
				if err != nil {
					t.Fatalf("%s: %v\n%s\n%s", name, err, b.code, out)
				}
				t.Logf("%s\n%s%s", name, b.code, out)
			}
		})
	}
}

func command(ctx context.Context, code string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", code)
	cmd.Dir = root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// start runs a block in the background until what it starts is healthy and has said what to try, and returns a function that ends
// it as Ctrl-C does: with a signal to the whole foreground.
func start(t *testing.T, name, code string) func() {
	t.Helper()
	var out lockedBuffer
	cmd := command(context.WithoutCancel(t.Context()), code)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.Now().Add(5 * time.Minute); ; {
		select {
		case err := <-ended:
			t.Fatalf("%s ended early: %v\n%s", name, err, out.String())
		case <-time.After(time.Second):
		}
		if strings.Contains(out.String(), "try:") && exec.Command(filepath.Join(root, "bin/signalbox"), "health").Run() == nil {
			break
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			t.Fatalf("%s is not healthy after five minutes\n%s", name, out.String())
		}
	}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		select {
		case err := <-ended:
			// make ends by the signal itself; what it ran says whether it ended well.
			if !strings.Contains(out.String(), "nothing is left") || strings.Contains(out.String(), "error:") {
				t.Errorf("%s: %v\n%s", name, err, out.String())
			}
		case <-time.After(time.Minute):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			t.Errorf("%s does not end by Ctrl-C\n%s", name, out.String())
		}
		t.Logf("%s\n%s%s", name, code, out.String())
	}
}
