package sink

import (
	"context"
	"strconv"
	"strings"
	"time"

	"signalbox/metrics"
)

// statsD sends lines such as signalbox.shop_cart_0.requests:5|c in datagrams. Counts are those of the interval, and bear no node: the
// server adds them up.
type statsD struct {
	at     address
	prefix string
	node   string
	tags   bool // DogStatsD's, in the place of parts of the name
	mtu    int  // most bytes of a datagram
	want   detail
	times  string // none, summary, buckets
}

// The most bytes of a datagram: one packet on an Ethernet, less what IPv6 and a tunnel take; DogStatsD's own bound on a socket of the machine.
const (
	mtuUDP  = 1432
	mtuUnix = 8192
)

func newStatsD(at address, o *options) protocol {
	s := &statsD{at: at, prefix: o.text("prefix", "signalbox"), node: o.in.Node, mtu: mtuUDP}
	if at.network == "unix" {
		s.mtu = mtuUnix
	} else {
		s.at.network = "udp"
	}
	s.tags = o.choice("tags", "none", "datadog") == "datadog"
	s.mtu = o.number("mtu", s.mtu, 256, 65507)
	s.want, s.times = o.detail("none", "summary", "buckets")
	if strings.ContainsAny(s.prefix, ":|@#") {
		o.wrong("prefix", "may have none of : | @ #")
	}
	return s
}

func (s *statsD) encode(iv *Interval) (frames []frame, tooLong int) {
	var now frame
	var words services
	line := func(text string) {
		if len(text) > s.mtu {
			tooLong++
			return
		}
		if len(now.data) > 0 && len(now.data)+1+len(text) > s.mtu {
			frames, now = append(frames, now), frame{}
		}
		if len(now.data) > 0 {
			now.data = append(now.data, '\n')
		}
		now.data = append(now.data, text...)
		now.points++
	}
	for p := range iv.points(s.want) {
		if p.Times == nil {
			if p.Count > 0 {
				line(s.line(&words, p, "", strconv.FormatUint(p.Count, 10)+"|c"))
			}
			continue
		}
		if s.times == "buckets" {
			for ms, n := range times(p.Times) {
				line(s.line(&words, p, "", number(ms)+"|ms"+rate(n)))
			}
			continue
		}
		for _, f := range summary(p.Times) {
			line(s.line(&words, p, f.name, number(f.ms)+"|g"))
		}
	}
	if len(now.data) > 0 {
		frames = append(frames, now)
	}
	return frames, tooLong
}

// line returns one line. The name of a gauge says of which node it is, because the server would put one node's in the place of another's.
func (s *statsD) line(words *services, p *Point, gauge, value string) string {
	var name []string
	if s.prefix != "" {
		name = append(name, s.prefix)
	}
	if s.tags {
		name = append(name, p.Name)
		tags := p.tags(":", ",|#")
		if gauge != "" {
			name, tags = append(name, gauge), append(tags, "node:"+tagValue(s.node, ",|#"))
		}
		if len(tags) > 0 {
			value += "|#" + strings.Join(tags, ",")
		}
		return strings.Join(name, ".") + ":" + value
	}
	name = p.dotted(name, words)
	if gauge != "" {
		name = append(name, nodeWord(s.node), gauge)
	}
	return strings.Join(name, ".") + ":" + value
}

// times yields the middle of each bucket that holds anything, in ms, and how many times it holds.
func times(h *metrics.Histogram) func(yield func(ms float64, n uint64) bool) {
	return func(yield func(float64, uint64) bool) {
		if h.Zero() > 0 && !yield(0, h.Zero()) {
			return
		}
		for i, n := range h.Buckets() {
			if !yield(milliseconds(middle(i)), n) {
				return
			}
		}
	}
}

// rate returns the sampling rate by which a server counts a time n times: "|@0.25" for 4. Servers divide 1 by it and cut the fraction off,
// so it is never a little too large.
func rate(n uint64) string {
	if n == 1 {
		return ""
	}
	return "|@" + number(oneIn(n))
}

// A burst is smaller than what the least of servers' sockets holds, and the pause is enough for it to be read.
const (
	burst = 8 // datagrams
	pause = 5 * time.Millisecond
)

// send implements protocol. A datagram that a machine refuses, because nobody listens, is sent again; what gets lost elsewhere nobody knows.
func (s *statsD) send(ctx context.Context, frames []frame, settled func(string)) error {
	network := s.at.network
	if network == "unix" {
		network = "unixgram"
	}
	conn, err := s.at.dial(ctx, network)
	if err != nil {
		return err
	}
	defer conn.Close()
	for len(frames) > 0 {
		some := frames[:min(burst, len(frames))]
		for i, f := range some {
			if _, err := conn.Write(f.data); err != nil {
				return failed("write", err)
			}
			// Nobody listens: on this machine that is known at once, of others at the end of the burst.
			if err := refusal(conn); err != nil {
				return failed("refused", err)
			}
			if i < len(some)-1 {
				settled("")
			}
		}
		if network == "udp" {
			if err := wait(ctx, pause); err != nil {
				return failed("write", err)
			}
			if err := refusal(conn); err != nil {
				return failed("refused", err)
			}
		}
		settled("")
		frames = frames[len(some):]
	}
	return nil
}
