package routing

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"golang.org/x/tools/txtar"

	"signalbox"
	"signalbox/discovery/labels"
	"signalbox/discovery/marathon"
	"signalbox/haproxy"
	"signalbox/metrics"
)

func TestMatrix(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cells: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runCell(t, file)
		})
	}
}

// known are the parts of a cell.
var known = []string{
	"apps.json", "pods.json", "versions.json", "static.yaml", "agents", "flags", "tasks", "routes", "requests", "then/apps.json", "then/routes", "then/requests",
}

func runCell(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	part := make(map[string]string)
	for _, f := range archive.Files {
		if !slices.Contains(known, f.Name) {
			t.Fatalf("%s: a cell has no part %q", file, f.Name)
		}
		part[f.Name] = string(f.Data)
	}
	requests := parseRequests(t, part["requests"])
	own := newAddresses()
	convert, options := settings(t, part["flags"], own)
	// judge compares a table with what the part says.
	judge := func(name string, table *signalbox.Table) {
		t.Helper()
		got := tableText(table, haproxy.Build(table, options, nil))
		if !*update {
			if diff := cmp.Diff(part[name], got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			return
		}
		for i := range archive.Files {
			if archive.Files[i].Name == name {
				archive.Files[i].Data = []byte(got)
			}
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(b *balancer, requests []request) {
		t.Helper()
		for i := range requests {
			if wrong := requests[i].run(b); wrong != "" {
				t.Errorf("%s\n\t%s", requests[i].line, wrong)
			}
		}
	}
	said := saying{apps: part["apps.json"], pods: part["pods.json"], versions: part["versions.json"], static: part["static.yaml"], agents: part["agents"]}
	table := ask(t, said, convert)
	judge("routes", table)
	b := balance(t, table, options, own, behaviours(t, part["tasks"]))
	run(b, requests)
	if part["then/apps.json"] != "" {
		said.apps = part["then/apps.json"]
		table = ask(t, said, convert)
		judge("then/routes", table)
		b.follow(t, table)
		run(b, parseRequests(t, part["then/requests"]))
	}
}

// settings reads the flags of a cell, as run would.
func settings(t *testing.T, text string, own *addresses) (marathon.Options, *haproxy.Options) {
	t.Helper()
	addr, dir := own.next().String(), shortDir(t)
	convert := marathon.Options{Labels: labels.Options{Dialects: labels.Dialects()}}
	options := &haproxy.Options{
		Dir: dir, HTTPBind: []string{addr + ":" + httpPort}, HTTPSBind: []string{addr + ":" + httpsPort}, ServiceBind: addr,
		StatsSocket: filepath.Join(dir, "stats.sock"), LogSocket: filepath.Join(dir, "log.sock"),
		LogPulled: !sendsRings, LogFormat: metrics.LogFormat, LogFormatTCP: metrics.LogFormatTCP, RingFormat: metrics.RingFormat,
		LogLine: metrics.MaxLine, RingBytes: metrics.RingBytes, MaxConn: 500, Threads: 1,
		UserLists:  map[string][]haproxy.User{"staff": {{Name: secretUser, Hash: secretHash}, {Name: "ann", Hash: secretHash}}},
		ErrorPages: map[string][]byte{"sorry": []byte("<h1>Sorry</h1>\n")},
	}
	certify(t, options)
	fs := pflag.NewFlagSet("cell", pflag.ContinueOnError)
	health := fs.String("health", "all", "")
	trusted := fs.StringSlice("trusted-proxies", nil, "")
	portRange := fs.String("service-port-range", "", "")
	fs.StringSliceVar(&options.AppIDBind, "app-id-bind", nil, "")
	fs.StringSliceVar(&options.HealthBind, "health-bind", nil, "")
	prefer := fs.String("prefer", "none", "")
	fs.StringSliceVar(&options.Node, "node", nil, "") // what run finds out about its machine
	fs.StringSliceVar(&convert.Labels.RawTemplates, "raw-templates", nil, "")
	proxies := fs.StringSlice("proxy-protocol-from", nil, "")
	fs.BoolVar(&convert.Labels.Strict, "strict", false, "")
	fs.BoolVar(&convert.PreferHostPort, "prefer-host-port", false, "")
	ports := fs.String("service-ports", "labelled", "")
	fs.StringSliceVar(&convert.Labels.Dialects, "labels", convert.Labels.Dialects, "")
	fs.StringSliceVar(&convert.Labels.Groups, "group", nil, "")
	if err := fs.Parse(strings.Fields(strings.ReplaceAll(text, "$ADDR", addr))); err != nil {
		t.Fatal(err)
	}
	convert.Health, convert.Labels.ServicePorts = marathon.Health(*health), labels.ServicePorts(*ports)
	if *portRange != "" {
		if _, err := fmt.Sscanf(*portRange, "%d-%d", &options.ServicePorts.First, &options.ServicePorts.Last); err != nil {
			t.Fatal(err)
		}
	}
	if *prefer == "local" {
		options.Prefer = haproxy.PreferLocal
	}
	for _, n := range *trusted {
		options.TrustedProxies = append(options.TrustedProxies, netip.MustParsePrefix(n))
	}
	for _, n := range *proxies {
		options.ProxyProtocolFrom = append(options.ProxyProtocolFrom, netip.MustParsePrefix(n))
	}
	if err := options.Validate(); err != nil {
		t.Fatal(err)
	}
	return convert, options
}

// tableText is the table's own text with what it does not show: checks, and the problems of labels, tasks and conflicts.
func tableText(table *signalbox.Table, c *haproxy.Config) string {
	var b strings.Builder
	if _, err := table.WriteTo(&b); err != nil {
		return err.Error()
	}
	for _, s := range table.Services {
		if k := s.Check; k != (signalbox.Check{}) {
			kind := k.Kind
			if kind == signalbox.CheckTCP {
				kind = "tcp"
			}
			fmt.Fprintf(&b, "check %s %s", s.ID, kind)
			if k.Path != "" {
				fmt.Fprintf(&b, " %s", k.Path)
			}
			if k.TLS {
				b.WriteString(" tls")
			}
			fmt.Fprintf(&b, " every %s within %s fall %d\n", k.Interval, k.Timeout, k.Fall)
		}
		for _, e := range s.Endpoints {
			if e.CheckPort != 0 {
				fmt.Fprintf(&b, "probed %s %s at port %d\n", s.ID, e.Task, e.CheckPort)
			}
		}
	}
	problems := slices.Concat(table.AllProblems(), c.Problems)
	slices.SortFunc(problems, signalbox.Problem.Compare)
	for _, p := range slices.Compact(problems) {
		fmt.Fprintf(&b, "%s %s\n", p.Severity, p)
	}
	return b.String()
}
