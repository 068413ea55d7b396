package marathon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	gomarathon "github.com/gambol99/go-marathon"
)

// About is what a Marathon says of itself.
type About struct {
	Version   string
	Leader    string // host:port
	Framework string
}

// Client returns go-marathon's client for the members that this source reads, for what it is good at: information, and creating,
// scaling and deleting apps. Requests carry the source's credentials, end with its deadline and follow no redirect. It is for verbs
// and tests: while a member is down the client probes it in a goroutine that nothing but its recovery ends.
func (s *Source) Client() (gomarathon.Marathon, error) {
	urls := s.client.members.urls()
	if len(urls) == 0 {
		return nil, errNoMember
	}
	cfg := gomarathon.NewDefaultConfig()
	cfg.URL = strings.Join(urls, ",")
	cfg.LogOutput = io.Discard
	cfg.HTTPClient = &http.Client{Transport: authorized{s.client}, Timeout: s.cfg.Timeout, CheckRedirect: s.client.http.CheckRedirect}
	c, err := gomarathon.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a Marathon client: %w", err)
	}
	return c, nil
}

// authorized sends each request with the credentials, those included that go-marathon sends without: its probe of /ping.
type authorized struct{ c *client }

// RoundTrip implements http.RoundTripper.
func (a authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", a.c.agent)
	if a.c.members.configured(req.URL) {
		a.c.auth.apply(req)
	}
	return a.c.http.Transport.RoundTrip(req)
}

// About asks Marathon what it is. It returns when it has an answer, when the deadline of a request has passed, or when ctx ends; in
// the last case the request ends by itself.
func (s *Source) About(ctx context.Context) (About, error) {
	type answer struct {
		about About
		err   error
	}
	ch := make(chan answer, 1)
	go func() {
		c, err := s.Client()
		if err != nil {
			ch <- answer{err: err}
			return
		}
		info, err := c.Info()
		if err != nil {
			ch <- answer{err: fmt.Errorf("asking Marathon about itself: %w", err)}
			return
		}
		ch <- answer{about: About{Version: info.Version, Leader: info.Leader, Framework: info.FrameworkID}}
	}()
	select {
	case a := <-ch:
		return a.about, a.err
	case <-ctx.Done():
		return About{}, fmt.Errorf("asking Marathon about itself: %w", ctx.Err())
	}
}
