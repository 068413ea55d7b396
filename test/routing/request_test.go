package routing

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A request is one line: a method, where it goes, how it differs from the plainest one, and after an arrow what must come of it:
//
//	GET http://shop.local/cart X-Version:2 -> 200 cart.1 saw.path=/cart header.Cache-Control=
//
// It goes to http://HOST/PATH or https://HOST/PATH, the entries by name, or to port:10000/PATH, a service port. HOST is sent as it
// stands. What differs is a header, NAME:VALUE, or one of
//
//	host=NAME        the Host header, for a service port
//	user=NAME:WORD   credentials
//	from=ADDRESS     the address that it comes from
//	sni=NAME         the name that TLS asks for, if not that of the URL; "-" for none
//	times=N          send it N times
//	jar              return the cookies that came with earlier answers to this line
//	tls              speak TLS to a service port
//	proxy=ADDRESS    begin with the PROXY protocol, which names this client
//	eventually       try again for a while
//	h2               speak HTTP/2, without TLS by prior knowledge
//	upgrade          ask for a web socket, which has to carry a message and its echo
//
// What must come of it is a status, "refused" (no connection) or "closed" (no answer), and any of
//
//	web.1,web.2      the tasks that answered, all of them and no other
//	one              it was always the same task
//	saw.path=X       what the task saw: path, host, proto, client, tls, or a header; empty: it saw none. ~ instead of = is "contains"
//	header.X=Y       a header of the answer
//	trailer.X=Y      a trailer of it
//	body~X           what the answer's body contains
//	cert=NAME        which certificate was shown
//
// Words with spaces stand in double quotes.
type request struct {
	line           string
	method, target string
	options        map[string]string
	headers        [][2]string

	status int // 0: refused or closed
	word   string
	tasks  []string
	one    bool
	wants  []want
}

// want is one condition on an answer.
type want struct {
	of, name string // saw, header or body; and of what
	op       byte   // '=' or '~'
	value    string
}

// answer is what came of one request.
type answer struct {
	word    string // refused or closed; "" if there is an answer
	status  int
	header  http.Header
	trailer http.Header
	body    string
	cert    string
	seen    seen // of a body that a task wrote
}

// words splits a line at spaces outside of double quotes.
func words(line string) []string {
	var out []string
	quoted, start := false, true
	for _, r := range line {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			start = true
		default:
			if start {
				out, start = append(out, ""), false
			}
			out[len(out)-1] += string(r)
		}
	}
	return out
}

// parseRequests reads the requests of a cell.
func parseRequests(t *testing.T, text string) []request {
	t.Helper()
	var all []request
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := parseRequest(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

var optionNames = []string{"host", "user", "from", "sni", "times", "jar", "tls", "proxy", "eventually", "h2", "upgrade"}

func parseRequest(line string) (request, error) {
	r := request{line: line, options: map[string]string{}}
	ask, expect, ok := strings.Cut(line, " -> ")
	asked, expected := words(ask), words(expect)
	if !ok || len(asked) < 2 || len(expected) < 1 {
		return r, errors.New("it is not of the form METHOD TARGET -> STATUS")
	}
	r.method, r.target = asked[0], asked[1]
	for _, w := range asked[2:] {
		key, value, valued := strings.Cut(w, "=")
		name, field, isHeader := strings.Cut(w, ":")
		switch {
		case slices.Contains(optionNames, key) && (valued || key == w):
			r.options[key] = value
		case isHeader:
			r.headers = append(r.headers, [2]string{name, strings.TrimSpace(field)})
		default:
			return r, fmt.Errorf("%q is neither a header nor an option", w)
		}
	}
	if n, err := strconv.Atoi(expected[0]); err == nil {
		r.status = n
	} else if r.word = expected[0]; r.word != "refused" && r.word != "closed" {
		return r, fmt.Errorf("%q is no outcome", r.word)
	}
	for _, w := range expected[1:] {
		i := strings.IndexAny(w, "=~")
		switch {
		case w == "one":
			r.one = true
		case i < 0:
			r.tasks = strings.Split(w, ",")
		default:
			of, name, _ := strings.Cut(w[:i], ".")
			if !slices.Contains([]string{"saw", "header", "trailer", "body", "cert"}, of) {
				return r, fmt.Errorf("%q is no condition", w)
			}
			r.wants = append(r.wants, want{of, name, w[i], w[i+1:]})
		}
	}
	return r, nil
}

// run sends the request to a load balancer and returns what is wrong with the answers, "" for nothing.
func (r *request) run(at *balancer) string {
	_, patient := r.options["eventually"]
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		wrong := r.once(at)
		if wrong == "" || !patient || time.Now().After(end) {
			return wrong
		}
	}
}

func (r *request) once(at *balancer) string {
	times := 1
	if n, err := strconv.Atoi(r.options["times"]); err == nil {
		times = n
	}
	var answered []string
	cookies := make(map[string]string)
	for range times {
		a, err := r.send(at, cookies)
		if err != nil {
			return err.Error()
		}
		if wrong := r.judge(a); wrong != "" {
			return wrong
		}
		if a.seen.Task != "" && !slices.Contains(answered, a.seen.Task) {
			answered = append(answered, a.seen.Task)
		}
	}
	slices.Sort(answered)
	if r.one && len(answered) != 1 {
		return fmt.Sprintf("%v answered, want one task", answered)
	}
	if len(r.tasks) > 0 && !slices.Equal(answered, r.tasks) {
		return fmt.Sprintf("%v answered, want %v", answered, r.tasks)
	}
	return ""
}

// judge returns what is wrong with one answer, "" for nothing.
func (r *request) judge(a answer) string {
	if a.word != r.word || a.status != r.status {
		return fmt.Sprintf("%d %s %.300s %v, want %d %s", a.status, a.word, a.body, a.header, r.status, r.word)
	}
	if len(r.tasks) > 0 && a.seen.Task == "" {
		return fmt.Sprintf("no task answered: %.300s", a.body)
	}
	for _, w := range r.wants {
		got := a.body
		switch w.of {
		case "header":
			got = strings.Join(a.header.Values(w.name), ", ")
		case "trailer":
			got = strings.Join(a.trailer.Values(w.name), ", ")
		case "cert":
			got = a.cert
		case "saw":
			got = a.seen.of(w.name)
		}
		if w.op == '=' && got != w.value || w.op == '~' && !strings.Contains(got, w.value) {
			return fmt.Sprintf("%s.%s is %q, want %c %q", w.of, w.name, got, w.op, w.value)
		}
	}
	return ""
}

// of returns what the task saw under a name.
func (s *seen) of(name string) string {
	switch name {
	case "path":
		return s.Path
	case "host":
		return s.Host
	case "proto":
		return s.Proto
	case "client":
		return s.Client
	case "tls":
		return strconv.FormatBool(s.TLS)
	}
	return strings.Join(s.Header.Values(name), ", ")
}

// send sends the request once, byte for byte as it stands.
func (r *request) send(at *balancer, cookies map[string]string) (answer, error) {
	scheme, rest, _ := strings.Cut(r.target, ":")
	rest = strings.TrimPrefix(rest, "//")
	i := strings.IndexByte(rest, '/')
	if i < 0 {
		rest, i = rest+"/", len(rest)
	}
	host, path := rest[:i], rest[i:]
	addr := net.JoinHostPort(at.addr, map[string]string{"http": httpPort, "https": httpsPort, "port": host}[scheme])
	_, secure := r.options["tls"]
	secure = secure || scheme == "https"
	if scheme == "port" {
		host = "localhost:" + host
	}
	if h, ok := r.options["host"]; ok {
		host = h
	}
	if _, ok := r.options["h2"]; ok {
		return r.sendH2(addr, host, path, secure)
	}
	key := ""
	if at.kept != nil && len(r.options) == 0 {
		key = addr
		if secure {
			key += " " + host // for its certificate
		}
	}
	c := at.kept[key]
	delete(at.kept, key)
	if c == nil {
		conn, err := r.dial(addr, host, secure)
		if err != nil {
			return answer{word: "refused"}, nil //nolint:nilerr // it is what the cell may ask for
		}
		c = &kept{conn, bufio.NewReader(conn)}
	}
	a, again := r.exchange(c, host, path, key != "", cookies)
	if key != "" && again {
		at.kept[key] = c
	} else {
		c.Close()
	}
	return a, nil
}

// kept is a connection that may serve several requests.
type kept struct {
	net.Conn
	from *bufio.Reader
}

// exchange sends the request on a connection, and reports whether that can take another one.
func (r *request) exchange(c *kept, host, path string, keep bool, cookies map[string]string) (answer, bool) {
	_ = c.SetDeadline(time.Now().Add(patience))
	var b strings.Builder
	method, headers := r.method, r.headers
	if method == "TCP" {
		method, headers = "GET", [][2]string{{"Tcp-Client", "yes"}}
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	if user, ok := r.options["user"]; ok {
		fmt.Fprintf(&b, "Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(user)))
	}
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	for name, value := range cookies {
		fmt.Fprintf(&b, "Cookie: %s=%s\r\n", name, value)
	}
	_, upgrade := r.options["upgrade"]
	switch {
	case upgrade:
		b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
	case !keep:
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(c, b.String()); err != nil {
		return answer{word: "closed"}, false
	}
	response, err := http.ReadResponse(c.from, &http.Request{Method: method})
	if err != nil {
		return answer{word: "closed"}, false
	}
	defer response.Body.Close()
	if upgrade && response.StatusCode == http.StatusSwitchingProtocols {
		return echoed(c, response), false
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{word: "closed"}, false
	}
	if _, ok := r.options["jar"]; ok {
		for _, cookie := range response.Cookies() {
			cookies[cookie.Name] = cookie.Value
		}
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if secured, ok := c.Conn.(*tls.Conn); ok {
		a.cert = secured.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	_ = json.Unmarshal(body, &a.seen) // what a task did not write stays without a task
	return a, !response.Close
}

// echoed reads what the task says of the request that began a web socket, and has it echo a message.
func echoed(c *kept, response *http.Response) answer {
	said, err := c.from.ReadString('\n')
	if err != nil {
		return answer{word: "closed"}
	}
	const message = "over and out\n"
	if _, err := io.WriteString(c, message); err != nil {
		return answer{word: "closed"}
	}
	if back, err := c.from.ReadString('\n'); err != nil || back != message {
		return answer{word: "closed"}
	}
	a := answer{status: response.StatusCode, header: response.Header, body: said}
	_ = json.Unmarshal([]byte(said), &a.seen)
	return a
}

// sendH2 sends the request by HTTP/2.
func (r *request) sendH2(addr, host, path string, secure bool) (answer, error) {
	refused := false
	dial := func(context.Context, string, string) (net.Conn, error) {
		c, err := r.dial(addr, host, secure)
		refused = err != nil
		return c, err
	}
	transport := &http.Transport{DialContext: dial, DialTLSContext: dial, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP2(true)
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	scheme := "http"
	if secure {
		scheme = "https"
	}
	ask, err := http.NewRequest(r.method, scheme+"://"+host+path, nil) //nolint:noctx // the connection has a deadline
	if err != nil {
		return answer{}, err
	}
	for _, h := range r.headers {
		ask.Header.Set(h[0], h[1])
	}
	response, err := transport.RoundTrip(ask)
	switch {
	case refused:
		return answer{word: "refused"}, nil
	case err != nil:
		return answer{word: "closed"}, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{word: "closed"}, nil
	}
	a := answer{status: response.StatusCode, header: response.Header, trailer: response.Trailer, body: string(body)}
	if response.ProtoMajor != 2 {
		return a, fmt.Errorf("the answer is %s", response.Proto)
	}
	_ = json.Unmarshal(body, &a.seen)
	return a, nil
}

// dial connects as the options say.
func (r *request) dial(addr, host string, secure bool) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	if from := r.options["from"]; from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if client := net.ParseIP(r.options["proxy"]).To4(); client != nil {
		head := slices.Concat(proxySignature, []byte{0x21, 0x11, 0, 12}, client, []byte{127, 0, 0, 1, 0x30, 0x39, 0, 80})
		if _, err := c.Write(head); err != nil {
			c.Close()
			return nil, err
		}
	}
	if !secure {
		return c, nil
	}
	name, ok := r.options["sni"]
	if !ok {
		name, _, _ = strings.Cut(host, ":")
	}
	config := &tls.Config{InsecureSkipVerify: true, ServerName: strings.Trim(name, "-")}
	if _, ok := r.options["h2"]; ok {
		config.NextProtos = []string{"h2"}
	}
	s := tls.Client(c, config)
	_ = s.SetDeadline(time.Now().Add(patience))
	if err := s.Handshake(); err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}
