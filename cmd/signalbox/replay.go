package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"signalbox/admin"
	"signalbox/metrics"
)

func newReplayCommand(p *program) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "replay FILE|-",
		Short: "Requests, latencies and errors of each service, out of an access log that is written",
		Long: `Reads a log that HAProxy has written, with or without a controller: options httplog, httpslog and tcplog, and the format of
signalbox, as syslog daemons store them and journalctl exports them, compressed with gzip or not. It prints what "signalbox stat" prints of
the requests that pass now, and how many lines could not be read. It asks nobody. It ends with 1 if no line was a request.`,
		Example: `  signalbox replay /var/log/haproxy.log.1.gz
  journalctl -u haproxy -S yesterday -U today | signalbox replay -`,
		GroupID: groupLook,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := p.openLog(args[0])
			if err != nil {
				return err
			}
			defer log.Close()
			replay := metrics.NewReplay(metrics.ReplayConfig{})
			stop := p.showProgress(cmd.Context(), log, replay)
			replayed, err := replay.Run(cmd.Context(), log)
			stop()
			if err != nil && cmd.Context().Err() == nil {
				err = &exitError{code: exitFindings, err: err}
			}
			if err == nil && replayed.Requests == 0 {
				err = &exitError{
					code: exitFindings, err: errors.New("no line of " + args[0] + " could be read as a request"),
					try: "a log that HAProxy has written with \"option httplog\", \"httpslog\" or \"tcplog\"",
				}
			}
			if replayed.Requests == 0 && output != "json" {
				return errors.Join(err, p.printUnread(replayed))
			}
			if output == "json" {
				return errors.Join(err, printJSON(p.stdout, replayAnswer(replayed)))
			}
			return errors.Join(err, p.printReplay(replayed))
		},
	}
	addOutput(cmd, &output)
	return cmd
}

// writtenLog is a log that is read from its beginning, and how far that has got.
type writtenLog struct {
	io.Reader
	file *os.File // nil: standard input
	size int64    // in bytes as they are stored; 0: not known
	read atomic.Int64
}

// Close ends the reading.
func (l *writtenLog) Close() {
	if l.file != nil {
		_ = l.file.Close() // nothing was written
	}
}

// stored reads a log as it is stored, and counts.
type stored struct {
	log *writtenLog
	r   io.Reader
}

// Read implements io.Reader.
func (s stored) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.log.read.Add(int64(n))
	return n, err //nolint:wrapcheck // it is a reader's
}

// openLog opens a file, or standard input for "-". What is compressed with gzip says so itself.
func (p *program) openLog(name string) (*writtenLog, error) {
	log := &writtenLog{}
	from := stored{log: log, r: p.stdin}
	if name != "-" {
		file, err := os.Open(name)
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, usageError("reading %s: %w", name, path.Err)
		}
		if err != nil {
			return nil, usageError("reading the log: %w", err)
		}
		info, err := file.Stat()
		if err == nil && info.IsDir() {
			err = errors.New("it is a directory")
		}
		if err != nil {
			_ = file.Close()
			return nil, usageError("reading %s: %w", name, err)
		}
		from.r, log.file = file, file
		if info.Mode().IsRegular() {
			log.size = info.Size()
		}
	}
	ahead := bufio.NewReaderSize(from, 4<<10)
	log.Reader = ahead
	if magic, err := ahead.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(ahead)
		if err != nil {
			log.Close()
			return nil, usageError("reading %s: %w", name, err)
		}
		log.Reader = unpacked
	}
	return log, nil
}

// showProgress keeps one line of a terminal up to date until stop is called, and then takes it away.
func (p *program) showProgress(ctx context.Context, log *writtenLog, replay *metrics.Replay) (stop func()) {
	if !onTerminal(p.stderr) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer fmt.Fprint(p.stderr, "\r\x1b[K")
		begun := time.Now()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				fmt.Fprint(p.stderr, "\r\x1b[K"+progress(log.read.Load(), log.size, replay.Lines(), time.Since(begun)))
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// progress is a line about how far the reading has got: "[#####·····] 48 %  1.2M lines  3.1M lines/s  940 MB/s". Without a size
// it begins with the lines.
func progress(read, size int64, lines uint64, spent time.Duration) string {
	const width = 30
	var b strings.Builder
	if size > 0 {
		share := min(float64(read)/float64(size), 1)
		full := int(share * width)
		fmt.Fprintf(&b, "[%s%s] %d %%  ", strings.Repeat("#", full), strings.Repeat("·", width-full), int(share*100))
	}
	seconds := max(spent.Seconds(), 1e-3)
	fmt.Fprintf(&b, "%s lines  %s lines/s  %s MB/s", rough(float64(lines)), rough(float64(lines)/seconds), digits(float64(read)/seconds/1e6))
	return b.String()
}

// rough prints a count with three digits at most: "950", "12.3k", "4.56M".
func rough(x float64) string {
	switch {
	case x >= 1e6:
		return digits(x/1e6) + "M"
	case x >= 1e3:
		return digits(x/1e3) + "k"
	}
	return strconv.FormatFloat(x, 'f', 0, 64)
}

// replayedJSON is what replay prints for machines. Within a version, fields are added, never renamed or removed.
type replayedJSON struct {
	APIVersion string              `json:"apiVersion"`
	From       *time.Time          `json:"from"` // on the clock that wrote the log, written as UTC; null without requests
	To         *time.Time          `json:"to"`
	Seconds    float64             `json:"seconds"`
	Lines      uint64              `json:"lines"`
	Requests   uint64              `json:"requests"`
	Truncated  uint64              `json:"truncated"`
	Failed     uint64              `json:"failedConnections"`
	Notices    uint64              `json:"notices"`
	Dropped    uint64              `json:"dropped"`
	Unread     map[string]uint64   `json:"unread"`   // by reason
	Services   []admin.ServiceStat `json:"services"` // sorted by Service; rates are over the whole log
}

func replayAnswer(r *metrics.Replayed) replayedJSON {
	answer := replayedJSON{
		APIVersion: admin.APIVersion, Seconds: r.To.Sub(r.From).Seconds(), Lines: r.Lines, Requests: r.Requests, Truncated: r.Truncated,
		Failed: r.Failed, Notices: r.Notices, Dropped: r.Dropped, Unread: map[string]uint64{}, Services: replayStats(r),
	}
	if !r.From.IsZero() {
		answer.From, answer.To = &r.From, &r.To
	}
	for reason, n := range r.Bad {
		answer.Unread[reason.String()] = n
	}
	return answer
}

// replayStats returns the rows of a log, with rates over all of it.
func replayStats(r *metrics.Replayed) []admin.ServiceStat {
	rows := admin.StatsOf(r.Snapshot)
	if seconds := r.To.Sub(r.From).Seconds(); seconds > 0 {
		for i := range rows {
			rows[i].PerSecond = float64(rows[i].Requests) / seconds
		}
	}
	return rows
}

func (p *program) printReplay(r *metrics.Replayed) error {
	if err := p.printStat(admin.Services{Services: replayStats(r)}); err != nil {
		return err
	}
	const layout = "2006-01-02 15:04:05"
	fmt.Fprintf(p.stdout, "\n%s to %s by the log's clock, %s: %s in %s\n", r.From.Format(layout), r.To.Format(layout),
		r.To.Sub(r.From).Round(time.Second), many(r.Requests, "request"), many(r.Lines, "line"))
	return p.printUnread(r)
}

// printUnread says what lines were not requests, or not whole ones.
func (p *program) printUnread(r *metrics.Replayed) error {
	for _, one := range []struct {
		n     uint64
		words string
	}{
		{r.Truncated, "counted without what stands behind the bytes, which was cut or has no one reading"},
		{r.Failed, "of connections that failed before a request"},
		{r.Notices, "about something else than requests"},
		{r.Dropped, "lost before they were written, as the log says"},
	} {
		if one.n > 0 {
			fmt.Fprintf(p.stdout, "%s %s\n", many(one.n, "line"), one.words)
		}
	}
	reasons := make([]metrics.Reason, 0, len(r.Bad))
	for reason := range r.Bad {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		fmt.Fprintf(p.stdout, "%s not read: %s\n", many(r.Bad[reason], "line"), unreadWords[reason])
	}
	return nil
}

// unreadWords say what is wrong with a line.
var unreadWords = map[metrics.Reason]string{
	metrics.ReasonEmpty:     "empty",
	metrics.ReasonTooLong:   "longer than any that HAProxy writes (too_long)",
	metrics.ReasonVersion:   "of another version of signalbox (version)",
	metrics.ReasonTruncated: "cut before the service and the bytes were known (truncated)",
	metrics.ReasonField:     "a field is not what it must be (field)",
	metrics.ReasonControl:   "bytes that HAProxy never writes (control)",
	metrics.ReasonFormat:    "without \"option httplog\" or \"tcplog\", or with \"clf\" (format)",
}

// many is plural for counts of lines.
func many(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.FormatUint(n, 10) + " " + noun + "s"
}
