package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shown says which requests of a service may be shown one by one. The zero value shows all.
type Shown struct {
	Failures bool   // only those that did not go well
	OneIn    uint64 // one in so many, by chance; 0 and 1: all
	None     bool
}

// ParseShown reads on, off, errors or 1/N; anything else is on.
func ParseShown(text string) Shown {
	switch text {
	case "off":
		return Shown{None: true}
	case "errors":
		return Shown{Failures: true}
	}
	if every, ok := strings.CutPrefix(text, "1/"); ok {
		if n, err := strconv.ParseUint(every, 10, 64); err == nil {
			return Shown{OneIn: n}
		}
	}
	return Shown{}
}

func (s Shown) allows(f Failure) bool {
	return !s.None && (!s.Failures || f != Fine) && (s.OneIn < 2 || rand.Uint64N(s.OneIn) == 0)
}

// MaxWatches is how many watches an Aggregator has at most: each sees every request.
const MaxWatches = 16

// MaxSeen is how many requests a Watch keeps between two calls of Take at most.
const MaxSeen = 10_000

// ErrWatches says that there are MaxWatches already.
var ErrWatches = errors.New("as many watch the requests already as may: " + strconv.Itoa(MaxWatches))

// Interest says which requests a Watch is about. The zero value is about all.
type Interest struct {
	Text   string   // in the service's name
	Where  []string // conditions of derived metrics, all of which hold: "path=/checkout/*", "status=5xx,404", "latency>500ms"
	Failed bool     // only what did not go well
	Room   int      // how many requests are kept between two calls of Take; 0: 100
}

// Watch sees the requests that pass, as they are counted. It keeps an even sample of what it has no room for, and says how many there were.
type Watch struct {
	of    *Aggregator
	about Interest
	where Derived
	kept  []Seen
	tally Tally
	shown uint64 // of the tally, what could have been kept
}

// Tally counts what a Watch met between two calls of Take.
type Tally struct {
	Matched  uint64 `json:"matched"`            // requests of its interest
	Withheld uint64 `json:"withheld,omitempty"` // of these, those that the label log of their service keeps out of sight
}

// Seen is one request or connection, as it ended. Durations are in microseconds, -1 where that phase was not reached.
type Seen struct {
	At       time.Time `json:"at"` // when the request was there; of connections, when they began
	Service  string    `json:"service"`
	Task     string    `json:"task,omitempty"`      // its id, or the server's address where nobody knows one; "" if none was chosen
	State    string    `json:"taskState,omitempty"` // as the orchestrator has it: "up", "draining"
	Server   string    `json:"server,omitempty"`    // "10.0.0.1:31000"
	Client   string    `json:"client"`
	Method   string    `json:"method,omitempty"` // "" of connections
	Host     string    `json:"host,omitempty"`   // percent-encoded
	Path     string    `json:"path,omitempty"`   // bytes that are not plain are written #XX
	Status   int       `json:"status,omitempty"` // 0: no answer, or a connection
	Duration int64     `json:"durationMicros"`
	Response int64     `json:"responseMicros"` // from the request to the headers of the answer
	Queue    int64     `json:"queueMicros"`
	Connect  int64     `json:"connectMicros"`
	BytesIn  uint64    `json:"bytesIn"`
	BytesOut uint64    `json:"bytesOut"`
	Retries  uint64    `json:"retries,omitempty"`
	TLS      string    `json:"tls,omitempty"`    // the version
	Ended    string    `json:"ended"`            // HAProxy's termination state: "SC--"
	Reason   string    `json:"reason,omitempty"` // a Failure's word; "" if all went well
	Words    string    `json:"words,omitempty"`  // how it ended if not as it should
	Trace    string    `json:"trace,omitempty"`  // the id of the trace that the request belongs to
	Caller   string    `json:"caller,omitempty"` // who sent it, as the header says that --caller-header names
	// Headers are those that the label log-headers asks for, as far as the request has them.
	Headers map[string]string `json:"headers,omitempty"`
	During  string            `json:"during,omitempty"` // what was going on if it did: "change" of the service's tasks, "deployment" of the app, or "reload"
}

// Check returns what of the interest can't be read.
func (i *Interest) Check() error {
	_, err := i.conditions()
	return err
}

func (i *Interest) conditions() (Derived, error) {
	var d Derived
	if i.Room < 0 || i.Room > MaxSeen {
		return d, fmt.Errorf("room for %d requests is not between 1 and %d", i.Room, MaxSeen)
	}
	for _, condition := range i.Where {
		if err := d.add(condition); err != nil {
			return d, err
		}
	}
	return d, nil
}

// Watch begins to watch. Its errors name the condition that can't be read, or are ErrWatches.
func (a *Aggregator) Watch(i Interest) (*Watch, error) {
	where, err := i.conditions()
	if err != nil {
		return nil, err
	}
	if i.Room == 0 {
		i.Room = 100
	}
	w := &Watch{of: a, about: i, where: where}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.watches) >= MaxWatches {
		return nil, ErrWatches
	}
	a.watches = append(a.watches, w)
	return w, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	w.of.watches = slices.DeleteFunc(w.of.watches, func(other *Watch) bool { return other == w })
}

// Take returns what was kept since the last call, in the order of time, and how much there was.
func (w *Watch) Take() ([]Seen, Tally) {
	w.of.mu.Lock()
	kept, tally := w.kept, w.tally
	w.kept, w.tally, w.shown = nil, Tally{}, 0
	w.of.mu.Unlock()
	slices.SortStableFunc(kept, func(a, b Seen) int { return a.At.Compare(b.At) })
	return kept, tally
}

// see is told of a request that was counted for a service, and has its task in s.last if a server was chosen.
func (w *Watch) see(s *service, r *Record, f Failure) {
	if w.about.Failed && f == Fine || !strings.Contains(s.name, w.about.Text) || !w.where.ofApp(s.name) || !w.where.matches(r) {
		return
	}
	w.tally.Matched++
	if !s.about.Shown.allows(f) {
		w.tally.Withheld++
		return
	}
	w.shown++
	at := len(w.kept)
	if at == w.about.Room {
		// Each of those that came has the same chance to be among the kept ones.
		n := rand.Uint64N(w.shown)
		if n >= uint64(at) {
			return
		}
		w.kept[n] = seen(s, r, f)
		return
	}
	w.kept = append(w.kept, seen(s, r, f))
}

func seen(s *service, r *Record, f Failure) Seen {
	micros := func(ms int64) int64 {
		if ms < 0 {
			return -1
		}
		return ms * 1000
	}
	at := r.RequestMicros
	if at == 0 {
		at = (r.Accepted + max(r.Handshake, 0) + max(r.Idle, 0)) * 1000
	}
	out := Seen{
		At: time.UnixMicro(at).UTC(), Service: s.name, Client: string(r.Client), Server: string(r.ServerAddr),
		Method: string(r.Method), Host: string(r.Host), Path: string(r.Path), Status: max(int(r.Status), 0),
		Duration: r.Duration(), Response: r.FirstByte(), Queue: micros(r.Queue), Connect: micros(r.Connect),
		BytesIn: r.BytesIn, BytesOut: r.BytesOut, Retries: r.Retries, TLS: string(r.TLSVersion), Trace: string(r.Trace),
		Ended: string(r.Termination[:]), Reason: f.String(), Caller: unescape(r.Caller), Headers: headersOf(r.Headers),
	}
	if len(r.ServerAddr) > 0 && s.last != nil {
		out.Task, out.State = s.last.task.totals.Name, s.last.state
	}
	if f != Fine {
		out.Words = f.words(DecodeTermination(r.Termination), out.Status)
		out.During = s.about.during(r.ended())
	}
	return out
}

// headersOf reads "x-cart=7&x-shop=a%20b"; headers that the request did not have are left out.
func headersOf(text []byte) map[string]string {
	var out map[string]string
	for one := range bytes.SplitSeq(text, []byte("&")) {
		name, value, _ := bytes.Cut(one, []byte("="))
		if len(name) == 0 || len(value) == 0 {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[string(name)] = unescape(value)
	}
	return out
}

// words says what went wrong, as a person would.
func (f Failure) words(t Termination, status int) string {
	switch f {
	case NoRoute:
		return "no service has this name and path"
	case NoServer:
		return "no task could take it"
	case ServerError:
		return "the task answered " + strconv.Itoa(status)
	}
	if said := t.Words(); said != "" {
		return said
	}
	return "HAProxy answered itself"
}
