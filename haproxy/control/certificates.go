package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/haproxy"
)

// maxCertificate bounds the file of one certificate, in bytes.
const maxCertificate = 1 << 20

// expirySoon is how long before its end a certificate degrades health: later than whatever renews certificates begins to try.
const expirySoon = 14 * 24 * time.Hour

// Certificates knows the certificates that an operator puts into a directory, as NAME.pem each with its chain and key. What can't be
// read keeps its last good content. It is safe for concurrent use; Read is called by one goroutine at a time.
type Certificates struct {
	// Try asks HAProxy whether it loads a certificate that we would take; nil: nobody is asked.
	Try func(pem []byte) error

	source string // the operator's directory, "" for none
	own    string // where HAProxy's files are, and thus the last good ones
	log    logrus.FieldLogger

	mu       sync.Mutex
	held     map[string]*heldCertificate // by name
	problems map[string]signalbox.Problem
	version  uint64 // counts the changes of held

	refusals map[string]refusal // by name; Read's own
	changed  chan struct{}
}

// refusal is a content that HAProxy does not load: it is not tried again.
type refusal struct {
	pem []byte
	err error
}

type heldCertificate struct {
	haproxy.KeyPair
	raw     []byte // the operator's file, so that an unchanged one is not parsed again
	listed  bool   // it is in the operator's directory now
	version uint64 // of Certificates, when its content changed last
}

// NewCertificates returns the certificates of the directory source, "" for none, whose copies are kept in the directory own. It reads
// nothing yet.
func NewCertificates(source, own string, log logrus.FieldLogger) *Certificates {
	return &Certificates{
		source: source, own: own, log: loggerOr(log),
		held: map[string]*heldCertificate{}, refusals: map[string]refusal{}, problems: map[string]signalbox.Problem{}, changed: make(chan struct{}, 1),
	}
}

// Changed returns a channel that gets a value when List returns something else than before.
func (c *Certificates) Changed() <-chan struct{} { return c.changed }

// Run reads the directory again and again until ctx ends.
func (c *Certificates) Run(ctx context.Context, every time.Duration) error {
	again(ctx, every, func() {
		if err := c.Read(time.Now()); err != nil {
			c.log.WithError(err).Error("the default certificate can't be made")
		}
	})
	return nil
}

// Read looks at every file. What it can't take becomes a problem; the error is only of making the default certificate.
func (c *Certificates) Read(now time.Time) error {
	files, err := c.list()
	found := make([]foundCertificate, len(files))
	for i, path := range files { // without the lock: HAProxy is asked about each new one, and who wants to reload would wait
		found[i] = c.look(path)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.listed()
	problems := map[string]signalbox.Problem{}
	if len(c.held) == 0 && c.source != "" && len(files) == 0 {
		c.recallAll()
	}
	if err == nil && len(files) == 0 && len(c.listed()) > 0 {
		err = errors.New("it is empty") // a volume that is not mounted looks like that
	}
	if err != nil {
		// The directory is gone or can't be read: what was there stays, or the copies of an earlier run.
		problems[c.source] = problem(c.source, err, "the certificates stay as they were")
		for name, p := range c.problems {
			problems[name] = cmp.Or(problems[name], p)
		}
	} else {
		for _, h := range c.held {
			h.listed = false
		}
		for _, f := range found {
			if f.err != nil {
				problems[f.name] = c.refused(f.name, f.path, f.err)
				continue
			}
			c.hold(f.pair, f.raw, true)
		}
	}
	for name, p := range problems {
		if c.problems[name] != p {
			c.log.WithField("certificate", name).Warn(p.Message)
		}
	}
	c.problems = problems
	if err := c.defaultCertificate(now); err != nil {
		return fmt.Errorf("making the default certificate: %w", err)
	}
	if !slices.EqualFunc(before, c.listed(), func(a, b haproxy.Certificate) bool { return a.Name == b.Name && slices.Equal(a.Hosts, b.Hosts) }) {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

func (c *Certificates) list() ([]string, error) {
	if c.source == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(c.source)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".pem") && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			out = append(out, filepath.Join(c.source, e.Name()))
		}
	}
	return out, nil
}

// foundCertificate is what one file of the operator's directory holds, or why it can't be taken.
type foundCertificate struct {
	name, path string
	raw        []byte
	pair       *haproxy.KeyPair
	err        error
}

// look reads one file. What is in it is judged once.
func (c *Certificates) look(path string) foundCertificate {
	f := foundCertificate{name: strings.TrimSuffix(filepath.Base(path), ".pem"), path: path}
	if f.raw, f.err = readBounded(path); f.err != nil {
		return f
	}
	c.mu.Lock()
	was := c.held[f.name]
	c.mu.Unlock()
	if was != nil && was.raw != nil && bytes.Equal(was.raw, f.raw) {
		f.pair = &was.KeyPair
		return f
	}
	if f.pair, f.err = haproxy.ParseKeyPair(f.name, f.raw); f.err == nil && (was == nil || !bytes.Equal(was.PEM, f.pair.PEM)) {
		f.err = c.try(f.pair)
	}
	return f
}

// try asks HAProxy about a certificate, once for each that it refuses.
func (c *Certificates) try(pair *haproxy.KeyPair) error {
	if c.Try == nil {
		return nil
	}
	if r := c.refusals[pair.Name]; r.err != nil && bytes.Equal(r.pem, pair.PEM) {
		return r.err
	}
	err := c.Try(pair.PEM)
	switch {
	case err == nil:
		delete(c.refusals, pair.Name)
	case !errors.Is(err, errUntried):
		c.refusals[pair.Name] = refusal{pair.PEM, err}
	}
	return err
}

// hold keeps a certificate. The caller holds the lock.
func (c *Certificates) hold(pair *haproxy.KeyPair, raw []byte, listed bool) {
	h := &heldCertificate{KeyPair: *pair, raw: raw, listed: listed}
	if was := c.held[pair.Name]; was != nil && bytes.Equal(was.PEM, pair.PEM) {
		h.version = was.version
	} else {
		c.version++
		h.version = c.version
	}
	c.held[pair.Name] = h
}

// refused keeps the last good content of a certificate whose file can't be taken. The caller holds the lock.
func (c *Certificates) refused(name, path string, why error) signalbox.Problem {
	if c.held[name] == nil {
		c.recall(name)
	}
	action := "it is not shown to any client"
	if h := c.held[name]; h != nil {
		h.listed, action = true, "its last good content stays"
	}
	return problem(path, why, action)
}

// recall takes the own copy of a certificate, of an earlier run, into held. The caller holds the lock.
func (c *Certificates) recall(name string) {
	if !haproxy.ValidCertificateName(name) {
		return
	}
	raw, err := readBounded(filepath.Join(c.own, haproxy.CertificateFile(name)))
	if err != nil {
		return
	}
	if pair, err := haproxy.ParseKeyPair(name, raw); err == nil {
		c.hold(pair, nil, false)
	}
}

// recallAll takes the own copies of all certificates for what the operator's directory held. The caller holds the lock.
func (c *Certificates) recallAll() {
	entries, err := os.ReadDir(c.own)
	if err != nil {
		return
	}
	for _, e := range entries {
		name, ok := haproxy.CertificateIn(e.Name())
		if !ok {
			continue
		}
		c.recall(name)
		if h := c.held[name]; h != nil {
			h.listed = name != haproxy.DefaultCertificate || !slices.Equal(h.Hosts, []string{ownName})
		}
	}
}

func problem(file string, why error, action string) signalbox.Problem {
	return signalbox.Problem{
		Code: "SB235", Severity: signalbox.SeverityError, Label: "certificates", Value: cut(file, 200),
		Message: fmt.Sprintf("the certificate in %s can't be used: %v", filepath.Base(file), why), Action: action,
	}
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case info.Size() > maxCertificate:
		return nil, fmt.Errorf("it has more than %d bytes", maxCertificate)
	}
	return os.ReadFile(path)
}

// ownName is the name that a default certificate of our own is made out to.
const ownName = "signalbox"

// defaultLife is how long a default certificate of our own lives; it is replaced when less than a tenth is left.
const defaultLife = 10 * 365 * 24 * time.Hour

// defaultCertificate makes sure that there is one for clients that ask for a name which nobody has. The caller holds the lock.
func (c *Certificates) defaultCertificate(now time.Time) error {
	h := c.held[haproxy.DefaultCertificate]
	if h == nil {
		c.recall(haproxy.DefaultCertificate)
		h = c.held[haproxy.DefaultCertificate]
	}
	if h != nil && (h.listed || h.NotAfter.Sub(now) > defaultLife/10) {
		return nil
	}
	raw, err := selfSigned(ownName, now, defaultLife)
	if err != nil {
		return err
	}
	pair, err := haproxy.ParseKeyPair(haproxy.DefaultCertificate, raw)
	if err != nil {
		return err
	}
	c.hold(pair, nil, false)
	return nil
}

// selfSigned returns a certificate and its key that nobody has vouched for.
func selfSigned(name string, now time.Time, life time.Duration) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// List returns the certificates of the operator's, sorted by name.
func (c *Certificates) List() []haproxy.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listed()
}

func (c *Certificates) listed() []haproxy.Certificate {
	var out []haproxy.Certificate
	for _, name := range slices.Sorted(maps.Keys(c.held)) {
		if h := c.held[name]; h.listed {
			out = append(out, h.Certificate)
		}
	}
	return out
}

// files returns what HAProxy's list of certificates names, for a configuration with options o. One that has left the directory while
// o names it still has its last content.
func (c *Certificates) files(o *haproxy.Options) []File {
	var out []File
	for _, p := range c.pairs(o) {
		out = append(out, File{haproxy.CertificateFile(p.Name), p.PEM})
	}
	return out
}

// pairs returns the default certificate and those that o names, each once.
func (c *Certificates) pairs(o *haproxy.Options) []heldCertificate {
	if o == nil || len(o.HTTPSBind) == 0 && len(o.Certificates) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{haproxy.DefaultCertificate}
	for _, cert := range o.Certificates {
		if cert.Name != haproxy.DefaultCertificate {
			names = append(names, cert.Name)
		}
	}
	var out []heldCertificate
	for _, name := range names {
		if c.held[name] == nil {
			c.recall(name)
		}
		if h := c.held[name]; h != nil {
			out = append(out, *h)
		}
	}
	return out
}

// changes returns how often the content of a certificate has changed.
func (c *Certificates) changes() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// Problems returns what is wrong with the files, sorted.
func (c *Certificates) Problems() []signalbox.Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.problems), signalbox.Problem.Compare)
}

// Health says whether a certificate has ended or soon will, and otherwise whether a file can't be used; "" where all is well.
func (c *Certificates) Health(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var soonest *heldCertificate
	for _, h := range c.held {
		if h.listed && (soonest == nil || h.NotAfter.Before(soonest.NotAfter) || h.NotAfter.Equal(soonest.NotAfter) && h.Name < soonest.Name) {
			soonest = h
		}
	}
	switch {
	case soonest != nil && !soonest.NotAfter.After(now):
		return fmt.Sprintf("the certificate %s ended at %s", soonest.Name, soonest.NotAfter.UTC().Format(time.RFC3339))
	case soonest != nil && soonest.NotAfter.Sub(now) < expirySoon:
		return fmt.Sprintf("the certificate %s ends at %s", soonest.Name, soonest.NotAfter.UTC().Format(time.RFC3339))
	case len(c.problems) > 0:
		return fmt.Sprintf("%d files with certificates can't be used", len(c.problems))
	}
	return ""
}

var expiryDesc = prometheus.NewDesc("signalbox_certificate_expiry_timestamp_seconds",
	"When a certificate that clients are shown ends.", []string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (c *Certificates) Describe(ch chan<- *prometheus.Desc) { ch <- expiryDesc }

// Collect implements prometheus.Collector.
func (c *Certificates) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, h := range c.held {
		if h.listed {
			ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(h.NotAfter.Unix()), name)
		}
	}
}
