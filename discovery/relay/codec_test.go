package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"signalbox"
)

// shelf is a term that keeps what is published, and forgets nothing but what is deleted.
type shelf struct {
	head   []byte
	values map[string][]byte
}

func (s *shelf) Publish(_ context.Context, head []byte, values map[string][]byte) error {
	s.head = head
	for name, v := range values {
		s.values[name] = v
	}
	return nil
}

func (s *shelf) Put(_ context.Context, name string, value []byte) error {
	s.values[name] = value
	return nil
}

func (s *shelf) Names(context.Context) (out []string, err error) {
	for name := range s.values {
		out = append(out, name)
	}
	return out, nil
}

func (s *shelf) Delete(_ context.Context, name string) error { delete(s.values, name); return nil }
func (s *shelf) Lost() <-chan struct{}                       { return nil }
func (s *shelf) Resign(context.Context)                      {}

func (s *shelf) read(_ context.Context, name string) ([]byte, error) {
	v, ok := s.values[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, errMissing)
	}
	return v, nil
}

func newShelf(most int) (*shelf, *publisher) {
	s := &shelf{values: map[string][]byte{}}
	return s, &publisher{term: s, most: most, head: take(nil, "n1", "0123456789abcdef", time.Now()), image: &image{}, read: s.read, metrics: newSourceMetrics()}
}

// Whoever follows each head, some of them, or only the last one has the state of the leader, and what the leader deletes nobody needs.
func TestChangesEqualTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		s, p := newShelf(rapid.IntRange(200, 100_000).Draw(t, "chunk"))
		all, some := position{image: &image{}}, position{image: &image{}}
		state := map[string]*signalbox.Service{}
		for step := range rapid.IntRange(1, 150).Draw(t, "steps") {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				name := fmt.Sprintf("app-%02d", rapid.IntRange(0, 12).Draw(t, "app"))
				if rapid.IntRange(0, 4).Draw(t, "what") == 0 {
					delete(state, name)
				} else {
					state[name] = service(name, rapid.IntRange(0, 9).Draw(t, "tasks"))
				}
			}
			var problems []signalbox.Problem
			if rapid.Bool().Draw(t, "problem") {
				problems = []signalbox.Problem{{Code: "SB101", App: "/x", Value: fmt.Sprint(step % 5)}}
			}
			n := news{state: []*signalbox.Service{}, problems: problems, rebase: rapid.IntRange(0, 40).Draw(t, "rebase") == 0}
			for i := range 13 {
				if svc := state[fmt.Sprintf("app-%02d", i)]; svc != nil {
					n.state = append(n.state, svc)
				}
			}
			if err := p.publish(ctx, n, time.Now()); err != nil {
				t.Fatal(err)
			}
			h, err := decodeHead(s.head, nil)
			if err != nil {
				t.Fatal(err)
			}
			check := func(who string, from position) position {
				if from.at(h) {
					return from
				}
				got, err := load(ctx, h, from, s.read)
				if err != nil {
					t.Fatalf("%s, from %d to %d: %v", who, from.generation, h.Generation, err)
				}
				want := &signalbox.Table{Services: n.state, Problems: problems}
				if !want.Equal(&signalbox.Table{Services: got.image.state, Problems: got.image.problems}) {
					t.Fatalf("%s, from %d to %d, has another state", who, from.generation, h.Generation)
				}
				return position{h.Generation, h.Sum, got.image}
			}
			all = check("who follows each head", all)
			if rapid.Bool().Draw(t, "looks") {
				some = check("who follows some heads", some)
			}
			check("who joins", position{image: &image{}})
		}
		if len(s.values) > maxDeltas+200 {
			t.Fatalf("%d values are left", len(s.values))
		}
	})
}

// A head says nothing that was not written by who has the key.
func TestHeadIsSealed(t *testing.T) {
	s, p := newShelf(1000)
	p.key = []byte("a key that nobody else has")
	if err := p.publish(t.Context(), news{state: []*signalbox.Service{service("a", 3)}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeHead(s.head, p.key); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeHead(s.head, nil); err == nil {
		t.Error("it is read without the key")
	}
	for i := range s.head {
		changed := append([]byte(nil), s.head...)
		changed[i] ^= 1
		if _, err := decodeHead(changed, p.key); err == nil {
			t.Errorf("a change of byte %d passes", i)
		}
	}
}

// How many bytes tables of several sizes take, with task ids and addresses that differ as real ones do.
func TestSizes(t *testing.T) {
	for _, tasks := range []int{1_000, 10_000, 50_000} {
		s, p := newShelf(consulChunk)
		r := rand.New(rand.NewPCG(1, 2))
		var state []*signalbox.Service
		for i := range tasks / 10 {
			state = append(state, realistic(r, fmt.Sprintf("team-%02d/app-%04d", i%40, i), 10))
		}
		state = signalbox.NewTable(state, nil).Services
		if err := p.publish(t.Context(), news{state: state}, time.Now()); err != nil {
			t.Fatal(err)
		}
		largest := 0
		for _, v := range s.values {
			largest = max(largest, len(v))
		}
		t.Logf("%d tasks: %d bytes, compressed %d in %d chunks, the largest value %d, the head %d", tasks, p.head.Base.Size, p.head.Base.Packed, len(p.head.Base.Names), largest, len(s.head))
		changed := append([]*signalbox.Service(nil), state...)
		changed[7] = realistic(r, "team-00/app-0000", 11)
		changed[7].ID, changed[7].App = state[7].ID, state[7].App
		if err := p.publish(t.Context(), news{state: changed}, time.Now()); err != nil {
			t.Fatal(err)
		}
		last := p.head.Deltas[len(p.head.Deltas)-1]
		t.Logf("%d tasks: the change of one app %d bytes, the head %d", tasks, last.Size, len(s.head))
		if largest > 400<<10 || len(s.head) > maxHead || last.Size > 4<<10 || !last.Inline {
			t.Errorf("%d tasks: a value of %d bytes, a head of %d, a change of %d", tasks, largest, len(s.head), last.Size)
		}
	}
}

// realistic is a service whose tasks have the ids that Marathon gives.
func realistic(r *rand.Rand, name string, tasks int) *signalbox.Service {
	s := service(name, tasks)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.Task = fmt.Sprintf("%s.instance-%08x-%04x-11ec-%04x-%012x._app.1", name, r.Uint32(), r.Uint32()&0xffff, r.Uint32()&0xffff, r.Uint64()&0xffffffffffff)
		e.Host, e.Version = fmt.Sprintf("slave-%03d.example.net", r.IntN(500)), "2026-03-04T05:06:07.891Z"
	}
	return s
}

func FuzzHead(f *testing.F) {
	s, p := newShelf(300)
	for i := range 3 {
		if err := p.publish(context.Background(), news{state: []*signalbox.Service{service("a", i+1)}}, time.Now()); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(s.head)
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would stop nearly all of it.
		body := append([]byte(magicBegin+fmt.Sprintf("%x", seal(b, nil))+"\n"), b...)
		for _, text := range [][]byte{b, body} {
			h, err := decodeHead(text, nil)
			if err != nil {
				continue
			}
			for _, from := range []position{{image: &image{}}, {generation: h.Generation - 1, image: p.image}} {
				if got, err := load(t.Context(), h, from, s.read); err == nil && got.image.sum() != h.Sum {
					t.Error("a state with another checksum passes")
				}
			}
		}
	})
}

func FuzzImage(f *testing.F) {
	img, _, err := (&image{}).next([]*signalbox.Service{service("a", 2), service("b", 1)}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(img.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeImage(b, img)
		if err != nil {
			return
		}
		again, err := decodeImage(got.encode(), &image{})
		if err != nil || again.sum() != got.sum() {
			t.Errorf("it does not read what it writes: %v", err)
		}
		if _, err := got.apply(&change{Gone: []signalbox.ServiceID{"/a:0"}}); err != nil {
			t.Error(err)
		}
	})
}
