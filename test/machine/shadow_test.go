package machine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/go-cmp/cmp"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// shadow is a HAProxy without a history: it has loaded what a fresh rendering says, and nothing else.
type shadow struct {
	dir, addr string
	files     [sha256.Size]byte // what it has loaded, and was told
	proc      *exec.Cmd
	ended     chan struct{} // closed once proc has
	said      bytes.Buffer  // to be read then
	rt        *control.Runtime
}

func newShadow(t failer, addr string) *shadow {
	dir, err := os.MkdirTemp("/tmp", "sh")
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &shadow{dir: dir, addr: addr}
}

func (s *shadow) close() {
	s.end()
	os.RemoveAll(s.dir)
}

func (s *shadow) end() {
	if s.proc == nil {
		return
	}
	s.rt.Close()
	_ = s.proc.Process.Kill()
	<-s.ended
	s.proc = nil
}

// load has the shadow do what is wanted for a table. With a history, which tasks that drain have, it is that of prev: then what HAProxy
// has in its slots is taken from there, and all else is decided anew.
func (s *shadow) load(table *signalbox.Table, from *haproxy.Options, prev *haproxy.Config, realDir string) error {
	o := *from
	fresh := optionsAt(s.dir, s.addr)
	o.Dir, o.HTTPBind, o.HTTPSBind, o.AppIDBind, o.ServiceBind, o.StatsSocket = s.dir, fresh.HTTPBind, fresh.HTTPSBind, fresh.AppIDBind, s.addr, fresh.StatsSocket
	if prev != nil { // as text, so that nothing is left of what Build remembers
		text, err := json.Marshal(prev)
		if err != nil {
			return err
		}
		prev = nil
		if err := json.Unmarshal(text, &prev); err != nil {
			return err
		}
	}
	config := haproxy.Build(table, &o, prev)
	made, err := haproxy.Render(haproxy.DefaultTemplate(), config)
	if err != nil {
		return err
	}
	files := append([]haproxy.File{{Name: "haproxy.cfg", Data: made.Config}}, made.Maps...)
	names := []string{haproxy.DefaultCertificate}
	for _, c := range o.Certificates {
		names = append(names, c.Name)
	}
	for _, name := range names { // as the operator has them: what the controller has made of it may come later
		source := filepath.Join(realDir, "certificates", name+".pem")
		if name == haproxy.DefaultCertificate {
			source = filepath.Join(realDir, haproxy.CertificateFile(name))
		}
		data, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		pair, err := haproxy.ParseKeyPair(name, data)
		if err != nil {
			return err
		}
		files = append(files, haproxy.File{Name: haproxy.CertificateFile(name), Data: pair.PEM})
	}
	var orders []string
	for _, b := range config.Backends {
		for _, slot := range b.Slots {
			if slot.Admin == haproxy.Drain { // which no file can say
				orders = append(orders, fmt.Sprintf("set server %s/%s state ready", b.Name, slot.Name), fmt.Sprintf("set server %s/%s state drain", b.Name, slot.Name))
			}
		}
	}
	hash := sha256.New()
	for _, f := range files {
		fmt.Fprintf(hash, "%s %x\n", f.Name, sha256.Sum256(f.Data))
	}
	fmt.Fprint(hash, orders)
	if sum := [sha256.Size]byte(hash.Sum(nil)); s.proc == nil || sum != s.files {
		s.end()
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(s.dir, f.Name), f.Data, 0o600); err != nil {
				return err
			}
		}
		if err := s.start(orders); err != nil {
			return err
		}
		s.files = sum
	}
	return nil
}

func (s *shadow) start(orders []string) error {
	s.said.Reset()
	s.proc = exec.Command("haproxy", "-db", "-f", filepath.Join(s.dir, "haproxy.cfg"))
	s.proc.Dir = s.dir
	s.proc.Stdout, s.proc.Stderr = &s.said, &s.said
	s.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.proc.Start(); err != nil {
		return err
	}
	proc, ended := s.proc, make(chan struct{})
	s.ended = ended
	go func() {
		_ = proc.Wait()
		close(ended)
	}()
	s.rt = control.NewRuntime(filepath.Join(s.dir, "stats.sock"))
	answers, over := false, false
	wait(func() bool {
		info, err := s.rt.Connect(context.Background())
		answers = err == nil && info.PID == proc.Process.Pid
		select {
		case <-ended:
			over = true
		default:
		}
		return answers || over
	})
	if !answers {
		s.end()
		return fmt.Errorf("the shadow does not answer: %s", s.said.String())
	}
	replies, err := s.rt.Do(context.Background(), orders...)
	if said := strings.Join(replies, ""); err == nil && said != "" {
		err = fmt.Errorf("the shadow answers %q to its orders", said)
	}
	return err
}

// chances is how often a fresh HAProxy is asked for an answer that one of several services gives: one in five, and less than one time in 50,000 it is not met.
const chances = 50

// compare returns how the controller's HAProxy differs from a fresh one, "" for not at all. loose passes over certificates, which come a
// moment later than the rest.
func (s *shadow) compare(c *controller, apps *cluster, n int, loose bool) (string, error) {
	prev := c.prev
	if !apps.drains() {
		prev = nil
	}
	if err := s.load(apps.judged(), c.options, prev, c.dir); err != nil {
		return "", err
	}
	services := map[signalbox.ServiceID]bool{}
	owner := map[netip.AddrPort]signalbox.ServiceID{}
	for name, a := range apps.apps {
		services[idOf(name)] = true
		for _, t := range a.tasks {
			owner[t.at] = idOf(name)
		}
	}
	want, err := look(s.rt, s.dir, services)
	if err != nil {
		return "", fmt.Errorf("asking the shadow: %w", err)
	}
	rt := control.NewRuntime(c.options.StatsSocket)
	defer rt.Close()
	got, err := look(rt, c.dir, services)
	if err != nil {
		return "asking HAProxy: " + err.Error(), nil
	}
	if loose {
		got.Certs, want.Certs = nil, nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return "(-a fresh HAProxy +the one that runs)\n" + diff, nil
	}
	unsettled := apps.unsettled()
	for _, q := range questions(n) {
		want, got := ask(s.addr, q, owner), ask(c.addr, q, owner)
		if unsettled[want.Service] || unsettled[got.Service] {
			continue // whether a task waits for a check says nothing of what is wanted
		}
		if loose {
			got.Cert = want.Cert
		}
		for range chances {
			if want == got || !apps.shares(want.Service) && !apps.shares(got.Service) {
				break
			}
			want = ask(s.addr, q, owner) // which of them answers is chance
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Sprintf("%+v (-a fresh HAProxy +the one that runs)\n%s", q, diff), nil
		}
	}
	return "", nil
}
