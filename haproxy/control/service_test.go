package control

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox/haproxy"
)

// serviceManager starts HAProxy as a unit of systemd does, and again whenever it ends, until the test ends.
type serviceManager struct {
	r      *rig
	binary string
	starts chan int // pids
	ask    chan string
}

func (r *rig) serviceManager(binary string) *serviceManager {
	m := &serviceManager{r: r, binary: binary, starts: make(chan int, 100), ask: make(chan string)}
	r.background(m.run)
	return m
}

func (m *serviceManager) run(ctx context.Context) error {
	for ctx.Err() == nil {
		cmd := exec.Command(m.binary, "-Ws", "-f", filepath.Join(m.r.dir, configName), "-S", filepath.Join(m.r.dir, "master.sock"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Start(); err != nil {
			return err
		}
		m.starts <- cmd.Process.Pid
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
			continue
		case <-ctx.Done():
		case how := <-m.ask: // restart, or reload
			if how == "reload" {
				_ = cmd.Process.Signal(syscall.SIGUSR2)
				select {
				case <-ended:
				case <-ctx.Done():
				}
			}
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	return nil
}

// runs returns what HAProxy says it does: servers and maps, less what differs between two workers by nature.
func (r *rig) runs() []string {
	r.t.Helper()
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	servers, err := rt.Servers(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, s := range servers {
		addr := s.Addr.String()
		if s.Admin == haproxy.Maint {
			addr = "" // that of a free slot is anyone
		}
		out = append(out, fmt.Sprintf("%s/%s %s %s %d", s.Backend, s.Name, addr, s.Admin, s.Weight))
	}
	for _, m := range []string{"hosts", "names"} {
		a, err := rt.Do(r.t.Context(), "show map "+filepath.Join(r.dir, m+".map"))
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(a[0]) {
			if _, entry, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				out = append(out, m+" "+entry)
			}
		}
	}
	return out
}

// Somebody else runs HAProxy. Restarted by hand or by its service manager, reloaded by it, killed, or upgraded in place, it has the same
// state as before soon after: what was changed over the socket and is in no file yet included.
func TestHAProxyOfAServiceManager(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	real, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	one, two := task(t, "one"), task(t, "two")
	binary := filepath.Join(r.dir, "haproxy")
	install := func() {
		t.Helper()
		b, err := os.ReadFile(real)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(binary+".new", b, 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		if err := os.Rename(binary+".new", binary); err != nil {
			t.Fatal(err)
		}
	}
	install()
	s := r.settings()
	s.FileInterval = time.Hour // the file stays behind: the state must come from the model
	r.start(s)
	r.app.Update(r.config(app{name: "shop", tasks: addrs{one}}))
	r.until("the files are there", func() bool { _, err := os.Stat(filepath.Join(r.dir, manifest)); return err == nil })
	m := r.serviceManager(binary)
	<-m.starts
	r.answers("shop.local", "one")
	r.apply(r.config(app{name: "shop", tasks: addrs{two, one}}))
	want := r.runs()
	for i, how := range []struct {
		name string
		do   func(master, worker int)
	}{
		{"restarted by the service manager", func(int, int) { m.ask <- "restart"; <-m.starts }},
		{"master killed", func(master, _ int) { kill9(t, master); <-m.starts }},
		{"worker killed", func(_, worker int) { kill9(t, worker); <-m.starts }},
		{"upgraded and restarted", func(int, int) { install(); m.ask <- "restart"; <-m.starts }},
		{"reloaded by hand", func(master, _ int) { _ = syscall.Kill(master, syscall.SIGUSR2) }},
		{"upgraded and reloaded", func(master, _ int) { install(); _ = syscall.Kill(master, syscall.SIGUSR2) }},
	} {
		before := r.proc()
		how.do(before.Master, before.Workers[0].PID)
		master := NewMaster(filepath.Join(r.dir, "master.sock"))
		r.until(how.name+": another worker", func() bool {
			p, err := master.Proc(t.Context())
			return err == nil && len(p.Workers) == 1 && p.Workers[0].PID != before.Workers[0].PID
		})
		r.until(how.name+": the controller sees it", func() bool {
			p, err := master.Proc(t.Context())
			return err == nil && len(p.Workers) == 1 && r.app.Status().PID == p.Workers[0].PID && r.app.Status().Level == "ok" && r.app.Running() != nil
		})
		var got []string
		r.until(how.name+": the same state", func() bool { got = r.runs(); return cmp.Equal(want, got) })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", how.name, d)
		}
		// And it goes on: a change over the socket, and one that needs a reload.
		r.apply(r.config(app{name: "shop", tasks: addrs{one, two}}))
		r.apply(r.config(app{name: "new", tasks: addrs{one}}, app{name: "shop", tasks: addrs{two, one}}))
		r.answers("new.local", "one")
		r.apply(r.config(app{name: "shop", tasks: addrs{two, one}}))
		if i%2 == 0 { // once with files that are behind, once with those of a reload
			r.apply(r.config(app{name: "shop", tasks: addrs{one, two}}))
			r.apply(r.config(app{name: "shop", tasks: addrs{two, one}}))
		}
	}
}
