package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// LogFeed carries the access log from the ring of the worker of the day to the socket that takes it, as the ring's own server does
// before HAProxy 3.3: from then on a ring can only be sent to IP addresses, where every task could forge what it carries. What a worker
// logs while it stops is left to OldWorkers, which holds it by then. The connection to the receiver is one per worker, as HAProxy's own is.
type LogFeed struct {
	StatsSocket string       // where a worker's ring is asked for
	LogSocket   string       // the receiver's, which takes octet-counted lines
	Ring        string       // name of the ring with the access log
	Held        func() []int // OldWorkers.Held: the pid of the worker of the day comes first
	Log         logrus.FieldLogger

	log     logrus.FieldLogger
	started time.Time
	tried   map[int]bool // pids of workers whose ring was read before
	follows atomic.Int64 // pid of the worker whose ring is read, or 0
}

// Follows reports whether the ring of a worker is being read. What it holds after that is all that was carried, and more.
func (f *LogFeed) Follows(pid int) bool { return f.follows.Load() == int64(pid) }

// The times of a LogFeed.
const (
	feedLook  = 20 * time.Millisecond // between two looks for another worker
	feedAgain = time.Second           // before a connection that failed is made anew
)

// feedIdle is HAProxy's own bound for a connection to its command line on which nothing is asked, in seconds.
const feedIdle = 86400

// Run feeds until ctx ends.
func (f *LogFeed) Run(ctx context.Context) error {
	f.log, f.started, f.tried = loggerOr(f.Log), time.Now(), map[int]bool{}
	for ctx.Err() == nil {
		if held := f.Held(); len(held) > 0 {
			began := time.Now()
			if err := f.follow(ctx, held[0]); err != nil && ctx.Err() == nil {
				f.log.WithError(err).WithField("pid", held[0]).Warn("the access log of this worker is not read for a moment")
				wait(ctx, feedAgain-time.Since(began))
			}
		}
		wait(ctx, feedLook)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow carries the log of one worker until it is no longer the worker of the day.
func (f *LogFeed) follow(ctx context.Context, pid int) error {
	f.follows.Store(int64(pid))
	defer f.follows.Store(0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := dialCLI(ctx, f.StatsSocket, workerPrompt)
	if err != nil {
		return fmt.Errorf("connecting to HAProxy's runtime socket: %w", err)
	}
	defer c.close()
	answers, err := c.do(ctx, "show info", fmt.Sprintf("set timeout cli %d", feedIdle))
	if err != nil {
		return err
	}
	info, err := ParseInfo(answers[0])
	if err != nil {
		return err
	}
	if info.PID != pid {
		return nil // another one has come meanwhile
	}
	var d net.Dialer
	to, err := d.DialContext(ctx, "unix", f.LogSocket)
	if err != nil {
		return fmt.Errorf("connecting to the log's receiver: %w", err)
	}
	defer to.Close()
	// What an earlier run of this program has counted, or an earlier connection has carried, is not carried again.
	flags := "-w"
	if f.tried[pid] || time.Unix(info.StartTimeSec+1, 0).Before(f.started) {
		flags = "-nw"
	}
	f.tried[pid] = true
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetDeadline(time.Unix(1, 0))
		_ = to.SetDeadline(time.Now().Add(commandTimeout)) // for what was read
	})
	defer stop()
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.conn, "show events %s %s\n", f.Ring, flags); err != nil {
		return fmt.Errorf("asking for the log: %w", err)
	}
	go func() { // ends the copy below when another worker has come
		for ctx.Err() == nil {
			if held := f.Held(); len(held) > 0 && held[0] != pid {
				cancel()
				return
			}
			wait(ctx, feedLook)
		}
	}()
	if err := frame(to, io.MultiReader(strings.NewReader(string(c.buf)), c.conn)); ctx.Err() == nil {
		return err
	}
	return nil
}

// frame copies lines as octet-counted messages, until one of both ends. It waits for no more while it holds a message back.
func frame(to io.Writer, from io.Reader) error {
	out := bufio.NewWriterSize(to, 64<<10)
	in := bufio.NewReaderSize(flushing{from, out}, 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil // the worker has ended
		}
		if err != nil {
			return fmt.Errorf("carrying the log: %w", err)
		}
		if line = line[:len(line)-1]; len(line) == 0 || line[0] != '<' {
			continue // no message of a log: each begins with its priority
		}
		if _, err := fmt.Fprintf(out, "%d %s", len(line), line); err != nil {
			return fmt.Errorf("carrying the log: %w", err)
		}
	}
}

// flushing reads once out is empty.
type flushing struct {
	io.Reader
	out *bufio.Writer
}

func (f flushing) Read(p []byte) (int, error) {
	if err := f.out.Flush(); err != nil {
		return 0, err
	}
	return f.Reader.Read(p)
}
