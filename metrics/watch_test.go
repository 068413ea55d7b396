package metrics

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func watch(t *testing.T, a *Aggregator, i Interest) *Watch {
	t.Helper()
	w, err := a.Watch(i)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// A request that is seen has all that a person asks for: whose it was, which task answered, and how it ended.
func TestWatchSeesRequests(t *testing.T) {
	h := NewHistory(time.Hour)
	h.Set(epoch.Add(-time.Second), "/shop:0", []Placement{{Addr: "10.0.0.1:31000", Task: "shop.1", State: "draining"}})
	a := NewAggregator(AggregatorConfig{Directory: h})
	w := watch(t, a, Interest{})
	failed := strings.Replace(line(1, "web", 1, "/shop:0", "10.0.0.1:31000", 502, 2500), "----", "SH--", 1)
	feed(a, epoch, line(1, "web", 0, "/shop:0", "10.0.0.1:31000", 200, 1500), failed, line(1, "web", 2, "", "-:-", 404, 10))
	got, tally := w.Take()
	want := []Seen{
		{
			Service: "/shop:0", Task: "shop.1", State: "draining", Server: "10.0.0.1:31000", Method: "GET", Host: "h", Path: "/", Status: 200,
			Duration: 1500, Response: 1500, Ended: "----",
		},
		{
			Service: "/shop:0", Task: "shop.1", State: "draining", Server: "10.0.0.1:31000", Method: "GET", Host: "h", Path: "/", Status: 502,
			Duration: 2500, Response: 2500, Ended: "SH--", Reason: "server_closed", Words: "server closed before sending headers",
		},
		{Service: NoService, Method: "GET", Host: "h", Path: "/", Status: 404, Duration: 10, Response: 10, Ended: "----", Reason: "no_route", Words: "no service has this name and path"},
	}
	for i := range want {
		want[i].At, want[i].Client, want[i].BytesIn, want[i].BytesOut = epoch.UTC(), "127.0.0.1:5", 57, 73
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if tally != (Tally{Matched: 3}) {
		t.Errorf("%+v", tally)
	}
	if got, tally := w.Take(); len(got) != 0 || tally.Matched != 0 {
		t.Errorf("the second time %d requests, %+v", len(got), tally)
	}
}

func TestWatchOfSome(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	lines := []string{
		line(1, "web", 0, "/shop/cart:0", "10.0.0.1:31000", 200, 1500), line(1, "web", 1, "/shop/cart:0", "10.0.0.1:31000", 503, 900_000),
		line(1, "web", 2, "/api:0", "10.0.0.2:31000", 404, 20),
		strings.Replace(line(1, "web", 3, "/api:0", "10.0.0.2:31000", 200, 20), `"/"`, `"/users/7"`, 1),
	}
	for _, c := range []struct {
		name string
		of   Interest
		want string
	}{
		{"all", Interest{}, "/shop/cart:0 200, /shop/cart:0 503, /api:0 404, /api:0 200"},
		{"text", Interest{Text: "cart"}, "/shop/cart:0 200, /shop/cart:0 503"},
		{"app", Interest{Where: []string{"app=/api"}}, "/api:0 404, /api:0 200"},
		{"status", Interest{Where: []string{"status=5xx,404"}}, "/shop/cart:0 503, /api:0 404"},
		{"slow", Interest{Where: []string{"latency>500ms"}}, "/shop/cart:0 503"},
		{"path", Interest{Where: []string{"path=/users/*", "method=GET"}}, "/api:0 200"},
		{"failed", Interest{Failed: true}, "/shop/cart:0 503"},
		{"none", Interest{Text: "api", Failed: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := watch(t, a, c.of)
			feed(a, epoch, lines...)
			got, tally := w.Take()
			var text []string
			for _, s := range got {
				text = append(text, fmt.Sprint(s.Service, " ", s.Status))
			}
			if joined := strings.Join(text, ", "); joined != c.want || int(tally.Matched) != len(got) {
				t.Errorf("saw %s, want %s; %+v", joined, c.want, tally)
			}
		})
	}
	for _, of := range []Interest{{Where: []string{"colour=red"}}, {Room: -1}, {Room: MaxSeen + 1}} {
		if _, err := a.Watch(of); err == nil {
			t.Errorf("%+v is watched", of)
		}
	}
}

// What there is no room for is an even sample: early and late ones alike.
func TestWatchWithoutRoom(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	w := watch(t, a, Interest{Room: 100})
	for i := range 10_000 {
		feed(a, epoch, strings.Replace(line(1, "web", i, "/a:0", "10.0.0.1:1", 200, 10), "1795230849279039", fmt.Sprint(1795230849279039+i), 1))
	}
	got, tally := w.Take()
	if len(got) != 100 || tally.Matched != 10_000 {
		t.Fatalf("%d kept of %+v", len(got), tally)
	}
	if !slices.IsSortedFunc(got, func(a, b Seen) int { return a.At.Compare(b.At) }) {
		t.Error("they are not in the order of time")
	}
	early := 0
	for _, s := range got {
		if s.At.Before(epoch.Add(5000 * time.Microsecond)) {
			early++
		}
	}
	if early < 20 || early > 80 { // 6 standard deviations
		t.Errorf("%d of 100 are of the first half", early)
	}
}

// The label log says what nobody sees; all of it is counted.
func TestWatchKeepsOutOfSight(t *testing.T) {
	for _, c := range []struct {
		label    string
		min, max int
	}{{"", 2000, 2000}, {"on", 2000, 2000}, {"off", 0, 0}, {"errors", 1000, 1000}, {"1/10", 100, 300}, {"nonsense", 2000, 2000}} {
		t.Run(c.label, func(t *testing.T) {
			h := NewHistory(time.Hour)
			h.Set(epoch, "/a:0", nil)
			h.Describe("/a:0", About{Shown: ParseShown(c.label)})
			a := NewAggregator(AggregatorConfig{Directory: h})
			w := watch(t, a, Interest{Room: MaxSeen})
			for i := range 1000 {
				feed(a, epoch, line(1, "web", 2*i, "/a:0", "10.0.0.1:1", 200, 10), line(1, "web", 2*i+1, "/a:0", "10.0.0.1:1", 500, 10))
			}
			got, tally := w.Take()
			if len(got) < c.min || len(got) > c.max || tally.Matched != 2000 || int(tally.Matched-tally.Withheld) != len(got) {
				t.Errorf("%d seen, %+v; want %d to %d", len(got), tally, c.min, c.max)
			}
			if n := a.Snapshot(epoch).Service("/a:0").Requests; n != 2000 {
				t.Errorf("%d counted", n)
			}
		})
	}
}

func TestWatchesAreBounded(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	for range MaxWatches {
		watch(t, a, Interest{})
	}
	if _, err := a.Watch(Interest{}); !errors.Is(err, ErrWatches) {
		t.Errorf("one more: %v", err)
	}
	a.watches[3].Close()
	watch(t, a, Interest{})
}

func BenchmarkConsumeWatched(b *testing.B) {
	a := NewAggregator(AggregatorConfig{})
	w, err := a.Watch(Interest{Where: []string{"status=5xx"}})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	batch := &Batch{At: epoch, Source: 1, Records: make([]Record, 1)}
	if err := Parse([]byte(line(1, "web", 0, "/a:0", "10.0.0.1:1", 200, 10)), &batch.Records[0]); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		a.Consume(batch)
	}
}
