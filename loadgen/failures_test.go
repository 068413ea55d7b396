package loadgen

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// The first failures are told whole, whatever their kind.
func TestFailuresAreToldWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		g := piped(t, Config{Targets: one, Rate: 10, Requests: 9, KeepFailures: 2}, func(c net.Conn) {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			switch n++; n {
			case 4:
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
			case 6, 7:
				fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			default:
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := g.Report()
		if len(r.Failures) != 2 {
			t.Fatalf("%d failures are told: %v", len(r.Failures), r.Failures)
		}
		if f := r.Failures[0]; f.Class != ShortBody || f.Host != "server:80" || f.ID == "" || f.Received != "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" || f.Error == "" {
			t.Errorf("%s", f)
		}
		if f := r.Failures[1]; f.Class != CodeOfProxy || f.Code != 503 || f.Received == "" {
			t.Errorf("%s", f)
		}
		if got := r.Total().Failures(); got[ShortBody] != 1 || got[CodeOfProxy] != 2 || len(got) != 2 {
			t.Errorf("%v", got)
		}
	})
}

// A connection that has been idle for too long is not used again.
func TestIdleConnectionsAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for timeout, want := range map[time.Duration]int{0: 1, 500 * time.Millisecond: 4, 2 * time.Second: 1} {
			connections := 0
			serve := answers(func(*http.Request) int { return 200 })
			g := piped(t, Config{Targets: one, Rate: 1, Requests: 4, KeepAlive: true, IdleTimeout: timeout}, func(c net.Conn) {
				connections++
				serve(c)
			})
			if err := g.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if all := g.Report().Total(); connections != want || all.Code(200) != 4 || all.Reconnects != 0 {
				t.Errorf("with a timeout of %s there were %d connections: %+v", timeout, connections, all)
			}
		}
	})
}
