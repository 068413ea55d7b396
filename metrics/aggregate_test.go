package metrics

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

// line returns a line as HAProxy writes it.
func line(pid int, frontend string, seq int, service, addr string, status, micros int) string {
	return fmt.Sprintf(`SB1 H %d %s %d %d ---- "%s" be s1 %s 127.0.0.1:5 1795230849 278 0 0 0 0 0 %d %d 1795230849279039 %d %d 57 73 0 0 0 - - "GET" "HTTP/1.1" "h" "/"`,
		pid, frontend, seq, status, service, addr, micros/1000, micros/1000, micros, micros)
}

func feed(a *Aggregator, now time.Time, lines ...string) {
	b := &Batch{At: now, Source: 1, Records: make([]Record, len(lines))}
	for i, l := range lines {
		_ = Parse([]byte(l), &b.Records[i])
	}
	a.Consume(b)
}

var epoch = time.UnixMicro(1795230849279039)

func TestLimitsOfSeries(t *testing.T) {
	a := NewAggregator(AggregatorConfig{MaxServices: 10, MaxTasks: 5})
	seq := 0
	for s := range 100 {
		for task := range 20 {
			feed(a, epoch, line(1, "web", seq, fmt.Sprintf("/s%02d:0", s), fmt.Sprintf("10.0.0.%d:31000", task), 200, 1000))
			seq++
		}
	}
	s := a.Snapshot(epoch)
	if len(s.Services) != 11 || s.Service(Other) == nil {
		t.Errorf("%d services", len(s.Services))
	}
	total := s.Total()
	if total.Requests != 2000 {
		t.Errorf("%d requests in all", total.Requests)
	}
	for _, one := range s.Services {
		if len(one.Tasks) > 6 {
			t.Errorf("%s has %d tasks", one.Service, len(one.Tasks))
		}
	}
	if s.Overflow["service"] != 1800 || s.Overflow["task"] == 0 {
		t.Errorf("overflow %v", s.Overflow)
	}
}

// Series end when their service or task is gone and the grace is over, and not before.
func TestSeriesEnd(t *testing.T) {
	h := NewHistory(time.Hour)
	a := NewAggregator(AggregatorConfig{Directory: h, Grace: time.Minute})
	h.Set(epoch, "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "a.1", State: "up"}})
	h.Set(epoch, "/b:0", []Placement{{Addr: "10.0.0.2:1", Task: "b.1", State: "up"}, {Addr: "10.0.0.3:1", Task: "b.2", State: "up"}})
	feed(a, epoch, line(1, "web", 0, "/a:0", "10.0.0.1:1", 200, 10), line(1, "web", 1, "/b:0", "10.0.0.2:1", 200, 10),
		line(1, "web", 2, "/b:0", "10.0.0.3:1", 200, 10), line(1, "web", 3, "", "-:-", 404, 10))
	h.Remove(epoch.Add(time.Second), "/a:0")
	h.Set(epoch.Add(time.Second), "/b:0", []Placement{{Addr: "10.0.0.2:1", Task: "b.1", State: "up"}})
	names := func(now time.Time) string {
		a.Tick(now)
		var list []string
		for _, s := range a.Snapshot(now).Services {
			list = append(list, s.Service)
			for _, task := range s.Tasks {
				list = append(list, task.Name)
			}
		}
		return strings.Join(list, " ")
	}
	if got := names(epoch.Add(30 * time.Second)); got != "/a:0 a.1 /b:0 b.1 b.2 none" {
		t.Errorf("within the grace: %s", got)
	}
	if got := names(epoch.Add(2 * time.Minute)); got != "/b:0 b.1 none" {
		t.Errorf("after the grace: %s", got)
	}
	if got := a.Loss(); got.Counted != 4 {
		t.Errorf("the account forgot what was counted: %+v", got)
	}
}

// A port that another task uses later tells the tasks apart by the time of the request.
func TestPortsAreReused(t *testing.T) {
	h := NewHistory(time.Hour)
	a := NewAggregator(AggregatorConfig{Directory: h})
	h.Set(epoch.Add(-time.Minute), "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "old", State: "up"}})
	late := line(1, "web", 0, "/a:0", "10.0.0.1:1", 200, 10)
	feed(a, epoch, late)
	h.Set(epoch.Add(time.Second), "/a:0", nil)
	h.Set(epoch.Add(2*time.Second), "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "new", State: "up"}})
	feed(a, epoch.Add(4*time.Second), late)
	feed(a, epoch.Add(4*time.Second), strings.Replace(late, "1795230849279039", "1795230852279039", 1))
	feed(a, epoch.Add(4*time.Second), late)
	got := map[string]uint64{}
	for _, task := range a.Snapshot(epoch).Service("/a:0").Tasks {
		got[task.Name] = task.Duration.Count()
	}
	if diff := cmp.Diff(map[string]uint64{"old": 3, "new": 1}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Records spread over any number of aggregators, merged in any order, give the same bytes as one that saw them all.
func TestSnapshotsMergeExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "records")
		parts := make([]*Aggregator, rapid.IntRange(1, 6).Draw(t, "parts"))
		for i := range parts {
			parts[i] = NewAggregator(AggregatorConfig{Node: "n"})
		}
		whole := NewAggregator(AggregatorConfig{Node: "n"})
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for i := range n {
			part := r.IntN(len(parts))
			l := line(part+1, "web", i, fmt.Sprintf("/s%d:0", r.IntN(4)), fmt.Sprintf("10.0.0.%d:1", r.IntN(3)), 200+r.IntN(4)*100, r.IntN(5_000_000))
			feed(whole, epoch, l)
			feed(parts[part], epoch, l)
		}
		var sum *Snapshot
		for _, i := range rapid.Permutation(indexes(len(parts))).Draw(t, "order") {
			s := parts[i].Snapshot(epoch)
			if back, err := ReadSnapshot(mustJSON(t, s)); err != nil {
				t.Fatal(err)
			} else {
				s = back
			}
			if sum == nil {
				sum = s
			} else {
				sum = sum.Merge(s)
			}
		}
		one := whole.Snapshot(epoch)
		one.Loss, sum.Loss = Loss{}, Loss{} // numbers that other parts have seen are gaps
		if want, got := mustJSON(t, one), mustJSON(t, sum); !bytes.Equal(want, got) {
			t.Fatalf("want %s\ngot  %s", want, got)
		}
	})
}

func TestRecent(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	seq := 0
	for second := range 100 {
		for range 10 {
			status := 200
			if second >= 95 {
				status = 503
			}
			feed(a, epoch, line(1, "web", seq, "/a:0", "10.0.0.1:1", status, 10))
			seq++
		}
		a.Tick(epoch.Add(time.Duration(second) * time.Second))
	}
	got := a.Snapshot(epoch.Add(99 * time.Second)).Service("/a:0").Recent
	want := [3]Recent{{10, 10, 1000}, {100, 50, 10000}, {600, 50, 60000}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r := got[1].Rate(); r != 10 {
		t.Errorf("%v requests per second", r)
	}
}

func TestAggregatorAllocatesNothing(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	b := &Batch{At: epoch, Records: make([]Record, 1)}
	_ = Parse([]byte(httpLine), &b.Records[0])
	if n := testing.AllocsPerRun(100, func() { a.Consume(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// benchLines are those of 50 services with 4 tasks each.
func benchLines() [][]byte {
	r := rand.New(rand.NewPCG(7, 8))
	lines := make([][]byte, 4096)
	for i := range lines {
		lines[i] = []byte(strings.NewReplacer(" 5 200", fmt.Sprintf(" %d 200", i), "/shop/cart:0", fmt.Sprintf("/shop/cart%d:0", r.IntN(50)),
			"10.0.0.1:31000", fmt.Sprintf("10.0.0.%d:31000", r.IntN(4)), "46100", fmt.Sprint(45300+r.IntN(2000))).Replace("<6>" + httpLine))
	}
	return lines
}

func BenchmarkParseAndAggregate(b *testing.B) {
	lines := benchLines()
	a := NewAggregator(AggregatorConfig{})
	batch := &Batch{At: epoch, Records: make([]Record, batchSize)}
	i := 0
	b.ReportAllocs()
	b.SetBytes(int64(len(lines[0])))
	for b.Loop() {
		_ = Parse(lines[i&4095], &batch.Records[i%batchSize])
		if i++; i%batchSize == 0 {
			a.Consume(batch)
		}
	}
}

// Requests count by where their task runs, at the time and as far as somebody asks.
func TestRequestsByLocality(t *testing.T) {
	h := NewHistory(time.Hour)
	a := NewAggregator(AggregatorConfig{Directory: h})
	at := func(addr, task string, l Locality) Placement {
		return Placement{Addr: addr, Task: task, State: "up", Locality: l}
	}
	h.Set(epoch.Add(-time.Hour), "/a:0", []Placement{at("10.0.0.1:1", "a.1", Local), at("10.0.0.2:1", "a.2", Remote)})
	h.Set(epoch.Add(-time.Hour), "/b:0", []Placement{at("10.0.0.1:2", "b.1", Anywhere)})
	seq := 0
	for addr, n := range map[string]int{"10.0.0.1:1": 3, "10.0.0.2:1": 2, "10.9.9.9:1": 1, "-:-": 1} {
		for range n {
			feed(a, epoch, line(1, "web", seq, "/a:0", addr, 200, 10))
			seq++
		}
	}
	feed(a, epoch, line(1, "web", seq, "/b:0", "10.0.0.1:2", 200, 10))
	s := a.Snapshot(epoch)
	if one := s.Service("/a:0"); one.Local != 3 || one.Remote != 2 {
		t.Errorf("%d local, %d remote", one.Local, one.Remote)
	}
	if sum := s.Merge(s).Service("/a:0"); sum.Local != 6 || sum.Remote != 4 {
		t.Errorf("twice as many: %d local, %d remote", sum.Local, sum.Remote)
	}
	const name = "signalbox_service_requests_by_locality_total"
	want := "# HELP " + name + " " + metricDoc(name).Help + "\n# TYPE " + name + " counter\n" + name + `{locality="local",service="/a:0"} 3
` + name + `{locality="remote",service="/a:0"} 2
`
	if err := testutil.CollectAndCompare(a, strings.NewReader(want), name); err != nil {
		t.Error(err)
	}
	// The same address, of a task on another machine from now on.
	h.Set(epoch.Add(-time.Minute), "/a:0", []Placement{at("10.0.0.1:1", "a.1", Remote)})
	feed(a, epoch, line(1, "web", seq+1, "/a:0", "10.0.0.1:1", 200, 10))
	if one := a.Snapshot(epoch).Service("/a:0"); one.Local != 3 || one.Remote != 3 {
		t.Errorf("after the move: %d local, %d remote", one.Local, one.Remote)
	}
}

// What 50 nodes of 20 shards each have counted is what one would have, byte for byte.
func TestFiftyNodesOfTwentyShards(t *testing.T) {
	const nodes, shards = 50, 20
	whole := NewAggregator(AggregatorConfig{})
	parts := make([]*Aggregator, nodes*shards)
	for i := range parts {
		parts[i] = NewAggregator(AggregatorConfig{})
	}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 20_000 {
		part := r.IntN(len(parts))
		l := line(part+1, "web", i, fmt.Sprintf("/s%d:0", r.IntN(3)), fmt.Sprintf("10.0.0.%d:1", r.IntN(3)), 200+r.IntN(4)*100, r.IntN(1<<r.IntN(23)))
		feed(whole, epoch, l)
		feed(parts[part], epoch, l)
	}
	sum := &Snapshot{At: epoch, Nodes: []string{}}
	for n := range nodes {
		node := &Snapshot{At: epoch, Nodes: []string{}}
		for s := range shards {
			node = node.Merge(parts[n*shards+s].Snapshot(epoch))
		}
		sum = sum.Merge(node)
	}
	one := whole.Snapshot(epoch)
	one.Loss, sum.Loss, one.Nodes, sum.Nodes = Loss{}, Loss{}, nil, nil // numbers that other parts have seen are gaps
	if want, got := mustJSON(t, one), mustJSON(t, sum); !bytes.Equal(want, got) {
		t.Fatalf("want %.2000s\ngot  %.2000s", want, got)
	}
}
