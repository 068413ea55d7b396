package labels

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Each key has a golden: the labels "beside" it, values that are "good" and "bad" (JSON strings, a line each), and what is
// "want"ed of each. A bad value is read twice: by a new app, and by one for which the first good value was in force.
func TestEveryKeyHasGoldens(t *testing.T) {
	for _, l := range Table() {
		t.Run(l.Key, func(t *testing.T) {
			file := filepath.Join("testdata", "keys", l.Key+".txtar")
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Files) != 4 {
				t.Fatalf("%d parts", len(ar.Files))
			}
			var beside map[string]string
			fromJSON(t, ar.Files[0].Data, &beside)
			read := func(value string) Result {
				meta := map[string]string{"signalbox." + l.Key: value}
				for k, v := range beside {
					meta[k] = v
				}
				return Parse("/app", meta, []Port{{Service: 10001}}, Options{})
			}
			good, bad := valuesIn(t, ar.Files[1].Data), valuesIn(t, ar.Files[2].Data)
			if len(good) == 0 || len(bad) == 0 {
				t.Fatal("no good or no bad values")
			}

			var b strings.Builder
			for _, v := range good {
				r := read(v)
				fmt.Fprintf(&b, "good %q\n%s", v, indent(text(r)))
				if why := unsafe(r); why != "" {
					t.Errorf("%q: %s", v, why)
				}
			}
			before := read(good[0])
			for _, v := range bad {
				r := read(v)
				if len(r.Ports[0].Problems) == 0 {
					t.Errorf("%q is not bad", v)
				}
				fmt.Fprintf(&b, "bad %q\n%s", v, indent(text(r)))
				keepAll(r, before)
				fmt.Fprintf(&b, "bad %q after %q\n%s", v, good[0], indent(text(r)))
			}
			if *update {
				ar.Files[3].Data = []byte(b.String())
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(ar.Files[3].Data), b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// valuesIn reads JSON strings, a line each.
func valuesIn(t *testing.T, b []byte) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(string(b)) {
		var s string
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, s)
	}
	return all
}

func indent(s string) string {
	return "\t" + strings.TrimSuffix(strings.ReplaceAll(s, "\n", "\n\t"), "\t")
}
