package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckBinary(t *testing.T) {
	if _, err := CheckBinary(t.Context(), ""); err != nil {
		t.Errorf("the haproxy of this machine: %v", err)
	}
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, []byte("#!/bin/sh\necho hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for binary, want := range map[string]string{odd: "not HAProxy's way", "/nowhere/haproxy": "no such file", "false": "exit status 1"} {
		if _, err := CheckBinary(t.Context(), binary); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", binary, err, want)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for line, want := range map[string]struct{ good, rings, adds bool }{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: …": {true, true, true},
		"HAProxy version 3.2.0 2025/05/28":                                              {true, true, true},
		"HAProxy version 2.6.8 2023/01/24":                                              {true, true, false},
		"HAProxy version 3.2.5":                                                         {true, true, true},
		"HAProxy version 3.2.6":                                                         {true, true, false},
		"HAProxy version 3.4.0 2026/06/03":                                              {true, false, true},
		"HAProxy version 3.5-dev5":                                                      {true, false, false},
		"HAProxy version 3.3.0 2025/11/26":                                              {true, false, false},
		"HAProxy version 3.4-dev1 2026/01/02":                                           {true, false, false},
		"HAProxy version 4.0.0":                                                         {true, false, true},
		"HAProxy version 2.5.14":                                                        {false, true, false},
		"HAProxy version 1.8.0":                                                         {false, true, false},
		"":                                                                              {false, true, false},
	} {
		v, err := checkVersion("haproxy", line)
		if (err == nil) != want.good || v.SendsRings() != want.rings || v.AddsServers() != want.adds {
			t.Errorf("%q: %v, %v", line, v, err)
		}
	}
}
