package zookeeper

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"signalbox/discovery"
)

// Config says how an ensemble is reached. Secrets come from files only.
type Config struct {
	// Servers are the ensemble's, host:port each. At least one. Names are looked up anew for each connection.
	Servers []string
	// Session is for how long the ensemble keeps a session without hearing of it; default 10 s. A server that is silent for two thirds of
	// it is given up. The ensemble may agree to less or more.
	Session time.Duration
	// User and PasswordFile are credentials of ZooKeeper's scheme "digest". The file is read anew for each session.
	User, PasswordFile string
	// TLS speaks TLS with the servers, whose certificates are always verified: against CAFile, or the system's authorities where that is "".
	TLS    bool
	CAFile string
	// CertFile and KeyFile are shown to servers that ask for a certificate. They are read anew for each connection.
	CertFile, KeyFile string
	// MaxMessage bounds what a server sends and is sent at once, in bytes; default 1 MiB and 64 KiB, a little more than ZooKeeper's own limit.
	MaxMessage int
	Log        logrus.FieldLogger // nil discards
}

// DefaultPort is ZooKeeper's.
const DefaultPort = "2181"

// Scheme is what the URL of an ensemble begins with.
const Scheme = "zk://"

// ParseURL returns the servers and the path that zk://host:port,host:port/path names, with DefaultPort where there is none; the path is
// clean, and "/" where there is none. Its errors show no credentials.
func ParseURL(text string) (servers []string, path string, err error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return nil, "", errors.New("the URL does not begin with " + Scheme)
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		return nil, "", errors.New("the URL holds credentials, which every list of processes would show; use a user and a password file")
	}
	hosts, path, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		server, err := address(strings.TrimSpace(host))
		if err != nil {
			return nil, "", err
		}
		servers = append(servers, server)
	}
	path = "/" + strings.Trim(path, "/")
	if path != "/" {
		for part := range strings.SplitSeq(path[1:], "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r == '?' || r == '#' || r == 0x7f }) {
				return nil, "", fmt.Errorf("%q is no path of ZooKeeper", path)
			}
		}
	}
	return servers, path, nil
}

// address returns host:port.
func address(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), DefaultPort
	}
	u := url.URL{Host: net.JoinHostPort(host, port)}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 || host == "" || u.Hostname() != host || strings.ContainsAny(host, " /?#@[]%\t\r\n") {
		return "", fmt.Errorf("%q is no server of the form host:%s", text, DefaultPort)
	}
	return u.Host, nil
}

// withDefaults returns the configuration, or says what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Session == 0 {
		c.Session = 10 * time.Second
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 1<<20 + 64<<10
	}
	switch {
	case len(c.Servers) == 0:
		return c, errors.New("no server of ZooKeeper is given")
	case (c.User == "") != (c.PasswordFile == ""):
		return c, errors.New("a user and a password file of ZooKeeper belong together")
	case strings.Contains(c.User, ":"):
		return c, errors.New("a user of ZooKeeper has no colon")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return c, errors.New("a certificate for ZooKeeper and its key belong together")
	case !c.TLS && c.CAFile+c.CertFile != "":
		return c, errors.New("certificates for ZooKeeper are given, but TLS is not asked for")
	}
	if _, err := c.digest(); err != nil {
		return c, err
	}
	_, err := c.tlsConfig()
	return c, err
}

// digest returns user:password, nil where there is none.
func (c *Config) digest() ([]byte, error) {
	if c.PasswordFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("reading ZooKeeper's password: %w", err)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return nil, fmt.Errorf("reading ZooKeeper's password: %s is empty", c.PasswordFile)
	}
	return []byte(c.User + ":" + secret), nil
}

// tlsConfig returns how TLS is spoken, nil where it is not.
func (c *Config) tlsConfig() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pool, err := discovery.Authorities(c.CAFile, "ZooKeeper's certificate")
		if err != nil {
			return nil, err
		}
		conf.RootCAs = pool
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate for ZooKeeper: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
