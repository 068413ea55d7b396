package control

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// withoutFsync runs something on a thread on which the kernel refuses every fsync, as a broken disk does. The thread ends with it.
func withoutFsync(t *testing.T, do func()) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the filter must not outlive this goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("the kernel takes no filter of system calls: %v", err)
	}
}

// unsynced is the real disk, of which files or directories can't be synced.
type unsynced struct {
	disk
	t           *testing.T
	files, dirs bool
}

func (d unsynced) WriteTemp(dir, prefix string, data []byte, mode fs.FileMode, gid int) (name string, err error) {
	if !d.files {
		return d.disk.WriteTemp(dir, prefix, data, mode, gid)
	}
	withoutFsync(d.t, func() { name, err = d.disk.WriteTemp(dir, prefix, data, mode, gid) })
	return name, err
}

func (d unsynced) SyncDir(path string) (err error) {
	if !d.dirs {
		return d.disk.SyncDir(path)
	}
	withoutFsync(d.t, func() { err = d.disk.SyncDir(path) })
	return err
}

// A file takes its name when the disk has it, and is published when the disk has its name: power may fail a moment later.
func TestPublishedIsWhatTheDiskHas(t *testing.T) {
	dir := t.TempDir()
	publish := func(v string, d disk) error {
		p := NewPublisher(dir, -1)
		p.disk = d
		_, err := p.Publish(set(v))
		return err
	}
	is := func(want string) {
		t.Helper()
		files, err := NewPublisher(dir, -1).Load()
		if err != nil {
			t.Fatal(err)
		}
		if got := version(t, files); got != want {
			t.Errorf("the files are of version %s, want %s", got, want)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 4 {
			t.Errorf("files %v, %v; want the three and their list", entries, err)
		}
	}
	if err := publish("1", osDisk{}); err != nil {
		t.Fatal(err)
	}
	is("1")
	if err := publish("2", unsynced{disk: osDisk{}, t: t, files: true}); !errors.Is(err, syscall.EIO) {
		t.Errorf("files that can't be synced: error %v, want EIO", err)
	}
	is("1")
	if err := publish("2", unsynced{disk: osDisk{}, t: t, dirs: true}); !errors.Is(err, syscall.EIO) {
		t.Errorf("a directory that can't be synced: error %v, want EIO", err)
	}
	if err := publish("3", osDisk{}); err != nil {
		t.Fatal(err)
	}
	is("3")
}
