package main

import (
	"io"
	"os"
	"testing"
	"time"
)

// TestMain lets the test's own program be the receiver that the benchmark starts.
func TestMain(m *testing.M) {
	receiveIfAsked()
	os.Exit(m.Run())
}

// A small run: everybody takes what is sent, and nothing is lost.
func TestSocketBench(t *testing.T) {
	r, err := socketBench{rate: 2000, span: 400 * time.Millisecond, rounds: 1, progress: io.Discard}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Steady) != 3 || r.Steady[1].Lost+r.Steady[2].Lost+r.Lost != 0 || r.Unlogged != 0 || r.Logged == 0 || r.Saturated.Median == 0 || r.Logging.Median == 0 {
		t.Errorf("%+v", r)
	}
}
