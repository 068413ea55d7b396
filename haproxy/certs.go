package haproxy

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // HAProxy names certificates by it; nothing relies on its strength
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// DefaultCertificate is the name of the certificate that answers clients which ask for no name, or for one that no other has.
const DefaultCertificate = "default"

// certList is the file, in Options.Dir, that says which certificate answers for which name.
const certList = "certificates.list"

// Certificate is a certificate that HAProxy can show. What is in it may be renewed; its name and hosts stay.
type Certificate struct {
	Name  string   // what labels call it: "shop"
	Hosts []string // that it is made out to, sorted, in lower case: "shop.local", "*.shop.local"
}

// CertificateUse is one certificate and the names for which it answers: one line of the list that HAProxy reads.
type CertificateUse struct {
	Name  string
	Hosts []string // sorted
	Not   []string // names that a wildcard among Hosts does not cover, sorted
}

// KeyPair is what one file of the operator's holds, fit for HAProxy.
type KeyPair struct {
	Certificate
	PEM         []byte // the chain, the leaf first, then its key; without empty lines, which would end a runtime command
	NotAfter    time.Time
	Fingerprint string // SHA-1 of the leaf as HAProxy words it
}

// CertificateFile returns the name, in Options.Dir, of the file with a certificate and its key.
func CertificateFile(name string) string { return "certificate_" + name + ".pem" }

// CertificateIn returns the name of the certificate that a file of CertificateFile's name has.
func CertificateIn(file string) (name string, ok bool) {
	name, ok = strings.CutPrefix(file, "certificate_")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, ".pem")
}

// ValidCertificateName reports whether a certificate can be called so.
func ValidCertificateName(name string) bool {
	return len(name) <= 64 && all(name, "._-") && !strings.HasPrefix(name, ".")
}

// ParseKeyPair reads a certificate's file: the leaf, what else of its chain, and the leaf's key, in any order. It refuses whatever
// HAProxy would refuse to load, because that would cost every other certificate too.
func ParseKeyPair(name string, data []byte) (*KeyPair, error) {
	if !ValidCertificateName(name) {
		return nil, fmt.Errorf("the name %q of a certificate may only have letters, digits and ._-", name)
	}
	var chain, key []byte
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		plain := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
		switch {
		case block.Type == "CERTIFICATE":
			chain = append(chain, plain...)
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"): // parameters of curves and groups, which nothing needs
		case strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["Proc-Type"] != "":
			return nil, errors.New("the key is encrypted")
		case key != nil:
			return nil, errors.New("it holds several keys")
		default:
			key = plain
		}
	}
	switch {
	case chain == nil:
		return nil, errors.New("it holds no certificate in PEM")
	case key == nil:
		return nil, errors.New("it holds no private key in PEM")
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if err := strong(c); err != nil {
			return nil, err
		}
	}
	leaf := pair.Leaf
	return &KeyPair{
		Certificate: Certificate{Name: name, Hosts: hostsOf(leaf)}, PEM: append(chain, key...), NotAfter: leaf.NotAfter,
		Fingerprint: fmt.Sprintf("%X", sha1.Sum(leaf.Raw)), //nolint:gosec // as above
	}, nil
}

// strong refuses keys and signatures that OpenSSL does not load at its usual level of security.
func strong(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 {
			return fmt.Errorf("a key of %d bits is too short", n)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of the kind %s is not supported", c.PublicKeyAlgorithm)
	}
	root := slices.Equal(c.RawIssuer, c.RawSubject)
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		if !root {
			return fmt.Errorf("the signature %s is too weak", c.SignatureAlgorithm)
		}
	}
	return nil
}

// hostsOf returns the names that a certificate is made out to, its common name where it has none else.
func hostsOf(c *x509.Certificate) []string {
	var hosts []string
	names := c.DNSNames
	if len(names) == 0 {
		names = []string{c.Subject.CommonName}
	}
	for _, h := range names {
		if h = strings.TrimSuffix(strings.ToLower(h), "."); sniHost(h) {
			hosts = append(hosts, h)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// sniHost reports whether clients can ask for a name in the handshake: a DNS name, or "*." before one.
func sniHost(h string) bool {
	return h != "" && validHost(h) && all(strings.TrimPrefix(h, "*."), ".-_")
}

// chooseCertificates decides which certificate answers for which name: the one that the label of the service that has the name
// asks for, or else those that are made out to it.
func (b *builder) chooseCertificates() {
	c := b.next
	if c.Options == nil || !c.Options.tls() {
		return
	}
	byName := make(map[string]*signalbox.Service) // whose label says which certificate
	content := b.contentHosts()
	for _, p := range c.made.parts {
		if s := p.service; s.Policy.TLS != "" && p.backend != nil && s.Mode != signalbox.TCP {
			b.choose(byName, content, s)
		}
	}
	uses := map[string]*CertificateUse{}
	for _, cert := range c.Options.Certificates {
		use := &CertificateUse{Name: cert.Name}
		for _, h := range cert.Hosts {
			if byName[h] == nil {
				use.Hosts = append(use.Hosts, h)
			}
		}
		uses[cert.Name] = use
	}
	for h, s := range byName {
		if use := uses[s.Policy.TLS]; use != nil {
			use.Hosts = append(use.Hosts, h)
		}
	}
	for h, s := range byName {
		if uses[s.Policy.TLS] != nil {
			continue
		}
		for _, use := range uses {
			if slices.Contains(use.Hosts, wildcardOf(h)) {
				use.Not = append(use.Not, h)
			}
		}
	}
	for _, cert := range c.Options.Certificates {
		use := uses[cert.Name]
		if len(use.Hosts) == 0 {
			continue
		}
		slices.Sort(use.Hosts)
		slices.Sort(use.Not)
		c.Certificates = append(c.Certificates, *use)
	}
	same := slices.EqualFunc(c.Certificates, b.prev.Certificates, CertificateUse.equal)
	if same {
		c.Certificates = b.prev.Certificates
	}
	b.reload = b.reload || b.prev.Options != nil && b.prev.Options.tls() != c.Options.tls()
}

// contentHosts returns the hosts whose oldest service asks for no certificate, because one is made out to them. No other app takes
// that from it.
func (b *builder) contentHosts() map[string]*signalbox.Service {
	oldest := make(map[string]*signalbox.Service)
	parts := b.next.made.parts
	if !slices.ContainsFunc(parts, func(p *part) bool { return p.service.Policy.TLS != "" }) {
		return oldest
	}
	for _, p := range parts {
		if p.backend == nil || p.backend.Mode == signalbox.TCP {
			continue
		}
		for _, r := range p.service.Routes {
			if was := oldest[r.Host]; was == nil || older(p.service, was) {
				oldest[r.Host] = p.service
			}
		}
	}
	maps.DeleteFunc(oldest, func(host string, s *signalbox.Service) bool {
		return s.Policy.TLS != "" || !slices.ContainsFunc(b.next.Options.Certificates, func(c Certificate) bool {
			return slices.Contains(c.Hosts, host) || slices.Contains(c.Hosts, wildcardOf(host))
		})
	})
	return oldest
}

// choose notes that a service asks for its certificate for its hosts; the oldest service decides about a host that several have.
func (b *builder) choose(byName, content map[string]*signalbox.Service, s *signalbox.Service) {
	known := b.next.Options.certificate(s.Policy.TLS)
	if !known && slices.ContainsFunc(s.Routes, func(r signalbox.Route) bool { return sniHost(r.Host) }) {
		b.next.Problems = append(b.next.Problems, unknownCertificate(s, "its hosts have no certificate but the default one, which no client trusts"))
	}
	for _, r := range s.Routes {
		if !sniHost(r.Host) {
			continue
		}
		if c := content[r.Host]; c != nil && c.App != s.App {
			b.next.Problems = append(b.next.Problems, otherCertificate(s, r.Host, c))
			continue
		}
		keeps, loses := s, byName[r.Host]
		if loses != nil && older(loses, s) {
			keeps, loses = loses, s
		}
		if loses != nil && loses.Policy.TLS != keeps.Policy.TLS {
			b.next.Problems = append(b.next.Problems, otherCertificate(loses, r.Host, keeps))
		}
		byName[r.Host] = keeps
	}
}

// older reports whether what both ask for is a's, not o's.
func older(a, o *signalbox.Service) bool {
	return cmp.Or(a.Since.Compare(o.Since), cmp.Compare(a.ID, o.ID)) < 0
}

func unknownCertificate(s *signalbox.Service, action string) signalbox.Problem {
	return signalbox.Problem{
		Code: "SB230", Severity: signalbox.SeverityError, App: s.App, Label: "tls", Value: cut(s.Policy.TLS),
		Message: "there is no certificate of this name", Action: action,
	}
}

func otherCertificate(s *signalbox.Service, host string, older *signalbox.Service) signalbox.Problem {
	message := fmt.Sprintf("%s has the certificate %s, which %s asks for, the older one", host, older.Policy.TLS, older.ID)
	if older.Policy.TLS == "" {
		message = fmt.Sprintf("%s has the certificate that is made out to it, and %s, the older one, asks for no other", host, older.ID)
	}
	return signalbox.Problem{
		Code: "SB231", Severity: signalbox.SeverityWarning, App: s.App, Label: "tls", Value: cut(s.Policy.TLS),
		Message: message,
		Action:  "this one is not shown for that host",
	}
}

// canShow reports whether a listener of its own can show the certificate of a name, or for "" that for the name that a client asks for.
func (o *Options) canShow(name string) bool {
	return o != nil && (name == "" && o.tls() || o.certificate(name))
}

// canShow reports whether HAProxy, which has loaded c, can show the certificates of want: it is told of them while it runs, and has no
// listener for one that want lacks.
func (c *Config) canShow(want *Config) bool {
	o := want.Options
	return c.Options.loadsAs(o) && c.Options.tls() == o.tls() &&
		!slices.ContainsFunc(c.Listeners, func(l *Listener) bool { return l.Certificate != "" && !o.certificate(l.Certificate) })
}

// certificate reports whether there is a certificate of a name.
func (o *Options) certificate(name string) bool {
	return slices.ContainsFunc(o.Certificates, func(c Certificate) bool { return c.Name == name })
}

// wildcardOf returns the wildcard that covers a host, "" for none.
func wildcardOf(host string) string {
	if _, parent, ok := strings.Cut(host, "."); ok && !strings.HasPrefix(host, "*.") {
		return "*." + parent
	}
	return ""
}

// SameCertificates reports whether two configurations show the same certificates for the same names.
func (c *Config) SameCertificates(o *Config) bool {
	return slices.EqualFunc(c.Certificates, o.Certificates, CertificateUse.equal) &&
		(c.Options == o.Options || slices.EqualFunc(c.Options.Certificates, o.Options.Certificates, Certificate.equal))
}

func (c Certificate) equal(o Certificate) bool {
	return c.Name == o.Name && slices.Equal(c.Hosts, o.Hosts)
}

// loadsAs reports whether HAProxy loads the same for two sets of options, their certificates aside. Which tasks are nearby is said by
// weights, ports that are taken decide about listeners, and whether servers can be added decides about what need not be loaded.
func (o *Options) loadsAs(p *Options) bool {
	if o == p || p == nil {
		return o == p
	}
	c := *p
	c.Certificates, c.Node, c.OtherPorts, c.ClusterPorts = o.Certificates, o.Node, o.OtherPorts, o.ClusterPorts
	c.AddServers = o.AddServers
	return o.equal(&c)
}

func (u CertificateUse) equal(o CertificateUse) bool {
	return u.Name == o.Name && slices.Equal(u.Hosts, o.Hosts) && slices.Equal(u.Not, o.Not)
}

// lineHosts is how many hosts stand on one line of the list. HAProxy reads some 2,000 words of a line, at most 64 KiB.
const lineHosts = 200

// tls reports whether HAProxy has a use for certificates.
func (o *Options) tls() bool { return o != nil && (len(o.HTTPSBind) > 0 || len(o.Certificates) > 0) }

// certListText returns the list that HAProxy reads.
func certListText(c *Config) []byte {
	var out []byte
	for _, l := range c.CertificateLines() {
		out = append(append(out, l.String()...), '\n')
	}
	return out
}

// CertificateLine is one line of the list of certificates.
type CertificateLine struct {
	File    string   // absolute
	Filters []string // names for which it answers, each followed by those that it, a wildcard, does not cover: "*.x", "!a.x"
}

// String returns the line as it stands in the list.
func (l CertificateLine) String() string { return l.File + " " + strings.Join(l.Filters, " ") }

// CertificateLines returns the list of certificates. The default certificate comes first and answers for no name of its own: who asks
// for a name that nobody has gets it too. Without TLS there is none.
func (c *Config) CertificateLines() []CertificateLine {
	if !c.Options.tls() {
		return nil
	}
	out := []CertificateLine{{c.Options.MapPath(CertificateFile(DefaultCertificate)), []string{"!*"}}}
	for _, use := range c.Certificates {
		for hosts := range slices.Chunk(use.Hosts, lineHosts) {
			l := CertificateLine{File: c.Options.MapPath(CertificateFile(use.Name))}
			for _, h := range hosts {
				l.Filters = append(l.Filters, h)
				for _, not := range use.Not {
					if wildcardOf(not) == h {
						l.Filters = append(l.Filters, "!"+not)
					}
				}
			}
			out = append(out, l)
		}
	}
	return out
}

// CertificateListPath returns the path of the list of certificates, as HAProxy knows it.
func (o *Options) CertificateListPath() string { return o.MapPath(certList) }
