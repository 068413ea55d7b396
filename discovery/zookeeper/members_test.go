package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/prometheus/client_golang/prometheus/testutil"

	server "signalbox/test/zookeeper"
)

// follower is a Members that runs, and what it has said.
type follower struct {
	*Members
	t    *testing.T
	stop func()
	mu   sync.Mutex
	said [][]string
}

func follow(t *testing.T, cfg MembersConfig) *follower {
	t.Helper()
	m, err := NewMembers(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{Members: m, t: t}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		m.Run(ctx, func(urls []string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.said = append(f.said, slices.Clone(urls))
			if len(urls) == 0 {
				t.Error("an empty list was handed on")
			}
		})
	})
	f.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(f.stop)
	return f
}

// knows waits until these are the members, the leader first.
func (f *follower) knows(hosts ...string) {
	f.t.Helper()
	want := make([]string, 0, len(hosts))
	for _, h := range hosts {
		want = append(want, "http://"+h)
	}
	eventually(f.t, fmt.Sprintf("the members are %v", want), func() bool { return slices.Equal(f.Known(), want) }, func() string {
		return fmt.Sprintf("%v, %s", f.Known(), f.Trouble())
	})
}

func eventually(t *testing.T, what string, ok func() bool, now func() string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s; now: %s", what, now())
		}
	}
}

// marathons stand for election, as Marathon does.
type marathons struct {
	t    *testing.T
	conn *zk.Conn
}

func elect(t *testing.T, e server.Ensemble) *marathons {
	t.Helper()
	conn, events, err := zk.Connect(e.Servers(), 30*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		for range events {
		}
	})
	return &marathons{t, conn}
}

// stand makes a candidate of the directory, with its parents, and returns its path.
func (m *marathons) stand(path, data string, flags int32) string {
	m.t.Helper()
	var made string
	eventually(m.t, "a candidate stands", func() bool {
		for i, c := range path {
			if c == '/' && i > 0 {
				if _, err := m.conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
					return false
				}
			}
		}
		var err error
		made, err = m.conn.Create(path, []byte(data), flags, zk.WorldACL(zk.PermAll))
		return err == nil
	}, func() string { return "" })
	return made
}

// standFirmly makes a candidate that stands without a session, through whatever servers there are.
func standFirmly(t *testing.T, cfg Config, path, data string) {
	t.Helper()
	c, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	made := false
	c.Run(ctx, func(ctx context.Context, conn *zk.Conn) {
		for i, r := range path + "/" {
			if r != '/' || i == 0 {
				continue
			}
			var content []byte
			if i == len(path) {
				content = []byte(data)
			}
			if _, err := conn.Create(path[:i], content, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return
			}
		}
		made = true
		cancel()
	})
	if !made {
		t.Fatalf("no server takes %s: %s", path, c.Status().Err)
	}
}

func (m *marathons) curator(host string) string {
	return m.stand("/marathon/leader-curator/_c_6f2e-latch-", host, zk.FlagEphemeral|zk.FlagSequence)
}

func (m *marathons) leave(path string) {
	m.t.Helper()
	if err := m.conn.Delete(path, -1); err != nil {
		m.t.Fatal(err)
	}
}

func TestMembersOfBothLayouts(t *testing.T) {
	e := server.Start(t, 1)
	f := follow(t, MembersConfig{Config: Config{Servers: e.Servers()}, Path: "/marathon"})
	eventually(t, "it says that nobody stands", func() bool { return strings.Contains(f.Trouble(), "nobody stands") }, f.Trouble)
	m := elect(t, e)
	old := m.stand("/marathon/leader/member_", "old:8080", zk.FlagEphemeral|zk.FlagSequence)
	f.knows("old:8080")
	first := m.curator("m1:8080")
	f.knows("m1:8080", "old:8080")
	m.stand("/marathon/leader/member_-00000000", "tombstone:1", 0)
	m.stand("/marathon/leader/other", "other:1", 0)
	m.curator("no address")
	m.curator("http://evil:1/")
	m.curator("evil@m9:1")
	m.curator("")
	m.curator("m1:8080") // it stands twice for a while, after it was cut off
	m.curator("[::1]:8080")
	f.knows("m1:8080", "[::1]:8080", "old:8080")
	m.leave(old)
	f.knows("m1:8080", "[::1]:8080")
	m.leave(first)
	m.curator("m2:8080")
	f.knows("m1:8080", "[::1]:8080", "m2:8080")
	if f.Trouble() != "" {
		t.Error(f.Trouble())
	}
}

// What the sequence numbers say counts, not the names before them.
func TestLeaderIsTheLowestNumber(t *testing.T) {
	e := elections("/")
	if e[0].path != "/leader-curator" || e[1].path != "/leader" {
		t.Error(e[0].path, e[1].path)
	}
	got := e[0].inOrder([]string{"_c_00-latch-0000000012", "_c_zz-latch-0000000009", "_c_aa-lock-0000000001", "x-latch-99999999999"})
	if want := []string{"_c_zz-latch-0000000009", "_c_00-latch-0000000012"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Whatever becomes of the ensemble, the last known members stand, and new ones are there once it is whole again.
func TestMembersThroughFaults(t *testing.T) {
	e := server.Start(t, 3)
	file := filepath.Join(t.TempDir(), "sub", "members.json")
	cfg := MembersConfig{Config: Config{Servers: e.Servers(), Session: 2 * time.Second}, Path: "/marathon", File: file}
	f := follow(t, cfg)
	stand := func(number int, host string) {
		t.Helper()
		standFirmly(t, cfg.Config, fmt.Sprintf("/marathon/leader-curator/a-latch-%010d", number), host)
	}
	stand(1, "m1:1")
	f.knows("m1:1")

	leader := e.Leader()
	leader.Kill()
	stand(2, "m2:1")
	f.knows("m1:1", "m2:1")
	leader.Start()
	leader.Ready()

	leader = e.Leader()
	leader.Signal(syscall.SIGSTOP)
	stand(3, "m3:1")
	f.knows("m1:1", "m2:1", "m3:1")
	leader.Signal(syscall.SIGCONT)

	for _, s := range e {
		s.Kill()
	}
	eventually(t, "it says that ZooKeeper is gone", func() bool { return f.Trouble() != "" }, f.Trouble)
	f.knows("m1:1", "m2:1", "m3:1")
	alone := follow(t, cfg) // starts while there is no ZooKeeper
	alone.knows("m1:1", "m2:1", "m3:1")
	alone.stop()
	other := cfg
	other.Path = "/other"
	if o, err := NewMembers(other); err != nil || o.Known() != nil {
		t.Errorf("another Marathon's members are taken for its own: %v", err)
	}
	e.StartAll()
	stand(4, "m4:1")
	f.knows("m1:1", "m2:1", "m3:1", "m4:1")

	for _, s := range e {
		s.Kill()
		s.Wipe()
	}
	e.StartAll()
	eventually(t, "it has seen that nobody stands", func() bool { return strings.Contains(f.Trouble(), "nobody stands") }, f.Trouble)
	f.knows("m1:1", "m2:1", "m3:1", "m4:1")
	stand(0, "m5:1")
	f.knows("m5:1")
}

// A storm of changes costs few reads.
func TestStorm(t *testing.T) {
	e := server.Start(t, 1)
	f := follow(t, MembersConfig{Config: Config{Servers: e.Servers()}, Path: "/marathon"})
	m := elect(t, e)
	m.curator("m1:1")
	f.knows("m1:1")
	began, before := time.Now(), testutil.ToFloat64(f.metrics.reads)
	for range 500 {
		m.leave(m.curator("m2:1"))
	}
	m.curator("m3:1")
	f.knows("m1:1", "m3:1")
	took := time.Since(began)
	if reads := testutil.ToFloat64(f.metrics.reads) - before; reads > took.Seconds()/spacing.Seconds()+2 {
		t.Errorf("%.0f reads of 1,001 changes in %s", reads, took)
	} else {
		t.Logf("%.0f reads of 1,001 changes in %s", reads, took)
	}
}
