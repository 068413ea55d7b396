package sink

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"signalbox/metrics"
)

func TestStatsDLines(t *testing.T) {
	f := func(file, options string) {
		t.Helper()
		frames, tooLong := parse(t, "statsd://h?"+options).protocol.encode(sample())
		if tooLong != 0 {
			t.Errorf("%s: %d lines are too long", options, tooLong)
		}
		golden(t, file, text(frames, "\n"))
	}
	f("statsd-plain.txt", "")
	f("statsd-plain-all.txt", "with=routes&with=tasks&times=summary&prefix=")
	f("statsd-datadog.txt", "tags=datadog&times=summary&prefix=edge")
	f("statsd-datadog-all.txt", "tags=datadog&times=buckets&with=tasks&with=routes&with=callers")
}

func text(frames []frame, between string) string {
	var b strings.Builder
	for _, f := range frames {
		b.Write(f.data)
		b.WriteString(between)
	}
	return b.String()
}

// A datagram is within its bound, and says how many points it holds; what fits into none is counted.
func TestStatsDDatagramsAreBounded(t *testing.T) {
	iv := sample()
	iv.Delta.Services[2].Service = "none" + strings.Repeat("x", 170)
	frames, tooLong := parse(t, "statsd://h?mtu=256&tags=datadog&prefix="+strings.Repeat("p", 90)).protocol.encode(iv)
	points := 0
	for _, f := range frames {
		if len(f.data) > 256 || f.points != 1+bytes.Count(f.data, []byte("\n")) {
			t.Errorf("a datagram of %d bytes, %d points:\n%s", len(f.data), f.points, f.data)
		}
		points += f.points
	}
	whole, _ := parse(t, "statsd://h?tags=datadog").protocol.encode(iv)
	all := 0
	for _, f := range whole {
		all += f.points
	}
	if tooLong == 0 || points+tooLong != all {
		t.Errorf("%d points in datagrams, %d too long, %d in all", points, tooLong, all)
	}
}

func TestGraphiteLines(t *testing.T) {
	f := func(file, options string) {
		t.Helper()
		frames, _ := parse(t, "graphite://h?"+options).protocol.encode(sample())
		golden(t, file, text(frames, ""))
	}
	f("graphite-dotted.txt", "")
	f("graphite-dotted-all.txt", "times=summary&with=routes&with=tasks&prefix=a.b")
	f("graphite-tags.txt", "tags=graphite&times=summary&with=routes")
}

func TestRiemannEvents(t *testing.T) {
	f := func(file, options string) {
		t.Helper()
		frames, _ := parse(t, "riemann://h?"+options).protocol.encode(sample())
		events := 0
		var b strings.Builder
		for _, fr := range frames {
			msg := message(t, fr.data, "Msg", &b, "")
			events += msg
			if msg != fr.points {
				t.Errorf("%d events in a message of %d points", msg, fr.points)
			}
		}
		golden(t, file, b.String())
	}
	f("riemann.txt", "")
	f("riemann-all.txt", "times=summary&with=routes&with=tasks&with=callers&prefix=edge&tag=blue&ttl=60&warning=0.2&critical=0.5")
}

// schema is Riemann's proto.proto: field number to name and type, of the messages that clients send.
var schema = map[string]map[protowire.Number][2]string{
	"Msg": {2: {"ok", "bool"}, 3: {"error", "string"}, 6: {"events", "Event"}},
	"Event": {
		1: {"time", "int64"}, 2: {"state", "string"}, 3: {"service", "string"}, 4: {"host", "string"}, 5: {"description", "string"},
		7: {"tags", "string"}, 8: {"ttl", "float"}, 9: {"attributes", "Attribute"}, 10: {"time_micros", "int64"},
		13: {"metric_sint64", "sint64"}, 14: {"metric_d", "double"}, 15: {"metric_f", "float"},
	},
	"Attribute": {1: {"key", "string"}, 2: {"value", "string"}},
}

// message prints a protobuf message by the schema, and returns how many messages it holds. It shares no code with the encoder.
func message(t *testing.T, b []byte, kind string, out *strings.Builder, indent string) (inner int) {
	t.Helper()
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("%s: %v", kind, protowire.ParseError(n))
		}
		b = b[n:]
		about, ok := schema[kind][field]
		if !ok {
			t.Fatalf("%s has no field %d", kind, field)
		}
		want := protowire.BytesType
		switch about[1] {
		case "int64", "sint64", "bool":
			want = protowire.VarintType
		case "float":
			want = protowire.Fixed32Type
		case "double":
			want = protowire.Fixed64Type
		}
		if wire != want {
			t.Fatalf("%s.%s has the wire type %d", kind, about[0], wire)
		}
		var value any
		switch about[1] {
		case "int64", "sint64":
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			value = int64(v)
			if about[1] == "sint64" {
				value = protowire.DecodeZigZag(v)
			}
		case "float":
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			value = math.Float32frombits(v)
		case "double":
			var v uint64
			v, n = protowire.ConsumeFixed64(b)
			value = math.Float64frombits(v)
		case "string":
			var v string
			v, n = protowire.ConsumeString(b)
			value = v
		default:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			inner++
			fmt.Fprintf(out, "%s%s\n", indent, about[0])
			message(t, v, about[1], out, indent+"  ")
			b = b[n:]
			continue
		}
		if n < 0 {
			t.Fatalf("%s.%s: %v", kind, about[0], protowire.ParseError(n))
		}
		fmt.Fprintf(out, "%s%s %v\n", indent, about[0], value)
		b = b[n:]
	}
	return inner
}

// Different names give different words, and a word is one part of a name wherever it goes.
func TestWordsAreInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.OneOf(rapid.StringMatching(`(/[a-c_.-]{1,3}){1,3}:[0-2]`), rapid.StringMatching(`[/ab_.:0é-]{0,6}`), rapid.String())
		a, b := g.Draw(t, "a"), g.Draw(t, "b")
		for _, f := range []func(string) string{word, serviceWord} {
			if a != b && f(a) == f(b) {
				t.Fatalf("%q and %q are both %q", a, b, f(a))
			}
			if w := f(a); strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || len(w) > mostWord {
				t.Fatalf("%q is %q", a, w)
			}
		}
		if w := tagValue(a, ",|#;~"); strings.ContainsAny(w, ",|#;~ \n\t\r") || a != b && tagValue(b, ",|#;~") == w {
			t.Fatalf("%q is %q", a, w)
		}
	})
	for in, want := range map[string]string{
		"/shop/cart:0": "shop_cart_0", "/shop/v1.2:10": "shop_v1__2e2_10", "none": "none", "shop_cart_10000": "shop__5fcart__5f10000",
		"/a_b:0": "__2fa__5fb__3a0",
	} {
		if got := serviceWord(in); got != want {
			t.Errorf("%s is %s, not %s", in, got, want)
		}
	}
}

// A server that cuts 1/rate down to a whole number gets the count that was meant.
func TestRates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 1<<40).Draw(t, "n")
		if x := oneIn(n); uint64(1/x) != n || x > 1/float64(n) {
			t.Fatalf("1 in %d is %v, which is read as %d", n, x, uint64(1/x))
		}
	})
}

// The middle of its bucket stands for a time, at most 1.1 % off.
func TestMiddles(t *testing.T) {
	for us := uint64(1); us < 1<<40; us += 1 + us/7 {
		h := lasted(us)
		for i := range h.Buckets() {
			if off := math.Abs(middle(i).Seconds()*1e6/float64(us) - 1); off > 0.011 && us > 100 {
				t.Fatalf("%d µs is %v", us, middle(i))
			}
		}
	}
}

// Hostile names break no line and no packet.
func FuzzNames(f *testing.F) {
	f.Add("/shop/cart:0", "GET", "/a b;c=d|e,f#g\n")
	f.Add("", "", "~")
	f.Fuzz(func(t *testing.T, service, method, route string) {
		iv := sample()
		iv.Delta.Services = []metrics.ServiceTotals{{
			Service: service, Requests: 1, Codes: []metrics.CodeCount{{Method: method, Code: "200", Count: 1}},
			Routes: []metrics.Part{{Name: route, Classes: []metrics.ClassCount{{Method: "GET", Class: "2xx", Count: 1}}}},
		}}
		for _, target := range []string{"statsd://h?with=routes", "statsd://h?tags=datadog&with=routes"} {
			frames, _ := parse(t, target).protocol.encode(iv)
			for line := range strings.Lines(text(frames, "\n")) {
				if strings.Count(line, "|c") != 1 || strings.ContainsAny(strings.TrimSuffix(line, "\n"), " \r\n\x00") {
					t.Errorf("%q", line)
				}
			}
		}
		for _, target := range []string{"graphite://h?with=routes", "graphite://h?tags=graphite&with=routes"} {
			frames, _ := parse(t, target).protocol.encode(iv)
			for line := range strings.Lines(text(frames, "")) {
				if len(strings.Fields(line)) != 3 || strings.Count(line, " ") != 2 || strings.Contains(line, "~") {
					t.Errorf("%q", line)
				}
			}
		}
		frames, _ := parse(t, "riemann://h?with=routes").protocol.encode(iv)
		var b strings.Builder
		for _, fr := range frames {
			message(t, fr.data, "Msg", &b, "")
		}
	})
}

// Whatever a server answers, reading it ends.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x10\x00\x1a\x03no!"))
	f.Add([]byte("\x10\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, text, err := readAnswer(b); len(text) > len(b) || err != nil && text != "" {
			t.Errorf("%q: %q, %v", b, text, err)
		}
	})
}

// BenchmarkInterval is what an interval of 500 services with 20 tasks each costs: the difference of two snapshots, and each encoding.
func BenchmarkInterval(b *testing.B) {
	iv := wide(500)
	for i := range iv.Delta.Services {
		s := &iv.Delta.Services[i]
		task := s.Tasks[0]
		s.Tasks = nil
		for j := range 20 {
			task.Name = fmt.Sprintf("shop_cart.8d3c-11ee-%02d", j)
			s.Tasks = append(s.Tasks, task)
		}
	}
	b.Run("since", func(b *testing.B) {
		b.ReportAllocs()
		twice := iv.Delta.Merge(iv.Delta)
		for b.Loop() {
			twice.Since(iv.Delta)
		}
	})
	for _, target := range []string{"statsd://h", "graphite://h", "riemann://h", "graphite://h?with=tasks&with=routes&with=callers&times=summary"} {
		b.Run(strings.ReplaceAll(target, "/", ""), func(b *testing.B) {
			b.ReportAllocs()
			p, err := Parse(target, here)
			if err != nil {
				b.Fatal(err)
			}
			size, points := 0, 0
			for b.Loop() {
				size, points = 0, 0
				frames, _ := p.protocol.encode(iv)
				for _, f := range frames {
					size += len(f.data)
					points += f.points
				}
			}
			b.ReportMetric(float64(size), "B/interval")
			b.ReportMetric(float64(points), "points/interval")
		})
	}
}

// docs/sinks.md names every figure that is sent, and what it is called in docs/metrics.md.
func TestFiguresAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/sinks.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for p := range sample().points(detail{times: true, routes: true, tasks: true, callers: true}) {
		names = append(names, p.Name)
	}
	for _, f := range summary(new(metrics.Histogram)) {
		names = append(names, f.name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !bytes.Contains(doc, []byte("`"+name+"`")) {
			t.Errorf("docs/sinks.md does not name %s", name)
		}
	}
}
