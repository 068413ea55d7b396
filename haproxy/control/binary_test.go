package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckBinary(t *testing.T) {
	if err := CheckBinary(t.Context(), ""); err != nil {
		t.Errorf("the haproxy of this machine: %v", err)
	}
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, []byte("#!/bin/sh\necho hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for binary, want := range map[string]string{odd: "not HAProxy's way", "/nowhere/haproxy": "no such file", "false": "exit status 1"} {
		if err := CheckBinary(t.Context(), binary); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", binary, err, want)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for line, good := range map[string]bool{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: …": true,
		"HAProxy version 3.2.0 2025/05/28":                                              true,
		"HAProxy version 2.5.14":                                                        false,
		"HAProxy version 1.8.0":                                                         false,
		"":                                                                              false,
	} {
		if err := checkVersion("haproxy", line); (err == nil) != good {
			t.Errorf("%q: %v", line, err)
		}
	}
}
