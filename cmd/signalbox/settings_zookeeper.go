package main

import (
	"net/url"
	"path/filepath"
	"strings"

	"signalbox/discovery/zookeeper"
)

// zookeeperSettings say how the ensemble is reached that --marathon names in the place of Marathon's own URLs.
type zookeeperSettings struct {
	MarathonScheme        string // http, https
	ZooKeeperUser         string
	ZooKeeperPasswordFile string
	ZooKeeperTLS          bool
	ZooKeeperCAFile       string
	ZooKeeperCertFile     string
	ZooKeeperKeyFile      string
}

// election returns the URL of the ensemble that --marathon names, "" where it names Marathon's own. A list was cut at the commas of the URL.
func (s *settings) election() string {
	if len(s.Marathon) > 0 && strings.HasPrefix(s.Marathon[0], zookeeper.Scheme) {
		return strings.Join(s.Marathon, ",")
	}
	return ""
}

// validateMarathon tells wrong what is wrong with Marathon's addresses.
func (s *settings) validateMarathon(wrong func(flag, format string, args ...any)) {
	if at := s.election(); at != "" {
		if _, _, err := zookeeper.ParseURL(at); err != nil {
			wrong("marathon", "%w", err)
		}
	} else {
		for _, text := range s.Marathon {
			u, err := url.Parse(text)
			switch {
			case err != nil:
				wrong("marathon", "a value is no URL") // the value may hold a password
			case u.User != nil:
				wrong("marathon", "the URL of %q holds credentials, which every list of processes would show; use --marathon-user and --marathon-password-file", u.Host)
			case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
				wrong("marathon", "%q is not of the form http://host:8080, https://host:8443 or zk://host:2181,host:2181/marathon", mask(text))
			}
		}
		for _, f := range []struct{ flag, value string }{
			{"zookeeper-user", s.ZooKeeperUser}, {"zookeeper-ca-file", s.ZooKeeperCAFile}, {"zookeeper-cert-file", s.ZooKeeperCertFile},
		} {
			if f.value != "" {
				wrong(f.flag, "goes together with --marathon zk://…, which is missing")
			}
		}
	}
	for _, f := range []struct {
		flag, value, other string
		missing            bool
	}{
		{"zookeeper-user", s.ZooKeeperUser, "zookeeper-password-file", (s.ZooKeeperUser == "") != (s.ZooKeeperPasswordFile == "")},
		{"zookeeper-cert-file", s.ZooKeeperCertFile, "zookeeper-key-file", (s.ZooKeeperCertFile == "") != (s.ZooKeeperKeyFile == "")},
		{"zookeeper-ca-file", s.ZooKeeperCAFile, "zookeeper-tls", s.ZooKeeperCAFile != "" && !s.ZooKeeperTLS},
		{"zookeeper-cert-file", s.ZooKeeperCertFile, "zookeeper-tls", s.ZooKeeperCertFile != "" && !s.ZooKeeperTLS},
	} {
		if f.missing {
			wrong(f.flag, "goes together with --%s; one of them is missing", f.other)
		}
	}
}

// directory returns what follows Marathon's members by its election.
func (c *controller) directory() (*zookeeper.Members, error) {
	s := c.settings
	servers, path, err := zookeeper.ParseURL(s.election())
	if err != nil {
		return nil, err
	}
	cfg := zookeeper.MembersConfig{Path: path, Scheme: s.MarathonScheme, Config: zookeeper.Config{
		Servers: servers, User: s.ZooKeeperUser, PasswordFile: s.ZooKeeperPasswordFile,
		TLS: s.ZooKeeperTLS, CAFile: s.ZooKeeperCAFile, CertFile: s.ZooKeeperCertFile, KeyFile: s.ZooKeeperKeyFile,
		Log: c.journal.WithField("room", "zookeeper"),
	}}
	if !c.transient {
		cfg.File = filepath.Join(s.StateDir, "marathon-members.json")
	}
	return zookeeper.NewMembers(cfg)
}
