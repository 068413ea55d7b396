package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signalbox/haproxy"
)

func TestTheDefaultsAreValid(t *testing.T) {
	s := defaults()
	if err := s.validate(); err != nil {
		t.Error(err)
	}
	for _, row := range settingTable {
		if text := row.value(&s).String(); text != "" {
			if err := row.value(&s).Set(text); err != nil {
				t.Errorf("--%s refuses its own default %q: %v", row.name, text, err)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	f := func(flag string, change func(*settings)) {
		t.Helper()
		s := defaults()
		change(&s)
		err := s.validate()
		if err == nil || !strings.HasPrefix(err.Error(), "--"+flag+": ") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("--%s: %v", flag, err)
		}
	}
	for _, u := range []string{
		"", "m1", "m1:8080", "ftp://m1", "http://", "http://m1?x=1", "http://m1#x", "http://me:hunter2@m1", "me:hunter2@m1:8080", "http://me:hunter2%@m1", "//m1",
	} {
		f("marathon", func(s *settings) { s.Marathon = []string{"http://ok:8080", u} })
	}
	f("marathon", func(s *settings) { s.Marathon = nil })
	f("marathon-user", func(s *settings) { s.MarathonUser = "me" })
	f("marathon-user", func(s *settings) { s.MarathonPasswordFile = "/p" })
	f("marathon-token-file", func(s *settings) { s.MarathonTokenFile, s.MarathonUser, s.MarathonPasswordFile = "/t", "me", "/p" })
	f("labels", func(s *settings) { s.Labels = []string{"traefik"} })
	f("labels", func(s *settings) { s.Labels = nil })
	for _, bind := range []string{"80", ":0", ":65536", ":http", "localhost:80", "1.2.3.4", "::1:80", ":+80"} {
		f("http-bind", func(s *settings) { s.HTTPBind = []string{bind} })
	}
	f("http-bind", func(s *settings) { s.HTTPBind = nil })
	f("service-bind", func(s *settings) { s.ServiceBind = "eth0" })
	f("haproxy", func(s *settings) { s.HAProxy = "attach" })
	f("haproxy-dir", func(s *settings) { s.HAProxyDir = "haproxy"; s.HAProxyMasterSocket = "/m" })
	f("admin", func(s *settings) { s.Admin = []string{"0.0.0.0:9901"} })
	f("admin", func(s *settings) { s.Admin = nil })
	ok := defaults()
	ok.Marathon = []string{"https://m1.example:8443/service/marathon", "http://[::1]:8080"}
	ok.HTTPBind = []string{":80", "*:81", "127.0.0.1:8000", "[::1]:82"}
	ok.Admin = []string{"unix:/run/a.sock", "[::1]:1"}
	if err := ok.validate(); err != nil {
		t.Error(err)
	}
}

func TestValues(t *testing.T) {
	var share float64
	var span time.Duration
	var n int
	var text string
	for _, bad := range []struct {
		set func(string) error
		in  []string
	}{
		{shareOf(&share).Set, []string{"", "x", "-0.1", "1.1", "101%", "NaN", "%"}},
		{durationOf(&span, time.Second, time.Hour).Set, []string{"", "5", "999ms", "61m", "-1s"}},
		{intOf(&n, 1, 10).Set, []string{"", "0", "11", "1.5", "x"}},
		{textOf(&text).Set, []string{"a\nb", "a\x00b"}},
		{oneOf(&text, "a", "b").Set, []string{"", "c", "A"}},
	} {
		for _, in := range bad.in {
			if bad.set(in) == nil {
				t.Errorf("%q is accepted", in)
			}
		}
	}
	if err := shareOf(&share).Set("20%"); err != nil || share != 0.2 {
		t.Errorf("20%% is %v, %v", share, err)
	}
	for in, want := range map[time.Duration]string{0: "0", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", 2 * time.Millisecond: "2ms", time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m", 100 * time.Hour: "100h"} {
		if got := shortDuration(in); got != want {
			t.Errorf("shortDuration(%d) = %s, want %s", in, got, want)
		}
	}
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(" with blanks \r\n")
	if s, err := readSecret(path); err != nil || s != " with blanks " {
		t.Errorf("%q, %v", s, err)
	}
	if s, err := readSecret(""); err != nil || s != "" {
		t.Errorf("no file: %q, %v", s, err)
	}
	for _, text := range []string{"", "\n", "hunter2\nhunter3\n"} {
		write(text)
		if s, err := readSecret(path); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %q, %v", text, s, err)
		}
	}
	if _, err := readSecret(path + "x"); err == nil {
		t.Error("a missing file is accepted")
	}
}

func TestDevDirectory(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", parent)
	dir, err := devDirectory()
	if err != nil || dir != filepath.Join(parent, "signalbox") {
		t.Fatalf("%s, %v", dir, err)
	}
	if again, err := devDirectory(); err != nil || again != dir {
		t.Errorf("again: %s, %v", again, err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := devDirectory(); err == nil {
		t.Error("a directory that others may write is accepted")
	}
}

func TestAWideRangeOfPortsIsRefused(t *testing.T) {
	ports := haproxy.PortRange{First: 10_000, Last: 14_999}
	if err := fits(ports, 20_000); err != nil {
		t.Errorf("%s within 20,000 descriptors: %v", ports, err)
	}
	if err := fits(ports, 10_000); err == nil || !strings.Contains(err.Error(), "10000-14999 has 5000 ports") {
		t.Errorf("%s within 10,000 descriptors: %v", ports, err)
	}
}
