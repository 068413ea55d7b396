package metrics

import (
	"maps"
	"net/url"
	"time"
)

// callerIdle is after how long the series of a caller ends that calls no more.
const callerIdle = time.Hour

// caller returns the account of who sent a request, as far as a header says it.
func (a *Aggregator) caller(s *service, r *Record) *part {
	if p := s.saidBy[string(r.Caller)]; p != nil {
		return p
	}
	name := unescape(r.Caller)
	p := a.partNamed(s.callers, name, "caller", a.cfg.MaxCallers)
	if p.totals.Name == name && len(s.saidBy) < 4*a.cfg.MaxCallers { // else each one counts as overflow
		s.saidBy[string(r.Caller)] = p
	}
	return p
}

// sweepCallers ends the series of callers that call no more.
func (s *service) sweepCallers(now time.Time) {
	idle := func(_ string, p *part) bool { return now.Sub(p.seen) > callerIdle }
	maps.DeleteFunc(s.saidBy, idle)
	maps.DeleteFunc(s.callers, idle)
}

// unescape returns what HAProxy's url_enc had before it; what it can't have written stays as it is.
func unescape(text []byte) string {
	if plain, err := url.PathUnescape(string(text)); err == nil {
		return plain
	}
	return string(text)
}
