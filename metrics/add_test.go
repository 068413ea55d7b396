package metrics

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

// randomLine is a line of one of several services, of any method, code, end and time.
func randomLine(r *rand.Rand, seq int) string {
	l := line(1, "web", seq, fmt.Sprintf("/s%d:0", r.IntN(6)), fmt.Sprintf("10.0.0.%d:31000", r.IntN(5)), []int{200, 201, 404, 500, 503}[r.IntN(5)], r.IntN(1<<r.IntN(30)))
	pairs := [][2]string{{`"GET"`, `"POST"`}, {`"GET"`, `"BREW"`}, {"----", "SH--"}, {"----", "cD--"}, {`"/"`, fmt.Sprintf(`"/users/%d/x%d"`, r.IntN(99), r.IntN(3))}, {" - - ", " TLSv1.3 AES "}, {" 0 0 0 -", " +2 0 0 -"}}
	for range 2 {
		p := pairs[r.IntN(len(pairs))]
		l = string(bytes.Replace([]byte(l), []byte(p[0]), []byte(p[1]), 1))
	}
	return l + []string{"", ` - "" ""`, ` - "%2Fweb" ""`, ` - "b" "x=1"`}[r.IntN(4)]
}

// derivedForTest is a metric of one's own.
func derivedForTest(t interface{ Fatal(...any) }) []Derived {
	d, err := ParseDerived("posts", "method=POST")
	if err != nil {
		t.Fatal(err)
	}
	return []Derived{d}
}

// What the machines have counted, sent in any number of parts, adds up at the hub to what one that saw all of it has.
func TestAddIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		h := NewHistory(time.Hour)
		h.Describe("/s0:0", About{SLO: Objective{Share: 0.999, Latency: time.Second}})
		cfg := AggregatorConfig{Node: "n", Directory: h, Derived: derivedForTest(t)}
		whole, hub := NewAggregator(cfg), NewAggregator(AggregatorConfig{Node: "n"})
		machines := make([]*Aggregator, rapid.IntRange(1, 5).Draw(t, "machines"))
		sent := make([]*Snapshot, len(machines))
		for i := range machines {
			machines[i], sent[i] = NewAggregator(cfg), &Snapshot{}
		}
		push := func(i int) {
			now := machines[i].Snapshot(epoch)
			inc, err := DecodeSnapshot(now.Since(sent[i]).AppendBinary(nil))
			if err != nil {
				t.Fatal(err)
			}
			hub.Add(inc, epoch)
			sent[i] = now
		}
		seqs := make([]int, len(machines))
		for n := range rapid.IntRange(0, 200).Draw(t, "records") {
			i := r.IntN(len(machines))
			l := randomLine(r, seqs[i])
			seqs[i]++
			feed(machines[i], epoch, l)
			feed(whole, epoch, strings.Replace(l, fmt.Sprintf(" %d ", seqs[i]-1), fmt.Sprintf(" %d ", n), 1))
			if r.IntN(20) == 0 {
				push(i)
			}
		}
		for i := range machines {
			push(i)
		}
		one, sum := whole.Snapshot(epoch), hub.Snapshot(epoch)
		one.Loss, sum.Loss = Loss{}, Loss{Lost: sum.Loss.Lost} // numbers that other machines have seen are gaps
		if got, want := asJSON(t, sum), asJSON(t, one); got != want {
			t.Fatalf("the hub has\n%s\nand is to have\n%s", got, want)
		}
	})
}

// 50 machines of 20 shards each, merged and added, have the bytes of one.
func TestFleetAddsUpToTheSameBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	whole, hub := NewAggregator(AggregatorConfig{}), NewAggregator(AggregatorConfig{})
	for range 50 {
		var machine *Snapshot
		for range 20 {
			shard := NewAggregator(AggregatorConfig{})
			for i := range 20 {
				l := randomLine(r, i)
				feed(shard, epoch, l)
				feed(whole, epoch, l)
			}
			if s := shard.Snapshot(epoch); machine == nil {
				machine = s
			} else {
				machine = machine.Merge(s)
			}
		}
		hub.Add(machine.Since(&Snapshot{}), epoch)
	}
	one, sum := whole.Snapshot(epoch), hub.Snapshot(epoch)
	one.Loss, sum.Loss = Loss{}, Loss{}
	for i := range one.Services {
		one.Services[i].Recent, sum.Services[i].Recent = [3]Recent{}, [3]Recent{}
	}
	if !bytes.Equal(one.AppendBinary(nil), sum.AppendBinary(nil)) {
		t.Errorf("want %s\ngot  %s", asJSON(t, one), asJSON(t, sum))
	}
	if n := sum.Total().Requests; n != 50*20*20 {
		t.Errorf("%d requests", n)
	}
}

// What is added bears rates, windows and burn rates, and ends when nobody adds to it any more.
func TestAddedServices(t *testing.T) {
	a := NewAggregator(AggregatorConfig{Idle: time.Minute})
	source := NewAggregator(AggregatorConfig{})
	for i := range 100 {
		feed(source, epoch, line(1, "web", i, "/a:0", "10.0.0.1:1", 200+300*(i%2), 1000))
	}
	inc := source.Snapshot(epoch).Since(&Snapshot{})
	inc.Services[0].SLO = &SLOTotals{Share: 0.9, Judged: 100, Good: 50}
	a.Tick(epoch)
	a.Add(inc, epoch)
	a.Tick(epoch.Add(time.Second))
	s := a.Snapshot(epoch.Add(time.Second)).Service("/a:0")
	if s.Recent[0].Requests != 0 && s.Recent[1].Requests != 100 || s.Errors() != 50 {
		t.Errorf("%+v", s.Recent)
	}
	if w := a.Windows(epoch.Add(time.Second), time.Minute); len(w) != 1 || w[0].Requests != 100 || w[0].Errors != 50 {
		t.Errorf("%+v", w)
	}
	if b := a.Budgets(epoch.Add(time.Second)); len(b) != 1 || b[0].Burn["5m"] < 4.9 || b[0].Burn["5m"] > 5.1 {
		t.Errorf("%+v", b)
	}
	idle := &Snapshot{Services: []ServiceTotals{{Service: "/a:0"}}}
	a.Add(idle, epoch.Add(50*time.Second))
	a.Tick(epoch.Add(90 * time.Second))
	if s := a.Snapshot(epoch).Service("/a:0"); s == nil || len(s.Tasks) != 0 {
		t.Errorf("a service that is named goes on, without tasks that nobody names: %+v", s)
	}
	a.Tick(epoch.Add(111 * time.Second))
	if s := a.Snapshot(epoch).Service("/a:0"); s != nil {
		t.Error("it stays for ever")
	}
}

// Lines that come out of order, and those of a worker that began long ago, are no loss; increments tell of none, and of real ones once.
func TestSettledLoss(t *testing.T) {
	a, hub, last := NewAggregator(AggregatorConfig{}), NewAggregator(AggregatorConfig{}), &Snapshot{}
	push := func() {
		now := a.Settled(epoch)
		hub.Add(now.Since(last), epoch)
		last = now
	}
	looks := func() {
		for range lossLooks {
			a.Reconcile([]WorkerStat{{PID: 1}})
		}
	}
	for i := 0; i < 20; i += 2 { // each pair changed
		feed(a, epoch, line(1, "web", i+1, "/a:0", "10.0.0.1:1", 200, 1))
		push()
		feed(a, epoch, line(1, "web", i, "/a:0", "10.0.0.1:1", 200, 1))
		a.Reconcile([]WorkerStat{{PID: 1}})
	}
	// A worker that has written a thousand lines before: only the next look says that it is old.
	feed(a, epoch, line(2, "web", 1000, "/a:0", "10.0.0.1:1", 200, 1))
	push()
	old := time.Now().Add(-time.Hour)
	for range lossLooks {
		a.Reconcile([]WorkerStat{{PID: 1}, {PID: 2, Started: old}})
	}
	push()
	if l := hub.Loss(); l != (Loss{Sent: 21, Counted: 21}) {
		t.Errorf("nothing is lost, and the hub has %+v", l)
	}
	feed(a, epoch, line(1, "web", 25, "/a:0", "10.0.0.1:1", 200, 1)) // five are missing
	push()
	looks()
	push()
	looks()
	push()
	if l := hub.Loss(); l.Lost != 5 || l.Sent != 27 || l.Counted != 22 {
		t.Errorf("five are lost, and the hub has %+v", l)
	}
}

// Names that nobody could be shown, in any place, count under Other, and all of it can be scraped.
func TestAddedNames(t *testing.T) {
	bad, long := "a\xff\xfe", strings.Repeat("n", maxName+1)
	class := []ClassCount{{"GET", "2xx", 1}, {bad, bad, 1}}
	s := &Snapshot{
		Nodes: []string{bad}, At: epoch.Add(1000 * time.Hour), Overflow: map[string]uint64{bad: 7, "task": 2},
		Services: []ServiceTotals{{
			Service: "/a:0", Requests: 2, Codes: []CodeCount{{"GET", "200", 1}, {bad, bad, 1}}, Terminations: []TerminationCount{{bad, bad, 1}},
			Failures: []FailureCount{{bad, bad, bad, 1}, {"connect", long, "change", 1}}, TLS: []TLSCount{{bad, bad, 1}},
			Derived: []DerivedCount{{bad, 1}, {"good", 1}}, Routes: []Part{{Name: bad, Classes: class}, {Name: long, Classes: class}},
			Tasks: []Part{{Name: bad, Classes: class}, {Name: long, Classes: class}}, Callers: []Part{{Name: bad, Classes: class}},
		}, {Service: bad, Requests: 3}, {Service: long, Requests: 4}},
	}
	inc, err := DecodeSnapshot(s.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	a := NewAggregator(AggregatorConfig{})
	a.Add(inc, epoch)
	now := a.Snapshot(epoch)
	one := now.Service("/a:0")
	if len(now.Services) != 2 || now.Service(Other).Requests != 7 || len(one.Tasks) != 1 || len(one.Routes) != 1 || one.Tasks[0].Name != Other ||
		len(one.Derived) != 1 || one.Failures[0] != (FailureCount{"connect", Other, "change", 1}) {
		t.Error(asJSON(t, now))
	}
	if n := now.Overflow; n["task"] != 4 || n["service"] != 2 || n["route"] != 2 || n["caller"] != 1 || len(n) != 4 {
		t.Errorf("%v", n)
	}
	if at := a.LastRecord(); !at.Equal(epoch) {
		t.Errorf("a clock that runs ahead is believed: %v", at)
	}
	scrape(t, a)
	for i := range 2 * maxFailed {
		a.Add(&Snapshot{Services: []ServiceTotals{{Service: "/a:0", Failures: []FailureCount{{"connect", fmt.Sprint(i), "", 1}}}}}, epoch)
	}
	if n := len(a.Snapshot(epoch).Service("/a:0").Failures); n > maxFailed+2 {
		t.Errorf("%d kinds of failures", n)
	}
}

// scrape reads every metric of an aggregator.
func scrape(t *testing.T, a *Aggregator) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(a)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

// An objective that no machine has any more leaves the hub; what was judged by it stays counted.
func TestObjectiveLeaves(t *testing.T) {
	a := NewAggregator(AggregatorConfig{Idle: time.Minute})
	a.Add(&Snapshot{Services: []ServiceTotals{{Service: "/a:0", SLO: &SLOTotals{Share: .9, Judged: 10, Good: 9}}}}, epoch)
	a.Add(&Snapshot{Services: []ServiceTotals{{Service: "/a:0"}}}, epoch.Add(59*time.Second))
	a.Tick(epoch.Add(60 * time.Second))
	if s := a.Snapshot(epoch).Service("/a:0"); s.SLO == nil {
		t.Error("it leaves early")
	}
	a.Tick(epoch.Add(61 * time.Second))
	if s := a.Snapshot(epoch).Service("/a:0"); s == nil || s.SLO != nil {
		t.Errorf("%+v", s)
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	a := NewAggregator(AggregatorConfig{Node: "n"})
	f.Add(a.Snapshot(epoch).AppendBinary(nil))
	for i := range 50 {
		feed(a, epoch, randomLine(r, i))
	}
	f.Add(a.Snapshot(epoch).AppendBinary(nil))
	f.Add([]byte("SBS1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			s, err := DecodeSnapshot(b)
			if err != nil {
				return
			}
			hub := NewAggregator(AggregatorConfig{})
			hub.Add(s, epoch)
			again, err := DecodeSnapshot(s.AppendBinary(nil))
			if err != nil || asJSON(t, again) != asJSON(t, s) {
				t.Errorf("%v: %s became %s", err, asJSON(t, s), asJSON(t, again))
			}
		}
		check(b)
		if len(b) > 8 { // as one who knows the checksum would send it
			check(sealed(b[:len(b)-4]))
		}
	})
}

func TestBinaryFormIsRefused(t *testing.T) {
	a := NewAggregator(AggregatorConfig{Node: "n"})
	for i := range 20 {
		feed(a, epoch, line(1, "web", i, "/a:0", "10.0.0.1:1", 200, 1000))
	}
	good := a.Snapshot(epoch).AppendBinary(nil)
	for i := range good {
		if _, err := DecodeSnapshot(good[:i]); err == nil {
			t.Fatalf("cut at %d it is read", i)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := DecodeSnapshot(bad); err == nil {
			t.Fatalf("changed at %d it is read", i)
		}
	}
	t.Logf("%d bytes", len(good))
}

// BenchmarkBinary is of 500 services with 20 tasks each.
func BenchmarkBinary(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	a := NewAggregator(AggregatorConfig{Node: "n"})
	seq := 0
	for s := range 500 {
		for range 200 {
			feed(a, epoch, line(1, "web", seq, fmt.Sprintf("/s%d:0", s), fmt.Sprintf("10.0.%d.%d:1", s%250, r.IntN(20)), 200, 1000+r.IntN(100_000)))
			seq++
		}
	}
	s := a.Snapshot(epoch)
	b.Run("json", func(b *testing.B) {
		n := 0
		for b.Loop() {
			j, err := json.Marshal(s)
			if err != nil {
				b.Fatal(err)
			}
			n = len(j)
		}
		b.ReportMetric(float64(n), "bytes/snapshot")
	})
	form := s.AppendBinary(nil)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			form = s.AppendBinary(form[:0])
		}
		b.ReportMetric(float64(len(form)), "bytes/snapshot")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeSnapshot(form); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("add", func(b *testing.B) {
		hub := NewAggregator(AggregatorConfig{})
		for b.Loop() {
			hub.Add(s, epoch)
		}
	})
}

// sealed appends the checksum of a snapshot's binary form.
func sealed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
}
