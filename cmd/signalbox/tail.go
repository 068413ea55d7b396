package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
	"signalbox/metrics"
)

// newTailCommand returns the verb that shows requests one by one, as they pass.
func newTailCommand(p *program) *cobra.Command {
	s := defaults()
	var output, path string
	var status, methods []string
	var slower time.Duration
	var count int
	q := admin.TailQuestion{PerSecond: 100}
	cmd := &cobra.Command{
		Use:   "tail [TEXT]",
		Short: "Requests as they pass, and how each ended",
		Long: `Shows the requests and connections that end from now on, with the task that took each and, of those that did not go well, why; with a
text, those of services with the text in their name. "none" is for requests that no route led to a service.

Where more pass than --rate, it shows an even sample of them, and says of how many. Services that keep their requests out of sight by the
label signalbox.log are counted all the same.`,
		Example: `  signalbox tail shop
  signalbox tail --failed
  signalbox tail --status 5xx,404 --path '/checkout/*' --slower 500ms
  signalbox tail -n 10 -o json | jq .path`,
		GroupID: groupLook,
		Args:    arguments(0, 1, "one text at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Text = strings.Join(args, "")
			q.Where = conditions(path, status, methods, slower)
			if err := (&metrics.Interest{Where: q.Where}).Check(); err != nil {
				return usageError("%w", err)
			}
			if q.PerSecond < 1 || q.PerSecond > admin.MaxTailRate {
				return usageError("--rate: %d is not between 1 and %d", q.PerSecond, admin.MaxTailRate)
			}
			client, err := p.client(&s)
			if err != nil {
				return err
			}
			return p.follow(cmd.Context(), client, q, count, output == "json")
		},
	}
	cmd.Flags().StringSliceVar(&status, "status", nil, "only answers with these status `codes`: 503, 5xx")
	cmd.Flags().StringVar(&path, "path", "", "only requests for a `path`, as a template: /users/{id}, /checkout/*")
	cmd.Flags().StringSliceVar(&methods, "method", nil, "only requests with these `methods`")
	cmd.Flags().DurationVar(&slower, "slower", 0, "only what took longer")
	cmd.Flags().IntVar(&q.PerSecond, "rate", q.PerSecond, "show at most so many a second")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many; 0: never")
	addSwitch(cmd.Flags(), &q.Failed, "failed", "only what did not go well")
	addOutput(cmd, &output)
	addClientSettings(cmd.Flags(), &s)
	return cmd
}

// conditions words the filters of tail as the controller reads them.
func conditions(path string, status, methods []string, slower time.Duration) []string {
	var out []string
	if path != "" {
		out = append(out, "path="+path)
	}
	if len(status) > 0 {
		out = append(out, "status="+strings.Join(status, ","))
	}
	if len(methods) > 0 {
		out = append(out, "method="+strings.ToUpper(strings.Join(methods, ",")))
	}
	if slower != 0 {
		out = append(out, "latency>"+slower.String())
	}
	return out
}

// errEnough ends a tail that has shown what was asked for.
var errEnough = errors.New("enough was shown")

// follow prints the requests that pass, until somebody interrupts it or count of them are shown; 0: without an end.
func (p *program) follow(ctx context.Context, client *admin.Client, q admin.TailQuestion, count int, asJSON bool) error {
	t := tailPrinter{out: p.stdout, notes: p.stderr, colour: wantsColour(p.stdout), left: count}
	if asJSON {
		t.print = t.printJSON
	} else {
		t.print = t.printLine
	}
	err := client.Tail(ctx, q, t.part)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// tailPrinter prints what a tail brings: requests to out, and what was left out to notes.
type tailPrinter struct {
	out, notes io.Writer
	colour     bool
	left       int // how many are still asked for; 0: there is no end
	print      func(*metrics.Seen) error
	service    int // width of the column so far

	seconds  float64 // since the last note
	matched  uint64
	withheld uint64
	shown    int
}

// part prints one part of a tail.
func (t *tailPrinter) part(part admin.Tail) error {
	for i := range part.Requests {
		if err := t.print(&part.Requests[i]); err != nil {
			return fmt.Errorf("printing a request: %w", err)
		}
		if t.left--; t.left == 0 {
			return errEnough
		}
	}
	t.shown += len(part.Requests)
	t.matched, t.withheld, t.seconds = t.matched+part.Matched, t.withheld+part.Withheld, t.seconds+part.Seconds
	if t.seconds < 1 {
		return nil
	}
	if t.matched > uint64(t.shown) {
		fmt.Fprintln(t.notes, t.note())
	}
	t.seconds, t.matched, t.withheld, t.shown = 0, 0, 0, 0
	return nil
}

// note says what was left out in about the last second: "showing 100 of 2,340 req/s".
func (t *tailPrinter) note() string {
	rate := func(n uint64) string { return grouped(uint64(float64(n)/t.seconds + 0.5)) }
	text := "showing " + rate(uint64(t.shown)) + " of " + rate(t.matched) + " req/s"
	if t.withheld > 0 {
		text += "; " + rate(t.withheld) + " are kept out of sight by the label signalbox.log"
	}
	return paint(t.colour, "unrouted", text)
}

// grouped prints a number with commas between thousands.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func (t *tailPrinter) printJSON(s *metrics.Seen) error { return json.NewEncoder(t.out).Encode(s) }

func (t *tailPrinter) printLine(s *metrics.Seen) error {
	t.service = max(t.service, min(len(s.Service), 40))
	_, err := fmt.Fprintln(t.out, t.line(s))
	return err
}

// line is one request: when it was there, how it was answered and in which time, by which task of which service, and what it was.
func (t *tailPrinter) line(s *metrics.Seen) string {
	status := strconv.Itoa(s.Status)
	if s.Status == 0 {
		status = "-"
	}
	what := s.Method + " " + s.Host + s.Path
	if s.Method == "" {
		status, what = "tcp", s.Client+" "+bytesText(s.BytesIn)+" in, "+bytesText(s.BytesOut)+" out"
	}
	verdict := "ok"
	switch {
	case s.Words != "":
		verdict = "down"
	case s.Status >= 400:
		verdict = "degraded"
	}
	at := s.At.Local().Format("15:04:05.000")
	text := fmt.Sprintf("%s %s %7s  %-*s %s  %s", at, paint(t.colour, verdict, fmt.Sprintf("%3s", status)), span(float64(s.Duration)/1e6),
		t.service, clean(s.Service), clean(taskText(s)), clean(what))
	switch {
	case s.Retries == 1:
		text += "  after a retry"
	case s.Retries > 1:
		text += fmt.Sprintf("  after %d retries", s.Retries)
	}
	if s.Caller != "" {
		text += "  from " + clean(s.Caller)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		text += "  " + clean(name) + "=" + clean(s.Headers[name])
	}
	if s.Trace != "" {
		text += "  trace " + clean(s.Trace)
	}
	if s.Words != "" {
		text += "  " + paint(t.colour, verdict, clean(s.Words)) + " (" + clean(s.Ended) + ")"
		switch s.During {
		case "change":
			text += ", while tasks changed"
		case "deployment":
			text += ", during a deployment"
		case "reload":
			text += ", while HAProxy was reloaded"
		}
	}
	return text
}

// taskText names the task of a request: by the end of its id, which tells the tasks of a service apart.
func taskText(s *metrics.Seen) string {
	name := "-"
	switch {
	case s.Task != "":
		name = shortTask(s.Task)
	case s.Server != "":
		name = s.Server
	}
	if s.State != "" && s.State != "up" {
		name += " (" + s.State + ")"
	}
	return name
}

// shortTask shortens the id of a Marathon task, "shop_cart.5a1f0c1e-9a1b-11ee-8c90-0242ac120002" or of newer ones
// "shop_cart.instance-5a1f0c1e-9a1b-11ee-8c90-0242ac120002._app.1", to its app and the part of the id that differs: "shop_cart.5a1f0c1e".
func shortTask(id string) string {
	name, uuid, ok := strings.Cut(id, ".")
	uuid = strings.TrimPrefix(strings.TrimPrefix(uuid, "instance-"), "marathon-")
	if first, _, dashed := strings.Cut(uuid, "-"); ok && dashed && len(first) == 8 {
		return name + "." + first
	}
	return id
}

// bytesText prints a number of bytes with three digits: "1.2 MB".
func bytesText(n uint64) string {
	x, unit := float64(n), 0
	for ; x >= 1000 && unit < len(byteUnits)-1; unit++ {
		x /= 1000
	}
	return digits(x) + " " + byteUnits[unit]
}

var byteUnits = []string{"B", "kB", "MB", "GB", "TB"}
