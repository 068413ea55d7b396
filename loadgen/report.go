package loadgen

import (
	"cmp"
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

var classes = []Class{Refused, Reset, Timeout, ShortBody, Other}

// Report is what has happened up to a moment. It is immutable.
type Report struct {
	At      time.Time      `json:"at"`
	Elapsed time.Duration  `json:"elapsed"` // since Run began, until its end at most; nanoseconds
	Targets []TargetReport `json:"targets"` // sorted by Name, each name once
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
