package control

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
)

// While the frontends' totals stand still, the backends' connections are counted; a look that finds other totals does not say.
func TestWorkerStatsCountConnectionsWhenTotalsStandStill(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes a request and does not answer it
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r.running(r.config(app{name: "shop", tasks: []netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())}}))
	m := NewMaster(filepath.Join(r.dir, "master.sock"))
	look := func() uint64 {
		t.Helper()
		w, err := m.WorkerStats(t.Context())
		if err != nil || len(w) != 1 {
			t.Fatalf("%+v, %v; want one worker", w, err)
		}
		return w[0].InFlight
	}
	if n := look(); n != InFlightUnknown {
		t.Errorf("the first look says that %d are in flight, want unknown", n)
	}
	r.until("nothing is in flight", func() bool { return look() == 0 })

	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(r.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: shop.local\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r.until("other totals are seen", func() bool { return look() == InFlightUnknown })
	r.until("one is in flight", func() bool { return look() == 1 })
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := served.Close(); err != nil {
		t.Fatal(err)
	}
	r.until("nothing is in flight any more", func() bool { return look() == 0 })
}

func TestSumCurrent(t *testing.T) {
	head := "# pxname,svname,qcur,qmax,scur,smax,desc,\n"
	for name, c := range map[string]struct {
		text string
		want uint64
		ok   bool
	}{
		"two backends":  {head + "a,BACKEND,0,0,3,9,\"x,y\",\nb,BACKEND,0,0,4,9,,\n\n", 7, true},
		"none":          {head, 0, true},
		"no such field": {"# pxname,svname,\na,BACKEND,\n", 0, false},
		"no names":      {"a,BACKEND,0,0,3,\n", 0, false},
		"cut":           {head + "a,BACKEND,0\n", 0, false},
		"no number":     {head + "a,BACKEND,0,0,,9,,\n", 0, false},
		"empty":         {"", 0, false},
	} {
		if got, err := sumCurrent(c.text); got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %d, %v; want %d, success %v", name, got, err, c.want, c.ok)
		}
	}
}
