// Package machine holds the state machine test: whatever happens to the controller and its HAProxy, in whatever order, HAProxy then does
// what a fresh HAProxy does that is started with a fresh rendering of what is wanted.
//
// The controller is wired as in production, from the watcher of the source on, with a source that the test speaks for. The judge, the
// shadow, is a second HAProxy that has no history: another one for each configuration. Backends and slots may be others there; what is
// compared is what they mean (view).
//
//	go test ./test/machine                                       the short form, as in make test: 4 times 10 sequences
//	go test ./test/machine -rapid.checks=100 -rapid.steps=40     a long one: 4 times 100
//
// A sequence that failed becomes a fixed test in regressions_test.go.
package machine

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"signalbox/haproxy/control"
)

// patience bounds each wait: ten times and more of what is usual, so that only what hangs exceeds it.
const patience = 15 * time.Second

// network is the second byte of the loopback addresses that are this process' own.
var network byte

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": "10", "rapid.steps": "8", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil { // before the command line is read, which may say otherwise
			panic(err)
		}
	}
	flag.Parse()
	if _, err := control.CheckBinary(context.Background(), "haproxy"); err != nil {
		fmt.Fprintf(os.Stderr, "these tests need HAProxy, apt-get install haproxy: %v\n", err)
		os.Exit(1)
	}
	held, err := holdNetwork()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	held.Close()
	os.Exit(code)
}

// holdNetwork takes a network of loopback addresses that no other run of these tests has.
func holdNetwork() (net.Listener, error) {
	for i := byte(16); i < 240; i++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.%d.0.1:1998", i)); err == nil {
			network = i
			return l, nil
		}
	}
	return nil, fmt.Errorf("no network of loopback addresses is free")
}
