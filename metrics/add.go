package metrics

import (
	"slices"
	"time"
	"unicode/utf8"
)

// Add counts what others have counted: increments, as Snapshot.Since returns them. Sums are exact, within the limits of series, which hold
// for names too: one that is no name counts under Other. A service that they name goes on even if nothing was counted for it. Nothing of the
// records themselves is known here: watches see none of it, and where tasks are, and routes, is as the others found.
func (a *Aggregator) Add(inc *Snapshot, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.added.add(inc.Loss)
	for _, dimension := range dimensions {
		if n := inc.Overflow[dimension]; n > 0 {
			a.overflow[dimension] += n
		}
	}
	for i := range inc.Services {
		t := &inc.Services[i]
		s := a.service(t.Service)
		s.seen = now
		if last := earlier(inc.At, now); t.Requests > 0 && a.lastRecord.Before(last) {
			a.lastRecord = last
		}
		a.addService(s, t, now)
	}
}

func (a *Aggregator) addService(s *service, t *ServiceTotals, now time.Time) {
	s.requests += t.Requests
	s.bytesIn += t.BytesIn
	s.bytesOut += t.BytesOut
	s.retries += t.Retries
	s.redispatches += t.Redispatches
	s.local += t.Local
	s.remote += t.Remote
	own := [...]*Histogram{&s.duration, &s.response, &s.connect, &s.queue, &s.reading}
	for i, h := range t.histograms() {
		own[i].Merge(h)
	}
	s.exemplars.add(t.Exemplars)
	for _, c := range t.Codes {
		m := methodNamed(c.Method)
		s.code(m, codeNamed(m, c.Code), c.Count)
	}
	for _, c := range t.Terminations {
		s.ends[terminationNamed(c.Cause, c.Phase)] += c.Count
	}
	for _, c := range t.Failures {
		s.failures[s.failedNamed(c)] += c.Count
	}
	for _, c := range t.TLS {
		s.countTLS(tlsIndex([]byte(c.Version)), []byte(c.Cipher), c.Count)
	}
	for _, c := range t.Derived {
		if s.elsewhere == nil {
			s.elsewhere = map[string]uint64{}
		}
		if _, known := s.elsewhere[c.Metric]; known || len(s.elsewhere) < MaxDerived && derivedName.MatchString(c.Metric) {
			s.elsewhere[c.Metric] += c.Count
		}
	}
	if t.SLO != nil {
		s.objectiveSeen = now
		s.about.SLO = Objective{Share: t.SLO.Share, Latency: time.Duration(t.SLO.Latency) * time.Microsecond}
		s.judged += t.SLO.Judged
		s.good += t.SLO.Good
	}
	for i := range t.Routes {
		a.partNamed(s.routes, t.Routes[i].Name, "route", a.cfg.MaxRoutes).merge(&t.Routes[i], now)
	}
	for i := range t.Tasks {
		s.taskOf(a, t.Tasks[i].Name).merge(&t.Tasks[i], now)
	}
	for i := range t.Callers {
		a.partNamed(s.callers, t.Callers[i].Name, "caller", a.cfg.MaxCallers).merge(&t.Callers[i], now)
	}
}

// earlier returns the earlier of two moments: clocks of others run ahead.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// maxName is how many bytes a name may have.
const maxName = 1 << 10

// isName reports whether a name can be shown to somebody.
func isName(name string) bool { return len(name) <= maxName && utf8.ValidString(name) }

// maxFailed is how many kinds of failures of a service are told apart: there are some 200.
const maxFailed = 512

// failedNamed returns the kind of failure that words stand for.
func (s *service) failedNamed(c FailureCount) failed {
	f := failed{failureNamed(c.Reason), c.State, c.During}
	if !slices.Contains([]string{"", duringChange, duringDeployment, duringReload}, f.during) {
		f.during = Other
	}
	if _, known := s.failures[f]; !known && (len(s.failures) >= maxFailed || !isName(f.state)) {
		f.state = Other
	}
	return f
}

// What names stand for; a name that this version does not know is other.

func methodNamed(name string) int {
	if name == methods[methodTCP] {
		return methodTCP
	}
	return methodIndex([]byte(name))
}

func codeNamed(method int, name string) int {
	if method == methodTCP || name == "none" {
		return 0
	}
	if len(name) == 3 && '1' <= name[0] && name[0] <= '5' && digit(name[1]) && digit(name[2]) {
		return codeIndex(int16(name[0]-'0')*100 + int16(name[1]-'0')*10 + int16(name[2]-'0'))
	}
	return 1
}

func terminationNamed(cause, phase string) int {
	at := terminationCount - 1
	for i, c := range causes {
		for j, p := range phases {
			if c.word == cause && p.word == phase {
				at = i*len(phases) + j
			}
		}
	}
	return at
}

func failureNamed(name string) Failure {
	if i := slices.Index(failureNames[:], name); i >= 0 {
		return Failure(i)
	}
	return failures // whose word is other
}
