package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// writtenLog is a log with every kind of line.
func writtenLog(lines int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for i := range lines {
		at := fmt.Sprintf("25/Nov/2026:23:%02d:%02d.%03d", i/60000%60, i/1000%60, i%1000)
		head := fmt.Sprintf("<134>Nov 25 23:46:31 slave-07 haproxy[3]: 10.0.0.1:%d [%s] ", 1024+i%50000, at)
		switch n := rnd.IntN(40); n {
		case 0:
			b.WriteString("Server shop/s1 is DOWN\n")
		case 1:
			b.WriteString(head + "web/1: SSL handshake failure\n")
		case 2:
			b.WriteString(head + "web web/<NOSRV> 0/-1/-1/-1/0 503 217 - - SC-- 1/1/0/0/0 0/0 \"GET /nowhere HTTP/1.1\"\n")
		case 3:
			b.WriteString(head + "web web/<NOSRV> -1/-1/-1/-1/5 400 0 - - PR-- 1/1/0/0/0 0/0 \"<BADREQ>\"\n")
		case 4:
			b.WriteString(head + "listen listen/<NOSRV> 0/-1/-1/-1/0 503 217 - - SC-- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"\n")
		case 5:
			b.WriteString(head + "web shop/s1 0/x\n\n")
		case 6:
			fmt.Fprintf(&b, "%slisten listen/s1 0/0/1/%d/%d 200 217 - - ---- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"\n", head, n, n+1)
		case 7:
			fmt.Fprintf(&b, "%sdb db/s%d 0/1/%d 433 -- 1/1/0/0/0 0/0\n", head, n%3, rnd.IntN(90000))
		case 8:
			b.WriteString(httpLine + "\n")
		default:
			fmt.Fprintf(&b, "%sweb~ shop_%d/10_0_0_%d_31000 0/%d/1/%d/%d %d 433 - - ---- 1/1/0/0/%d 0/0 {a|b} \"GET /x/%d?y HTTP/1.1\"\n",
				head, n, rnd.IntN(9), rnd.IntN(3), rnd.IntN(500), rnd.IntN(900), 200+100*rnd.IntN(4), rnd.IntN(2), i)
		}
	}
	return b.Bytes()
}

// However a log is cut into blocks, and whoever reads them, the figures are the same.
func TestReplayMergesExactly(t *testing.T) {
	log := writtenLog(20_000)
	var first *Replayed
	for _, cfg := range []ReplayConfig{{Workers: 1, Block: 16 << 20}, {Workers: 1, Block: 777}, {Workers: 7, Block: 5000}, {}} {
		for _, r := range []io.Reader{bytes.NewReader(log), iotest.HalfReader(bytes.NewReader(log)), iotest.DataErrReader(bytes.NewReader(log))} {
			got, err := NewReplay(cfg).Run(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = got
				continue
			}
			if diff := cmp.Diff(first, got, cmp.Comparer(func(a, b Histogram) bool {
				x, _ := a.MarshalJSON()
				y, _ := b.MarshalJSON()
				return bytes.Equal(x, y)
			})); diff != "" {
				t.Fatalf("%+v (-first +got)\n%s", cfg, diff)
			}
		}
	}
	if want := uint64(bytes.Count(log, []byte("\n"))); first.Lines != want {
		t.Errorf("%d lines, want %d", first.Lines, want)
	}
	bad := uint64(0)
	for _, n := range first.Bad {
		bad += n
	}
	if first.Requests+first.Notices+first.Failed+bad != first.Lines || first.Failed == 0 || first.Notices == 0 || first.Bad[ReasonTruncated]+first.Bad[ReasonField] == 0 {
		t.Errorf("the lines do not add up: %+v", first)
	}
	// What the frontend answered itself belongs to nobody; the listen section's outage is the listen section's.
	if first.Snapshot.Service("web") != nil {
		t.Error("a frontend is taken for a service")
	}
	none, listen := first.Snapshot.Service(NoService), first.Snapshot.Service("listen")
	count := func(words string) uint64 { return uint64(bytes.Count(log, []byte(words))) }
	if none == nil || none.Requests != count("web/<NOSRV>") || none.Errors() != count("web/<NOSRV> 0/") {
		t.Errorf("none: %+v", none)
	}
	if listen == nil || listen.Requests != count(" listen/") || listen.Errors() != count("listen/<NOSRV>") {
		t.Errorf("listen: %+v", listen)
	}
	if own := first.Snapshot.Service("/shop/cart:0"); own == nil || own.Requests != count("SB1 H") {
		t.Errorf("our own format: %+v", own)
	}
}

func TestReplayOfOddLogs(t *testing.T) {
	line := `10.0.0.1:4 [25/Nov/2026:23:46:32.152] web shop/s1 0/0/0/1/300 200 500 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`
	f := func(name, log string, check func(r *Replayed) bool) {
		t.Helper()
		for _, workers := range []int{1, 3} {
			got, err := NewReplay(ReplayConfig{Workers: workers, Block: 1024}).Run(t.Context(), strings.NewReader(log))
			if err != nil || !check(got) {
				t.Errorf("%s: %v: %+v", name, err, got)
			}
		}
	}
	f("nothing", "", func(r *Replayed) bool { return r.Lines == 0 && r.From.IsZero() && r.To.IsZero() })
	f("no newline", line, func(r *Replayed) bool { return r.Lines == 1 && r.Requests == 1 })
	f("a long line", line+"\n"+strings.Repeat("x", 5000)+"\n"+line+"\n", func(r *Replayed) bool {
		return r.Lines == 3 && r.Requests == 2 && r.Bad[ReasonTooLong] == 1
	})
	f("a long last line", line+"\n"+strings.Repeat("x", 5000), func(r *Replayed) bool {
		return r.Lines == 2 && r.Requests == 1 && r.Bad[ReasonTooLong] == 1
	})
	f("a journal", "__CURSOR=s=1\n_PID=12\nMESSAGE="+line+"\n_HOSTNAME=x\n\n__CURSOR=s=2\nMESSAGE="+line+"\n\n", func(r *Replayed) bool {
		return r.Lines == 2 && r.Requests == 2
	})
	f("zeros", strings.Repeat("\x00", 3000), func(r *Replayed) bool { return r.Requests == 0 && r.Lines == 1 })
	f("many servers", func() string {
		var b strings.Builder
		for i := range 3000 {
			fmt.Fprintln(&b, strings.Replace(line, "shop/s1", fmt.Sprintf("shop%d/s%d", i%7, i), 1))
		}
		return b.String()
	}(), func(r *Replayed) bool { return r.Requests == 3000 && len(r.Snapshot.Services) == 7 })
}

func TestReplayEnds(t *testing.T) {
	broken := errors.New("broken disk")
	got, err := NewReplay(ReplayConfig{}).Run(t.Context(), io.MultiReader(strings.NewReader(tcplogLine+"\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || got.Requests != 1 {
		t.Errorf("%v, %+v", err, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewReplay(ReplayConfig{}).Run(ctx, iotest.ErrReader(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func BenchmarkReplay(b *testing.B) {
	lines := 50_000
	log := bytes.Repeat([]byte(httplogLine+"\n"), lines)
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		if _, err := NewReplay(ReplayConfig{Workers: 1}).Run(b.Context(), bytes.NewReader(log)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/line")
}
