package machine

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"signalbox"
	"signalbox/haproxy"
	"signalbox/haproxy/control"
)

// view is what a HAProxy says that it does, free of how backends, slots and splits are called and placed.
type view struct {
	Servers []string            // service, address, administrative state, weight and probed port of each that is not in maintenance; sorted
	Maps    map[string][]string // by file: keys, and what they mean; sorted, but where the order counts
	Certs   []string            // file and fingerprint of each certificate, and each line of the list; sorted
}

var (
	loadedMap   = regexp.MustCompile(`\((/[^ )]+\.map)\)`)
	fingerprint = regexp.MustCompile(`(?m)^SHA1 FingerPrint: (\S+)`)
)

// look asks a HAProxy whose files are in dir. services are those that there are: of others a backend may be left, for later.
func look(rt *control.Runtime, dir string, services map[signalbox.ServiceID]bool) (*view, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list := filepath.Join(dir, "certificates.list")
	answers, err := rt.Do(ctx, "show servers state", "show map", "show ssl cert", "show ssl crt-list "+list)
	if err != nil {
		return nil, err
	}
	servers, err := control.ParseServersState(answers[0])
	if err != nil {
		return nil, err
	}
	var files []string
	for _, m := range loadedMap.FindAllStringSubmatch(answers[1], -1) {
		files = append(files, m[1])
	}
	slices.Sort(files)
	files = slices.Compact(files)
	maps := map[string][]control.MapLine{}
	for _, f := range files {
		if maps[filepath.Base(f)], err = rt.Map(ctx, f); err != nil {
			return nil, err
		}
	}
	m := meanings{backends: map[string]string{}, splits: map[string][]string{}, services: services}
	for _, s := range servers {
		m.backends[s.Backend] = ""
	}
	for _, e := range maps[haproxy.NamesMap] {
		m.backends[e.Key] = e.Value
	}
	for _, e := range maps[haproxy.SplitsMap] {
		i := strings.LastIndexByte(e.Key, '/') + 1
		m.splits[e.Key[:i]] = append(m.splits[e.Key[:i]], m.of(e.Value))
	}
	v := &view{Maps: map[string][]string{}}
	for _, s := range servers {
		// A backend that nobody has may rest with its servers, for requests that are still on their way to them. A route that led there
		// would show.
		if s.Admin != haproxy.Maint && m.of(s.Backend) != "" {
			v.Servers = append(v.Servers, fmt.Sprintf("%s %s %s weight %d check %d", m.of(s.Backend), s.Addr, s.Admin, s.Weight, s.CheckPort))
		}
	}
	slices.Sort(v.Servers)
	for name, lines := range maps {
		if name != haproxy.NamesMap && name != haproxy.SplitsMap { // these two are in what the others mean
			v.Maps[name] = m.lines(lines, strings.HasSuffix(name, "regexes.map"))
		}
	}
	for line := range strings.Lines(answers[2]) {
		file := strings.TrimSpace(line)
		if !strings.HasPrefix(file, "/") && !strings.HasPrefix(file, "*/") {
			continue
		}
		answers, err := rt.Do(ctx, "show ssl cert "+strings.TrimPrefix(file, "*"))
		if err != nil {
			return nil, err
		}
		sum := fingerprint.FindStringSubmatch(answers[0])
		if sum == nil {
			return nil, fmt.Errorf("no fingerprint of %s in %q", file, answers[0])
		}
		v.Certs = append(v.Certs, filepath.Base(file)+" "+sum[1])
	}
	for line := range strings.Lines(answers[3]) {
		if line = strings.TrimSpace(strings.ReplaceAll(line, dir, "")); line != "" && !strings.HasPrefix(line, "#") {
			v.Certs = append(v.Certs, line)
		}
	}
	slices.Sort(v.Certs)
	return v, nil
}

// meanings say what the words of one HAProxy stand for.
type meanings struct {
	backends map[string]string   // to the service
	splits   map[string][]string // to the service of each bucket
	services map[signalbox.ServiceID]bool
}

// of returns what a word stands for: a backend for its service, a split for its services and their shares.
func (m *meanings) of(word string) string {
	if service, ok := m.backends[word]; ok {
		return service
	}
	if way, backend, ok := strings.Cut(word, "/"); ok && (way == "http" || way == "tcp") {
		return way + " " + m.of(backend)
	}
	if buckets, ok := m.splits[word]; ok {
		count := map[string]int{}
		for _, s := range buckets {
			count[s]++
		}
		return fmt.Sprint("split ", count)
	}
	return word
}

// lines returns what the entries of a map mean. What is said of a backend that no service has is left out.
func (m *meanings) lines(all []control.MapLine, ordered bool) []string {
	out := []string{}
	for _, e := range all {
		key := e.Key
		if service, ok := m.backends[key]; ok {
			if !m.services[signalbox.ServiceID(service)] {
				continue
			}
			key = service
		}
		out = append(out, key+" → "+m.of(e.Value))
	}
	if !ordered {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

// question is one request that is asked of both HAProxies.
type question struct {
	port             int
	host, path, head string // head: the app's id
	tls              bool
}

// answer is what comes of a question: which service answers, and which certificate it is shown under.
type answer struct {
	Status   int
	Service  signalbox.ServiceID
	Location string
	Cert     string
	Err      string
}

// ask asks a HAProxy at an address. owner says whose task is at an address.
func ask(addr string, q question, owner map[netip.AddrPort]signalbox.ServiceID) (a answer) {
	scheme := "http"
	transport := &http.Transport{DisableKeepAlives: true}
	if q.tls {
		scheme = "https"
		transport.TLSClientConfig = &tls.Config{ServerName: q.host, InsecureSkipVerify: true} //nolint:gosec // which one it is, is compared
	}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", addr, q.port))
	}
	client := http.Client{
		Timeout: patience, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx := context.Background()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+q.host+q.path, nil)
	if err != nil {
		return answer{Err: err.Error()}
	}
	if q.head != "" {
		req.Header.Set("X-Marathon-App-Id", q.head)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{Err: "no answer"}
	}
	defer resp.Body.Close()
	a.Status, a.Location = resp.StatusCode, resp.Header.Get("Location")
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		a.Cert = resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	if at, err := netip.ParseAddrPort(resp.Header.Get("X-Task")); err == nil {
		a.Service = owner[at]
		if a.Service == "" {
			a.Service = signalbox.ServiceID("nobody's task at " + at.String())
		}
		return a
	}
	var said struct{ Service signalbox.ServiceID }
	if err := json.NewDecoder(resp.Body).Decode(&said); err == nil {
		a.Service = said.Service
	}
	return a
}

// questions are those that the n-th comparison asks: a few of all, so that each has its turn.
func questions(n int) []question {
	var all []question
	for _, h := range askedHosts {
		for _, p := range askedPaths {
			all = append(all, question{port: httpPort, host: h, path: p})
		}
	}
	for _, h := range askedHosts {
		all = append(all, question{port: httpsPort, host: h, path: "/", tls: true})
	}
	for _, p := range append(slices.Clone(rangePorts), otherPorts...) {
		all = append(all, question{port: p, host: "port.test", path: "/"})
	}
	for _, name := range appNames {
		all = append(all, question{port: appIDPort, host: "id.test", path: "/", head: "/" + name})
	}
	const atOnce = 9
	var some []question
	for i := range atOnce {
		some = append(some, all[(n*atOnce+i)*7%len(all)])
	}
	return some
}

// wait polls until ok, and reports whether that came in time.
func wait(ok func() bool) bool {
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
