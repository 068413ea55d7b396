package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCollapse(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "": "other", "-": "other", "*": "other", "/users": "/users", "/users/": "/users",
		"/users/42/orders": "/users/{id}/orders", "/v1/things": "/v1/things", "/a/b3a5f0c1": "/a/{id}", "/facade": "/facade",
		"/u/123e4567-e89b-12d3-a456-426614174000/x": "/u/{id}/x", "/t/eyJhbGciOiJIUzI1NiJ9": "/t/{id}",
		"/a-long-word-that-nobody-would-call-a-route": "/{id}", "/x#2Fy": "/{id}", "/1/2/3/4/5/6/7": "/{id}/{id}/{id}/{id}/{id}/{id}/*",
	} {
		if got := string(collapse(nil, []byte(path))); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	for _, one := range []struct {
		template, path string
		want           bool
	}{
		{"/users/{id}", "/users/42", true},
		{"/users/{id}", "/users/42/", true},
		{"/users/{id}", "/users", false},
		{"/users/{id}", "/users/", false},
		{"/users/{id}", "/users/42/orders", false},
		{"/users/{id}", "/users//", false},
		{"/static/*", "/static/js/app.js", true},
		{"/static/*", "/static", true},
		{"/static/*", "/statics", false},
		{"/", "/", true},
		{"/", "/x", false},
	} {
		if got := compileTemplates([]string{one.template})[0].matches([]byte(one.path)); got != one.want {
			t.Errorf("%s of %s: %v", one.template, one.path, got)
		}
	}
}

// requestLine is a request of /a:0 for a path.
func requestLine(seq int, path string, status int) string {
	return strings.Replace(line(1, "web", seq, "/a:0", "10.0.0.1:1", status, 2500), `"/"`, `"`+path+`"`, 1)
}

// Requests count by the templates of the label, and else by their path with ids collapsed; what fails makes no route, and no path makes
// more than the limit.
func TestRoutes(t *testing.T) {
	h := NewHistory(time.Hour)
	h.Set(epoch.Add(-time.Hour), "/a:0", []Placement{{Addr: "10.0.0.1:1", Task: "t1", State: "up"}})
	h.Describe("/a:0", About{Routes: []string{"/files/*"}})
	a := NewAggregator(AggregatorConfig{Directory: h, MaxRoutes: 3})
	feed(a, epoch, requestLine(0, "/files/1/2/3.png", 200), requestLine(1, "/users/7", 200), requestLine(2, "/users/8", 500),
		requestLine(3, "/wp-admin", 404), requestLine(4, "/users/9/x", 200))
	for i := range 100 {
		feed(a, epoch, requestLine(5+i, fmt.Sprintf("/p%c%c", 'a'+i/26, 'a'+i%26), 200))
	}
	s := a.Snapshot(epoch).Service("/a:0")
	got := map[string]uint64{}
	for _, r := range s.Routes {
		got[r.Name] = r.Duration.Count()
	}
	want := map[string]uint64{"/files/*": 1, "/users/{id}": 2, "other": 102}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := a.Snapshot(epoch).Overflow["route"]; n != 101 {
		t.Errorf("%d requests beyond the limit", n)
	}
}
