// Package routing holds the coverage matrix: what Marathon says goes in, a real HAProxy answers real requests.
//
// A cell is a file of testdata, an archive of these parts:
//
//	apps.json   what Marathon answers to GET /v2/apps?embed=apps.tasks
//	pods.json   the same for /v2/pods/::status; it may be missing
//	versions.json  what it answers to GET /v2/apps/APP/versions/VERSION, by APP/versions/VERSION; it may be missing
//	static.yaml the file of --static; it may be missing
//	agents      addresses of names, "name address" a line; other names have none
//	flags       flags of run, one a line, with $ADDR for the load balancer's address; they may be missing
//	tasks       how tasks behave that do more than answer, one a line; it may be missing
//	routes      the table that follows, with its checks and problems; -update rewrites it
//	requests    one request a line, with what must come of it
//
// A cell may go on with then/apps.json, then/routes and then/requests: what Marathon says next, which has to come about without a reload.
//
// Every address of a task in it is led to a server of the test, which answers with what it saw.
package routing

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"signalbox/haproxy/control"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// patience bounds each wait: ten times and more of what is usual, so that only what hangs exceeds it.
const patience = 30 * time.Second

// program is the HAProxy that judges: SIGNALBOX_TEST_HAPROXY, or the one in PATH.
var program = "haproxy"

// sendsRings says that it sends its log by itself.
var sendsRings bool

// network is the second byte of the loopback addresses that are this process' own.
var network byte

func TestMain(m *testing.M) {
	flag.Parse()
	if p := os.Getenv("SIGNALBOX_TEST_HAPROXY"); p != "" {
		program = p
	}
	version, err := control.CheckBinary(context.Background(), program)
	if err != nil {
		fmt.Fprintf(os.Stderr, "these tests need HAProxy, apt-get install haproxy: %v\n", err)
		os.Exit(1)
	}
	sendsRings = version.SendsRings()
	held, err := holdNetwork()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	held.Close()
	os.Exit(code)
}

// holdNetwork takes a network of loopback addresses that no other run of these tests has, so that cells can use the ports that
// their files name.
func holdNetwork() (net.Listener, error) {
	for i := byte(16); i < 240; i++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.%d.0.1:1999", i)); err == nil {
			network = i
			return l, nil
		}
	}
	return nil, fmt.Errorf("no network of loopback addresses is free")
}

var cells atomic.Uint32

// addresses hands out the loopback addresses of one cell.
type addresses struct{ cell, last byte }

// newAddresses returns those of a new cell.
func newAddresses() *addresses { return &addresses{cell: byte(cells.Add(1))} }

// next returns one that was not handed out yet; the first is the load balancer's.
func (a *addresses) next() netip.Addr {
	a.last++
	return netip.AddrFrom4([4]byte{127, network, a.cell, a.last})
}
