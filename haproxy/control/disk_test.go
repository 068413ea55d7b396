package control

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// brokenDisk is a disk of which one operation fails while errno is set.
type brokenDisk struct {
	disk
	op    string
	errno atomic.Uintptr
}

func (d *brokenDisk) err(op, path string) error {
	if e := d.errno.Load(); e != 0 && op == d.op {
		return &fs.PathError{Op: op, Path: path, Err: syscall.Errno(e)}
	}
	return nil
}

func (d *brokenDisk) WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (string, error) {
	if err := d.err("write", dir); err != nil {
		return "", err
	}
	return d.disk.WriteTemp(dir, prefix, data, mode, gid)
}

func (d *brokenDisk) Rename(a, b string) error {
	if err := d.err("rename", b); err != nil {
		return err
	}
	return d.disk.Rename(a, b)
}

func (d *brokenDisk) Link(a, b string) error {
	if err := d.err("link", b); err != nil {
		return err
	}
	return d.disk.Link(a, b)
}

func (d *brokenDisk) Mkdir(p string, m fs.FileMode) error {
	if err := d.err("mkdir", p); err != nil {
		return err
	}
	return d.disk.Mkdir(p, m)
}

func (d *brokenDisk) SyncDir(p string) error {
	if err := d.err("sync", p); err != nil {
		return err
	}
	return d.disk.SyncDir(p)
}

// A disk that is full, read-only, not permitted any more, or broken holds up no route that needs no reload. Health says what is behind, with
// the reason, and everything catches up afterwards.
func TestDiskThatTakesNothing(t *testing.T) {
	for _, c := range []struct {
		op     string
		errno  syscall.Errno
		behind bool // what runs is in no file meanwhile
	}{
		{"write", syscall.ENOSPC, true},
		{"write", syscall.EACCES, true},
		{"rename", syscall.EROFS, true},
		{"sync", syscall.EIO, false},
		{"link", syscall.EPERM, false},
		{"mkdir", syscall.ENOSPC, false},
	} {
		t.Run(c.op+" "+c.errno.Error(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.supervise()
			s := r.settings()
			s.Supervisor = r.sup
			broken := &brokenDisk{disk: osDisk{}, op: c.op}
			s.Publisher = NewPublisher(r.dir, -1)
			s.Publisher.disk = broken
			_, stop := r.start(s)
			one, two := task(t, "one"), task(t, "two")
			r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
			before := r.proc()
			broken.errno.Store(uintptr(c.errno))
			r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
			r.answers("shop.local", "two")
			want := r.config(app{name: "new", tasks: addrs{one}}, app{name: "shop", tasks: addrs{two, one}})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := r.app.Apply(ctx, want); c.behind && (err == nil || !strings.Contains(err.Error(), c.errno.Error())) {
				t.Errorf("a reload whose files can't be written: %v", err)
			}
			r.until("health tells of it", func() bool {
				st := r.app.Status()
				return st.Level == "degraded" && strings.Contains(st.Detail, c.errno.Error())
			})
			r.apply(r.config(app{name: "shop", tasks: addrs{one, two}})) // and back: no reload is asked for, or that of the removal fails
			r.answers("shop.local", "one")
			broken.errno.Store(0)
			r.apply(want)
			r.answers("new.local", "one")
			r.until("health is good again", func() bool { return r.app.Status().Level == "ok" && r.app.Status().FileBehind == 0 })
			b, err := os.ReadFile(filepath.Join(r.dir, configName))
			if err != nil || !strings.Contains(string(b), "b_new") {
				t.Errorf("the file does not say what runs: %v", err)
			}
			stop()
			for _, dir := range []string{r.dir, filepath.Join(r.dir, generations[0])} {
				if set, err := NewPublisher(dir, -1).Load(); err != nil || !strings.Contains(string(dataOf(set, configName)), "b_new") {
					t.Errorf("%s does not hold what runs: %v", dir, err)
				}
			}
			if after := r.proc(); after.Master != before.Master {
				t.Errorf("processes %+v became %+v", before, after)
			}
		})
	}
}
