package devcluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is something that goes wrong on purpose. It is posted as JSON to /devcluster/faults, durations as "1.5s".
//
//	status     answers Status, 503 if none is given
//	empty      answers 200 and no body
//	half       answers 200 and breaks off after half of the body
//	no-apps    answers 200 and {"apps":[]}
//	slow       waits Delay, then answers
//	drop       ends all event streams; with Duration, refuses new ones with 503 meanwhile
//	silence    keeps event streams open and says nothing on them, for Duration
//	abdicate   makes the next Marathon lead, after Delay in which none does; without a standby, the same one again
//	failover   abdicate, and the new leader knows nothing of health until its checks have asked
//	unreachable  makes Agent unreachable for Duration, or until it is cleared
//
// The first five apply to requests whose path begins with Path, "/v2/apps" if none is given, and end after Count requests or
// after Duration, whichever is given; with neither, when they are cleared.
type Fault struct {
	ID       int      `json:"id"`
	Kind     string   `json:"kind"`
	Path     string   `json:"path,omitempty"`
	Status   int      `json:"status,omitempty"`
	Count    int      `json:"count,omitempty"` // what is left of it
	Duration Duration `json:"duration,omitempty"`
	Delay    Duration `json:"delay,omitempty"`
	Agent    string   `json:"agent,omitempty"`

	until time.Time
}

// Duration is a time.Duration that JSON shows as "1.5s", and reads also as a number of seconds.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		seconds, err := strconv.ParseFloat(string(b), 64)
		if err != nil {
			return fmt.Errorf("%s is no duration", b)
		}
		*d = Duration(seconds * float64(time.Second))
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

type faults struct {
	s *Server

	mu     sync.Mutex
	last   int
	active []*Fault
}

func newFaults(s *Server) *faults { return &faults{s: s} }

var faultKinds = []string{"status", "empty", "half", "no-apps", "slow", "drop", "silence", "abdicate", "failover", "unreachable"}

// Inject makes a fault, and returns the number that it is listed under.
func (s *Server) Inject(f Fault) (int, error) {
	if !slices.Contains(faultKinds, f.Kind) {
		return 0, fmt.Errorf("fault %q: it is one of %s", f.Kind, strings.Join(faultKinds, ", "))
	}
	if f.Path == "" {
		f.Path = "/v2/apps"
	}
	if f.Status == 0 {
		f.Status = http.StatusServiceUnavailable
	}
	d := time.Duration(f.Duration)
	if d > 0 {
		f.until = time.Now().Add(d)
	}
	c := s.cluster
	switch f.Kind {
	case "silence":
		if d <= 0 {
			f.until = time.Now().Add(24 * time.Hour)
		}
		c.bus.silence(f.until)
	case "abdicate", "failover":
		if f.Kind == "failover" {
			c.mu.Lock()
			c.forgetHealth()
			c.mu.Unlock()
		}
		s.abdicate(time.Duration(f.Delay))
		f.until = time.Unix(0, s.elected.Load())
	case "unreachable":
		c.mu.Lock()
		n := slices.IndexFunc(c.slaves, func(sl *slave) bool { return sl.host == f.Agent || sl.id == f.Agent })
		if n < 0 {
			c.mu.Unlock()
			return 0, fmt.Errorf("fault: there is no agent %q", f.Agent)
		}
		sl := c.slaves[n]
		c.cut(sl)
		if d > 0 {
			sl.back = time.AfterFunc(d, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				if !c.closed {
					c.restore(sl)
				}
			})
		}
		for _, a := range c.apps {
			c.touch(a)
		}
		c.mu.Unlock()
	}
	fs := s.faults
	fs.mu.Lock()
	fs.last++
	f.ID = fs.last
	if f.Kind != "drop" || d > 0 {
		fs.active = append(fs.active, &f)
	}
	fs.mu.Unlock()
	if f.Kind == "drop" {
		c.bus.closeAll()
	}
	c.count.faults.WithLabelValues(f.Kind).Inc()
	return f.ID, nil
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() {
	s.faults.stop()
	s.cluster.bus.silence(time.Time{})
	s.elected.Store(0)
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sl := range c.slaves {
		c.restore(sl)
	}
}

// Faults lists those at work.
func (s *Server) Faults() []Fault {
	fs := s.faults
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.expire()
	all := []Fault{}
	for _, f := range fs.active {
		all = append(all, *f)
	}
	return all
}

func (fs *faults) stop() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.active = nil
}

func (fs *faults) expire() {
	now := time.Now()
	fs.active = slices.DeleteFunc(fs.active, func(f *Fault) bool { return !f.until.IsZero() && now.After(f.until) })
}

// find takes one use of the first fault that is about a request, which is returned by value.
func (fs *faults) find(r *http.Request) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.expire()
	for n, f := range fs.active {
		switch f.Kind {
		case "status", "empty", "half", "no-apps", "slow":
			if !strings.HasPrefix(r.URL.Path, f.Path) {
				continue
			}
			if f.Count > 0 {
				if f.Count--; f.Count == 0 {
					fs.active = slices.Delete(fs.active, n, n+1)
				}
			}
			return *f, true
		case "drop":
			if r.URL.Path == "/v2/events" {
				return Fault{Kind: "status", Status: http.StatusServiceUnavailable}, true
			}
		}
	}
	return Fault{}, false
}

// intercept answers a request as a fault would have it; false when there is none, or it only took time.
func (fs *faults) intercept(w http.ResponseWriter, r *http.Request) bool {
	f, ok := fs.find(r)
	if !ok {
		return false
	}
	fs.s.cluster.count.faults.WithLabelValues(f.Kind).Inc()
	switch f.Kind {
	case "slow":
		select {
		case <-time.After(time.Duration(f.Delay)):
			return false
		case <-r.Context().Done():
			return true
		}
	case "empty":
		reply(w, r, http.StatusOK, "application/json", nil)
	case "no-apps":
		reply(w, r, http.StatusOK, "application/json", []byte(`{"apps":[]}`))
	case "half":
		rec := &recorder{header: w.Header()}
		plainRequest := r.Clone(r.Context())
		plainRequest.Header.Del("Accept-Encoding")
		fs.s.route(rec, plainRequest)
		w.Header().Set("Content-Length", strconv.Itoa(max(2, len(rec.body))))
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(rec.body[:len(rec.body)/2]) // broken on purpose
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		reply(w, r, f.Status, "application/json", encode(map[string]string{"message": http.StatusText(f.Status)}))
	}
	return true
}

// recorder keeps an answer instead of sending it.
type recorder struct {
	header http.Header
	body   []byte
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(b []byte) (int, error) { r.body = append(r.body, b...); return len(b), nil }

// serve answers /devcluster/faults.
func (fs *faults) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/devcluster/faults" {
		reply(w, r, http.StatusNotFound, "application/json", []byte(`{"message":"there is only /devcluster/faults here"}`))
		return
	}
	switch r.Method {
	case http.MethodPost:
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		var f Fault
		if err == nil {
			err = decode(b, &f)
		}
		if err == nil {
			f.ID, err = fs.s.Inject(f)
		}
		if err != nil {
			reply(w, r, http.StatusBadRequest, "application/json", encode(map[string]string{"message": err.Error()}))
			return
		}
		reply(w, r, http.StatusCreated, "application/json", encode(map[string]int{"id": f.ID}))
	case http.MethodDelete:
		fs.s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	default:
		reply(w, r, http.StatusOK, "application/json", encode(map[string]any{"faults": fs.s.Faults()}))
	}
}
