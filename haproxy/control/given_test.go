package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"signalbox"
	"signalbox/haproxy"
)

// What an operator gives is followed: a whole file is taken, half a one or none is not, and none of it is shown.
func TestGivenFilesAreFollowed(t *testing.T) {
	lists, pages := t.TempDir(), t.TempDir()
	put := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(lists, "staff", "ann:$6$saltsalt$abc\n")
	put(pages, "busy.html", "later")
	o := &haproxy.Options{}
	var err error
	if o.UserLists, err = haproxy.ReadUserLists(lists); err != nil {
		t.Fatal(err)
	}
	if o.ErrorPages, err = haproxy.ReadErrorPages(pages); err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	logger := logrus.New()
	logger.SetOutput(log)
	g := NewGiven(lists, pages, o, logger)
	type given struct {
		Users map[string][]haproxy.User
		Pages map[string][]byte
	}
	expect := func(when string, changed bool, want given, problems ...string) {
		t.Helper()
		select {
		case <-g.Changed():
			if !changed {
				t.Errorf("%s: a change is told", when)
			}
		default:
			if changed {
				t.Errorf("%s: no change is told", when)
			}
		}
		var now haproxy.Options
		g.Put(&now)
		if diff := cmp.Diff(want, given{now.UserLists, now.ErrorPages}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		var got []string
		for _, p := range g.Problems() {
			got = append(got, p.Message+" ("+p.Action+")")
		}
		if diff := cmp.Diff(problems, got); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", when, diff)
		}
	}
	ann, bob := haproxy.User{Name: "ann", Hash: "$6$saltsalt$abc"}, haproxy.User{Name: "bob", Hash: "$6$saltsalt$def"}
	start := given{map[string][]haproxy.User{"staff": {ann}}, map[string][]byte{"busy.html": []byte("later")}}
	g.Read()
	g.Read()
	expect("nothing has changed", false, start)

	put(lists, "staff", "ann:$6$saltsalt$abc\nbob:$6$saltsalt$de") // half of it, which could be the whole
	g.Read()
	expect("half a list", false, start)
	put(lists, "staff", "ann:$6$saltsalt$abc\nbob:$6$saltsalt$def\n")
	g.Read()
	expect("the whole of it, once", false, start)
	g.Read()
	both := given{map[string][]haproxy.User{"staff": {ann, bob}}, start.Pages}
	expect("the whole of it, twice", true, both)
	if diff := cmp.Diff(map[string][]haproxy.User{"staff": {ann}}, o.UserLists); diff != "" {
		t.Errorf("what options have has changed:\n%s", diff)
	}

	put(lists, "staff", "ann:$6$saltsalt$abc\nbob:geheim\n")
	put(lists, "guests", "eve:$apr1$a$b\n")
	if err := os.Remove(filepath.Join(pages, "busy.html")); err != nil {
		t.Fatal(err)
	}
	g.Read()
	g.Read()
	form := "is not of the form user:hash, with a hash as crypt(3) writes it ($5$…, $6$…, $2y$…, $y$…; not $apr1$)"
	expect("bad files, and none", false, both,
		"the error page can't be used: its file is gone (the last good content stays)",
		"the list of users can't be used: line 1 "+form+" (it counts as not given)",
		"the list of users can't be used: line 2 "+form+" (the last good content stays)",
	)

	put(lists, "staff", "bob:$6$saltsalt$def\n")
	put(lists, "guests", "")
	put(pages, "busy.html", "soon")
	g.Read()
	g.Read()
	expect("good ones again", true, given{map[string][]haproxy.User{"staff": {bob}, "guests": {}}, map[string][]byte{"busy.html": []byte("soon")}})

	if err := os.RemoveAll(pages); err != nil {
		t.Fatal(err)
	}
	g.Read()
	if p := g.Problems(); len(p) != 1 || p[0].Label != "error-pages" || !strings.Contains(p[0].Action, "stays") {
		t.Errorf("without the directory: %v", p)
	}
	for _, secret := range []string{"geheim", "saltsalt"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %s:\n%s", secret, log)
		}
	}
	if !strings.Contains(log.String(), "staff") {
		t.Errorf("the log says nothing of the change:\n%s", log)
	}
}

// A list that changes is what HAProxy compares with, after a reload that says why.
func TestGivenFilesReachHAProxy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.supervise()
	lists := filepath.Join(r.dir, "lists")
	put := func(text string) {
		t.Helper()
		if err := os.MkdirAll(lists, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lists, "staff"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("# nobody yet\n")
	s := r.real()
	var err error
	if r.opts.UserLists, err = haproxy.ReadUserLists(lists); err != nil {
		t.Fatal(err)
	}
	g := NewGiven(lists, "", r.opts, testLog(t))
	r.start(s)
	shop := service("shop", task(t, "shop"))
	shop.Policy.Auth = &signalbox.Auth{Realm: "r", List: "staff"}
	c := haproxy.Build(table(shop), r.opts, nil)
	r.apply(c)
	ask := func() int {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", r.port), nil)
		req.Host, req.Close = "shop.local", true
		req.SetBasicAuth("ann", "geheim")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	r.until("the list of nobody lets nobody in", func() bool { return ask() == http.StatusUnauthorized })

	put("ann:$5$rounds=1000$saltsalt$TWdBOWiYhmVJkQgbrDSNb2rxBkKSiutz24Rm5ti0vID\n") // cheap to verify
	g.Read()
	g.Read()
	<-g.Changed()
	fresh := *r.opts
	g.Put(&fresh)
	c = haproxy.Build(table(shop), &fresh, c)
	if out := r.apply(c); !out.Reloaded || !slices.Contains(out.Reasons, haproxy.OptionsChanged) {
		t.Errorf("outcome %+v", out)
	}
	r.until("the new list lets ann in", func() bool { return ask() == http.StatusOK })
}
