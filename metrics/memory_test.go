package metrics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// memoryBound is what an aggregator of 500 services with 20 tasks each may take, with all routes, an objective, and an hour's past.
const memoryBound = 200 << 20

func TestMemory(t *testing.T) {
	const services, tasks, routes = 500, 20, 64
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	h := NewHistory(time.Hour)
	var names, addrs, paths [][]byte
	for i := range services {
		names = append(names, fmt.Appendf(nil, "/group/service-%d:0", i))
		var placements []Placement
		for j := range tasks {
			placements = append(placements, Placement{Addr: fmt.Sprintf("10.0.%d.%d:31000", i%250, j), Task: fmt.Sprintf("group_service-%d.%d-4b1e-11ee", i, j), State: "up"})
		}
		h.Set(epoch.Add(-time.Hour), string(names[i]), placements)
		h.Describe(string(names[i]), About{SLO: Objective{Share: 0.999, Latency: 250 * time.Millisecond}})
	}
	for i := range services {
		for j := range tasks {
			addrs = append(addrs, fmt.Appendf(nil, "10.0.%d.%d:31000", i%250, j))
		}
	}
	for i := range routes {
		paths = append(paths, fmt.Appendf(nil, "/path/%c/things", 'a'+i))
	}
	a := NewAggregator(AggregatorConfig{Directory: h})
	a.Tick(epoch)
	var r Record
	if err := Parse([]byte(httpLine), &r); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	b := &Batch{Records: make([]Record, 1)}
	for step := range 360 {
		b.At = epoch.Add(time.Duration(step) * 10 * time.Second)
		for i := range services {
			for range 3 {
				one := &b.Records[0]
				*one = r
				one.Accounted = false
				one.Service, one.ServerAddr, one.Path = names[i], addrs[i*tasks+rnd.IntN(tasks)], paths[rnd.IntN(routes)]
				one.Total = int64(math.Exp(rnd.NormFloat64()*1.5 + 3))
				one.Queue, one.Connect, one.Response, one.TotalMicros, one.ResponseMicros = int64(rnd.IntN(3)), 1, one.Total, -1, -1
				a.Consume(b)
			}
		}
		a.Tick(b.At)
	}
	took := heap() - before
	t.Logf("%d services of %d tasks, %d routes of each, an hour's past: %d MB", services, tasks, a.cfg.MaxRoutes, took>>20)
	if took > memoryBound {
		t.Errorf("%d MB, more than %d", took>>20, memoryBound>>20)
	}
	runtime.KeepAlive(a)
}
