package control

import (
	"testing"

	"signalbox"
	"signalbox/haproxy"
)

// An app in a spare backend whose new definition HAProxy rejects keeps its last good there, with its tasks of now. Nobody else gets that
// backend meanwhile, nobody else is withheld, and the repaired definition comes in.
func TestARejectedAppKeepsItsSpare(t *testing.T) {
	r := &spares{rig: newRig(t)}
	r.opts.SpareSlots = haproxy.DefaultSpareSlots
	r.supervise()
	r.start(r.real())
	unchecked := func(s *signalbox.Service, raw ...string) *signalbox.Service {
		s.Check, s.Policy.Raw = signalbox.Check{}, raw
		return s
	}
	one, two, three := task(t, "one"), task(t, "two"), task(t, "three")
	shop := service("shop", one)
	r.apply(r.want(shop))
	r.apply(r.want(shop, unchecked(service("cart", two))))
	spare := r.backend("cart").Name
	if !r.backend("cart").Spare() {
		t.Fatalf("it has %s", spare)
	}
	withheld := func(what string, services ...*signalbox.Service) {
		t.Helper()
		out := r.apply(r.want(services...))
		if len(out.Problems) != 1 || out.Problems[0].App != "/cart" || out.Problems[0].Code != "SB401" {
			t.Errorf("%s: problems %v, want SB401 for /cart", what, out.Problems)
		}
	}
	withheld("a bad definition", shop, unchecked(service("cart", two), "frobnicate yes"))
	if code, body := r.get("cart.local"); code != 200 || body != "two" {
		t.Errorf("the last good answers %d %q", code, body)
	}
	withheld("its tasks of now", shop, unchecked(service("cart", three), "frobnicate yes"))
	r.answers("cart.local", "three")

	// Others come; none has its backend.
	for i := range 3 {
		late := unchecked(service("late", one))
		if i%2 == 1 {
			late = unchecked(service("later", two))
		}
		withheld("another app", shop, unchecked(service("cart", three), "frobnicate yes"), late)
		if name := r.backend(late.App[1:]).Name; name == spare {
			t.Errorf("%s has the backend of the app that is withheld", late.App)
		}
		r.answers("cart.local", "three")
		r.answers(late.App[1:]+".local", map[string]string{"/late": "one", "/later": "two"}[late.App])
	}

	if out := r.apply(r.want(shop, unchecked(service("cart", three), "http-request set-header X-Good 1"))); len(out.Problems) > 0 {
		t.Errorf("the repaired one: %v", out.Problems)
	}
	r.answers("cart.local", "three")
}
