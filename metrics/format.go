package metrics

// LogFormat is what HAProxy writes for each HTTP request, and what Parse reads. Fields that HAProxy makes stand first, those
// that a client sends stand last, quoted and percent- or #-encoded, so that a cut line loses only them. Lines of earlier versions, which
// end with the path or the trace, are read too.
//
// In the configuration it is one argument: log-format "<LogFormat>", or between single quotes. It holds no quotes, no
// backslash and no dollar sign. The frontend that uses it must set Variables, and must not have "option dontlognull",
// which hides connections that HAProxy counts all the same.
const LogFormat = mark + " H " + head + " %ST %tsc %{+Q}[var(txn.service)] %b %s %si:%sp %ci:%cp %Ts %ms" +
	" %Th %Ti %TR %Tw %Tc %Tr %Ta" +
	" %[var(txn.us0)] %[var(txn.us1),sub(txn.us0)] %[date(0,us),sub(txn.us0)]" +
	" %U %B %rc %sq %bq %sslv %sslc" +
	" %{+Q}HM %{+Q}HV %{+Q}[var(txn.host),bytes(0,255),url_enc] %{+Q}HPO %[var(txn.trace)]" +
	" %{+Q}[var(txn.caller),bytes(0,128),url_enc] %{+Q}[var(txn.headers)]"

// LogFormatTCP is the same for the connections of a TCP frontend.
const LogFormatTCP = mark + " T " + head + " %tsc %{+Q}[var(txn.service)] %b %s %si:%sp %ci:%cp %Ts %ms" +
	" %Th %Tw %Tc %Tt" +
	" %U %B %rc %sq %bq %sslv %sslc"

// mark names the version of the format. A change of the fields changes it.
const mark = "SB1"

// head is what the account of losses needs: the worker, the frontend, and how many lines that frontend had logged before.
const head = "%pid %f %lc"

const (
	// RingFormat is the format that the ring should have: a priority and the message, no further header.
	RingFormat = "short"
	// MaxLine is the length in bytes to give both to the ring (maxlen) and to the log line (len); a line that
	// LogFormat writes is shorter, whatever a client sends, as long as tune.http.logurilen stays at its default of 1024.
	MaxLine = 8192
	// RingBytes is the size to give to the ring: a few seconds of lines at the highest rates.
	RingBytes = 4 << 20
)

// Variable is one that a frontend must set for its log line to be complete.
type Variable struct {
	Name string // with its scope: "txn.us0"
	Expr string // the sample expression, "" where the template decides
	On   string // the rule set that sets it: "http-request", "http-response" or "tcp-request content"
	Why  string
}

// Variables are those that LogFormat and LogFormatTCP read. One that is not set leaves its field empty, and costs only that.
func Variables() []Variable {
	return []Variable{
		{Name: "txn.us0", Expr: "date(0,us)", On: "http-request", Why: "when the request was there, in microseconds; first rule of the frontend"},
		{Name: "txn.us1", Expr: "date(0,us)", On: "http-response", Why: "when the response's headers were there"},
		{Name: "txn.host", On: "http-request", Why: "the host as routing reads it"},
		{Name: "txn.trace", On: "http-request", Why: "the id of the trace that the request belongs to: 16 or 32 hex digits; unset where it brings none"},
		{Name: "txn.caller", On: "http-request", Why: "who sends the request, as a header says it; unset where none does"},
		{Name: "txn.headers", On: "http-request", Why: "the headers that a service's label asks for, as name=value, encoded by url_enc and joined by &; unset without"},
		{Name: "txn.service", On: "http-request", Why: "the service's name from the map of names; unset where no route is"},
		{Name: "txn.service", On: "tcp-request content", Why: "the service's name in a TCP frontend"},
	}
}
