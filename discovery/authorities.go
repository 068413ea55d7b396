package discovery

import (
	"crypto/x509"
	"fmt"
	"os"
)

// Authorities reads the certificates of a PEM file, for what they sign to be trusted. Whose name the certificate has that they sign stands in
// the error.
func Authorities(path, whose string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities of %s: %w", whose, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the authorities of %s: %s holds none", whose, path)
	}
	return pool, nil
}
