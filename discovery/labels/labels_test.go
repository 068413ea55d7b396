package labels

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"signalbox"
)

var update = flag.Bool("update", false, "rewrite the goldens")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A golden is an archive of "labels" (JSON), "ports" (a line each: index, name or -, service port, notes), and "want". It may
// have "options" (JSON) and "before": the labels that the app had earlier, whose services the case starts from.
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
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
			var o Options
			fromJSON(t, part["options"], &o)
			ports := readPorts(t, string(part["ports"]))
			var meta, before map[string]string
			fromJSON(t, part["labels"], &meta)
			fromJSON(t, part["before"], &before)

			r := Parse("/app", meta, ports, o)
			if before != nil {
				keepAll(r, Parse("/app", before, ports, o))
			}
			got := text(r)
			if *update {
				for i := range ar.Files {
					if ar.Files[i].Name == "want" {
						ar.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(part["want"]), got); diff != "" && !*update {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func keepAll(r, before Result) {
	for i := range r.Ports {
		r.Ports[i] = Keep(service(before.Ports[i]), r.Ports[i])
	}
}

// service is what a source makes of a result.
func service(p PortResult) *signalbox.Service {
	if !p.Enabled {
		return nil
	}
	return &signalbox.Service{
		ID: signalbox.NewServiceID(p.app, p.Index), App: p.app, Port: p.Index, PortName: p.Name,
		Mode: p.Mode, Routes: p.Routes, Listen: p.Listen, Groups: p.Groups, Check: p.Check(signalbox.Check{}), Policy: p.Policy, Problems: p.Problems,
	}
}

func text(r Result) string {
	var b strings.Builder
	for _, p := range r.Ports {
		fmt.Fprintf(&b, "port %d", p.Index)
		if p.Name != "" {
			fmt.Fprintf(&b, " %s", p.Name)
		}
		if !p.Enabled {
			b.WriteString(": disabled\n")
		} else {
			fmt.Fprintf(&b, ": %s", p.Mode)
			if p.Listen != 0 {
				fmt.Fprintf(&b, " listen %d", p.Listen)
			}
			if len(p.Groups) > 0 {
				fmt.Fprintf(&b, " groups %s", strings.Join(p.Groups, ","))
			}
			b.WriteString("\n")
			for _, r := range p.Routes {
				fmt.Fprintf(&b, "  route %s\n", r)
			}
			if c := p.Check(signalbox.Check{}); c != (signalbox.Check{}) {
				fmt.Fprintf(&b, "  check %q %s %s\n", c.Kind, c.Path, c.Interval)
			}
			if p.CheckPortOf != nil {
				fmt.Fprintf(&b, "  check port of %d\n", *p.CheckPortOf)
			}
			if d := p.Deployment; d != nil {
				fmt.Fprintf(&b, "  deployment %s colour=%q started=%q", d.Group, d.Colour, d.StartedAt)
				if d.Target != nil {
					fmt.Fprintf(&b, " target=%d", *d.Target)
				}
				if d.New != nil {
					fmt.Fprintf(&b, " new=%d", *d.New)
				}
				b.WriteString("\n")
			}
			if policy := p.Policy.String(); policy != "" {
				fmt.Fprintf(&b, "  policy %s\n", policy)
			}
		}
		for _, q := range p.Problems {
			fmt.Fprintf(&b, "  %s %s\n", q.Severity, q)
		}
	}
	for _, q := range r.Problems {
		fmt.Fprintf(&b, "%s %s\n", q.Severity, q)
	}
	return b.String()
}

func readPorts(t *testing.T, s string) []Port {
	t.Helper()
	var ports []Port
	for line := range strings.Lines(s) {
		var p Port
		var notes string
		if n, err := fmt.Sscan(line, &p.Index, &p.Name, &p.Service, &notes); n < 3 {
			t.Fatalf("port %q: %v", line, err)
		}
		p.Name = strings.Trim(p.Name, "-")
		switch notes {
		case "udp":
			p.Unroutable = "it is a UDP port"
		case "mesos":
			p.Check = "MESOS_HTTP"
		case "null":
			p.NoService = true
		case "checked":
			p.Check = "HTTP"
		}
		ports = append(ports, p)
	}
	return ports
}

func fromJSON(t *testing.T, b []byte, into any) {
	t.Helper()
	if len(b) == 0 {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestTableIsComplete(t *testing.T) {
	keys, twins := map[string]bool{}, map[string]bool{}
	for _, l := range Table() {
		if l.Key == "" || l.Type == "" || l.Default == "" || l.Doc == "" || l.Invalid == "" || l.Example == "" || l.set == nil || l.keep == nil {
			t.Errorf("the row of %q has gaps", l.Key)
		}
		if keys[l.Key] || twins[l.Twin] {
			t.Errorf("the row of %q is there twice", l.Key)
		}
		keys[l.Key], twins[l.Twin] = true, l.Twin != ""
	}
}

// Each code that the sources or goldens name is explained, and each that is explained is used.
func TestCodesAreExplained(t *testing.T) {
	explained, used := map[string]bool{}, map[string]bool{}
	for _, c := range Codes() {
		explained[c.Code] = c.Meaning != "" && c.Fix != ""
	}
	for _, pattern := range []string{"*.go", "testdata/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, code := range regexp.MustCompile(`\bSB\d{3}\b`).FindAllString(string(b), -1) {
				if !explained[code] {
					t.Errorf("%s: %s is not explained", file, code)
				}
				if file != "codes.go" {
					used[code] = true
				}
			}
		}
	}
	for code := range explained {
		if !used[code] {
			t.Errorf("%s is not used", code)
		}
	}
}

func TestCheckDialects(t *testing.T) {
	if err := CheckDialects(Dialects()); err != nil {
		t.Error(err)
	}
	if err := CheckDialects([]string{"signalbox", "traefik"}); err == nil || !strings.Contains(err.Error(), `"traefik"`) {
		t.Errorf("error %v", err)
	}
}
