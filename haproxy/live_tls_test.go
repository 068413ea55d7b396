package haproxy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox"
	"signalbox/test/ports"
)

// keyPair returns a certificate's file, made out to hosts.
func keyPair(tb testing.TB, hosts ...string) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return signed(tb, key, &key.PublicKey, hosts...)
}

func signed(tb testing.TB, key, public any, hosts ...string) []byte {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test " + strings.Join(hosts, " ")},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: hosts,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		tb.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
}

// certify gives HAProxy certificates, by their names, and an HTTPS entry.
func certify(tb testing.TB, certificates map[string][]string) func(*Options) {
	return func(o *Options) {
		o.HTTPSBind = []string{ports.Address(tb)}
		if certificates[DefaultCertificate] == nil {
			save(tb, o, DefaultCertificate, keyPair(tb))
		}
		for name, hosts := range certificates {
			pair, err := ParseKeyPair(name, keyPair(tb, hosts...))
			if err != nil {
				tb.Fatal(err)
			}
			save(tb, o, name, pair.PEM)
			o.Certificates = append(o.Certificates, pair.Certificate)
		}
		slices.SortFunc(o.Certificates, func(x, y Certificate) int { return strings.Compare(x.Name, y.Name) })
	}
}

func save(tb testing.TB, o *Options, name string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(o.Dir, CertificateFile(name)), data, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// secure asks addr for a URL over TLS and returns the answer, and whom the certificate is made out to.
func secure(t *testing.T, addr, url string) (status int, body, certificate, proto string) {
	t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // whose it is, is the question
		DialContext: dialer(addr),
	}}
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), strings.TrimPrefix(res.TLS.PeerCertificates[0].Subject.CommonName, "test "), res.Proto
}

func TestHTTPSByName(t *testing.T) {
	named := service("/named", "named.shop.local/", mirror(t, "named"))
	named.Policy.TLS = "special"
	unknown := service("/unknown", "unknown.shop.local/", mirror(t, "unknown"))
	unknown.Policy.TLS = "nowhere"
	l := startWith(t, tableOf(
		service("/shop", "shop.local/ *.shop.local/ other.local/", mirror(t, "shop")), named, unknown,
	), certify(t, map[string][]string{"shop": {"shop.local", "*.shop.local"}, "special": {"elsewhere.local"}}))
	_, port, _ := strings.Cut(l.options.HTTPSBind[0], ":")
	for _, c := range []struct{ host, certificate, body string }{
		{"shop.local", "shop.local *.shop.local", "shop"},
		{"SHOP.local", "shop.local *.shop.local", "shop"},
		{"any.shop.local", "shop.local *.shop.local", "shop"},
		{"named.shop.local", "elsewhere.local", "named"},
		{"elsewhere.local", "elsewhere.local", `{"error":"no route for this host","host":"elsewhere.local"}`},
		{"unknown.shop.local", "", "unknown"},
		{"other.local", "", "shop"},
	} {
		_, body, certificate, proto := secure(t, l.options.HTTPSBind[0], "https://"+c.host+"/")
		if !strings.HasPrefix(body, c.body) || strings.TrimSpace(certificate) != c.certificate || proto != "HTTP/2.0" {
			t.Errorf("%s: %s with the certificate of %q over %s, want %s and %q", c.host, body, certificate, proto, c.body, c.certificate)
		}
		if strings.HasPrefix(body, "shop") && !strings.Contains(body, "x-forwarded-for=127.0.0.1") || strings.HasPrefix(body, "shop") &&
			!strings.Contains(body, "x-forwarded-port="+port+" x-forwarded-proto=https") {
			t.Errorf("%s: %s", c.host, body)
		}
	}
	var codes []string
	for _, p := range l.now.Problems {
		codes = append(codes, p.Code+" "+p.App)
	}
	if !slices.Equal(codes, []string{"SB230 /unknown"}) {
		t.Errorf("problems: %v", codes)
	}
}

func TestTLSIsModern(t *testing.T) {
	l := startWith(t, tableOf(), certify(t, nil))
	_, err := tls.Dial("tcp", l.options.HTTPSBind[0], &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}) //nolint:gosec // that is the test
	if err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	for _, suite := range []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA} {
		_, err := tls.Dial("tcp", l.options.HTTPSBind[0], &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}) //nolint:gosec // that is the test
		if err == nil {
			t.Errorf("%s is spoken", tls.CipherSuiteName(suite))
		}
	}
}

func TestOlderServiceChoosesTheCertificate(t *testing.T) {
	older, younger := service("/older", "shop.local/"), service("/younger", "shop.local/cart")
	older.Since, younger.Since = time.Unix(1, 0), time.Unix(2, 0)
	older.Policy.TLS, younger.Policy.TLS = "a", "b"
	o := testOptions("/d")
	o.HTTPSBind = []string{":443"}
	o.Certificates = []Certificate{{"a", []string{"a.local"}}, {"b", []string{"shop.local"}}}
	for _, table := range []*signalbox.Table{tableOf(older, younger), tableOf(younger, older)} {
		c := Build(table, o, nil)
		if len(c.Problems) != 1 || c.Problems[0].Code != "SB231" || c.Problems[0].App != "/younger" {
			t.Errorf("problems: %v", c.Problems)
		}
		if got := string(certListText(c)); !strings.HasSuffix(got, "/certificate_a.pem a.local shop.local\n") {
			t.Errorf("the list is\n%s", got)
		}
	}
}

// A third service that agrees with the oldest does not let a younger one decide.
func TestOldestServiceChoosesTheCertificate(t *testing.T) {
	first, second, third := service("/1", "shop.local/"), service("/2", "shop.local/b"), service("/3", "shop.local/c")
	first.Since, second.Since, third.Since = time.Unix(1, 0), time.Unix(3, 0), time.Unix(2, 0)
	first.Policy.TLS, second.Policy.TLS, third.Policy.TLS = "a", "a", "b"
	o := testOptions("/d")
	o.HTTPSBind, o.Certificates = []string{":443"}, []Certificate{{Name: "a"}, {Name: "b"}}
	c := Build(tableOf(first, second, third), o, nil)
	if len(c.Certificates) != 1 || c.Certificates[0].Name != "a" || len(c.Problems) != 1 || c.Problems[0].App != "/3" {
		t.Errorf("%v, %v", c.Certificates, c.Problems)
	}
}

// Who is content with the certificate that is made out to its host keeps it, whatever a younger app asks for.
func TestNobodyTakesAnotherAppsCertificate(t *testing.T) {
	shop, evil := service("/shop", "shop.local/ free.org/"), service("/evil", "shop.local/x free.org/x")
	shop.Since, evil.Since = time.Unix(1, 0), time.Unix(2, 0)
	o := testOptions("/d")
	o.HTTPSBind, o.Certificates = []string{":443"}, []Certificate{{"evil", []string{"evil.local"}}, {"wild", []string{"*.local"}}}
	for label, want := range map[string]string{"evil": "evil [evil.local free.org] wild [*.local]", "none": "evil [evil.local] wild [*.local]"} {
		evil.Policy.TLS = label
		c := Build(tableOf(shop, evil), o, nil)
		var uses []string
		for _, u := range c.Certificates {
			uses = append(uses, fmt.Sprintf("%s %v", u.Name, u.Hosts))
			if len(u.Not) > 0 {
				t.Errorf("%s: %s is not shown for %v", label, u.Name, u.Not)
			}
		}
		told := slices.ContainsFunc(c.Problems, func(p signalbox.Problem) bool {
			return p.Code == "SB231" && p.App == "/evil" && strings.Contains(p.Message, "shop.local has the certificate that is made out to it")
		})
		if got := strings.Join(uses, " "); got != want || !told {
			t.Errorf("%s: %s, want %s; problems %v", label, got, want, c.Problems)
		}
	}
	own := *shop
	own.ID, own.Port, own.Policy.TLS = "/shop:1", 1, "evil"
	if c := Build(tableOf(shop, &own), o, nil); !slices.Contains(c.Certificates[0].Hosts, "shop.local") {
		t.Errorf("a second port of the same app asks for another one: %v", c.Certificates)
	}
}

// Which certificates there are, and for which names, changes without a reload; that there is TLS at all does not.
func TestCertificatesThatComeAndGo(t *testing.T) {
	o := testOptions("/d")
	o.HTTPSBind, o.Certificates = []string{":443"}, []Certificate{{"a", []string{"a.local"}}}
	app := service("/shop", "shop.local/")
	c := Build(tableOf(app), o, nil)
	more := *o
	more.Certificates = append(slices.Clone(o.Certificates), Certificate{"b", []string{"b.local"}})
	two := Build(tableOf(app), &more, c)
	named := *app
	named.Policy.TLS = "a"
	for name, want := range map[string]*Config{"a new certificate": two, "a label that asks for a certificate": Build(tableOf(&named), o, c)} {
		if got := Diff(c, want).Reasons; len(got) != 0 || c.SameCertificates(want) || Applied(c, want) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := Diff(two, Build(tableOf(app), o, two)).Reasons; len(got) != 0 {
		t.Errorf("a certificate that is gone: %v", got)
	}
	none := *o
	none.HTTPSBind, none.Certificates = nil, nil
	one := none
	one.Certificates = o.Certificates
	c = Build(tableOf(app), &none, nil)
	if got := Diff(c, Build(tableOf(app), &one, c)).Reasons; !slices.Equal(got, []Reason{CertificatesChanged}) {
		t.Errorf("the first certificate without an HTTPS entry: %v", got)
	}
}

func TestBadCertificatesAreRefused(t *testing.T) {
	good := keyPair(t, "shop.local")
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is the test
	if err != nil {
		t.Fatal(err)
	}
	halves := func(data []byte) (certificate, key []byte) {
		certificate, key, _ = bytes.Cut(data, []byte("-----BEGIN PRIVATE KEY-----"))
		return certificate, append([]byte("-----BEGIN PRIVATE KEY-----"), key...)
	}
	certificate, key := halves(good)
	_, other := halves(keyPair(t))
	for name, data := range map[string][]byte{
		"empty": nil, "garbage": []byte("garbage"), "no key": certificate, "no certificate": key,
		"another key": slices.Concat(certificate, other),
		"two keys":    append(bytes.Clone(good), key...),
		"cut":         good[:len(good)-60],
		"short key":   signed(t, weak, &weak.PublicKey, "shop.local"),
		"encrypted":   bytes.ReplaceAll(good, []byte("PRIVATE KEY"), []byte("ENCRYPTED PRIVATE KEY")),
		"no DER":      append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), key...),
	} {
		if pair, err := ParseKeyPair("x", data); err == nil {
			t.Errorf("%s is accepted: %+v", name, pair.Certificate)
		}
	}
	pair, err := ParseKeyPair("x", slices.Concat([]byte("some text\n\n"), key, certificate))
	if err != nil || !slices.Equal(pair.Hosts, []string{"shop.local"}) || bytes.Contains(pair.PEM, []byte("\n\n")) {
		t.Errorf("the key before the certificate: %v %v", pair, err)
	}
	for _, name := range []string{"", "a b", "../x", ".x", "a/b", "a'b", strings.Repeat("x", 65)} {
		if _, err := ParseKeyPair(name, good); err == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
}
