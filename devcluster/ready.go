package devcluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

var readyClient = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // Marathon does not verify a task's certificate
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// askReady asks a task whether it is ready.
func askReady(ctx context.Context, scheme, host string, port int, path string) (*readyResponse, error) {
	url := scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/" + strings.TrimPrefix(path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking whether a task is ready: %w", err)
	}
	resp, err := readyClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking whether a task is ready: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return nil, fmt.Errorf("asking whether a task is ready: %w", err)
	}
	return &readyResponse{resp.StatusCode, resp.Header.Get("Content-Type"), string(body)}, nil
}
