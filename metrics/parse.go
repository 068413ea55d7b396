package metrics

import "bytes"

// Parse reads one line into r, whose former content is lost: one of LogFormat, LogFormatTCP, or HAProxy's own httplog, httpslog and
// tcplog. The line may bear the header of any of HAProxy's ring and syslog formats, and of the files and exports into which
// syslog daemons write. It returns a Reason as its error, the same as in r. It allocates nothing.
//
// A line is only ever what its beginning says it is: text further in can't make it another one.
func Parse(line []byte, r *Record) error {
	*r = blank
	var p parser
	if reason := p.parse(line, r); reason != ReasonNone {
		r.Reason = reason
		return reason
	}
	return nil
}

// parser remembers of the lines before what the next one probably has too. The zero value remembers nothing, and allocates nothing.
// What it says of a line does not depend on what it remembers.
type parser struct {
	remembers bool
	tag       []byte    // of a header, from behind its time to the message
	second    [3]uint64 // an accept date up to its seconds, in overlapping words, and what that is in ms since the epoch
	ms        int64
}

// blank is a Record of which nothing is known.
var blank = Record{
	Severity: -1, Status: -1, Read: -1, Queue: -1, Connect: -1, Response: -1, Total: -1, ResponseMicros: -1, TotalMicros: -1,
}

// maxParse is the longest line that is looked at: a ring's largest message on 2.6.
const maxParse = 64 << 10

func (p *parser) parse(line []byte, r *Record) Reason {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r' || line[len(line)-1] == 0) {
		line = line[:len(line)-1]
	}
	line = p.cutHeader(line, r)
	if len(line) == 0 {
		return ReasonEmpty
	}
	if len(line) > maxParse {
		return ReasonTooLong
	}
	if len(line) < 6 || line[0] != 'S' || line[1] != 'B' || !digit(line[2]) || line[3] != ' ' {
		if i := clientEnd(line); i > 0 {
			return p.parseStandard(line, i, r)
		}
		return parseNotice(line, r)
	}
	if line[2] != mark[2] {
		return ReasonVersion
	}
	s := scanner{line: line, pos: 6}
	switch {
	case line[4] == 'H' && line[5] == ' ':
		r.Kind = KindHTTP
	case line[4] == 'T' && line[5] == ' ':
		r.Kind = KindTCP
	default:
		return ReasonField
	}
	return s.request(r)
}

// parseNotice reads a line that is not of our format.
func parseNotice(line []byte, r *Record) Reason {
	n, i := uint64(0), 0
	for i < len(line) && i < 18 && digit(line[i]) {
		n = n*10 + uint64(line[i]-'0')
		i++
	}
	if rest := string(line[i:]); i > 0 && (rest == " events dropped" || rest == " event dropped") {
		r.Kind, r.Dropped = KindDropped, n
		return ReasonNone
	}
	if bytes.HasPrefix(line, []byte(mark[:2])) && len(line) < 8 {
		return ReasonTruncated
	}
	if tellsNothing(line) {
		return ReasonFormat
	}
	r.Kind, r.Text = KindNotice, line
	return ReasonNone
}

// scanner walks over the fields of a line. A field is complete only if a space follows it.
type scanner struct {
	line []byte
	pos  int
	cut  bool   // the line ended before a field was complete
	bad  Reason // the first field that was not what it must be
}

func (s *scanner) request(r *Record) Reason {
	start := s.pos
	r.PID = int(s.number())
	r.Frontend = s.word()
	end := s.pos - 1
	r.Seq = s.number()
	if reason := s.stopped(); reason != ReasonNone {
		return reason
	}
	r.Source, r.Accounted = s.line[start:end], true

	if r.Kind == KindHTTP {
		r.Status = int16(min(s.signed(), 999))
	}
	t := s.word()
	r.Service = s.quoted()
	if reason := s.stopped(); reason != ReasonNone {
		return reason
	}
	if len(t) < 2 || len(t) > 4 {
		return ReasonField
	}
	r.Termination = [4]byte{'-', '-', '-', '-'}
	copy(r.Termination[:], t)

	s.tail(r)
	if s.bad != ReasonNone {
		return s.bad
	}
	r.Truncated = s.cut
	return ReasonNone
}

// tail reads what stands behind the service's name. From the first incomplete field on, everything keeps its empty value.
func (s *scanner) tail(r *Record) {
	r.Backend = s.word()
	r.Server = s.word()
	if a := s.word(); len(a) > 0 && a[0] != '-' {
		r.ServerAddr = a
	}
	r.Client = s.word()
	sec, ms := int64(-1), int64(-1)
	s.timer(&sec)
	s.timer(&ms)
	if ms >= 0 {
		r.Accepted = sec*1000 + ms
	}
	s.timer(&r.Handshake)
	if r.Kind == KindHTTP {
		s.timer(&r.Idle)
		s.timer(&r.Read)
		s.timer(&r.Queue)
		s.timer(&r.Connect)
		s.timer(&r.Response)
		s.timer(&r.Total)
		s.micros(&r.RequestMicros)
		s.micros(&r.ResponseMicros)
		s.micros(&r.TotalMicros)
		r.RequestMicros = max(r.RequestMicros, 0)
	} else {
		s.timer(&r.Queue)
		s.timer(&r.Connect)
		s.timer(&r.Total)
	}
	r.BytesIn = s.number()
	r.BytesOut = s.number()
	if s.pos < len(s.line) && s.line[s.pos] == '+' {
		r.Redispatched = true
		s.pos++
	}
	r.Retries = s.number()
	r.ServerQueue = s.number()
	r.BackendQueue = s.number()
	r.TLSVersion = s.optional()
	if r.Kind == KindTCP {
		r.TLSCipher = s.last()
		return
	}
	r.TLSCipher = s.optional()
	r.Method = s.quoted()
	r.Version = s.quoted()
	r.Host = s.quoted()
	r.Path = s.quotedLast()
	if s.pos == len(s.line) {
		return // of the first version
	}
	if s.line[s.pos] != ' ' {
		s.fail(ReasonField)
		return
	}
	s.pos++
	s.trace(r)
	if s.pos == len(s.line) {
		return // of the second one
	}
	r.Caller = s.quoted()
	r.Headers = s.quotedLast()
	if s.pos != len(s.line) {
		s.fail(ReasonField)
	}
}

// trace reads the id of a trace, 16 or 32 hex digits in lower case, or "-", with the space behind it. Fewer were cut.
func (s *scanner) trace(r *Record) {
	id := s.line[s.pos:]
	if i := bytes.IndexByte(id, ' '); i >= 0 {
		id = id[:i:i]
	}
	none := string(id) == "-"
	for _, c := range id {
		if !digit(c) && (c < 'a' || c > 'f') && !none {
			s.fail(ReasonField)
			return
		}
	}
	whole := len(id) == 16 || len(id) == 32
	switch s.pos += len(id); {
	case s.pos == len(s.line) && !none && !whole && len(id) < 32:
		s.cut = true
		return
	case !none && !whole:
		s.fail(ReasonField)
		return
	case whole:
		r.Trace = id
	}
	if s.pos == len(s.line) {
		return
	}
	if s.pos++; s.pos == len(s.line) {
		s.end()
	}
}

// word returns the next field.
func (s *scanner) word() []byte {
	line, i := s.line, s.pos
	for i < len(line) && plain[line[i]] && line[i] != ' ' {
		i++
	}
	if i == len(line) {
		s.end()
		return nil
	}
	if line[i] != ' ' && line[i] != '"' {
		s.fail(ReasonControl)
		return nil
	}
	if line[i] == '"' || i == s.pos {
		s.fail(ReasonField)
		return nil
	}
	w := line[s.pos:i:i]
	s.pos = i + 1
	return w
}

// optional returns the next field, nil for HAProxy's "-".
func (s *scanner) optional() []byte {
	w := s.word()
	if len(w) == 1 && w[0] == '-' {
		return nil
	}
	return w
}

// last returns the field that ends the line.
func (s *scanner) last() []byte {
	if s.bad != ReasonNone || s.cut {
		return nil
	}
	w := s.line[s.pos:]
	for _, c := range w {
		if !plain[c] || c == ' ' {
			s.fail(ReasonControl)
			return nil
		}
	}
	s.pos = len(s.line)
	if len(w) == 0 {
		s.cut = true
	}
	if len(w) == 1 && w[0] == '-' {
		return nil
	}
	return w
}

// number returns the next field, which must be a whole number.
func (s *scanner) number() uint64 {
	if s.pos < len(s.line) && s.line[s.pos] == '-' {
		s.fail(ReasonField)
		return 0
	}
	return uint64(s.signed())
}

// signed returns the next field, which must be a number with or without a sign; "-" alone is -1.
func (s *scanner) signed() int64 {
	line, i := s.line, s.pos
	minus := i < len(line) && line[i] == '-'
	if minus {
		i++
	}
	start, n := i, uint64(0)
	for i < len(line) && line[i]-'0' < 10 {
		n = n*10 + uint64(line[i]-'0')
		i++
	}
	if i == len(line) {
		s.end()
		return 0
	}
	if line[i] != ' ' || i == start && !minus || i-start > 18 {
		s.fail(ReasonField)
		return 0
	}
	s.pos = i + 1
	switch {
	case !minus:
		return int64(n)
	case i == start:
		return -1
	}
	return -int64(n)
}

// maxTimer is beyond any time that HAProxy can mean, in seconds or milliseconds, and small enough to be reckoned with.
const maxTimer = 1 << 40

// timer sets *t, in seconds or milliseconds, unless the line ends before the field is complete.
func (s *scanner) timer(t *int64) {
	v := s.signed()
	if v > maxTimer {
		s.fail(ReasonField)
	}
	if !s.cut && s.bad == ReasonNone {
		*t = max(v, -1)
	}
}

// micros is timer for fields in microseconds.
func (s *scanner) micros(t *int64) {
	if v := s.signed(); !s.cut && s.bad == ReasonNone {
		*t = max(v, -1)
	}
}

// quoted returns what stands between the next two quotes.
func (s *scanner) quoted() []byte {
	w := s.quotedLast()
	if s.cut || s.bad != ReasonNone {
		return w
	}
	switch {
	case s.pos == len(s.line):
		s.end()
	case s.line[s.pos] != ' ':
		s.fail(ReasonField)
		return nil
	default:
		s.pos++
	}
	return w
}

// quotedLast is quoted for the field that ends the line.
func (s *scanner) quotedLast() []byte {
	if s.cut || s.bad != ReasonNone {
		return nil
	}
	line, i := s.line, s.pos
	if i == len(line) {
		s.end()
		return nil
	}
	if line[i] != '"' {
		s.fail(ReasonField)
		return nil
	}
	i++
	for i < len(line) && plain[line[i]] {
		i++
	}
	if i == len(line) {
		s.end()
		return nil
	}
	if line[i] != '"' {
		s.fail(ReasonControl)
		return nil
	}
	w := line[s.pos+1 : i : i]
	s.pos = i + 1
	return w
}

// end notes that the line ended within a field; fail notes that a field is wrong. Either stops the scan: the position moves
// to the end, where every further field is cut.
func (s *scanner) end() {
	s.cut = true
	s.pos = len(s.line)
}

func (s *scanner) fail(reason Reason) {
	if !s.cut && s.bad == ReasonNone {
		s.bad = reason
	}
	s.pos = len(s.line)
}

func (s *scanner) stopped() Reason {
	if s.bad == ReasonNone && s.cut {
		return ReasonTruncated
	}
	return s.bad
}

// plain are the bytes that may stand between quotes.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '"'
	}
	return t
}()

func digit(c byte) bool { return c-'0' < 10 }
