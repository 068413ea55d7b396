package control

import (
	"os"
	"path/filepath"
	"testing"
)

// A HAProxy that somebody else started with files nobody knows is reloaded once, and from then on driven like any other.
func TestDrivesAHAProxyThatSomebodyElseStarted(t *testing.T) {
	r := newRig(t)
	one, two := task(t, "one"), task(t, "two")
	r.running(r.config(app{name: "old", tasks: addrs{one}}))
	master := r.proc().Master
	r.start(r.settings())
	if out := r.apply(r.config(app{name: "shop", tasks: addrs{one}})); !out.Reloaded || out.Reasons[0] != ReasonUnknown {
		t.Errorf("outcome %+v, want one reload for %q", out, ReasonUnknown)
	}
	r.answers("shop.local", "one")
	if out := r.apply(r.config(app{name: "shop", tasks: addrs{two}})); out.Reloaded {
		t.Errorf("outcome %+v, want commands only", out)
	}
	if p := r.proc(); p.Master != master || p.Reloads != 1 {
		t.Errorf("processes %+v", p)
	}
}

// The files come first, and HAProxy is started by somebody else whenever that is.
func TestHAProxyStartsAfterTheController(t *testing.T) {
	r := newRig(t)
	one, two := task(t, "one"), task(t, "two")
	r.start(r.settings())
	r.app.Update(r.config(app{name: "shop", tasks: addrs{one}}))
	r.until("the files are there", func() bool {
		_, err := os.Stat(filepath.Join(r.dir, configName))
		return err == nil
	})
	r.supervise().Allow()
	r.answers("shop.local", "one")
	r.apply(r.config(app{name: "shop", tasks: addrs{two}}))
	r.answers("shop.local", "two")
}
