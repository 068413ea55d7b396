package routing

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// combination is one cell of the product: what the labels of one app ask for.
type combination struct {
	dialect        string
	hosts, paths   int // 0, 1 or several
	auth           bool
	redirect, hsts bool
}

// The password that the hash stands for is "secret".
const (
	secretUser = "joe"
	secretHash = "$5$rounds=1000$saltsalt$eKLZU9t9OoPWrqOQsoTIKG0aYkZ5rGOoOQhiIvoSWX2"
)

// product returns every combination, each with a number of its own.
func product() []combination {
	var all []combination
	for _, dialect := range []string{"signalbox", "haproxy"} {
		for _, hosts := range []int{1, 3} {
			for _, paths := range []int{0, 1, 2} {
				for flags := range 8 {
					all = append(all, combination{dialect, hosts, paths, flags&1 != 0, flags&2 != 0, flags&4 != 0})
				}
			}
		}
	}
	return all
}

// names returns the hosts of the n-th app; the last of several is a wildcard in the native dialect.
func (c combination) names(n int) []string {
	if c.hosts == 1 {
		return []string{fmt.Sprintf("n%d.local", n)}
	}
	all := []string{fmt.Sprintf("n%d.local", n), fmt.Sprintf("www.n%d.local", n), fmt.Sprintf("n%d.example", n)}
	if c.dialect == "signalbox" {
		all[2] = fmt.Sprintf("*.n%d.example", n)
	}
	return all
}

func (c combination) prefixes() []string { return []string{"/a", "/b/c"}[:c.paths] }

// labels writes the combination as its dialect does.
func (c combination) labels(n int) map[string]string {
	auth := "staff:" + secretUser + ":" + secretHash
	all := map[string]string{}
	set := func(when bool, native, foreign, value string) {
		switch {
		case !when:
		case c.dialect == "signalbox":
			all["signalbox."+native] = value
		default:
			all["HAPROXY_0_"+foreign] = value
		}
	}
	separator := map[string]string{"signalbox": ", ", "haproxy": ","}[c.dialect]
	set(true, "host", "VHOST", strings.Join(c.names(n), separator))
	set(c.paths > 0, "path", "PATH", strings.Join(c.prefixes(), " "))
	set(c.auth, "auth", "AUTH", auth)
	set(c.redirect, "https-redirect", "REDIRECT_TO_HTTPS", "true")
	set(c.hsts, "hsts", "USE_HSTS", "true")
	if c.dialect == "haproxy" {
		all["HAPROXY_GROUP"] = "external"
	}
	return all
}

// outcome is what the documentation says must come of a request.
type outcome struct {
	status   int
	location string
	hsts     bool
}

// expect is the oracle: the documentation's words, with none of the program's code.
func (c combination) expect(n int, scheme, host, path, user string) outcome {
	holds := slices.ContainsFunc(c.names(n), func(name string) bool {
		below, wild := strings.CutPrefix(name, "*")
		first, _, _ := strings.Cut(host, ".")
		return name == host || wild && first+below == host
	})
	if c.paths > 0 {
		holds = holds && slices.ContainsFunc(c.prefixes(), func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
	}
	switch {
	case !holds:
		return outcome{status: 404}
	case c.redirect && scheme == "http":
		return outcome{status: 301, location: "https://" + host + ":" + httpsPort + path}
	case c.auth && user != secretUser+":secret":
		return outcome{status: 401}
	}
	return outcome{status: 200, hsts: c.hsts && scheme == "https"}
}

// Every combination of hosts, paths, credentials, redirects and HSTS in both dialects, side by side in one load balancer.
func TestProduct(t *testing.T) {
	t.Parallel()
	all := product()
	var apps []map[string]any
	for n, c := range all {
		apps = append(apps, map[string]any{
			"id": fmt.Sprintf("/product/app%d", n), "labels": c.labels(n),
			"portDefinitions": []any{map[string]any{"port": 10000 + n, "protocol": "tcp"}},
			"tasks": []any{map[string]any{
				"id": fmt.Sprintf("app%d", n), "host": "10.0.0.1", "ports": []int{31000 + n}, "state": "TASK_RUNNING",
			}},
		})
	}
	body, err := json.Marshal(map[string]any{"apps": apps})
	if err != nil {
		t.Fatal(err)
	}
	own := newAddresses()
	convert, options := settings(t, "", own)
	table := ask(t, saying{apps: string(body)}, convert)
	if problems := table.AllProblems(); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	b := balance(t, table, options, own, nil)
	b.kept = make(map[string]*kept)
	for n, c := range all {
		for _, scheme := range []string{"http", "https"} {
			for _, host := range []string{fmt.Sprintf("n%d.local", n), fmt.Sprintf("www.n%d.local", n), fmt.Sprintf("x.n%d.example", n), fmt.Sprintf("n%d.example", n)} {
				for _, path := range []string{"/", "/a", "/a/x", "/ab", "/b/c/d", "/b"} {
					for _, user := range []string{"", secretUser + ":secret", secretUser + ":wrong"} {
						if user != "" && (!c.auth || path != "/a") {
							continue // without credentials to ask for they say nothing new
						}
						c.try(t, b, n, scheme, host, path, user)
					}
				}
			}
			// A service port is reached without a name: nothing is redirected, and who must be known must be.
			if c.dialect == "haproxy" && scheme == "http" {
				status := map[bool]int{false: 200, true: 401}[c.auth]
				c.line(t, b, fmt.Sprintf("GET port:%d/any -> %d header.Location= header.Strict-Transport-Security=", 10000+n, status))
			}
		}
	}
}

// try sends one request and holds the answer against the oracle.
func (c combination) try(t *testing.T, b *balancer, n int, scheme, host, path, user string) {
	t.Helper()
	want := c.expect(n, scheme, host, path, user)
	line := fmt.Sprintf("GET %s://%s%s", scheme, host, path)
	if user != "" {
		line += " user=" + user
	}
	line += fmt.Sprintf(" -> %d header.Location=%s", want.status, want.location)
	switch {
	case want.status == 200 && want.hsts:
		line += fmt.Sprintf(" app%d saw.path=%s header.Strict-Transport-Security~max-age", n, path)
	case want.status == 200:
		line += fmt.Sprintf(" app%d saw.path=%s header.Strict-Transport-Security=", n, path)
	case scheme == "http":
		line += " header.Strict-Transport-Security="
	}
	c.line(t, b, line)
}

func (c combination) line(t *testing.T, b *balancer, line string) {
	t.Helper()
	r, err := parseRequest(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if wrong := r.run(b); wrong != "" {
		t.Errorf("%+v: %s\n\t%s", c, line, wrong)
	}
}
