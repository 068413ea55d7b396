package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/discovery"
)

// followedFile is a watcher of one file.
type followedFile struct {
	t       *testing.T
	path    string
	source  *Source
	watcher *discovery.Watcher
	out     chan *discovery.Change
	table   *signalbox.Table
}

func followFile(t *testing.T, content, state string) *followedFile {
	t.Helper()
	f := &followedFile{t: t, path: filepath.Join(t.TempDir(), "static.yaml"), out: make(chan *discovery.Change)}
	if content != "" {
		f.write(content)
	}
	src, err := New(Config{Path: f.path, Every: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f.source = src
	f.watcher = discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{src}, StateDir: state, FirstWait: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.watcher.Run(ctx, f.out); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

func (f *followedFile) write(content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// expect waits until the apps of the table, with their numbers of tasks, and the codes of its problems are as wanted and the status
// says detail.
func (f *followedFile) expect(want, detail string, codes ...string) {
	f.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		var got []string
		if f.table != nil {
			for _, s := range f.table.Services {
				got = append(got, fmt.Sprintf("%s=%d", s.App, len(s.Endpoints)))
			}
		}
		var found []string
		for _, p := range f.table.AllProblems() {
			found = append(found, p.Code)
		}
		st := f.watcher.Status()[0]
		said := st.Detail + " " + st.Quarantined
		if strings.Join(got, " ") == want && strings.Contains(said, detail) && slices.Equal(slices.Compact(found), codes) {
			return
		}
		select {
		case c := <-f.out:
			f.table = c.Table
		case <-time.After(2 * time.Millisecond):
		case <-deadline:
			f.t.Fatalf("the table has %v with problems %v, and the source says %q; want %q, %v and %q", got, found, said, want, codes, detail)
		}
	}
}

func service(name string, addresses ...string) string {
	return fmt.Sprintf("  - {name: %s, labels: {signalbox.host: %s.local}, addresses: [%s]}\n", name, name, strings.Join(addresses, ", "))
}

func TestSourceFollowsItsFile(t *testing.T) {
	t.Parallel()
	one, two := service("a", "10.0.0.1:80"), service("b", "10.0.0.2:80", "10.0.0.3:80")
	f := followFile(t, "services:\n"+one, "")
	f.expect("/a=1", "following "+f.path)
	before := f.table.Services[0]
	f.write("services:\n" + one + two)
	f.expect("/a=1 /b=2", "following")
	if r, ok := f.source.Readings("/b"); !ok || len(r) != 1 || r[0].Label != "signalbox.host" || r[0].Value != "b.local" {
		t.Errorf("readings of /b: %v, %t", r, ok)
	}
	if _, ok := f.source.Readings("/c"); ok {
		t.Error("the labels of a service that is not there were read")
	}
	if f.table.Services[0] != before {
		t.Error("a service that did not change has a new pointer")
	}
	f.write("services:\n" + one + "  - {name: [\n")
	f.expect("/a=1 /b=2", "line ", "SB310") // broken: what was good stays, and the line is said
	f.write("")
	f.expect("/a=1 /b=2", "it is empty", "SB310")
	f.write("services:\n" + two)
	f.expect("/b=2", "following") // what the file no longer has is gone, and nothing about that is suspicious
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.expect("/b=2", "no such file", "SB310")
	f.write("services:\n" + two)
	f.expect("/b=2", "following")
	f.write("services: []\n")
	f.expect("", "following")
}

func TestSourceStartsWithWhatWasStored(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	t.Run("first", func(t *testing.T) {
		f := followFile(t, "services:\n"+service("a", "10.0.0.1:80"), state)
		f.expect("/a=1", "following")
	})
	f := followFile(t, "", state)
	f.expect("/a=1", "no such file")
	f.write("services:\n  - name: a\n")
	f.expect("/a=1", "following", "SB311") // an entry that is wrong keeps what was stored
}

func TestSourceWaitsForItsFile(t *testing.T) {
	t.Parallel()
	f := followFile(t, "", "")
	f.expect("", "no such file")
	f.write("services:\n" + service("a", "10.0.0.1:80"))
	f.expect("/a=1", "following")
}

// A pipe in the file's place holds nothing up.
func TestSourceOpensNoPipe(t *testing.T) {
	t.Parallel()
	f := followFile(t, "services:\n"+service("a", "10.0.0.1:80"), "")
	f.expect("/a=1", "following")
	pipe := filepath.Join(filepath.Dir(f.path), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(pipe, f.path); err != nil {
		t.Fatal(err)
	}
	f.expect("/a=1", "no regular file", "SB310")
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.write("services: []\n")
	f.expect("", "following")
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{Path: "static.yaml"}); err == nil {
		t.Error("a path that depends on the working directory is taken")
	}
}
