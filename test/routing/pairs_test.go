package routing

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// dimension is one thing in which apps differ.
type dimension struct {
	name   string
	values []string
}

// dimensions are those of the coverage matrix. Their whole product would be a million apps; each two values that can meet do so.
var dimensions = []dimension{
	{"network", []string{"ports", "docker bridge", "discovery", "docker user", "host", "bridge", "container", "pod"}},
	{"check", []string{"http", "tcp", "command", "port", "index", "out of range"}},
	{"group", []string{"app's", "port's", "*", "other"}},
	{"enabled", []string{"unsaid", "yes", "no"}},
	{"paths", []string{"", "/a", "/a /b/c"}},
	{"choice", []string{"in turn", "sticky", "source"}},
	{"tasks", []string{"two", "draining", "blue/green"}},
	{"claimed", []string{"no", "host", "port"}},
	{"dialect", []string{"signalbox", "haproxy"}},
	{"hosts", []string{"1", "3"}},
	{"auth", []string{"no", "yes"}},
	{"redirect", []string{"no", "yes"}},
	{"hsts", []string{"no", "yes"}},
	{"strict", []string{"no", "yes"}},
}

// sample has a value of each dimension, by its name.
type sample map[string]string

// possible reports whether what is chosen so far goes together: pods have no instances that a deployment could count.
func (s sample) possible() bool { return s["network"] != "pod" || s["tasks"] != "blue/green" }

// meeting is a pair of values of two dimensions.
type meeting struct{ a, x, b, y string }

func (m meeting) within(s sample) bool { return s[m.a] == m.x && s[m.b] == m.y }

// samples returns apps among which every meeting takes place: each begins with the first that is still to come, and has of every other
// dimension the value with which most more do.
func samples() []sample {
	var open []meeting
	for i, a := range dimensions {
		for _, b := range dimensions[i+1:] {
			for _, x := range a.values {
				for _, y := range b.values {
					if (sample{a.name: x, b.name: y}).possible() {
						open = append(open, meeting{a.name, x, b.name, y})
					}
				}
			}
		}
	}
	var all []sample
	for len(open) > 0 {
		s := sample{open[0].a: open[0].x, open[0].b: open[0].y}
		for _, d := range dimensions {
			if s[d.name] != "" {
				continue
			}
			best := -1
			for i := range d.values {
				with := maps.Clone(s)
				with[d.name] = d.values[(i+len(all))%len(d.values)]
				n := 0
				for _, m := range open {
					if m.within(with) {
						n++
					}
				}
				if with.possible() && n > best {
					best, s = n, with
				}
			}
		}
		open = slices.DeleteFunc(open, func(m meeting) bool { return m.within(s) })
		all = append(all, s)
	}
	return all
}

// numberedSample is a sample with what is its own in its cell.
type numberedSample struct {
	sample
	n int
}

func (s numberedSample) name() string { return fmt.Sprintf("s%d", s.n) }
func (s numberedSample) port() int    { return 10000 + 10*s.n }

func (s numberedSample) hosts() []string {
	all := []string{s.name() + ".local", "www." + s.name() + ".local", s.name() + ".example"}
	if s.sample["hosts"] == "1" {
		return all[:1]
	}
	return all
}

// labels are those of the app, or of one colour of it.
func (s numberedSample) labels(colour string) map[string]string {
	all := map[string]string{}
	set := func(when bool, native, foreign, value string) {
		switch {
		case !when:
		case s.sample["dialect"] == "signalbox":
			all["signalbox."+native] = value
		default:
			all["HAPROXY_"+foreign] = value
		}
	}
	set(true, "host", "0_VHOST", strings.Join(s.hosts(), ","))
	set(s.sample["paths"] != "", "path", "0_PATH", s.sample["paths"])
	set(s.sample["auth"] == "yes", "auth", "0_AUTH", "staff:"+secretUser+":"+secretHash)
	set(s.sample["redirect"] == "yes", "https-redirect", "0_REDIRECT_TO_HTTPS", "true")
	set(s.sample["hsts"] == "yes", "hsts", "0_USE_HSTS", "true")
	set(s.sample["choice"] == "sticky", "sticky", "0_STICKY", "true")
	set(s.sample["choice"] == "source", "balance", "0_BALANCE", "source")
	set(s.sample["enabled"] != "unsaid", "enable", "0_ENABLED", map[string]string{"yes": "true", "no": "false"}[s.sample["enabled"]])
	set(true, "group", "GROUP", map[string]string{"app's": "external", "port's": "internal", "*": "*", "other": "internal"}[s.sample["group"]])
	set(s.sample["group"] == "port's", "0.group", "0_GROUP", "external")
	if colour != "" {
		all["HAPROXY_DEPLOYMENT_GROUP"], all["HAPROXY_DEPLOYMENT_COLOUR"] = "/"+s.name(), colour
		all["HAPROXY_DEPLOYMENT_TARGET_INSTANCES"] = "1"
		all["HAPROXY_DEPLOYMENT_STARTED_AT"] = map[string]string{"blue": "2016-02-01T14:13:42", "green": "2016-02-01T14:57:54"}[colour]
	}
	return all
}

// app returns an app of Marathon's with some tasks, whose states are given.
func (s numberedSample) app(id, colour string, states ...string) map[string]any {
	type object = map[string]any
	type list = []any
	port, at := s.port(), 0
	if colour == "green" {
		port, at = port+5000, 2
	}
	app := object{
		"id": id, "labels": s.labels(colour), "instances": len(states),
		"versionInfo": object{"lastConfigChangeAt": "2024-02-01T00:00:00.000Z"},
	}
	mappings := list{object{"containerPort": 8080, "servicePort": port}, object{"containerPort": 8081, "servicePort": port + 1}}
	switch s.sample["network"] {
	case "ports":
		app["ports"] = list{port, port + 1}
	case "docker bridge":
		app["container"] = object{"docker": object{"network": "BRIDGE", "portMappings": mappings}}
	case "discovery":
		app["ports"] = list{}
		app["ipAddress"] = object{"discovery": object{"ports": list{object{"number": 8080, "name": "web"}, object{"number": 8081, "name": "more"}}}}
	case "docker user":
		app["ipAddress"] = object{"networkName": "net"}
		app["container"] = object{"docker": object{"network": "USER", "portMappings": mappings}}
	case "host":
		app["networks"] = list{object{"mode": "host"}}
		app["portDefinitions"] = list{object{"port": port, "protocol": "tcp"}, object{"port": port + 1, "protocol": "tcp"}}
	case "bridge":
		app["networks"], app["container"] = list{object{"mode": "container/bridge"}}, object{"portMappings": mappings}
	case "container":
		app["networks"], app["container"] = list{object{"mode": "container", "name": "net"}}, object{"portMappings": mappings}
	}
	check := object{"protocol": "HTTP", "path": "/health", "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3}
	switch s.sample["check"] {
	case "tcp":
		check["protocol"] = "TCP"
	case "command":
		check["protocol"], check["command"] = "COMMAND", object{"value": "true"}
	case "port":
		check["port"] = 9990
	case "index":
		check["portIndex"] = 1
	case "out of range":
		check["portIndex"] = 7
	}
	app["healthChecks"] = list{check}
	tasks := list{}
	for i, state := range states {
		tasks = append(tasks, object{
			"id": fmt.Sprintf("%s%s.%d", s.name(), colour, i+1), "host": fmt.Sprintf("10.0.0.%d", i+1), "state": state,
			"ports": list{31000 + 10*s.n + at, 31001 + 10*s.n + at}, "healthCheckResults": list{object{"alive": true}},
			"ipAddresses": list{object{"ipAddress": fmt.Sprintf("10.1.%d.%d", s.n, i+1+at)}},
		})
	}
	app["tasks"] = tasks
	return app
}

// pod is app for a pod, whose container probes by HTTP or not at all.
func (s numberedSample) pod(states ...string) map[string]any {
	type object = map[string]any
	type list = []any
	container := object{"name": "web", "endpoints": list{object{"name": "web", "containerPort": 8080}, object{"name": "more", "containerPort": 8081}}}
	if s.sample["check"] == "http" {
		container["healthCheck"] = object{"http": object{"endpoint": "web", "path": "/health"}, "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3}
	}
	instances := list{}
	for i, state := range states {
		name := fmt.Sprintf("%s.%d", s.name(), i+1)
		instances = append(instances, object{
			"id": name, "status": "STABLE", "agentHostname": fmt.Sprintf("10.0.0.%d", i+1),
			"networks": list{object{"name": "net", "addresses": list{fmt.Sprintf("10.1.%d.%d", s.n, i+1)}}},
			"containers": list{object{
				"name": "web", "status": state, "containerId": name,
				"endpoints": list{object{"name": "web", "healthy": true}, object{"name": "more", "healthy": true}},
			}},
		})
	}
	return object{
		"id": "/" + s.name(), "instances": instances,
		"spec": object{
			"id": "/" + s.name(), "version": "2024-02-01T00:00:00.000Z", "labels": s.labels(""), "containers": list{container},
			"networks": list{object{"mode": "container", "name": "net"}},
		},
	}
}

// rival is an older app that claims the same.
func (s numberedSample) rival() map[string]any {
	labels := map[string]string{"signalbox.enable": "true", "signalbox.group": "external"}
	switch s.sample["claimed"] {
	case "host":
		labels["signalbox.host"] = strings.Join(s.hosts(), ",")
		if s.sample["paths"] != "" {
			labels["signalbox.path"] = s.sample["paths"]
		}
	case "port":
		labels["signalbox.port"], labels["signalbox.mode"] = fmt.Sprint(s.port()), "http"
	}
	return map[string]any{
		"id": "/old" + s.name(), "labels": labels, "ports": []int{0},
		"versionInfo": map[string]any{"lastConfigChangeAt": "2024-01-01T00:00:00.000Z"},
		"tasks": []any{map[string]any{
			"id": "old" + s.name() + ".1", "host": "10.0.0.1", "ports": []int{31009 + 10*s.n}, "state": "TASK_RUNNING",
		}},
	}
}

// definitions returns what Marathon has of it.
func (s numberedSample) definitions() (apps, pods []map[string]any) {
	if s.sample["claimed"] != "no" {
		apps = append(apps, s.rival())
	}
	states := []string{"TASK_RUNNING", "TASK_RUNNING"}
	if s.sample["tasks"] == "draining" {
		states[1] = "TASK_KILLING"
	}
	switch {
	case s.sample["network"] == "pod":
		pods = append(pods, s.pod(states...))
	case s.sample["tasks"] == "blue/green":
		apps = append(apps, s.app("/"+s.name()+"-blue", "blue", states[0]), s.app("/"+s.name()+"-green", "green", states[0]))
	default:
		apps = append(apps, s.app("/"+s.name(), "", states...))
	}
	return apps, pods
}

// served reports whether the load balancer, which is of the group external, has a service for the app.
func (s numberedSample) served() bool {
	on := s.sample["enabled"] == "yes" || s.sample["enabled"] == "unsaid" && s.sample["strict"] == "no"
	switch s.sample["group"] {
	case "other":
		return false
	case "*": // marathon-lb knows no such group
		return on && s.sample["dialect"] == "signalbox"
	}
	return on
}

// answering returns the tasks that answer.
func (s numberedSample) answering() string {
	switch s.sample["tasks"] {
	case "draining":
		return s.name() + ".1"
	case "blue/green":
		return s.name() + "green.1"
	}
	return s.name() + ".1," + s.name() + ".2"
}

// requests returns requests and what the documentation says must come of them.
func (s numberedSample) requests() []string {
	var all []string
	for i, host := range s.hosts() {
		for _, path := range []string{"/", "/a", "/a/x", "/ab", "/b/c"} {
			for _, scheme := range []string{"http", "https"} {
				all = append(all, s.request(scheme, host, path, "")...)
				if s.sample["auth"] == "yes" && i == 0 {
					all = append(all, s.request(scheme, host, path, secretUser+":secret")...)
				}
			}
		}
	}
	return append(all, s.byPort())
}

func (s numberedSample) request(scheme, host, path, user string) []string {
	line := fmt.Sprintf("GET %s://%s%s", scheme, host, path)
	if user != "" {
		line += " user=" + user
	}
	holds := s.sample["paths"] == "" || slices.ContainsFunc(strings.Fields(s.sample["paths"]), func(p string) bool {
		return path == p || strings.HasPrefix(path, p+"/")
	})
	hsts := ""
	if s.sample["hsts"] == "yes" && scheme == "https" {
		hsts = "max-age=15768000"
	}
	switch {
	case !holds:
		return []string{line + " -> 404"}
	case s.sample["claimed"] == "host":
		return []string{line + " -> 200 old" + s.name() + ".1 header.Strict-Transport-Security="}
	case !s.served():
		return []string{line + " -> 404"}
	case s.sample["redirect"] == "yes" && scheme == "http":
		return []string{line + " -> 301 header.Location=https://" + host + ":" + httpsPort + path}
	case s.sample["auth"] == "yes" && user == "":
		return []string{line + " -> 401 header.Strict-Transport-Security=" + hsts}
	case s.sample["choice"] == "source":
		return []string{line + " times=4 -> 200 one saw.path=" + path + " header.Strict-Transport-Security=" + hsts}
	case s.sample["choice"] == "sticky":
		return []string{line + " times=4 jar -> 200 one saw.path=" + path, line + " -> 200 header.Set-Cookie~= header.Strict-Transport-Security=" + hsts}
	}
	return []string{line + " times=4 -> 200 " + s.answering() + " saw.path=" + path + " header.Strict-Transport-Security=" + hsts}
}

// byPort is a request to the service port, which an app with labels of marathon-lb has, if its network has any.
func (s numberedSample) byPort() string {
	line := fmt.Sprintf("GET port:%d/any -> ", s.port())
	has := (s.sample["dialect"] == "haproxy" || s.sample["tasks"] == "blue/green") && !slices.Contains([]string{"discovery", "pod"}, s.sample["network"])
	switch {
	case s.sample["claimed"] == "port":
		return line + "200 old" + s.name() + ".1"
	case !has || !s.served():
		return line + "refused"
	case s.sample["auth"] == "yes":
		return line + "401 header.Location="
	}
	return line + "200 header.Location= saw.path=/any"
}

// samplesOfACell is how many apps stand side by side in one cell.
const samplesOfACell = 8

// Every two values of the matrix meet in an app of the cells pairs_N, which TestMatrix runs. -update writes them; a second time it writes
// their routes.
func TestPairsAreCells(t *testing.T) {
	bySetting := map[string][]sample{}
	for _, s := range samples() {
		bySetting[s["strict"]] = append(bySetting[s["strict"]], s)
	}
	var files []string
	for _, strict := range slices.Sorted(maps.Keys(bySetting)) {
		for some := range slices.Chunk(bySetting[strict], samplesOfACell) {
			file := filepath.Join("testdata", fmt.Sprintf("pairs_%d.txtar", len(files)+1))
			files = append(files, file)
			t.Run(filepath.Base(file), func(t *testing.T) { sameCell(t, file, cellOf(t, some, strict)) })
		}
	}
	there, err := filepath.Glob("testdata/pairs_*.txtar")
	if slices.Sort(files); err != nil || !slices.Equal(there, files) && !*update {
		t.Errorf("there are %v, want %v: %v", there, files, err)
	}
}

// cellOf writes some samples as a cell, without its routes.
func cellOf(t *testing.T, some []sample, strict string) *txtar.Archive {
	t.Helper()
	var apps, pods []map[string]any
	var requests strings.Builder
	for i, chosen := range some {
		s := numberedSample{chosen, i}
		a, p := s.definitions()
		apps, pods = append(apps, a...), append(pods, p...)
		fmt.Fprintf(&requests, "# %s:", s.name())
		for _, d := range dimensions {
			fmt.Fprintf(&requests, " %s=%q", d.name, chosen[d.name])
		}
		requests.WriteString("\n" + strings.Join(s.requests(), "\n") + "\n")
	}
	flags := "--group=external\n"
	if strict == "yes" {
		flags += "--strict\n"
	}
	return &txtar.Archive{
		Comment: []byte("Values of the matrix that meet, two by two; -update of TestPairsAreCells writes this.\n"),
		Files: []txtar.File{
			{Name: "apps.json", Data: []byte(`{"apps": [` + lines(t, apps) + "]}\n")},
			{Name: "pods.json", Data: []byte("[" + lines(t, pods) + "]\n")},
			{Name: "flags", Data: []byte(flags)},
			{Name: "routes"},
			{Name: "requests", Data: []byte(requests.String())},
		},
	}
}

// lines writes definitions, one a line.
func lines(t *testing.T, definitions []map[string]any) string {
	t.Helper()
	var out []string
	for _, d := range definitions {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, "\n  "+string(text))
	}
	return strings.Join(out, ",")
}

// sameCell holds a file against a cell; the routes are the file's.
func sameCell(t *testing.T, file string, want *txtar.Archive) {
	t.Helper()
	got, err := txtar.ParseFile(file)
	if err == nil {
		for _, f := range got.Files {
			if f.Name == "routes" {
				want.Files[3].Data = f.Data
			}
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(txtar.Format(want)), string(txtar.Format(got))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
