package metrics

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The quick way counts a line of httplog as most are: with a server, no phase left out, a query that HAProxy read whole. It fills no
// Record, and reads numbers eight digits at a time. A line that is otherwise in any way is left to the general way, so that what is
// a request, and what is not, is decided there alone.

// minQuick is how many bytes must be there from the beginning of a line on for the quick way. What stands behind the line says nothing.
const minQuick = 512

// quick counts the line that a text begins with, and returns its length without the newline, or 0 if it has changed nothing.
func (t *tally) quick(text []byte) int {
	if len(text) < minQuick {
		return 0
	}
	head := len(t.head.text)
	if !t.head.begins(text) {
		head = t.behead(text)
	}
	if uint(head) > minQuick/2 {
		return 0
	}
	line := text[head:]
	client := clientLength(line)
	if client < 1 || client > maxClient || ours(line) {
		return 0
	}
	line = line[client:]
	accepted, ok := t.parser.acceptDate(line[1:])
	if !ok || line[0] != ' ' || line[1] != '[' || line[1+dateLength] != ' ' {
		return 0
	}
	line = line[1+dateLength+1:]
	if len(t.frontend.text) == 0 || !t.frontend.begins(line) {
		return 0
	}
	line = line[len(t.frontend.text):]
	pair := bytes.IndexByte(line, ' ')
	if pair < 1 || len(line) < pair+1+len(window{}) {
		return 0
	}
	at := t.known(line[:pair])
	if at == nil || at.task == nil || at.quick == nil && !t.hasten(at) {
		return 0
	}
	line = line[pair+1:]
	var r quickRequest
	size := (*window)(line).read(&r)
	if size == 0 {
		return 0
	}
	line = line[size:]
	end := bytes.IndexByte(line, '\n') - 1
	if end < 0 || line[end] != '"' {
		return 0
	}
	quote := bytes.IndexByte(line[:end], '"')
	if quote < 0 {
		return 0
	}
	request := line[quote+1 : end]
	if len(request) < 8 || !allPlain(request) {
		return 0
	}
	method := methodGET
	if binary.LittleEndian.Uint32(request) != 'G'|'E'<<8|'T'<<16|' '<<24 {
		space := bytes.IndexByte(request, ' ')
		if space < 0 {
			return 0
		}
		method = methodIndex(request[:space])
	}
	length := len(text) - len(line) + end + 1
	if length > maxParse {
		return 0
	}
	t.out.Requests++
	if accepted > 0 {
		t.from, t.to = min(t.from, accepted), max(t.to, accepted+int64(r.total))
	}
	if t.overTLS {
		at.quick.tls++
	}
	at.countQuick(&r, method)
	return length
}

// maxClient is the length of the longest client's address that clientLength tells.
const maxClient = 64

// clientLength returns where the first byte of a text of at least 72 is that stands in no client's address: a space, what is not printable,
// or one of the first two printable ones. It is more than 64 if there is none.
func clientLength(text []byte) int {
	const low = 0x2323232323232323
	nine := (*[72]byte)(text)
	for i := 0; i < len(nine); i += 8 {
		x := binary.LittleEndian.Uint64(nine[i : i+8])
		if odd := (x | (x - low) | (x + ones)) & highBits; odd != 0 {
			return i + lowestByte(odd)
		}
	}
	return len(nine)
}

// behead returns how long the header of the line is that a text begins with, and remembers it; -1 if the line has no end. It stands in the
// place of all that tells where a header ends.
func (t *tally) behead(text []byte) int {
	end := bytes.IndexByte(text, '\n')
	if end < 0 {
		return -1
	}
	n := end - len(t.parser.cutHeader(text[:end], &t.record))
	if n < minHead {
		t.head.set(nil)
	} else {
		t.head.set(text[:n])
	}
	return n
}

// minHead is the length of what cutHeader looks at before it knows what a header is.
const minHead = 32

// prefix is a text that one line after the other has in the same place. It is compared by words. Nothing begins with an empty one.
type prefix struct {
	text        []byte
	first, mask [6]uint64 // its first bytes; those beyond its end are masked
}

func (p *prefix) set(text []byte) {
	if string(text) == string(p.text) {
		return
	}
	p.text = append(p.text[:0], text...)
	var padded, mask [8 * len(p.first)]byte
	for i := range copy(padded[:], text) {
		mask[i] = 0xff
	}
	for i := range p.first {
		p.first[i], p.mask[i] = binary.LittleEndian.Uint64(padded[8*i:]), binary.LittleEndian.Uint64(mask[8*i:])
	}
}

// begins reports whether a text, of at least 48 bytes, begins with this one.
func (p *prefix) begins(text []byte) bool {
	six := (*[8 * len(p.first)]byte)(text)
	x := (binary.LittleEndian.Uint64(six[0:8])^p.first[0])&p.mask[0] | (binary.LittleEndian.Uint64(six[8:16])^p.first[1])&p.mask[1]
	if n := len(p.text); n > 16 {
		x |= (binary.LittleEndian.Uint64(six[16:24])^p.first[2])&p.mask[2] | (binary.LittleEndian.Uint64(six[24:32])^p.first[3])&p.mask[3] |
			(binary.LittleEndian.Uint64(six[32:40])^p.first[4])&p.mask[4] | (binary.LittleEndian.Uint64(six[40:48])^p.first[5])&p.mask[5]
		return x == 0 && (n <= len(six) || len(text) >= n && string(text[len(six):n]) == string(p.text[len(six):]))
	}
	return x == 0 && len(p.text) > 0
}

// endedNormally is the termination state of most requests.
var endedNormally = [4]byte{'-', '-', '-', '-'}

// quickTotals are what a service's requests by the quick way came to, before it is put into the service's account. They are close
// together, so that those of many services stay in a core's cache: none counts more than settleEvery.
type quickTotals struct {
	bytes, retries uint64
	requests       uint32
	odd, tls       uint32            // requests that did not end normally, and that came over TLS
	gets           [codeCount]uint32 // of method GET
	short          [64][3]uint32     // by whole milliseconds: read, queue, connect
	long           [512][2]uint32    // to the first byte, and in total
}

// settleEvery is after how many lines the quick way's totals are settled at the latest.
const settleEvery = 1 << 31

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
func (at *place) countQuick(r *quickRequest, method int) {
	q, s := at.quick, at.service
	first := r.queue + r.connect + r.response
	if (r.read|r.queue|r.connect) < uint64(len(q.short)) && (first|r.total) < uint64(len(q.long)) {
		q.short[r.read][0]++
		q.short[r.queue][1]++
		q.short[r.connect][2]++
		q.long[first][0]++
		q.long[r.total][1]++
	} else {
		s.reading.Observe(r.read * 1000)
		s.queue.Observe(r.queue * 1000)
		s.connect.Observe(r.connect * 1000)
		s.response.Observe(first * 1000)
		s.duration.Observe(r.total * 1000)
	}
	q.requests++
	q.bytes += r.sent
	q.retries += r.retries
	if method == methodGET {
		q.gets[r.status-98]++
		at.classes[r.class]++
	} else {
		s.code(method, int(r.status)-98, 1)
		at.task.classes.add(classKey(method, int(r.class)), 1)
	}
	if r.state != normally {
		q.odd++
		s.ends[terminationIndex(r.termination())]++
	}
	if r.state != normally || r.status >= 500 {
		s.fail(failureOf(r.termination(), int16(r.status), true, true), "", "")
	}
}

// settle puts what the quick way has counted into the accounts of services and tasks.
func (t *tally) settle() {
	for _, s := range t.places {
		if s.at == nil || s.at.quick == nil {
			continue
		}
		for class, n := range s.at.classes {
			if n > 0 {
				s.at.task.classes.add(classKey(methodGET, class), uint64(n))
			}
		}
		s.at.classes = [len(classNames)]uint32{}
	}
	for _, s := range t.agg.services {
		if s.quick != nil {
			s.settle(s.quick)
			*s.quick = quickTotals{}
		}
	}
	t.settled = t.out.Lines
}

func (s *service) settle(q *quickTotals) {
	s.requests += uint64(q.requests)
	s.bytesOut += q.bytes
	s.retries += q.retries
	if q.tls > 0 {
		s.countTLS(tlsIndex(someTLS), nil, uint64(q.tls))
	}
	s.ends[terminationIndex(endedNormally)] += uint64(q.requests - q.odd)
	for code, n := range q.gets {
		s.code(methodGET, code, uint64(n))
	}
	for ms, n := range q.short {
		s.reading.add(uint64(ms)*1000, uint64(n[0]))
		s.queue.add(uint64(ms)*1000, uint64(n[1]))
		s.connect.add(uint64(ms)*1000, uint64(n[2]))
	}
	for ms, n := range q.long {
		s.response.add(uint64(ms)*1000, uint64(n[0]))
		s.duration.add(uint64(ms)*1000, uint64(n[1]))
	}
}

// lowestByte returns which byte the lowest bit of a set is in. The bits below it are counted, because bits.TrailingZeros64 is slow on
// processors that are taken for old ones.
func lowestByte(set uint64) int { return bits.OnesCount64((set-1)&^set) / 8 }

// quickRequest is what the quick way reads of a request. Times are in milliseconds.
type quickRequest struct {
	read, queue, connect, response, total uint64
	sent, retries                         uint64
	status                                uint // 100 to 599
	class                                 uint // its first digit
	state                                 uint32
}

// normally is the termination state of most requests, as a number.
const normally = '-' | '-'<<8 | '-'<<16 | '-'<<24

func (r *quickRequest) termination() (state [4]byte) {
	binary.LittleEndian.PutUint32(state[:], r.state)
	return state
}

// window is what stands behind a server's name and a space, and longer than all that the quick way reads of it.
type window [96]byte

// Eight digits 0, and what brings the high bit of a byte to 1 that is ten or more.
const (
	zeros = 0x3030303030303030
	tens  = 0x7676767676767676
)

// read reads from the times to the space behind the queues, and returns how many bytes these are; 0 if they are not as most are.
func (w *window) read(r *quickRequest) int {
	const (
		oneDigits = '0' | '/'<<8 | '0'<<16 | '/'<<24 | '0'<<32 | '/'<<40
		noCookies = '-' | ' '<<8 | '-'<<16 | ' '<<24
	)
	pos := 6
	x := binary.LittleEndian.Uint64(w[:8]) ^ oneDigits
	if (x|(x+tens&0xff00ff00ff))&0xff80ff80ff80 == 0 {
		r.read, r.queue, r.connect = x&15, x>>16&15, x>>32&15
	} else if pos = w.threeTimes(r); pos == 0 {
		return 0
	}
	x, bits := w.digits(pos)
	pos += bits / 8
	odd := w[pos&63] ^ '/' | tooLong(bits, 4)
	both := x << (-bits & 63) >> 32
	pos++
	x, bits = w.digits(pos)
	pos += bits / 8
	odd |= w[pos&63] ^ ' ' | tooLong(bits, 4)
	both |= x << (-bits & 63) >> 32 << 32
	pos++
	both = (both*10 + both>>8) & 0x00ff00ff00ff00ff
	both = both*100 + both>>16
	r.response, r.total = both&0xffff, both>>32&0xffff

	status := binary.LittleEndian.Uint32(w[pos&63:pos&63+4]) ^ ('0' | '0'<<8 | '0'<<16 | ' '<<24)
	r.class = uint(status & 15)
	if (status|(status+tens&0xffffff))&0xff808080 != 0 || odd != 0 || r.class-1 > 4 {
		return 0
	}
	r.status = r.class*100 + uint(status>>8&15)*10 + uint(status>>16&15)
	pos += 4
	x, bits = w.digits(pos)
	pos += bits / 8
	r.sent = eightDigits(x << (-bits & 63))
	x = binary.LittleEndian.Uint64(w[pos&63+1 : pos&63+9])
	r.state = uint32(x >> 32)
	if tooLong(bits, 7) != 0 || w[pos&63] != ' ' || uint32(x) != noCookies || w[pos&63+9] != ' ' || r.state != normally && !plainWord(r.state) {
		return 0
	}
	pos += 10
	size := w.connections(pos, r)
	if size == 0 {
		return 0
	}
	return pos + size
}

// threeTimes reads the first three times, of up to four digits, and returns how many bytes they are.
func (w *window) threeTimes(r *quickRequest) (pos int) {
	for _, time := range []*uint64{&r.read, &r.queue, &r.connect} {
		x, bits := w.digits(pos)
		pos += bits / 8
		if w[pos&63] != '/' || tooLong(bits, 4) != 0 {
			return 0
		}
		*time = eightDigits(x << (-bits & 63))
		pos++
	}
	return pos
}

// connections reads "800/700/60/9/RETRIES 0/0 " of up to 32 bytes, of which only the retries count, and returns how many bytes these are.
func (w *window) connections(pos int, r *quickRequest) int {
	q := (*[32]byte)(w[pos&63 : pos&63+32])
	d0, s0 := digitsAndSlashes(binary.LittleEndian.Uint64(q[0:]))
	d1, s1 := digitsAndSlashes(binary.LittleEndian.Uint64(q[8:]))
	d2, s2 := digitsAndSlashes(binary.LittleEndian.Uint64(q[16:]))
	d3, s3 := digitsAndSlashes(binary.LittleEndian.Uint64(q[24:]))
	digits := d0>>56 | d1>>56<<8 | d2>>56<<16 | d3>>56<<24
	slashes := s0>>56 | s1>>56<<8 | s2>>56<<16 | s3>>56<<24
	spaces := ^(digits | slashes)
	five := (spaces - 1) &^ spaces // the bits below the first space
	spaces &= spaces - 1
	seven := (spaces - 1) &^ spaces // and below the second one
	if seven>>32 != 0 || bits.OnesCount64(slashes&five) != 4 || bits.OnesCount64(slashes&seven) != 5 {
		return 0
	}
	// No number is empty, and none has more than eight digits.
	gaps, four := ^digits, digits&(digits>>1)
	four &= four >> 2
	if gaps&(gaps<<1|1)&(seven<<1|1)|four&(four>>4)&(digits>>8)&seven != 0 {
		return 0
	}
	first, second := bits.OnesCount64(five)&31, bits.OnesCount64(seven)&31
	if q[first] != ' ' || q[second] != ' ' || q[(first-2)&31] != '/' {
		return 0
	}
	r.retries = uint64(q[(first-1)&31] - '0')
	return second + 1
}

// digitsAndSlashes returns a bit for each of eight bytes that is a digit, and one for each that is a slash, if no byte before is neither.
// They are the highest bits, the first byte's the lowest of them.
func digitsAndSlashes(x uint64) (digits, slashes uint64) {
	const (
		above = 0x4646464646464646 // brings what is behind the digits to its high bit
		from0 = 0x5050505050505050 // brings the digits there, and what is behind them
		pack  = 0x0002040810204081 // moves the high bits of all bytes into the highest one
	)
	below := ^(x | (x + above))
	digits = below & (x + from0) & highBits
	slashes = below & (x + from0 + ones) & highBits &^ digits
	return digits * pack, slashes * pack
}

// digits returns eight bytes as numbers, and how many bits those of the digits have that they begin with.
func (w *window) digits(pos int) (x uint64, size int) {
	x = binary.LittleEndian.Uint64(w[pos&63:pos&63+8]) ^ zeros
	end := (x | (x + tens)) & highBits
	return x, bits.OnesCount64((end-1)&^end) &^ 7
}

// tooLong returns 0 for a number of one to so many digits.
func tooLong(size, digits int) byte {
	if uint(size-8) > uint(8*digits-8) {
		return 1
	}
	return 0
}

// eightDigits returns the number of which each byte is a digit, the last one the highest.
func eightDigits(x uint64) uint64 {
	x = x*10 + x>>8
	return ((x&0x000000ff000000ff)*(100+1000000<<32) + (x>>16&0x000000ff000000ff)*(1+10000<<32)) >> 32
}

// plainWord reports whether four bytes are printable ASCII, without a space or quote.
func plainWord(x uint32) bool {
	for range 4 {
		if c := byte(x); !plain[c] || c == ' ' {
			return false
		}
		x >>= 8
	}
	return true
}
