// Command mutants takes one safeguard at a time out of a copy of the tree, and tells which test notices. A safeguard that nothing notices
// may as well not be there.
//
//	go run ./test/mutants                 every mutant: minutes each
//	go run ./test/mutants -only fsync     those whose names match it
//
// It ends with 1 when a mutant survives, and with 2 when the text that it replaces is not there, once: then the list has to follow.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// fate is what became of a mutant.
type fate struct {
	mutant
	caughtBy string // the first test that failed, "the compiler", or "" for none
	took     time.Duration
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "a regular expression: mutants whose names match it; all without")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 2
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, dir); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 2
	}
	names, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(stderr, "error: -only:", err)
		return 2
	}
	var chosen []mutant
	for _, m := range mutants {
		if names.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	for _, m := range chosen { // all of them before any test runs: that takes long
		if _, _, err := m.texts(dir); err != nil {
			fmt.Fprintln(stderr, "error:", err)
			return 2
		}
	}
	var fates []fate
	for i, m := range chosen {
		fmt.Fprintf(stderr, "%d of %d: without %s\n", i+1, len(chosen), m.name)
		f, err := m.try(ctx, dir)
		if err != nil {
			fmt.Fprintln(stderr, "error:", err)
			return 2
		}
		fmt.Fprintf(stderr, "    %s, %.0f s\n", cmp.Or(f.caughtBy, "nothing notices"), f.took.Seconds())
		fates = append(fates, f)
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WITHOUT\tFILE\tCAUGHT BY\tSECONDS")
	survivors := 0
	for _, f := range fates {
		if f.caughtBy == "" {
			survivors++
		}
		by := cmp.Or(f.caughtBy, "nothing: it SURVIVES")
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f\n", f.name, f.file, by, f.took.Seconds())
	}
	if err := t.Flush(); err != nil {
		return 2
	}
	fmt.Fprintf(stdout, "%d mutants, %d survive\n", len(fates), survivors)
	if survivors > 0 {
		return 1
	}
	return 0
}

// copyTree copies what is committed, of the tree that this runs in.
func copyTree(ctx context.Context, dir string) error {
	archive := filepath.Join(dir, "tree.tar")
	if out, err := exec.CommandContext(ctx, "git", "archive", "-o", archive, "HEAD").CombinedOutput(); err != nil {
		return fmt.Errorf("copying the tree: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the tree: %w: %s", err, out)
	}
	return os.Remove(archive)
}

// texts returns the file without the safeguard, and as it is.
func (m mutant) texts(dir string) (mutated, whole []byte, err error) {
	whole, err = os.ReadFile(filepath.Join(dir, m.file))
	if err != nil {
		return nil, nil, fmt.Errorf("without %s: %w", m.name, err)
	}
	if n := strings.Count(string(whole), m.old); n != 1 {
		return nil, nil, fmt.Errorf("without %s: the text to replace is there %d times in %s, want once:\n%s", m.name, n, m.file, m.old)
	}
	return []byte(strings.Replace(string(whole), m.old, m.replaced, 1)), whole, nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// try runs the tests without the safeguard, package by package, until one fails.
func (m mutant) try(ctx context.Context, dir string) (f fate, err error) {
	f.mutant = m
	mutated, whole, err := m.texts(dir)
	if err != nil {
		return f, err
	}
	path := filepath.Join(dir, m.file)
	if err := os.WriteFile(path, mutated, 0o600); err != nil {
		return f, err
	}
	began := time.Now()
	defer func() { f.took = time.Since(began) }()
	for _, pkg := range m.tests {
		args := []string{"test", "-count=1", "-failfast", "-timeout", "15m"}
		name, pattern, some := strings.Cut(pkg, " ")
		if some {
			args = append(args, "-run", pattern)
		}
		cmd := exec.CommandContext(ctx, "go", append(args, "./"+name)...)
		cmd.Dir = dir
		out, testErr := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		if testErr == nil {
			continue
		}
		all := failed.FindAllSubmatch(out, -1)
		switch {
		case len(all) > 0:
			f.caughtBy = name + " " + string(all[0][1])
		case strings.Contains(string(out), "[build failed]"):
			return f, fmt.Errorf("without %s the tree does not build, which shows nothing:\n%s", m.name, out)
		default:
			f.caughtBy = name + " (it hangs or ends)"
		}
		break
	}
	return f, os.WriteFile(path, whole, 0o600)
}
