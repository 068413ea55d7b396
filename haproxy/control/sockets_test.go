package control

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Sockets that somebody removes under a running HAProxy come back, without a restart of HAProxy and without a failed request.
func TestRemovedSocketsComeBack(t *testing.T) {
	for name, sockets := range map[string][]string{
		"runtime": {"stats.sock"}, "master": {"master.sock"}, "both": {"stats.sock", "master.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.supervise()
			s := r.settings()
			s.Supervisor, s.AuditInterval = r.sup, 200*time.Millisecond
			r.start(s)
			one, two := task(t, "one"), task(t, "two")
			r.apply(r.config(app{name: "shop", tasks: addrs{one}}))
			before := r.proc()
			failed := make(chan string, 1)
			stop := r.background(func(ctx context.Context) error {
				for ctx.Err() == nil {
					if code, body := r.get("shop.local"); code != 200 {
						select {
						case failed <- fmt.Sprint(code, " ", body):
						default:
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
				return nil
			})
			for _, socket := range sockets {
				if err := os.Remove(filepath.Join(r.dir, socket)); err != nil {
					t.Fatal(err)
				}
			}
			r.until("the sockets are back, and all is well", func() bool {
				for _, socket := range sockets {
					if _, err := os.Stat(filepath.Join(r.dir, socket)); err != nil {
						return false
					}
				}
				return r.app.Status().Level == "ok"
			})
			r.apply(r.config(app{name: "new", tasks: addrs{two}}, app{name: "shop", tasks: addrs{two}}))
			r.answers("new.local", "two")
			r.answers("shop.local", "two")
			stop()
			if after := r.proc(); after.Master != before.Master || after.Failed != 0 {
				t.Errorf("processes %+v became %+v", before, after)
			}
			select {
			case why := <-failed:
				t.Errorf("a request failed: %s", why)
			default:
			}
			if st := r.app.Status(); st.Level != "ok" {
				t.Errorf("status %+v", st)
			}
		})
	}
}
