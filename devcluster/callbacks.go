package devcluster

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

type metricFamily = dto.MetricFamily

var callbackClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// subscribe posts every event to a URL, as Marathon 1.4 did, one after the other. Only URLs of this machine are posted to.
func (c *cluster) subscribe(callback string) {
	c.bus.mu.Lock()
	known := slices.Contains(c.bus.calls, callback)
	if !known {
		c.bus.calls = append(c.bus.calls, callback)
	}
	c.bus.mu.Unlock()
	if known || !onThisMachine(callback) {
		return
	}
	s := &subscriber{remote: callback, callback: callback, light: false, frames: make(chan []byte, c.cfg.EventBuffer), gone: make(chan struct{})}
	c.bus.add(s)
	c.wg.Go(func() {
		for {
			select {
			case <-s.gone:
				return
			case <-c.ctx.Done():
				return
			case f := <-s.frames:
				_, data, _ := bytes.Cut(f, []byte("\r\ndata: "))
				c.post(callback, bytes.TrimRight(data, "\r\n"))
			}
		}
	})
}

func (c *cluster) unsubscribe(callback string) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.bus.calls = slices.DeleteFunc(c.bus.calls, func(u string) bool { return u == callback })
	for s := range c.bus.subs {
		if s.callback == callback && callback != "" {
			delete(c.bus.subs, s)
			s.close()
		}
	}
}

func (c *cluster) post(to string, event []byte) {
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(event))
	if err != nil {
		c.cfg.Log.WithError(err).Warn("an event was not posted")
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := callbackClient.Do(req)
	if err != nil {
		c.cfg.Log.WithError(err).Warn("an event was not posted")
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // the answer says nothing
	resp.Body.Close()
}

func onThisMachine(callback string) bool {
	u, err := url.Parse(callback)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}
