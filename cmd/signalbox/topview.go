package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"signalbox/admin"
)

// topColumn is a column of top, in the order in which it stands there.
type topColumn struct {
	name    string
	width   int
	cell    func(*admin.ServiceStat) string
	compare func(a, b *admin.ServiceStat) int // the larger or worse one is greater
}

func topFigure(name string, width int, of func(*admin.ServiceStat) float64, text func(float64) string) topColumn {
	return topColumn{name, width, func(s *admin.ServiceStat) string {
		if s.Requests == 0 {
			return "-"
		}
		return text(of(s))
	}, func(a, b *admin.ServiceStat) int { return cmp.Compare(of(a), of(b)) }}
}

func wholeText(x float64) string { return strconv.FormatFloat(x, 'f', 0, 64) }

var topColumns = []topColumn{
	{"SERVICE", 0, nil, func(a, b *admin.ServiceStat) int { return strings.Compare(b.Service, a.Service) }},
	topFigure("REQ", 9, func(s *admin.ServiceStat) float64 { return float64(s.Requests) }, wholeText),
	topFigure("REQ/S", 7, func(s *admin.ServiceStat) float64 { return s.PerSecond }, digits),
	topFigure("AVG", 7, func(s *admin.ServiceStat) float64 { return s.Average }, span),
	topFigure("P50", 7, func(s *admin.ServiceStat) float64 { return s.P50 }, span),
	topFigure("P90", 7, func(s *admin.ServiceStat) float64 { return s.P90 }, span),
	topFigure("P99", 7, func(s *admin.ServiceStat) float64 { return s.P99 }, span),
	topFigure("5XX", 6, func(s *admin.ServiceStat) float64 { return float64(s.Errors) }, wholeText),
	topFigure("ERR%", 5, func(s *admin.ServiceStat) float64 { return 100 * s.ErrorRatio }, digits),
}

// byRate is the column by which top sorts at first.
const byRate = 2

// topSpans are the spans of time that top counts over, as the keys change them; 0: since the start.
var topSpans = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 0}

// topView is what top shows, and what its keys change: no terminal, no controller.
type topView struct {
	node     string // where it looks
	wide     bool   // at the cluster: there is no way to single requests
	rows     []admin.ServiceStat
	at       time.Time // of rows; zero: there are none yet
	trouble  string    // why there is nothing newer; "": there is
	span     int       // of topSpans
	by       int       // of topColumns
	reversed bool
	filter   string // in the service's name
	typing   bool   // the filter
	before   string // the filter before it was typed
	paused   bool
	help     bool
	chosen   string // the service that the cursor is on
	top      int    // the first row that is shown
	room     int    // how many rows were shown last
}

// topOrder is what a key asks for beyond the view.
type topOrder int

const (
	topStay topOrder = iota
	topQuit
	topTail // of the chosen service
	topRead // at once: what is shown is of another span, or nothing new was read for a while
)

// shown returns the rows that the filter leaves, sorted.
func (v *topView) shown() []admin.ServiceStat {
	rows := make([]admin.ServiceStat, 0, len(v.rows))
	for _, row := range v.rows {
		if strings.Contains(row.Service, v.filter) {
			rows = append(rows, row)
		}
	}
	compare := topColumns[v.by].compare
	slices.SortStableFunc(rows, func(a, b admin.ServiceStat) int {
		n := compare(&b, &a)
		if v.reversed {
			n = -n
		}
		return cmp.Or(n, strings.Compare(a.Service, b.Service))
	})
	return rows
}

// key changes the view by a key: a character, or the name of another key ("up", "enter", "escape", …).
func (v *topView) key(k string) topOrder {
	if v.typing {
		v.typed(k)
		return topStay
	}
	if v.help {
		v.help = false
		return topStay
	}
	switch k {
	case "q", "ctrl-c":
		return topQuit
	case "p", " ":
		v.paused = !v.paused
		if !v.paused {
			return topRead
		}
	case "/":
		v.typing, v.before = true, v.filter
	case "escape":
		v.filter = ""
	case "?", "h":
		v.help = true
	case "r":
		v.reversed = !v.reversed
	case "s", "right", ">":
		v.by = (v.by + 1) % len(topColumns)
	case "S", "left", "<":
		v.by = (v.by + len(topColumns) - 1) % len(topColumns)
	case "t":
		v.span = (v.span + 1) % len(topSpans)
		return topRead
	case "T":
		v.span = (v.span + len(topSpans) - 1) % len(topSpans)
		return topRead
	case "enter":
		if v.chosen != "" && !v.wide {
			return topTail
		}
	default:
		v.move(k)
	}
	return topStay
}

// typed is a key while the filter is typed.
func (v *topView) typed(k string) {
	switch {
	case k == "enter":
		v.typing = false
	case k == "escape", k == "ctrl-c":
		v.typing, v.filter = false, v.before
	case k == "backspace":
		_, last := utf8.DecodeLastRuneInString(v.filter)
		v.filter = v.filter[:len(v.filter)-last]
	case utf8.RuneCountInString(k) == 1:
		v.filter += k
	}
}

// move moves the cursor.
func (v *topView) move(k string) {
	rows := v.shown()
	if len(rows) == 0 {
		return
	}
	steps := map[string]int{"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -v.room, "pagedown": v.room, "home": -len(rows), "g": -len(rows), "end": len(rows), "G": len(rows)}
	step, ok := steps[k]
	if !ok {
		return
	}
	at := v.cursor(rows) + step
	v.chosen = rows[max(0, min(at, len(rows)-1))].Service
}

// cursor returns the row that the cursor is on: -1 before it was moved, or where its service is not shown.
func (v *topView) cursor(rows []admin.ServiceStat) int {
	return slices.IndexFunc(rows, func(row admin.ServiceStat) bool { return row.Service == v.chosen })
}

// lines returns the screen, of at most height lines that are at most width wide.
func (v *topView) lines(width, height int, now time.Time, colour bool) []string {
	rows := v.shown()
	out := []string{clip(v.title(rows, now), width), ""}
	if v.help {
		for _, line := range strings.Split(topHelp, "\n") {
			out = append(out, clip(line, width))
		}
		return out[:min(len(out), height)]
	}
	columns, name := topFit(rows, width)
	v.room = max(height-4, 1)
	at := v.cursor(rows)
	v.top = max(0, min(v.top, len(rows)-v.room))
	if at >= 0 {
		v.top = max(min(v.top, at), at-v.room+1)
	}
	out = append(out, style(colour, "7", v.header(columns, name)))
	for i := v.top; i < min(v.top+v.room, len(rows)); i++ {
		row := &rows[i]
		var line strings.Builder
		line.WriteString(pad(clip(clean(row.Service), name), name))
		for _, c := range columns {
			fmt.Fprintf(&line, " %*s", c.width, clip(c.cell(row), c.width))
		}
		code := ""
		switch {
		case i == at:
			code = "7"
		case row.Errors > 0:
			code = "31"
		case row.Requests == 0:
			code = "2"
		}
		text := line.String()
		if i == at && !colour {
			text = ">" + text[1:]
		}
		out = append(out, style(colour, code, text))
	}
	if len(rows) == 0 && !v.at.IsZero() {
		out = append(out, "nothing is shown: no service has "+strconv.Quote(v.filter)+" in its name")
	}
	for len(out) < height-1 {
		out = append(out, "")
	}
	return append(out[:height-1], clip(v.foot(), width))
}

// title says where and over which time it looks, and how much there was in all.
func (v *topView) title(rows []admin.ServiceStat, now time.Time) string {
	over := "since the start"
	if s := topSpans[v.span]; s > 0 {
		over = "over " + strings.TrimSuffix(strings.TrimSuffix(s.String(), "0s"), "0m")
		if s < time.Minute {
			over = "over " + s.String()
		}
	}
	rate, failed := 0.0, uint64(0)
	for i := range rows {
		rate, failed = rate+rows[i].PerSecond, failed+rows[i].Errors
	}
	state := ""
	switch {
	case v.trouble != "":
		state = "  " + v.trouble
		if !v.at.IsZero() {
			state += "; as of " + admin.Ago(v.at, now)
		}
	case v.paused:
		state = "  PAUSED " + admin.Ago(v.at, now)
	case v.at.IsZero():
		state = "  asking …"
	}
	return fmt.Sprintf("%s  %s  %s  %s req/s  %d answers 5xx%s", v.node, over, plural(len(rows), "service"), digits(rate), failed, state)
}

// topFit returns the columns that fit beside the names of the services, and the width of the names. The narrow terminal loses
// columns from the middle first: what is asked for most stays.
func topFit(rows []admin.ServiceStat, width int) (columns []topColumn, name int) {
	name = len("SERVICE")
	for i := range rows {
		name = max(name, utf8.RuneCountInString(clean(rows[i].Service)))
	}
	columns = slices.Clone(topColumns[1:])
	used := func() int {
		n := 0
		for _, c := range columns {
			n += 1 + c.width
		}
		return n
	}
	least := min(name, 24)
	for _, lost := range []string{"AVG", "REQ", "P90", "5XX", "P50", "ERR%", "P99"} {
		if used()+least <= width {
			break
		}
		columns = slices.DeleteFunc(columns, func(c topColumn) bool { return c.name == lost })
	}
	return columns, max(1, min(name, width-used()))
}

func (v *topView) header(columns []topColumn, name int) string {
	mark := func(c topColumn) string {
		switch {
		case c.name != topColumns[v.by].name:
			return c.name
		case v.reversed:
			return c.name + "▲"
		}
		return c.name + "▼"
	}
	line := pad(clip(mark(topColumns[0]), name), name)
	for _, c := range columns {
		text := mark(c)
		line += strings.Repeat(" ", max(1, 1+c.width-utf8.RuneCountInString(text))) + text
	}
	return line
}

func (v *topView) foot() string {
	switch {
	case v.typing:
		return "filter: " + v.filter + "_   enter keeps it, escape goes back"
	case v.filter != "":
		return "filter: " + v.filter + "   escape ends it   ? keys"
	}
	return "q quit  p pause  s sort  r reverse  / filter  t span  enter tail  ? keys"
}

const topHelp = `q          quit
p, space   pause and go on
s, S       sort by the next, the previous column
r          reverse the order
/          only services with a text in their name; escape ends it
t, T       count over the next, the previous span: 10s, 1m, 5m, 1h, all
up, down   choose a service; also page up, page down, home, end
enter      tail the requests of the chosen service; q comes back
any key    leaves this page`

// clip shortens a text to a width, and shows that it did.
func clip(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	r := []rune(text)
	if width < 2 {
		return string(r[:max(width, 0)])
	}
	return string(r[:width-1]) + "…"
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// style wraps a line in a terminal's style, "" for none.
func style(on bool, code, text string) string {
	if !on || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
