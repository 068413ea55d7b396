package control

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/test/ports"
)

// pemFor returns a certificate's file for one host that ends after life.
func pemFor(t *testing.T, host string, life time.Duration) []byte {
	t.Helper()
	raw, err := selfSigned(host, time.Now(), life)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".pem"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tlsRig is a rig with an HTTPS entry and a directory of certificates.
type tlsRig struct {
	*rig
	source string
	certs  *Certificates
	addr   string
}

func newTLSRig(t *testing.T) *tlsRig {
	r := &tlsRig{rig: newRig(t), source: t.TempDir()}
	r.addr = ports.Address(t)
	r.opts.HTTPSBind = []string{r.addr}
	r.certs = NewCertificates(r.source, r.dir, testLog(t))
	r.supervise()
	return r
}

func (r *tlsRig) read() {
	r.t.Helper()
	if err := r.certs.Read(time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

// listed returns the options with the certificates as they are now.
func (r *tlsRig) listed() *haproxy.Options {
	o := *r.opts
	o.Certificates = r.certs.List()
	return &o
}

// serial returns which certificate a new connection is shown for a host.
func (r *tlsRig) serial(host string) string {
	c, err := tls.Dial("tcp", r.addr, &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // whose it is, is the question
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func serialOf(t *testing.T, raw []byte) string {
	t.Helper()
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.String()
}

func TestRenewedCertificateComesWithoutAReload(t *testing.T) {
	r := newTLSRig(t)
	first, second := pemFor(t, "shop.local", time.Hour), pemFor(t, "shop.local", 2*time.Hour)
	put(t, r.source, "shop", first)
	r.read()
	s := r.real()
	s.Certificates = r.certs
	_, stop := r.start(s)
	one := task(t, "one")
	c := haproxy.Build(table(service("shop", one)), r.listed(), nil)
	r.apply(c)
	if got := r.serial("shop.local"); got != serialOf(t, first) {
		t.Fatalf("the certificate is %s", got)
	}
	before := r.proc()

	// A connection that stands outlives what follows.
	long, err := tls.Dial("tcp", r.addr, &tls.Config{ServerName: "shop.local", InsecureSkipVerify: true}) //nolint:gosec // as above
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	ask := func() {
		t.Helper()
		_ = long.SetDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprint(long, "GET / HTTP/1.1\r\nHost: shop.local\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := long.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200") {
			t.Fatalf("on the long connection: %q %v", buf[:n], err)
		}
	}
	ask()
	put(t, r.source, "shop", second)
	r.read()
	r.until("new connections get the new certificate", func() bool { return r.serial("shop.local") == serialOf(t, second) })
	ask()
	if after := r.proc(); after.Workers[0] != before.Workers[0] || len(after.Old) > 0 {
		t.Errorf("processes %+v became %+v", before, after)
	}
	r.until("the file follows", func() bool {
		own, _ := os.ReadFile(filepath.Join(r.dir, haproxy.CertificateFile("shop")))
		return strings.Contains(string(own), string(second[:200]))
	})

	// Half a file costs nothing; a certificate renewed while the controller is away is put in when it is back.
	put(t, r.source, "shop", first[:len(first)/2])
	r.read()
	if p := r.certs.Problems(); len(p) != 1 || p[0].Code != "SB235" || !strings.Contains(p[0].Action, "last good") {
		t.Errorf("problems: %v", p)
	}
	if got := r.serial("shop.local"); got != serialOf(t, second) {
		t.Errorf("with half a file the certificate is %s", got)
	}
	stop()
	third := pemFor(t, "shop.local", 3*time.Hour)
	put(t, r.source, "shop", third)
	r.certs = NewCertificates(r.source, r.dir, testLog(t))
	r.read()
	s.Certificates = r.certs
	again := New(s)
	r.app = again
	prev, err := again.Recover(t.Context())
	if err != nil || prev == nil {
		t.Fatalf("recovered %v, %v", prev, err)
	}
	r.background(again.Run)
	if out := r.apply(haproxy.Build(table(service("shop", one)), r.listed(), prev)); out.Reloaded {
		t.Errorf("outcome %+v", out)
	}
	r.until("a restarted controller puts it in", func() bool { return r.serial("shop.local") == serialOf(t, third) })
	ask()
	if after := r.proc(); after.Workers[0] != before.Workers[0] {
		t.Errorf("processes %+v became %+v", before, after)
	}
}

// Files that were written with renewed certificates say what runs like those that follow a change: nothing stays behind.
func TestFilesWithRenewedCertificatesAreNotBehind(t *testing.T) {
	t.Parallel()
	a := New(Settings{Dir: t.TempDir(), Log: testLog(t)})
	c := haproxy.Build(table(), &haproxy.Options{}, nil)
	a.setRunning(c)
	if a.publishStatus(); a.Status().FileBehind == 0 {
		t.Fatal("without files nothing is behind")
	}
	a.renewed(jobResult{kind: renewing, config: c, published: true})
	if a.publishStatus(); a.Status().FileBehind != 0 {
		t.Errorf("the files are %s behind", a.Status().FileBehind)
	}
}

// What HAProxy does not take over its socket comes with a reload: a chain, or names, that are too long for a command, and a second
// certificate for a name that has to be asked first.
func TestCertificatesThatNeedAReload(t *testing.T) {
	r := newTLSRig(t)
	put(t, r.source, "shop", pemFor(t, "shop.local", time.Hour))
	put(t, r.source, "bad", []byte("garbage"))
	r.read()
	s := r.real()
	s.Certificates = r.certs
	app, _ := r.start(s)
	c := haproxy.Build(table(service("shop", task(t, "one"))), r.listed(), nil)
	r.apply(c)

	reloads := func(n uint64, want haproxy.Reason) {
		t.Helper()
		r.until(fmt.Sprintf("reload %d", n), func() bool { return app.Status().Reloads == n })
		if reason := app.Status().ReloadReason; reason != string(want) {
			t.Errorf("reload %d for %q", n, reason)
		}
	}
	long := pemFor(t, "shop.local", time.Hour)
	chain := long[:strings.Index(string(long), "-----BEGIN PRIVATE")]
	for range 40 {
		long = append(long, chain...)
	}
	put(t, r.source, "shop", long)
	r.read()
	r.until("the long chain is shown", func() bool { return r.serial("shop.local") == serialOf(t, long) })
	reloads(2, ReasonCertificate)

	first := pemFor(t, "shop.local", time.Hour)
	put(t, r.source, "first", first)
	r.read()
	c = haproxy.Build(table(service("shop", task(t, "one"))), r.listed(), c)
	r.apply(c)
	r.until("the one that comes first is shown", func() bool { return r.serial("shop.local") == serialOf(t, first) })
	reloads(3, haproxy.CertificatesChanged)
}

// Certificates, and the names that lead to them, come, change and go while requests and connections go on: no handshake is shown
// another one than before or after the change, and nothing is reloaded.
func TestCertificatesComeAndGoWithoutAReload(t *testing.T) {
	r := newTLSRig(t)
	shop := pemFor(t, "shop.local", time.Hour)
	put(t, r.source, "shop", shop)
	r.read()
	s := r.real()
	s.Certificates = r.certs
	r.start(s)
	one := task(t, "one")
	c := haproxy.Build(table(service("shop", one), service("named", one)), r.listed(), nil)
	r.apply(c)
	own := r.serial("other.local")
	var wrong atomic.Value
	var handshakes atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if got := r.serial("shop.local"); got != serialOf(t, shop) {
					wrong.Store(got)
				}
				handshakes.Add(1)
			}
		})
	}
	build := func(services ...*signalbox.Service) {
		t.Helper()
		r.read()
		c = haproxy.Build(table(services...), r.listed(), c)
		if out := r.apply(c); out.Reloaded {
			t.Errorf("%+v", out)
		}
	}
	shown := func(host, serial string) {
		t.Helper()
		r.until(host+" has its certificate", func() bool { return r.serial(host) == serial })
	}
	for i := range 10 {
		cart := pemFor(t, "cart.local", time.Duration(i+2)*time.Hour)
		put(t, r.source, "cart", cart)
		build(service("shop", one), service("named", one))
		shown("cart.local", serialOf(t, cart))

		// A label leads a name that nobody had to it, and then to another certificate.
		named := service("named", one)
		named.Policy.TLS = "cart"
		build(service("shop", one), named)
		shown("named.local", serialOf(t, cart))
		named = service("named", one)
		named.Policy.TLS = "shop"
		build(service("shop", one), named)
		shown("named.local", serialOf(t, shop))

		if err := os.Remove(filepath.Join(r.source, "cart.pem")); err != nil {
			t.Fatal(err)
		}
		build(service("shop", one), service("named", one))
		shown("cart.local", own)
		shown("named.local", own)
	}
	close(done)
	clients.Wait()
	if got := wrong.Load(); got != nil {
		t.Errorf("during %d handshakes shop.local was shown %v", handshakes.Load(), got)
	}
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads", n)
	}
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	path := filepath.Join(r.dir, haproxy.CertificateFile("cart"))
	r.until("nothing of a removed certificate stays", func() bool {
		answers, err := rt.Do(t.Context(), "show ssl cert", "show ssl crt-list -n "+r.opts.CertificateListPath())
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(path)
		return err != nil && !strings.Contains(answers[0]+answers[1], path)
	})
	for _, kind := range []string{"certificate", "certificates", "hosts", "names", "server", "shape"} {
		if n := counterValue(t, r.app.met.repairs.WithLabelValues(kind)); n != 0 {
			t.Errorf("%v repairs of kind %s, though nobody else changed anything", n, kind)
		}
	}
}

// Whatever somebody else does to HAProxy's certificates is found and undone, counted and said.
func TestTheAuditRepairsCertificates(t *testing.T) {
	r := newTLSRig(t)
	shop, foreign := pemFor(t, "shop.local", time.Hour), pemFor(t, "shop.local", time.Hour)
	put(t, r.source, "shop", shop)
	r.read()
	s := r.real()
	s.Certificates, s.AuditInterval = r.certs, 200*time.Millisecond
	r.start(s)
	c := haproxy.Build(table(service("shop", task(t, "one"))), r.listed(), nil)
	r.apply(c)
	list, path := r.opts.CertificateListPath(), filepath.Join(r.dir, haproxy.CertificateFile("shop"))
	r.until("the certificates are known", func() bool { return r.serial("shop.local") == serialOf(t, shop) && r.audits() > 1 })
	rt := NewRuntime(r.opts.StatsSocket)
	defer rt.Close()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	repaired := func(kind string, n float64) {
		t.Helper()
		r.until(fmt.Sprintf("%v repairs of %s", n, kind), func() bool {
			return counterValue(t, r.app.met.repairs.WithLabelValues(kind)) >= n && r.serial("shop.local") == serialOf(t, shop)
		})
	}
	do(rt.SetCertificate(t.Context(), path, foreign))
	repaired("certificate", 1)
	entries := func() []CertificateEntry {
		answers, err := rt.Do(t.Context(), "show ssl crt-list -n "+list)
		do(err)
		all, err := ParseCertificateList(answers[0])
		do(err)
		return all
	}
	do(rt.DeleteCertificateLine(t.Context(), list, entries()[1]))
	repaired("certificates", 1)
	do(rt.AddCertificateLine(t.Context(), list, haproxy.CertificateLine{File: path, Filters: []string{"theirs.local"}}))
	repaired("certificates", 2)
	r.until("their line is gone", func() bool { return len(entries()) == 2 })
	do(rt.say(t.Context(), "set ssl cert "+path+" <<\n"+string(foreign)+"\n", "Transaction", "!"))
	repaired("certificate", 2)
	if n := r.app.Status().Reloads; n != 1 {
		t.Errorf("%d reloads", n)
	}
}

func TestCertificatesThatAreGoneForAWhile(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, source, "shop", pemFor(t, "shop.local", time.Hour))
	c := NewCertificates(source, dir, testLog(t))
	if err := c.Read(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(source, source+"x"); err != nil {
		t.Fatal(err)
	}
	if err := c.Read(time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := c.List(); len(got) != 1 || len(c.Problems()) != 1 {
		t.Errorf("without the directory: %v, %v", got, c.Problems())
	}
	if err := os.Rename(source+"x", source); err != nil {
		t.Fatal(err)
	}
	if err := c.Read(time.Now()); err != nil || len(c.Problems()) != 0 {
		t.Errorf("with it again: %v, %v", err, c.Problems())
	}
}

// A start while the directory is gone or empty, as when a volume is not mounted yet, takes no certificate from anybody.
func TestCertificatesOfAnEarlierRunStay(t *testing.T) {
	source, own := t.TempDir(), t.TempDir()
	names := func(c *Certificates) (out []string) {
		for _, cert := range c.List() {
			out = append(out, cert.Name)
		}
		return out
	}
	read := func(source string) *Certificates {
		t.Helper()
		c := NewCertificates(source, own, testLog(t))
		if err := c.Read(time.Now()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	put(t, source, "a", pemFor(t, "a.local", time.Hour))
	first := read(source)
	for _, f := range first.files(&haproxy.Options{HTTPSBind: []string{":443"}, Certificates: first.List()}) {
		if err := os.WriteFile(filepath.Join(own, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := filepath.Join(source, "gone")
	for _, state := range []string{"gone", "empty"} {
		if c := read(gone); !slices.Equal(names(c), []string{"a"}) || len(c.Problems()) != 1 {
			t.Errorf("while the directory is %s there are %v, with problems %v", state, names(c), c.Problems())
		}
		_ = os.Mkdir(gone, 0o700)
	}
	put(t, gone, "b", pemFor(t, "b.local", time.Hour))
	if c := read(gone); !slices.Equal(names(c), []string{"b"}) || len(c.Problems()) != 0 {
		t.Errorf("with another one there are %v, with problems %v", names(c), c.Problems())
	}
	if got := names(read("")); len(got) != 0 {
		t.Errorf("without any directory asked for there are %v", got)
	}
	put(t, source, "default", pemFor(t, "default.local", time.Hour))
	if err := os.WriteFile(filepath.Join(own, haproxy.CertificateFile("default")), pemFor(t, "default.local", time.Hour), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := names(read(filepath.Join(source, "none"))); !slices.Equal(got, []string{"a", "default"}) {
		t.Errorf("with a default of the operator's there are %v", got)
	}
}

func TestExpiryIsVisibleInTime(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	put(t, dir, "shop", pemFor(t, "shop.local", 20*24*time.Hour))
	put(t, dir, "cart", pemFor(t, "cart.local", 30*24*time.Hour))
	c := NewCertificates(dir, t.TempDir(), testLog(t))
	if err := c.Read(now); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""}, {5 * 24 * time.Hour, ""}, {7 * 24 * time.Hour, "the certificate shop ends at"}, {21 * 24 * time.Hour, "the certificate shop ended at"},
	} {
		if got := c.Health(now.Add(s.after)); !strings.HasPrefix(got, s.want) || s.want == "" && got != "" {
			t.Errorf("after %s: %q, want %q", s.after, got, s.want)
		}
	}
	if n := testutil.CollectAndCount(c, "signalbox_certificate_expiry_timestamp_seconds"); n != 2 {
		t.Errorf("%d metrics", n)
	}
}

// What HAProxy does not load costs that certificate alone, in favour of its last good content.
func TestCertificatesAreTried(t *testing.T) {
	try := (&Checker{}).TryCertificate
	if err := try(t.Context(), pemFor(t, "shop.local", time.Hour)); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if err := try(t.Context(), []byte("junk")); err == nil || !strings.Contains(err.Error(), "unable to load certificate") {
		t.Errorf("junk: %v", err)
	}
	source, refuse := t.TempDir(), false
	c := NewCertificates(source, t.TempDir(), testLog(t))
	c.Try = func([]byte) error {
		if refuse {
			return errors.New("HAProxy says no")
		}
		return nil
	}
	read := func() {
		t.Helper()
		if err := c.Read(time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	put(t, source, "shop", pemFor(t, "shop.local", time.Hour))
	read()
	refuse = true
	put(t, source, "shop", pemFor(t, "shop.local", 2*time.Hour))
	put(t, source, "cart", pemFor(t, "cart.local", time.Hour))
	read()
	if got := c.List(); len(got) != 1 || got[0].Name != "shop" {
		t.Errorf("certificates: %v", got)
	}
	p := c.Problems()
	if len(p) != 2 || !strings.Contains(p[0].Action, "not shown") || !strings.Contains(p[1].Action, "last good") || !strings.Contains(p[0].Message, "says no") {
		t.Errorf("problems: %v", p)
	}
}

// Who wants to know the certificates, a reload above all, does not wait while HAProxy is asked about a new one.
func TestCertificatesAreKnownWhileOneIsTried(t *testing.T) {
	source := t.TempDir()
	c := NewCertificates(source, t.TempDir(), testLog(t))
	put(t, source, "shop", pemFor(t, "shop.local", time.Hour))
	if err := c.Read(time.Now()); err != nil {
		t.Fatal(err)
	}
	asked, answer, read := make(chan bool), make(chan error), make(chan error)
	c.Try = func([]byte) error {
		close(asked)
		return <-answer
	}
	put(t, source, "cart", pemFor(t, "cart.local", time.Hour))
	go func() { read <- c.Read(time.Now()) }()
	<-asked
	known := make(chan int, 1)
	go func() { known <- len(c.List()) }()
	select {
	case n := <-known:
		if n != 1 {
			t.Errorf("%d certificates", n)
		}
	case <-time.After(patience):
		t.Error("nobody gets to know them")
	}
	answer <- nil
	if err := <-read; err != nil || len(c.List()) != 2 {
		t.Errorf("then there are %v, %v", c.List(), err)
	}
}

// A check as another user sees no key.
func TestChecksSeeNoKeys(t *testing.T) {
	secret := File{haproxy.CertificateFile("shop"), []byte("no certificate at all")}
	config := File{configName, []byte("defaults\n  mode http\n  timeout client 1s\n  timeout server 1s\n  timeout connect 1s\nfrontend x\n  bind 127.0.0.1:1 ssl crt /d/" + secret.Name + "\n")}
	v, err := (&Checker{Dir: "/d"}).Check(t.Context(), []File{secret, config}, false)
	// Only root checks as another user.
	if err != nil || (len(v.Rejections) > 0) != (os.Geteuid() != 0) {
		t.Errorf("verdict %+v, %v", v, err)
	}
}
