package metrics

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a real HAProxy writes in its own formats comes to what it counts itself, per backend and class of codes, whatever clients
// send; in either syslog form and without.
func TestStandardFormatsOfHAProxy(t *testing.T) {
	b := startStandard(t)
	b.standardLoad()

	var stat map[string]map[string]string
	eventually(t, "every request is in the log", func() bool {
		stat = b.stat()
		want := uint64(0)
		for name, row := range stat {
			total := "req_tot"
			if row["mode"] == "tcp" {
				total = "stot"
			}
			if n, err := strconv.ParseUint(row[total], 10, 64); err == nil && strings.HasSuffix(name, " FRONTEND") {
				want += n
			}
		}
		for _, form := range []string{"stdout", "stderr"} {
			got := b.replay(form)
			if counted := got.Requests + got.Bad[ReasonFormat]; counted != want {
				t.Logf("%s has %d of %d requests", form, counted, want)
				return false
			}
		}
		return true
	})
	got := b.replay("stdout")

	theirs, ours := map[string]string{}, map[string]string{}
	for name, row := range stat {
		backend, ok := strings.CutSuffix(name, " BACKEND")
		if !ok {
			continue
		}
		service := serviceOf([]byte(backend))
		if row["mode"] == "tcp" {
			theirs[service] = fmt.Sprint("connections ", row["stot"], " bytes ", row["bout"], " retries ", row["wretr"])
			continue
		}
		retries, _ := strconv.Atoi(row["wretr"])
		redispatches, _ := strconv.Atoi(row["wredis"])
		theirs[service] = fmt.Sprint("requests ", row["req_tot"], " 2xx ", row["hrsp_2xx"], " 4xx ", row["hrsp_4xx"], " 5xx ", row["hrsp_5xx"],
			" retries ", retries+redispatches)
	}
	for i := range got.Snapshot.Services {
		s := &got.Snapshot.Services[i]
		classes := map[byte]uint64{}
		for _, c := range s.Codes {
			classes[c.Code[0]] += c.Count
			if c.Method == http.MethodPost {
				t.Errorf("%s: a client forged %d requests with POST", s.Service, c.Count)
			}
		}
		if classes['t'] > 0 {
			ours[s.Service] = fmt.Sprint("connections ", classes['t'], " bytes ", s.BytesOut, " retries ", s.Retries)
			continue
		}
		ours[s.Service] = fmt.Sprint("requests ", s.Requests, " 2xx ", classes['2'], " 4xx ", classes['4'], " 5xx ", classes['5'],
			" retries ", s.Retries)
	}
	delete(theirs, "unlogged")
	none := got.Snapshot.Service(NoService)
	delete(ours, NoService)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("HAProxy's counts and ours differ (-HAProxy +ours)\n%s", diff)
	}
	if none == nil || none.Code("403") != 3 || none.Code("503") != 1 || none.Code("400") != 3 {
		t.Errorf("what belongs to no service: %+v", none)
	}
	if len(got.Bad) != 1 || got.Bad[ReasonFormat] != 2 || got.Failed != 2 {
		t.Errorf("unread %v, failed connections %d", got.Bad, got.Failed)
	}

	// The three forms of the log say the same.
	header := regexp.MustCompile(`(?m)^<\d+>1 \S+ \S+ haproxy \d+ - - `)
	b.write("raw", string(header.ReplaceAll(b.read("stdout"), nil)))
	for _, form := range []string{"stderr", "raw"} {
		other := b.replay(form)
		if diff := cmp.Diff(got.Snapshot, other.Snapshot, cmp.Comparer(func(a, b Histogram) bool { return a.Count() == b.Count() && a.Sum() == b.Sum() })); diff != "" {
			t.Errorf("%s differs (-rfc5424 +%s)\n%s", form, form, diff)
		}
	}
}

// startStandard starts an HAProxy with testdata/standard.cfg, whose logs go to the files stdout and stderr.
func startStandard(t *testing.T) *balancer {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Fatal("this test needs HAProxy: apt-get install haproxy")
	}
	b := &balancer{t: t, dir: t.TempDir(), done: make(chan struct{})}
	b.shop[0], b.shop[1], b.pay = origin(t), origin(t), origin(t)
	text, err := os.ReadFile("testdata/standard.cfg")
	if err != nil {
		t.Fatal(err)
	}
	b.write("site.pem", selfSigned(t))
	b.write("haproxy.cfg", strings.NewReplacer("DIR", b.dir, "SHOP1", b.shop[0].Listener.Addr().String(),
		"SHOP2", b.shop[1].Listener.Addr().String(), "PAY1", b.pay.Listener.Addr().String()).Replace(string(text)))
	b.master = exec.Command("haproxy", "-db", "-f", b.path("haproxy.cfg"))
	for name, to := range map[string]*io.Writer{"stdout": &b.master.Stdout, "stderr": &b.master.Stderr} {
		file, err := os.Create(b.path(name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		*to = file
	}
	b.master.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := b.master.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.master.Wait()
		close(b.done)
	}()
	t.Cleanup(b.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log:\n%s", b.read("stdout"))
		}
	})
	eventually(t, "HAProxy answers", func() bool {
		_, err := b.tryAsk("admin.sock", "show info")
		return err == nil
	})
	return b
}

func selfSigned(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"shop.local"}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// standardLoad sends what people and others send.
func (b *balancer) standardLoad() {
	request := func(socket, path, headers string) {
		b.raw(socket, "GET "+path+" HTTP/1.1\r\nHost: shop.local\r\nConnection: close\r\n"+headers+"\r\n")
	}
	for _, code := range []int{200, 201, 404, 500, 503} {
		for range 5 {
			request("web.sock", fmt.Sprint("/x/", code), "")
			request("web.sock", fmt.Sprint("/cart/", code), "")
			request("both.sock", fmt.Sprint("/", code), "")
		}
	}
	for _, headers := range []string{
		"Cookie: SID=1\r\n", "Cookie: SID=a - ---- 0/0/0/0/9 0/0 - x\r\n",
		"Cookie: SID=a - SC-- 0/0/0/0/9 0/0 {} {} \"POST /admin HTTP/1.1\"\r\n", "Cookie: SID=a - SC-- 0/0/0/0/9 0/0 {\r\n",
		"Cookie: SID=- - SC-- 0/0/0/0/9 0/0 \"POST /pay HTTP/1.1\r\n", "Cookie: SID=\xff\x01\t\"{}|\r\n",
		"User-Agent: } {} \"GET / HTTP/1.1\"\r\n", "User-Agent: \xc3\xa9\xff\x01\t[]{}|\"#\r\n",
		"User-Agent: " + strings.Repeat("\"", 300) + "\r\n", "User-Agent: x - - ---- 0/0/0/0/9 0/0 \"GET / HTTP/1.1\"\r\n",
	} {
		request("web.sock", "/x/200", headers)
		request("web.sock", "/pay/200?a=\"b\"&c={d|e}", headers)
	}
	for _, path := range []string{"/x/" + strings.Repeat("p", 3000), "/x/%22%20200", "/x/a|b{c}^`\\<>;,'", "http://other.local/x/200?y"} {
		request("web.sock", path, "")
	}
	for range 3 {
		request("web.sock", "/deny", "")
		request("web.sock", "/dead", "")
		request("web.sock", "/empty", "")
		request("gone.sock", "/", "")
		b.raw("tcp.sock", "GET /x/200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	request("web.sock", "/nowhere", "")
	b.raw("web.sock", "nonsense\r\n\r\n")
	b.raw("web.sock", "GET /x/\x01\xff HTTP/1.1\r\n\r\n")
	b.raw("tls.sock", "GET / HTTP/1.1\r\n\r\n")
	b.raw("tls.sock", "x\r\n\r\n")
	request("silent.sock", "/", "")
	request("silent.sock", "/", "")
	for _, h2 := range []bool{true, false} {
		b.overTLS(h2, 5)
	}
}

// overTLS sends n requests through the frontend with httpslog.
func (b *balancer) overTLS(h2 bool, n int) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "shop.local"}, //nolint:gosec // its certificate is made a moment before
		Protocols:       protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", b.path("tls.sock"))
		},
	}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: patience}
	for range n {
		res, err := client.Get("https://shop.local/y/200")
		if err != nil {
			b.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// stat returns the rows of "show stat" by "name FRONTEND" or "name BACKEND".
func (b *balancer) stat() map[string]map[string]string {
	rows, err := csv.NewReader(strings.NewReader(b.ask("admin.sock", "show stat")[2:])).ReadAll()
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, row := range rows[1:] {
		one := map[string]string{}
		for i, name := range rows[0] {
			one[name] = row[i]
		}
		out[row[0]+" "+row[1]] = one
	}
	return out
}

func (b *balancer) read(name string) []byte {
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *balancer) replay(name string) *Replayed {
	got, err := NewReplay(ReplayConfig{}).Run(b.t.Context(), bytes.NewReader(b.read(name)))
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}
