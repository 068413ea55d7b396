package marathon

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"signalbox"
	"signalbox/discovery/labels"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// given are the surroundings of a golden.
type given struct {
	Labels         labels.Options
	Health         Health
	AllowLoopback  bool
	PreferHostPort bool
	Forbidden      []netip.AddrPort
	ControlPorts   []uint16
	Now            time.Time
	Verdicts       map[string]bool
	Hosts          map[string]string
	HostsBefore    map[string]string // at the time of the earlier read
}

func (g given) options() Options {
	return Options{
		Labels: g.Labels, Health: g.Health, AllowLoopback: g.AllowLoopback, PreferHostPort: g.PreferHostPort, Now: g.Now,
		Verdict:      func(task string) (bool, bool) { v, ok := g.Verdicts[task]; return v, ok },
		ControlPorts: g.ControlPorts,
		Forbidden:    func(a netip.AddrPort) bool { return slices.Contains(g.Forbidden, a) },
		Resolve: func(host string) (netip.Addr, bool) {
			a, err := netip.ParseAddr(g.Hosts[host])
			return a, err == nil
		},
	}
}

// A golden is an archive of "apps" (a body of /v2/apps) or "pods" (one of /v2/pods/::status), and "want". It may have "given"
// (JSON), "before": the body of an earlier read, whose services the case starts from, and "versions": earlier definitions of apps by
// version, null for one that nobody knows any more; those that are missing are still being read.
func TestConvertGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/convert/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string][]byte{}
			for _, f := range ar.Files {
				part[f.Name] = f.Data
			}
			var g given
			if b := part["given"]; b != nil {
				if err := json.Unmarshal(b, &g); err != nil {
					t.Fatal(err)
				}
			}
			o := g.options()
			if b := part["versions"]; b != nil {
				var versions map[string]*App
				if err := json.Unmarshal(b, &versions); err != nil {
					t.Fatal(err)
				}
				o.shapeOf = func(_, version string) (*shape, bool) {
					app, known := versions[version]
					if app == nil {
						return nil, known
					}
					return app.shape(), true
				}
			}
			if b := part["before"]; b != nil {
				earlier := g
				earlier.Hosts = g.HostsBefore
				before := convertBody(t, b, earlier.options())
				o.Previous = before.Service
			}
			var table *signalbox.Table
			if b := part["pods"]; b != nil {
				pods, bad, err := DecodePods(bytes.NewReader(b), 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				table = tableOf(bad, len(pods), func(i int) ([]*signalbox.Service, []signalbox.Problem) { return ConvertPod(pods[i], o) })
			} else {
				table = convertBody(t, part["apps"], o)
			}
			got := tableText(table)
			if *update {
				for i := range ar.Files {
					if ar.Files[i].Name == "want" {
						ar.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(part["want"]), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func convertBody(t *testing.T, body []byte, o Options) *signalbox.Table {
	t.Helper()
	apps, bad, err := DecodeApps(bytes.NewReader(body), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return tableOf(bad, len(apps), func(i int) ([]*signalbox.Service, []signalbox.Problem) { return Convert(apps[i], o) })
}

func tableOf(bad []BadApp, n int, convert func(i int) ([]*signalbox.Service, []signalbox.Problem)) *signalbox.Table {
	var services []*signalbox.Service
	var problems []signalbox.Problem
	for i := range n {
		s, p := convert(i)
		services, problems = append(services, s...), append(problems, p...)
	}
	for _, b := range bad {
		problems = append(problems, BadProblem(b))
	}
	return signalbox.NewTable(services, problems)
}

// tableText is the table's own text with what it does not show: checks, announced ports, reasons and problems.
func tableText(t *signalbox.Table) string {
	var b strings.Builder
	if _, err := t.WriteTo(&b); err != nil {
		return err.Error()
	}
	for _, s := range t.Services {
		fmt.Fprintf(&b, "more %s", s.ID)
		if s.PortName != "" {
			fmt.Fprintf(&b, " name %s", s.PortName)
		}
		if s.Announced != 0 {
			fmt.Fprintf(&b, " announced %d", s.Announced)
		}
		if s.Check != (signalbox.Check{}) {
			fmt.Fprintf(&b, " check %q %s every %s within %s fall %d", s.Check.Kind, s.Check.Path, s.Check.Interval, s.Check.Timeout, s.Check.Fall)
			if s.Check.TLS {
				b.WriteString(" tls")
			}
		}
		if d := s.Deployment; d != nil {
			fmt.Fprintf(&b, " deployment %s %s since %q %d instances", d.Group, d.Colour, d.StartedAt, d.Instances)
		}
		if !s.Since.IsZero() {
			fmt.Fprintf(&b, " since %s", s.Since.Format(time.RFC3339))
		}
		b.WriteString("\n")
		for _, e := range s.Endpoints {
			if e.CheckPort != 0 {
				fmt.Fprintf(&b, "probe %s %s at port %d\n", s.ID, e.Task, e.CheckPort)
			}
			if e.Why != "" {
				fmt.Fprintf(&b, "why %s %s: %s\n", s.ID, e.Task, e.Why)
			}
		}
	}
	for _, p := range t.AllProblems() {
		fmt.Fprintf(&b, "%s %s\n", p.Severity, p)
	}
	return b.String()
}
