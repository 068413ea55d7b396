package control

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// damages are ways in which a file of a state comes to be of no use.
var damages = map[string]func(whole []byte) []byte{
	"missing":  func([]byte) []byte { return nil },
	"empty":    func([]byte) []byte { return []byte{} },
	"cut":      func(b []byte) []byte { return b[:len(b)/2] },
	"one line": func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] },
	"one bit":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	"longer":   func(b []byte) []byte { return append(b, '\n') },
	"zeros":    func(b []byte) []byte { return make([]byte, len(b)) },
	"foreign":  func([]byte) []byte { return []byte("{\"some\": \"body else's\"}\n") },
	"of another version": func(b []byte) []byte {
		return bytes.Replace(b, []byte("signalbox-running 2"), []byte("signalbox-running 1"), 1)
	},
}

func damage(t *testing.T, path string, how func([]byte) []byte) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A new file in its place: a link of it keeps what it has.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if b := how(bytes.Clone(whole)); b != nil {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever happens to the newest running state, the one before takes its place, is said to, and costs no reload.
func TestDamagedRunningStateFallsBack(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	one, two := task(t, "one"), task(t, "two")
	_, stop := r.start(s)
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	r.apply(r.config(app{name: "shop", tasks: addrs{one, two}}))
	stop()
	before := r.proc()
	last := uint64(0)
	for name, how := range damages {
		t.Run(name, func(t *testing.T) {
			damage(t, filepath.Join(r.dir, stateName), how)
			log, said := logtest.NewNullLogger()
			s := r.settings()
			s.Log = log
			a := New(s)
			prev, err := a.Recover(t.Context())
			if err != nil || prev == nil || backend(prev, "b_shop").Slots[1].Addr != two {
				t.Fatalf("recovered %+v, %v; want what runs", prev, err)
			}
			if !logged(said, logrus.ErrorLevel, "the one before") {
				t.Error("nobody says that an earlier state is used")
			}
			if a.gen <= last {
				t.Errorf("generation %d after %d", a.gen, last)
			}
			last = a.gen
			r.app = a
			stop := r.background(a.Run)
			if out := r.apply(prev); out.Reloaded {
				t.Errorf("outcome %+v, want no reload", out)
			}
			stop()
			if after := r.proc(); after.Workers[0] != before.Workers[0] {
				t.Errorf("processes %+v became %+v", before, after)
			}
		})
	}
}

// With no running state of use the reason is said for each generation, and one reload brings everything in order.
func TestRunningStateLostInBothGenerations(t *testing.T) {
	r := newRig(t)
	r.supervise()
	s := r.settings()
	s.Supervisor = r.sup
	one := task(t, "one")
	_, stop := r.start(s)
	r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
	stop()
	before := r.proc()
	for _, name := range []string{stateName, stateName + previous} {
		damage(t, filepath.Join(r.dir, name), damages["cut"])
	}
	a := New(r.settings())
	if _, err := a.Recover(t.Context()); err == nil || strings.Count(err.Error(), "cut or damaged") != 2 {
		t.Errorf("Recover: %v, want what is wrong with both", err)
	}
	r.app = a
	r.background(a.Run)
	if out := r.apply(r.config(app{name: "shop", tasks: addrs{one}})); !out.Reloaded || out.Reasons[0] != ReasonUnknown {
		t.Errorf("outcome %+v, want one reload for %q", out, ReasonUnknown)
	}
	if after := r.proc(); after.Master != before.Master || after.Reloads != before.Reloads+1 {
		t.Errorf("processes %+v became %+v, want one reload", before, after)
	}
	r.answers("shop.local", "one")
}

func logged(said *logtest.Hook, level logrus.Level, part string) bool {
	for _, e := range said.AllEntries() {
		if e.Level == level && strings.Contains(e.Message+fmt.Sprint(e.Data), part) {
			return true
		}
	}
	return false
}
