package haproxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signalbox"
)

// Each line of the files belongs to one app, or to all; a split of two apps to both, so to all.
func TestSectionsDivideTheFilesByApp(t *testing.T) {
	weight := 50
	a, b, c := routed("/a", "a.local/x"), routed("/b", "mix.local/"), routed("/c", "mix.local/")
	b.Policy.Weight, c.Policy.Weight = &weight, &weight
	a.Listen = 10001
	o := testOptions(t.TempDir())
	files, err := Render(DefaultTemplate(), Build(signalbox.NewTable([]*signalbox.Service{a, b, c}, nil), o, nil))
	if err != nil {
		t.Fatal(err)
	}
	all := append([]File{{Name: "haproxy.cfg", Data: files.Config}}, files.Maps...)
	lines := map[string]int{}
	var got []string
	for _, s := range Sections(all) {
		for _, f := range s.Files {
			lines[f.Name] += strings.Count(string(f.Data), "\n")
			if s.App != "" {
				first, _, _ := strings.Cut(string(f.Data), "\n")
				got = append(got, fmt.Sprintf("%s %s %d lines, %s", s.App, f.Name, strings.Count(string(f.Data), "\n"), strings.Fields(first)[0]))
			}
		}
	}
	for _, f := range all {
		want := strings.Count(string(f.Data), "\n")
		if f.Name == "haproxy.cfg" {
			want-- // the sum
		}
		if lines[f.Name] != want {
			t.Errorf("the sections have %d lines of %s, want %d", lines[f.Name], f.Name, want)
		}
	}
	for _, words := range []string{"/a haproxy.cfg", "/a names.map 1 lines", "/a hosts.map 1 lines, a.local/x/", "/b names.map", "/c splits.map 50 lines"} {
		if !strings.Contains(strings.Join(got, "\n"), words) {
			t.Errorf("nothing begins with %q:\n%s", words, strings.Join(got, "\n"))
		}
	}
	if strings.Contains(strings.Join(got, "\n"), "/b hosts.map") {
		t.Errorf("a shared name belongs to one app:\n%s", strings.Join(got, "\n"))
	}
	if diff := cmp.Diff("/x y", appFrom("", appPrefix+comment("/x y").String())); diff != "" {
		t.Errorf("app (-want +got):\n%s", diff)
	}
}
