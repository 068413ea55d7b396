package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"signalbox/admin"
)

func sampleTop() *topView {
	return &topView{node: "slave-1", by: byRate, at: time.Unix(1_790_000_000, 0), rows: []admin.ServiceStat{
		{Service: "/api:0", Requests: 200, PerSecond: 20, Average: 0.002, P50: 0.0015, P90: 0.004, P99: 0.02},
		{Service: "/idle:0"},
		{Service: "/shop/cart:0", Requests: 1244, PerSecond: 124.4, Average: 0.0081, P50: 0.0071, P90: 0.012, P99: 1.25, Errors: 3, ErrorRatio: 3.0 / 1244},
		{Service: "/shop/web\x1b[2J:0", Requests: 5, PerSecond: 0.5, Average: 0.5, P50: 0.5, P90: 0.5, P99: 0.5},
	}}
}

func (v *topView) text(width, height int) string {
	return strings.Join(v.lines(width, height, v.at, false), "\n") + "\n"
}

func TestTopView(t *testing.T) {
	v := sampleTop()
	want := `slave-1  over 10s  4 services  145 req/s  3 answers 5xx

SERVICE                  REQ  REQ/S▼     AVG     P50     P90     P99    5XX  ERR%
/shop/cart:0            1244     124  8.1ms   7.1ms    12ms   1.25s      3  0.24
/api:0                   200      20    2ms   1.5ms     4ms    20ms      0     0
/shop/web\x1b[2J:0         5     0.5  500ms   500ms   500ms   500ms      0     0
/idle:0                    -       -       -       -       -       -      -     -

q quit  p pause  s sort  r reverse  / filter  t span  enter tail  ? keys
`
	got := v.text(90, 9)
	squeeze := func(s string) string {
		var out []string
		for line := range strings.Lines(s) {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
		return strings.Join(out, "\n")
	}
	if diff := cmp.Diff(squeeze(want), squeeze(got)); diff != "" {
		t.Errorf("(-want +got)\n%s\n%s", diff, got)
	}
	at := map[int]bool{} // where the columns of figures end
	for i, line := range strings.Split(got, "\n")[2:7] {
		at[utf8.RuneCountInString(strings.TrimRight(line, " "))] = true
		if i == 0 {
			at = map[int]bool{utf8.RuneCountInString(line): true}
		}
	}
	if len(at) != 1 {
		t.Errorf("columns are not aligned:\n%s", got)
	}
}

// Whatever the terminal's size, nothing is wider or higher than it.
func TestTopViewFits(t *testing.T) {
	for _, help := range []bool{false, true} {
		for width := 1; width < 120; width += 7 {
			for height := 1; height < 30; height += 3 {
				v := sampleTop()
				v.help, v.chosen = help, "/idle:0"
				lines := v.lines(width, height, v.at, false)
				if len(lines) > height {
					t.Fatalf("%d lines at %d x %d", len(lines), width, height)
				}
				for _, line := range lines {
					if n := utf8.RuneCountInString(line); n > max(width, 24) {
						t.Fatalf("%d columns at %d x %d: %q", n, width, height, line)
					}
				}
			}
		}
	}
}

func TestTopKeys(t *testing.T) {
	names := func(v *topView) string {
		var out []string
		for _, row := range v.shown() {
			out = append(out, row.Service[:5])
		}
		return strings.Join(out, " ")
	}
	v := sampleTop()
	_ = v.text(90, 20)
	press := func(keys ...string) (last topOrder) {
		for _, k := range keys {
			last = v.key(k)
		}
		return last
	}
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("at first", names(v), "/shop /api: /shop /idle")
	press("r")
	check("reversed", names(v), "/idle /shop /api: /shop")
	press("r", "s", "s", "s", "s")
	check("sorted by", topColumns[v.by].name, "P99")
	check("by p99", names(v), "/shop /shop /api: /idle")
	press("S", "left", "<", "right", ">", "s")
	check("sorted by", topColumns[v.by].name, "P99")
	check("a filter", press("/", "a", "p", "q", "backspace", "i", "enter"), topStay)
	check("filtered", names(v), "/api:")
	press("/", "x", "escape")
	check("a filter that was given up", v.filter, "api")
	press("escape")
	check("the filter has ended", len(v.shown()), 4)
	check("nothing is chosen", press("enter"), topStay)
	press("down", "down")
	check("chosen", v.chosen, v.shown()[1].Service)
	check("tail", press("enter"), topTail)
	press("end")
	check("the last", v.chosen, "/idle:0")
	press("pageup")
	check("the first", v.chosen, v.shown()[0].Service)
	press("up", "k")
	check("no further", v.chosen, v.shown()[0].Service)
	press("p")
	check("paused", v.paused, true)
	check("goes on", press(" "), topRead)
	check("a span", press("t"), topRead)
	check("the span", topSpans[v.span], time.Minute)
	press("T", "T")
	check("since the start", topSpans[v.span], time.Duration(0))
	press("?")
	check("help", v.help, true)
	check("any key leaves it", press("q"), topStay)
	check("q", press("q"), topQuit)
	check("ctrl-c", press("ctrl-c"), topQuit)
}

// The chosen row stays in sight.
func TestTopScrolls(t *testing.T) {
	v := &topView{by: 0}
	for i := range 100 {
		v.rows = append(v.rows, admin.ServiceStat{Service: fmt.Sprintf("/s%03d:0", i)})
	}
	for i, k := range []string{"down", "end", "up", "pageup", "home", "pagedown", "pagedown", "G"} {
		_ = v.text(80, 14)
		v.key(k)
		if got := v.text(80, 14); !strings.Contains(got, ">"+v.chosen[1:]) {
			t.Errorf("after %d keys %s is not in sight:\n%s", i+1, v.chosen, got)
		}
	}
}

func TestSplitKeys(t *testing.T) {
	got := splitKeys("a\x1b[A\x1bOB\x1b[5~\r\x7f\x03é\x1b[15~z\x1b")
	want := []string{"a", "up", "down", "pageup", "enter", "backspace", "ctrl-c", "é", "z", "escape"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, text := range []string{"\x1b[", "\x1bO", "\x1b[12", "\xff\xfe", ""} {
		_ = splitKeys(text) // must not panic
	}
}

// Without a terminal top prints plain tables.
func TestTopTables(t *testing.T) {
	clearEnvironment(t)
	socket, _ := fakeController(t)
	code, stdout, stderr := invoke(t, "top", "--admin", socket, "-n", "2", "--interval", "100ms", "--span", "0", "--sort", "p50", "cart")
	if code != exitOK || strings.Count(stdout, "SERVICE  ") != 2 || strings.Count(stdout, "/shop/cart:0") != 2 || strings.Contains(stdout, "idle") || strings.Contains(stdout, "\x1b") {
		t.Errorf("%d:\n%s%s", code, stdout, stderr)
	}
	for _, args := range [][]string{{"--span", "2m"}, {"--sort", "colour"}, {"--interval", "1ms"}} {
		code, _, stderr := invoke(t, append([]string{"top", "--admin", socket, "-n", "1"}, args...)...)
		if code != exitUsage {
			t.Errorf("%q ends with %d: %s", args, code, stderr)
		}
	}
}
