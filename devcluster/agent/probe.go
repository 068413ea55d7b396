package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
)

// prober opens a connection for each probe, as Marathon does, and follows no redirect: 200 to 399 is alive.
var prober = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // Marathon does not verify a task's certificate
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// probeNetwork runs an HTTP, HTTPS or TCP probe against a port of host.
func probeNetwork(ctx context.Context, host string, p Probe) error {
	addr := net.JoinHostPort(host, strconv.Itoa(p.Port))
	switch p.Kind {
	case ProbeTCP:
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		return c.Close()
	case ProbeHTTP, ProbeHTTPS:
		return probeHTTP(ctx, strings.ToLower(string(p.Kind))+"://"+addr+"/"+strings.TrimPrefix(p.Path, "/"), p.IgnoreHTTP1xx)
	default:
		return fmt.Errorf("no such kind of check: %q", p.Kind)
	}
}

func probeHTTP(ctx context.Context, url string, ignore1xx bool) error {
	var informational atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			informational.Store(int32(code))
			return nil
		},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("making the check's request: %w", err)
	}
	req.Header.Set("User-Agent", "Marathon HealthChecker")
	resp, err := prober.Do(req)
	var code int
	switch {
	case err == nil:
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // the status is all that counts
		resp.Body.Close()
		code = resp.StatusCode
	case informational.Load() != 0 && ctx.Err() == nil:
		code = int(informational.Load()) // an informational answer, and nothing after it
	default:
		var op *net.OpError
		if errors.As(err, &op) {
			return fmt.Errorf("asking: %w", op)
		}
		return fmt.Errorf("asking: %w", err)
	}
	switch {
	case code >= 200 && code <= 399:
		return nil
	case code < 200 && ignore1xx:
		return ErrNoVerdict
	default:
		return fmt.Errorf("the answer was %d %s", code, http.StatusText(code))
	}
}
