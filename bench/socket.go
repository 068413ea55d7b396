package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"signalbox/haproxy"
	"signalbox/metrics"
)

// socketBench measures what taking the access log costs: lines at a steady rate over a ring's stream and by UDP, beside statsd_exporter with
// a counter and a timer for each of the same requests; lines as fast as they can be read; and what logging costs HAProxy itself. At the
// steady rate each line is a write of its own, the most that a ring can cost its reader.
type socketBench struct {
	rate     int // lines a second
	span     time.Duration
	rounds   int
	progress io.Writer
}

// socketResults is what a run writes as JSON.
type socketResults struct {
	Machine machine  `json:"machine"`
	Command []string `json:"command"`
	At      string   `json:"at"`
	Rate    int      `json:"linesPerSecond"`
	Span    float64  `json:"secondsEach"`
	Rounds  int      `json:"rounds"`
	// Steady are the shares of one core that each takes, user and system.
	Steady []steadyResult `json:"steady"`
	// Saturated is how many lines the receiver takes for each second of its CPU.
	Saturated middle `json:"saturatedLinesPerCPUSecond"`
	Lost      uint64 `json:"lost"` // over the ring, in all
	// Logging is HAProxy's throughput with the log on to that with it off, in the same round; Logged are its requests with the log on, all
	// rounds together, in which LoggedFor seconds were spent, and Unlogged those of them whose line is missing.
	Logging   middle  `json:"throughputWithLogToWithout"`
	Logged    int     `json:"logged"`
	LoggedFor float64 `json:"loggedSeconds"`
	Unlogged  int     `json:"unlogged"`
}

type steadyResult struct {
	Who   string `json:"who"`
	Core  middle `json:"shareOfACore"`
	Ratio middle `json:"toStatsdExporter"` // in the same round
	Lost  uint64 `json:"lost"`             // of the lines, in all rounds
}

// benchLine returns a line of one of 50 services as HAProxy writes it. frame: behind its length, as a ring sends it.
func benchLine(seq int, frame bool) []byte {
	service, ms := seq%50, seq%97
	line := fmt.Sprintf(`<134>SB1 H 4711 http %d 200 ---- "/bench/service-%02d:0" bench_service-%02d_0 s%d 10.0.0.%d:31000 192.168.7.9:54914 1795230849 532 0 12 1 0 0 %d %d 1795230849533717 %d %d 843 1573 0 0 0 - - "GET" "HTTP/1.1" "service-%02d.bench.local" "/cart/%d/items" -`,
		seq, service, service, seq%4, seq%4, ms, ms, ms*1000+7, ms*1000+91, service, seq%1000)
	if frame {
		return fmt.Appendf(nil, "%d %s", len(line), line)
	}
	return []byte(line)
}

// pace calls send for each of rate things a second, a millisecond's worth at a time, for a span.
func pace(ctx context.Context, rate int, span time.Duration, send func(seq int) error) (sent int, err error) {
	began := time.Now()
	for ctx.Err() == nil {
		due := min(time.Since(began), span)
		for want := int(due.Seconds() * float64(rate)); sent < want; sent++ {
			if err := send(sent); err != nil {
				return sent, err
			}
		}
		if due == span {
			return sent, nil
		}
		time.Sleep(time.Millisecond)
	}
	return sent, ctx.Err()
}

// distinct is how many lines differ in more than their number.
const distinct = 50 * 97

// prepared are messages that are sent again and again: making them is none of what is measured.
func prepared(message func(seq int) []byte) [][]byte {
	all := make([][]byte, distinct)
	for i := range all {
		all[i] = message(i)
	}
	return all
}

// share sends at the steady rate, and returns which share of a core a process took meanwhile.
func (b socketBench) share(ctx context.Context, c *child, send func(seq int) error) (float64, int, error) {
	before, err := usageOf(c.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	sent, err := pace(ctx, b.rate, b.span, send)
	if err != nil {
		return 0, sent, err
	}
	after, err := usageOf(c.cmd.Process.Pid)
	return (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds(), sent, err
}

// contender takes what is sent at the steady rate.
type contender struct {
	who    string
	start  func() (*child, error)
	dial   func() (net.Conn, error)
	lines  [][]byte
	shares []float64
	ratios []float64
	lost   uint64
}

func (b socketBench) contenders(ctx context.Context, dir string) ([]*contender, error) {
	udp, err := freeAddress()
	if err != nil {
		return nil, err
	}
	statsd, err := freeAddress()
	if err != nil {
		return nil, err
	}
	web, err := freeAddress()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(b.progress, "building statsd_exporter")
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the tree: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "-C", filepath.Join(strings.TrimSpace(string(root)), "test", "servers"), "build", "-o", dir+"/", "github.com/prometheus/statsd_exporter")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building statsd_exporter: %w\n%s", err, out)
	}
	ring := filepath.Join(dir, "ring.sock")
	return []*contender{
		{
			who: "statsd_exporter, a counter and a timer for each request",
			start: func() (*child, error) {
				cmd := exec.CommandContext(ctx, filepath.Join(dir, "statsd_exporter"), "--statsd.listen-udp="+statsd, "--statsd.listen-tcp=", "--web.listen-address="+web, "--log.level=info")
				return startChild(cmd, filepath.Join(dir, fmt.Sprintf("exporter-%d", rand.Uint32())), func(string) bool {
					conn, err := net.Dial("tcp", web)
					if err != nil {
						return false
					}
					return conn.Close() == nil
				})
			},
			dial: func() (net.Conn, error) { return net.Dial("udp", statsd) },
			lines: prepared(func(seq int) []byte {
				return fmt.Appendf(nil, "bench.service-%02d.requests.200.GET:1|c\nbench.service-%02d.duration:%d|ms", seq%50, seq%50, seq%97)
			}),
		},
		{
			who:   "signalbox, HAProxy's ring",
			start: func() (*child, error) { return startReceiver(ctx, dir, "ring:"+ring) },
			dial:  func() (net.Conn, error) { return net.Dial("unix", ring) },
			lines: prepared(func(seq int) []byte { return benchLine(seq, true) }),
		},
		{
			who:   "signalbox, UDP",
			start: func() (*child, error) { return startReceiver(ctx, dir, "udp:"+udp) },
			dial:  func() (net.Conn, error) { return net.Dial("udp", udp) },
			lines: prepared(func(seq int) []byte { return benchLine(seq, false) }),
		},
	}, nil
}

// steady loads a contender once.
func (b socketBench) steady(ctx context.Context, c *contender) (float64, error) {
	proc, err := c.start()
	if err != nil {
		return 0, err
	}
	conn, err := c.dial()
	if err != nil {
		_, _ = proc.end()
		return 0, err
	}
	share, sent, err := b.share(ctx, proc, func(seq int) error {
		_, err := conn.Write(c.lines[seq%len(c.lines)])
		return err
	})
	if err = errors.Join(err, conn.Close()); err != nil {
		_, _ = proc.end()
		return 0, err
	}
	if !strings.HasPrefix(c.who, "signalbox") {
		_, _ = proc.end() // it ends by the signal, as it should
		return share, nil
	}
	time.Sleep(100 * time.Millisecond)
	l, err := proc.account()
	if err != nil {
		return 0, err
	}
	if l.Counted > uint64(sent) {
		return 0, fmt.Errorf("%s has counted %d of %d lines", c.who, l.Counted, sent)
	}
	c.lost += uint64(sent) - l.Counted
	return share, nil
}

// saturated sends as fast as the receiver reads, and returns how many lines it takes in a second of CPU.
func (b socketBench) saturated(ctx context.Context, dir string) (rate float64, lost uint64, err error) {
	path := filepath.Join(dir, "full.sock")
	proc, err := startReceiver(ctx, dir, "ring:"+path)
	if err != nil {
		return 0, 0, err
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		_, _ = proc.end()
		return 0, 0, err
	}
	block := bytes.Join(prepared(func(seq int) []byte { return benchLine(seq, true) }), nil)
	before, err := usageOf(proc.cmd.Process.Pid)
	sent := 0
	for end := time.Now().Add(b.span); err == nil && time.Now().Before(end); sent += distinct {
		_, err = conn.Write(block)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		_, _ = proc.end()
		return 0, 0, err
	}
	time.Sleep(300 * time.Millisecond)
	after, err := usageOf(proc.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	l, err := proc.account()
	if err != nil {
		return 0, 0, err
	}
	return float64(l.Counted) / (after.CPU - before.CPU).Seconds(), uint64(sent) - l.Counted, nil
}

func (b socketBench) run(ctx context.Context) (out socketResults, err error) {
	dir, err := os.MkdirTemp("", "sb-bench-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out.Rate, out.Span, out.Rounds = b.rate, b.span.Seconds(), b.rounds
	field, err := b.contenders(ctx, dir)
	if err != nil {
		return out, err
	}
	logged, bare, err := b.loggers(ctx, dir)
	if err != nil {
		return out, err
	}
	defer logged.stop()
	defer bare.stop()
	var full, logging []float64
	for round := range b.rounds {
		fmt.Fprintf(b.progress, "round %d of %d\n", round+1, b.rounds)
		shares := make([]float64, len(field))
		for _, i := range rand.Perm(len(field)) {
			if shares[i], err = b.steady(ctx, field[i]); err != nil {
				return out, fmt.Errorf("%s: %w", field[i].who, err)
			}
		}
		for i, c := range field {
			c.shares, c.ratios = append(c.shares, shares[i]), append(c.ratios, shares[i]/shares[0])
		}
		rate, lost, err := b.saturated(ctx, dir)
		if err != nil {
			return out, err
		}
		full, out.Lost = append(full, rate), out.Lost+lost
		ratio, err := b.compare(ctx, logged, bare)
		if err != nil {
			return out, err
		}
		logging = append(logging, ratio)
	}
	for _, c := range field {
		out.Steady = append(out.Steady, steadyResult{c.who, middleOf(c.shares), middleOf(c.ratios), c.lost})
	}
	out.Saturated, out.Logging = middleOf(full), middleOf(logging)
	time.Sleep(500 * time.Millisecond)
	l, err := logged.receiver.account()
	logged.receiver = nil
	if err != nil {
		return out, err
	}
	out.Logged, out.LoggedFor = logged.result.Requests, 4*float64(b.rounds)*(b.span/8).Seconds()
	out.Unlogged = out.Logged + 1 - int(l.Counted) // the connection by which it was seen to listen has a line too
	return out, nil
}

// logger is a HAProxy under load, with a receiver of its log or none.
type logger struct {
	*contestant
	origin   *contestant
	receiver *child
}

func (l *logger) stop() {
	for _, c := range []*contestant{l.contestant, l.origin} {
		if c != nil {
			_ = c.proc.Process.Kill()
			_ = c.proc.Wait()
		}
	}
	if l.receiver != nil {
		_, _ = l.receiver.end()
	}
}

// loggers starts one HAProxy with the access log as signalbox has it, and one without.
func (b socketBench) loggers(ctx context.Context, dir string) (logged, bare *logger, err error) {
	start := func(name string, log bool) (*logger, error) {
		l := &logger{}
		var err error
		if l.origin, err = startOrigin(ctx, filepath.Join(dir, name+"-origin")); err != nil {
			return nil, err
		}
		var options haproxy.Options
		if log {
			options.LogSocket, options.LogFormat, options.LogFormatTCP = filepath.Join(dir, name+".sock"), metrics.LogFormat, metrics.LogFormatTCP
			if l.receiver, err = startReceiver(ctx, dir, "ring:"+options.LogSocket); err != nil {
				l.stop()
				return nil, err
			}
		}
		home := filepath.Join(dir, name)
		l.contestant, err = startHAProxy(ctx, home, func(c *contestant) error {
			c.result = hostsResult{Hosts: 10, Apps: 10, Asked: 10}
			return c.write(home, l.origin.addr, options)
		})
		if err != nil {
			l.stop()
			return nil, err
		}
		return l, nil
	}
	if logged, err = start("logged", true); err != nil {
		return nil, nil, err
	}
	if bare, err = start("bare", false); err != nil {
		logged.stop()
		return nil, nil, err
	}
	return logged, bare, nil
}

// compare loads both in turns, four times each, and returns the ratio of their throughputs.
func (b socketBench) compare(ctx context.Context, logged, bare *logger) (float64, error) {
	var with, without float64
	for i := range 8 {
		l, sum := logged, &with
		if i%2 == 0 { // in turns
			l, sum = bare, &without
		}
		rate, err := l.load(ctx, b.span/8)
		if err != nil {
			return 0, err
		}
		*sum += rate
	}
	return with / without, nil
}

func (r *socketResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "%d lines of the access log a second for %gs, in %d rounds; the share is of one core, user and system. The ratio is to the first line in the\n"+
		"same round. low and high are the bounds of 95 %% confidence in the median.\n\n", r.Rate, r.Span, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "who\tof a core\tlow\thigh\tratio\tlow\thigh\tlost\t")
	for _, x := range r.Steady {
		lost := strconv.FormatUint(x.Lost, 10)
		if !strings.HasPrefix(x.Who, "signalbox") {
			lost = "?"
		}
		fmt.Fprintf(t, "%s\t%.2f %%\t%.2f\t%.2f\t%.3f\t%.3f\t%.3f\t%s\t\n", x.Who, 100*x.Core.Median, 100*x.Core.Low, 100*x.Core.High, x.Ratio.Median, x.Ratio.Low, x.Ratio.High, lost)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nsaturated, over the ring: %.2f million lines for a second of CPU (%.2f to %.2f), %d lost\n", r.Saturated.Median/1e6, r.Saturated.Low/1e6, r.Saturated.High/1e6, r.Lost)
	_, err := fmt.Fprintf(w, "HAProxy's throughput with the log on: %.3f of that with it off (%.3f to %.3f); of %d requests, %.0f a second, %d lines are missing\n",
		r.Logging.Median, r.Logging.Low, r.Logging.High, r.Logged, float64(r.Logged)/r.LoggedFor, r.Unlogged)
	return err
}
