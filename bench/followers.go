package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox"
	"signalbox/discovery"
	"signalbox/discovery/marathon"
	"signalbox/discovery/relay"
)

// arrivals notes when which controller had which app at its new size.
type arrivals struct {
	size int // tasks
	mu   sync.Mutex
	apps []arrival
	want int // controllers
}

type arrival struct {
	began, first, last time.Time
	of                 map[int]bool // controllers
}

func newArrivals(apps, controllers, size int) *arrivals {
	return &arrivals{size: size, apps: make([]arrival, apps), want: controllers}
}

func (a *arrivals) begin(app int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.apps[app].began, a.apps[app].of = time.Now(), map[int]bool{}
}

// note takes an app as a controller has it now.
func (a *arrivals) note(controller, app, tasks int, now time.Time) {
	if tasks < a.size {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := &a.apps[app]
	if one.began.IsZero() || one.of[controller] {
		return
	}
	one.of[controller] = true
	if one.first.IsZero() {
		one.first = now
	}
	one.last = now
}

func (a *arrivals) missing(events int) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.apps[:events] {
		n += a.want - len(one.of)
	}
	return n
}

// spreads returns how long the first and the last tables took, of the events that all controllers have.
func (a *arrivals) spreads(events int) (first, last spread) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var firsts, lasts []time.Duration
	for _, one := range a.apps[:events] {
		if len(one.of) == a.want {
			firsts, lasts = append(firsts, one.first.Sub(one.began)), append(lasts, one.last.Sub(one.began))
		}
	}
	return spreadOf(firsts), spreadOf(lasts)
}

// appOf returns the number of a bench's app, -1 for none.
func appOf(name string) int {
	n := -1
	if _, err := fmt.Sscanf(name, "/bench/app-%d", &n); err != nil {
		return -1
	}
	return n
}

// fleet is controllers as they are, without what they do with their tables.
type fleet struct {
	apps     int
	arrivals *arrivals
	watchers []*discovery.Watcher
	metrics  []prometheus.Gatherer
	relays   []*relay.Source
	whole    atomic.Int64 // controllers that have all apps
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// newFleet returns controllers of one Marathon, with a relay in the Consul at an address, or without.
func newFleet(n, apps int, url, consul string, arrivals *arrivals) (*fleet, error) {
	f := &fleet{apps: apps, arrivals: arrivals, cancel: func() {}}
	for i := range n {
		m, err := marathon.New(marathon.Config{URLs: []string{url}, FleetSize: n, Convert: marathon.Options{AllowLoopback: true}})
		if err != nil {
			return nil, err
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(m)
		f.metrics = append(f.metrics, reg)
		var src discovery.Source = m
		if consul != "" {
			store, err := relay.NewConsulStore(relay.ConsulConfig{URLs: []string{"http://" + consul}, Prefix: "bench"})
			if err != nil {
				return nil, err
			}
			r, err := relay.New(relay.Config{Direct: m, Store: store, Node: fmt.Sprintf("n%d", i), FleetSize: n})
			if err != nil {
				return nil, err
			}
			src, f.relays = r, append(f.relays, r)
		}
		f.watchers = append(f.watchers, discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{src}, FirstWait: deadline}))
	}
	return f, nil
}

// startAtOnce bounds the controllers that take in the whole state at one time: they share a machine, as those of a fleet do not.
const startAtOnce = 8

func (f *fleet) start(ctx context.Context) error {
	ctx, f.cancel = context.WithCancel(ctx)
	for i, w := range f.watchers {
		if err := allWhole(ctx, &f.whole, i+1-startAtOnce); err != nil {
			return err
		}
		out := make(chan *discovery.Change)
		f.wg.Go(func() { _ = w.Run(ctx, out) })
		f.wg.Go(func() {
			var table *signalbox.Table
			whole := false
			for {
				select {
				case <-ctx.Done():
					return
				case c := <-out:
					f.compare(i, table, c.Table)
					if table = c.Table; !whole && len(table.Services) >= f.apps {
						whole = true
						f.whole.Add(1)
					}
				}
			}
		})
	}
	return allWhole(ctx, &f.whole, len(f.watchers))
}

func allWhole(ctx context.Context, whole *atomic.Int64, want int) error {
	for end := time.Now().Add(5 * deadline); int(whole.Load()) < want; {
		if time.Now().After(end) {
			return fmt.Errorf("only %d of %d controllers have all apps after %s", whole.Load(), want, 5*deadline)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// compare notes what has changed between two tables.
func (f *fleet) compare(controller int, old, table *signalbox.Table) {
	now := time.Now()
	if old == nil {
		return
	}
	signalbox.Walk(old.Services, table.Services, func(a, b *signalbox.Service) {
		if b != nil && a != b {
			if app := appOf(b.App); app >= 0 {
				f.arrivals.note(controller, app, len(b.Endpoints), now)
			}
		}
	})
}

func (f *fleet) asked() (requests, failed, bytes float64) {
	for _, g := range f.metrics {
		all, err := g.Gather()
		if err != nil {
			continue
		}
		for _, family := range all {
			for _, m := range family.GetMetric() {
				switch v := m.GetCounter().GetValue(); family.GetName() {
				case "signalbox_marathon_requests_total":
					requests += v
					for _, l := range m.GetLabel() {
						if l.GetName() == "result" && l.GetValue() != "ok" {
							failed += v
						}
					}
				case "signalbox_marathon_received_bytes_total":
					bytes += v
				}
			}
		}
	}
	return requests, failed, bytes
}

// alone returns how many controllers read for themselves now.
func (f *fleet) alone() (n int) {
	for _, r := range f.relays {
		if r.Standing().Role == relay.Alone {
			n++
		}
	}
	return n
}

func (f *fleet) stop() {
	f.cancel()
	f.wg.Wait()
}

// naiveFleet is controllers that fetch all apps on each event, one fetch at a time, as many do.
type naiveFleet struct {
	n, apps                 int
	url                     string
	arrivals                *arrivals
	requests, failed, bytes atomic.Int64
	whole                   atomic.Int64
	cancel                  context.CancelFunc
	wg                      sync.WaitGroup
	http                    *http.Client
}

func newNaiveFleet(n, apps int, url string, arrivals *arrivals) *naiveFleet {
	return &naiveFleet{
		n: n, apps: apps, url: url, arrivals: arrivals, cancel: func() {},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * n}},
	}
}

func (f *naiveFleet) start(ctx context.Context) error {
	ctx, f.cancel = context.WithCancel(ctx)
	for i := range f.n {
		wake := make(chan struct{}, 1)
		wake <- struct{}{}
		f.wg.Go(func() {
			for ctx.Err() == nil {
				f.listen(ctx, wake)
				_ = sleep(ctx, time.Second)
			}
		})
		f.wg.Go(func() {
			whole := false
			for {
				select {
				case <-ctx.Done():
					return
				case <-wake:
				}
				n, err := f.fetch(ctx, i)
				if err != nil {
					f.failed.Add(1)
					_ = sleep(ctx, time.Second)
					select {
					case wake <- struct{}{}:
					default:
					}
				} else if !whole && n >= f.apps {
					whole = true
					f.whole.Add(1)
				}
			}
		})
	}
	return allWhole(ctx, &f.whole, f.n)
}

// listen follows the event stream: each event wakes.
func (f *naiveFleet) listen(ctx context.Context, wake chan<- struct{}) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/v2/events", nil)
	if err != nil {
		return
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := f.http.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "event: ") {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
}

// fetch reads all apps with their tasks, and returns how many apps there are.
func (f *naiveFleet) fetch(ctx context.Context, controller int) (int, error) {
	f.requests.Add(1)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/v2/apps?embed=apps.tasks", nil)
	if err != nil {
		return 0, err
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	f.bytes.Add(int64(len(body)))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	var got struct {
		Apps []struct {
			ID    string     `json:"id"`
			Tasks []struct{} `json:"tasks"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return 0, err
	}
	now := time.Now()
	for _, a := range got.Apps {
		if app := appOf(a.ID); app >= 0 && len(a.Tasks) >= f.arrivals.size {
			f.arrivals.note(controller, app, len(a.Tasks), now)
		}
	}
	return len(got.Apps), nil
}

func (f *naiveFleet) asked() (requests, failed, bytes float64) {
	return float64(f.requests.Load()), float64(f.failed.Load()), float64(f.bytes.Load())
}

func (f *naiveFleet) stop() {
	f.cancel()
	f.wg.Wait()
	f.http.CloseIdleConnections()
}
