package marathon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// errNotFound is Marathon's own answer that something does not exist; a proxy's 404 is not.
var errNotFound = errors.New("not found")

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string // the beginning of the body
}

func (e *statusError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", e.code, http.StatusText(e.code), e.text), ": ")
}

// isRefused reports whether Marathon asks for less.
func isRefused(err error) bool {
	var s *statusError
	return errors.As(err, &s) && (s.code == http.StatusServiceUnavailable || s.code == http.StatusTooManyRequests)
}

// isUnknownRoute reports whether an answer says that there is no such thing there: an old Marathon answers an unknown route with 404,
// or with 500 and "URI not found".
func isUnknownRoute(err error) bool {
	var s *statusError
	return errors.As(err, &s) && (s.code == http.StatusNotFound || s.code == http.StatusMethodNotAllowed ||
		s.code == http.StatusInternalServerError && strings.Contains(s.text, "URI not found"))
}

// client sends requests to the members of one Marathon. It is safe for concurrent use.
type client struct {
	members *members
	http    *http.Client
	auth    authorizer
	total   time.Duration // deadline of one request, its body included
	idle    time.Duration // longest silence within a body
	limit   int64         // of a body, after decompression
	agent   string
	metrics *sourceMetrics
}

// authorizer holds the credentials. Files are read anew for each request, so that a rotated secret is picked up; while one cannot
// be read the last good value is used.
type authorizer struct {
	user, passwordFile, tokenFile string
	mu                            *sync.Mutex
	last                          *string
}

func newAuthorizer(cfg Config) (authorizer, error) {
	a := authorizer{user: cfg.User, passwordFile: cfg.PasswordFile, tokenFile: cfg.TokenFile, mu: &sync.Mutex{}, last: new(string)}
	switch {
	case a.passwordFile != "" && a.tokenFile != "":
		return a, errors.New("a password file and a token file exclude each other")
	case (a.user == "") != (a.passwordFile == ""):
		return a, errors.New("a user and a password file belong together")
	}
	if _, err := a.read(); err != nil {
		return a, err
	}
	return a, nil
}

func (a authorizer) configured() bool { return a.passwordFile != "" || a.tokenFile != "" }

func (a authorizer) read() (string, error) {
	path := a.passwordFile + a.tokenFile
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	secret := strings.TrimRight(string(b), "\r\n")
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && secret == "" {
		err = fmt.Errorf("%s is empty", path)
	}
	if err != nil {
		return *a.last, fmt.Errorf("reading the credentials: %w", err)
	}
	*a.last = secret
	return secret, nil
}

// apply adds the credentials to a request. The caller has checked that its host is configured.
func (a authorizer) apply(req *http.Request) {
	if !a.configured() {
		return
	}
	secret, _ := a.read() // the last good value stands in
	if a.tokenFile != "" {
		req.Header.Set("Authorization", "token="+secret)
		return
	}
	req.SetBasicAuth(a.user, secret)
}

// hide replaces the credentials wherever they stand in a text, also at its end if that was cut off within them.
func (a authorizer) hide(text []byte) []byte {
	a.mu.Lock()
	secret := *a.last
	a.mu.Unlock()
	if secret == "" {
		return text
	}
	forms := []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(a.user + ":" + secret))}
	const shortest = 4 // of a beginning that gives something away
	for _, form := range forms {
		text = bytes.ReplaceAll(text, []byte(form), []byte("[hidden]"))
		for n := len(form) - 1; n >= shortest; n-- {
			if rest, found := bytes.CutSuffix(text, []byte(form[:n])); found {
				text = append(slices.Clip(rest), "[hidden]"...)
				break
			}
		}
	}
	return text
}

func newTransport(cfg Config) (*http.Transport, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the CA file: %s holds no certificate", cfg.CAFile)
		}
	}
	dial := cfg.dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return &http.Transport{
		DialContext: dial, TLSClientConfig: conf, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 25 * time.Second, // Marathon closes after 30 s
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// request builds a GET request; credentials go to configured hosts only.
func (c *client) request(ctx context.Context, u *url.URL, accept string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", c.agent)
	if c.members.configured(u) {
		c.auth.apply(req)
	}
	return req, nil
}

// get reads path from the first member that answers, in the order of their promise, and hands the body to decode. Its error names
// the last failure; errNotFound is Marathon's answer and no failure of the member.
func (c *client) get(ctx context.Context, kind, path string, query url.Values, decode func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.total)
	defer cancel()
	last := errNoMember
	for _, m := range c.members.order(time.Now()) {
		err := c.getFrom(ctx, kind, m, path, query, decode)
		if err == nil || errors.Is(err, errNotFound) {
			c.members.good(m)
			return err
		}
		last = fmt.Errorf("reading %s from %s: %w", path, m, err)
		if kind != "apps" && kind != "app" && isUnknownRoute(err) {
			return last // the member is well, only too old for the question
		}
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return last
		}
		c.members.failed(m, time.Now())
		if ctx.Err() != nil {
			return last
		}
	}
	return last
}

func (c *client) getFrom(ctx context.Context, kind string, m *member, path string, query url.Values, decode func(io.Reader) error) (err error) {
	began := time.Now()
	result := "ok"
	defer func() {
		if err != nil {
			result = failure(err)
		}
		c.metrics.fetches.WithLabelValues(kind, result).Inc()
		c.metrics.latency.WithLabelValues(kind).Observe(time.Since(began).Seconds())
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := newWatchdog(c.idle, func() { cancel(errIdle) })
	defer quiet.stop()
	u := m.url.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := c.request(ctx, u, "application/json")
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return cause(ctx, err)
	}
	defer resp.Body.Close()
	body := &countingReader{r: resp.Body, quiet: quiet}
	defer func() { c.metrics.bytes.WithLabelValues(kind).Add(float64(body.n.Load())) }()
	if leader := resp.Header.Get("X-Marathon-Leader"); leader != "" {
		c.members.leads(leader)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(body, 512))
		if resp.StatusCode == http.StatusNotFound && isJSON(resp.Header) && bytes.Contains(text, []byte("does not exist")) {
			return errNotFound
		}
		return &statusError{resp.StatusCode, c.quote(text)}
	}
	if !isJSON(resp.Header) {
		return fmt.Errorf("the answer is %s, not JSON", strconv.Quote(c.quote([]byte(resp.Header.Get("Content-Type")))))
	}
	if err := decode(body); err != nil {
		return cause(ctx, err)
	}
	return nil
}

// errNoMember says that there is nobody to ask: the directory has not named anybody yet.
var errNoMember = errors.New("no member of Marathon is known yet")

var errIdle = errors.New("silent for too long")

// cause prefers why a request was ended over what that did to it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && errors.Is(err, context.Canceled) {
		return c
	}
	var u *url.Error // its text repeats the URL
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// failure names the kind of a failure for the metrics.
func failure(err error) string {
	var s *statusError
	var n net.Error
	switch {
	case errors.Is(err, errNotFound):
		return "not_found"
	case errors.As(err, &s):
		return strconv.Itoa(s.code)
	case errors.Is(err, errIdle), errors.Is(err, context.DeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return "timeout"
	case errors.Is(err, ErrEmpty), errors.Is(err, ErrTruncated), errors.Is(err, ErrTooLarge), errors.Is(err, ErrNotObject),
		errors.Is(err, ErrNoApps), errors.Is(err, ErrSyntax):
		return "bad_body"
	}
	return "error"
}

func isJSON(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

// quote makes foreign text fit for a message. An answer that repeats the credentials of its request does not spread them.
func (c *client) quote(b []byte) string { return oneLine(c.auth.hide(b)) }

// oneLine makes foreign text fit for a message.
func oneLine(b []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
	return s[:min(len(s), 200)]
}

// countingReader counts what is read and tells the watchdog.
type countingReader struct {
	r     io.Reader
	n     atomic.Int64
	quiet *watchdog
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.n.Add(int64(n))
		c.quiet.alive()
	}
	return n, err
}

// watchdog calls bark once nobody has called alive for a while. Calling alive is cheap: it notes the time, and the timer looks.
type watchdog struct {
	limit time.Duration
	last  atomic.Int64 // since began
	began time.Time
	timer *time.Timer
}

func newWatchdog(limit time.Duration, bark func()) *watchdog {
	w := &watchdog{limit: limit, began: time.Now()}
	ready := make(chan struct{})
	w.timer = time.AfterFunc(limit, func() {
		<-ready
		left := limit - (time.Since(w.began) - time.Duration(w.last.Load()))
		if left <= 0 {
			bark()
			return
		}
		w.timer.Reset(left)
	})
	close(ready)
	return w
}

func (w *watchdog) alive() { w.last.Store(int64(time.Since(w.began))) }

func (w *watchdog) stop() { w.timer.Stop() }
