package metrics

import "time"

// Kind says what a line is about.
type Kind uint8

// The kinds of lines.
const (
	// KindHTTP is one request.
	KindHTTP Kind = iota + 1
	// KindTCP is one connection of a TCP frontend.
	KindTCP
	// KindDropped is the ring's own word that it had no room for Record.Dropped lines.
	KindDropped
	// KindNotice is anything else that HAProxy logs: a server is down, a proxy stopped. If it has a Client, then a connection of
	// that client failed before there was a request: a TLS handshake, a PROXY protocol header.
	KindNotice
)

// Reason says why a line could not be read. The zero value means that it could.
type Reason uint8

// The reasons for which a line can't be read.
const (
	ReasonNone      Reason = iota
	ReasonEmpty            // nothing in it
	ReasonTooLong          // longer than any line that HAProxy writes
	ReasonVersion          // a format version that is not ours
	ReasonTruncated        // cut before the service was known
	ReasonField            // a field that is not what it must be
	ReasonControl          // raw control characters or bytes beyond ASCII, which HAProxy never writes
	ReasonFormat           // one of HAProxy's formats that say too little: without "option httplog" or "tcplog", or with "clf"
	reasons
)

var reasonNames = [reasons]string{"ok", "empty", "too_long", "version", "truncated", "field", "control", "format"}

// String returns the word that the metric's label uses.
func (r Reason) String() string {
	if r >= reasons {
		return "unknown"
	}
	return reasonNames[r]
}

// Error makes a Reason an error.
func (r Reason) Error() string { return "reading log line: " + r.String() }

// Record is one parsed line. Its byte slices point into the line and live as long as that does.
//
// Times are in milliseconds as HAProxy has them, -1 where the phase was not reached.
type Record struct {
	Kind   Kind
	Reason Reason // why the line could not be read; the rest may be incomplete then
	// Accounted says that Source and Seq are set: the line counts in the account of losses, even if Reason is set.
	Accounted bool
	// Truncated says that the line was cut, or could not be trusted any further, behind the service's name; fields behind that
	// have their empty value.
	Truncated bool
	// Standard says that the line was of one of HAProxy's own formats: Service is the backend's name, and times are on the local
	// clock of the machine that wrote the line, taken for UTC.
	Standard bool
	// Redispatched says that a retry went to another server.
	Redispatched bool

	Severity int8  // of the syslog priority, -1 without one
	Status   int16 // of the response, -1 if none was sent
	PID      int   // of the worker

	Source   []byte // PID and frontend as they stand in the line: "1234 http"
	Frontend []byte
	Seq      uint64 // lines that the frontend logged before this one, in that worker

	Termination [4]byte // HAProxy's termination state: "----", "SC--"
	Service     []byte  // empty: no route led to one
	Backend     []byte
	Server      []byte
	ServerAddr  []byte // "10.0.0.1:31000"; empty if none was chosen; the server's name in HAProxy's own formats, which have no address
	Client      []byte // "10.0.0.9:51234"

	Accepted  int64 // when the connection (or the wait for this request on it) began, ms since the epoch
	Handshake int64
	Idle      int64
	Read      int64 // from the first byte of the request to the end of its headers
	Queue     int64
	Connect   int64
	Response  int64 // from the request's dispatch to the response's headers
	Total     int64 // active time of a request; life of a connection

	RequestMicros  int64 // when the request was there, µs since the epoch; 0 unknown
	ResponseMicros int64 // from then to the response's headers, µs; -1 unknown
	TotalMicros    int64 // from then to the end, µs; -1 unknown

	BytesIn, BytesOut         uint64 // as the client sent and got them, headers included
	Retries                   uint64
	ServerQueue, BackendQueue uint64

	TLSVersion, TLSCipher []byte // empty without TLS; version "TLS" where only that is known

	Method  []byte
	Version []byte // "HTTP/1.1"; "HTTP/0.9" also where a long URI was cut
	Host    []byte // percent-encoded, at most 255 bytes before encoding
	Path    []byte // without query; bytes that are not plain are written #XX

	Caller  []byte // who sent the request, as a header says it; percent-encoded, at most 128 bytes before encoding
	Headers []byte // those that the service's label asks for: "x-shop=a%20b&x-cart=7"

	Trace []byte // the id of the request's trace, 16 or 32 hex digits; empty where it brought none

	Dropped uint64 // KindDropped: lines that the ring had no room for
	Text    []byte // KindNotice: the message

	pair []byte // "backend/server" as it stands in a Standard line
}

// Duration returns how long the request was active, or the connection lived, in microseconds. It takes the microsecond clock
// where that agrees with HAProxy's own timers, which no step of the wall clock disturbs.
func (r *Record) Duration() int64 {
	if r.Total < 0 {
		return 0
	}
	if r.TotalMicros >= 0 {
		us := r.TotalMicros + max(r.Read, 0)*1000
		if d := us - r.Total*1000; -clockSlack <= d && d <= clockSlack {
			return us
		}
	}
	return r.Total * 1000
}

// FirstByte returns the time from the request to the response's headers in microseconds, or -1 if there was no response.
func (r *Record) FirstByte() int64 {
	if r.Response < 0 {
		return -1
	}
	ms := max(r.Queue, 0) + max(r.Connect, 0) + r.Response
	if r.ResponseMicros >= 0 {
		if d := r.ResponseMicros - ms*1000; -clockSlack <= d && d <= clockSlack {
			return r.ResponseMicros
		}
	}
	return ms * 1000
}

// clockSlack is by how much, in µs, the microsecond clock may differ from the sum of up to four timers cut to milliseconds.
const clockSlack = 5000

// ended returns when the line was written, as far as it says.
func (r *Record) ended() time.Time {
	if r.RequestMicros > 0 && r.TotalMicros >= 0 {
		return time.UnixMicro(r.RequestMicros + r.TotalMicros)
	}
	return time.UnixMilli(r.Accepted + max(r.Handshake, 0) + max(r.Idle, 0) + max(r.Total, 0))
}

// Dispatched returns about when a server was chosen: the moment at which its address tells the task.
func (r *Record) Dispatched() time.Time {
	if r.RequestMicros > 0 {
		return time.UnixMicro(r.RequestMicros + max(r.Queue, 0)*1000)
	}
	return time.UnixMilli(r.Accepted + max(r.Handshake, 0) + max(r.Idle, 0) + max(r.Read, 0) + max(r.Queue, 0))
}
