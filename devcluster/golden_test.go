package devcluster

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
	"golang.org/x/tools/txtar"
)

var updateGoldens = flag.Bool("update", false, "write the golden files")

var volatile = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`127\.1\.0\.\d+`), "TASK-ADDRESS"},
	{regexp.MustCompile(`("(?:task)?[pP]orts": \[\n\s+)[345]\d{4}`), "${1}HOST-PORT"},
	{regexp.MustCompile(`("allocatedHostPort": )\d+`), "${1}HOST-PORT"},
}

func golden(t *testing.T, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	s := out.String()
	for _, v := range volatile {
		s = v.is.ReplaceAllString(s, v.as)
	}
	return s + "\n"
}

// TestShapes posts the apps of a case to both versions, and holds what they show against the case. The section "pods", if it is
// there, is a pod.
func TestShapes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			arc, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]string{}
			for _, f := range arc.Files {
				in[f.Name] = string(f.Data)
			}
			out := &txtar.Archive{Comment: arc.Comment}
			for _, name := range []string{"app", "pod"} {
				if in[name] == "" {
					continue
				}
				out.Files = append(out.Files, txtar.File{Name: name, Data: []byte(in[name])})
				for _, emulate := range []string{"1.11", "1.4"} {
					if name == "pod" && emulate == "1.4" {
						continue
					}
					s := start(t, Config{Virtual: true, Emulate: emulate})
					posted := must(t, 201, ask(t, "POST", s.URL()+"/v2/"+name+"s", in[name]))
					var id struct{ ID string }
					posted.into(t, &id)
					show := func(what, path string) {
						got := golden(t, must(t, 200, ask(t, "GET", s.URL()+path, "")).body)
						section := fmt.Sprintf("%s.%s", what, emulate)
						out.Files = append(out.Files, txtar.File{Name: section, Data: []byte(got)})
						if d := cmp.Diff(in[section], got); d != "" && !*updateGoldens {
							t.Errorf("%s (-want +got):\n%s", section, d)
						}
					}
					if name == "app" {
						settled(t, s, id.ID, 1)
						show("app", "/v2/apps?embed=apps.tasks")
						show("tasks", "/v2/tasks")
					} else {
						eventually(t, "the pod", func() bool {
							return strings.Contains(string(ask(t, "GET", s.URL()+"/v2/pods"+id.ID+"::status", "").body), `"status":"STABLE","statusSince"`)
						})
						show("pod", "/v2/pods"+id.ID)
					}
				}
			}
			if *updateGoldens {
				if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
