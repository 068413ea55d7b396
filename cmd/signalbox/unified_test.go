package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestUnifiedIsWhatDiffPrints(t *testing.T) {
	var from []string
	for i := range 30 {
		from = append(from, strings.Repeat("x", i))
	}
	to := slices.Clone(from)
	to[3] = "changed"
	to = slices.Delete(to, 12, 13)
	to = slices.Insert(to, 27, "new")
	dir := t.TempDir()
	a, b := strings.Join(from, "\n")+"\n", strings.Join(to, "\n")+"\n"
	for name, text := range map[string]string{"a": a, "b": b} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("diff", "-u", filepath.Join(dir, "a"), filepath.Join(dir, "b")).Output()
	if _, differ := err.(*exec.ExitError); err != nil && !differ { //nolint:errorlint // not wrapped
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")[2:]
	if diff := cmp.Diff(want, unified(a, b)); diff != "" {
		t.Errorf("unified (-diff -u +ours):\n%s", diff)
	}
}

// Whatever the texts, the lines with a space and a minus are the first, those with a space and a plus the second.
func TestComparisonHasBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", ""}), 0, 20)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		var was, is []string
		for _, e := range editsOf(a, b) {
			if e.a != len(was) || e.b != len(is) {
				t.Fatalf("the line %q stands at %d and %d, want %d and %d", e.line, e.a, e.b, len(was), len(is))
			}
			if e.sign != '+' {
				was = append(was, e.line)
			}
			if e.sign != '-' {
				is = append(is, e.line)
			}
		}
		if !slices.Equal(was, a) || !slices.Equal(is, b) {
			t.Fatalf("from %q to %q: %q to %q", a, b, was, is)
		}
		if (unified(strings.Join(a, "\n"), strings.Join(b, "\n")) == nil) != slices.Equal(splitLines(strings.Join(a, "\n")), splitLines(strings.Join(b, "\n"))) {
			t.Fatal("equal texts differ, or others do not")
		}
	})
}
