package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox/admin"
)

// addOutput gives a verb the flag for the form of what it prints.
func addOutput(cmd *cobra.Command, to *string) {
	addOutputs(cmd, to, "table", "json")
}

// addOutputs is addOutput with forms of the verb's own; the first one is the default.
func addOutputs(cmd *cobra.Command, to *string, forms ...string) {
	*to = forms[0]
	cmd.Flags().VarP(oneOf(to, forms...), "output", "o", "form of the output: `"+strings.Join(forms, "|")+"`")
}

// arguments bounds how many words a verb takes; what says which, for people.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if least <= len(args) && len(args) <= most {
			return nil
		}
		text := fmt.Sprintf("%s takes %s", cmd.Name(), what)
		if len(args) > 0 {
			text += ", not " + strings.Join(args, " ")
		}
		return &exitError{code: exitUsage, err: errors.New(text), try: cmd.CommandPath() + " --help"}
	}
}

// printJSON prints what machines read.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	return nil
}

// table prints columns for people. Cells can't forge lines, columns or terminal commands.
type table struct {
	w *tabwriter.Writer
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, clean(c))
	}
	fmt.Fprint(t.w, "\n")
}

// painted is row with a last cell in the colour of a word.
func (t *table) painted(colour bool, word string, cells ...string) {
	last := len(cells) - 1
	for _, c := range cells[:last] {
		fmt.Fprint(t.w, clean(c)+"\t")
	}
	fmt.Fprint(t.w, paint(colour, word, clean(cells[last]))+"\n")
}

func (t *table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	return nil
}

// clean escapes what is not to be printed: what tasks and labels say reaches the terminal through it.
func clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	q := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// span prints a duration in seconds with three digits at most: "450µs", "8.12ms", "1.2s".
func span(seconds float64) string { return admin.ShortSpan(seconds) }

// digits prints a number with up to three significant digits, and all of those before the point.
func digits(x float64) string { return admin.Digits(x) }

// plural prints "1 problem", "2 problems".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// onTerminal reports whether something is a terminal that shows colours to somebody who wants them.
func onTerminal(w any) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

func wantsColour(w any) bool {
	return onTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// paint colours a verdict: good ones green, odd ones yellow, bad ones red. Cells of the last column only: others would lose
// their width.
func paint(on bool, word, text string) string {
	if !on {
		return text
	}
	colour := map[string]string{"ok": "32", "degraded": "33", "empty": "33", "lost": "31", "unrouted": "2", "failing": "31", "down": "31", "problem": "31"}[word]
	if colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
