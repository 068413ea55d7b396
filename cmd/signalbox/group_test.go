package main

import (
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// A HAProxy that has changed to another user and group reaches the socket of the log, and may make connections to its own sockets beside
// it: by the group alone, in directories that are nobody else's.
func TestHAProxysGroupReachesItsSockets(t *testing.T) {
	t.Parallel()
	other, err := user.Current()
	if os.Getuid() == 0 && err == nil { // nobody else can become somebody else
		other, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(other.Gid)
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("", "sb") //nolint:usetesting // a socket path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil { //nolint:gosec // what lies above is not what is tried
		t.Fatal(err)
	}
	s := defaults()
	s.StateDir, s.Admin, s.HTTPBind = filepath.Join(base, "state"), []string{"unix:" + filepath.Join(base, "admin.sock")}, []string{"127.0.0.1:8000"}
	s.HAProxyUser, s.HAProxyGroup = other.Username, group.Name
	j, err := newJournal(io.Discard, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(&s, j, lifetime{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, try := range []struct{ right, path string }{{"-x", s.StateDir}, {"-x", s.haproxyDir()}, {"-w", c.options.LogSocket}} {
		cmd := exec.CommandContext(t.Context(), "/usr/bin/test", try.right, try.path) //nolint:gosec // the test's own
		if os.Getuid() == 0 {
			uid, _ := strconv.ParseUint(other.Uid, 10, 32)
			gid, _ := strconv.ParseUint(other.Gid, 10, 32)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
		if err := cmd.Run(); err != nil {
			info, _ := os.Stat(try.path)
			t.Errorf("test %s %s as %s: %v (%s)", try.right, try.path, other.Username, err, info.Mode())
		}
	}
}
