package control

import (
	"testing"

	"signalbox/haproxy"
)

// The address of a slot that nobody is in counts: the next task there is believed to have it already.
func TestTheAuditLooksAtFreeSlots(t *testing.T) {
	r := newRig(t)
	c := r.config(app{name: "shop", tasks: addrs{addr(1)}})
	free := &c.Backends[0].Slots[1]
	free.Addr, free.Admin = addr(2), haproxy.Maint // as whoever left it has left it
	act := actualOf(c)
	if _, diffs, err := readBack(c, c, act); err != nil || len(diffs) > 0 {
		t.Fatalf("untouched: %v, %v", diffs, err)
	}
	act.servers[1].Addr = addr(9)
	got, diffs, err := readBack(c, c, act)
	if err != nil || len(diffs) != 1 {
		t.Fatalf("another address in a free slot: %v, %v; want one difference", diffs, err)
	}
	if is := got.Backends[0].Slots[1].Addr; is != addr(9) {
		t.Errorf("it is taken for %s, want %s", is, addr(9))
	}
}
