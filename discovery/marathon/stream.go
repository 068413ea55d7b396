package marathon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the event stream.
const (
	maxHops       = 3                // redirects of one connection
	connectWithin = 10 * time.Second // until the headers are there
	firstBackoff  = 500 * time.Millisecond
	lastBackoff   = 15 * time.Second
	steadyAfter   = 10 * time.Second // a stream that stood this long starts the back-off anew
)

// streamState is what the stream's reader tells the source's loop: it stands now, or it has ended.
type streamState struct {
	connected bool
	endpoint  string
	err       error
}

// stream keeps an event stream open, and hands on what its events say. It never waits for the receiver of notices: what does not
// fit is counted, and makes up for itself by a read of everything.
type stream struct {
	client   *client
	http     *http.Client // without a deadline on the whole answer
	idle     time.Duration
	maxEvent int
	notices  chan notice
	states   chan streamState
	lost     atomic.Bool  // notices were dropped since the loop last looked
	last     atomic.Int64 // when the stream last said something, in Unix nanoseconds
	metrics  *sourceMetrics

	mu    sync.Mutex
	leave context.CancelCauseFunc // ends the connection, or the wait for one
}

var errMoved = errors.New("another member leads")

// moved ends the connection that there is: it is with a member that leads no more, and may be cut off from all that happens.
func (s *stream) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave != nil {
		s.leave(errMoved)
	}
}

// run connects, reads, and connects again until ctx ends, with full jitter between 0 and a limit that doubles from 0.5 s to 15 s.
func (s *stream) run(ctx context.Context) {
	for failures := 0; ; {
		began := time.Now()
		stood, err := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		result := "failed"
		if stood {
			result = "ended"
		}
		s.metrics.streams.WithLabelValues(result).Inc()
		select {
		case s.states <- streamState{err: err}:
		case <-ctx.Done():
			return
		}
		if stood && time.Since(began) >= steadyAfter {
			failures = 0
		}
		wait := time.NewTimer(backoff(failures))
		failures++
		if errors.Is(err, errMoved) {
			failures = 0 // and no wait: the others of the fleet have heard of it at the same time, but it is one connection each
			wait.Reset(0)
		}
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

func backoff(failures int) time.Duration {
	return rand.N(min(firstBackoff<<min(failures, 10), lastBackoff))
}

// once runs one connection to its end. stood says whether it was accepted.
func (s *stream) once(ctx context.Context) (stood bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.leave = cancel
	s.mu.Unlock()
	quiet := newWatchdog(connectWithin, func() { cancel(errIdle) })
	resp, m, err := s.connect(ctx)
	quiet.stop()
	if err != nil {
		return false, cause(ctx, err)
	}
	defer resp.Body.Close()
	s.metrics.streams.WithLabelValues("opened").Inc()
	s.last.Store(time.Now().UnixNano())
	select {
	case s.states <- streamState{connected: true, endpoint: m.String()}:
	case <-ctx.Done():
		return true, ctx.Err()
	}
	quiet = newWatchdog(s.idle, func() { cancel(errIdle) })
	defer quiet.stop()
	err = s.read(&streamBody{r: resp.Body, quiet: quiet, last: &s.last, bytes: s.metrics.bytes.WithLabelValues("events").Add})
	return true, fmt.Errorf("reading the event stream of %s: %w", m, cause(ctx, err))
}

// connect asks the first member in order, and follows a standby's redirects by hand. Credentials go to configured hosts only.
func (s *stream) connect(ctx context.Context) (*http.Response, *member, error) {
	order := s.client.members.order(time.Now())
	if len(order) == 0 {
		return nil, nil, errNoMember
	}
	m := order[0]
	u := m.url.JoinPath("/v2/events")
	u.RawQuery = url.Values{"plan-format": {"light"}, "event_type": subscribed}.Encode()
	resp, err := s.follow(ctx, u)
	if err != nil {
		s.client.members.failed(m, time.Now())
		return nil, nil, fmt.Errorf("opening the event stream of %s: %w", m, err)
	}
	return resp, m, nil
}

func (s *stream) follow(ctx context.Context, u *url.URL) (*http.Response, error) {
	seen := map[string]bool{}
	for range maxHops + 1 {
		if seen[u.String()] {
			return nil, fmt.Errorf("redirected in a circle to %s", u.Host)
		}
		seen[u.String()] = true
		req, err := s.client.request(ctx, u, "text/event-stream")
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := s.http.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK {
			if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t != "text/event-stream" {
				resp.Body.Close()
				return nil, fmt.Errorf("the answer is %q, not an event stream", s.client.quote([]byte(t)))
			}
			return resp, nil
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		resp.Body.Close()
		next, err := resp.Location()
		if resp.StatusCode < 300 || resp.StatusCode > 399 || err != nil {
			err := error(&statusError{resp.StatusCode, s.client.quote(text)})
			if resp.StatusCode == http.StatusUnauthorized && s.client.auth.configured() && !s.client.members.configured(u) {
				err = fmt.Errorf("%w (no credentials are sent to %s, which is not a configured URL: add it)", err, u.Host)
			}
			return nil, err
		}
		if next.Scheme != "http" && next.Scheme != "https" || u.Scheme == "https" && next.Scheme != "https" {
			return nil, fmt.Errorf("redirected to %s://%s, which is not followed", next.Scheme, next.Host)
		}
		next.User = nil
		u = next
	}
	return nil, fmt.Errorf("redirected more than %d times", maxHops)
}

// read hands on the notices of a stream until it ends.
func (s *stream) read(body io.Reader) error {
	frames := newFrameReader(body, s.maxEvent)
	for {
		f, err := frames.next()
		if errors.Is(err, io.EOF) {
			return errors.New("the server closed it")
		}
		if err != nil {
			return err
		}
		now := time.Now()
		if f.Oversize {
			s.metrics.events.WithLabelValues("oversize", string(actResync)).Inc()
			s.lost.Store(true)
			s.offer(notice{Action: actResync, Type: "oversize event", At: now})
			continue
		}
		notices, err := readNotices(f.Type, f.Data, now)
		if err != nil {
			s.metrics.events.WithLabelValues("unreadable", string(actResync)).Inc()
			notices = append(notices, notice{Action: actResync, Type: "unreadable event", At: now})
		}
		for _, n := range notices {
			s.metrics.events.WithLabelValues(eventLabel(n.Type), string(n.Action)).Inc()
			if !n.Stamp.IsZero() {
				s.metrics.eventAge.Observe(max(now.Sub(n.Stamp), 0).Seconds())
			}
			if n.Action != actIgnore {
				s.offer(n)
			}
		}
	}
}

func (s *stream) offer(n notice) {
	select {
	case s.notices <- n:
	default:
		s.metrics.dropped.Inc()
		s.lost.Store(true)
	}
}

// eventLabel bounds what a foreign server can make a label of.
func eventLabel(typ string) string {
	for _, known := range subscribed {
		if typ == known {
			return typ
		}
	}
	switch typ {
	case "oversize event", "unreadable event":
		return "unreadable"
	}
	return "other"
}

// streamBody tells the watchdog of every byte, heart-beats included.
type streamBody struct {
	r     io.Reader
	quiet *watchdog
	last  *atomic.Int64
	bytes func(float64)
}

func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n > 0 {
		b.quiet.alive()
		b.last.Store(time.Now().UnixNano())
		b.bytes(float64(n))
	}
	return n, err
}
