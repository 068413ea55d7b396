package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"signalbox/metrics"
)

// PusherConfig is what a Pusher works with.
type PusherConfig struct {
	URLs      []string // of the hubs, each of which gets everything; see CheckURL
	TokenFile string   // with the token that they ask for, read at each push; "": none
	Node      string   // this machine's name
	Scrape    string   // where Prometheus reads this machine's own metrics, or ""
	Interval  time.Duration
	Snapshot  func(now time.Time) *metrics.Snapshot // what has been counted; the caller may keep it
	Started   time.Time                             // when counting began
	Log       logrus.FieldLogger
}

// CheckURL reports what is wrong with the URL of a hub.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return fmt.Errorf("%q is no URL of a hub: want http://HOST:PORT", text)
	case u.User != nil:
		return errors.New("the URL of a hub takes no password: it stands in a file")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("%q is no URL of a hub: it ends with the port", text)
	}
	return nil
}

// Pusher sends what was counted since the last push that was answered. It holds one push at a time: while a hub is away nothing piles up, and
// the next one that it takes has all that was counted meanwhile. It is a prometheus.Collector.
type Pusher struct {
	cfg    PusherConfig
	run    string
	outs   []*out
	sent   *prometheus.CounterVec
	last   *prometheus.GaugeVec
	client *http.Client
}

// out is one hub.
type out struct {
	url      string
	sequence uint64
	acked    *metrics.Snapshot // what the hub has
	next     *metrics.Snapshot // what it has once it has taken pending
	pending  []byte            // nil: nothing is on its way

	mu     sync.Mutex
	status Status
}

// Status says how pushing to one hub fares.
type Status struct {
	URL     string
	Pushed  uint64    // pushes that were answered
	Last    time.Time // when one was
	Failing time.Time // since when none is; zero: the last one was
	Detail  string    // why
}

// NewPusher returns a pusher, which sends nothing before Run.
func NewPusher(cfg PusherConfig) *Pusher {
	p := &Pusher{
		cfg: cfg, run: rand.Text(),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_hub_pushes_total", Help: "Pushes to a hub by result: ok or failed. What a failed one holds is sent again.",
		}, []string{"hub", "result"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signalbox_hub_last_success_timestamp_seconds", Help: "When a hub last took a push, as Unix time.",
		}, []string{"hub"}),
		client: &http.Client{
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would carry the token on
		},
	}
	for _, u := range cfg.URLs {
		u = strings.TrimSuffix(u, "/")
		p.outs = append(p.outs, &out{url: u, acked: &metrics.Snapshot{At: cfg.Started}, status: Status{URL: u}})
		p.sent.WithLabelValues(u, "ok")
		p.sent.WithLabelValues(u, "failed")
	}
	return p
}

// lastWords is how long the last push may take once Run is to end.
const lastWords = 2 * time.Second

// Run pushes at each interval until ctx ends, and then once more, what was counted up to that moment.
func (p *Pusher) Run(ctx context.Context) error {
	defer p.client.CloseIdleConnections()
	var running sync.WaitGroup
	for _, o := range p.outs {
		running.Go(func() { p.push(ctx, o) })
	}
	running.Wait()
	return nil
}

func (p *Pusher) push(ctx context.Context, o *out) {
	// Machines push at different moments of an interval, the same one always.
	h := fnv.New64a()
	_, _ = io.WriteString(h, p.cfg.Node) // never fails
	timer := time.NewTimer(time.Duration(h.Sum64() % uint64(p.cfg.Interval)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			// What was sent and not answered goes first, under its own number.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer cancel()
			for range 2 {
				if p.once(last, o) != nil {
					return
				}
			}
			return
		case <-timer.C:
			timer.Reset(p.cfg.Interval)
			if p.once(ctx, o) == nil && o.behind(p.cfg.Interval) {
				_ = p.once(ctx, o) // the hub was away: what was counted meanwhile follows what was on its way
			}
		}
	}
}

// behind reports whether what the hub has is older than an interval.
func (o *out) behind(interval time.Duration) bool { return time.Since(o.acked.At) > interval/2 }

// once sends what is pending or, if nothing is, what was counted since.
func (p *Pusher) once(ctx context.Context, o *out) error {
	if o.pending == nil {
		now := p.cfg.Snapshot(time.Now())
		o.sequence++
		o.next, o.pending = now, now.Since(o.acked).AppendBinary(nil)
	}
	err := p.post(ctx, o)
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if err != nil {
		p.sent.WithLabelValues(o.url, "failed").Inc()
		if o.status.Failing.IsZero() {
			o.status.Failing = now
			p.cfg.Log.WithError(err).WithField("hub", o.url).Warn("a hub takes no push; it is sent again")
		}
		o.status.Detail = err.Error()
		return err
	}
	if !o.status.Failing.IsZero() {
		p.cfg.Log.WithField("hub", o.url).Info("the hub takes pushes again")
	}
	o.acked, o.next, o.pending = o.next, nil, nil
	o.status.Pushed++
	o.status.Last, o.status.Failing, o.status.Detail = now, time.Time{}, ""
	p.sent.WithLabelValues(o.url, "ok").Inc()
	p.last.WithLabelValues(o.url).Set(float64(now.UnixMilli()) / 1000)
	return nil
}

func (p *Pusher) post(ctx context.Context, o *out) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+PushPath, bytes.NewReader(o.pending))
	if err != nil {
		return err
	}
	(&header{node: p.cfg.Node, run: p.run, sequence: o.sequence, scrape: p.cfg.Scrape}).write(req.Header)
	if p.cfg.TokenFile != "" {
		token, err := os.ReadFile(p.cfg.TokenFile)
		if err != nil {
			return fmt.Errorf("reading the hub's token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		var said struct{ Error string }
		_ = json.Unmarshal(body, &said) // whoever answers without saying why has said its status
		return errors.New(strings.TrimSuffix(resp.Status+": "+said.Error, ": "))
	}
	return err
}

// Status says how each hub fares.
func (p *Pusher) Status() []Status {
	out := make([]Status, len(p.outs))
	for i, o := range p.outs {
		o.mu.Lock()
		out[i] = o.status
		o.mu.Unlock()
	}
	return out
}

// Describe implements prometheus.Collector.
func (p *Pusher) Describe(ch chan<- *prometheus.Desc) {
	p.sent.Describe(ch)
	p.last.Describe(ch)
}

// Collect implements prometheus.Collector.
func (p *Pusher) Collect(ch chan<- prometheus.Metric) {
	p.sent.Collect(ch)
	p.last.Collect(ch)
}
