package control

import (
	"bufio"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox/haproxy"
)

// running starts a HAProxy with a configuration, without an Applier.
func (r *rig) running(c *haproxy.Config) Worker {
	r.t.Helper()
	files, err := r.render(c)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := NewPublisher(r.dir, -1).Publish(files); err != nil {
		r.t.Fatal(err)
	}
	r.supervise().Allow()
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	var info Info
	r.until("HAProxy answers", func() bool { info, err = rt.Connect(r.t.Context()); return err == nil })
	m := NewMaster(filepath.Join(r.dir, "master.sock"))
	r.until("its master answers", func() bool { _, err := m.Proc(r.t.Context()); return err == nil })
	return info.Worker()
}

func TestBatchChecksEveryAnswer(t *testing.T) {
	r := newRig(t)
	w := r.running(r.config(app{name: "shop"}))
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	hosts := r.dir + "/hosts.map"
	many := []string{}
	for range 500 {
		many = append(many, "set server b_shop/s2 weight 7")
	}
	for _, c := range []struct {
		name     string
		commands []string
		accepted int
		refused  string
	}{
		{"all", []string{
			"set server b_shop/s1 addr 127.0.0.1 port 9", "set server b_shop/s1 addr 127.0.0.2 port 9",
			"set server b_shop/s1 addr 127.0.0.2 port 9", "set server b_shop/s1 weight 5", "set server b_shop/s1 state ready",
			"set server b_shop/s1 state drain", "set server b_shop/s1 state maint",
			"add map " + hosts + " a.local b_shop", "set map " + hosts + " a.local b_none", "del map " + hosts + " a.local",
		}, 10, ""},
		{"transaction", []string{
			"prepare map " + hosts, "add map " + haproxy.MapVersion + " " + hosts + " t.local b_shop",
			"add map " + haproxy.MapVersion + " " + hosts + " shop.local b_shop", "commit map " + haproxy.MapVersion + " " + hosts,
			"del map " + hosts + " t.local",
		}, 5, ""},
		{"a transaction with an entry that is refused", []string{
			"prepare map " + hosts, "add map " + haproxy.MapVersion + " " + hosts + " v.local b_shop",
			"add map " + haproxy.MapVersion + " " + hosts + " lonely.local", "commit map " + haproxy.MapVersion + " " + hosts,
			"set server b_shop/s1 weight 9",
		}, 2, "'add map' expects three parameters (map identifier, key and value) or one parameter (map identifier) and a payload"},
		{"no such server", []string{"set server b_shop/s1 weight 6", "set server b_shop/s9 weight 1"}, 1, "No such server."},
		{"no such entry", []string{"del map " + hosts + " nosuch.local"}, 0, "Key not found."},
		{"no such map", []string{"add map /nosuch a b"}, 0, "Unknown map identifier. Please use #<id> or <file>."},
		{"many", many, 500, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := rt.Batch(t.Context(), w, c.commands)
			if n != c.accepted {
				t.Errorf("%d accepted, want %d", n, c.accepted)
			}
			var u *UnexpectedError
			if c.refused == "" && err != nil || c.refused != "" && (!errors.As(err, &u) || u.Answer != c.refused) {
				t.Errorf("error %v, want %q", err, c.refused)
			}
		})
	}
	if _, err := rt.Batch(t.Context(), Worker{PID: w.PID + 1}, many); !errors.Is(err, ErrOtherWorker) {
		t.Errorf("error %v, want ErrOtherWorker", err)
	}
	got, err := rt.Servers(t.Context())
	if err != nil || len(got) != 4 {
		t.Fatalf("servers %v, %v", got, err)
	}
	if d := cmp.Diff("127.0.0.2:9 maint 6", got[0].Addr.String()+" "+string(got[0].Admin)+" "+string('0'+rune(got[0].Weight))); d != "" {
		t.Errorf("server (-want +got):\n%s", d)
	}
	lines, err := rt.Map(t.Context(), hosts)
	if d := cmp.Diff([]MapLine{{"shop.local", "b_shop"}}, lines); err != nil || d != "" {
		t.Errorf("map: %v (-want +got):\n%s", err, d)
	}
	stats, err := rt.Stat(t.Context())
	if err != nil || len(stats) == 0 || stats[0].Proxy != "http" || stats[0].Server != "FRONTEND" {
		t.Errorf("stat %+v, %v", stats, err)
	}
}

func TestCommandsAreOneEach(t *testing.T) {
	rt := NewRuntime("/nonexistent")
	for _, c := range []string{"", " ", "a;b", "a\nb", "a\rb", "a\x00b", "add map x <<", `a\`, "a\x7f", strings.Repeat("x", maxCommand+1)} {
		if _, err := rt.Do(t.Context(), "show info", c); !errors.Is(err, ErrCommand) {
			t.Errorf("%q: %v, want ErrCommand", c, err)
		}
	}
}

// A socket that accepts and says nothing costs the deadline, no more.
func TestDeafSocketsHaveADeadline(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir, "deaf.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	if _, err := NewRuntime(path).Info(t.Context()); err == nil {
		t.Error("no error from a deaf stats socket")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := NewMaster(path).Reload(ctx); err == nil {
		t.Error("no error from a deaf master")
	}
	if d := time.Since(began); d > 10*commandTimeout {
		t.Errorf("it took %s", d)
	}
}

// A master that answers questions and ignores the reload is noticed.
func TestReloadThatDoesNothingIsUnproven(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir, "fake.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewScanner(c)
				for in.Scan() {
					switch in.Text() {
					case "prompt":
						c.Write([]byte("master> "))
					case "show proc":
						c.Write([]byte("#<PID> <type> <reloads> <uptime> <version>\n7 master 0 [failed: 0] 0d00h00m01s 2.6.12\n# workers\n8 worker 0 0d00h00m01s 2.6.12\n# programs\n\nmaster> "))
					default:
						return
					}
				}
			}()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := NewMaster(path).Reload(ctx); !errors.Is(err, ErrReloadUnproven) {
		t.Errorf("error %v, want ErrReloadUnproven", err)
	}
}

// Old workers' counters are reached while they serve a connection.
func TestWorkerStatsReachOldWorkers(t *testing.T) {
	r := newRig(t)
	r.running(r.config(app{name: "shop"}))
	r.get("nosuch.local")
	// A half-sent request holds the old worker.
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(r.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n")); err != nil {
		t.Fatal(err)
	}
	m := NewMaster(filepath.Join(r.dir, "master.sock"))
	r.until("the connection is seen", func() bool {
		w, err := m.WorkerStats(t.Context())
		return err == nil && len(w) == 1 && frontend(w[0]).Current == 1
	})
	if _, err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.get("nosuch.local")
	w, err := m.WorkerStats(t.Context())
	if err != nil || len(w) != 2 {
		t.Fatalf("%+v, %v; want two workers", w, err)
	}
	if w[0].Old || !w[1].Old || frontend(w[0]).Requests != 1 || frontend(w[1]).Requests < 1 {
		t.Errorf("workers %+v", w)
	}
}

func frontend(w WorkerStats) Stat {
	for _, s := range w.Frontends {
		if s.Proxy == "http" && s.Server == "FRONTEND" {
			return s
		}
	}
	return Stat{}
}

func BenchmarkCommand(b *testing.B) {
	r := newBenchRig(b)
	rt := NewRuntime(r)
	defer rt.Close()
	info, err := rt.Connect(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := rt.Batch(b.Context(), info.Worker(), []string{"set server b_shop/s1 weight 5"}); err != nil {
			b.Fatal(err)
		}
	}
}
