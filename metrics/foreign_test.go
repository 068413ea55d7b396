package metrics

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signalbox/test/ports"
)

// feedForeign hands lines of a HAProxy that is not ours to an aggregator.
func feedForeign(a *Aggregator, sender string, at time.Time, lines ...string) {
	b := &Batch{Foreign: true, Sender: sender, Source: foreignSources + 1, At: at, Records: make([]Record, len(lines))}
	for i, l := range lines {
		_ = Parse([]byte(l), &b.Records[i])
	}
	a.Consume(b)
}

// numbered are lines of worker 7 with these numbers.
func numbered(seqs ...int) (lines []string) {
	for _, n := range seqs {
		lines = append(lines, line(7, "web", n, "/a:0", "10.0.0.1:1", 200, 10))
	}
	return lines
}

// Where foreign lines are numbered, what is missing between them is lost, by whatever way; workers of several machines are told apart by the sender.
func TestForeignNumbers(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	want := func(what string, l Loss) {
		t.Helper()
		if diff := cmp.Diff(l, a.Loss()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	feedForeign(a, "10.0.0.7", epoch, numbered(500, 501, 503, 502)...)
	feedForeign(a, "10.0.0.8", epoch, numbered(90_000, 90_001)...)
	feedForeign(a, "10.0.0.7", epoch, numbered(504)...)
	want("nothing is lost", Loss{Sent: 7, Counted: 7})
	feedForeign(a, "10.0.0.7", epoch, numbered(515)...)
	want("ten lines are missing", Loss{Sent: 18, Counted: 8, Lost: 10})
	a.Consume(&Batch{Foreign: true, At: epoch, Dropped: 4})
	want("the kernel dropped four of them", Loss{Sent: 18, Counted: 8, Lost: 10, Kernel: 4})
	feedForeign(a, "10.0.0.8", epoch, httplogLine)
	a.Consume(&Batch{Foreign: true, At: epoch, Dropped: 9})
	want("and three that had no numbers", Loss{Sent: 22, Counted: 9, Lost: 13, Kernel: 13})
	feedForeign(a, "10.0.0.7", epoch, "<5>2 events dropped")
	want("the ring says of two that it had no room", Loss{Sent: 24, Counted: 9, Lost: 15, Kernel: 13, Ring: 2})
	before := a.Loss()
	a.Tick(epoch.Add(foreignIdle + time.Second))
	want("silent workers are closed", before)
	feedForeign(a, "10.0.0.7", epoch.Add(time.Hour), numbered(516, 517)...)
	want("and go on", Loss{Sent: 26, Counted: 11, Lost: 15, Kernel: 13, Ring: 2})
}

// A worker with the id of one before begins anew; several that come by one relay, with the same id, make no loss that is none.
func TestForeignWorkersOfOneID(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	feedForeign(a, "r", epoch, numbered(100_000, 100_001)...)
	feedForeign(a, "r", epoch.Add(time.Minute), numbered(2, 3, 6)...)
	if diff := cmp.Diff(Loss{Sent: 7, Counted: 5, Lost: 2}, a.Loss()); diff != "" {
		t.Errorf("a restart (-want +got)\n%s", diff)
	}
	a.Tick(epoch.Add(30 * time.Minute))
	var mixed []string
	for i := range 50 {
		mixed = slices.Concat(mixed, numbered(900_000+i, 7+i))
	}
	feedForeign(a, "r", epoch.Add(time.Hour), mixed...)
	if l := a.Loss(); l.Counted != 105 || l.Lost != 2 || l.Sent != 107 {
		t.Errorf("two workers of one id: %+v", l)
	}
}

// However many machines send, not more than so many are followed, and all are counted.
func TestForeignSendersAreBounded(t *testing.T) {
	a := NewAggregator(AggregatorConfig{})
	for i := range maxSenders + 500 {
		feedForeign(a, itoa(i), epoch, numbered(5)...)
	}
	if l := a.Loss(); l.Counted != maxSenders+500 || l.Lost != 0 || len(a.foreigners.senders) != maxSenders {
		t.Errorf("%d followed: %+v", len(a.foreigners.senders), l)
	}
	before := a.Loss()
	a.Tick(epoch.Add(foreignIdle + time.Second))
	if n := len(a.foreigners.senders); n != 0 || a.Loss() != before {
		t.Errorf("%d are followed that are silent: %+v became %+v", n, before, a.Loss())
	}
}

// A HAProxy that is not ours writes our format: what it sends while we are away is counted or told as lost, to the line, over each transport.
func TestForeignHAProxyWhileWeAreAway(t *testing.T) {
	dir := t.TempDir()
	udp, tcp := ports.Address(t), ports.Address(t)
	ring := "ring r\n  format short\n  maxlen 8192\n  size 4194304\n  timeout connect 1s\n  timeout server 60s\n  server s " + tcp + " log-proto octet-count\n"
	for _, c := range []struct {
		name, at, global, extra string
		keeps                   bool // it keeps what is written meanwhile
	}{
		{"udp", "udp://" + udp, "log " + udp + " len 8192 local0", "", false},
		{"unix datagram", "unixgram://" + dir + "/away.sock", "log " + dir + "/away.sock len 8192 local0", "", false},
		{"ring over tcp", "tcp://" + tcp, "log ring@r len 8192 local0", ring, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			agg := NewAggregator(AggregatorConfig{})
			p := takeForeign(t, agg, c.at)
			address := foreignHAProxyWriting(t, "log-format '"+LogFormat+"'", c.global, c.extra)
			const each = 300
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			ask := func() {
				t.Helper()
				for range each {
					resp, err := client.Get("http://" + address + "/x")
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
				}
			}
			ask()
			eventually(t, "the first requests are counted, and the connection that looked whether HAProxy listens", func() bool { return agg.Loss().Counted == each+1 })
			p.stop()
			ask()
			takeForeign(t, agg, c.at)
			ask()
			eventually(t, "all that was sent is counted or known to be lost", func() bool { return agg.Loss().Sent == 3*each+1 })
			switch l := agg.Loss(); {
			case l.Sent != l.Counted+l.Lost || l.Bad != 0:
				t.Errorf("it does not add up: %+v", l)
			case c.keeps && l.Lost > 4, !c.keeps && (l.Lost < each || l.Lost > each+8): // a send or two meets the error of the one before
				t.Errorf("%d requests came while we were away: %+v", each, l)
			}
		})
	}
}
