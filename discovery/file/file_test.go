package file

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"signalbox"
	"signalbox/discovery"
)

var update = flag.Bool("update", false, "rewrite the goldens")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The name servers of the goldens, at the time of "before" and of "file".
var (
	namesBefore = map[string]string{"gone.example.com": "10.9.0.1", "moved.example.com": "10.9.0.2"}
	names       = map[string]string{"db1.example.com": "10.9.0.8", "moved.example.com": "10.9.0.3", "own.example.com": "10.0.0.7"}
)

// A golden is an archive of "file" and "want". It may have "before": the file as it was, whose services the case starts from.
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	own := netip.MustParseAddrPort("10.0.0.7:80")
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			table := &signalbox.Table{}
			want := 0
			for i, part := range ar.Files {
				hosts := names
				switch part.Name {
				case "want":
					want = i
					continue
				case "before":
					hosts = namesBefore
				}
				entries, err := parse(part.Data)
				if err != nil {
					t.Fatal(err)
				}
				services, problems := convert(entries, surroundings{
					source: "static", before: table.Services,
					addresses: discovery.Addresses{Loopback: true, Forbidden: func(a netip.AddrPort) bool { return a == own || a.Port() == 9901 }},
					resolve: func(host string) (netip.Addr, bool) {
						if a, err := netip.ParseAddr(host); err == nil {
							return a, true
						}
						a, err := netip.ParseAddr(hosts[host])
						return a, err == nil
					},
				})
				table = &signalbox.Table{Services: services, Problems: problems}
			}
			got := text(table)
			if *update {
				ar.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(ar.Files[want].Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// text is the table's own text with what it does not show.
func text(t *signalbox.Table) string {
	var b strings.Builder
	if _, err := t.WriteTo(&b); err != nil {
		return err.Error()
	}
	for _, s := range t.Services {
		if s.Announced != 0 {
			fmt.Fprintf(&b, "announced %s %d\n", s.ID, s.Announced)
		}
		if c := s.Check; c != (signalbox.Check{}) {
			fmt.Fprintf(&b, "check %s %q %s every %s within %s fall %d tls %t\n", s.ID, c.Kind, c.Path, c.Interval, c.Timeout, c.Fall, c.TLS)
		}
		for _, e := range s.Endpoints {
			if e.CheckPort != 0 {
				fmt.Fprintf(&b, "probe %s %s at port %d\n", s.ID, e.Task, e.CheckPort)
			}
		}
	}
	for _, p := range t.AllProblems() {
		fmt.Fprintf(&b, "%s %s\n", p.Severity, p)
	}
	return b.String()
}

func TestFilesThatAreNone(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"empty":         {"", "empty"},
		"blank":         {" \n\n", "empty"},
		"comments":      {"# soon\n", "empty"},
		"no YAML":       {"services:\n  - name: [\n", "line "},
		"a bad indent":  {"services:\n - name: /a\n   labels:\n  x: y\n", "line "},
		"text":          {"hello", "line 1: want a list"},
		"another key":   {"services: []\nrest: 1\n", "line 1: want one key"},
		"no list":       {"services:\n  name: /a\n", "line 2: want a list"},
		"two documents": {"services: []\n---\nservices: []\n", "more than one"},
		"cut JSON":      {`{"services":[{"name":"/a",`, "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			if entries, err := parse([]byte(c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v; want an error with %q", entries, err, c.want)
			}
		})
	}
}

// Whatever a file holds, reading it ends, and what comes out has addresses that may be used.
func FuzzFile(f *testing.F) {
	goldens, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, g := range goldens {
		ar, err := txtar.ParseFile(g)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[len(ar.Files)-2].Data)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, err := parse(content)
		if err != nil {
			return
		}
		services, _ := convert(entries, surroundings{
			resolve: func(host string) (netip.Addr, bool) { a, err := netip.ParseAddr(host); return a, err == nil },
		})
		for _, s := range services {
			for _, e := range s.Endpoints {
				if _, refused := (discovery.Addresses{}).Check(e.Addr.Addr(), int(e.Addr.Port())); refused != "" {
					t.Errorf("%s: %s", e.Addr, refused)
				}
			}
		}
	})
}

// The example in the docs is read without a word.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/static.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("there is no example")
	}
	entries, err := parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	services, problems := convert(entries, surroundings{resolve: func(string) (netip.Addr, bool) { return netip.MustParseAddr("10.0.0.1"), true }})
	if len(services) != 2 || len(problems) != 0 {
		t.Errorf("%d services, %v", len(services), problems)
	}
	for _, s := range services {
		if len(s.Endpoints) != 2 || len(s.Problems) != 0 || s.Listen == 0 && len(s.Routes) == 0 {
			t.Errorf("%s: %v, problems %v", s.ID, s.Endpoints, s.Problems)
		}
	}
}
