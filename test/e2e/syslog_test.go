package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/admin"
)

// rsyslog is a syslog server that writes what it takes by UDP and at a datagram socket to a file each.
type rsyslog struct {
	udp, socket     string
	byUDP, bySocket string
}

func startRsyslog(t *testing.T) *rsyslog {
	t.Helper()
	dir := shortDir(t)
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rsyslog{udp: l.LocalAddr().String(), socket: filepath.Join(dir, "dev-log"), byUDP: filepath.Join(dir, "udp"), bySocket: filepath.Join(dir, "socket")}
	_, port, _ := net.SplitHostPort(r.udp)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "rsyslog.conf")
	text := fmt.Sprintf(`global(maxMessageSize="16k" workDirectory=%q)
module(load="imudp")
module(load="imuxsock" SysSock.Use="off")
input(type="imudp" address="127.0.0.1" port=%q ruleset="udp")
input(type="imuxsock" Socket=%q ruleset="socket" RateLimit.Interval="0")
ruleset(name="udp") { action(type="omfile" file=%q) }
ruleset(name="socket") { action(type="omfile" file=%q) }
`, dir, port, r.socket, r.byUDP, r.bySocket)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("rsyslog is needed (apt-get install rsyslog): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(t, "rsyslog listens", func() bool {
		_, err := os.Stat(r.socket)
		return err == nil
	}, said.String)
	return r
}

// lines counts the lines of a file that have a text in them.
func lines(file, text string) (n int) {
	b, _ := os.ReadFile(file)
	for line := range bytes.Lines(b) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}

// A syslog server that has HAProxy's log keeps getting every line of it, by UDP and at a datagram socket, while signalbox counts them all; and
// whether it is there or not makes no difference to either.
func TestAccessLogGoesToASyslogServerToo(t *testing.T) {
	r := startRsyslog(t)
	for name, c := range map[string]struct{ address, file string }{"udp": {r.udp, r.byUDP}, "socket": {r.socket, r.bySocket}} {
		t.Run(name, func(t *testing.T) {
			marathon := cluster(t)
			put(t, marathon.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
			n := newNode(t, marathon.URL())
			n.run("--access-log-also", c.address)
			n.answers("shop.local", "/", 200)
			const sent = 300
			for i := range sent {
				if code, body := n.get("shop.local", fmt.Sprintf("/asked/%d", i)); code != 200 {
					t.Fatalf("%d %s", code, body)
				}
			}
			eventually(t, "the syslog server has every line", func() bool { return lines(c.file, "/asked/") == sent },
				func() string { return fmt.Sprintf("%d of %d", lines(c.file, "/asked/"), sent) })
			eventually(t, "all of it is counted", func() bool { return n.health().Log.Counted >= sent+1 },
				func() string { return fmt.Sprintf("%+v", n.health().Log) })
			time.Sleep(2500 * time.Millisecond) // three looks at HAProxy's own counters, after which a loss would show
			if h := n.health().Log; h.Lost != 0 || h.Bad != 0 {
				t.Errorf("%d lost, %d unreadable", h.Lost, h.Bad)
			}
			// What the syslog server has written reads back as the same requests.
			out, err := exec.Command(binary, "replay", "-o", "json", c.file).Output()
			if err != nil || !strings.Contains(string(out), `"/shop:0"`) {
				t.Errorf("reading it back: %v\n%s", err, out)
			}
		})
	}
}

// Nobody listens at the second target: requests and counting go on.
func TestSyslogServerIsAway(t *testing.T) {
	marathon := cluster(t)
	put(t, marathon.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	n := newNode(t, marathon.URL())
	n.run("--access-log-also", filepath.Join(n.dir, "nobody"))
	n.answers("shop.local", "/", 200)
	before := n.health().Log.Counted
	for range 100 {
		if code, body := n.get("shop.local", "/"); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
	}
	eventually(t, "all of it is counted", func() bool { return n.health().Log.Counted >= before+100 },
		func() string { return fmt.Sprintf("%d before, %+v", before, n.health().Log) })
}

// The log of another HAProxy stands beside our own, in health and in every table.
func TestForeignLogIsCounted(t *testing.T) {
	marathon := cluster(t)
	put(t, marathon.URL(), "/v2/apps//shop", demoApp("/shop", "shop.local", 1))
	n := newNode(t, marathon.URL())
	address := freeAddress(t)
	n.run("--log-listen", "udp://"+address)
	n.answers("shop.local", "/", 200)
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 7 {
		if _, err := fmt.Fprint(c, `<134>Nov 21 03:10:49 haproxy[7]: 127.0.0.1:40000 [21/Nov/2026:03:10:49.100] web old_shop_10000/task1 0/0/1/2/3 503 150 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`); err != nil {
			t.Fatal(err)
		}
	}
	var services admin.Services
	eventually(t, "the lines are counted", func() bool {
		services, err = n.admin.Services(t.Context())
		return err == nil && slices.ContainsFunc(services.Services, func(s admin.ServiceStat) bool {
			return s.Service == "old_shop_10000" && s.Requests == 7 && s.Errors == 7
		})
	}, func() string { return fmt.Sprintf("%+v, %v", services, err) })
	if l := n.health().Log; l.Lost != 0 || l.Bad != 0 {
		t.Errorf("%+v", l)
	}
}
