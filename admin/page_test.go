package admin

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"signalbox"
)

// Every page is one that a screen reader can find its way in: closed elements, headings in order, tables with headers, fields with
// labels, scrolling regions that the keyboard reaches.
func TestPagesAreAccessible(t *testing.T) {
	p, err := newPages(os.DirFS("../templates/web"))
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(*httptest.ResponseRecorder){
		"health":  func(w *httptest.ResponseRecorder) { p.health(w, 200, HealthOf(sample())) },
		"empty":   func(w *httptest.ResponseRecorder) { p.health(w, 200, HealthOf(signalbox.Status{})) },
		"routes":  func(w *httptest.ResponseRecorder) { p.routes(w, RoutesOf(sample())) },
		"nowhere": func(w *httptest.ResponseRecorder) { p.routes(w, RoutesOf(signalbox.Status{})) },
		"bare":    func(w *httptest.ResponseRecorder) { p.bare(w, 200, signalbox.OK) },
		"refusal": func(w *httptest.ResponseRecorder) { p.refusal(w, 401, "the token is wrong") },
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			write(w)
			if w.Code/100 == 5 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			inspect(t, w.Body.String())
		})
	}
}

func inspect(t *testing.T, page string) {
	t.Helper()
	var open []string
	labels, fields := map[string]bool{}, []string{}
	level, mains := 0, 0
	tokens := html.NewTokenizer(strings.NewReader(page))
	for kind := tokens.Next(); kind != html.ErrorToken; kind = tokens.Next() {
		token := tokens.Token()
		attributes := map[string]string{}
		for _, a := range token.Attr {
			attributes[a.Key] = a.Val
		}
		if kind == html.EndTagToken {
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> closes %v", token.Data, open)
			}
			open = open[:len(open)-1]
			continue
		}
		if kind != html.StartTagToken {
			continue
		}
		switch token.DataAtom {
		case atom.Meta, atom.Link, atom.Br, atom.Img:
			continue
		case atom.Input:
			fields = append(fields, attributes["id"])
			continue
		case atom.Label:
			labels[attributes["for"]] = true
		case atom.Main:
			mains++
		case atom.H1, atom.H2, atom.H3:
			n := int(token.Data[1] - '0')
			if n > level+1 {
				t.Errorf("<%s> follows a heading of level %d", token.Data, level)
			}
			level = n
		case atom.Th:
			if attributes["scope"] == "" {
				t.Error("a table header without a scope")
			}
		case atom.Html:
			if attributes["lang"] == "" {
				t.Error("the page has no language")
			}
		}
		if attributes["class"] == "scroll" && (attributes["tabindex"] != "0" || attributes["role"] != "region" || attributes["aria-label"] == "") {
			t.Error("a scrolling region that the keyboard doesn't reach, or without a name")
		}
		open = append(open, token.Data)
	}
	if len(open) > 0 || mains != 1 {
		t.Errorf("left open: %v; %d main parts", open, mains)
	}
	for _, id := range fields {
		if !labels[id] {
			t.Errorf("the field %q has no label", id)
		}
	}
}

func TestMetricNames(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(start(t, nil).Server)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
