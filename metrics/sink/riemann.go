package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"signalbox/metrics"
)

// riemann sends events in protobuf messages over TCP, each of which the server answers. An event's service is what it is about, "/shop/cart:0
// requests"; its attributes are the labels; counts are those of the interval, so that Riemann's rate and sums are right.
type riemann struct {
	at                address
	prefix            string
	node              string
	tags              []string
	ttl               float32 // seconds
	warning, critical float64 // share of requests that failed
	want              detail
}

func newRiemann(at address, o *options) protocol {
	r := &riemann{at: at, prefix: o.text("prefix", ""), node: o.in.Node}
	r.tags = append([]string{"signalbox"}, o.list("tag")...)
	r.ttl = float32(o.number("ttl", int(math.Ceil(3*o.in.Interval.Seconds())), 1, 86400))
	r.warning, r.critical = o.share("warning", 0.01), o.share("critical", 0.05)
	if r.warning > r.critical {
		o.wrong("warning", "is larger than critical")
	}
	r.want, _ = o.detail("none", "summary")
	return r
}

// event is one of Riemann's events.
type event struct {
	service, state, description string
	attributes                  []Label
	count                       uint64
	figure                      float64
	counts                      bool // count is the metric, not figure
}

// messageFrame is about how many bytes of events make a message. Riemann takes 16 MiB.
const messageFrame = 32 << 10

func (r *riemann) encode(iv *Interval) (frames []frame, tooLong int) {
	var now frame
	put := func(e event) {
		now.data = protowire.AppendTag(now.data, 6, protowire.BytesType) // Msg.events
		now.data = protowire.AppendBytes(now.data, r.event(&e, iv.To))
		now.points++
		if len(now.data) >= messageFrame {
			frames, now = append(frames, now), frame{}
		}
	}
	for p := range iv.points(r.want) {
		e := event{state: "ok", attributes: p.Labels}
		var name []string
		for _, part := range []string{r.prefix, p.Service} {
			if part != "" {
				name = append(name, part)
			}
		}
		if p.Service != "" {
			e.attributes = append([]Label{{"service_id", p.Service}}, p.Labels...)
		}
		name = append(name, p.Name)
		for _, l := range p.Labels {
			if l.Value != "" {
				name = append(name, l.Value)
			}
		}
		e.service = strings.Join(name, " ")
		if p.Times == nil {
			e.counts, e.count = true, p.Count
			put(e)
			continue
		}
		base := e.service
		for _, f := range summary(p.Times) {
			e.service, e.figure = base+" "+f.name, f.ms
			put(e)
		}
	}
	for i := range iv.Delta.Services {
		for _, e := range r.judged(&iv.Delta.Services[i], iv.To.Sub(iv.From)) {
			put(e)
		}
	}
	if len(now.data) > 0 {
		frames = append(frames, now)
	}
	return frames, 0
}

// The burn rates at which an error budget of 30 days is gone in 5 and in 2 days, as alerts usually have them.
const burnWarning, burnCritical = 6, 14.4

// judged returns the events with a state of their own: how large a share of the requests failed, and how fast the budget of an objective burns.
func (r *riemann) judged(s *metrics.ServiceTotals, span time.Duration) []event {
	name := func(what string) string { return strings.TrimSpace(r.prefix + " " + s.Service + " " + what) }
	attributes := []Label{{"service_id", s.Service}}
	ratio := 0.0
	if s.Requests > 0 {
		ratio = float64(s.Errors()) / float64(s.Requests)
	}
	out := []event{{
		service: name("error_ratio"), state: level(ratio, r.warning, r.critical), attributes: attributes, figure: ratio,
		description: fmt.Sprintf("%d of %d requests were answered 500 or more within %s", s.Errors(), s.Requests, span.Round(time.Second)),
	}}
	if s.SLO != nil && s.SLO.Share > 0 && s.SLO.Share < 1 {
		burn := 0.0
		if s.SLO.Judged > 0 {
			burn = float64(s.SLO.Judged-s.SLO.Good) / float64(s.SLO.Judged) / (1 - s.SLO.Share)
		}
		out = append(out, event{
			service: name("slo_burn_rate"), state: level(burn, burnWarning, burnCritical), attributes: attributes, figure: burn,
			description: fmt.Sprintf("%d of %d requests were not as the objective asks within %s", s.SLO.Judged-s.SLO.Good, s.SLO.Judged, span.Round(time.Second)),
		})
	}
	return out
}

func level(x, warning, critical float64) string {
	switch {
	case x >= critical:
		return "critical"
	case x >= warning:
		return "warning"
	}
	return "ok"
}

// event returns the bytes of one Event. The numbers are those of Riemann's proto.proto.
func (r *riemann) event(e *event, at time.Time) []byte {
	var b []byte
	text := func(field protowire.Number, s string) {
		if s != "" {
			b = protowire.AppendTag(b, field, protowire.BytesType)
			b = protowire.AppendString(b, strings.ToValidUTF8(s, "\uFFFD"))
		}
	}
	b = protowire.AppendTag(b, 1, protowire.VarintType) // time, in seconds
	b = protowire.AppendVarint(b, uint64(at.Unix()))
	text(2, e.state)
	text(3, e.service)
	text(4, r.node)
	text(5, e.description)
	for _, tag := range r.tags {
		text(7, tag)
	}
	b = protowire.AppendTag(b, 8, protowire.Fixed32Type)
	b = protowire.AppendFixed32(b, math.Float32bits(r.ttl))
	for _, l := range e.attributes {
		var pair []byte
		pair = protowire.AppendTag(pair, 1, protowire.BytesType)
		pair = protowire.AppendString(pair, l.Name)
		pair = protowire.AppendTag(pair, 2, protowire.BytesType)
		pair = protowire.AppendString(pair, strings.ToValidUTF8(l.Value, "\uFFFD"))
		b = protowire.AppendTag(b, 9, protowire.BytesType)
		b = protowire.AppendBytes(b, pair)
	}
	b = protowire.AppendTag(b, 10, protowire.VarintType) // time_micros
	b = protowire.AppendVarint(b, uint64(at.UnixMicro()))
	if e.counts {
		b = protowire.AppendTag(b, 13, protowire.VarintType) // metric_sint64
		return protowire.AppendVarint(b, protowire.EncodeZigZag(int64(e.count)))
	}
	b = protowire.AppendTag(b, 14, protowire.Fixed64Type) // metric_d
	return protowire.AppendFixed64(b, math.Float64bits(e.figure))
}

// mostAnswer is the size of the largest answer that is read.
const mostAnswer = 64 << 10

// send implements protocol. A message that is answered with an error is dropped: it would be refused again. One without an answer is sent again.
func (r *riemann) send(ctx context.Context, frames []frame, settled func(string)) error {
	conn, err := r.at.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	var refused error
	for _, f := range frames {
		message := binary.BigEndian.AppendUint32(nil, uint32(len(f.data)))
		if _, err := conn.Write(append(message, f.data...)); err != nil {
			return failed("write", err)
		}
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return failed("answer", err)
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > mostAnswer {
			return failed("answer", fmt.Errorf("an answer of %d bytes", n))
		}
		answer := make([]byte, n)
		if _, err := io.ReadFull(conn, answer); err != nil {
			return failed("answer", err)
		}
		switch ok, text, err := readAnswer(answer); {
		case err != nil:
			return failed("answer", err)
		case ok:
			settled("")
		default:
			settled("rejected")
			refused = failed("answer", fmt.Errorf("the server says: %.200q", text))
		}
	}
	return refused
}

// readAnswer reads a Msg: whether it is ok, and which error it names.
func readAnswer(b []byte) (ok bool, text string, err error) {
	broken := errors.New("the answer is no message of Riemann's")
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false, "", broken
		}
		b = b[n:]
		switch {
		case field == 2 && kind == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			ok = n > 0 && protowire.DecodeBool(v)
		case field == 3 && kind == protowire.BytesType:
			var s []byte
			s, n = protowire.ConsumeBytes(b)
			text = string(slices.Clone(s))
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return false, "", broken
		}
		b = b[n:]
	}
	return ok, text, nil
}
