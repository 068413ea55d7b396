package metrics

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The quick way counts a line of httplog as most are: with a server, no phase left out, a query that HAProxy read whole. It fills no
// Record, and reads numbers eight digits at a time. A line that is otherwise in any way is left to the general way, so that what is
// a request, and what is not, is decided there alone.

// quickTail is how many bytes behind the server's name it takes in at once, and quickFront how many before that.
const (
	quickTail  = 64
	quickFront = 8
)

// minQuick is how many bytes must be left of a block for the quick way.
const minQuick = 512

// quick counts the line that a text begins with, and returns its length without the newline, or 0 if it has changed nothing.
func (t *tally) quick(text []byte) int {
	if len(text) < minQuick {
		return 0
	}
	head := t.headLength(text)
	line := text[head:]
	if len(line) < minQuick/2 {
		return 0
	}
	client := wordEnd(line)
	pos := client + 1 + dateLength + 1
	if client < 1 || ours(line) || pos+len(t.frontend)+quickFront > len(line) || line[client] != ' ' || line[client+1] != '[' || line[pos-1] != ' ' {
		return 0
	}
	accepted, ok := t.parser.acceptDate(line[client+1:])
	if !ok || string(line[pos:pos+len(t.frontend)]) != string(t.frontend) || len(t.frontend) == 0 {
		return 0
	}
	pos += len(t.frontend)
	pair := bytes.IndexByte(line[pos:], ' ')
	if pair < quickFront || len(line) < pos+pair+1+quickTail {
		return 0
	}
	at := t.known(line[pos : pos+pair])
	if at == nil || at.task == nil || at.quick == nil && !t.hasten(at) {
		return 0
	}
	pos += pair + 1
	// From here on there are positions in the window, whose first quickFront bytes are the end of the server's name; those in bit sets
	// begin behind these.
	w := (*window)(line[pos-quickFront : pos+quickTail])
	gaps := gapsOf(w)
	wellFormed, fives := numbersIn(gaps)
	left := gaps
	p0, left := next(left)
	p1, left := next(left)
	p2, left := next(left)
	p3, left := next(left)
	p4, left := next(left)
	p5, left := next(left)
	p6, _ := next(left)
	const noCookies = '-' | ' '<<8 | '-'<<16 | ' '<<24
	if (w[p0]^'/')|(w[p1]^'/')|(w[p2]^'/')|(w[p3]^'/')|(w[p4]^' ')|(w[p5]^' ')|(w[p6]^' ') != 0 || p6 > len(w)-10 ||
		binary.LittleEndian.Uint32(w[p6+1:]) != noCookies || w[p6+9] != ' ' {
		return 0
	}
	state := [4]byte(w[p6+5 : p6+9])
	if state != endedNormally {
		for _, c := range state {
			if !plain[c] || c == ' ' {
				return 0
			}
		}
	}
	conns := p6 + 10
	before, behind := uint64(1)<<(p6-quickFront)-1, ^uint64(0)<<(conns-quickFront)
	left = gaps & behind
	q0, left := next(left)
	q1, left := next(left)
	q2, left := next(left)
	q3, left := next(left)
	q4, left := next(left)
	q5, left := next(left)
	q6, _ := next(left)
	pos += q6 + 1 - quickFront
	if (w[q0]^'/')|(w[q1]^'/')|(w[q2]^'/')|(w[q3]^'/')|(w[q4]^' ')|(w[q5]^'/')|(w[q6]^' ') != 0 || q6 <= q5 {
		return 0
	}
	behind &= uint64(1)<<(q6-quickFront) - 1
	if ^wellFormed&(before|behind) != 0 || fives&(uint64(1)<<(p5-quickFront)-1) != 0 || q4-q3 > 5 {
		return 0
	}
	read, queue := twoNumbers(w, quickFront, p0, p0+1, p1)
	connect, response := twoNumbers(w, p1+1, p2, p2+1, p3)
	total, status := twoNumbers(w, p3+1, p4, p4+1, p5)
	sent, retries := digits8(w, p5+1, p6), uint64(0)
	if w[q4-1] != '0' || q4-q3 != 2 {
		retries = digits8(w, q3+1, q4)
	}
	quote := bytes.IndexByte(line[pos:], '"')
	if quote < 0 || bytes.IndexByte(line[pos:pos+quote], '\n') >= 0 {
		return 0
	}
	request := line[pos+quote+1:]
	size := bytes.IndexByte(request, '"')
	if size < 0 || size+1 == len(request) || request[size+1] != '\n' || !allPlain(request[:size]) {
		return 0
	}
	request = request[:size]
	method := methodGET
	if len(request) < 4 || string(request[:4]) != "GET " {
		space := bytes.IndexByte(request, ' ')
		if space < 0 {
			return 0
		}
		method = methodIndex(request[:space])
	}
	end := head + pos + quote + 1 + size + 1
	if end > maxParse {
		return 0
	}
	t.out.Requests++
	if accepted > 0 {
		t.from, t.to = min(t.from, accepted), max(t.to, accepted+int64(total))
	}
	if t.frontend[len(t.frontend)-2] == '~' {
		at.quick.tls++
	}
	at.countQuick(read, queue, connect, response, total, status, sent, retries, state, method)
	return end
}

// headLength returns how long the header of the line is that a text begins with: that of the line before if it has the same one, which
// stands in the place of all that tells where a header ends.
func (t *tally) headLength(text []byte) int {
	if n := len(t.head); n > 0 && n < len(text) && string(text[:n]) == string(t.head) {
		return n
	}
	end := bytes.IndexByte(text, '\n')
	if end < 0 {
		return 0
	}
	n := end - len(t.parser.cutHeader(text[:end], &t.record))
	if t.head = t.head[:0]; n >= minHead {
		t.head = append(t.head, text[:n]...)
	}
	return n
}

// minHead is the length of what cutHeader looks at before it knows what a header is.
const minHead = 32

// endedNormally is the termination state of most requests.
var endedNormally = [4]byte{'-', '-', '-', '-'}

// quickTotals are what a service's requests by the quick way came to, close together, before it is put into the service's account.
type quickTotals struct {
	requests, bytes, retries uint64
	odd, tls                 uint64            // requests that did not end normally, and that came over TLS
	gets                     [codeCount]uint64 // of method GET
	short                    [64][3]uint64     // by whole milliseconds: read, queue, connect
	long                     [512][2]uint64    // to the first byte, and in total
}

// maxQuick is how many services of a tally have quickTotals at most.
const maxQuick = 1024

// hasten gives the place its service's quickTotals, and reports false if there are none.
func (t *tally) hasten(at *place) bool {
	if at.service.quick == nil {
		if t.quicks == maxQuick {
			return false
		}
		at.service.quick = new(quickTotals)
		t.quicks++
	}
	at.quick = at.service.quick
	return true
}

// countQuick does what service.count does.
func (at *place) countQuick(read, queue, connect, response, total, status, size, retries uint64, state [4]byte, method int) {
	q, s := at.quick, at.service
	first := queue + connect + response
	if max(read, queue, connect) < uint64(len(q.short)) && max(first, total) < uint64(len(q.long)) {
		q.short[read][0]++
		q.short[queue][1]++
		q.short[connect][2]++
		q.long[first][0]++
		q.long[total][1]++
	} else {
		s.reading.Observe(read * 1000)
		s.queue.Observe(queue * 1000)
		s.connect.Observe(connect * 1000)
		s.response.Observe(first * 1000)
		s.duration.Observe(total * 1000)
	}
	q.requests++
	q.bytes += size
	q.retries += retries
	code := codeIndex(int16(min(status, 999)))
	if method == methodGET {
		q.gets[code]++
	} else {
		s.code(method, code, 1)
	}
	if state != endedNormally {
		q.odd++
		s.ends[terminationIndex(state)]++
	}
	at.classes[classOf(code)]++
	if state != endedNormally || code >= code500 {
		s.fail(failureOf(state, int16(min(status, 999)), true, true), "")
	}
}

// settle puts what the quick way has counted into the accounts of services and tasks.
func (t *tally) settle() {
	for _, s := range t.places {
		if s.at == nil || s.at.quick == nil {
			continue
		}
		for class, n := range s.at.classes {
			s.at.task.classes[class] += n
		}
		s.at.classes = [len(classNames)]uint64{}
	}
	for _, s := range t.agg.services {
		if q := s.quick; q != nil {
			s.quick = nil
			s.settle(q)
		}
	}
}

func (s *service) settle(q *quickTotals) {
	s.requests += q.requests
	s.bytesOut += q.bytes
	s.retries += q.retries
	s.tls[tlsIndex(someTLS)] += q.tls
	s.ends[terminationIndex(endedNormally)] += q.requests - q.odd
	for code, n := range q.gets {
		s.code(methodGET, code, n)
	}
	for ms, n := range q.short {
		s.reading.add(uint64(ms)*1000, n[0])
		s.queue.add(uint64(ms)*1000, n[1])
		s.connect.add(uint64(ms)*1000, n[2])
	}
	for ms, n := range q.long {
		s.response.add(uint64(ms)*1000, n[0])
		s.duration.add(uint64(ms)*1000, n[1])
	}
}

// classOf returns the class of a code that was sent.
func classOf(code int) int {
	if code < 2 {
		return 6
	}
	return (code + 98) / 100
}

// wordEnd returns where the first byte of a text of at least 24 is that may stand in no word: a space, a quote, what is not printable.
func wordEnd(text []byte) int {
	three := (*[24]byte)(text)
	for i := 0; i < len(three); i += 8 {
		if odd := oddBytes(binary.LittleEndian.Uint64(three[i:]), bangs) & highBits; odd != 0 {
			return i + lowestByte(odd)
		}
	}
	pos := len(three)
	for pos < len(text) && plain[text[pos]] && text[pos] != ' ' {
		pos++
	}
	return pos
}

// lowestByte returns which byte the lowest bit of a set is in. The bits below it are counted, because bits.TrailingZeros64 is slow on
// processors that are taken for old ones.
func lowestByte(set uint64) int { return bits.OnesCount64((set-1)&^set) / 8 }

// window is what stands before and behind the space that follows a server's name.
type window [quickFront + quickTail]byte

// gapsOf returns a bit for each byte of the window behind its front that is no digit.
func gapsOf(w *window) (gaps uint64) {
	for i := 0; i < quickTail; i += 32 {
		x := (*[32]byte)(w[quickFront+i:])
		gaps |= (gapsOf8(x[:])>>56 | gapsOf8(x[8:])>>56<<8 | gapsOf8(x[16:])>>56<<16 | gapsOf8(x[24:])>>56<<24) << i
	}
	return gaps
}

// gapsOf8 is gapsOf for eight bytes. Its bits are the highest.
func gapsOf8(b []byte) uint64 {
	const (
		zeros = 0x3030303030303030
		low   = 0x7f7f7f7f7f7f7f7f
		high  = 0x8080808080808080
		ten   = 0x7676767676767676 // brings a byte of ten and more to its high bit
		pack  = 0x0002040810204081 // moves the high bits of all bytes into the highest one
	)
	x := binary.LittleEndian.Uint64(b) ^ zeros
	return ((x&low + ten) | x) & high * pack
}

// next returns where the first gap of a set is in the window, and the set without it.
func next(gaps uint64) (pos int, rest uint64) {
	return bits.OnesCount64((gaps-1)&^gaps)%64 + quickFront, gaps & (gaps - 1)
}

// numbersIn returns a bit for each byte at which no number begins that has more than eight digits, or none, and one for each at which
// there are five digits.
func numbersIn(gaps uint64) (wellFormed, fives uint64) {
	digits := ^gaps
	four := digits & (digits >> 1)
	four &= four >> 2
	nine := four & (four >> 4) & (digits >> 8)
	return ^(gaps&(gaps<<1|1) | nine), four & (digits >> 4)
}

// twoNumbers returns the numbers whose one to four digits stand at start to end, and at start2 to end2.
func twoNumbers(w *window, start, end, start2, end2 int) (uint64, uint64) {
	const zeros = 0x30303030
	a := (binary.LittleEndian.Uint32(w[end-4:]) ^ zeros) & (^uint32(0) << (8 * (start - end) & 31))
	b := (binary.LittleEndian.Uint32(w[end2-4:]) ^ zeros) & (^uint32(0) << (8 * (start2 - end2) & 31))
	x := uint64(a) | uint64(b)<<32
	x = (x*10 + x>>8) & 0x00ff00ff00ff00ff
	x = x*100 + x>>16
	return x & 0xffff, x >> 32 & 0xffff
}

// digits8 returns the number whose one to eight digits stand at start to end.
func digits8(w *window, start, end int) uint64 {
	x := binary.LittleEndian.Uint64(w[end-8:]) ^ 0x3030303030303030
	x &= ^uint64(0) << (8 * (start - end) & 63)
	x = x*10 + x>>8
	return ((x&0x000000ff000000ff)*(100+1000000<<32) + (x>>16&0x000000ff000000ff)*(1+10000<<32)) >> 32
}
