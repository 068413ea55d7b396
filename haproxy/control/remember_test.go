package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What one controller found rejected the next one does not check again, unless HAProxy's program is another one. A file that is damaged
// costs a check, no more.
func TestRejectionsSurviveTheController(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.supervise()
	one := task(t, "one")
	bad := r.config(app{name: "bad", tasks: addrs{one}, bad: "frobnicate yes"}, app{name: "shop", tasks: addrs{one}})
	binary := r.fake("")
	run := func(name string, checks float64) {
		t.Helper()
		s := r.settings()
		s.Supervisor, s.Checker = r.sup, &Checker{Binary: binary}
		_, stop := r.start(s)
		if out := r.apply(bad); len(out.Problems) != 1 || !strings.Contains(out.Problems[0].Message, "frobnicate") {
			t.Errorf("%s: problems %v", name, out.Problems)
		}
		if n := testutil.ToFloat64(r.app.met.checks.WithLabelValues("rejected")); n != checks {
			t.Errorf("%s: %v checks rejected, want %v", name, n, checks)
		}
		if n := testutil.ToFloat64(r.app.met.reloadFailures.WithLabelValues("rejected")); n != 1 {
			t.Errorf("%s: %v reloads rejected, want 1", name, n)
		}
		stop()
	}
	run("the first", 1)
	run("the second", 0)
	damage(t, filepath.Join(r.dir, rejectedName), damages["one bit"])
	run("with a damaged file", 1)
	run("after that", 0)
	if err := os.Remove(binary); err != nil {
		t.Fatal(err)
	}
	binary = r.fake("# another version")
	run("with another HAProxy", 1)
}
