package metrics

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What a stopping worker's ring holds counts from the line on that its connection did not bring, in whichever order the end of the
// connection, the readings and the worker's end become known.
func TestConsumeRing(t *testing.T) {
	const pid = 7
	row := func(seq int) string { return line(pid, "web", seq, "/a:0", "-:-", 200, seq) }
	rows := func(from, to int) string {
		var b strings.Builder
		for seq := from; seq < to; seq++ {
			b.WriteString(row(seq) + "\n")
		}
		return b.String()
	}
	type step func(*Aggregator)
	send := func(from, to int) step {
		return func(a *Aggregator) {
			for seq := from; seq < to; seq++ {
				b := Batch{Records: make([]Record, 1), Source: 1, At: epoch}
				_ = Parse([]byte(row(seq)), &b.Records[0])
				a.Consume(&b)
			}
		}
	}
	hangUp := func(seq int) step {
		return func(a *Aggregator) { a.Consume(&Batch{Source: 1, At: epoch, Closed: true, Last: []byte(row(seq))}) }
	}
	read := func(text string, all bool) step { return func(a *Aggregator) { a.ConsumeRing(pid, []byte(text), all) } }
	look := func(ws ...WorkerStat) step { return func(a *Aggregator) { a.Reconcile(ws) } }
	old := func(total, conns uint64) WorkerStat {
		w := stat(pid, total, conns)
		w.Stopping = true
		return w
	}

	for name, c := range map[string]struct {
		steps []step
		want  Loss
	}{
		"the rest is in the ring": {
			[]step{send(0, 3), hangUp(2), read(rows(0, 5), true)}, Loss{Sent: 5, Counted: 5},
		},
		"the end of the connection is read after the ring": {
			[]step{send(0, 3), read(rows(0, 5), true), send(3, 4), hangUp(3)}, Loss{Sent: 5, Counted: 5},
		},
		"before that nothing is counted twice": {
			[]step{send(0, 2), read(rows(0, 5), false)}, Loss{Sent: 2, Counted: 2},
		},
		"read again and again": {
			[]step{send(0, 3), hangUp(2), read(rows(0, 4), false), read(rows(0, 4), false), read(rows(0, 7), true)}, Loss{Sent: 7, Counted: 7},
		},
		"nothing more": {
			[]step{send(0, 3), hangUp(2), read(rows(0, 3), true), read(rows(0, 3), true)}, Loss{Sent: 3, Counted: 3},
		},
		"the ring has forgotten the last line that came": {
			[]step{send(0, 3), hangUp(2), read(rows(6, 9), true)}, Loss{Sent: 9, Counted: 6, Lost: 3},
		},
		"lines that the connection lost before its end stay lost": {
			[]step{send(0, 3), send(5, 6), hangUp(5), read(rows(0, 8), true)}, Loss{Sent: 8, Counted: 6, Lost: 2},
		},
		"half a line at the end of the connection is a line of the ring": {
			[]step{send(0, 1), hangUp(0), read("half of "+row(0)+"\n"+rows(0, 2), true)}, Loss{Sent: 2, Counted: 2},
		},
		"a worker that sent nothing is read at its end": {
			[]step{look(old(2, 1)), read(rows(0, 2), true), look(), look()}, Loss{Sent: 2, Counted: 2},
		},
		"an unfinished reading of a worker that sent nothing is used at its end": {
			[]step{look(old(3, 1)), read(rows(0, 2), false), look(), look()}, Loss{Sent: 2, Counted: 2, Unsure: 2},
		},
		"what is still in the ring is no loss": {
			[]step{send(0, 3), hangUp(2), read(rows(0, 3), false), look(old(5, 0)), look(old(5, 0)), look(old(5, 0))}, Loss{Sent: 3, Counted: 3},
		},
		"the last reading leaves nothing unsure": {
			[]step{send(0, 3), look(old(3, 4)), hangUp(2), read(rows(0, 5), true), look(), look()}, Loss{Sent: 5, Counted: 5},
		},
		"a reading after the account was closed": {
			[]step{send(0, 3), hangUp(2), read(rows(0, 5), true), look(), look(), read(rows(0, 5), true), look(), look()}, Loss{Sent: 5, Counted: 5},
		},
		"without a last reading each connection is unsure": {
			[]step{send(0, 3), look(old(3, 4)), hangUp(2), read(rows(0, 5), false), look(), look()}, Loss{Sent: 5, Counted: 5, Unsure: 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := NewAggregator(AggregatorConfig{Started: epoch})
			for _, s := range c.steps {
				s(a)
			}
			if diff := cmp.Diff(c.want, a.Loss()); diff != "" {
				t.Errorf("account (-want +got)\n%s", diff)
			}
			if got := a.Snapshot(epoch).Total().Requests; got != c.want.Counted {
				t.Errorf("%d requests in the totals, %d in the account", got, c.want.Counted)
			}
		})
	}
}

// Whatever part came over the connection, and however often the ring is read, each line counts once.
func TestConsumeRingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 40).Draw(t, "lines")
		sent := rapid.IntRange(0, total).Draw(t, "sent")
		a := NewAggregator(AggregatorConfig{Started: epoch})
		next := map[string]int{}
		lines := make([]string, total)
		for i := range lines {
			frontend := rapid.SampledFrom([]string{"web", "db"}).Draw(t, "frontend")
			lines[i] = line(7, frontend, next[frontend], "/a:0", "-:-", 200, i)
			next[frontend]++
		}
		a.Reconcile([]WorkerStat{{PID: 7}})
		seen := sent
		read := func() {
			seen = rapid.IntRange(seen, total).Draw(t, "read")
			a.ConsumeRing(7, []byte(strings.Join(lines[:seen], "\n")), false)
		}
		for range rapid.IntRange(0, 3).Draw(t, "readings before the connection ends") {
			read()
		}
		last := ""
		for i := range sent {
			b := Batch{Records: make([]Record, 1), Source: 1, At: epoch}
			_ = Parse([]byte(lines[i]), &b.Records[0])
			a.Consume(&b)
			last = lines[i]
		}
		a.Consume(&Batch{Source: 1, At: epoch, Closed: true, Last: []byte(last)})
		for range rapid.IntRange(0, 3).Draw(t, "readings after it") {
			read()
		}
		a.ConsumeRing(7, []byte(strings.Join(lines, "\n")), true)
		a.Reconcile(nil)
		a.Reconcile(nil)
		if diff := cmp.Diff(Loss{Sent: uint64(total), Counted: uint64(total)}, a.Loss()); diff != "" {
			t.Fatalf("%d of %d lines came by the connection (-want +got)\n%s", sent, total, diff)
		}
	})
}

func TestLastLine(t *testing.T) {
	for _, c := range []struct {
		text, line string
		want       int
	}{
		{"a\nb\na", "a", 4}, {"a\nb\nca", "a", 0}, {"aa\naa", "a", -1}, {"", "a", -1}, {"a", "", -1}, {"ab\nabc", "ab", 0}, {"x", "x", 0},
	} {
		if got := lastLine([]byte(c.text), []byte(c.line)); got != c.want {
			t.Errorf("lastLine(%q, %q) = %d, want %d", c.text, c.line, got, c.want)
		}
	}
}
