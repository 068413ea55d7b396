package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// replayBench has signalbox replay and HAProxy's own halog read one log, in turns. halog -srv counts requests by status and sums
// two times per server; replay counts all that signalbox counts, with five histograms per service. Each has one thread.
type replayBench struct {
	lines, rounds int
	binary        string
	progress      io.Writer
}

// replayResults is what a run writes as JSON. Times are in nanoseconds of CPU per line, user and system, of the whole process.
type replayResults struct {
	Machine  machine  `json:"machine"`
	Command  []string `json:"command"`
	At       string   `json:"at"`
	Lines    int      `json:"lines"`
	Bytes    int64    `json:"bytes"`
	Services int      `json:"services"`
	Rounds   int      `json:"rounds"`
	Replay   middle   `json:"replay"`
	Halog    middle   `json:"halog"`
	// Ratio is of the CPU times within one round.
	Ratio middle `json:"ratio"`
}

// middle is a median, and between what it lies with 95 % confidence.
type middle struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func middleOf(values []float64) (s middle) {
	s.Median, s.Low, s.High = median(values)
	return s
}

func (b replayBench) run(ctx context.Context) (replayResults, error) {
	dir, err := os.MkdirTemp("", "signalbox-bench")
	if err != nil {
		return replayResults{}, fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "haproxy.log")
	fmt.Fprintf(b.progress, "writing %d lines\n", b.lines)
	size, err := writeLog(path, b.lines)
	if err != nil {
		return replayResults{}, err
	}
	out := replayResults{Lines: b.lines, Bytes: size, Rounds: b.rounds}
	var ours, theirs, ratios []float64
	for round := range b.rounds {
		fmt.Fprintf(b.progress, "round %d of %d\n", round+1, b.rounds)
		halog, table, err := b.cpu(ctx, path, "halog", "-q", "-srv")
		if err != nil {
			return out, err
		}
		replay, answer, err := b.cpu(ctx, "", b.binary, "replay", "-o", "json", path)
		if err != nil {
			return out, err
		}
		if out.Services, err = sameCounts(table, answer); err != nil {
			return out, err
		}
		ours, theirs, ratios = append(ours, replay), append(theirs, halog), append(ratios, replay/halog)
	}
	out.Replay, out.Halog, out.Ratio = middleOf(ours), middleOf(theirs), middleOf(ratios)
	return out, nil
}

// cpu runs a program, with a file as its input, and returns the CPU time that it took for each line, and what it printed.
func (b replayBench) cpu(ctx context.Context, input, name string, args ...string) (perLine float64, printed []byte, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = b.progress
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // halog has one thread
	if input != "" {
		file, err := os.Open(input)
		if err != nil {
			return 0, nil, fmt.Errorf("opening the log: %w", err)
		}
		defer func() { _ = file.Close() }()
		cmd.Stdin = file
	}
	printed, err = cmd.Output()
	if err != nil {
		return 0, nil, fmt.Errorf("running %s: %w", name, err)
	}
	spent := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return float64(spent.Nanoseconds()) / float64(b.lines), printed, nil
}

// sameCounts compares what the two have counted of each service, and returns how many services there are.
func sameCounts(halog, replay []byte) (services int, err error) {
	theirs := map[string]uint64{}
	for line := range strings.Lines(string(halog)) {
		words := strings.Fields(line)
		if len(words) < 8 || strings.HasPrefix(line, "#") {
			continue
		}
		backend, server, _ := strings.Cut(words[0], "/")
		if server == "<NOSRV>" {
			continue // halog -srv does not count all of these
		}
		n, err := strconv.ParseUint(words[7], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading halog's table: %w", err)
		}
		theirs[backend] += n
	}
	var answer struct {
		Services []struct {
			Service  string `json:"service"`
			Requests uint64 `json:"requests"`
		} `json:"services"`
	}
	if err := json.Unmarshal(replay, &answer); err != nil {
		return 0, fmt.Errorf("reading replay's answer: %w", err)
	}
	ours := map[string]uint64{}
	for _, s := range answer.Services {
		if s.Service != "none" {
			ours[s.Service] = s.Requests
		}
	}
	if !maps.Equal(ours, theirs) {
		return 0, fmt.Errorf("replay and halog differ: %v and %v", ours, theirs)
	}
	return len(ours), nil
}

// writeLog writes a log as a syslog daemon would have: 50 services with 3 to 40 servers, the first ones with most of the requests,
// times that spread over decades, captured headers, about 316 bytes a line.
func writeLog(path string, lines int) (size int64, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("writing the log: %w", err)
	}
	defer func() { _ = file.Close() }()
	w := bufio.NewWriterSize(file, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rnd, 1.2, 4, 49)
	browsers := []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5)", "okhttp/4.12.0", "curl/7.88.1",
	}
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	var line []byte
	for i := range lines {
		at = at.Add(time.Duration(rnd.IntN(80)) * time.Millisecond / 10)
		service := zipf.Uint64()
		server := rnd.IntN(3 + int(service*37%38))
		connect, response := rnd.IntN(3), int(math.Exp(rnd.NormFloat64()*1.1+3.2))
		total, status, state := connect+response+rnd.IntN(4), 200, "----"
		line = fmt.Appendf(line[:0], "<134>%s slave-07 haproxy[%d]: 10.%d.%d.%d:%d [%s] http-in~ ", at.Format(time.Stamp), 2711,
			rnd.IntN(256), rnd.IntN(256), rnd.IntN(256), 1024+rnd.IntN(60000), at.Format("02/Jan/2006:15:04:05.000"))
		where := fmt.Sprintf("shop_service_%02d_10%03d/10_0_%d_%d_31%03d", service, service, service, server, server)
		switch n := rnd.IntN(1000); {
		case n < 60:
			status = []int{201, 204, 301, 304, 404}[n%5]
		case n < 80:
			status = 500 + n%4
		case n < 85:
			status, state, connect, response = 503, "SC--", -1, -1
		case n < 90:
			status, state, response = -1, "CH--", -1
		case n < 92:
			line = fmt.Appendf(line, "http-in/<NOSRV> -1/-1/-1/-1/%d 400 0 - - PR-- 812/790/0/0/0 0/0 \"<BADREQ>\"\n", total)
			where = ""
		}
		if where != "" {
			line = fmt.Appendf(line, "%s %d/%d/%d/%d/%d %d %d - - %s %d/%d/%d/%d/%d 0/0 {www.shop%02d.example.com|%s|10.%d.%d.9} {text/html} \"GET /v1/%s/%d?page=%d&size=50 HTTP/1.1\"\n",
				where, rnd.IntN(2), rnd.IntN(2), connect, response, total, status, 200+rnd.IntN(40000), state, 800+rnd.IntN(100), 700+rnd.IntN(90),
				rnd.IntN(60), rnd.IntN(9), max(rnd.IntN(100)-98, 0), service, browsers[i%len(browsers)], rnd.IntN(256), rnd.IntN(256),
				[]string{"customers", "orders", "pictures", "articles"}[rnd.IntN(4)], rnd.IntN(1e7), rnd.IntN(30))
		}
		n, err := w.Write(line)
		if err != nil {
			return 0, fmt.Errorf("writing the log: %w", err)
		}
		size += int64(n)
	}
	if err := w.Flush(); err != nil {
		return 0, fmt.Errorf("writing the log: %w", err)
	}
	return size, nil
}

func (r *replayResults) print(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	fmt.Fprintf(w, "One log of %d lines of %d bytes, %d services, read %d times by each, in turns. CPU time of the whole process.\n\n",
		r.Lines, r.Bytes/int64(max(r.Lines, 1)), r.Services, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tns of CPU a line: median\t95 % within\t")
	for _, one := range []struct {
		name string
		s    middle
		form string
	}{{"signalbox replay", r.Replay, "%.0f"}, {"halog -srv", r.Halog, "%.0f"}, {"ratio in a round", r.Ratio, "%.2f"}} {
		fmt.Fprintf(t, "%s\t"+one.form+"\t"+one.form+" to "+one.form+"\t\n", one.name, one.s.Median, one.s.Low, one.s.High)
	}
	return t.Flush()
}
