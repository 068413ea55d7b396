package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd itself reads the unit, also one whose values need quoting.
func TestSystemdVerifiesTheUnit(t *testing.T) {
	clearEnvironment(t)
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("this test needs systemd-analyze: apt-get install systemd")
	}
	binary := filepath.Join(t.TempDir(), "a b%", "signalbox")
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"supervise": nil,
		"attach": {
			"--haproxy", "attach", "--haproxy-master-socket", "/run/ha proxy%/master\"'.sock", "--haproxy-dir", "/etc/ha proxy",
			"--state-dir", "/srv/state",
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, unit, stderr := invoke(t, append([]string{"init", "--binary", binary}, args...)...)
			if code != exitOK {
				t.Fatal(stderr)
			}
			path := filepath.Join(t.TempDir(), "signalbox.service")
			if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), path) {
				t.Errorf("systemd-analyze verify: %v\n%s\n%s", err, out, unit)
			}
			if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=yes", "--threshold=20", path).CombinedOutput(); err != nil {
				t.Errorf("systemd-analyze security finds more than 2.0 of exposure: %v\n%s", err, out)
			}
			if strings.Contains(unit, "MemoryDenyWriteExecute") {
				t.Error("the unit forbids what HAProxy's regular expressions need")
			}
			// Go raises its limit of file descriptors as it starts, and gives sockets to groups: the kernel ends what the filter does not let through.
			if allowed := systemCalls(t, unit); !allowed["prlimit64"] || !allowed["setrlimit"] || !allowed["chown"] || !allowed["fchownat"] {
				t.Errorf("the unit forbids a call that the program makes:\n%s", unit)
			}
			if !strings.Contains(unit, "LimitNOFILE=524288\n") {
				t.Error("the unit leaves HAProxy's limit of connections at what 1,024 descriptors allow")
			}
		})
	}
}

// systemCalls returns the system calls that a unit's filters let through, as systemd reads them: the first line begins an allow list.
func systemCalls(t *testing.T, unit string) map[string]bool {
	t.Helper()
	allowed := map[string]bool{}
	var add func(name string, allow bool)
	add = func(name string, allow bool) {
		if !strings.HasPrefix(name, "@") {
			allowed[name] = allow
			return
		}
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "--no-pager", "syscall-filter", name).Output()
		if err != nil {
			t.Fatalf("systemd-analyze syscall-filter %s: %v", name, err)
		}
		for line := range strings.Lines(string(out)) {
			if call := strings.TrimSpace(line); strings.HasPrefix(line, " ") && call != "" && !strings.HasPrefix(call, "#") {
				add(call, allow)
			}
		}
	}
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "SystemCallFilter="); ok {
			value, denied := strings.CutPrefix(value, "~")
			for name := range strings.FieldsSeq(value) {
				add(name, !denied)
			}
		}
	}
	return allowed
}

func TestInitWrite(t *testing.T) {
	clearEnvironment(t)
	to := filepath.Join(t.TempDir(), "signalbox.service")
	args := []string{"init", "--write", "--to", to, "--binary", "/usr/local/bin/signalbox"}
	code, stdout, stderr := invoke(t, args...)
	if code != exitOK || stdout != "" || !strings.Contains(stderr, "installed "+to) || !strings.Contains(stderr, "systemctl daemon-reload") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	_, printed, _ := invoke(t, "init", "--binary", "/usr/local/bin/signalbox")
	installed, err := os.ReadFile(to)
	if err != nil || string(installed) != printed {
		t.Errorf("what is installed is not what is printed: %v\n%s", err, installed)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, _, stderr := invoke(t, args...); !strings.Contains(stderr, "is up to date") {
		t.Errorf("again: %s", stderr)
	}
	if left, _ := os.ReadDir(filepath.Dir(to)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	for words, args := range map[string][]string{
		"installing /nowhere/x":      {"init", "--write", "--to", "/nowhere/x"},
		"is posted to Marathon":      {"init", "--write", "--type", "marathon"},
		"is not an absolute path":    {"init", "--binary", "signalbox"},
		"is not the name of a user":  {"init", "--user", "a b"},
		"attach needs":               {"init", "--haproxy", "attach"},
		"want one of: systemd, upst": {"init", "--type", "openrc"},
	} {
		if code, _, stderr := invoke(t, args...); code != exitUsage || !strings.Contains(stderr, words) {
			t.Errorf("%q: %d, want %q:\n%s", args, code, words, stderr)
		}
	}
}

// Secrets stand in files: what a service file holds is only their paths.
func TestInitKeepsVariables(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("SIGNALBOX_MARATHON_USER", "me")
	t.Setenv("SIGNALBOX_MARATHON_PASSWORD_FILE", "/etc/signalbox/password")
	code, stdout, stderr := invoke(t, "init", "--type", "marathon")
	var app struct{ Env map[string]string }
	if err := json.Unmarshal([]byte(stdout), &app); code != exitOK || err != nil {
		t.Fatalf("%d, %v: %s%s", code, err, stdout, stderr)
	}
	if app.Env["SIGNALBOX_MARATHON_PASSWORD_FILE"] != "/etc/signalbox/password" || app.Env["SIGNALBOX_MARATHON_USER"] != "me" {
		t.Errorf("env %v", app.Env)
	}
}
