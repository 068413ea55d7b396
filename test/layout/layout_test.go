// Package layout holds the shape of the tree as tests: who may import whom, where things live, what every package and file owes
// its reader.
package layout

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// may says which of our packages each package may import; a package that is missing here may not exist.
// The same table, with what each room holds, stands in docs/architecture.md.
var may = map[string][]string{
	"signalbox":                     {},
	"signalbox/discovery":           {"signalbox"},
	"signalbox/discovery/labels":    {"signalbox"},
	"signalbox/discovery/consul":    {"signalbox", "signalbox/discovery", "signalbox/discovery/labels"},
	"signalbox/discovery/file":      {"signalbox", "signalbox/discovery", "signalbox/discovery/labels"},
	"signalbox/discovery/marathon":  {"signalbox", "signalbox/discovery", "signalbox/discovery/labels"},
	"signalbox/discovery/relay":     {"signalbox", "signalbox/discovery"},
	"signalbox/discovery/zookeeper": {"signalbox/discovery"},
	"signalbox/haproxy":             {"signalbox", "signalbox/templates"},
	"signalbox/haproxy/control":     {"signalbox", "signalbox/haproxy"},
	"signalbox/templates":           {},
	"signalbox/metrics":             {},
	"signalbox/metrics/hub":         {"signalbox/metrics"},
	"signalbox/metrics/sink":        {"signalbox/metrics"},
	"signalbox/metrics/statsd":      {},
	"signalbox/admin":               {"signalbox", "signalbox/metrics", "signalbox/templates"},
	"signalbox/devcluster":          {"signalbox/devcluster/agent"},
	"signalbox/devcluster/agent":    {},
	"signalbox/loadgen":             {},
	"signalbox/cmd/signalbox":       {"*"},
	"signalbox/bench":               {"*"},
	"signalbox/test/layout":         {},
	"signalbox/test/consulserver":   {"signalbox/test/ports", "signalbox/test/process"},
	"signalbox/test/docs":           {"*"},
	"signalbox/test/e2e":            {"*"},
	"signalbox/test/machine":        {"*"},
	"signalbox/test/mutants":        {},
	"signalbox/test/ports":          {},
	"signalbox/test/process":        {},
	"signalbox/test/routing":        {"*"},
	"signalbox/test/sinks":          {"*"},
	"signalbox/test/zookeeper":      {"signalbox/test/ports", "signalbox/test/process"},
}

// testsOnly are packages that tests of any package may import, to run against the real thing.
var testsOnly = []string{"signalbox/devcluster", "signalbox/devcluster/agent", "signalbox/loadgen", "signalbox/test/consulserver", "signalbox/test/ports", "signalbox/test/zookeeper"}

type pkg struct {
	ImportPath, Dir, Name, Doc         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func ours(path string) bool { return path == "signalbox" || strings.HasPrefix(path, "signalbox/") }

func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range packages(t) {
		allowed, known := may[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the import table: give it a room there and in docs/architecture.md", p.ImportPath)
			continue
		}
		if slices.Contains(allowed, "*") {
			continue
		}
		for _, imp := range p.Imports {
			if ours(imp) && !slices.Contains(allowed, imp) {
				t.Errorf("%s imports %s; it may import %v", p.ImportPath, imp, allowed)
			}
		}
		for _, imp := range append(slices.Clone(p.TestImports), p.XTestImports...) {
			if ours(imp) && imp != p.ImportPath && !slices.Contains(allowed, imp) && !slices.Contains(testsOnly, imp) {
				t.Errorf("a test of %s imports %s; it may import %v and %v", p.ImportPath, imp, allowed, testsOnly)
			}
		}
	}
}

// docs/architecture.md has the same table for its readers. What only tests or measures has no room there.
func TestArchitectureShowsTheTable(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	long := func(name string) string {
		if name == "root" || name == "signalbox" {
			return "signalbox"
		}
		return "signalbox/" + name
	}
	shown := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `([a-z/]+)`(?: \\(root\\))? \\|.*\\| ([a-z/, ]+) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(content), -1) {
		room, imports := long(m[1]), []string{}
		switch m[2] {
		case "nothing":
		case "all":
			imports = append(imports, "*")
		default:
			for name := range strings.SplitSeq(m[2], ", ") {
				imports = append(imports, long(name))
			}
		}
		shown[room] = true
		if allowed, ok := may[room]; !ok || !slices.Equal(slices.Sorted(slices.Values(allowed)), slices.Sorted(slices.Values(imports))) {
			t.Errorf("docs/architecture.md: %s imports %v, in the test it is %v", room, imports, allowed)
		}
	}
	for room := range may {
		if !shown[room] && room != "signalbox/bench" && !strings.HasPrefix(room, "signalbox/test/") {
			t.Errorf("docs/architecture.md has no row for %s", room)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	banned := regexp.MustCompile(`^(util|utils|common|types|helpers|models)$`)
	for _, p := range packages(t) {
		if p.Doc == "" && !strings.HasPrefix(p.ImportPath, "signalbox/test/") {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if banned.MatchString(p.Name) {
			t.Errorf("%s: the name %q says nothing", p.ImportPath, p.Name)
		}
	}
}

// top is what may stand at the top of the tree.
var top = []string{
	".ci", ".git", ".gitignore", ".golangci.yml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
	"admin", "bench", "bin", "cmd", "devcluster", "discovery", "docs", "go.mod", "go.sum", "haproxy", "loadgen", "metrics",
	"task-data", "templates", "test",
}

func TestTopOfTheTree(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(top, e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
			t.Errorf("%s has no place at the top of the tree", e.Name())
		}
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "docs/architecture.md", "docs/quickstart.md", "docs/configuration.md", "docs/labels.md", "docs/metrics.md", "docs/problems.md", "docs/routing.md", "docs/ways-in.md", "docs/policies.md", "docs/decisions"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s is missing", name)
		}
	}
}

// files visits every text file of the tree that is not built or fetched.
func files(t *testing.T, visit func(path string, content []byte)) {
	t.Helper()
	skip := []string{".git", "bin", "dist", "node_modules"}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skip, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if d.Name() == ".git" { // of a work tree beside the repository
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.IndexByte(content, 0) < 0 {
			rel, _ := filepath.Rel(root, path)
			visit(rel, content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// long are the files of more than 500 lines, or of 600 with tests, each with its reason.
var long = map[string]string{}

func TestFilesAreShort(t *testing.T) {
	files(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		most := 500
		if strings.HasSuffix(path, "_test.go") {
			most = 600
		}
		if n := bytes.Count(content, []byte("\n")); n > most && long[path] == "" {
			t.Errorf("%s has %d lines: split it, or give the reason in this test", path, n)
		}
	})
}

func TestChangelogLinesAreTyped(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	typed := regexp.MustCompile(`^- \[(feature|change|fix|security)\] `)
	lines := 0
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "- ") {
			lines++
			if !typed.MatchString(line) {
				t.Errorf("CHANGELOG.md: %q has no type", strings.TrimSpace(line))
			}
		}
	}
	if lines == 0 {
		t.Error("CHANGELOG.md has no lines")
	}
}

func TestDecisionsAreNumbered(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "docs", "decisions"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`)
	seen := map[string]string{}
	for _, e := range entries {
		m := name.FindStringSubmatch(e.Name())
		if m == nil {
			t.Errorf("docs/decisions/%s: name it 0001-what-was-decided.md", e.Name())
			continue
		}
		if other, ok := seen[m[1]]; ok {
			t.Errorf("docs/decisions: %s and %s share a number", other, e.Name())
		}
		seen[m[1]] = e.Name()
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	links := 0
	files(t, func(path string, content []byte) {
		if filepath.Ext(path) != ".md" {
			return
		}
		for _, m := range link.FindAllSubmatch(content, -1) {
			target := string(m[1])
			if strings.Contains(target, "://") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, target)
			}
		}
	})
	if links == 0 {
		t.Error("no document links to another")
	}
}

func TestMakeHelpIsShort(t *testing.T) {
	out, err := exec.Command("make", "-s", "-C", root, "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out, []byte("\n")); n == 0 || n > 12 {
		t.Errorf("make help lists %d targets, want 1 to 12:\n%s", n, out)
	}
}
