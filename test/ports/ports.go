// Package ports gives tests ports for servers that can't pick one themselves, as HAProxy and Graphite.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// What is given lies below the ports from which the kernel takes the near end of a connection (32768 and up): one of those, free
// a moment ago, may be in use by any connection of this test when the server starts.
const first, last = 22000, 30999

var (
	mu   sync.Mutex
	next = first + rand.IntN(last-first+1)
)

// Free returns a port of 127.0.0.1 that nobody has just now, on TCP and on UDP, and that this process was not given before.
func Free(tb testing.TB) int {
	tb.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range last - first + 1 {
		port := next
		next++
		if next > last {
			next = first
		}
		if isFree(port) {
			return port
		}
	}
	tb.Fatalf("no port from %d to %d is free", first, last)
	return 0
}

// Address is Free with 127.0.0.1 before it.
func Address(tb testing.TB) string {
	tb.Helper()
	return address(Free(tb))
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func isFree(port int) bool {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", address(port))
	if err != nil {
		return false
	}
	return c.Close() == nil
}
