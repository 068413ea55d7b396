package haproxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The map files, in Options.Dir.
const (
	PathsMap       = "paths.map"
	SplitsMap      = "splits.map"
	ExactMap       = "exact.map"
	HostsMap       = "hosts.map"
	HostRegexesMap = "host-regexes.map"
	PathRegexesMap = "path-regexes.map"
)

// The files with lists of addresses, in Options.Dir.
const (
	trustedList = "trusted.list"
	proxyList   = "proxy.list"
)

// MapPath returns the path of a map file as the configuration and the runtime commands word it.
func (o *Options) MapPath(name string) string { return filepath.Join(o.Dir, name) }

// judgesAs reports whether the same service becomes the same backend.
func (o *Options) judgesAs(p *Options) bool {
	return o == p || p != nil && o.Prefer == p.Prefer && slices.Equal(o.Node, p.Node) && o.FleetSize == p.FleetSize && reflect.DeepEqual(o.UserLists, p.UserLists) &&
		maps.EqualFunc(o.ErrorPages, p.ErrorPages, bytes.Equal)
}

func (o *Options) equal(p *Options) bool {
	return o == p || o != nil && p != nil && reflect.DeepEqual(*o, *p)
}

// Validate reports the first option that HAProxy's configuration can't express.
func (o *Options) Validate() error {
	if !filepath.IsAbs(o.Dir) || !all(o.Dir, "/._-+@=,:~") {
		return fmt.Errorf("the directory %q must be an absolute path of letters, digits and /._-+@=,:~", o.Dir)
	}
	if !filepath.IsAbs(o.StatsSocket) || len(o.StatsSocket) > 100 {
		return fmt.Errorf("the runtime socket %q must be an absolute path of at most 100 bytes", o.StatsSocket)
	}
	if o.LogSocket != "" && (!filepath.IsAbs(o.LogSocket) || len(o.LogSocket) > 100) {
		return fmt.Errorf("the log socket %q must be an absolute path of at most 100 bytes", o.LogSocket)
	}
	if err := validLogAlso(o.LogAlso); err != nil {
		return err
	}
	if len(o.HTTPBind) == 0 {
		return errors.New("the HTTP entry has no address")
	}
	for _, e := range o.entries() {
		for _, bind := range e.binds {
			if err := validBind(e.name, bind); err != nil {
				return err
			}
		}
	}
	for _, c := range o.Certificates {
		if !ValidCertificateName(c.Name) || !all(strings.Join(c.Hosts, ""), "*.-_") && len(c.Hosts) > 0 {
			return fmt.Errorf("the certificate %q, or one of its hosts, has a character that no list of HAProxy can carry", c.Name)
		}
	}
	for _, p := range slices.Concat(o.TrustedProxies, o.ProxyProtocolFrom) {
		if !p.IsValid() || p.Masked() != p {
			return fmt.Errorf("the network %s of a proxy is none: it has bits behind its mask", p)
		}
	}
	if _, err := serviceBind(o, netip.Addr{}, "1"); err != nil {
		return err
	}
	if r := o.ServicePorts; r != (PortRange{}) && (r.First < 1 || r.Last > 65535 || r.First > r.Last) {
		return fmt.Errorf("the range %s of the service ports is none within 1 to 65535", r)
	}
	for port, who := range entryPorts(o) {
		if o.ServicePorts.Has(port) {
			return fmt.Errorf("the range %s of the service ports has the port %d of %s", o.ServicePorts, port, who)
		}
	}
	if (o.ServicePorts != (PortRange{}) || len(o.HTTPSBind) > 0) && len(o.socket(httpsSocket)) > 90 {
		return fmt.Errorf("the directory %q is too long for the sockets in it", o.Dir)
	}
	for name, v := range map[string]string{
		"directory": o.Dir, "runtime socket": o.StatsSocket, "log socket": o.LogSocket, "log format": o.LogFormat,
		"log format for TCP": o.LogFormatTCP, "user": o.User, "group": o.Group,
	} {
		if strings.ContainsAny(v, "'\n\r\x00") {
			return fmt.Errorf("the %s %q has a quote or a line break", name, v)
		}
	}
	if err := o.validateFiles(); err != nil {
		return err
	}
	if o.CallerHeader != "" && !validHeaderName(o.CallerHeader) {
		return fmt.Errorf("the caller header %q is not the name of a header: letters, digits and - . _", o.CallerHeader)
	}
	if o.RingFormat != "" && !all(o.RingFormat, "") {
		return fmt.Errorf("the ring's format %q is not a word", o.RingFormat)
	}
	if o.MaxConn < 0 || o.Threads < 0 || o.MaxReloads < 0 || o.MinSlots < 0 || o.MinSlots > 1024 || o.SpareSlots < 0 {
		return errors.New("a number among HAProxy's options is out of its range")
	}
	return nil
}

// validLogAlso takes the path of a socket, or an IP address and a port: a name that does not resolve would keep HAProxy from starting.
func validLogAlso(address string) error {
	if address == "" || filepath.IsAbs(address) && len(address) <= 100 && all(address, "/._-+@=,:~") {
		return nil
	}
	if a, err := netip.ParseAddrPort(address); err == nil && a.Port() != 0 && a.Addr().Zone() == "" {
		return nil
	}
	return fmt.Errorf("the second target %q of the access log must be an IP address and a port, as in 127.0.0.1:514, or the absolute path of a datagram socket, as in /dev/log", address)
}

// entry is one of our own ways in.
type entry struct {
	name  string // for people: "HTTP"
	binds []string
}

// entries returns our own ways in, those of services aside.
func (o *Options) entries() []entry {
	return []entry{{"HTTP", o.HTTPBind}, {"HTTPS", o.HTTPSBind}, {"app id", o.AppIDBind}, {"health", o.HealthBind}}
}

// Addresses returns every address of our own ways in, each port of the range of service ports among them.
func (o *Options) Addresses() []string {
	var out []string
	for _, e := range o.entries() {
		out = append(out, e.binds...)
	}
	for port := o.ServicePorts.First; o.ServicePorts.Has(port); port++ {
		if bind, err := serviceBind(o, netip.Addr{}, strconv.Itoa(port)); err == nil {
			out = append(out, bind)
		}
	}
	return out
}

// HTTPSPort returns the port under which clients reach the HTTPS entry, 443 if there is none.
func (o *Options) HTTPSPort() int {
	if len(o.HTTPSBind) == 0 {
		return 443
	}
	return bindPort(o.HTTPSBind[0])
}

// otherHTTPSPort returns the port of the HTTPS entry with its colon, "" for the usual one.
func (o *Options) otherHTTPSPort() string {
	if port := o.HTTPSPort(); port != 443 {
		return ":" + strconv.Itoa(port)
	}
	return ""
}

// bindPort returns the port of an address to listen on, 0 if it has none.
func bindPort(bind string) int {
	n, err := strconv.ParseUint(bind[strings.LastIndexByte(bind, ':')+1:], 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

func validBind(name, bind string) error {
	i := strings.LastIndexByte(bind, ':')
	if i < 0 {
		return fmt.Errorf("the address %q of the %s entry has no port", bind, name)
	}
	if bindPort(bind) == 0 {
		return fmt.Errorf("the address %q of the %s entry needs a port of 1 to 65535", bind, name)
	}
	if host := bind[:i]; host != "" && host != "*" {
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
			return fmt.Errorf("reading the address %q of the %s entry: %w", bind, name, err)
		}
	}
	return nil
}

// The sockets, in Options.Dir, by which HAProxy hands connections over to itself.
const (
	portsSocket = "ports.sock"
	httpsSocket = "https.sock"
)

func (o *Options) socket(name string) string { return filepath.Join(o.Dir, name) }

// hop counts the proxies that a request has passed, from the last one on.
type hop int

// Before returns the proxy that speaks for this one.
func (h hop) Before() hop { return h - 1 }

// hops are as many proxies in a row as are looked behind.
var hops = []hop{1, 2, 3, 4, 5}

// listText returns the file of a list of networks.
func listText(networks []netip.Prefix) []byte {
	var out []byte
	for _, p := range networks {
		out = append(p.AppendTo(out), '\n')
	}
	return out
}

// head returns what the template's own text is filled with.
func (o *Options) head() *head {
	h := &head{
		StatsSocket: Word(o.StatsSocket), StatsGID: o.StatsGID, DefaultServer: o.defaultServer(), MaxConn: cmp.Or(o.MaxConn, 2000), NoStrictLimits: true, Threads: o.Threads,
		User: Word(o.User), Group: Word(o.Group), HardStopAfter: millis(cmp.Or(o.HardStopAfter, 10*time.Minute)),
		MaxReloads: cmp.Or(o.MaxReloads, 20),
		RingFormat: Word(cmp.Or(o.RingFormat, "short")), LogLine: cmp.Or(o.LogLine, 8192), RingBytes: cmp.Or(o.RingBytes, 4<<20),
		LogFormat: Word(o.LogFormat), LogFormatTCP: Word(o.LogFormatTCP), CallerHeader: Word(o.CallerHeader),
		HostsMap: Word(o.MapPath(HostsMap)), NamesMap: Word(o.MapPath(NamesMap)), PathsMap: Word(o.MapPath(PathsMap)),
		ExactMap: Word(o.MapPath(ExactMap)), SplitsMap: Word(o.MapPath(SplitsMap)),
		HostRegexesMap: Word(o.MapPath(HostRegexesMap)), PathRegexesMap: Word(o.MapPath(PathRegexesMap)), MaxRegexPath: maxRegexPath,
	}
	h.ChecksMap, h.TimeoutsMap, h.HTTPSMap = Word(o.MapPath(ChecksMap)), Word(o.MapPath(TimeoutsMap)), Word(o.MapPath(HTTPSMap))
	h.HTTPSPort = o.otherHTTPSPort()
	h.LogAlso = Word(o.LogAlso)
	if o.LogSocket != "" {
		h.LogServer, h.LogPulled = Word("unix@"+o.LogSocket), o.LogPulled
	}
	for _, bind := range o.AppIDBind {
		h.AppIDBind = append(h.AppIDBind, Word(bind))
	}
	for _, bind := range o.HealthBind {
		h.HealthBind = append(h.HealthBind, Word(bind))
	}
	h.PortsMap, h.AppsMap, h.SNIMap = Word(o.MapPath(PortsMap)), Word(o.MapPath(AppsMap)), Word(o.MapPath(SNIMap))
	h.PortsSocket, h.HTTPSSocket = Word("unix@"+o.socket(portsSocket)), Word("unix@"+o.socket(httpsSocket))
	if len(o.TrustedProxies) > 0 {
		h.TrustedList, h.Hops = Word(o.MapPath(trustedList)), hops
	}
	if len(o.ProxyProtocolFrom) > 0 {
		h.ProxyList = Word(o.MapPath(proxyList))
	}
	h.UserLists = o.userLists()
	if o.tls() {
		h.CertList = Word(o.MapPath(certList))
	}
	for _, bind := range o.HTTPSBind {
		h.HTTPSBind = append(h.HTTPSBind, Word(bind))
	}
	for _, bind := range o.HTTPBind {
		h.HTTPBind = append(h.HTTPBind, Word(bind))
	}
	return h
}
