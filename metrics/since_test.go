package metrics

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What was counted between two snapshots, added to the earlier one, is the later one.
func TestSinceIsTheInverseOfMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		h := NewHistory(time.Hour)
		h.Describe("/s0:0", About{SLO: Objective{Share: 0.99, Latency: time.Second}})
		a := NewAggregator(AggregatorConfig{Node: "n", Directory: h, MaxServices: 4, MaxTasks: 3})
		seq := 0
		some := func(n int) *Snapshot {
			for range n {
				code := []int{200, 201, 404, 500, 503}[r.IntN(5)]
				feed(a, epoch, line(1, "web", seq, fmt.Sprintf("/s%d:0", r.IntN(6)), fmt.Sprintf("10.0.0.%d:31000", r.IntN(5)), code, r.IntN(1<<r.IntN(30))))
				seq++
			}
			return a.Snapshot(epoch)
		}
		before := some(rapid.IntRange(0, 60).Draw(t, "before"))
		after := some(rapid.IntRange(0, 60).Draw(t, "after"))
		delta := after.Since(before)
		if got, want := asJSON(t, before.Merge(delta)), asJSON(t, after); got != want {
			t.Fatalf("the parts add up to\n%s\nand are\n%s", got, want)
		}
		for _, s := range after.Since(after).Services {
			if s.Requests+s.BytesOut+s.Duration.Count()+s.Response.Count() > 0 || len(s.Codes)+len(s.Tasks)+len(s.Routes)+len(s.Failures)+len(s.Terminations) > 0 {
				t.Fatalf("something is left of nothing: %s", asJSON(t, after.Since(after)))
			}
		}
	})
}

func TestSinceOfWhatBeganAnew(t *testing.T) {
	first, second := NewAggregator(AggregatorConfig{}), NewAggregator(AggregatorConfig{})
	for i := range 10 {
		feed(first, epoch, line(1, "web", i, "/s:0", "10.0.0.1:1", 200, 1000))
	}
	feed(second, epoch, line(2, "web", 0, "/s:0", "10.0.0.1:1", 200, 3000))
	delta := second.Snapshot(epoch).Since(first.Snapshot(epoch)).Service("/s:0")
	if delta.Requests != 1 || delta.Duration.Count() != 1 || delta.Code("200") != 1 {
		t.Errorf("%+v", delta)
	}
	var a, b Histogram
	a.Observe(1000)
	a.Observe(9)
	b.Observe(2000)
	b.Observe(2000)
	b.Observe(2000)
	if d := b.Since(&a); d.Count() != 3 {
		t.Errorf("a histogram that began anew has %d new values of 3", d.Count())
	}
}

// asJSON is a snapshot without what is of the moment only.
func asJSON(t interface{ Fatal(...any) }, s *Snapshot) string {
	c := *s
	c.Services = append([]ServiceTotals(nil), s.Services...)
	for i := range c.Services {
		c.Services[i].Recent = [3]Recent{}
		c.Services[i].Codes = append([]CodeCount{}, c.Services[i].Codes...)
	}
	b, err := json.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
