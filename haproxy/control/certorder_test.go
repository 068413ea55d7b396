package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox/haproxy"
)

// Which certificate answers for a name that several are made out to is what a fresh load of the files would say, in whatever order they
// came, went and were renewed: the first by its name. HAProxy puts what it is told of behind the others, and what is renewed too.
func TestANameWithSeveralCertificatesShowsTheFirst(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t)
	s := r.real()
	s.Certificates = r.certs
	app, _ := r.start(s)
	var c *haproxy.Config
	one, reloads := task(t, "one"), uint64(0)
	held, life := map[string][]byte{}, time.Hour
	happens := func(name string, comes bool) {
		t.Helper()
		life += time.Hour
		if comes {
			held[name] = pemFor(t, "shop.local", life)
			put(t, r.source, name, held[name])
		} else {
			delete(held, name)
			if err := os.Remove(filepath.Join(r.source, name+".pem")); err != nil {
				t.Fatal(err)
			}
		}
		r.read()
		c = haproxy.Build(table(service("shop", one)), r.listed(), c)
		r.apply(c)
	}
	for _, story := range []struct {
		what, name  string
		comes       bool
		shown       string
		needsReload bool
	}{
		{"one comes", "m", true, "m", true}, // the first configuration
		{"the last comes", "z", true, "m", false},
		{"the first comes", "a", true, "a", true},
		{"the first is renewed", "a", true, "a", true},
		{"one between is renewed", "m", true, "a", true},
		{"the last is renewed", "z", true, "a", false},
		{"the first goes", "a", false, "m", false},
		{"what is the first now is renewed", "m", true, "m", true},
		{"the last goes", "z", false, "m", false},
		{"the only one is renewed", "m", true, "m", false},
		{"a last one comes again", "z", true, "m", false},
		{"the first goes, and is not asked any more", "m", false, "z", false},
	} {
		happens(story.name, story.comes)
		path, want := filepath.Join(r.dir, haproxy.CertificateFile(story.name)), held[story.name]
		r.until(story.what+": HAProxy has it so", func() bool {
			rt := NewRuntime(r.opts.StatsSocket) // of whichever worker answers now
			defer rt.Close()
			if want == nil {
				answers, err := rt.Do(t.Context(), "show ssl cert")
				if err != nil {
					return false
				}
				files, _, err := ParseCertificateFiles(answers[0])
				return err == nil && !slices.Contains(files, path)
			}
			pair, err := haproxy.ParseKeyPair(story.name, want)
			if err != nil {
				t.Fatal(err)
			}
			answers, err := rt.Do(t.Context(), "show ssl cert "+path)
			return err == nil && strings.Contains(answers[0], pair.Fingerprint)
		})
		r.until(story.what+": "+story.shown+" is shown", func() bool { return r.serial("shop.local") == serialOf(t, held[story.shown]) })
		if story.needsReload {
			reloads++
		}
		r.until(fmt.Sprintf("%s: reload %d is done", story.what, reloads), func() bool { return app.Status().Reloads == reloads })
	}
}
