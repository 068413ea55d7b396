package metrics

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	httpLine = `SB1 H 18758 web 5 200 ---- "/shop/cart:0" shop_cart_0 s1 10.0.0.1:31000 192.168.7.9:54914 1795230849 532 0 12 1 2 3 40 47 1795230849533717 45279 46100 1843 73 0 0 0 - - "GET" "HTTP/1.1" "shop.local" "/cart/7"`
	tcpLine  = `SB1 T 18758 port_9000 3 sD-- "/db:0" db_0 s2 10.0.0.2:31001 192.168.7.9:54915 1795230849 532 0 0 1 3001 17 233 +1 4 5 TLSv1.3 TLS_AES_256_GCM_SHA384`
)

// TestParse reads each golden file: lines in the part "lines", what they say in "records".
func TestParse(t *testing.T) {
	files, err := filepath.Glob("testdata/parse/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			var r Record
			for line := range strings.Lines(string(ar.Files[0].Data)) {
				err := Parse([]byte(line), &r)
				got.WriteString(describe(&r, err))
			}
			if *update {
				ar.Files = append(ar.Files[:1], txtar.File{Name: "records", Data: []byte(got.String())})
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) < 2 {
				t.Fatal("no part \"records\": run with -update")
			}
			if diff := cmp.Diff(string(ar.Files[1].Data), got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func describe(r *Record, err error) string {
	if err != nil {
		return fmt.Sprintf("error %v accounted=%v source=%q seq=%d\n", err, r.Accounted, r.Source, r.Seq)
	}
	switch r.Kind {
	case KindDropped:
		return fmt.Sprintf("dropped %d\n", r.Dropped)
	case KindNotice:
		if len(r.Client) > 0 {
			return fmt.Sprintf("failed connection severity=%d frontend=%s client=%s accepted=%d %q\n", r.Severity, r.Frontend, r.Client, r.Accepted, r.Text)
		}
		return fmt.Sprintf("notice severity=%d %q\n", r.Severity, r.Text)
	}
	end := DecodeTermination(r.Termination)
	return fmt.Sprintf("kind=%d pid=%d frontend=%s seq=%d status=%d end=%s/%s service=%q backend=%s server=%s addr=%s client=%s"+
		" accepted=%d handshake=%d idle=%d read=%d queue=%d connect=%d response=%d total=%d us=%d/%d/%d"+
		" in=%d out=%d retries=%d redispatched=%v queues=%d/%d tls=%s/%s %q %q %q %q truncated=%v duration=%dus firstbyte=%dus\n",
		r.Kind, r.PID, r.Frontend, r.Seq, r.Status, end.Cause, end.Phase, r.Service, r.Backend, r.Server, r.ServerAddr, r.Client,
		r.Accepted, r.Handshake, r.Idle, r.Read, r.Queue, r.Connect, r.Response, r.Total,
		r.RequestMicros, r.ResponseMicros, r.TotalMicros,
		r.BytesIn, r.BytesOut, r.Retries, r.Redispatched, r.ServerQueue, r.BackendQueue, r.TLSVersion, r.TLSCipher,
		r.Method, r.Version, r.Host, r.Path, r.Truncated, r.Duration(), r.FirstByte())
}

// A line that is cut anywhere says what it said before the cut, or is refused: no field takes another's value, and no number
// that may have lost digits is taken.
func TestParseCut(t *testing.T) {
	for _, line := range []string{httpLine, tcpLine} {
		var whole, r Record
		if err := Parse([]byte(line), &whole); err != nil {
			t.Fatal(err)
		}
		known := strings.Index(line, `" `) + 2
		for cut := range len(line) {
			err := Parse([]byte(line[:cut]), &r)
			switch {
			case cut < known && err == nil && r.Kind != KindNotice:
				t.Errorf("cut at %d, before the end of the service's name: no error: %s", cut, describe(&r, nil))
			case cut >= known && err != nil:
				t.Errorf("cut at %d: %v", cut, err)
			case cut >= known && (!r.Truncated && r.Kind == KindHTTP || !bytes.Equal(r.Service, whole.Service) || r.Status != whole.Status):
				t.Errorf("cut at %d: %s", cut, describe(&r, nil))
			}
			if r.Accounted && (!bytes.Equal(r.Source, whole.Source) || r.Seq != whole.Seq) {
				t.Errorf("cut at %d: accounted to %q %d", cut, r.Source, r.Seq)
			}
			if r.BytesIn != 0 && r.BytesIn != whole.BytesIn || r.Total > 0 && r.Total != whole.Total || r.Retries != 0 && r.Retries != whole.Retries {
				t.Errorf("cut at %d: half a number was taken: %s", cut, describe(&r, nil))
			}
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	var r Record
	for _, line := range []string{httpLine, tcpLine, "<5>12 events dropped", "<134>Nov 21 03:10:49 host haproxy[7]: x", "SB1 H 1 web x"} {
		b := []byte(line)
		if n := testing.AllocsPerRun(100, func() { _ = Parse(b, &r) }); n != 0 {
			t.Errorf("%v allocations for %q", n, line)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		httpLine, tcpLine, "<6>" + httpLine, "", "SB1", "SB2 H 1 web 0", "<5>1 event dropped", "<5>99999999999999999999 events dropped",
		"<134>1 2026-11-21T03:10:49.125701+00:00 - haproxy 17390 - - " + httpLine,
		"<134>Nov 21 03:10:49 host haproxy[17390]: " + httpLine,
		"<1>Server be/s1 is DOWN, info: \"]: " + httpLine,
		strings.Replace(httpLine, "shop.local", "a\x00\nSB1 H", 1), httpLine[:100],
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		var r Record
		err := Parse(line, &r)
		if !bytes.Equal(before, line) {
			t.Fatal("the line was changed")
		}
		var reason Reason
		if err != nil && (!errors.As(err, &reason) || reason != r.Reason || reason == ReasonNone) {
			t.Fatalf("error %v, reason %v", err, r.Reason)
		}
		if err != nil {
			return
		}
		if r.Kind == KindHTTP || r.Kind == KindTCP {
			if r.Accounted == r.Standard || r.PID < 0 || r.Duration() < 0 || r.FirstByte() < -1 {
				t.Fatalf("%s", describe(&r, nil))
			}
			for _, field := range [][]byte{r.Frontend, r.Service, r.Backend, r.Server, r.Client, r.Method, r.Host, r.Path} {
				for _, c := range field {
					if c < ' ' || c >= 0x7f || c == '"' {
						t.Fatalf("field %q has a byte that must not pass", field)
					}
				}
			}
			if !r.Standard && line[0] != '<' && !bytes.HasPrefix(new(parser).cutHeader(line, &Record{}), []byte(mark+" ")) {
				t.Fatalf("a record out of the middle of a line")
			}
		}
		terminationAt(terminationIndex(r.Termination))
	})
}

func BenchmarkParse(b *testing.B) {
	for name, line := range map[string]string{"http": httpLine, "tcp": tcpLine} {
		b.Run(name, func(b *testing.B) {
			buf := []byte("<6>" + line)
			var r Record
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				_ = Parse(buf, &r)
			}
		})
	}
}
