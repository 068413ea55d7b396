package control

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
)

// superviseForParentTest is the program that TestHAProxyDiesWithItsParent kills.
func superviseForParentTest() {
	dir := os.Getenv("CONTROL_TEST_PARENT")
	s := &Supervisor{
		Dir: dir, MasterSocket: filepath.Join(dir, "master.sock"), DieWithParent: os.Getenv("CONTROL_TEST_ADOPT") == "",
	}
	s.Allow()
	fmt.Println(s.Run(context.Background()))
}

func supervisedBy(t *testing.T, r *rig, env ...string) *exec.Cmd {
	t.Helper()
	files, err := r.render(r.config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPublisher(r.dir, -1).Publish(files); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), append(env, "CONTROL_TEST_PARENT="+r.dir)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	m := NewMaster(filepath.Join(r.dir, "master.sock"))
	r.until("HAProxy runs", func() bool { p, err := m.Proc(t.Context()); return err == nil && len(p.Workers) == 1 })
	return cmd
}

func TestHAProxyDiesWithItsParent(t *testing.T) {
	r := newRig(t)
	cmd := supervisedBy(t, r)
	// The signal must survive that the master replaces its program.
	if _, err := NewMaster(filepath.Join(r.dir, "master.sock")).Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	kill9(t, cmd.Process.Pid)
	r.until("no process is left", func() bool { return len(haproxyProcesses(r.dir)) == 0 })
}

func TestLivingHAProxyIsAdopted(t *testing.T) {
	r := newRig(t)
	cmd := supervisedBy(t, r, "CONTROL_TEST_ADOPT=1")
	before := r.proc()
	kill9(t, cmd.Process.Pid)
	cmd.Wait()

	s := &Supervisor{Dir: r.dir, MasterSocket: filepath.Join(r.dir, "master.sock"), Log: testLog(t), DieWithParent: true}
	s.Allow()
	stop := r.background(s.Run)
	r.until("adopted", func() bool { return s.adopted.Load() == 1 })
	if after := r.proc(); after.Master != before.Master {
		t.Errorf("master %d became %d", before.Master, after.Master)
	}
	// An adopted one that dies is replaced.
	kill9(t, before.Master)
	m := NewMaster(filepath.Join(r.dir, "master.sock"))
	r.until("a new master", func() bool { p, err := m.Proc(t.Context()); return err == nil && p.Master != before.Master })
	stop()
	if left := haproxyProcesses(r.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSupervisorReadsAlertsAndBacksOff(t *testing.T) {
	r := newRig(t)
	if err := os.WriteFile(filepath.Join(r.dir, configName), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := r.supervise()
	s.Allow()
	r.until("two deaths", func() bool { return s.deaths.Load() >= 2 })
	if s.starts.Load() > 8 {
		t.Errorf("%d starts without a pause", s.starts.Load())
	}
}

func TestSeverityOfHAProxysLines(t *testing.T) {
	for line, want := range map[string]logrus.Level{
		"[ALERT]    (7) : backend 'shop:0' has no server available!":                                                 logrus.WarnLevel,
		"[ALERT]    (7) : Current worker (9) exited with code 143 (Terminated)":                                      logrus.DebugLevel,
		"[ALERT]    (7) : Current worker (9) exited with code 139 (Segmentation fault)":                              logrus.ErrorLevel,
		"[ALERT]    (7) : Starting frontend http: cannot bind socket (Address already in use) [0.0.0.0:80]":          logrus.ErrorLevel,
		"[WARNING]  (7) : Server shop:0/s1 is UP, changed from CLI. 1 active and 0 backup servers online.":           logrus.DebugLevel,
		"[WARNING]  (7) : CLI : Server shop:0/s1 is UP/READY (leaving forced maintenance).":                          logrus.DebugLevel,
		"[WARNING]  (7) : Server shop:0/s1 is DOWN, reason: Layer4 connection problem, info: \"Connection refused\"": logrus.WarnLevel,
		"[WARNING]  (7) : CLI : Server shop:0/s1 is UP, reason: Layer7 check passed, code: 200.":                     logrus.InfoLevel,
		"[WARNING]  (7) : Proxy http stopped (cumulated conns: FE: 0, BE: 0).":                                       logrus.DebugLevel,
		"[WARNING]  (7) : config : missing timeouts for backend 'x'.":                                                logrus.WarnLevel,
		"[NOTICE]   (7) : New worker (9) forked":                                                                     logrus.DebugLevel,
	} {
		if got := severity(line); got != want {
			t.Errorf("%q is logged at %s, want %s", line, got, want)
		}
	}
}
