package control

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"signalbox"
	"signalbox/haproxy"
)

// What a service had begun in a backend that it left ends as in a server that drains, and the backend rests after that. A task that
// the service took along to another backend goes on with it, until it drains there.
func TestWhatIsBegunInABackendThatWasLeftEnds(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	s := r.real()
	s.Drain = 300 * time.Millisecond
	r.start(s)
	unchecked := func(s *signalbox.Service) *signalbox.Service {
		s.Check = signalbox.Check{}
		return s
	}
	one := streaming(t, "one")
	shop := unchecked(service("shop", one))
	r.apply(r.want(shop))
	cart := unchecked(service("cart", streaming(t, "two")))
	r.apply(r.want(shop, cart))
	name, shopWas := r.backend("cart").Name, r.backend("shop").Name
	carts, _, _ := r.stream("cart.local", "")
	shops, _, _ := r.stream("shop.local", "")

	// One grows beyond its backend, and the other ends.
	more := unchecked(service("shop", one, task(t, "other")))
	for len(more.Endpoints) < 30 {
		more.Endpoints = append(more.Endpoints, signalbox.Endpoint{Task: "shop.down", Addr: one, State: signalbox.Down})
		more.Endpoints[len(more.Endpoints)-1].Task += string(rune('A' + len(more.Endpoints)))
	}
	if out := r.apply(r.want(more)); out.Reloaded {
		t.Fatalf("%+v", out)
	}
	if now := r.backend("shop").Name; now == shopWas {
		t.Fatalf("it did not move from %s", now)
	}
	cut := func(sessions, tasks float64) {
		t.Helper()
		r.until("it is counted", func() bool {
			return testutil.ToFloat64(r.app.met.cutSessions) == sessions && testutil.ToFloat64(r.app.met.drains.WithLabelValues("cut")) == tasks
		})
	}
	r.until("the stream of the app that ended is cut", func() bool { return !open(carts) })
	cut(1, 1)
	r.until("its backend is at rest", func() bool { return r.app.Rested()[name] == cart.ID })
	if !open(shops) {
		t.Error("the stream of an app that moved was cut")
	}
	drains := *more
	drains.Endpoints = slices.Clone(more.Endpoints)
	drains.Endpoints[0].State = signalbox.Draining
	r.apply(r.want(&drains))
	r.until("the stream of the task that drains is cut", func() bool { return !open(shops) })
	cut(2, 2)
}

// What was left is not forgotten by a controller that starts anew, nor kept by the worker that a reload replaced.
func TestWhatWasLeftBeforeAStartEnds(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	s := r.real()
	s.Drain = time.Hour
	_, stop := r.start(s)
	shop := service("shop", task(t, "one"))
	r.apply(r.want(shop))
	cart := service("cart", streaming(t, "two"))
	cart.Check = signalbox.Check{}
	r.apply(r.want(shop, cart))
	name := r.backend("cart").Name
	stream, _, _ := r.stream("cart.local", "")
	r.apply(r.want(shop))
	r.settled()
	r.until("the file says so", func() bool { return r.app.Status().FileBehind == 0 })
	stop()
	s.Drain = 100 * time.Millisecond
	r.app = New(s)
	prev, err := r.app.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.last = prev
	r.background(r.app.Run)
	r.apply(r.want(shop))
	r.until("the stream is cut", func() bool { return !open(stream) })
	r.until("its backend is at rest", func() bool { _, ok := r.app.Rested()[name]; return ok })
}

// A reload may come before what was left has ended: an older worker has it then.
func TestWhatWasLeftEndsInOldWorkers(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	s := r.real()
	s.Drain = 3 * time.Second
	r.start(s)
	shop := service("shop", task(t, "one"))
	r.apply(r.want(shop))
	cart := service("cart", streaming(t, "two"))
	cart.Check = signalbox.Check{}
	r.apply(r.want(shop, cart))
	stream, _, _ := r.stream("cart.local", "")
	r.apply(r.want(shop))
	opts := *r.opts
	opts.MaxConn++
	r.opts = &opts
	if out := r.apply(r.want(shop)); !out.Reloaded {
		t.Fatalf("%+v", out)
	}
	r.until("the stream is cut", func() bool { return !open(stream) })
	r.until("it is counted", func() bool { return testutil.ToFloat64(r.app.met.cutSessions) == 1 })
}
