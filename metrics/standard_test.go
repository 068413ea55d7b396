package metrics

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	httplogLine  = `<134>Nov 25 23:46:31 slave-07 haproxy[30891]: 10.18.3.112:45940 [25/Nov/2026:23:46:30.074] https~ shop_cart_10000/10_0_0_1_31000 0/12/1/34/57 200 2175 - - ---- 113/94/3/1/+2 4/5 {shop.example.com|Mozilla/5.0 (X11; Linux x86_64)|https://shop.example.com/} {text/html} "GET /catalogue/2387/pictures/large?size=600&format=webp HTTP/1.1"`
	httpslogLine = httplogLine + ` 0/0000000000000000/0/0/0 shop.example.com/TLSv1.3/TLS_AES_256_GCM_SHA384`
	tcplogLine   = `<134>Nov 25 23:46:36 slave-07 haproxy[30891]: 10.18.3.112:59778 [25/Nov/2026:23:46:35.746] db db_10001/10_0_0_1_31001 10/1/3018 8813 sD 12/3/0/0/+1 4/5`
	errorLine    = `<134>Nov 25 23:46:35 slave-07 haproxy[30891]: 10.18.3.112:49730 [25/Nov/2026:23:46:35.734] webs/1: Connection closed during SSL handshake`
)

var standardLines = map[string]string{"httplog": httplogLine, "httpslog": httpslogLine, "tcplog": tcplogLine, "errors": errorLine}

// A line that is cut anywhere is refused, or says no more than what it said before the cut.
func TestStandardCut(t *testing.T) {
	for name, line := range standardLines {
		var whole, r Record
		if err := Parse([]byte(line), &whole); err != nil || whole.Truncated {
			t.Fatalf("%s: %v: %s", name, err, describe(&whole, err))
		}
		for cut := range len(line) {
			err := Parse([]byte(line[:cut]), &r)
			if err != nil || r.Kind == KindNotice {
				continue
			}
			same := r.Kind == whole.Kind && bytes.Equal(r.Service, whole.Service) && bytes.Equal(r.Server, whole.Server) && r.Status == whole.Status &&
				r.BytesOut == whole.BytesOut && r.Accepted == whole.Accepted && r.Read == whole.Read && r.Queue == whole.Queue &&
				r.Connect == whole.Connect && r.Response == whole.Response && r.Total == whole.Total
			unknown := r.Termination == [4]byte{'-', '-', '-', '-'} && r.Retries == 0 && !r.Redispatched
			known := r.Termination == whole.Termination && r.Retries == whole.Retries && r.Redispatched
			behind := (len(r.Method) == 0 || bytes.Equal(r.Method, whole.Method)) && (len(r.Path) == 0 || bytes.Equal(r.Path, whole.Path)) &&
				(len(r.Version) == 0 || bytes.Equal(r.Version, whole.Version))
			if !same || !unknown && !known || !behind {
				t.Errorf("%s cut at %d: %s", name, cut, describe(&r, nil))
			}
			if request := strings.LastIndexByte(line, '"'); name == "httplog" && !r.Truncated && cut <= request {
				t.Errorf("%s cut at %d: not said", name, cut)
			}
		}
	}
}

// A byte that is changed anywhere never lets a line count for a service whose name does not stand where the backend's stands.
func TestStandardHostileBytes(t *testing.T) {
	for name, text := range standardLines {
		for i := range len(text) {
			for _, c := range []byte{0, '\n', ' ', '"', '/', '[', ']', ':', '{', '}', '~', '-', '9', 0x7f, 0x80, 0xff} {
				line := []byte(text)
				line[i] = c
				var r Record
				if Parse(line, &r) == nil && (r.Kind == KindHTTP || r.Kind == KindTCP) {
					checkStandard(t, name, line, &r)
				}
			}
		}
	}
}

// checkStandard holds what must be true of every request of one of HAProxy's own formats.
func checkStandard(t *testing.T, name string, line []byte, r *Record) {
	t.Helper()
	for _, field := range [][]byte{r.Frontend, r.Service, r.Backend, r.Server, r.Client, r.Method, r.Host, r.Path, r.TLSVersion, r.TLSCipher, r.Termination[:]} {
		if !allPlain(field) || !allPlain(r.Version) {
			t.Errorf("%s: field %q has a byte that must not pass: %q", name, field, line)
		}
	}
	place := func(tls string) []byte {
		return fmt.Appendf(nil, "] %s%s %s/%s ", r.Frontend, tls, r.Backend, r.Server)
	}
	if !bytes.Contains(line, place("")) && !bytes.Contains(line, place("~")) || len(r.Service) > 0 && !bytes.Equal(r.Service, r.Backend) {
		t.Errorf("%s: service %q is not the backend of %q", name, r.Service, line)
	}
	if r.Duration() < 0 || r.FirstByte() < -1 || r.Status > 999 || r.Status < -1 {
		t.Errorf("%s: %s", name, describe(r, nil))
	}
}

func TestAcceptDate(t *testing.T) {
	for at := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2110; at = at.Add(37*time.Hour + 13*time.Minute + 7*time.Second + 11*time.Millisecond) {
		text := "[" + at.Format("02/Jan/2006:15:04:05.000") + "]"
		if ms, ok := new(parser).acceptDate([]byte(text)); !ok || ms != at.UnixMilli() {
			t.Fatalf("%s: %d, %v; want %d", text, ms, ok, at.UnixMilli())
		}
	}
}

func TestAllPlain(t *testing.T) {
	for n := range 20 {
		for i := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte("~"), n)
				b[i] = byte(c)
				if allPlain(b) != plain[c] {
					t.Fatalf("%q: %v", b, !plain[c])
				}
			}
		}
	}
}

func TestServiceOf(t *testing.T) {
	for backend, want := range map[string]string{
		"shop_cart:0": "/shop/cart:0", "shop:12": "/shop:12", "shop-a.b_c:0": "/shop-a.b/c:0",
		"shop_cart_10000": "shop_cart_10000", "a_b:0:1f0c": "a_b:0:1f0c", "shop:": "shop:", ":0": ":0", "shop:x": "shop:x", "": "",
	} {
		if got := serviceOf([]byte(backend)); got != want {
			t.Errorf("%q: %q, want %q", backend, got, want)
		}
	}
}

func TestStandardAllocatesNothing(t *testing.T) {
	var r Record
	for name, line := range standardLines {
		b := []byte(line)
		if n := testing.AllocsPerRun(100, func() { _ = Parse(b, &r) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzStandard(f *testing.F) {
	for _, line := range standardLines {
		f.Add([]byte(line))
		f.Add([]byte(strings.Replace(line, "<134>", "", 1)))
	}
	f.Add([]byte(`10.0.0.1:4 [25/Nov/2026:23:46:32.152] web shop/s1 0/0/0/1/2 200 500 SID=a - ---- 0/0/0/0/9 0/0 "GET / HTTP/1.1" - SC-- 1/1/0/0/1 0/0 "GET / HTTP/1.1"`))
	f.Add([]byte(`<142>1 2026-11-25T23:46:31.076421+00:00 h haproxy 1 - [a b="\"]"] 10.0.0.1:4 [25/Nov/2026:23:46:32.152] web web/<NOSRV> -1/-1/-1/-1/1 400 +0 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		var r Record
		err := Parse(line, &r)
		if !bytes.Equal(before, line) {
			t.Fatal("the line was changed")
		}
		if err == nil && r.Standard && r.Kind != KindNotice {
			checkStandard(t, "fuzz", line, &r)
		}
	})
}

func BenchmarkParseStandard(b *testing.B) {
	for name, line := range standardLines {
		b.Run(fmt.Sprintf("%s-%dB", name, len(line)), func(b *testing.B) {
			buf := []byte(line)
			var r Record
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				_ = Parse(buf, &r)
			}
		})
	}
}

// What a parser remembers of other lines changes nothing of what it says of one.
func TestParserRemembersNothingWrong(t *testing.T) {
	lines := strings.Split(string(writtenLog(2000)), "\n")
	for i := range lines {
		switch i % 7 {
		case 1:
			lines[i] = strings.Replace(lines[i], "slave-07", "slave-08", 1)
		case 3:
			lines[i] = strings.Replace(lines[i], "slave-07 haproxy[3]: ", "haproxy[44]: ", 1)
		case 5:
			lines[i] = strings.Replace(lines[i], "25/Nov/2026", "25/Nxv/2026", 1)
		}
	}
	p := parser{remembers: true}
	for _, line := range lines {
		var got, want Record
		got = blank
		reason := p.parse([]byte(line), &got)
		err := Parse([]byte(line), &want)
		if reason != want.Reason || describe(&got, nil) != describe(&want, nil) {
			t.Fatalf("%q: %v, want %v (%v)\n%s%s", line, reason, want.Reason, err, describe(&got, nil), describe(&want, nil))
		}
	}
}
