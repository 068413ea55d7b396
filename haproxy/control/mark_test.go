package control

import (
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// photographingDisk keeps what a kill -9 would leave once the configuration has been replaced: the files, and the moment.
type photographingDisk struct {
	disk
	dir string

	mu    sync.Mutex
	armed bool
	left  map[string][]byte
}

func (d *photographingDisk) SyncDir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed && d.left == nil {
		entries, err := os.ReadDir(d.dir)
		if err != nil {
			return err
		}
		now, err := os.ReadFile(filepath.Join(d.dir, configName))
		if err != nil {
			return err
		}
		files := map[string][]byte{}
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			if files[e.Name()], err = os.ReadFile(filepath.Join(d.dir, e.Name())); err != nil {
				return err
			}
		}
		if string(now) != string(d.before()) {
			d.left = files
		}
	}
	return d.disk.SyncDir(path)
}

// before returns the configuration that the last good set has.
func (d *photographingDisk) before() []byte {
	b, _ := os.ReadFile(filepath.Join(d.dir, generations[0], configName))
	return b
}

// A controller that is killed when the files of another configuration are in place, and not loaded yet, leaves them to whoever starts
// HAProxy next. The next controller does not take them for what the state says.
func TestFilesThatNobodyHasLoadedAreMarked(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	disk := &photographingDisk{disk: osDisk{}, dir: r.dir}
	s.Publisher = NewPublisher(r.dir, -1)
	s.Publisher.disk = disk
	_, stop := r.start(s)
	one := task(t, "one")
	open := r.config(app{name: "shop", tasks: addrs{one}})
	denied := r.config(app{name: "shop", tasks: addrs{one}, bad: "http-request return status 418"})
	r.apply(open)
	began := time.Now()
	r.answers("shop.local", "one")
	r.until("the last good files are kept", func() bool { return len(disk.before()) > 0 })
	disk.mu.Lock()
	disk.armed = true
	disk.mu.Unlock()
	r.apply(denied)
	stop()
	disk.mu.Lock()
	left := disk.left
	disk.mu.Unlock()
	if left == nil {
		t.Fatal("the files of the second configuration were never in place")
	}

	// Killed at that moment. HAProxy's start is known to the second: it is clearly younger than the first configuration.
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, there := left[e.Name()]; e.Type().IsRegular() && !there {
			if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, data := range left {
		if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	r.until("seconds have passed", func() bool { return time.Since(began) > 3*time.Second })
	before := r.proc()
	if err := syscall.Kill(before.Master, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until("HAProxy is started with what is in place", func() bool {
		code, _ := r.get("shop.local")
		p, err := NewMaster(s.MasterSocket).Proc(t.Context())
		return code == http.StatusTeapot && err == nil && p.Master != before.Master
	})

	s.Publisher = NewPublisher(r.dir, -1)
	r.start(s)
	r.apply(open)
	if code, got := r.get("shop.local"); code != http.StatusOK || got != "one" {
		t.Errorf("what is wanted answers %d %q, want one: what was in place was taken for it", code, got)
	}
}
