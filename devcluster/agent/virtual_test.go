package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

func startVirtual(t *testing.T, cfg Config) (*Virtual, *words) {
	t.Helper()
	w := newWords()
	v, err := NewVirtual(cfg, w.report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v, w
}

// get asks a place and returns the status code, X-Task and the body.
func get(t *testing.T, addr string, port int) (code int, task, body string) {
	t.Helper()
	resp, err := client.Get("http://" + net.JoinHostPort(addr, strconv.Itoa(port)) + "/any")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("X-Task"), string(b)
}

func TestVirtualTasksAreToldApartByAddress(t *testing.T) {
	v, w := startVirtual(t, Config{})
	type place struct {
		addr  string
		ports []int
	}
	places := make(map[string]place)
	for _, id := range []string{"shop.1", "shop.2", "cart.1"} {
		addr, ports, err := v.Place(id, 2)
		if err != nil {
			t.Fatal(err)
		}
		places[id] = place{addr, ports}
		if code, _, _ := get(t, addr, ports[0]); code != http.StatusServiceUnavailable {
			t.Errorf("%s answers %d before its launch", id, code)
		}
		if err := v.Launch(Spec{ID: id, App: "/" + id[:4], Addr: addr, Ports: ports}); err != nil {
			t.Fatal(err)
		}
		w.until(t, id, Running)
		if diff := cmp.Diff([]State{Starting, Running}, w.states(id)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	}
	for id, p := range places {
		for _, port := range p.ports {
			code, task, body := get(t, p.addr, port)
			var said map[string]string
			if err := json.Unmarshal([]byte(body), &said); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"task": id, "app": "/" + id[:4], "addr": net.JoinHostPort(p.addr, strconv.Itoa(port))}
			if diff := cmp.Diff(want, said); diff != "" || code != 200 || task != id {
				t.Errorf("%d, X-Task %q, body (-want +got):\n%s", code, task, diff)
			}
		}
		if err := v.Probe(t.Context(), id, Probe{Kind: ProbeHTTP, Port: p.ports[0]}); err != nil {
			t.Error(err)
		}
	}
	v.Kill("shop.1", time.Minute)
	w.until(t, "shop.1", Killed)
	if code, _, _ := get(t, places["shop.1"].addr, places["shop.1"].ports[0]); code != http.StatusServiceUnavailable {
		t.Errorf("a dead task answers %d", code)
	}
	if v.Probe(t.Context(), "shop.1", Probe{}) == nil {
		t.Error("a dead task is alive")
	}
	if code, _, _ := get(t, places["shop.2"].addr, places["shop.2"].ports[0]); code != 200 {
		t.Errorf("its neighbour answers %d", code)
	}
}

func TestVirtualAgentCleansUp(t *testing.T) {
	more := filepath.Join(t.TempDir(), "more")
	if err := os.Mkdir(more, 0o755); err != nil {
		t.Fatal(err)
	}
	v, _ := startVirtual(t, Config{Dir: more, Cleanup: []string{more}})
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(more); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
}

func TestVirtualAgentCleansUpAfterKill9(t *testing.T) {
	base := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := exec.Command(self, "-test.run=^TestHelperRunsAVirtualAgent$")
	helper.Env = append(os.Environ(), "AGENT_TEST_VIRTUAL="+base)
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = helper.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Errorf("the helper says nothing: %v", err)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Error(err)
	}
	expectNothingLeft(t, base, nil)
}

func TestHelperRunsAVirtualAgent(*testing.T) {
	base := os.Getenv("AGENT_TEST_VIRTUAL")
	if base == "" {
		return
	}
	more := filepath.Join(base, "more")
	if err := os.Mkdir(more, 0o755); err != nil {
		panic(err)
	}
	if _, err := NewVirtual(Config{Dir: more, Cleanup: []string{more}}, func(Status) {}); err != nil {
		panic(err)
	}
	fmt.Println("up")
	time.Sleep(5 * time.Minute)
}

func TestVirtualTaskLingers(t *testing.T) {
	for name, c := range map[string]struct {
		linger, grace time.Duration
	}{
		"by the configuration": {20 * time.Millisecond, time.Hour},
		"by the grace":         {time.Hour, 20 * time.Millisecond},
		"until it is forced":   {time.Hour, time.Hour},
	} {
		v, w := startVirtual(t, Config{Linger: c.linger})
		addr, ports, err := v.Place("a", 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Launch(Spec{ID: "a"}); err != nil {
			t.Fatal(err)
		}
		v.Kill("a", c.grace)
		v.Kill("a", time.Hour)
		if c.linger == c.grace {
			if code, _, _ := get(t, addr, ports[0]); code != 200 {
				t.Errorf("a lingering task answers %d", code)
			}
			v.Kill("a", 0)
		}
		w.until(t, "a", Killed)
		if diff := cmp.Diff([]State{Starting, Running, Killed}, w.states("a")); diff != "" {
			t.Errorf("%s: states (-want +got):\n%s", name, diff)
		}
	}
}

func TestVirtualServerIsNotOnTheNetwork(t *testing.T) {
	v, _ := startVirtual(t, Config{})
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.IsLoopback() || ip.To4() == nil {
			continue
		}
		resp, err := client.Get(fmt.Sprintf("http://%s:%d/", ip, v.ports[0]))
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s answers %s", ip, resp.Status)
		}
	}
}

// oneConn is a listener that hands out one connection, which claims to have come to an address.
type oneConn struct {
	net.Listener
	conn net.Conn
	to   net.Addr
	cut  bool
}

func (o *oneConn) Accept() (net.Conn, error) {
	if o.conn == nil {
		return nil, net.ErrClosed
	}
	defer func() { o.conn = nil }()
	return o, nil
}
func (o *oneConn) LocalAddr() net.Addr              { return o.to }
func (o *oneConn) RemoteAddr() net.Addr             { return o.to }
func (o *oneConn) Close() error                     { o.cut = true; return nil }
func (*oneConn) Read([]byte) (int, error)           { return 0, io.EOF }
func (*oneConn) Write([]byte) (int, error)          { return 0, io.EOF }
func (*oneConn) SetDeadline(time.Time) error        { return nil }
func (*oneConn) SetReadDeadline(time.Time) error    { return nil }
func (*oneConn) SetWriteDeadline(t time.Time) error { return nil }

func TestConnectionsToOtherAddressesAreCut(t *testing.T) {
	for _, c := range []struct {
		to   net.IP
		want bool
	}{
		{net.IPv4(127, 1, 0, 1), true},
		{net.IPv4(127, 0, 0, 1), true},
		{net.IPv4(10, 0, 0, 1), false},
		{net.IPv4(128, 0, 0, 1), false},
	} {
		l := &oneConn{to: &net.TCPAddr{IP: c.to, Port: 80}}
		l.conn = l
		_, err := localOnly{l}.Accept()
		if (err == nil) != c.want || l.cut == c.want {
			t.Errorf("%s: accepted %v, cut %v", c.to, err == nil, l.cut)
		}
	}
}

func TestVirtualRefuses(t *testing.T) {
	v, _ := startVirtual(t, Config{})
	if err := v.Launch(Spec{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if v.Launch(Spec{ID: "a"}) == nil {
		t.Error("the same task was launched twice")
	}
	for _, n := range []int{-1, maxPorts + 1} {
		if _, _, err := v.Place("b", n); err == nil {
			t.Errorf("a task with %d ports was placed", n)
		}
	}
	v.Kill("nobody", 0)
	v.Close()
	if _, _, err := v.Place("b", 1); err == nil {
		t.Error("a closed agent placed a task")
	}
}

func TestManyVirtualTasksAreCheap(t *testing.T) {
	v, w := startVirtual(t, Config{})
	const n = 15_000
	for i := range n {
		id := "app.instance-" + strconv.Itoa(i)
		if _, _, err := v.Place(id, 1); err != nil {
			t.Fatal(err)
		}
		if err := v.Launch(Spec{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	last := "app.instance-" + strconv.Itoa(n-1)
	w.until(t, last, Running)
	addr, ports, _ := v.Place(last, 1)
	if _, task, _ := get(t, addr, ports[0]); task != last {
		t.Errorf("%s answers as %q", last, task)
	}
}

// Whatever is placed, launched and killed in whatever order: no two tasks share an address, and an address is rested before it
// is used again.
func TestPlacesAreDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &Virtual{
			tasks: make(map[string]*virtualTask), byAddr: make(map[uint32]*virtualTask), ports: []int{1},
			next:     rapid.SampledFrom([]uint32{firstOffset, lastOffset - 300}).Draw(t, "next"),
			reporter: &reporter{closed: true},
		}
		held := make(map[string]string)
		freed := make(map[string]bool)
		for i, op := range rapid.SliceOfN(rapid.IntRange(0, 2), 0, 200).Draw(t, "ops") {
			id := strconv.Itoa(rapid.IntRange(0, 30).Draw(t, "task"))
			switch op {
			case 0, 1:
				addr, _, err := v.Place(id, 1)
				if err != nil {
					t.Fatal(err)
				}
				ip := netip.MustParseAddr(addr)
				if b := ip.As4(); b[0] != 127 || b[1] == 0 || b[1] == 255 || b[3] == 0 || b[3] == 255 {
					t.Fatalf("step %d: %s", i, addr)
				}
				if before, ok := held[id]; ok && before != addr {
					t.Fatalf("step %d: %s moved from %s to %s", i, id, before, addr)
				}
				for other, a := range held {
					if a == addr && other != id {
						t.Fatalf("step %d: %s and %s share %s", i, id, other, addr)
					}
				}
				if freed[addr] {
					t.Fatalf("step %d: %s is used again already", i, addr)
				}
				held[id] = addr
				if op == 1 {
					_ = v.Launch(Spec{ID: id})
				}
			case 2:
				v.Kill(id, 0)
				if addr, ok := held[id]; ok {
					freed[addr] = true
					delete(held, id)
				}
			}
		}
	})
}

func BenchmarkVirtualLaunch(b *testing.B) {
	v, err := NewVirtual(Config{}, func(Status) {})
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := strconv.Itoa(i)
		if _, _, err := v.Place(id, 1); err != nil {
			b.Fatal(err)
		}
		if err := v.Launch(Spec{ID: id}); err != nil {
			b.Fatal(err)
		}
	}
}
