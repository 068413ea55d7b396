package control

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestCheckFindsTheLine(t *testing.T) {
	r := newRig(t)
	c := &Checker{Dir: r.dir}
	files, _ := r.render(r.config(app{name: "good"}))
	v, err := c.Check(t.Context(), files, false)
	if err != nil || len(v.Rejections) > 0 {
		t.Fatalf("%+v, %v; want accepted", v, err)
	}
	files, _ = r.render(r.config(app{name: "bad", bad: "frobnicate yes"}, app{name: "good"}))
	v, err = c.Check(t.Context(), files, false)
	if err != nil || len(v.Rejections) != 1 {
		t.Fatalf("%+v, %v; want one rejection", v, err)
	}
	rej := v.Rejections[0]
	if d := cmp.Diff("/bad", appAt(files[0].Data, rej.Line)); rej.File != configName || d != "" {
		t.Errorf("rejection %+v (-want +got):\n%s", rej, d)
	}
	again, err := c.Check(t.Context(), files, false)
	if err != nil || !again.Known || len(again.Rejections) != 1 {
		t.Errorf("%+v, %v; want the known verdict", again, err)
	}
	if left, _ := os.ReadDir(r.dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Lua runs during a check. It must not be able to do what root can.
func TestCheckDoesNotRunAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the check runs as this user, and nothing is to be proven")
		return
	}
	r := newRig(t)
	lua := filepath.Join(r.dir, "x.lua")
	if err := os.WriteFile(lua, []byte(`
		local f = io.open("`+r.dir+`/proof", "w")
		if f then f:write("written") f:close() end
		local id = io.open("/proc/self/status"):read("a"):match("Uid:%s+(%d+)")
		error("uid " .. id .. " secret " .. tostring(os.getenv("CONTROL_TEST_SECRET")))`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTROL_TEST_SECRET", "hunter2")
	v, err := (&Checker{Dir: r.dir}).Check(t.Context(), []File{{configName, []byte("global\n  lua-load " + lua + "\n")}}, false)
	if err != nil || len(v.Rejections) == 0 {
		t.Fatalf("%+v, %v; want the Lua error", v, err)
	}
	if strings.Contains(v.Rejections[0].Message, "unknown keyword 'lua-load'") {
		t.Fatal("this test needs an HAProxy with Lua, as Debian's is")
	}
	if m := v.Rejections[0].Message; !strings.Contains(m, "uid 65534 secret nil") {
		t.Errorf("the Lua says %q, want uid 65534 and no environment", m)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "proof")); err == nil {
		t.Error("the Lua wrote a file")
	}
}

func TestHangingCheckIsKilled(t *testing.T) {
	r := newRig(t)
	fake := filepath.Join(r.dir, "fake")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho $$ > /dev/null\nsleep 300 &\nsleep 300\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chmod(r.dir, 0o755)
	began := time.Now()
	_, err := (&Checker{Dir: r.dir, Binary: fake, Timeout: 200 * time.Millisecond}).Check(t.Context(), []File{{configName, nil}}, true)
	if !errors.Is(err, ErrCheckTime) {
		t.Errorf("error %v, want ErrCheckTime", err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("it took %s", d)
	}
}

func TestCrashingCheckIsNoVerdict(t *testing.T) {
	r := newRig(t)
	fake := filepath.Join(r.dir, "fake")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nkill -SEGV $$\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chmod(r.dir, 0o755)
	if v, err := (&Checker{Dir: r.dir, Binary: fake}).Check(t.Context(), []File{{configName, nil}}, false); err == nil {
		t.Errorf("verdict %+v, want an error", v)
	}
}

func TestMaxConnFitsTheLimit(t *testing.T) {
	for _, c := range []struct {
		limit                    uint64
		want, listeners, checked int
		maxconn                  int
		warned                   bool
	}{
		{1 << 20, 0, 1, 0, 50_000, false},
		{20_000, 0, 1, 0, 9899, true},
		{20_000, 0, 1, CheckRoom(20_000), 9274, true},
		{1 << 20, 0, 1, CheckRoom(1 << 20), 50_000, false},
		{20_000, 5000, 10, 1000, 5000, false},
		{20_000, 0, 1, 19_900, 100, true},
		{1024, 0, 0, 0, 412, true},
	} {
		got, warning := MaxConn(c.limit, c.want, c.listeners, c.checked)
		if got != c.maxconn || (warning != "") != c.warned {
			t.Errorf("MaxConn(%d, %d, %d, %d) = %d, %q; want %d", c.limit, c.want, c.listeners, c.checked, got, warning, c.maxconn)
		}
	}
}

// A range of service ports takes a descriptor for each, and at most half of them.
func TestListenerRoomFitsTheLimit(t *testing.T) {
	for limit, want := range map[uint64]int{0: 0, reservedFDs: 0, 1024: 412, 20_000: 9900, 1 << 40: (1<<31 - reservedFDs) / 2} {
		if got := ListenerRoom(limit); got != want {
			t.Errorf("ListenerRoom(%d) = %d, want %d", limit, got, want)
		}
	}
}
