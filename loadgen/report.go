package loadgen

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Class says why a request has no whole answer.
type Class string

// The classes of errors.
const (
	Refused   Class = "refused"    // no connection: nobody listens
	Reset     Class = "reset"      // the connection ended before the answer's head was whole
	Timeout   Class = "timeout"    // Config.Timeout passed, while connecting or later
	ShortBody Class = "short body" // the head came, and then less than it announced
	Other     Class = "other"      // what is left: no route, no such name, an answer that is not HTTP
)

// The classes of failures that have a whole answer, and of web sockets.
const (
	CodeOfProxy Class = "code of the proxy" // 400 or above
	CodeOfApp   Class = "code of the app"
	WrongApp    Class = "wrong app" // another one answered than Target.Expect
	ClosedEarly Class = "closed early"
	Mangled     Class = "mangled" // a message came back as another one
)

var classes = []Class{Refused, Reset, Timeout, ShortBody, Other, CodeOfProxy, CodeOfApp, WrongApp, ClosedEarly, Mangled}

// Report is what has happened up to a moment. It is immutable.
type Report struct {
	At      time.Time      `json:"at"`
	Elapsed time.Duration  `json:"elapsed"` // since Run began, until its end at most; nanoseconds
	Targets []TargetReport `json:"targets"` // sorted by Name, each name once
	// Failures are the first Config.KeepFailures requests without an answer, with one of 400 or above, or with one of the wrong app.
	Failures []Failure `json:"failures,omitempty"`
}

// Failure is one request or web socket that failed, as whoever looks for the cause needs it.
type Failure struct {
	At       time.Time     `json:"at"` // when it was known
	Target   string        `json:"target"`
	Host     string        `json:"host"`
	Method   string        `json:"method"`
	ID       string        `json:"id"`
	Class    Class         `json:"class"`
	Code     int           `json:"code,omitempty"`
	Error    string        `json:"error,omitempty"`
	Local    string        `json:"local,omitempty"` // the client's end of the connection, if there was one
	Took     time.Duration `json:"took"`            // since it was due or opened; nanoseconds
	Received string        `json:"received,omitempty"`
}

// String returns the failure on one line.
func (f Failure) String() string {
	return fmt.Sprintf("%s %s %s %s from %s after %s: %s %d %s %q",
		f.At.Format("15:04:05.000000"), f.Method, f.Host, f.ID, f.Local, f.Took.Round(time.Microsecond), f.Class, f.Code, f.Error, f.Received)
}

// failures keeps the first few.
type failures struct {
	mu   sync.Mutex
	room int
	kept []Failure
}

func (f *failures) add(r *request, id string, o outcome, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.kept) >= f.room {
		return
	}
	one := Failure{
		At: time.Now(), Target: r.name, Host: r.host, Method: r.method, ID: id, Class: o.failure(), Code: o.code, Local: o.local, Took: took, Received: o.received,
	}
	if o.err != nil {
		one.Error = o.err.Error()
	}
	f.kept = append(f.kept, one)
}

func (f *failures) list() []Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.kept)
}

// TargetReport is the count of one name. It closes: Scheduled = Overflow + InFlight + all of Codes + all of Errors.
type TargetReport struct {
	Name      string `json:"name"`
	Scheduled uint64 `json:"scheduled"`
	Overflow  uint64 `json:"overflow"` // not sent, as Config.MaxInFlight was reached
	InFlight  uint64 `json:"inFlight"`
	// Codes counts whole answers; sorted by code.
	Codes []CodeCount `json:"codes"`
	// Errors counts requests without a whole answer; in the order of the classes' declaration, those above 0 only.
	Errors []ErrorCount `json:"errors"`
	// Misrouted counts those of Codes that another app gave than Target.Expect.
	Misrouted uint64 `json:"misrouted"`
	// Reconnects counts requests that were sent again over a fresh connection, because the kept one had been closed before the
	// answer began. They are counted once in all else. Without Config.KeepAlive there are none.
	Reconnects uint64 `json:"reconnects"`
	LastError  string `json:"lastError,omitempty"`
	// Latency runs from when a request was due to the end of its answer; errors are not in it.
	Latency Histogram `json:"latency"`
}

// CodeCount counts answers of one status code by who gave them, told by Config.AppHeader.
type CodeCount struct {
	Code    int    `json:"code"`
	ByApp   uint64 `json:"byApp"`
	ByProxy uint64 `json:"byProxy"`
}

// ErrorCount counts errors of one class.
type ErrorCount struct {
	Class Class  `json:"class"`
	Count uint64 `json:"count"`
}

// Answered returns how many whole answers there were.
func (t TargetReport) Answered() uint64 {
	var n uint64
	for _, c := range t.Codes {
		n += c.ByApp + c.ByProxy
	}
	return n
}

// Code returns how many answers had a status code.
func (t TargetReport) Code(code int) uint64 {
	for _, c := range t.Codes {
		if c.Code == code {
			return c.ByApp + c.ByProxy
		}
	}
	return 0
}

// Errored returns how many requests had no whole answer.
func (t TargetReport) Errored() uint64 {
	var n uint64
	for _, e := range t.Errors {
		n += e.Count
	}
	return n
}

// Failed returns how many requests the way to the app failed: errors, answers of 500 and above that no app gave, and answers
// of the wrong app. What an app itself answers is no failure, and neither is what was never sent.
func (t TargetReport) Failed() uint64 {
	n := t.Errored() + t.Misrouted
	for _, c := range t.Codes {
		if c.Code >= 500 {
			n += c.ByProxy
		}
	}
	return n
}

// Target returns the report of one name, empty when there is none.
func (r Report) Target(name string) TargetReport {
	i, ok := slices.BinarySearchFunc(r.Targets, name, func(t TargetReport, n string) int { return cmp.Compare(t.Name, n) })
	if !ok {
		return TargetReport{Name: name}
	}
	return r.Targets[i]
}

// Total returns the sum over all names, under the name "total".
func (r Report) Total() TargetReport {
	sum := newTally()
	var inFlight uint64
	for _, t := range r.Targets {
		sum.scheduled += t.Scheduled
		sum.overflow += t.Overflow
		inFlight += t.InFlight
		sum.misrouted += t.Misrouted
		sum.reconnects += t.Reconnects
		sum.latency.Merge(&t.Latency)
		for _, c := range t.Codes {
			whose := sum.codes[c.Code]
			sum.codes[c.Code] = [2]uint64{whose[0] + c.ByApp, whose[1] + c.ByProxy}
		}
		for _, e := range t.Errors {
			sum.errors[e.Class] += e.Count
		}
		if t.LastError != "" {
			sum.lastError = t.LastError
		}
	}
	total := sum.report("total")
	total.InFlight = inFlight
	return total
}

// Failures returns how many requests came to nothing, by class: those of Errors, answers of 400 or above, whoever gave them, and
// answers of the wrong app.
func (t TargetReport) Failures() map[Class]uint64 {
	out := map[Class]uint64{}
	for _, e := range t.Errors {
		out[e.Class] += e.Count
	}
	for _, c := range t.Codes {
		if c.Code >= 400 && c.ByProxy > 0 {
			out[CodeOfProxy] += c.ByProxy
		}
		if c.Code >= 400 && c.ByApp > 0 {
			out[CodeOfApp] += c.ByApp
		}
	}
	if t.Misrouted > 0 {
		out[WrongApp] += t.Misrouted
	}
	return out
}

// tally is the running count of one name.
type tally struct {
	mu         sync.Mutex
	scheduled  uint64
	overflow   uint64
	done       uint64
	codes      map[int][2]uint64 // by the app, by the proxy
	errors     map[Class]uint64
	misrouted  uint64
	reconnects uint64
	lastError  string
	latency    Histogram
}

func newTally() *tally {
	return &tally{codes: make(map[int][2]uint64), errors: make(map[Class]uint64)}
}

// due counts a request whose time has come.
func (t *tally) due() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scheduled++
}

// spill counts a due request that is not sent for lack of room.
func (t *tally) spill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.overflow++
}

// count notes what came of a request that was sent.
func (t *tally) count(o outcome, latency time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	if o.reconnected {
		t.reconnects++
	}
	if o.err != nil {
		t.errors[o.class]++
		t.lastError = o.err.Error()
		return
	}
	whose := t.codes[o.code]
	if o.byApp {
		whose[0]++
	} else {
		whose[1]++
	}
	t.codes[o.code] = whose
	if o.misrouted {
		t.misrouted++
	}
	t.latency.Add(latency)
}

func (t *tally) report(name string) TargetReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := TargetReport{
		Name: name, Scheduled: t.scheduled, Overflow: t.overflow, InFlight: t.scheduled - t.overflow - t.done,
		Misrouted: t.misrouted, Reconnects: t.reconnects, LastError: t.lastError, Latency: t.latency.Clone(),
	}
	for code, whose := range t.codes {
		r.Codes = append(r.Codes, CodeCount{Code: code, ByApp: whose[0], ByProxy: whose[1]})
	}
	slices.SortFunc(r.Codes, func(a, b CodeCount) int { return cmp.Compare(a.Code, b.Code) })
	for _, class := range classes {
		if n := t.errors[class]; n > 0 {
			r.Errors = append(r.Errors, ErrorCount{Class: class, Count: n})
		}
	}
	return r
}
