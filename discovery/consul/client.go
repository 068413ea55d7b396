package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"signalbox/discovery"
)

// client asks the members of one Consul cluster, the one that answered last first. It is safe for concurrent use.
type client struct {
	members  []member
	current  atomic.Int32 // index of the member that is asked
	dc       string
	token    token
	timeout  time.Duration // of an answer, beside what a blocking query waits
	maxStale time.Duration
	http     *http.Client
	metrics  *sourceMetrics
}

type member struct {
	url string
	api *api.Client
}

// question is how something is asked.
type question struct {
	index   uint64        // of the answer that is known; 0 answers at once
	least   uint64        // an answer with a lower index than this is from an earlier time, or from another Consul
	wait    time.Duration // for how long the answer may be the known one
	certain bool          // the leader is asked, and makes sure that it is
}

// answer is what was answered, and where that stands in Consul's history.
type answer[T any] struct {
	value     T
	index     uint64
	at        time.Time // when it came
	backwards bool      // Consul's history is another one than that of question.least
}

// asked is one endpoint of Consul.
type asked[T any] struct {
	kind  string // for metrics
	ask   func(*api.Client, *api.QueryOptions) (T, *api.QueryMeta, error)
	empty func(T) bool
}

// newClient returns a client, or says what is wrong with cfg. It sends nothing.
func newClient(cfg *Config, m *sourceMetrics) (*client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: cfg.Watches + maxReads + 1,
		IdleConnTimeout:     time.Minute,
	}
	if cfg.CAFile != "" {
		pool, err := discovery.Authorities(cfg.CAFile, "Consul's certificate")
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	c := &client{
		dc: cfg.Datacenter, token: token{path: cfg.TokenFile}, timeout: cfg.Timeout, maxStale: cfg.MaxStale, metrics: m,
		http: &http.Client{
			Transport:     &bounded{transport, maxBody},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would take the token along
		},
	}
	if _, err := c.token.read(); err != nil {
		return nil, err
	}
	for _, text := range cfg.URLs {
		if err := CheckURL(text); err != nil {
			return nil, err
		}
		a, err := api.NewClient(&api.Config{Address: strings.TrimRight(text, "/"), HttpClient: c.http})
		if err != nil {
			return nil, fmt.Errorf("making a client of Consul: %w", err)
		}
		c.members = append(c.members, member{text, a})
	}
	if len(c.members) == 0 {
		return nil, errors.New("no URL of Consul is given")
	}
	return c, nil
}

// CheckURL says what is wrong with the URL of a member. It shows no credentials.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("a value is no URL")
	case u.User != nil:
		return fmt.Errorf("the URL of %q holds credentials, which every list of processes would show; use a token file", u.Host)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("the URL of %q is not of the form http://host:8500 or https://host:8501", u.Host)
	}
	return nil
}

// leaderWait is for how long a server keeps a question for the leader while there is none: it answers with the election.
const leaderWait = 7 * time.Second

// endpoint returns the URL of the member that is asked.
func (c *client) endpoint() string { return c.members[c.current.Load()].url }

// The reasons for which an answer is no news. They are labels of a metric.
const (
	noLeader     = "no leader"
	tooStale     = "stale"
	wentBack     = "index backwards"
	withoutIndex = "no index"
	notAllowed   = "acl"
)

var refusals = []string{noLeader, tooStale, wentBack, withoutIndex, notAllowed}

// doubt says why an answer is no news, or "". Whatever is asked, an agent may answer with what is old (discovery_max_stale).
func (c *client) doubt(m *api.QueryMeta, least uint64, empty bool) string {
	switch {
	case !m.KnownLeader:
		return noLeader
	case m.LastContact > c.maxStale:
		return tooStale
	case m.LastIndex == 0:
		return withoutIndex
	case m.LastIndex < least:
		return wentBack
	case empty && m.ResultsFilteredByACLs:
		return notAllowed
	}
	return ""
}

// ask asks any server, and where its answer is doubtful the leader. An error means that nothing is known.
func ask[T any](ctx context.Context, c *client, what asked[T], q question) (answer[T], error) {
	if !q.certain {
		a, doubt, err := askOnce(ctx, c, what, q)
		if err != nil || doubt == "" {
			return a, err
		}
		if doubt == notAllowed {
			return a, refusal(doubt)
		}
	}
	a, doubt, err := askOnce(ctx, c, what, question{certain: true})
	if err == nil && doubt != "" {
		err = refusal(doubt)
	}
	a.backwards = a.index < q.least
	return a, err
}

func refusal(doubt string) error {
	if doubt == notAllowed {
		return errors.New("Consul answers with nothing, for the token may not read what there is")
	}
	return errors.New("Consul's answer is no news: " + doubt)
}

func askOnce[T any](ctx context.Context, c *client, what asked[T], q question) (answer[T], string, error) {
	at := c.current.Load()
	timeout := c.timeout + q.wait + q.wait/16 // Consul adds a sixteenth
	if q.certain {
		timeout += leaderWait
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	secret, _ := c.token.read() // the last good one stands in
	o := &api.QueryOptions{
		Datacenter: c.dc, Token: secret, AllowStale: !q.certain, RequireConsistent: q.certain, WaitIndex: q.index, WaitTime: q.wait,
	}
	value, m, err := what.ask(c.members[at].api, o.WithContext(ctx))
	a := answer[T]{value: value, at: time.Now()}
	if err != nil {
		c.metrics.requests.WithLabelValues(what.kind, "failed").Inc()
		c.current.CompareAndSwap(at, (at+1)%int32(len(c.members)))
		return a, "", fmt.Errorf("asking Consul at %s: %w", c.members[at].url, brief(err))
	}
	a.index = m.LastIndex
	doubt := c.doubt(m, q.least, what.empty(value))
	result := "ok"
	if doubt != "" {
		result = "refused"
		c.metrics.refused.WithLabelValues(doubt).Inc()
		if doubt != wentBack {
			c.current.CompareAndSwap(at, (at+1)%int32(len(c.members)))
		}
	}
	c.metrics.requests.WithLabelValues(what.kind, result).Inc()
	return a, doubt, nil
}

// brief takes the URL out of an error, which names the member already, and bounds what a server says.
func brief(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	var status api.StatusError
	if errors.As(err, &status) {
		return fmt.Errorf("it answers %d: %.200q", status.Code, strings.TrimSpace(status.Body))
	}
	return err
}

// services is the list of services with all tags of their instances.
var services = asked[map[string][]string]{
	kind: "services",
	ask: func(c *api.Client, o *api.QueryOptions) (map[string][]string, *api.QueryMeta, error) {
		return c.Catalog().Services(o)
	},
	empty: func(m map[string][]string) bool { return len(m) == 0 },
}

// instancesOf is what there is of one service.
func instancesOf(name string) asked[[]*api.ServiceEntry] {
	return asked[[]*api.ServiceEntry]{
		kind: "health",
		ask: func(c *api.Client, o *api.QueryOptions) ([]*api.ServiceEntry, *api.QueryMeta, error) {
			return c.Health().Service(name, "", false, o)
		},
		empty: func(s []*api.ServiceEntry) bool { return len(s) == 0 },
	}
}

// token is a secret in a file, which may change. It is safe for concurrent use.
type token struct {
	path string

	mu   sync.Mutex
	last string
}

func (t *token) read() (string, error) {
	if t.path == "" {
		return "", nil
	}
	b, err := os.ReadFile(t.path)
	secret := strings.TrimRight(string(b), "\r\n")
	if err == nil && (secret == "" || strings.ContainsAny(secret, "\r\n\x00")) {
		err = fmt.Errorf("%s is empty or has several lines", t.path)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		return t.last, fmt.Errorf("reading Consul's token: %w", err)
	}
	t.last = secret
	return secret, nil
}

// bounded cuts answers that are too long.
type bounded struct {
	next  http.RoundTripper
	limit int64
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, b.limit}
	}
	return resp, err
}

// CloseIdleConnections lets http.Client reach the connections.
func (b *bounded) CloseIdleConnections() {
	if t, ok := b.next.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer is too long")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
