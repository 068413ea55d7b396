package docs

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what commands print into the documents")

// printed are the documents with blocks marked console: a line "$ signalbox …" and all that it prints.
var printed = []string{"docs/migrate-marathon-lb.md", "docs/migrate-haproxy-marathon-bridge.md"}

var console = regexp.MustCompile("(?s)```console\n\\$ (signalbox [^\n]*)\n(.*?)```")

// What the documents show of the program's output is what it prints, about examples that stand beside them.
func TestOutputIsAsShown(t *testing.T) {
	program := filepath.Join(t.TempDir(), "signalbox")
	build := exec.Command("go", "build", "-o", program, "./cmd/signalbox")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range printed {
		t.Run(filepath.Base(name), func(t *testing.T) {
			path := filepath.Join(root, name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !console.Match(text) {
				t.Fatal("no block is marked console")
			}
			got := console.ReplaceAllFunc(text, func(block []byte) []byte {
				command := string(console.FindSubmatch(block)[1])
				return []byte("```console\n$ " + command + "\n" + output(t, program, command) + "```")
			})
			if *update && !t.Failed() {
				err = os.WriteFile(path, got, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, text) {
				t.Errorf("run 'go test ./test/docs -run TestOutputIsAsShown -update' (-shown +printed):\n%s", cmp.Diff(string(text), string(got)))
			}
		})
	}
}

// output returns what a command prints. It may end with 1, which says that something was found.
func output(t *testing.T, program, command string) string {
	t.Helper()
	cmd := exec.Command(program, strings.Fields(command)[1:]...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}
