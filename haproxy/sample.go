package haproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"signalbox"
)

// Identity tells templates apart: it is another one as soon as a word of a definition is, or what is made of the sample. HAProxy has to load
// anew what an earlier program, or another template, has made.
func (t *Template) Identity() string {
	var texts []string
	for _, d := range t.text.Templates() {
		name := strings.TrimPrefix(d.Name(), t.text.Name()) // wherever its file is
		texts = append(texts, fmt.Sprintf("%q %q\n", name, d.Root.String()))
	}
	slices.Sort(texts)
	sum := sha256.New()
	sum.Write([]byte(strings.Join(texts, "")))
	made, err := Render(&Template{text: t.text}, sample())
	if err != nil {
		fmt.Fprint(sum, err)
	} else {
		sum.Write(made.Config)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// sample is a Config in which every label that a backend's section knows is asked for, and every way in is open.
func sample() *Config {
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	o := &Options{
		Dir: "/run/signalbox", HTTPBind: []string{":80"}, HTTPSBind: []string{":443"}, AppIDBind: []string{":9091"},
		HealthBind: []string{":9090"}, ServicePorts: PortRange{10000, 10009}, Certificates: []Certificate{{"web", []string{"web.local"}}},
		TrustedProxies: networks, ProxyProtocolFrom: networks,
		StatsSocket: "/run/signalbox/stats.sock", LogSocket: "/run/signalbox/log.sock", LogAlso: "127.0.0.1:514",
		LogFormat: "%ci", LogFormatTCP: "%ci", CallerHeader: "x-caller", Threads: 1, User: "haproxy", Group: "haproxy",
		UserLists:  map[string][]User{"staff": {{"ann", "$6$salt$hash"}}},
		ErrorPages: map[string][]byte{"body": []byte("away"), "whole": []byte("HTTP/1.1 503 Away\r\n\r\n")},
		Prefer:     PreferLocal, Node: []string{"10.0.0.1"}, MinSlots: 8,
	}
	var services []*signalbox.Service
	add := func(name string, mode signalbox.Mode, listen int, check signalbox.Check, policy signalbox.Policy) {
		services = append(services, &signalbox.Service{
			ID: signalbox.NewServiceID("/"+name, 0), App: "/" + name, Mode: mode, Listen: listen, Check: check, Policy: policy,
			Routes: []signalbox.Route{{Host: name + ".local", Path: "/"}, {Host: name + ".local", Path: "/x", Match: signalbox.Exact}},
			Endpoints: []signalbox.Endpoint{
				{Task: "near", Addr: netip.MustParseAddrPort("10.0.0.1:1"), CheckPort: 2}, {Task: "twin", Addr: netip.MustParseAddrPort("10.0.0.1:1")},
			},
		})
	}
	retries := 1
	probed := signalbox.Check{Kind: signalbox.CheckHTTP, Path: "/health", TLS: true, Interval: time.Second, Timeout: time.Second, Fall: 3}
	add("web", signalbox.HTTP, 10000, probed, signalbox.Policy{})
	add("bare", signalbox.HTTP, 20001, signalbox.Check{}, signalbox.Policy{})
	add("all", signalbox.HTTP, 0, probed, signalbox.Policy{
		Balance: "source", Sticky: "TASK", SlowStart: time.Second, MaxConn: 1, Timeout: time.Second, ConnectTimeout: time.Second, Retries: &retries,
		Allow: networks, Auth: &signalbox.Auth{Realm: "all", User: "ann", Hash: "$6$salt$hash"}, RateLimit: signalbox.RateLimit{Requests: 1, Per: time.Second},
		HTTPSRedirect: true, HSTS: true, StripPrefix: true, RewritePath: "/y", RewriteHost: "y.local", RewriteLocation: "/y", RedirectRoot: "/y",
		CORS: []string{"https://x.local"}, RequestHeaders: []signalbox.Header{{Name: "X", Value: "y"}}, ResponseHeaders: []signalbox.Header{{Name: "X", Value: "y"}}, LogHeaders: []string{"x"},
		ErrorPages: []signalbox.ErrorPage{{Status: 403, Name: "body"}, {Status: 429, Name: "body"}, {Status: 503, Name: "whole"}},
		BackendTLS: signalbox.BackendVerified, HTTP2: true, SendProxy: true, Raw: []string{"option nolinger"},
	})
	add("some", signalbox.HTTP, 0, probed, signalbox.Policy{
		Sticky: "TASK", Allow: networks, Auth: &signalbox.Auth{Realm: "some", List: "staff"}, RateLimit: signalbox.RateLimit{Requests: 1, Per: time.Second},
		CORS: []string{"*"}, StripPath: "/z", HTTP2: true,
	})
	add("shut", signalbox.HTTP, 0, signalbox.Check{}, signalbox.Policy{Refused: "closed"})
	off := signalbox.Check{Kind: signalbox.CheckOff}
	add("db", signalbox.TCP, 10001, off, signalbox.Policy{Allow: networks, BackendTLS: signalbox.BackendUnverified})
	add("shut-db", signalbox.TCP, 10002, off, signalbox.Policy{Refused: "closed"})
	add("own", signalbox.TCP, 20000, off, signalbox.Policy{Passthrough: true, PortTLS: true, TLS: "web", AcceptProxy: true})
	services[len(services)-1].Routes = services[len(services)-1].Routes[:1]
	return Build(signalbox.NewTable(services, nil), o, nil)
}
