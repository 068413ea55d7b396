package loadgen

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// startHAProxy runs HAProxy with a configuration in which SOCKET stands for its runtime socket, and returns that socket.
func startHAProxy(t *testing.T, config string) (socket string) {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatal("this test runs against HAProxy: apt-get install haproxy")
	}
	dir := t.TempDir()
	socket = filepath.Join(dir, "s")
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "SOCKET", socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return socket
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("HAProxy doesn't come up: %s", said.String())
		}
	}
}

// frontendCounts asks HAProxy how many requests a frontend had, and how many answers of each class of codes.
func frontendCounts(t *testing.T, socket, name string) map[string]int {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "show stat\n")
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(strings.TrimSpace(string(b)), "# "))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, row := range rows[1:] {
		if row[0] != name || row[1] != "FRONTEND" {
			continue
		}
		for i, column := range rows[0] {
			if column == "req_tot" || strings.HasPrefix(column, "hrsp_") {
				counts[column], _ = strconv.Atoi(row[i])
			}
		}
	}
	return counts
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestHAProxyCountsTheSame(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(DefaultAppHeader, "app")
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(code)
	}))
	defer app.Close()
	front := freeAddress(t)
	socket := startHAProxy(t, `global
    stats socket SOCKET level admin
    maxconn 500
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend front
    bind `+front+`
    http-request return status 404 if { path /absent }
    use_backend dead if { path /dead }
    use_backend empty if { path /empty }
    default_backend app
backend app
    server app `+strings.TrimPrefix(app.URL, "http://")+`
backend dead
    server dead `+freeAddress(t)+`
backend empty
`)
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep-alive %v", keep), func(t *testing.T) {
			before := frontendCounts(t, socket, "front")
			url := "http://" + front
			g, err := New(Config{
				Rate: 1000, Requests: 1000, KeepAlive: keep, Seed: 3, MaxInFlight: 400,
				Targets: []Target{
					{Name: "fine", URL: url + "/?code=200", Weight: 5},
					{Name: "app's", URL: url + "/?code=503"},
					{Name: "moved", URL: url + "/?code=302"},
					{Name: "absent", URL: url + "/absent"},
					{Name: "dead", URL: url + "/dead"},
					{Name: "empty", URL: url + "/empty"},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := g.Report()
			expectClosed(t, r)
			all := r.Total()
			got := map[string]int{"req_tot": int(all.Answered() + all.Errored())}
			for _, c := range all.Codes {
				got[fmt.Sprintf("hrsp_%dxx", c.Code/100)] += int(c.ByApp + c.ByProxy)
			}
			// HAProxy counts an answer a little after its last byte is sent.
			var diff string
			for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
				want := make(map[string]int)
				for name, n := range frontendCounts(t, socket, "front") {
					if n -= before[name]; n > 0 {
						want[name] = n
					}
				}
				if diff = cmp.Diff(want, got); diff == "" {
					break
				}
			}
			if diff != "" || all.Errored() > 0 {
				t.Errorf("%v, last %q; (-HAProxy +load):\n%s", all.Errors, all.LastError, diff)
			}
			for _, c := range []struct {
				name           string
				code           int
				byApp, byProxy bool
			}{
				{"fine", 200, true, false},
				{"app's", 503, true, false},
				{"moved", 302, true, false},
				{"absent", 404, false, true},
				{"dead", 503, false, true},
				{"empty", 503, false, true},
			} {
				codes := r.Target(c.name).Codes
				if len(codes) != 1 || codes[0].Code != c.code || (codes[0].ByApp > 0) != c.byApp || (codes[0].ByProxy > 0) != c.byProxy {
					t.Errorf("%s: %+v", c.name, codes)
				}
			}
		})
	}
}
