package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"signalbox/metrics"
)

// The times of a tail.
const (
	tailEvery   = 250 * time.Millisecond // between two looks at what has passed, at most rates
	tailAtLeast = time.Second            // between two parts of the answer, though nothing has passed
	tailSilent  = 15 * time.Second       // after which a client takes the controller for gone
	tailWrite   = 10 * time.Second       // for a client that does not read
)

// fewRequests is the rate below which a part covers a whole second: a quarter of the rate would be too coarse.
const fewRequests = 40

// MaxTailRate is how many requests a second a tail shows at most.
const MaxTailRate = metrics.MaxSeen * int(time.Second/tailEvery)

// maxPart bounds one part of a tail's answer, in bytes: a request takes some 500, and 3,000 with a long path.
const maxPart = 64 << 20

// TailQuestion says which requests a tail shows.
type TailQuestion struct {
	Text      string   // in the service's name
	Where     []string // see metrics.Interest
	Failed    bool     // only what did not go well
	PerSecond int      // at most so many, an even sample of all; 0: 100
}

// Tail is one part of what /api/v1/tail answers, one JSON object a line, at least one a second.
type Tail struct {
	APIVersion string         `json:"apiVersion"`
	Seconds    float64        `json:"seconds"` // the time that it covers
	Requests   []metrics.Seen `json:"requests"`
	metrics.Tally
}

// values is the question as a URL has it.
func (q *TailQuestion) values() url.Values {
	v := url.Values{"where": q.Where}
	if q.Text != "" {
		v.Set("text", q.Text)
	}
	if q.Failed {
		v.Set("failed", "true")
	}
	if q.PerSecond != 0 {
		v.Set("rate", strconv.Itoa(q.PerSecond))
	}
	return v
}

// interestOf reads the question that a URL asks. every is the time between two looks, for which the interest has room.
func interestOf(v url.Values) (i metrics.Interest, every time.Duration, err error) {
	i = metrics.Interest{Text: v.Get("text"), Where: v["where"]}
	if text := v.Get("failed"); text != "" {
		if i.Failed, err = strconv.ParseBool(text); err != nil {
			return i, 0, fmt.Errorf("%w: failed=%q is not true or false", ErrQuestion, text)
		}
	}
	rate := 100
	if text := v.Get("rate"); text != "" {
		if rate, err = strconv.Atoi(text); err != nil || rate < 1 || rate > MaxTailRate {
			return i, 0, fmt.Errorf("%w: rate=%q is not a number from 1 to %d", ErrQuestion, text, MaxTailRate)
		}
	}
	if rate < fewRequests {
		i.Room = rate
		return i, time.Second, nil
	}
	i.Room = rate / int(time.Second/tailEvery)
	return i, tailEvery, nil
}

// tail answers with the requests that pass, until the client or the server goes.
func (s *Server) tail(w http.ResponseWriter, r *http.Request) {
	interest, every, err := interestOf(r.URL.Query())
	if err != nil {
		answer(w, func() (Tail, error) { return Tail{}, err })
		return
	}
	watch, err := s.cfg.Watch(interest)
	if err != nil {
		if !errors.Is(err, metrics.ErrWatches) {
			err = fmt.Errorf("%w: %w", ErrQuestion, err)
		}
		answer(w, func() (Tail, error) { return Tail{}, err })
		return
	}
	defer watch.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for since := time.Now(); ; {
		select {
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		case <-tick.C:
		}
		part := Tail{APIVersion: APIVersion, Seconds: time.Since(since).Seconds()}
		part.Requests, part.Tally = watch.Take()
		if part.Matched == 0 && part.Seconds < tailAtLeast.Seconds() {
			continue
		}
		since = time.Now()
		if part.Requests == nil {
			part.Requests = []metrics.Seen{}
		}
		err := out.SetWriteDeadline(time.Now().Add(tailWrite))
		if err = errors.Join(err, enc.Encode(part)); err == nil {
			err = out.Flush()
		}
		if err != nil {
			return // the client is gone, or does not read
		}
	}
}

// Tail calls show with each part of the requests that pass, until ctx ends, show returns an error, or the controller goes.
func (c *Client) Tail(ctx context.Context, q TailQuestion, show func(Tail) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := fmt.Errorf("%w at %s: it says nothing for %s", ErrUnreachable, c.place, tailSilent)
	timer := time.AfterFunc(tailSilent, func() { cancel(silent) })
	defer timer.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/tail?"+q.values().Encode(), http.NoBody)
	if err != nil {
		return fmt.Errorf("asking the controller: %w", err)
	}
	body, err := c.open(ctx, req, 0)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxPart)
	for lines.Scan() {
		timer.Reset(tailSilent)
		var part Tail
		if err := json.Unmarshal(lines.Bytes(), &part); err != nil {
			return fmt.Errorf("%w: reading what %s shows: %w", ErrFailed, c.place, err)
		}
		if err := show(part); err != nil {
			return err
		}
	}
	switch ended := context.Cause(ctx); {
	case ended != nil:
		return ended
	case lines.Err() != nil:
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.place, cause(lines.Err()))
	}
	return fmt.Errorf("%w at %s: it has ended", ErrUnreachable, c.place)
}
