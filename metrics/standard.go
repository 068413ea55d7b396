package metrics

import (
	"bytes"
	"encoding/binary"
)

// HAProxy's own formats, each from the client's address on:
//
//	httplog   CLIENT [ACCEPTED] FRONTEND BACKEND/SERVER TR/Tw/Tc/Tr/Ta STATUS BYTES COOKIE COOKIE STATE a/f/b/s/RETRIES SQ/BQ {…} {…} "REQUEST"
//	httpslog  the same, and behind it ERRORS SNI/VERSION/CIPHER
//	tcplog    CLIENT [ACCEPTED] FRONTEND BACKEND/SERVER Tw/Tc/Tt BYTES STATE a/f/b/s/RETRIES SQ/BQ
//	errors    CLIENT [ACCEPTED] FRONTEND/LISTENER: MESSAGE
//
// Up to BYTES HAProxy alone has written; what clients say stands behind. In captured headers and in the request HAProxy writes
// quotes, braces and bytes that are not plain as #XX; captured cookies it writes as they are. So a line counts as soon as BYTES is
// complete, and what stands behind it is taken only as far as it fits the grammar that then has one reading.

// dateLength is that of "[25/Nov/2026:23:46:30.074]", dateSecond that of what stands before its milliseconds.
const (
	dateLength = 26
	dateSecond = 21
)

// clientEnd returns where the client's address ends if a line begins with one and an accept date, else 0.
func clientEnd(line []byte) int {
	i := bytes.IndexByte(line[:min(len(line), 128)], ' ')
	if i < 1 || i+1 >= len(line) || line[i+1] != '[' {
		return 0
	}
	return i
}

// tellsNothing reports whether a line is a request or connection in a format from which nothing can be counted: HAProxy's default
// one, which names no backend, and CLF.
func tellsNothing(line []byte) bool {
	if bytes.HasPrefix(line, []byte("Connect from ")) || bytes.HasPrefix(line, []byte("Connect to ")) {
		return true
	}
	i := bytes.IndexByte(line, ' ')
	return i > 0 && bytes.HasPrefix(line[i:], []byte(" - - ["))
}

// parseStandard reads a line whose client's address ends at i.
func (p *parser) parseStandard(line []byte, i int, r *Record) Reason {
	if !allPlain(line[:i]) {
		return ReasonControl
	}
	date := line[i+1:]
	if len(date) <= dateLength {
		return ReasonTruncated
	}
	accepted, ok := p.acceptDate(date)
	if !ok || date[dateLength] != ' ' {
		return ReasonField
	}
	r.Standard, r.Client, r.Accepted = true, line[:i:i], accepted

	pos := i + 1 + dateLength + 1
	end := bytes.IndexByte(line[pos:], ' ')
	if end < 0 {
		return ReasonTruncated
	}
	end += pos
	frontend := line[pos:end:end]
	switch {
	case len(frontend) == 0:
		return ReasonField
	case !allPlain(frontend):
		return ReasonControl
	case frontend[len(frontend)-1] == ':':
		frontend, _, _ = bytes.Cut(frontend, []byte("/"))
		r.Kind, r.Frontend, r.Text = KindNotice, frontend, line
		return ReasonNone
	case frontend[len(frontend)-1] == '~':
		frontend = frontend[:len(frontend)-1]
		r.TLSVersion = someTLS
	}
	r.Frontend = frontend

	pos = end + 1
	if end = bytes.IndexByte(line[pos:], ' '); end < 0 {
		return ReasonTruncated
	}
	end += pos
	pair := line[pos:end:end]
	slash := bytes.IndexByte(pair, '/')
	switch {
	case slash < 1 || slash == len(pair)-1:
		return ReasonField
	case !allPlain(pair):
		return ReasonControl
	}
	r.pair, r.Backend, r.Server = pair, pair[:slash:slash], pair[slash+1:]
	if r.Server[0] != '<' {
		r.ServerAddr = r.Server
	}
	return parseTimers(line, end+1, r)
}

// someTLS is the version of TLS where a format says only that there is some.
var someTLS = []byte("TLS")

// parseTimers reads what stands behind the server's name.
func parseTimers(line []byte, pos int, r *Record) Reason {
	var g numbers
	pos = g.read(line, pos)
	if pos < 0 {
		return g.reason
	}
	switch g.n {
	case 5:
		r.Kind = KindHTTP
		r.Read, r.Queue, r.Connect, r.Response, r.Total = g.v[0], g.v[1], g.v[2], g.v[3], g.v[4]
		if pos = g.read(line, pos); pos < 0 {
			return g.reason
		}
		if g.n != 1 {
			return ReasonField
		}
		r.Status = int16(min(g.v[0], 999))
	case 3:
		r.Kind = KindTCP
		r.Queue, r.Connect, r.Total = g.v[0], g.v[1], g.v[2]
	default:
		return ReasonField
	}
	if pos = g.read(line, pos); pos < 0 {
		return g.reason
	}
	if g.n != 1 {
		return ReasonField
	}
	r.BytesOut = uint64(max(g.v[0], 0))
	r.Service = r.Backend
	r.Termination = [4]byte{'-', '-', '-', '-'}
	r.Truncated = !standardTail(line, pos, r)
	if bytes.Equal(r.Method, badRequest) && bytes.Equal(r.Backend, r.Frontend) && r.Server[0] == '<' {
		r.Service = nil
	}
	return ReasonNone
}

var badRequest = []byte("<BADREQ>")

// standardTail reads what stands behind the bytes, and reports whether all of it was as it must be.
func standardTail(line []byte, pos int, r *Record) bool {
	cookies := false
	if r.Kind == KindHTTP {
		if pos+4 <= len(line) && line[pos] == '-' && line[pos+1] == ' ' && line[pos+2] == '-' && line[pos+3] == ' ' {
			pos += 4
		} else {
			cookies = true
			for range 2 {
				i := bytes.IndexByte(line[pos:], ' ')
				if i < 1 {
					return false
				}
				pos += i + 1
			}
		}
	}
	state := pos
	if r.Kind == KindHTTP {
		pos += 4
	} else {
		pos += 2
	}
	if pos >= len(line) || line[pos] != ' ' {
		return false
	}
	end := r.Termination
	for i, c := range line[state:pos] {
		if !plain[c] || c == ' ' {
			return false
		}
		end[i] = c
	}
	var g numbers
	if pos = g.read(line, pos+1); pos < 0 || g.n != 5 {
		return false
	}
	retries, redispatched := uint64(max(g.v[4], 0)), g.plus
	if pos = g.last(line, pos); pos < 0 || g.n != 2 || r.Kind == KindHTTP && pos > len(line) {
		return false
	}
	serverQueue, backendQueue := uint64(max(g.v[0], 0)), uint64(max(g.v[1], 0))
	cut := false
	if r.Kind == KindHTTP {
		var request, rest []byte
		if request, rest, cut = findRequest(line[pos:], cookies); cut && cookies {
			return false
		}
		if !readRequest(request, cut, r) {
			cut = true
		}
		if len(rest) > 0 {
			readTLS(rest, r)
		}
	}
	r.Termination, r.Retries, r.Redispatched = end, retries, redispatched
	r.ServerQueue, r.BackendQueue = serverQueue, backendQueue
	return !cut
}

// findRequest returns what stands between the quotes of the request, and what behind them. Behind the queues there are captured
// headers, in none of which there is a quote. With captured cookies, which may hold anything, only one reading is accepted: braces
// around what has none, the request, and at most httpslog's two words behind it.
func findRequest(line []byte, strict bool) (request, rest []byte, cut bool) {
	i := bytes.IndexByte(line, '"')
	if i < 0 {
		return nil, nil, true
	}
	if strict && !onlyCaptures(line[:i]) {
		return nil, nil, true
	}
	line = line[i+1:]
	// The request ends the line in httplog.
	if n := len(line); n > 0 && line[n-1] == '"' && allPlain(line[:n-1]) {
		return line[:n-1], nil, false
	}
	if i = bytes.IndexByte(line, '"'); i < 0 {
		if !allPlain(line) {
			line = nil
		}
		return line, nil, true
	}
	if request, rest = line[:i], line[i+1:]; !allPlain(request) {
		return nil, nil, true
	}
	if len(rest) > 0 && rest[0] != ' ' || strict && bytes.Count(rest, []byte(" ")) > 2 {
		return nil, nil, true
	}
	return request, rest, false
}

func onlyCaptures(line []byte) bool {
	for len(line) > 0 {
		i := bytes.IndexByte(line, '}')
		if line[0] != '{' || i < 0 || i+1 >= len(line) || line[i+1] != ' ' || bytes.IndexByte(line[1:i], '{') >= 0 {
			return false
		}
		line = line[i+2:]
	}
	return true
}

// readRequest reads "GET /path?query HTTP/1.1" and reports whether it is whole. Of a cut one, it takes what is complete.
func readRequest(request []byte, cut bool, r *Record) bool {
	i := 0
	for i < len(request) && request[i] != ' ' {
		i++
	}
	if i == len(request) {
		if string(request) == string(badRequest) {
			r.Method, r.Version, r.Path = badRequest, badRequest, badRequest
			return true
		}
		return false
	}
	method, target := request[:i:i], request[i+1:]
	r.Method = method
	j := len(target) - len(" HTTP/1.1")
	if j < 0 || target[j] != ' ' {
		j = bytes.IndexByte(target, ' ')
	}
	if j < 0 {
		// HAProxy cuts a long target, and the version with it, at tune.http.logurilen.
		if cut {
			return false
		}
		j = len(target)
	} else if !cut {
		r.Version = target[j+1:]
	}
	target = target[:j:j]
	if k := bytes.IndexByte(target, '?'); k >= 0 {
		target = target[:k:k]
	}
	if len(target) > 0 && target[0] != '/' {
		if k := bytes.Index(target, []byte("://")); k > 0 {
			target = target[k+3:]
			if k = bytes.IndexByte(target, '/'); k < 0 {
				k = len(target)
			}
			r.Host, target = target[:k:k], target[k:]
		}
	}
	r.Path = target
	return true
}

// readTLS reads httpslog's last two words, from their end: the server's name that the client asks for stands before.
func readTLS(rest []byte, r *Record) {
	if len(rest) < 12 || !allPlain(rest) {
		return
	}
	words := bytes.IndexByte(rest[1:], ' ')
	if words < 0 || bytes.Count(rest[1:words+1], []byte("/")) != 4 {
		return
	}
	i := bytes.LastIndexByte(rest, '/')
	j := bytes.LastIndexByte(rest[:max(i, 0)], '/')
	if j < words+2 {
		return
	}
	version, cipher := rest[j+1:i:i], rest[i+1:]
	if !bytes.HasPrefix(version, []byte("TLSv")) && !bytes.HasPrefix(version, []byte("SSLv")) || bytes.IndexByte(cipher, ' ') >= 0 {
		return
	}
	r.TLSVersion, r.TLSCipher = version, cipher
}

// numbers are up to five numbers with slashes between them: "0/-1/12". The last one may have a plus.
type numbers struct {
	v      [5]int64
	n      int
	plus   bool
	reason Reason
}

// read reads the numbers that begin at pos and returns the position behind the space that follows them, or -1.
func (g *numbers) read(line []byte, pos int) int {
	end := g.last(line, pos)
	if end > len(line) {
		g.reason = ReasonTruncated
		return -1
	}
	return end
}

// last is read for what may end the line; it then returns a position beyond it.
func (g *numbers) last(line []byte, pos int) int {
	g.n, g.plus, g.reason = 0, false, ReasonField
	for {
		v, minus := int64(0), false
		if pos < len(line) && (line[pos] == '-' || line[pos] == '+') {
			minus, g.plus = line[pos] == '-', line[pos] == '+'
			pos++
		}
		start := pos
		for pos < len(line) && line[pos]-'0' < 10 {
			v = v*10 + int64(line[pos]-'0')
			pos++
		}
		if pos-start > 12 {
			return -1
		}
		if minus {
			v = -1
		}
		if pos == len(line) {
			if pos == start {
				g.reason = ReasonTruncated
				return -1
			}
			g.v[g.n] = v
			g.n++
			return pos + 1
		}
		if pos == start || g.n == len(g.v) {
			return -1
		}
		g.v[g.n] = v
		g.n++
		switch line[pos] {
		case ' ':
			return pos + 1
		case '/':
			pos++
			if g.n == len(g.v) {
				return -1
			}
		default:
			return -1
		}
	}
}

// allPlain reports whether every byte is printable ASCII and no quote.
func allPlain(b []byte) bool {
	if len(b) < 8 {
		return eachPlain(b)
	}
	odd := oddBytes(binary.LittleEndian.Uint64(b[len(b)-8:]))
	for ; len(b) > 32; b = b[32:] {
		four := (*[32]byte)(b)
		odd |= oddBytes(binary.LittleEndian.Uint64(four[:8])) | oddBytes(binary.LittleEndian.Uint64(four[8:16])) |
			oddBytes(binary.LittleEndian.Uint64(four[16:24])) | oddBytes(binary.LittleEndian.Uint64(four[24:]))
	}
	for ; len(b) > 8; b = b[8:] {
		odd |= oddBytes(binary.LittleEndian.Uint64(b))
	}
	return odd&highBits == 0
}

// highBits are the high bits of eight bytes.
const highBits = 0x8080808080808080

// oddBytes sets the high bit of one of eight bytes if any is a quote or not printable ASCII; the low bits mean nothing.
func oddBytes(x uint64) uint64 {
	// Two turns a quote into a space and nothing else that is printable into one, and what is taken off borrows where a byte is less;
	// 0x7f and one are a high bit.
	return x | (x + ones) | ((x ^ twos) - bangs)
}

// Eight times 1, 2, and what comes behind the space. They are variables because constants are loaded again for each use.
var ones, twos, bangs uint64 = 0x0101010101010101, 0x0202020202020202, 0x2121212121212121

func eachPlain(b []byte) bool {
	for _, c := range b {
		if !plain[c] {
			return false
		}
	}
	return true
}

// serviceOf returns the service id for a backend's name if it is one that signalbox gives ("shop_cart:0" is "/shop/cart:0"), else
// the name itself: marathon-lb's "shop_cart_10000" tells no id.
func serviceOf(backend []byte) string {
	colon := bytes.LastIndexByte(backend, ':')
	if colon < 1 || colon == len(backend)-1 || bytes.IndexByte(backend[:colon], ':') >= 0 {
		return string(backend)
	}
	for _, c := range backend[colon+1:] {
		if !digit(c) {
			return string(backend)
		}
	}
	id := append([]byte{'/'}, backend...)
	for i, c := range id {
		if c == '_' {
			id[i] = '/'
		}
	}
	return string(id)
}

// serviceName returns the name under which a record counts.
func serviceName(r *Record) string {
	if r.Standard {
		return serviceOf(r.Service)
	}
	return string(r.Service)
}
