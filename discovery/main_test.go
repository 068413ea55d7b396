package discovery

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/goleak"

	"signalbox"
)

func TestMain(m *testing.M) {
	if os.Getenv("DISCOVERY_TEST_DIE") != "" {
		dieWhileStoring()
		return
	}
	goleak.VerifyTestMain(m)
}

// apps returns the state of n apps with tasks tasks each.
func apps(n, tasks int) []*signalbox.Service {
	out := make([]*signalbox.Service, 0, n)
	for i := range n {
		out = append(out, app(fmt.Sprintf("/app-%04d", i), tasks))
	}
	return out
}

func app(id string, tasks int) *signalbox.Service {
	s := &signalbox.Service{
		ID: signalbox.NewServiceID(id, 0), Source: "test", App: id, Mode: signalbox.HTTP,
		Routes: []signalbox.Route{{Host: id[1:] + ".local", Path: "/"}},
	}
	for i := range tasks {
		s.Endpoints = append(s.Endpoints, signalbox.Endpoint{
			Task: fmt.Sprintf("%s.task-%03d", id[1:], i), State: signalbox.Up,
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(31000+i)),
		})
	}
	return s
}
