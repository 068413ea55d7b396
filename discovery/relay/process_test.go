package relay

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox"
	"signalbox/discovery"
	"signalbox/test/consulserver"
)

// asProcess names the Consul that this program takes part in a relay of, as a controller that can be killed and stopped.
const asProcess = "SIGNALBOX_TEST_RELAY"

func takePart(url string) {
	store, err := NewConsulStore(ConsulConfig{URLs: []string{url}, Prefix: "signalbox/relay"})
	if err != nil {
		panic(err)
	}
	src, err := New(Config{
		Direct: &direct{newOrigin(service("a", 1), service("process", 1)), "process"}, Store: store, Node: "process", FleetSize: 3,
		Beat: 300 * time.Millisecond, Pace: 20 * time.Millisecond,
	})
	if err != nil {
		panic(err)
	}
	out := make(chan discovery.Update)
	go func() {
		role := Role("")
		for range out {
			if now := src.Standing().Role; now != role {
				role = now
				fmt.Println(role)
			}
		}
	}()
	_ = src.Run(context.Background(), out, nil)
}

// process is a controller in a process of its own.
type process struct {
	cmd   *exec.Cmd
	roles chan string
}

func startProcess(t *testing.T, url string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), roles: make(chan string, 100)}
	p.cmd.Env = append(os.Environ(), asProcess+"="+url)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.roles)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.roles <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		for range p.roles {
		}
		_ = p.cmd.Wait()
	})
	return p
}

// becomes waits until the process says that it has a role.
func (p *process) becomes(t *testing.T, want Role) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case got := <-p.roles:
			if got == string(want) {
				return
			}
		case <-deadline:
			t.Fatalf("the process never says that it %s", want)
		}
	}
}

// A leader stops in its tracks: another one is elected within the time of its session, and when it wakes up it follows that.
func TestLeaderStopsAndWakesUp(t *testing.T) {
	t.Parallel()
	server := consulserver.Start(t)
	p := startProcess(t, server.URL)
	p.becomes(t, Leads)
	o := newOrigin(service("a", 1), service("process", 1))
	n := join(t, o, "n", consulStore(t, server), nil)
	all(t, []*signalbox.Service{service("a", 1), service("process", 1)}, n)
	if st := n.source.Standing(); st.Role != Follows || st.Leader != "process" {
		t.Fatalf("%+v", st)
	}
	keeps(2, n)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the relay is stale", func() bool { return n.role() == Alone })
	if st := n.watcher.Status()[0]; !strings.Contains(st.Detail, "on its own: the relay is stale") {
		t.Errorf("it says %q", st.Detail)
	}
	until(t, "the other one leads", func() bool { return n.role() == Leads })
	o.set(service("a", 4), service("b", 1))
	all(t, o.state, n)
	generation := n.source.Standing().Generation
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.becomes(t, Follows)
	if st := n.source.Standing(); st.Role != Leads || st.Generation != generation {
		t.Errorf("after the old leader woke up: %+v; the generation was %d", st, generation)
	}
	all(t, o.state, n)
}

// A leader is killed: nobody lets its lock go, and another one has it within the time of its session.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	server := consulserver.Start(t)
	p := startProcess(t, server.URL)
	p.becomes(t, Leads)
	o := newOrigin(service("a", 1), service("process", 1))
	n := join(t, o, "n", consulStore(t, server), nil)
	until(t, "n follows", func() bool { return n.role() == Follows && n.served() != "" })
	keeps(2, n)
	began := time.Now()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the other one leads", func() bool { return n.role() == Leads })
	t.Logf("another leader after %s", time.Since(began).Round(time.Second))
	o.set(service("a", 4), service("b", 1))
	all(t, o.state, n)
}
