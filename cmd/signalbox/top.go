package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox/admin"
)

// newTopCommand returns the verb that shows the services as they are doing now, again and again.
func newTopCommand(p *program) *cobra.Command {
	s := defaults()
	v := topView{by: byRate}
	every, over := time.Second, topSpans[0]
	by := strings.ToLower(topColumns[byRate].name)
	var rounds int
	var cluster bool
	var names []string
	for _, c := range topColumns {
		names = append(names, strings.ToLower(c.name))
	}
	cmd := &cobra.Command{
		Use:   "top [TEXT]",
		Short: "Each service live: requests, latencies, errors",
		Long: `Shows requests, latencies and errors of each service, counted over the last seconds, anew each --interval; with a text, of services
with the text in their name. Keys sort, filter, pause, change the span of time, and lead to the requests of a service ("?" lists them).

Where the output is no terminal it prints plain tables, one after the other.`,
		Example: `  signalbox top
  signalbox top shop --sort p99 --span 1m
  signalbox top -n 3 > three-tables.txt`,
		GroupID: groupLook,
		Args:    arguments(0, 1, "one text at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v.filter = strings.Join(args, "")
			v.by = slices.Index(names, by)
			if v.span = slices.Index(topSpans, over); v.span < 0 {
				return usageError("--span: %s is none of 10s, 1m, 5m, 1h and 0", over)
			}
			if every < 100*time.Millisecond || every > time.Hour {
				return usageError("--interval: %s is not between 100ms and 1h", every)
			}
			client, err := p.clusterClient(&s, cluster)
			if err != nil {
				return err
			}
			v.node, _ = os.Hostname()
			if cluster {
				v.node, v.wide = "cluster", true
			}
			if onTerminal(p.stdout) && rounds == 0 {
				return p.topLive(cmd.Context(), client, &v, every)
			}
			return ofHub(p.topTables(cmd.Context(), client, &v, every, rounds), cluster)
		},
	}
	cmd.Flags().DurationVar(&every, "interval", every, "time between two looks")
	cmd.Flags().DurationVar(&over, "span", over, "count over this time: 10s, 1m, 5m, 1h; 0: all since the start")
	cmd.Flags().Var(oneOf(&by, names...), "sort", "sort by this `column`: "+strings.Join(names, "|"))
	cmd.Flags().IntVarP(&rounds, "count", "n", 0, "print so many plain tables, and end; 0: never")
	addClientSettings(cmd.Flags(), &s)
	addClusterSettings(cmd.Flags(), &s, &cluster)
	return cmd
}

// read asks for what the view shows.
func (v *topView) read(ctx context.Context, client *admin.Client) (admin.Services, error) {
	if over := topSpans[v.span]; over > 0 {
		return client.ServicesOver(ctx, over)
	}
	return client.Services(ctx)
}

// topTables prints plain tables, one each interval: so many of them, or, for 0, without an end.
func (p *program) topTables(ctx context.Context, client *admin.Client, v *topView, every time.Duration, rounds int) error {
	for n := 1; ; n++ {
		stats, err := v.read(ctx, client)
		if err != nil {
			return err
		}
		v.rows, v.at = stats.Services, time.Now()
		if n > 1 {
			fmt.Fprintln(p.stdout)
		}
		stats.Services = v.shown()
		fmt.Fprintln(p.stdout, v.at.Format(time.RFC3339)+"  "+v.title(stats.Services, v.at))
		if err := p.printStat(stats); err != nil {
			return err
		}
		if n == rounds {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

// What begins and ends a full screen.
const (
	screenOn  = "\x1b[?1049h\x1b[?25l"
	screenOff = "\x1b[?25h\x1b[?1049l"
)

// topScreen is a terminal in raw mode that shows a view.
type topScreen struct {
	tty     *os.File
	fd      int
	client  *admin.Client
	view    *topView
	every   time.Duration
	keys    chan string
	answers chan topAnswer
	asked   bool // an answer is on its way
}

// topAnswer is what the controller answered, for which span.
type topAnswer struct {
	span  int
	stats admin.Services
	err   error
}

// topLive shows the view on the terminal until somebody leaves it.
func (p *program) topLive(ctx context.Context, client *admin.Client, v *topView, every time.Duration) (err error) {
	// Non-blocking, and never asked for its Fd, which would make it block: closing it ends the goroutine that waits for a key.
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening the terminal: %w", err)
	}
	fd, err := descriptor(tty)
	if err != nil {
		return errors.Join(fmt.Errorf("preparing the terminal: %w", err), tty.Close())
	}
	was, err := term.MakeRaw(fd)
	if err != nil {
		return errors.Join(fmt.Errorf("preparing the terminal: %w", err), tty.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &topScreen{tty: tty, fd: fd, client: client, view: v, every: every, keys: make(chan string), answers: make(chan topAnswer, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		readKeys(ctx, tty, t.keys)
	}()
	defer func() {
		cancel()
		_, werr := io.WriteString(tty, screenOff)
		err = errors.Join(err, werr, term.Restore(fd, was), tty.Close())
		<-done
	}()
	if _, err := io.WriteString(tty, screenOn); err != nil {
		return fmt.Errorf("drawing on the terminal: %w", err)
	}
	return t.run(ctx)
}

// descriptor returns the number of a file, which stays as it is.
func descriptor(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = conn.Control(func(number uintptr) { fd = int(number) })
	return fd, err
}

// run draws, reads keys and asks the controller, until somebody quits.
func (t *topScreen) run(ctx context.Context) error {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	t.ask(ctx)
	for {
		if err := t.draw(); err != nil {
			return fmt.Errorf("drawing on the terminal: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-resized:
		case <-tick.C:
			if !t.view.paused {
				t.ask(ctx)
			}
		case a := <-t.answers:
			t.asked = false
			t.take(ctx, a)
		case k, ok := <-t.keys:
			if !ok {
				return errors.New("the terminal is gone")
			}
			switch t.view.key(k) {
			case topStay:
			case topRead:
				t.ask(ctx)
			case topQuit:
				return nil
			case topTail:
				if err := t.tail(ctx); err != nil {
					return err
				}
			}
		}
	}
}

// ask asks the controller unless an answer is on its way already.
func (t *topScreen) ask(ctx context.Context) {
	if t.asked {
		return
	}
	t.asked = true
	view := *t.view
	go func() {
		stats, err := view.read(ctx, t.client)
		t.answers <- topAnswer{view.span, stats, err}
	}()
}

// take shows an answer. One for another span than is shown by now is asked for again.
func (t *topScreen) take(ctx context.Context, a topAnswer) {
	v := t.view
	switch {
	case a.err != nil:
		v.trouble = a.err.Error()
	case a.span != v.span:
		t.ask(ctx)
	case v.paused && !v.at.IsZero() && v.trouble == "":
	default:
		v.rows, v.at, v.trouble = a.stats.Services, time.Now(), ""
	}
}

func (t *topScreen) size() (width, height int) {
	width, height, err := term.GetSize(t.fd)
	if err != nil || width < 1 || height < 1 {
		return 80, 24
	}
	return width, height
}

func (t *topScreen) draw() error {
	width, height := t.size()
	lines := t.view.lines(width, height, time.Now(), os.Getenv("NO_COLOR") == "")
	_, err := io.WriteString(t.tty, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K\x1b[J")
	return err
}

// tail shows the requests of the chosen service until a key leads back.
func (t *topScreen) tail(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	out := rawLines{t.tty}
	printer := tailPrinter{out: out, notes: out, colour: os.Getenv("NO_COLOR") == ""}
	printer.print = printer.printLine
	fmt.Fprint(out, "\x1b[H\x1b[J"+style(printer.colour, "7", t.view.chosen+"   q leads back")+"\n")
	q := admin.TailQuestion{Text: t.view.chosen, PerSecond: 100}
	if colon := strings.LastIndexByte(q.Text, ':'); colon > 0 {
		q.Where = []string{"app=" + q.Text[:colon]} // the text may stand in other names too
	}
	ended := make(chan error, 1)
	go func() { ended <- t.client.Tail(inner, q, printer.part) }()
	defer cancel()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.view.trouble = err.Error()
			return nil
		case k, ok := <-t.keys:
			if !ok || slices.Contains([]string{"q", "escape", "ctrl-c", "enter", "left"}, k) {
				cancel()
				<-ended //nolint:errcheck // it was ended here
				return nil
			}
		}
	}
}

// rawLines writes to a terminal in raw mode, in which a line feed alone does not return to the left.
type rawLines struct{ to io.Writer }

func (r rawLines) Write(b []byte) (int, error) {
	if _, err := io.WriteString(r.to, strings.ReplaceAll(string(b), "\n", "\r\n")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// readKeys sends each key that is pressed, until ctx or the terminal ends; it closes keys.
func readKeys(ctx context.Context, from io.Reader, keys chan<- string) {
	defer close(keys)
	buf := make([]byte, 256)
	for {
		n, err := from.Read(buf)
		for _, k := range splitKeys(string(buf[:n])) {
			select {
			case keys <- k:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// escapes are what terminals send for keys without a character.
var escapes = []struct{ sequence, name string }{
	{"\x1b[A", "up"},
	{"\x1b[B", "down"},
	{"\x1b[C", "right"},
	{"\x1b[D", "left"},
	{"\x1bOA", "up"},
	{"\x1bOB", "down"},
	{"\x1bOC", "right"},
	{"\x1bOD", "left"},
	{"\x1b[5~", "pageup"},
	{"\x1b[6~", "pagedown"},
	{"\x1b[H", "home"},
	{"\x1b[F", "end"},
	{"\x1b[1~", "home"},
	{"\x1b[4~", "end"},
	{"\x1bOH", "home"},
	{"\x1bOF", "end"},
}

// splitKeys names the keys in what a terminal sent at once.
func splitKeys(text string) []string {
	var out []string
next:
	for text != "" {
		for _, e := range escapes {
			if rest, ok := strings.CutPrefix(text, e.sequence); ok {
				out, text = append(out, e.name), rest
				continue next
			}
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		switch r {
		case '\r', '\n':
			out = append(out, "enter")
		case 0x1b:
			if strings.HasPrefix(text, "[") || strings.HasPrefix(text, "O") {
				text = strings.TrimLeft(text[1:], "0123456789;") // a key without a meaning here
				text = text[min(1, len(text)):]
				continue
			}
			out = append(out, "escape")
		case 0x7f, 0x08:
			out = append(out, "backspace")
		case 0x03:
			out = append(out, "ctrl-c")
		default:
			out = append(out, string(r))
		}
	}
	return out
}
