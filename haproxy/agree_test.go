package haproxy

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"signalbox"
	"signalbox/templates"
)

// nameless makes every backend answer which service and backend it is, without a task.
const nameless = `{{define "backend"}}backend {{.Name}} from http-base
  http-request return status 200 content-type text/plain lf-string "%[var(txn.service)] %[be_name]"
{{- range .Servers}}
  server {{.Name}} {{.Addr}}{{if .Disabled}} disabled{{end}}
{{- end}}
{{end}}`

// session is an open connection to the runtime socket.
type session struct {
	conn net.Conn
	in   *bufio.Reader
}

// do sends a command and returns its answer.
func (s *session) do(t testing.TB, text string) string {
	t.Helper()
	if _, err := io.WriteString(s.conn, text+"\n"); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for !strings.HasSuffix(out.String(), "\n> ") {
		b, err := s.in.ReadByte()
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out.WriteByte(b)
	}
	return strings.TrimSpace(strings.TrimSuffix(out.String(), "> "))
}

// asker asks a HAProxy over one connection, and over another one where that closes.
type asker struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

// ask returns the status and the body of the answer to a request.
func (a *asker) ask(host, path string) (int, string, error) {
	if a.conn == nil {
		c, err := net.Dial("tcp", a.addr)
		if err != nil {
			return 0, "", err
		}
		a.conn, a.in = c, bufio.NewReader(c)
	}
	_ = a.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintf(a.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return 0, "", err
	}
	r, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if r.Close || r.StatusCode == http.StatusBadRequest {
		a.conn.Close()
		a.conn = nil
	}
	return r.StatusCode, string(body), err
}

// agreement leads one HAProxy from table to table.
type agreement struct {
	live     *live
	commands *session
	asker    asker
	sent     int
}

const agreeing = 8 // services

func newAgreement(t *testing.T) *agreement {
	var all []*signalbox.Service
	for i := range agreeing {
		all = append(all, service(fmt.Sprintf("/app%d", i), ""))
	}
	tmpl, err := ParseTemplate("nameless", templates.HAProxy+nameless)
	if err != nil {
		t.Fatal(err)
	}
	l := startTemplate(t, tmpl, tableOf(all...), func(*Options) {})
	c, err := net.Dial("unix", l.options.StatsSocket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := &session{c, bufio.NewReader(c)}
	s.do(t, "prompt")
	s.do(t, "set timeout cli 1h")
	return &agreement{live: l, commands: s, asker: asker{addr: l.entry}}
}

// become leads HAProxy to a table: by commands, and by new contents of the maps of regular expressions, which a reload would bring.
func (a *agreement) become(t testing.TB, table *signalbox.Table) {
	t.Helper()
	l := a.live
	want := Build(table, l.options, l.now)
	plan := Diff(l.now, want)
	for _, c := range plan.Commands {
		a.send(t, c)
	}
	switch {
	case slices.Equal(plan.Reasons, []Reason{RegexesChanged}):
		to := want.Maps()
		for i, m := range l.now.Maps() {
			if m.Ordered && !slices.Equal(*m.Entries, *to[i].Entries) {
				path := l.options.MapPath(m.Name)
				a.commands.do(t, "clear map "+path)
				text := mapText(*to[i].Entries)
				if len(text) == 0 {
					continue
				}
				if answer := a.commands.do(t, "add map "+path+" <<\n"+string(text)); strings.Trim(answer, "+ \n") != "" { // "+" asks for the next line
					t.Fatalf("%s: %s", text, answer)
				}
			}
		}
		// What waited for the reload follows it.
		running := Applied(l.now, want)
		running.HostRegexes, running.PathRegexes = want.HostRegexes, want.PathRegexes
		for _, c := range Diff(running, want).Commands {
			a.send(t, c)
		}
	case len(plan.Reasons) > 0:
		t.Fatalf("a reload is needed: %v", plan.Reasons)
	}
	l.now = want
}

// send sends a command that changes a map. No request reaches a server here.
func (a *agreement) send(t testing.TB, c Command) {
	t.Helper()
	if !strings.Contains(c.Text, " map ") {
		return
	}
	if answer := a.commands.do(t, c.Text); answer != "" {
		t.Fatalf("%s: %s", c.Text, answer)
	}
}

// agree asks HAProxy, Match and the reference about one request.
func (a *agreement) agree(t *rapid.T, table *signalbox.Table, host, path string) {
	t.Helper()
	want := refer(table, host, path)
	code, body, err := a.asker.ask(host, path)
	if err != nil {
		t.Fatalf("%q %q: %v", host, path, err)
	}
	a.sent++
	service, backend, _ := strings.Cut(body, " ")
	_, may := want.shares[signalbox.ServiceID(service)]
	if status := cmpInt(want.status, 200); code != status || status == 200 && (!may || a.live.now.Backend(backend).Service != signalbox.ServiceID(service)) {
		t.Fatalf("%q %q: HAProxy says %d %s, the reference %v", host, path, code, body, want)
	}
	answer := a.live.now.Match(Request{Host: host, Path: path})
	status := answer.Status
	if status == 503 {
		status = 0
	}
	if status != want.status {
		t.Fatalf("%q %q: Match says %s, the reference %v", host, path, said(answer), want)
	}
	got := make(map[signalbox.ServiceID]bool)
	for _, d := range answer.Destinations {
		got[d.Service] = d.Percent > 0
		if share := want.shares[d.Service]; status == 0 && math.Abs(float64(d.Percent)-100*share) >= 1 {
			t.Fatalf("%q %q: %s gets %d %%, the reference says %v", host, path, d.Service, d.Percent, want)
		}
	}
	for id, share := range want.shares {
		if !got[id] && share >= 0.01 {
			t.Fatalf("%q %q: Match says %s, the reference %v", host, path, said(answer), want)
		}
	}
	for _, c := range answer.Claims {
		if _, may := want.shares[c.Service]; c.Wins && !may && want.status == 0 && *answer.Route == c.Route && got[c.Service] {
			t.Fatalf("%q %q: Match lets %v win, the reference says %v", host, path, c, want)
		}
	}
}

func cmpInt(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

var (
	someHosts = []string{"", "a.x", "b.x", "*.x", "x", "*.a.x", "c.a.x", "a.x-y", "xn--bcher-kva.x", "[::1]", `~[a-z]+\.x`, `~(a|b)\.x`, `~.*`, `~[a-z.]*\.a\.x`, "~v[0-9]{1,2}"}
	someAsked = []string{
		"a.x", "A.X:80", "b.x.", "c.x", "x", "z.a.x", "c.a.x.:8080", "a.x-y", "other", "v1", "V12:1", "v123", "XN--BCHER-kva.x.", "[::1]", "[::1]:80", "a.x:",
		"a..x", "*.x", "~v1", "a.x:8x", "a x", "a,x", "a.x/b", "", "a_b.x", "*",
	}
	somePieces   = []string{"/", "/p", "/q", "[a-z]", "(p|q)", "(?:/q)?", `\.`, "[0-9]{1,2}", "/%61", "[^a-z/]", "v?"}
	someSegments = []string{"p", "q", "pq", "P", "r", "%61", "a", "a.b", "..", ".", "%2e", "%2E%2e", "..;", ";x", "p;x", "", "%2f", "q%5Cr", `p\`, "%00", "12", "v1", "~", "é"}
)

func drawRegex(t *rapid.T) string {
	pieces := rapid.SliceOfN(rapid.SampledFrom(somePieces), 1, 4).Draw(t, "pieces")
	if wild := rapid.SampledFrom([]string{"", "", "[^/]+", ".*", "/.*"}).Draw(t, "wild"); wild != "" {
		pieces = slices.Insert(pieces, rapid.IntRange(0, len(pieces)).Draw(t, "at"), wild)
	}
	return strings.Join(pieces, "")
}

func drawPath(t *rapid.T, from []string) string {
	return "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(from), 0, 4).Draw(t, "segments"), "/")
}

func drawRoute(t *rapid.T) signalbox.Route {
	r := signalbox.Route{
		Host:  rapid.SampledFrom(someHosts).Draw(t, "host"),
		Match: rapid.SampledFrom([]signalbox.Match{signalbox.Prefix, signalbox.Prefix, signalbox.Exact, signalbox.Regex}).Draw(t, "match"),
	}
	plain := []string{"p", "q", "pq", "P", "%61", "a", "a.b", "~", "12"}
	switch r.Match {
	case signalbox.Regex:
		r.Path = drawRegex(t)
	case signalbox.Exact:
		r.Path = drawPath(t, plain)
		if rapid.Bool().Draw(t, "slash") && r.Path != "/" {
			r.Path += "/"
		}
	default:
		r.Path = drawPath(t, plain[:3])
	}
	return r
}

// drawTable draws a table of a few services that claim, shadow and share.
func drawTable(t *rapid.T) *signalbox.Table {
	few := rapid.SliceOfN(rapid.Custom(drawRoute), 1, 6).Draw(t, "contested")
	var all []*signalbox.Service
	for i := range agreeing {
		s := service(fmt.Sprintf("/app%d", i), "")
		s.Since = time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "since")), 0)
		s.Policy.Priority = rapid.SampledFrom([]int{0, 0, 0, 1, -1}).Draw(t, "priority")
		if w := rapid.SampledFrom([]int{-1, -1, 0, 1, 30, 100, 256}).Draw(t, "weight"); w >= 0 {
			s.Policy.Weight = &w
		}
		if state := rapid.SampledFrom([]signalbox.State{"", signalbox.Up, signalbox.Up, signalbox.Down}).Draw(t, "state"); state != "" {
			s.Endpoints = []signalbox.Endpoint{{Task: "t", State: state, Addr: netip.MustParseAddrPort("127.0.0.1:1")}}
		}
		for range rapid.IntRange(0, 3).Draw(t, "routes") {
			if rapid.Bool().Draw(t, "contests") {
				s.Routes = append(s.Routes, rapid.SampledFrom(few).Draw(t, "route"))
			} else {
				s.Routes = append(s.Routes, drawRoute(t))
			}
		}
		slices.SortFunc(s.Routes, signalbox.Route.Compare)
		all = append(all, s)
	}
	return tableOf(all...)
}

// drawRequest draws a host and a path, often near to those of a route.
func drawRequest(t *rapid.T) (host, path string) {
	host = rapid.SampledFrom(someAsked).Draw(t, "asked")
	path = drawPath(t, someSegments[:rapid.SampledFrom([]int{7, 7, 7, len(someSegments)}).Draw(t, "segments")])
	switch rapid.IntRange(0, 20).Draw(t, "odd") {
	case 0:
		path += "/"
	case 2:
		host = strings.Repeat("a", 253) + ".x"[:rapid.IntRange(0, 2).Draw(t, "length")] + "a.:80"
	case 1:
		path += "/" + strings.Repeat("p", 1024)
	}
	return host, path
}

// Random tables, each led to from the one before, and random requests: the real HAProxy, Match and the reference model agree. The long
// run is -rapid.checks=2000.
func TestHAProxyMatchAndReferenceAgree(t *testing.T) {
	a := newAgreement(t)
	requests := 20
	if many() {
		requests = 200
	}
	tables := 0
	rapid.Check(t, func(rt *rapid.T) {
		table := drawTable(rt)
		a.become(t, table)
		tables++
		for _, p := range a.live.now.Problems {
			if p.Code == "SB206" {
				rt.Fatalf("%v", p)
			}
		}
		for range requests {
			host, path := drawRequest(rt)
			a.agree(rt, table, host, path)
		}
	})
	t.Logf("%d tables, %d requests", tables, a.sent)
}

// many reports whether this is the long run.
func many() bool {
	f := flag.Lookup("rapid.checks")
	n, err := strconv.Atoi(f.Value.String())
	return err == nil && n >= 1000
}
