package haproxy

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox"
)

// recorder is a task that takes requests byte by byte, as the strictest server would, and keeps each.
type recorder struct {
	mu   sync.Mutex
	seen []string // head and body of each request
	odd  []string // what no strict server takes
}

func record(t *testing.T) (*recorder, signalbox.Endpoint) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &recorder{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r, signalbox.Endpoint{Task: "recorder", Addr: netip.MustParseAddrPort(l.Addr().String()), State: signalbox.Up}
}

func (r *recorder) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		request, err := strict(in)
		if request == "" && err != nil { // it was closed between requests
			return
		}
		r.mu.Lock()
		if err != nil {
			r.odd = append(r.odd, fmt.Sprintf("%v in %q", err, request))
		} else {
			r.seen = append(r.seen, request)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

// strict reads one request, and fails where two servers could see two things in it.
func strict(in *bufio.Reader) (request string, err error) {
	var all bytes.Buffer
	line := func() (string, error) {
		s, err := in.ReadString('\n')
		all.WriteString(s)
		s, ok := strings.CutSuffix(s, "\r\n")
		if err == nil && (!ok || strings.ContainsAny(s, "\r\n\x00")) {
			err = fmt.Errorf("a bare end of line")
		}
		return s, err
	}
	first, err := line()
	if err != nil {
		return all.String(), err
	}
	if words := strings.Split(first, " "); len(words) != 3 || words[2] != "HTTP/1.1" && words[2] != "HTTP/1.0" || strings.ContainsAny(first, "\t\v\f") {
		return all.String(), fmt.Errorf("an odd first line")
	}
	headers := make(map[string][]string)
	for {
		l, err := line()
		if err != nil {
			return all.String(), err
		}
		if l == "" {
			break
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok || name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_!#$%&'*+.^`|~") != "" {
			return all.String(), fmt.Errorf("an odd header %q", l)
		}
		name = strings.ToLower(name)
		headers[name] = append(headers[name], strings.TrimSpace(value))
	}
	if len(headers["transfer-encoding"]) > 0 && strings.HasSuffix(first, "1.0") {
		return all.String(), fmt.Errorf("a coding in HTTP/1.0")
	}
	for _, said := range headers["connection"] {
		for token := range strings.SplitSeq(said, ",") {
			if !slices.Contains([]string{"close", "keep-alive", "upgrade"}, strings.ToLower(strings.TrimSpace(token))) {
				return all.String(), fmt.Errorf("a header is to be dropped: %q", said)
			}
		}
	}
	if up := headers["upgrade"]; len(up) > 0 && !slices.Equal(up, []string{"websocket"}) || len(headers["http2-settings"]) > 0 {
		return all.String(), fmt.Errorf("HTTP in a tunnel: %q", up)
	}
	lengths, codings := headers["content-length"], headers["transfer-encoding"]
	if len(headers["host"]) > 1 || len(lengths) > 1 || len(codings) > 1 || len(lengths) == 1 && len(codings) == 1 {
		return all.String(), fmt.Errorf("two hosts, lengths or codings")
	}
	n := 0
	switch {
	case len(codings) == 1:
		if codings[0] != "chunked" {
			return all.String(), fmt.Errorf("an odd coding")
		}
		for size := 1; size > 0; {
			l, err := line()
			if err != nil {
				return all.String(), err
			}
			u, err := strconv.ParseUint(l, 16, 31)
			if err != nil {
				return all.String(), fmt.Errorf("an odd chunk")
			}
			size = int(u)
			if _, err := io.CopyN(&all, in, int64(size)); err != nil {
				return all.String(), err
			}
			for l, err = line(); err == nil && l != "" && size == 0; l, err = line() {
				if strings.HasPrefix(strings.ToLower(l), "content-length") || strings.HasPrefix(strings.ToLower(l), "transfer-encoding") {
					return all.String(), fmt.Errorf("an odd trailer")
				}
			}
			if err != nil || l != "" {
				return all.String(), fmt.Errorf("an odd end of a chunk, %q: %w", l, cmp.Or(err, io.ErrUnexpectedEOF))
			}
		}
	case len(lengths) == 1:
		if n, err = strconv.Atoi(lengths[0]); err != nil || n < 0 || strings.Trim(lengths[0], "0123456789") != "" {
			return all.String(), fmt.Errorf("an odd length")
		}
	}
	_, err = io.CopyN(&all, in, int64(n))
	return all.String(), err
}

// exchange sends bytes, waits for so many answers, and returns the statuses of all.
func exchange(t *testing.T, addr, bytes string, answers int) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, bytes) // HAProxy may have closed it
	in := bufio.NewReader(c)
	var out []string
	for {
		if len(out) == answers { // more would be too many
			_ = c.(*net.TCPConn).CloseWrite()
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return strings.Join(out, " ")
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		out = append(out, strconv.Itoa(r.StatusCode))
	}
}

// Each of these requests is refused, or a server that takes nothing odd sees exactly what was meant. "/smuggled" is never meant: it is
// what another program could take for a request of its own.
func TestHAProxyForwardsNothingTwoServersReadDifferently(t *testing.T) {
	rec, end := record(t)
	l := start(t, tableOf(service("/shop", "h/", end), service("/root", "p/", end), service("/admin", "p/admin", end)))
	const (
		get      = "GET / HTTP/1.1\r\nHost: h\r\n"
		post     = "POST / HTTP/1.1\r\nHost: h\r\n"
		smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
		chunked  = "Transfer-Encoding: chunked\r\n"
	)
	path := func(host, p string) string { return "GET " + p + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	for _, c := range []struct{ name, bytes, want string }{
		// What is fine.
		{"a request", get + "\r\n", "200"},
		{"two requests", get + "\r\n" + get + "\r\n", "200 200"},
		{"a body", post + "Content-Length: 3\r\n\r\nabc", "200"},
		{"a request as a body", post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)) + smuggled, "200"},
		{"chunks", post + chunked + "\r\n3\r\nabc\r\n0\r\n\r\n", "200"},
		{"chunks in capitals", post + "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "200"},
		{"a request as a chunk", post + chunked + fmt.Sprintf("\r\n%x\r\n", len(smuggled)) + smuggled + "\r\n0\r\n\r\n", "200"},
		{"a request after chunks", post + chunked + "\r\n0\r\n\r\n" + get + "\r\n", "200 200"},
		{"a chunk's extension", post + chunked + "\r\n3;a=b\r\nabc\r\n0\r\n\r\n", "200"},
		{"trailers", post + chunked + "\r\n0\r\nX: y\r\n\r\n", "200"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "200"},
		{"absolute form", "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "200"},
		{"empty lines before", "\r\n\r\n" + get + "\r\n", "200"},
		// Lengths.
		{"two lengths", post + "Content-Length: 0\r\nContent-Length: 38\r\n\r\n" + smuggled, "400"},
		{"the same length twice", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "200"},
		{"lengths in one line", post + "Content-Length: 0, 38\r\n\r\n" + smuggled, "400"},
		{"no length's value", post + "Content-Length:\r\n\r\n" + smuggled, "400"},
		{"a length with a sign", post + "Content-Length: +3\r\n\r\nabc", "400"},
		{"a negative length", post + "Content-Length: -1\r\n\r\n" + smuggled, "400"},
		{"a length in hex", post + "Content-Length: 0x3\r\n\r\nabc", "400"},
		{"a length with a space within", post + "Content-Length: 3 8\r\n\r\nabc", "400"},
		{"a length with a form feed", post + "Content-Length: 3\f\r\n\r\nabc", "400"},
		{"a length beyond 64 bits", post + "Content-Length: 18446744073709551617\r\n\r\na", "400"},
		{"a length in words", post + "Content-Length: three\r\n\r\nabc", "400"},
		{"a length with a dot", post + "Content-Length: 3.0\r\n\r\nabc", "400"},
		{"a length after a colon and a space", post + "Content-Length : 3\r\n\r\nabc", "400"},
		{"a length with a NUL in its name", post + "Content-Length\x00: 3\r\n\r\nabc", "400"},
		{"a length folded", post + "Content-Length:\r\n 35\r\n\r\n" + smuggled, "200"},
		// Codings.
		{"length and chunks", post + "Content-Length: 5\r\n" + chunked + "\r\n0\r\n\r\n", "200"},
		{"length, chunks and a request", post + "Content-Length: 43\r\n" + chunked + "\r\n0\r\n\r\n" + smuggled, "200"},
		{"chunks twice", post + chunked + chunked + "\r\n0\r\n\r\n" + smuggled, "400"},
		{"chunks twice in a line", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400"},
		{"chunks and identity", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled, "400"},
		{"identity", post + "Transfer-Encoding: identity\r\n\r\n" + smuggled, "400"},
		{"a coding before chunks", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "422"},
		{"an unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, "400"},
		{"a coding in quotes", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + smuggled, "400"},
		{"a coding after a vertical tab", post + "Transfer-Encoding:\vchunked\r\n\r\n0\r\n\r\n" + smuggled, "400"},
		{"a coding folded", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + get + "\r\n", "200 200"},
		{"a space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, "400"},
		{"no value of a coding", post + "Transfer-Encoding:\r\n\r\n" + smuggled, "400"},
		{"a coding with a NUL", post + "Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n" + smuggled, "400"},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\n" + chunked + "\r\n0\r\n\r\n" + smuggled, "400"},
		// Chunks.
		{"a chunk size in words", post + chunked + "\r\nxyz\r\nabc\r\n0\r\n\r\n", "400"},
		{"a chunk size with a sign", post + chunked + "\r\n+3\r\nabc\r\n0\r\n\r\n", "400"},
		{"a chunk size with 0x", post + chunked + "\r\n0x3\r\nabc\r\n0\r\n\r\n", "400"},
		{"a chunk size that overflows", post + chunked + "\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", "400"},
		{"a chunk longer than said", post + chunked + "\r\n1\r\nabc\r\n0\r\n\r\n", "400"},
		{"a chunk's end without a return", post + chunked + "\r\n3\r\nabc\n0\r\n\r\n", "200 or 400"},
		{"an empty chunk size", post + chunked + "\r\n\r\nabc\r\n0\r\n\r\n", "400"},
		// Names and lines.
		{"two hosts", get + "Host: p\r\n\r\n", "400"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"a host with a path", path("h/../p", "/"), "400"},
		{"a host with an at", path("p@h", "/"), "400"},
		{"a host with a query", path("h?p", "/"), "400"},
		{"a host with a tab", path("h\tp", "/"), "400"},
		{"a host in another place", "GET http://p/ HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"a space in the name of a header", get + "X Y: z\r\n\r\n", "400"},
		{"a header without a colon", get + "XY\r\n\r\n", "400"},
		{"a header without a name", get + ": x\r\n\r\n", "400"},
		{"a NUL in a header", get + "X: a\x00b\r\n\r\n", "400"},
		{"a return in a header", get + "X: a\rY: b\r\n\r\n", "400"},
		{"a space before the first header", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", "400"},
		{"a tab in the first line", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", "200"},
		{"two spaces in the first line", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "200"},
		{"a space in the path", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"a method with a brace", "G{T / HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"no version", "GET /\r\nHost: h\r\n\r\n", "400"},
		{"version 1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", "400"},
		{"version 9.1", "GET / HTTP/9.1\r\nHost: h\r\n\r\n", "400"},
		{"the beginning of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		{"a header too large", get + "X: " + strings.Repeat("x", 40000) + "\r\n\r\n", "400 or 431"},
		// Connections.
		{"headers of the connection", get + "Connection: Authorization, X-Forwarded-For\r\nConnection: Cookie\r\n\r\n" + get + "\r\n", "200 200"},
		{"the end of a connection", get + "Connection: close, Cookie\r\n\r\n" + smuggled, "200"},
		{"a tunnel of HTTP/2", get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200"},
		{"a tunnel of HTTP/2 in capitals", get + "Connection: upgrade\r\nUpgrade: H2C, h2\r\n\r\n", "200"},
		{"a tunnel of HTTP/1", get + "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\nUpgrade: TLS/1.0\r\n\r\n", "200"},
		{"a web socket and a header", get + "Connection: Cookie, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "200"},
		// Paths.
		{"dots", path("h", "/a/../b"), "400"},
		{"dots that climb out", path("p", "/x/../admin"), "400"},
		{"encoded dots", path("p", "/x/%2e%2e/admin"), "400"},
		{"encoded slashes", path("p", "/x%2f..%2fadmin"), "400"},
		{"backslashes", path("p", `/x\..\admin`), "400"},
		{"dots with a parameter", path("p", "/x/..;/admin"), "400"},
		{"dots with an encoded parameter", path("p", "/x/..%3bx/admin"), "400"},
		{"a dot", path("p", "/./admin"), "400"},
		{"two slashes", path("p", "//admin"), "400"},
		{"an encoded slash", path("p", "/x%2Fadmin"), "400"},
		{"a NUL", path("h", "/a%00b"), "400"},
		{"a fragment", path("h", "/a#b"), "400"},
		{"a byte above 127", path("h", "/\xff"), "400"},
		{"a control byte", path("h", "/\x01"), "400"},
		{"dots in a query", path("p", "/x?/../admin"), "200"},
		{"three dots", path("p", "/.../admin"), "200"},
	} {
		rec.mu.Lock()
		rec.seen, rec.odd = nil, nil
		rec.mu.Unlock()
		// Where versions of HAProxy differ either answer will do.
		either, or, differ := strings.Cut(c.want, " or ")
		got := exchange(t, l.entry, c.bytes, len(strings.Fields(either)))
		if c.want = either; differ && got == or {
			c.want = or
		}
		rec.mu.Lock()
		seen, odd := slices.Clone(rec.seen), slices.Clone(rec.odd)
		rec.mu.Unlock()
		forwarded := strings.Count(c.want, "200")
		if got != c.want || len(odd) > 0 || len(seen) != forwarded {
			t.Errorf("%s: the answers are %s, want %s; the task saw %q and odd things: %q", c.name, got, c.want, seen, odd)
		}
		for _, s := range seen {
			if strings.HasPrefix(s, "GET /smuggled") {
				t.Errorf("%s: smuggled", c.name)
			}
		}
	}
}
