package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// What can be wrong between a client and a controller; errors.Is tells them apart.
var (
	// ErrUnreachable: nothing answers, or not in time.
	ErrUnreachable = errors.New("the controller can't be reached")
	// ErrRefused: it answers, and doesn't take the token.
	ErrRefused = errors.New("the controller refuses")
	// ErrUnknown: there is no such thing, as far as the controller knows.
	ErrUnknown = errors.New("the controller knows no such thing")
	// ErrQuestion: what it is asked can't be read.
	ErrQuestion = errors.New("the question can't be read")
	// ErrConflict: it can't be done as things stand.
	ErrConflict = errors.New("it can't be done as things stand")
	// ErrFailed: it answers that it can't do what it is asked for.
	ErrFailed = errors.New("the controller can't answer")
)

// maxAnswer bounds what a client reads: 10,000 apps make an answer of some 10 MB.
const maxAnswer = 256 << 20

// Client asks a running controller. Its methods may be called at the same time.
type Client struct {
	base      string // of URLs
	place     string // where it is, for people
	tokenFile string
	asksToken bool
	http      *http.Client
	addr      Address // of a controller
}

// NewClient returns a client of the controller at an address. The token file is read with each request, and only over TCP.
func NewClient(addr Address, tokenFile string) *Client {
	var dialer net.Dialer
	transport := &http.Transport{
		Proxy:             nil, // the controller is on this machine, whatever HTTP_PROXY says
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if addr.Socket != "" {
				return dialer.DialContext(ctx, "unix", addr.Socket)
			}
			return dialer.DialContext(ctx, "tcp", addr.TCP.String())
		},
	}
	return &Client{
		base: "http://localhost", place: addr.String(), tokenFile: tokenFile, asksToken: addr.Socket == "", addr: addr,
		http: &http.Client{Transport: transport, CheckRedirect: noRedirect},
	}
}

// noRedirect follows no redirect: it would carry the token on.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Address returns where the client asks.
func (c *Client) Address() Address { return c.addr }

// Health returns the controller's health; failing is an answer too, not an error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return ask[Health](ctx, c, "/api/v1/status")
}

// Routes returns the rows of the running table.
func (c *Client) Routes(ctx context.Context) (Routes, error) {
	return ask[Routes](ctx, c, "/api/v1/routes")
}

// Services returns what was counted for each service.
func (c *Client) Services(ctx context.Context) (Services, error) {
	return ask[Services](ctx, c, "/api/v1/services")
}

// ServicesOver returns what was counted for each service in a span up to now.
func (c *Client) ServicesOver(ctx context.Context, span time.Duration) (Services, error) {
	return ask[Services](ctx, c, "/api/v1/services?span="+span.String())
}

// Render returns the files of the configuration that the controller wants now.
func (c *Client) Render(ctx context.Context) (Render, error) {
	return ask[Render](ctx, c, "/api/v1/render")
}

// Live returns the files by which HAProxy runs now, as they stand on disk.
func (c *Client) Live(ctx context.Context) (Render, error) {
	return ask[Render](ctx, c, "/api/v1/live")
}

// ask gets a path and decodes the answer.
func ask[T any](ctx context.Context, c *Client, path string) (T, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		var none T
		return none, fmt.Errorf("asking the controller: %w", err)
	}
	return send[T](ctx, c, req)
}

// tell posts an order and decodes the answer.
func tell[T any](ctx context.Context, c *Client, path string, order any) (T, error) {
	var none T
	body, err := json.Marshal(order)
	if err != nil {
		return none, fmt.Errorf("writing an order: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return none, fmt.Errorf("giving the controller an order: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	return send[T](ctx, c, req)
}

// askTime is how long an answer may take.
const askTime = 30 * time.Second

// send sends a request and decodes the answer.
func send[T any](ctx context.Context, c *Client, req *http.Request) (T, error) {
	var out T
	answer, err := c.open(ctx, req, askTime)
	if err != nil {
		return out, err
	}
	defer answer.Close()
	body, err := io.ReadAll(io.LimitReader(answer, maxAnswer))
	if err != nil {
		return out, fmt.Errorf("%w at %s: reading its answer: %w", ErrUnreachable, c.place, err)
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return out, fmt.Errorf("asking the controller at %s for %s: reading its answer: %w", c.place, req.URL.RequestURI(), err)
	}
	return out, nil
}

// open sends a request and returns the body of an answer that is no complaint. The whole of it may take the given time, 0: any.
func (c *Client) open(ctx context.Context, req *http.Request, within time.Duration) (io.ReadCloser, error) {
	var noToken error
	if c.asksToken {
		// Without a token it asks all the same: that nobody answers is the better thing to say.
		var token string
		if token, noToken = ReadToken(c.tokenFile); noToken == nil {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	client := *c.http
	client.Timeout = within
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.place, cause(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w at %s: reading its answer: %w", ErrUnreachable, c.place, err)
	case resp.StatusCode == http.StatusUnauthorized && noToken != nil:
		return nil, fmt.Errorf("%w at %s: %w", ErrRefused, c.place, noToken)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("%w at %s: the token in %s is not the one it uses", ErrRefused, c.place, c.tokenFile)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %s", ErrUnknown, strings.TrimPrefix(complaint(body), ErrUnknown.Error()+": "))
	case resp.StatusCode == http.StatusConflict:
		return nil, fmt.Errorf("%w: %s", ErrConflict, strings.TrimPrefix(complaint(body), ErrConflict.Error()+": "))
	}
	return nil, fmt.Errorf("%w: asking %s for %s: %s: %s", ErrFailed, c.place, req.URL.RequestURI(), resp.Status, complaint(body))
}

// cause is the part of a transport's error that the sentence around it doesn't say already.
func cause(err error) error {
	var number syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(err, &number):
		return number
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// complaint is the error that an answer holds, or its first line.
func complaint(body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return e.Error
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return line[:min(len(line), 200)]
}
