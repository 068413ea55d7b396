package marathon

import (
	"math/rand/v2"
	"time"

	"signalbox/discovery"
)

// Limits of the distance between two reads of one app.
const (
	// maxJobs bounds the apps that are read one by one; beyond it a read of everything costs less.
	maxJobs    = 10_000
	minSpacing = 100 * time.Millisecond
	maxSpacing = 5 * time.Second
	// perSlave is what each member of the fleet adds to the distance: 500 slaves read an app in a storm once in 5 s.
	perSlave = 10 * time.Millisecond
)

// schedule decides which apps to read when. The first change of an app is read at once, and so is a second one where Marathon has
// but few readers and is quick: a scaling is two events, a millisecond apart. While a storm lasts, reads of one app keep a distance
// that grows with Marathon's latency, its refusals and the fleet's size: in any span they are at most two more than distances fit
// into it. It does nothing itself.
type schedule struct {
	base    time.Duration
	jitter  time.Duration // before the first read of a change, so that a fleet does not read in step
	latency time.Duration // moving mean of how long Marathon takes for one app
	refused int           // refusals (503, 429) in a row, at most 6
	jobs    map[string]*job
}

// job is one app that is due, being read, or was read a moment ago.
type job struct {
	dirty   bool
	due     time.Time
	event   time.Time // of the earliest event since the last read began
	cause   string
	started time.Time // of the last read
	second  bool      // the read beyond the spacing is taken
	running bool
	fails   int
	pod     bool
}

func newSchedule(fleet int) *schedule {
	s := &schedule{jobs: map[string]*job{}}
	s.space(fleet)
	return s
}

// space sets the spacing of one of a fleet.
func (s *schedule) space(fleet int) {
	s.base, s.jitter = min(max(minSpacing, time.Duration(fleet)*perSlave), maxSpacing), 0
	if s.base > minSpacing {
		s.jitter = min(s.base, time.Second)
	}
}

// spacing is the distance between two reads of one app now.
func (s *schedule) spacing() time.Duration {
	d := max(s.base, 4*s.latency)
	return min(d<<s.refused, maxSpacing)
}

// want notes that an app has changed. It returns false if there are too many already: then everything is to be read.
func (s *schedule) want(app string, pod bool, event time.Time, cause string, now time.Time) bool {
	j := s.jobs[app]
	if j == nil {
		if len(s.jobs) >= maxJobs {
			return false
		}
		j = &job{}
		s.jobs[app] = j
	}
	if j.dirty {
		cause = discovery.Causes(j.cause, cause)
	}
	j.cause = cause
	j.pod = j.pod || pod
	if j.dirty {
		return true
	}
	j.dirty, j.event, j.due = true, event, now
	spacing := s.spacing()
	next := j.started.Add(spacing)
	switch {
	case !now.Before(next):
		if !now.Before(next.Add(spacing)) { // bursts that come one per spacing are a storm too
			j.second = false
		}
		if s.jitter > 0 {
			j.due = now.Add(rand.N(s.jitter))
		}
	case !j.second && spacing == minSpacing && !j.started.IsZero():
		j.second = true
	default:
		j.due = next
	}
	return true
}

// take returns up to n apps to read now, and marks them as being read.
func (s *schedule) take(now time.Time, n int) map[string]job {
	var out map[string]job
	for app, j := range s.jobs {
		if len(out) >= n {
			break
		}
		if j.dirty && !j.running && !now.Before(j.due) {
			if out == nil {
				out = map[string]job{}
			}
			out[app] = *j
			j.dirty, j.running, j.started = false, true, now
		}
	}
	return out
}

// done notes that a read of an app has ended. A failed one is tried again, later and later.
func (s *schedule) done(app string, failed, refused bool, took time.Duration, now time.Time) {
	if refused {
		s.refused = min(s.refused+1, 6)
	} else if !failed {
		s.refused = max(s.refused-1, 0)
		s.latency += (took - s.latency) / 8
	}
	j := s.jobs[app]
	if j == nil {
		return
	}
	j.running = false
	if !failed {
		j.fails = 0
		return
	}
	j.fails = min(j.fails+1, 6)
	if !j.dirty {
		j.dirty, j.event = true, time.Time{}
	}
	j.due = now.Add(max(s.spacing(), 250*time.Millisecond<<j.fails))
}

// covered forgets what a read of everything that began at start has answered.
func (s *schedule) covered(start time.Time) {
	for _, j := range s.jobs {
		if j.dirty && j.event.Before(start) {
			j.dirty, j.fails = false, 0
		}
	}
}

// waiting is how many apps are due or soon will be.
func (s *schedule) waiting() int {
	n := 0
	for _, j := range s.jobs {
		if j.dirty {
			n++
		}
	}
	return n
}

// next returns when take next has something, and drops what no longer matters. ok is false when nothing waits.
func (s *schedule) next(now time.Time) (at time.Time, ok bool) {
	for app, j := range s.jobs {
		switch {
		case j.dirty && !j.running:
			if !ok || j.due.Before(at) {
				at, ok = j.due, true
			}
		case !j.dirty && !j.running && now.Sub(j.started) > maxSpacing:
			delete(s.jobs, app)
		}
	}
	return at, ok
}

// refusedWhole notes whether a whole read was refused.
func (s *schedule) refusedWhole(refused bool) {
	if refused {
		s.refused = min(s.refused+1, 6)
	}
}
