package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A small run: the program and halog count the same of every service.
func TestReplayBench(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "signalbox")
	build := exec.Command("go", "build", "-o", binary, "../cmd/signalbox")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	r, err := replayBench{lines: 20_000, rounds: 2, binary: binary, progress: io.Discard}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Services != 50 || r.Ratio.Median <= 0 || r.Bytes/20_000 < 300 || r.Bytes/20_000 > 330 {
		t.Errorf("%+v", r)
	}
}
