package routing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"signalbox/haproxy"
)

// certified are the certificates that every cell has beside the default one, and their names.
var certified = map[string][]string{
	haproxy.DefaultCertificate: {"default.invalid"},
	"shop":                     {"shop.local", "*.shop.local"},
	"own":                      {"own.local"},
}

var pairs = sync.OnceValues(func() (map[string]*haproxy.KeyPair, error) {
	all := make(map[string]*haproxy.KeyPair)
	for name, hosts := range certified {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: hosts,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		}
		leaf, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return nil, err
		}
		raw := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
		if all[name], err = haproxy.ParseKeyPair(name, raw); err != nil {
			return nil, err
		}
	}
	return all, nil
})

// certify puts the certificates where the options say that they are.
func certify(t *testing.T, o *haproxy.Options) {
	t.Helper()
	all, err := pairs()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{haproxy.DefaultCertificate, "own", "shop"} {
		if err := os.WriteFile(filepath.Join(o.Dir, haproxy.CertificateFile(name)), all[name].PEM, 0o600); err != nil {
			t.Fatal(err)
		}
		if name != haproxy.DefaultCertificate {
			o.Certificates = append(o.Certificates, all[name].Certificate)
		}
	}
}
