package devcluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

const agentsToken = "what agents ask for"

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func machine(t *testing.T, cfg MachineConfig) *Machine {
	t.Helper()
	cfg.Dir, cfg.Log = t.TempDir(), quiet()
	m, err := StartMachine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// web is an app that answers with its machine and its id.
const web = `{"id":"/web","instances":%d,"cmd":"exec python3 -c 'import http.server as h, os, socketserver as s; s.TCPServer((os.environ[\"HOST\"], int(os.environ[\"PORT0\"])), h.SimpleHTTPRequestHandler).serve_forever()'",
	"healthChecks":[{"protocol":"HTTP","path":"/","portIndex":0,"gracePeriodSeconds":30,"intervalSeconds":1,"timeoutSeconds":5,"maxConsecutiveFailures":3},
	{"protocol":"COMMAND","command":{"value":"test -n \"$MARATHON_APP_ID\""},"gracePeriodSeconds":30,"intervalSeconds":1,"timeoutSeconds":5,"maxConsecutiveFailures":3}]}`

func tasksOf(t *testing.T, s *Server, id string) (ids []string, hosts map[string]int) {
	t.Helper()
	hosts = map[string]int{}
	for _, task := range view(t, s, id).App.Tasks {
		ids = append(ids, task.ID)
		hosts[task.Host]++
	}
	return ids, hosts
}

// healthy waits until so many tasks run and are healthy.
func healthy(t *testing.T, s *Server, id string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d healthy tasks of %s", want, id), func() bool {
		v := view(t, s, id).App
		return v.TasksHealthy == want && v.TasksRunning == want && len(v.Deployments) == 0
	})
}

func TestTasksRunOnOtherMachines(t *testing.T) {
	a := machine(t, MachineConfig{Listen: "127.0.0.2:0", Token: agentsToken})
	b := machine(t, MachineConfig{Listen: "127.0.0.3:0", Token: agentsToken})
	s := start(t, Config{RemoteAgents: []string{a.URL(), b.URL()}, AgentToken: agentsToken})
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", fmt.Sprintf(web, 2)))
	healthy(t, s, "/web", 2)
	v := view(t, s, "/web")
	for _, task := range v.App.Tasks {
		must(t, 200, ask(t, "GET", fmt.Sprintf("http://%s:%d/", task.Host, task.Ports[0]), ""))
	}
	if _, hosts := tasksOf(t, s, "/web"); !cmp.Equal(hosts, map[string]int{"127.0.0.2": 1, "127.0.0.3": 1}) {
		t.Errorf("tasks are on %v", hosts)
	}
	must(t, 200, ask(t, "DELETE", s.URL()+"/v2/apps/web", ""))
	for _, task := range v.App.Tasks {
		eventually(t, "the end of "+task.ID, func() bool { return refused(task.Host, task.Ports[0]) })
	}
}

// pkill ends the process that a task is, from outside.
func pkill(t *testing.T, task string) {
	t.Helper()
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range envs {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b), "MESOS_TASK_ID="+task+"\x00") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(name, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func refused(host string, port int) bool {
	c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err == nil {
		c.Close()
	}
	return err != nil
}

// The tasks' machines don't notice when the master is replaced, and its heir takes over what it finds.
func TestTasksOutliveTheMaster(t *testing.T) {
	a := machine(t, MachineConfig{Listen: "127.0.0.2:0", Token: agentsToken})
	b := machine(t, MachineConfig{Listen: "127.0.0.3:0", Token: agentsToken})
	cfg := Config{RemoteAgents: []string{a.URL(), b.URL()}, AgentToken: agentsToken, Dir: t.TempDir(), Persist: true}
	first := start(t, cfg)
	must(t, 201, ask(t, "POST", first.URL()+"/v2/apps", fmt.Sprintf(web, 3)))
	must(t, 201, ask(t, "POST", first.URL()+"/v2/apps", `{"id":"/brief","cmd":"exec sleep 1000"}`))
	healthy(t, first, "/web", 3)
	settled(t, first, "/brief", 1)
	before, _ := tasksOf(t, first, "/web")
	brief := view(t, first, "/brief").App.Tasks[0]
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := start(t, cfg)
	healthy(t, second, "/web", 3)
	after, _ := tasksOf(t, second, "/web")
	same := cmp.Transformer("sort", func(ids []string) map[string]bool {
		m := map[string]bool{}
		for _, id := range ids {
			m[id] = true
		}
		return m
	})
	if diff := cmp.Diff(before, after, same); diff != "" {
		t.Errorf("the tasks are others now (-before +after):\n%s", diff)
	}
	if got := view(t, second, "/brief").App.Tasks[0]; got.ID != brief.ID {
		t.Errorf("%s became %s", brief.ID, got.ID)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	// A master that knows nothing ends what it finds.
	cfg.Dir, cfg.Persist = t.TempDir(), false
	third := start(t, cfg)
	must(t, 201, ask(t, "POST", third.URL()+"/v2/apps", fmt.Sprintf(web, 1)))
	healthy(t, third, "/web", 1)
	eventually(t, "the end of foreign tasks", func() bool {
		return a.host.Tasks()+b.host.Tasks() == 1
	})
}

// A cable that is pulled: tasks answer, their agent counts as unreachable, and all is as it was when it is back.
func TestAnAgentOutOfReach(t *testing.T) {
	a := machine(t, MachineConfig{Listen: "127.0.0.2:0", Token: agentsToken})
	cable := newCable(t, "127.0.0.9:0", strings.TrimPrefix(a.URL(), "http://"))
	s := start(t, Config{RemoteAgents: []string{"http://" + cable.addr}, AgentToken: agentsToken})
	app := `{"id":"/lone","instances":1,"cmd":"exec sleep 1000","unreachableStrategy":{"inactiveAfterSeconds":300,"expungeAfterSeconds":600}}`
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", app))
	settled(t, s, "/lone", 1)
	before, _ := tasksOf(t, s, "/lone")
	cable.pull()
	eventually(t, "unreachable", func() bool {
		v := view(t, s, "/lone").App
		return len(v.Tasks) == 1 && v.Tasks[0].State == unreachable
	})
	cable.plug()
	eventually(t, "running again", func() bool {
		v := view(t, s, "/lone").App
		return len(v.Tasks) == 1 && v.Tasks[0].State == running
	})
	if after, _ := tasksOf(t, s, "/lone"); !cmp.Equal(before, after) {
		t.Errorf("%v became %v", before, after)
	}

	// What ends meanwhile is known when it is back.
	cable.pull()
	eventually(t, "unreachable", func() bool { return view(t, s, "/lone").App.Tasks[0].State == unreachable })
	pkill(t, before[0])
	eventually(t, "its end", func() bool { return a.host.Tasks() == 0 })
	cable.plug()
	eventually(t, "another", func() bool {
		v := view(t, s, "/lone").App
		return v.TasksRunning == 1 && len(v.Tasks) == 1 && v.Tasks[0].ID != before[0]
	})
}

func TestAMachineAsksForTheToken(t *testing.T) {
	if _, err := StartMachine(t.Context(), MachineConfig{Listen: "0.0.0.0:0", Log: quiet()}); err == nil || !strings.Contains(err.Error(), "needs a token") {
		t.Errorf("listening for everybody without a token: %v", err)
	}
	a := machine(t, MachineConfig{Listen: "127.0.0.2:0", Token: agentsToken})
	must(t, http.StatusUnauthorized, ask(t, "POST", a.URL()+"/session", "", "Upgrade", "signalbox-agent/1", "Connection", "Upgrade"))
	must(t, http.StatusUnauthorized, ask(t, "POST", a.URL()+"/session", "", "Authorization", "Bearer wrong"))
	must(t, http.StatusUpgradeRequired, ask(t, "POST", a.URL()+"/session", "", "Authorization", "Bearer "+agentsToken))
	must(t, 200, ask(t, "GET", a.URL()+"/health", ""))
}

func TestAMachineOverTLS(t *testing.T) {
	cert, pool := certificate(t, "127.0.0.2")
	a := machine(t, MachineConfig{Listen: "127.0.0.2:0", Token: agentsToken, Certificate: &cert})
	cfg := Config{RemoteAgents: []string{a.URL()}, AgentToken: agentsToken, AgentTLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	s := start(t, cfg)
	must(t, 201, ask(t, "POST", s.URL()+"/v2/apps", `{"id":"/lone","cmd":"exec sleep 1000"}`))
	settled(t, s, "/lone", 1)

	other, _ := certificate(t, "127.0.0.2")
	stranger := machine(t, MachineConfig{Listen: "127.0.0.3:0", Token: agentsToken, Certificate: &other})
	cfg.RemoteAgents = []string{stranger.URL()}
	log := &lines{}
	l := logrus.New()
	l.SetOutput(log)
	cfg.Log = l
	start(t, cfg)
	eventually(t, "the refusal", func() bool { return strings.Contains(log.String(), "certificate") })
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func certificate(t *testing.T, ip string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	like := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(ip)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// cable forwards connections until it is pulled: then they end, and new ones are refused.
type cable struct {
	addr, to string
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

func newCable(t *testing.T, listen, to string) *cable {
	t.Helper()
	c := &cable{to: to, addr: listen}
	c.plug()
	t.Cleanup(c.pull)
	return c
}

func (c *cable) plug() {
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		panic(err)
	}
	c.addr = l.Addr().String()
	c.mu.Lock()
	c.listener = l
	c.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", c.to)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			go io.Copy(in, out)
			go io.Copy(out, in)
		}
	}()
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listener.Close()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}
