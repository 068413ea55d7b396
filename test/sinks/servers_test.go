package sinks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"signalbox/test/ports"
)

// statsd is Etsy's StatsD. It adds up until the end of the test, and is asked at its administration port.
type statsd struct{ port, admin int }

func startStatsD(t *testing.T) *statsd {
	t.Helper()
	s := &statsd{ports.Free(t), ports.Free(t)}
	config := filepath.Join(t.TempDir(), "config.js")
	text := fmt.Sprintf(`{ servers: [{ server: "./servers/udp", address: "127.0.0.1", port: %d }], mgmt_address: "127.0.0.1", mgmt_port: %d,
  backends: ["./backends/console"], flushInterval: 3600000 }`, s.port, s.admin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "node", filepath.Join(servers, "node_modules/statsd/stats.js"), config)
	accepts(t, s.admin, p)
	return s
}

var inspected = regexp.MustCompile(`'(signalbox\.[^']+)': ([0-9.]+)`)

// ask returns the answer to a command of the administration port: counters or gauges.
func (s *statsd) ask(t *testing.T, command string) map[string]float64 {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.admin))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, command)
	var text strings.Builder
	for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "END"; {
		text.WriteString(lines.Text() + "\n")
	}
	out := map[string]float64{}
	for _, m := range inspected.FindAllStringSubmatch(text.String(), -1) {
		out[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	return out
}

// exporter is Prometheus' statsd_exporter.
type exporter struct {
	port   int // UDP
	socket string
	web    int
}

func startExporter(t *testing.T) *exporter {
	t.Helper()
	dir, err := os.MkdirTemp("", "sb") //nolint:usetesting // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &exporter{ports.Free(t), filepath.Join(dir, "statsd.sock"), ports.Free(t)}
	p := start(t, filepath.Join(servers, "statsd_exporter"), fmt.Sprintf("--statsd.listen-udp=127.0.0.1:%d", e.port), "--statsd.listen-tcp=",
		"--statsd.listen-unixgram="+e.socket, fmt.Sprintf("--web.listen-address=127.0.0.1:%d", e.web))
	accepts(t, e.web, p)
	return e
}

// scrape returns the metrics that begin with signalbox_.
func (e *exporter) scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", e.web))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name := range families {
		if !strings.HasPrefix(name, "signalbox_") {
			delete(families, name)
		}
	}
	return families
}

// carbon is Graphite's carbon-cache, which writes whisper files.
type carbon struct {
	port int
	data string
}

func startCarbon(t *testing.T) *carbon {
	t.Helper()
	dir := t.TempDir()
	c := &carbon{ports.Free(t), filepath.Join(dir, "whisper")}
	conf := fmt.Sprintf(`[cache]
STORAGE_DIR = %[1]s
CONF_DIR = %[1]s
LOG_DIR = %[1]s
PID_DIR = %[1]s
WHITELISTS_DIR = %[1]s
LOCAL_DATA_DIR = %[2]s
USER =
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = %[3]d
PICKLE_RECEIVER_PORT = 0
ENABLE_UDP_LISTENER = False
CACHE_QUERY_PORT = 0
MAX_CREATES_PER_MINUTE = inf
MAX_UPDATES_PER_SECOND = inf
CARBON_METRIC_INTERVAL = 0
ENABLE_TAGS = False
`, dir, c.data, c.port)
	for name, text := range map[string]string{
		"carbon.conf":              conf,
		"storage-schemas.conf":     "[all]\npattern = .*\nretentions = 1s:1h\n",
		"storage-aggregation.conf": "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = sum\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "carbon-cache", "--config="+filepath.Join(dir, "carbon.conf"), "--debug", "start")
	accepts(t, c.port, p)
	return c
}

// whisper reads the files with whisper itself, and prints the sum of each.
const whisper = `
import json, os, sys, time, whisper
out = {}
for at, _, files in os.walk(sys.argv[1]):
    for f in files:
        path = os.path.join(at, f)
        _, values = whisper.fetch(path, 0, int(time.time()) + 10)
        out[os.path.relpath(path, sys.argv[1])[:-len(".wsp")]] = sum(v for v in values if v is not None)
json.dump(out, sys.stdout)
`

// sums returns the sum of each series, by its file's path without the ending.
func (c *carbon) sums(t *testing.T) map[string]float64 {
	t.Helper()
	out, err := exec.Command("/usr/bin/python3", "-c", whisper, c.data).Output()
	if err != nil {
		t.Logf("reading whisper files: %v", err) // one may be half written
		return nil
	}
	sums := map[string]float64{}
	if err := json.Unmarshal(out, &sums); err != nil {
		t.Fatal(err)
	}
	return sums
}

// riemannd is the program of test/servers.
type riemannd struct {
	process *process
	address string
}

// event is what it prints.
type event struct {
	Host, Service, State, Description string
	Time, TimeMicros                  int64
	TTL                               float32
	Tags                              []string
	Attributes                        map[string]string
	Whole                             *int64
	Figure                            *float64
}

func startRiemann(t *testing.T) *riemannd {
	t.Helper()
	r := &riemannd{process: start(t, filepath.Join(servers, "riemannd"))}
	eventually(t, "riemannd has an address", func() bool {
		line, _, whole := strings.Cut(r.process.text(), "\n")
		r.address = line
		return whole
	}, r.process.text)
	return r
}

func (r *riemannd) events(t *testing.T) (out []event) {
	t.Helper()
	_, text, _ := strings.Cut(r.process.text(), "\n")
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
}

// ends waits for a function that ends with its context.
func ends(t *testing.T, run func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
